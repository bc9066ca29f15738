//! The byte stream below a client's connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::upgrade::{Deflate, Packed, Snappy, TlsSocket};

/// A connected socket of either kind, or one of the layers on top of it.
///
/// Plain sockets stay what they are: only an upgraded connection pays for a pointer.
#[derive(Debug)]
pub(crate) enum Transport {
    /// TCP, with `TCP_NODELAY`.
    Tcp(TcpStream),
    /// A unix stream socket.
    Unix(UnixStream),
    /// TLS on a socket.
    Tls(Box<TlsStream<TlsSocket>>),
    /// Snappy on a socket or on TLS.
    Snappy(Box<Packed<Snappy>>),
    /// Deflate on a socket or on TLS.
    Deflate(Box<Packed<Deflate>>),
    /// Nothing, while an upgrade takes place.
    Gone,
}

impl Transport {
    /// Whether what was written may wait inside until it is flushed.
    pub(crate) const fn must_flush(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Snappy(_) | Self::Deflate(_))
    }

    /// The stream itself, for an upgrade; every use of what is left behind fails.
    pub(crate) const fn detach(&mut self) -> Self {
        std::mem::replace(self, Self::Gone)
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::Snappy(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::Deflate(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Self::Snappy(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Self::Deflate(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Snappy(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Deflate(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Snappy(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Deflate(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

//! A stream whose bytes are compressed both ways.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::node::transport::Transport;

/// Compressed bytes read from the socket at once.
const READ_BYTES: usize = 16 * 1024;

/// Plain bytes taken by one write: one snappy chunk.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Compressed bytes that wait for the socket before another write is taken.
const OUTGOING_BYTES_MAX: usize = 64 * 1024;

/// Whether the other side's stream goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stream {
    /// More may come.
    Open,
    /// The format's own end was read; what follows means nothing.
    Ended,
}

/// A compression format, without a socket.
pub(crate) trait Codec {
    /// Decodes from the front of `incoming` as much as fits `plain`, and drops what it used.
    /// Nothing in `plain` after [`Stream::Open`] means that more input is needed.
    ///
    /// # Errors
    ///
    /// The bytes are not of this format.
    fn decode(&mut self, incoming: &mut BytesMut, plain: &mut ReadBuf<'_>) -> io::Result<Stream>;

    /// Appends `plain` to `outgoing`; some of it may stay inside until [`flush`](Self::flush).
    fn encode(&mut self, plain: &[u8], outgoing: &mut Vec<u8>) -> io::Result<()>;

    /// Appends what the other side still needs to decode everything encoded so far.
    fn flush(&mut self, outgoing: &mut Vec<u8>) -> io::Result<()>;
}

/// A transport below a compression.
///
/// Memory is bounded: one read's worth of compressed input (plus one chunk of the format), and
/// `OUTGOING_BYTES_MAX` plus one encoded write of output. A short compressed text that unpacks to a
/// long one is unpacked only as far as the reader has room.
#[derive(Debug)]
pub(crate) struct Packed<C> {
    inner: Transport,
    codec: C,
    incoming: BytesMut,
    is_ended: bool,
    outgoing: Vec<u8>,
    /// Bytes at the front of `outgoing` that the socket has.
    sent: usize,
}

impl<C: Codec> Packed<C> {
    /// Wraps `inner`, from which `early` has been read already.
    pub(crate) fn new(inner: Transport, early: Bytes, codec: C) -> Self {
        let incoming = BytesMut::from(early);
        Self { inner, codec, incoming, is_ended: false, outgoing: Vec::new(), sent: 0 }
    }

    /// Hands everything encoded to the transport below.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            let rest = &self.outgoing[self.sent..];
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.outgoing.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<C: Codec + Unpin> AsyncRead for Packed<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        while !this.is_ended && buf.remaining() > 0 {
            let stream = this.codec.decode(&mut this.incoming, buf)?;
            this.is_ended |= stream == Stream::Ended;
            if buf.filled().len() > before || this.is_ended {
                break;
            }
            this.incoming.reserve(READ_BYTES);
            let read = pin!(this.inner.read_buf(&mut this.incoming)).poll(cx);
            this.is_ended |= ready!(read)? == 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: Codec + Unpin> AsyncWrite for Packed<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.outgoing.len() >= OUTGOING_BYTES_MAX {
            ready!(this.poll_drain(cx))?;
        }
        let taken = &buf[..buf.len().min(WRITE_BYTES_MAX)];
        this.codec.encode(taken, &mut this.outgoing)?;
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.codec.flush(&mut this.outgoing)?;
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// The error of bytes that are not of the negotiated format.
pub(super) fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

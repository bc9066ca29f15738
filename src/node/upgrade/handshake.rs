//! The TLS handshake of a connection that has begun without TLS.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::TlsFacts;
use crate::node::transport::Transport;

/// How long a whole handshake may take. Source: nsqd/client_v2.go `UpgradeTLS`.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// The socket below TLS.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    transport: Transport,
    /// Read together with the IDENTIFY, before TLS began: the front of the handshake.
    early: Bytes,
    /// Ends the handshake; nothing once that is done.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// A handshake that came to nothing.
pub(crate) struct Refused {
    /// The connection as it was, for a last word.
    pub(crate) transport: Transport,
    /// Why, as after `IDENTIFY failed`.
    pub(crate) reason: String,
}

/// Waits for the client's handshake; `early` is what was read of it already.
///
/// # Errors
///
/// [`Refused`] if the handshake fails or takes longer than five seconds.
pub(crate) async fn accept(
    transport: Transport,
    early: Bytes,
    config: Arc<ServerConfig>,
) -> Result<(Transport, TlsFacts), Refused> {
    let deadline = Some(Box::pin(tokio::time::sleep(HANDSHAKE_TIME_MAX)));
    let socket = TlsSocket { transport, early, deadline };
    match TlsAcceptor::from(config).accept(socket).into_fallible().await {
        Ok(mut stream) => {
            stream.get_mut().0.deadline = None;
            let facts = facts(&stream);
            Ok((Transport::Tls(Box::new(stream)), facts))
        }
        Err((error, socket)) => {
            let reason = match error.kind() {
                io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
                _ => format!("tls: {error}"),
            };
            Err(Refused { transport: socket.transport, reason })
        }
    }
}

fn facts(stream: &TlsStream<TlsSocket>) -> TlsFacts {
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLS1.2",
        Some(_) | None => "TLS1.3",
    };
    let name = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    // rustls alone writes TLS13_ where the registry of names has TLS_.
    let cipher_suite = name.unwrap_or_default().replacen("TLS13_", "TLS_", 1);
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let common_name = certificate.map_or_else(String::new, common_name);
    TlsFacts { version, cipher_suite, common_name }
}

/// The common name of a certificate's subject, of several the last, as in Go; empty if it has
/// none that can be read.
fn common_name(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
        return String::new();
    };
    let names = certificate.subject().iter_common_name();
    names.last().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
}

impl TlsSocket {
    /// What `progress` is, or the end of the handshake's time.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.deadline {
            Some(deadline) if progress.is_pending() => {
                deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            Some(_) | None => progress,
        }
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let count = this.early.len().min(buf.remaining());
            buf.put_slice(&this.early[..count]);
            this.early.advance(count);
            return Poll::Ready(Ok(()));
        }
        let progress = Pin::new(&mut this.transport).poll_read(cx, buf);
        this.in_time(cx, progress)
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.transport).poll_write(cx, buf);
        this.in_time(cx, progress)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

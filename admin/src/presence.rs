//! Noticing that a client has gone while it waits for an answer.
//!
//! hyper does not read while a request is being answered, because a client that closes its side
//! still gets its answer, as from Go. So the stream is looked at beside it, and only while a
//! handler asks whether the client is still there: all others answer soon.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::FromRequestParts;
use http::request::Parts;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::sniff::Rewound;

/// Whether the client of a request is still there. An extension of the requests of
/// [`serve_connection`](crate::serve_connection); where there is none, it never goes.
#[derive(Clone, Debug)]
pub(crate) struct Presence(Arc<watch::Sender<bool>>);

impl Default for Presence {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Presence {
    /// Resolves when the client has closed its side of the connection, or all of it.
    pub(crate) async fn gone(&self) {
        // An error would mean that the sender is gone, which this is a part of.
        let _ = self.0.subscribe().wait_for(|is_gone| *is_gone).await;
    }

    /// Whether anybody waits for [`gone`](Self::gone).
    pub(crate) fn is_asked_for(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// The client has gone.
    pub(crate) fn end(&self) {
        self.0.send_replace(true);
    }
}

impl<S: Sync> FromRequestParts<S> for Presence {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// A stream that hyper reads and writes, and that can be looked at meanwhile. One task does both,
/// so nobody ever waits for the lock.
#[derive(Debug)]
pub(crate) struct Watched<IO>(Arc<Mutex<Rewound<IO>>>);

impl<IO> Clone for Watched<IO> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<IO: AsyncRead + Unpin> Watched<IO> {
    pub(crate) fn new(io: Rewound<IO>) -> Self {
        Self(Arc::new(Mutex::new(io)))
    }

    /// Whether the other side has closed or reset; if not, the task is woken when it does.
    pub(crate) fn poll_closed(&self, context: &mut Context<'_>) -> bool {
        self.0.lock().poll_closed(context)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_read(context, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_shutdown(context)
    }
}

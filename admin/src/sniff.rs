//! Telling HTTP from other protocols by the first line, before hyper sees the connection.
//!
//! hyper answers what it cannot parse with an empty 400. NSQ's servers send a text, and go-nsq and
//! operators who mix up ports read it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How much of a connection's first line is looked at, in bytes; a longer line is left to hyper's
/// own limit on the head of a request.
const FIRST_LINE_BYTES_MAX: usize = 8 << 10;

/// How much is read ahead of hyper while a client waits for an answer, in bytes: some further
/// requests, which clients seldom send before they have the answer.
const AHEAD_BYTES_MAX: usize = 16 << 10;

/// What a connection turned out to be.
pub(crate) enum Sniffed<IO> {
    /// Looks like HTTP; reads as if nothing had been taken from it.
    Http(Rewound<IO>),
    /// Something else. The other side should be told.
    Other(IO),
    /// Nothing came.
    Closed,
}

/// Reads until the first line is complete or cannot be HTTP any more.
pub(crate) async fn sniff<IO: AsyncRead + AsyncWrite + Unpin>(
    mut io: IO,
) -> io::Result<Sniffed<IO>> {
    let mut seen = BytesMut::with_capacity(1 << 10);
    loop {
        if io.read_buf(&mut seen).await? == 0 {
            return Ok(if seen.is_empty() { Sniffed::Closed } else { Sniffed::Other(io) });
        }
        match verdict(&seen) {
            Some(true) => return Ok(Sniffed::Http(Rewound { seen, io })),
            Some(false) => return Ok(Sniffed::Other(io)),
            None => {}
        }
    }
}

/// Whether `start` is HTTP; `None` if it is too early to say.
fn verdict(start: &[u8]) -> Option<bool> {
    let method_bytes = start.iter().take_while(|byte| is_token(**byte)).count();
    if method_bytes == 0 || start.get(method_bytes).is_some_and(|byte| *byte != b' ') {
        return Some(false);
    }
    let Some(end) = start.iter().position(|byte| *byte == b'\n') else {
        return (start.len() >= FIRST_LINE_BYTES_MAX).then_some(true);
    };
    let line = start[..end].strip_suffix(b"\r").unwrap_or(&start[..end]);
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let target_is_there = words.nth(1).is_some_and(|target| !target.is_empty());
    let version = words.next().unwrap_or_default();
    Some(target_is_there && matches!(version, b"HTTP/1.1" | b"HTTP/1.0"))
}

/// Letters of an HTTP method (RFC 9110, `token`).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A stream whose first bytes were read already and are read again.
#[derive(Debug)]
pub(crate) struct Rewound<IO> {
    seen: BytesMut,
    io: IO,
}

impl<IO: AsyncRead + Unpin> Rewound<IO> {
    /// Whether the other side has closed or reset; if not, the task is woken when it does.
    ///
    /// What comes meanwhile is read later. Where too much of it has come, closing goes unnoticed.
    pub(crate) fn poll_closed(&mut self, context: &mut Context<'_>) -> bool {
        let mut bytes = [0; 1 << 10];
        while self.seen.len() < AHEAD_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.io).poll_read(context, &mut buffer) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.seen.extend_from_slice(buffer.filled());
                }
                Poll::Ready(Ok(()) | Err(_)) => return true,
            }
        }
        false
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Rewound<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let count = self.seen.len().min(buffer.remaining());
        buffer.put_slice(&self.seen[..count]);
        self.seen.advance(count);
        if self.seen.is_empty() {
            self.seen = BytesMut::new(); // the connection may live long; its first line need not
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Rewound<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn only_a_whole_request_line_of_http_1_is_http() {
        for good in ["GET / HTTP/1.1\r\n", "POST /pub?topic=t HTTP/1.0\nx", "x * HTTP/1.1\r\n"] {
            assert_eq!(verdict(good.as_bytes()), Some(true), "{good}");
        }
        for bad in
            ["  V2", "\r\n", "\0", "GET\r\n", "GET /\r\n", "GET  HTTP/1.1\r\n", "A B HTTP/2.0\r\n"]
        {
            assert_eq!(verdict(bad.as_bytes()), Some(false), "{bad:?}");
        }
        for early in ["G", "GET", "GET / HTTP/1.1", "GET / HTTP/1.1\r"] {
            assert_eq!(verdict(early.as_bytes()), None, "{early:?}");
        }
        let long = format!("GET /{}", "x".repeat(super::FIRST_LINE_BYTES_MAX));
        assert_eq!(verdict(long.as_bytes()), Some(true), "left to hyper's limit");
    }
}

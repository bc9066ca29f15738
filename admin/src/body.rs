//! Request bodies: read up to a limit, or thrown away so that the connection can go on.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

/// How much of a body nobody asked for is read to keep the connection, in bytes.
///
/// More than this and closing the connection is cheaper. Go's net/http uses the same figure
/// (`maxPostHandlerReadBytes`).
pub const UNREAD_BODY_BYTES_MAX: usize = 256 << 10;

/// A request body that was not read to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// Longer than the caller's limit; the rest was not read.
    #[error("body is longer than allowed")]
    TooLong,
    /// The connection ended or the chunked coding is broken.
    #[error("body ended early")]
    Broken,
}

/// The length the client announced, in bytes; `None` for a chunked body.
pub fn content_length(body: &Body) -> Option<u64> {
    hyper::body::Body::size_hint(body).exact()
}

/// Reads the whole body, which may be `bytes_max` long.
///
/// # Errors
///
/// [`BodyError`]; what was read is lost.
pub async fn read_body(body: &mut Body, bytes_max: usize) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else {
            continue; // trailers
        };
        if first.len().max(whole.len()) + data.len() > bytes_max {
            return Err(BodyError::TooLong);
        }
        if whole.is_empty() && first.is_empty() {
            first = data; // most bodies arrive in one piece, which then is not copied
            continue;
        }
        if whole.is_empty() {
            let announced = content_length(body).map_or(0, |left| left as usize);
            whole.reserve((first.len() + data.len() + announced).min(bytes_max));
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Throws away what is left of a body, up to [`UNREAD_BODY_BYTES_MAX`].
///
/// Returns whether the end was reached, that is, whether the connection can serve another request.
pub async fn discard(body: &mut Body) -> bool {
    if content_length(body).is_some_and(|left| left > UNREAD_BODY_BYTES_MAX as u64) {
        return false;
    }
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => seen += frame.data_ref().map_or(0, Bytes::len),
            Err(_) => return false,
        }
        if seen > UNREAD_BODY_BYTES_MAX {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    struct Parts(std::slice::Iter<'static, &'static str>);

    impl hyper::body::Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.next().map(|part| Ok(Frame::data((*part).into()))))
        }
    }

    fn pieces(parts: &'static [&'static str]) -> Body {
        Body::new(Parts(parts.iter()))
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together_and_the_limit_is_exact() {
        let read = |max| async move { read_body(&mut pieces(&["ab", "c", "", "de"]), max).await };
        assert_eq!(read(5).await, Ok(Bytes::from_static(b"abcde")));
        assert_eq!(read(4).await, Err(BodyError::TooLong));
        assert_eq!(read_body(&mut Body::empty(), 0).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn only_a_small_unwanted_body_keeps_the_connection() {
        assert!(discard(&mut pieces(&["a", "b"])).await);
        assert!(discard(&mut Body::from(vec![0; UNREAD_BODY_BYTES_MAX])).await);
        assert!(!discard(&mut Body::from(vec![0; UNREAD_BODY_BYTES_MAX + 1])).await);
    }
}

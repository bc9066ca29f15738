//! As much of an HTTP client as it takes to ask a node of our own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A larger answer is not read: 4 MiB.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// A node on this machine answers within milliseconds, or is not well.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// The JSON document that `address` answers for `path`.
///
/// # Errors
///
/// No connection, no answer in time, no JSON, or a status other than 200; 404 is
/// [`io::ErrorKind::NotFound`].
pub(super) async fn get_json(address: SocketAddr, path: &str) -> io::Result<Value> {
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, get(address, path)).await??;
    Ok(serde_json::from_slice(body(&answer)?)?)
}

async fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // Version 1.0: the answer ends with the connection and is not sent in chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The body of an answer with status 200.
fn body(answer: &[u8]) -> io::Result<&[u8]> {
    let blank_line = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(head_len) = blank_line else {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    };
    let (head, rest) = answer.split_at(head_len + 4);
    let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    match status {
        b"200" => Ok(rest),
        b"404" => Err(io::Error::from(io::ErrorKind::NotFound)),
        other => {
            let status = String::from_utf8_lossy(other);
            Err(io::Error::other(format!("HTTP status {status}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_follows_the_blank_line_of_a_good_answer() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}").ok(), Some(&b"{}"[..]));
        for bad in [&b""[..], b"HTTP/1.0 200 OK\r\n", b"HTTP/1.0 404 Not Found\r\n\r\n{}"] {
            assert!(body(bad).is_err());
        }
    }
}

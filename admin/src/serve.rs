//! HTTP/1 on one byte stream.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tracing::debug;

use crate::presence::{Presence, Watched};
use crate::routes::{Api, Remote};
use crate::sniff::{Sniffed, sniff};

/// Connections one listener serves at once; further ones wait to be accepted.
///
/// An idle connection costs 16 KB (measured) and a file handle; this is far above what tools open
/// and keeps the whole below 128 MB.
pub const CONNECTIONS_MAX: usize = 8_192;

/// Longest head of a request, in bytes; beyond it 431. Go's `http.DefaultMaxHeaderBytes`.
///
/// hyper also answers 431 to more than 100 header lines; Go counts bytes only.
pub const HEADER_BYTES_MAX: usize = 1 << 20;

/// How long a connection lingers after we closed our side, so that the last answer is read before
/// the kernel resets the connection. Go's `rstAvoidanceDelay`.
const LINGER: Duration = Duration::from_millis(500);

/// What Go sends to something that does not speak HTTP, byte for byte.
const NOT_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\r\n400 Bad Request";

/// Serves `api` on `io` until the other side closes it, or the request under way when `stop`
/// resolves is answered.
///
/// There is no read timeout, as in NSQ: clients keep connections open for days.
///
/// # Errors
///
/// The stream failed, or what came was not HTTP; the other side has been told if that was possible.
pub async fn serve_connection<IO>(
    io: IO,
    remote: Remote,
    api: &Api,
    stop: impl Future<Output = ()>,
) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut stop = pin!(stop);
    let sniffed = tokio::select! {
        biased; // a request that has come is still answered
        sniffed = sniff(io) => sniffed?,
        () = stop.as_mut() => return Ok(()),
    };
    let io = match sniffed {
        Sniffed::Http(io) => io,
        Sniffed::Other(mut io) => {
            io.write_all(NOT_HTTP).await?;
            return linger(io).await;
        }
        Sniffed::Closed => return Ok(()),
    };

    let (io, presence) = (Watched::new(io), Presence::default());
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let (remote, mut request) = (&remote, request.map(Body::new));
        request.extensions_mut().insert(presence.clone());
        Box::pin(async move { Ok::<_, Infallible>(api.answer(remote, request).await) })
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true) // a client that closes its side still gets its answer, as from Go
        .title_case_headers(true) // as on Go's wire
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(io.clone()), service);
    let mut stopping = false;
    let ended = std::future::poll_fn(|context| {
        let mut progress = connection.poll_without_shutdown(context);
        if progress.is_pending() && presence.is_asked_for() && io.poll_closed(context) {
            presence.end();
            progress = connection.poll_without_shutdown(context); // the answer is made now
        }
        if progress.is_pending() && !stopping && stop.as_mut().poll(context).is_ready() {
            stopping = true;
            // after the first poll: hyper would drop a request it has not begun to read
            Pin::new(&mut connection).graceful_shutdown();
            return connection.poll_without_shutdown(context);
        }
        progress
    });
    if let Err(error) = ended.await {
        debug!(remote = %remote.0, %error, "http connection failed");
    }
    drop(connection);
    let mut io = io;
    if stopping {
        let _ = io.shutdown().await; // a node that stops does not wait for idle clients
        return Ok(());
    }
    linger(io).await
}

/// Closes our side, then reads and drops what still comes for a moment.
async fn linger(mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    if io.shutdown().await.is_err() {
        return Ok(()); // the other side is gone already
    }
    let mut rest = [0; 4 << 10];
    let drained = timeout(LINGER, async {
        while matches!(io.read(&mut rest).await, Ok(count) if count > 0) {}
    });
    let _ = drained.await; // at the deadline the kernel may reset; that is the point of a deadline
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http::StatusCode;
    use tokio::io::duplex;

    use super::*;
    use crate::answer::{ApiError, plain, text};
    use crate::body::{BodyError, read_body};
    use crate::routes::Routes;

    const BODY_BYTES_MAX: usize = 100;

    fn api() -> Api {
        Routes::default()
            .get("/wait", async |client: Presence| {
                client.gone().await;
                plain(StatusCode::OK, "waited")
            })
            .get("/ping", async || plain(StatusCode::OK, "OK"))
            .publish("/pub", async |mut body: Body| {
                match read_body(&mut body, BODY_BYTES_MAX).await {
                    Ok(body) => text(body),
                    Err(BodyError::TooLong) => ApiError::too_large("MSG_TOO_BIG").into_response(),
                    Err(BodyError::Broken) => ApiError::INTERNAL_ERROR.into_response(),
                }
            })
            .with_state(())
    }

    /// Everything the server says to `bytes` until it closes; the client's side stays open if not
    /// `closing`, so the server must be the one to end it.
    async fn exchange(bytes: &[u8], closing: bool) -> String {
        let (mut client, server) = duplex(4 << 20);
        let api = api();
        let served = serve_connection(server, Remote("test".into()), &api, std::future::pending());
        let talk = async {
            client.write_all(bytes).await.unwrap();
            if closing {
                client.shutdown().await.unwrap();
            }
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        let (result, answer) =
            timeout(Duration::from_secs(5), async { tokio::join!(served, talk) }).await.unwrap();
        result.unwrap();
        answer
    }

    #[tokio::test]
    async fn something_that_is_not_http_is_told_so_and_closed() {
        let v2 = exchange(b"  V2IDENTIFY\n\0\0\0\x02{}", false).await;
        assert_eq!(v2.as_bytes(), NOT_HTTP);
        for garbage in ["\r\n\r\n", "GET\r\n", "GET / HTTP/2.0\r\n\r\n", "\u{16}\u{3}\u{1}tls"] {
            assert_eq!(exchange(garbage.as_bytes(), false).await.as_bytes(), NOT_HTTP, "{garbage}");
        }
        assert_eq!(exchange(b"", true).await, "");
        assert_eq!(exchange(b"GE", true).await.as_bytes(), NOT_HTTP);
    }

    #[tokio::test]
    async fn pipelined_requests_are_answered_in_order_on_one_connection() {
        let answer = exchange(
            b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n\
              POST /nothing HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
              POST /pub HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
              2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n\
              GET /ping HTTP/1.1\r\nConnection: close\r\n\r\n",
            false,
        )
        .await;
        let statuses: Vec<_> =
            answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
        assert_eq!(statuses, ["200", "404", "200", "200"], "{answer}");
        assert!(answer.contains("\r\n\r\nhi!HTTP/1.1"), "{answer}");
        assert!(answer.contains("X-Nsq-Content-Type: nsq; version=1.0"), "{answer}");
    }

    #[tokio::test]
    async fn http_1_0_closes_after_its_answer() {
        let answer = exchange(b"GET /ping HTTP/1.0\r\n\r\n", false).await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nOK"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_expects_100_continue_gets_it_if_the_body_is_wanted() {
        let head = "HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\nExpect: 100-continue\r\n";
        let wanted = exchange(format!("POST /pub {head}\r\nhi").as_bytes(), false).await;
        assert!(wanted.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{wanted}");
        let unwanted = exchange(format!("POST /nothing {head}\r\n").as_bytes(), false).await;
        assert!(unwanted.starts_with("HTTP/1.1 404 Not Found"), "{unwanted}");
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_answered_before_the_connection_closes() {
        let body = "x".repeat(BODY_BYTES_MAX + 1);
        let request = format!("POST /pub HTTP/1.1\r\nContent-Length: 101\r\n\r\n{body}");
        let answer = exchange(request.as_bytes(), true).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        let huge = "POST /nothing HTTP/1.1\r\nContent-Length: 999999999\r\n\r\nx";
        let answer = exchange(huge.as_bytes(), false).await;
        assert!(answer.contains("Connection: close"), "{answer}");
    }

    #[tokio::test]
    async fn a_head_beyond_the_limit_is_431() {
        let header = format!("X: {}\r\n", "y".repeat(HEADER_BYTES_MAX));
        let request = format!("GET /ping HTTP/1.1\r\n{header}\r\n");
        let answer = exchange(request.as_bytes(), false).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let request = format!("GET /ping HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101));
        assert!(exchange(request.as_bytes(), false).await.starts_with("HTTP/1.1 431 "));
        let header = format!("X: {}\r\n", "y".repeat(HEADER_BYTES_MAX / 2));
        let request = format!("GET /ping HTTP/1.1\r\nConnection: close\r\n{header}\r\n");
        assert!(exchange(request.as_bytes(), false).await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn who_waits_is_answered_when_the_client_closes_its_side_whatever_it_has_sent_before() {
        let answer = exchange(b"GET /wait HTTP/1.1\r\n\r\n", true).await;
        assert!(answer.ends_with("\r\n\r\nwaited"), "{answer}");
        let both = b"GET /wait HTTP/1.1\r\n\r\nPOST /pub HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi";
        let answer = exchange(both, true).await;
        assert!(answer.contains("waitedHTTP/1.0 200") && answer.ends_with("hi"), "{answer}");
    }

    #[tokio::test]
    async fn what_comes_while_a_client_waits_is_answered_after_it() {
        let (mut client, server) = duplex(1 << 10);
        let api = api();
        let served = serve_connection(server, Remote("test".into()), &api, std::future::pending());
        let talk = async {
            client.write_all(b"GET /wait HTTP/1.1\r\n\r\n").await.unwrap();
            for piece in [&b"GET /pi"[..], b"ng HTTP/1.1\r\n\r\n"] {
                tokio::task::yield_now().await;
                client.write_all(piece).await.unwrap();
            }
            tokio::task::yield_now().await;
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (result, answer) =
            timeout(Duration::from_secs(5), async { tokio::join!(served, talk) }).await.unwrap();
        result.unwrap();
        assert!(answer.contains("waitedHTTP/1.1 200") && answer.ends_with("OK"), "{answer}");
    }

    #[tokio::test]
    async fn who_waits_for_a_client_that_is_gone_altogether_does_not_wait_on() {
        let (mut client, server) = duplex(1 << 10);
        let api = api();
        let served = serve_connection(server, Remote("test".into()), &api, std::future::pending());
        let talk = async {
            client.write_all(b"GET /wait HTTP/1.1\r\n\r\n").await.unwrap();
            tokio::task::yield_now().await;
            drop(client);
        };
        let both = timeout(Duration::from_secs(5), async { tokio::join!(served, talk) });
        both.await.expect("it ends").0.unwrap();
    }

    #[tokio::test]
    async fn stopping_ends_idle_connections_and_lets_the_current_answer_out() {
        let (mut client, server) = duplex(1 << 10);
        let api = api();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let served = serve_connection(server, Remote("test".into()), &api, stopped);
        let talk = async {
            client.write_all(b"POST /pub HTTP/1.1\r\nContent-Length: 2\r\n\r\nh").await.unwrap();
            tokio::task::yield_now().await;
            drop(stop);
            tokio::task::yield_now().await;
            client.write_all(b"i").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (result, answer) = tokio::join!(served, talk);
        result.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hi"), "{answer}");
    }

    #[tokio::test]
    async fn stopping_does_not_wait_for_an_idle_client() {
        let (mut client, server) = duplex(1 << 10);
        let api = api();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let served = serve_connection(server, Remote("test".into()), &api, stopped);
        let talk = async {
            client.write_all(b"GET /ping HTTP/1.1\r\n\r\n").await.unwrap();
            assert!(client.read(&mut [0; 1 << 10]).await.unwrap() > 0);
            drop(stop);
            client
        };
        let both = timeout(LINGER / 2, async { tokio::join!(served, talk) });
        both.await.expect("without lingering").0.unwrap();
    }
}

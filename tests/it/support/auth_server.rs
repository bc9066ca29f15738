//! An auth server as nsqd's operators write them, for one test.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long a request may take to come; then its connection is given up.
const REQUEST_MAX: Duration = Duration::from_secs(20);

/// One thing asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) path: String,
    pub(crate) body: String,
}

/// A server that answers as its test wants, and remembers what it was asked.
pub(crate) struct AuthServer {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl AuthServer {
    /// `answer` makes status and body of a request.
    pub(crate) fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::listen(None, answer)
    }

    /// The same over TLS.
    pub(crate) fn start_tls(
        config: Arc<ServerConfig>,
        answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(config), answer)
    }

    fn listen(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, all) = (Arc::new(answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, all, tls) = (Arc::clone(&answer), Arc::clone(&all), tls.clone());
                std::thread::spawn(move || {
                    let answer = |request: &Asked| {
                        all.lock().expect("nobody panicked").push(request.clone());
                        answer(request)
                    };
                    stream.set_read_timeout(Some(REQUEST_MAX)).expect("read timeout");
                    // A caller that gives up, or does not trust us, is none of our business.
                    let _ = match tls {
                        Some(config) => serve_tls(config, stream, answer),
                        None => serve(stream, answer),
                    };
                });
            }
        });
        Self { port, asked }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// All that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panicked").clone()
    }

    /// Path and query of all that was asked so far.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }

    /// An answer that permits everything for `ttl` seconds.
    pub(crate) fn everything(ttl: u64) -> String {
        Self::topics(".*", ttl)
    }

    /// An answer that permits everything on the topics of a pattern for `ttl` seconds.
    pub(crate) fn topics(pattern: &str, ttl: u64) -> String {
        format!(
            r#"{{"ttl":{ttl},"identity":"joe","authorizations":[{{"topic":"{pattern}",
            "channels":[".*"],"permissions":["publish","subscribe"]}}]}}"#
        )
    }
}

fn serve_tls(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    answer: impl FnOnce(&Asked) -> (u16, String),
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    serve(StreamOwned::new(connection, stream), answer)
}

fn serve<S: Read + Write>(
    mut stream: S,
    answer: impl FnOnce(&Asked) -> (u16, String),
) -> std::io::Result<()> {
    let mut asked = Asked::default();
    let mut reader = BufReader::new(&mut stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    asked.path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut body_len = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", len)) => body_len = len.parse().unwrap_or_default(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; body_len];
    reader.read_exact(&mut body)?;
    asked.body = String::from_utf8_lossy(&body).into_owned();
    let (status, body) = answer(&asked);
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes())?;
    stream.flush()
}

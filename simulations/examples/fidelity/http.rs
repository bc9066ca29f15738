//! Just enough HTTP to ask a node something over and over.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a node may take to answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Client {
    to: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, stream: None }
    }

    /// Status and body of the answer; on an error the next request connects anew.
    pub(crate) fn ask(&mut self, method: &str, path: &str) -> io::Result<(u16, String)> {
        let answer = self.try_ask(method, path);
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    fn try_ask(&mut self, method: &str, path: &str) -> io::Result<(u16, String)> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect_timeout(&self.to, ANSWER_MAX)?;
                stream.set_read_timeout(Some(ANSWER_MAX))?;
                stream.set_nodelay(true)?;
                none.insert(BufReader::new(stream))
            }
        };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: n\r\nContent-Length: 0\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes())?;
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "not an answer");
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(bad)?;
        let mut length = 0;
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(|_| bad())?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

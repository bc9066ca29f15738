//! A client of protocol V2 that sends and reads literal bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long an expected frame may take on a busy machine.
const FRAME_MAX: Duration = Duration::from_secs(10);

/// What arrived on a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Frame {
    /// Frame type 0.
    Response(Vec<u8>),
    /// Frame type 1, as text.
    Error(String),
    /// Frame type 2.
    Message { timestamp: i64, attempts: u16, id: String, body: Vec<u8> },
    /// The server closed (or reset) the connection.
    Closed,
    /// Nothing came in time.
    Silence,
}

/// The body of a message frame; panics on anything else.
#[track_caller]
pub(crate) fn message_body_of(frame: &Frame) -> String {
    match frame {
        Frame::Message { body, .. } => String::from_utf8_lossy(body).into_owned(),
        other => panic!("wanted a message, got {other:?}"),
    }
}

/// Count, then each message with its length: the content of MPUB and of `/mpub?binary=true`.
pub(crate) fn mpub_body<T: AsRef<[u8]>>(messages: &[T]) -> Vec<u8> {
    let mut body = (messages.len() as u32).to_be_bytes().to_vec();
    for message in messages {
        let message = message.as_ref();
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
    }
    body
}

/// A TCP connection to a node.
pub(crate) struct RawClient {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl RawClient {
    /// Connects and sends nothing.
    #[track_caller]
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_nodelay(true).expect("no delay");
        stream.set_write_timeout(Some(FRAME_MAX)).expect("write timeout");
        Self { stream, buffer: Vec::new() }
    }

    /// Connects and sends the magic.
    #[track_caller]
    pub(crate) fn v2(address: &str) -> Self {
        let mut client = Self::connect(address);
        client.send(b"  V2");
        client
    }

    /// Sends these bytes in one write.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server takes the bytes");
    }

    /// Sends these bytes unless the connection is gone.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends one command line and, if there is one, its body with its length.
    #[track_caller]
    pub(crate) fn command(&mut self, line: &str, body: Option<&[u8]>) {
        let mut bytes = format!("{line}\n").into_bytes();
        if let Some(body) = body {
            bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
            bytes.extend_from_slice(body);
        }
        self.send(&bytes);
    }

    /// Publishes and waits for the `OK`.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, body: &[u8]) {
        self.command(&format!("PUB {topic}"), Some(body));
        self.expect_ok();
    }

    /// The next frame within `bound`, heartbeats included.
    #[track_caller]
    pub(crate) fn frame_within(&mut self, bound: Duration) -> Frame {
        let end = Instant::now() + bound;
        loop {
            if let Some(frame) = self.take_frame() {
                return frame;
            }
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("read timeout");
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Frame::Closed,
                Ok(len) => self.buffer.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Frame::Silence;
                }
                Err(_) => return Frame::Closed,
            }
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let size = u32::from_be_bytes(self.buffer.get(..4)?.try_into().ok()?) as usize;
        let frame = self.buffer.get(4..4 + size)?.to_vec();
        self.buffer.drain(..4 + size);
        let (kind, data) = frame.split_at(4);
        Some(match kind {
            [0, 0, 0, 0] => Frame::Response(data.to_vec()),
            [0, 0, 0, 1] => Frame::Error(String::from_utf8_lossy(data).into_owned()),
            [0, 0, 0, 2] => {
                assert!(data.len() > 26, "a message frame has a header and a body: {data:?}");
                Frame::Message {
                    timestamp: i64::from_be_bytes(data[..8].try_into().expect("eight bytes")),
                    attempts: u16::from_be_bytes(data[8..10].try_into().expect("two bytes")),
                    id: String::from_utf8_lossy(&data[10..26]).into_owned(),
                    body: data[26..].to_vec(),
                }
            }
            other => panic!("unknown frame type {other:?}"),
        })
    }

    /// The next frame that is not a heartbeat; heartbeats are answered.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Frame {
        self.frame_or_silence(FRAME_MAX)
    }

    /// As [`frame`](Self::frame), but with a bound of one's own for "nothing comes".
    #[track_caller]
    pub(crate) fn frame_or_silence(&mut self, bound: Duration) -> Frame {
        let end = Instant::now() + bound;
        loop {
            let frame = self.frame_within(end.saturating_duration_since(Instant::now()));
            if frame != Frame::Response(b"_heartbeat_".to_vec()) {
                return frame;
            }
            self.send(b"NOP\n");
        }
    }

    /// Exactly `count` bytes from the wire.
    #[track_caller]
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.stream.set_read_timeout(Some(FRAME_MAX)).expect("read timeout");
        while self.buffer.len() < count {
            let mut chunk = [0; 4_096];
            let len = self.stream.read(&mut chunk).expect("the server answers");
            assert!(len > 0, "closed after {:?}", self.buffer);
            self.buffer.extend_from_slice(&chunk[..len]);
        }
        self.buffer.drain(..count).collect()
    }

    /// The next frame is the response `OK`.
    #[track_caller]
    pub(crate) fn expect_ok(&mut self) {
        assert_eq!(self.frame(), Frame::Response(b"OK".to_vec()));
    }

    /// The next frame is this error.
    #[track_caller]
    pub(crate) fn expect_error(&mut self, text: &str) {
        assert_eq!(self.frame(), Frame::Error(text.to_owned()));
    }

    /// The next frame is this error, and then the server hangs up.
    #[track_caller]
    pub(crate) fn expect_fatal(&mut self, text: &str) {
        self.expect_error(text);
        assert_eq!(self.frame(), Frame::Closed, "after {text}");
    }

    /// The id, attempts and body of the next frame, which is a message.
    #[track_caller]
    pub(crate) fn message(&mut self) -> (String, u16, String) {
        match self.frame() {
            Frame::Message { attempts, id, body, .. } => {
                (id, attempts, String::from_utf8_lossy(&body).into_owned())
            }
            other => panic!("wanted a message, got {other:?}"),
        }
    }

    /// Takes a message and finishes it; returns its body.
    #[track_caller]
    pub(crate) fn take(&mut self) -> String {
        let (id, _, body) = self.message();
        self.command(&format!("FIN {id}"), None);
        body
    }
}

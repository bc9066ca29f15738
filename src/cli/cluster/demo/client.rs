//! As much of an NSQ client as the demo needs.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use grapevine_protocol::frame::{self, Frame, MAGIC_V2, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Frames of the demo are much smaller: 1 MiB.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// A node on this machine answers within milliseconds, or is not well.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// A connection that speaks protocol V2. Heartbeats are answered while it waits.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    input: BytesMut,
}

impl Client {
    /// Connects and says which protocol follows.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let connecting = TcpStream::connect(address);
        let mut stream = tokio::time::timeout(ANSWER_TIME_MAX, connecting).await??;
        stream.set_nodelay(true)?;
        stream.write_all(MAGIC_V2).await?;
        Ok(Self { stream, input: BytesMut::new() })
    }

    /// Publishes one message, a number in decimal, and waits for `OK`.
    ///
    /// # Errors
    ///
    /// Not acknowledged; the message may have been taken all the same.
    pub(super) async fn publish(&mut self, topic: &str, message: u64) -> io::Result<()> {
        let mut command = BytesMut::from(format!("PUB {topic}\n").as_bytes());
        put_sized(&mut command, message.to_string().as_bytes());
        self.stream.write_all(&command).await?;
        self.expect_ok().await
    }

    /// Publishes several messages at once, all or none, and waits for `OK`.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub(super) async fn publish_batch(&mut self, topic: &str, messages: &[u64]) -> io::Result<()> {
        let mut body = BytesMut::new();
        body.put_u32(u32::try_from(messages.len()).map_err(io::Error::other)?);
        for message in messages {
            put_sized(&mut body, message.to_string().as_bytes());
        }
        let mut command = BytesMut::from(format!("MPUB {topic}\n").as_bytes());
        put_sized(&mut command, &body);
        self.stream.write_all(&command).await?;
        self.expect_ok().await
    }

    /// Becomes a consumer of `channel`.
    ///
    /// # Errors
    ///
    /// The node refuses, or is gone.
    pub(super) async fn subscribe(&mut self, topic: &str, channel: &str) -> io::Result<()> {
        self.stream.write_all(format!("SUB {topic} {channel}\n").as_bytes()).await?;
        self.expect_ok().await
    }

    /// Asks for messages, at most this many at a time.
    ///
    /// # Errors
    ///
    /// The node is gone.
    pub(super) async fn ready(&mut self, count: u32) -> io::Result<()> {
        self.stream.write_all(format!("RDY {count}\n").as_bytes()).await
    }

    /// Says that a message is done.
    ///
    /// # Errors
    ///
    /// The node is gone.
    pub(super) async fn finish(&mut self, message: &Message) -> io::Result<()> {
        let mut command = BytesMut::from(&b"FIN "[..]);
        command.put_slice(message.id.as_bytes());
        command.put_u8(b'\n');
        self.stream.write_all(&command).await
    }

    /// The next message. May be dropped while it waits; nothing is lost.
    ///
    /// # Errors
    ///
    /// The node is gone, or reports an error.
    pub(super) async fn message(&mut self) -> io::Result<Message> {
        loop {
            match self.frame().await? {
                Frame::Message(message) => return Ok(message),
                Frame::Response(data) if data == frame::HEARTBEAT => {
                    self.stream.write_all(b"NOP\n").await?;
                }
                Frame::Response(_) => {}
                Frame::Error(data) => {
                    return Err(io::Error::other(String::from_utf8_lossy(&data).into_owned()));
                }
            }
        }
    }

    async fn expect_ok(&mut self) -> io::Result<()> {
        loop {
            match tokio::time::timeout(ANSWER_TIME_MAX, self.frame()).await?? {
                Frame::Response(data) if data == frame::HEARTBEAT => {
                    self.stream.write_all(b"NOP\n").await?;
                }
                Frame::Response(data) if data == frame::OK => return Ok(()),
                Frame::Response(data) | Frame::Error(data) => {
                    return Err(io::Error::other(String::from_utf8_lossy(&data).into_owned()));
                }
                Frame::Message(_) => return Err(io::Error::other("a message where OK belongs")),
            }
        }
    }

    async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            let frame = frame::decode_frame(&mut self.input, FRAME_BYTES_MAX);
            if let Some(frame) = frame.map_err(io::Error::other)? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
    }
}

/// Appends the size of `data` and `data`.
fn put_sized(out: &mut BytesMut, data: &[u8]) {
    out.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
    out.put_slice(data);
}

//! One nsqlookupd: a connection that says who this node is and what it has, over and over.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use grapevine_protocol::frame::FrameError;
use grapevine_protocol::{LookupIdentity, MAGIC_V1, PeerInfo, decode_lookup_response, go_json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::Lookupds;

/// For a connection, for each write, and for each read of an answer.
///
/// Source: `lookupPeer`, nsqd/lookup_peer.go (nsq 3103474b): one second for each.
const IO_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two signs of life.
///
/// Source: `lookupLoop`, nsqd/lookup.go (nsq 3103474b).
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// The pause before the first new attempt; it doubles with each.
const RETRY_MIN: Duration = Duration::from_millis(250);

/// The longest pause between attempts. nsqd comes back with its next command or PING, up to 15 s.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Commands sent before their answers are read: some 35 KiB at most, and few enough that neither
/// side's buffers fill up while the other waits.
const COMMANDS_MAX: usize = 256;

/// Bytes of an unexpected answer that are shown to the operator.
const SHOWN_BYTES_MAX: usize = 100;

/// Why a connection ended, or did not come about.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("no {0} within {IO_TIMEOUT:?}")]
    Timeout(&'static str),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("not an answer of nsqlookupd: {0}")]
    Answer(#[from] FrameError),
    #[error("it answered IDENTIFY with \"{0}\"")]
    Identify(String),
    #[error("it answered {command:?} with \"{answer}\"")]
    Refused { command: String, answer: String },
    #[error("it sent something unasked")]
    Unasked,
    #[error("too many changes at once for it; everything is said anew")]
    Behind,
}

/// The nsqlookupd at one address.
pub(super) struct Peer {
    /// As configured: `host:port`, looked up with each attempt.
    pub(super) address: String,
    /// What this node says of itself.
    pub(super) me: Arc<PeerInfo>,
    /// Longest answer that is read; `-max-body-size`, as in nsqd.
    pub(super) answer_bytes_max: usize,
    /// What to register, and who wants to know where its HTTP is.
    pub(super) lookupds: Arc<Lookupds>,
}

impl Peer {
    /// Registers, follows every change and comes back whenever the connection ends. Never returns;
    /// dropping it closes the connection.
    pub(super) async fn run(self) {
        let mut pause = RETRY_MIN;
        let mut told = String::new();
        loop {
            let begun = Instant::now();
            let Err(error) = self.attend().await;
            if begun.elapsed() > PING_INTERVAL {
                // It was well for a while: this is news, and no reason to be careful.
                (pause, told) = (RETRY_MIN, String::new());
            }
            let reason = error.to_string();
            let address = &self.address;
            if reason == told {
                debug!(address, reason, "nsqlookupd is still out of reach");
            } else {
                warn!(address, reason, "not registered with nsqlookupd; it is tried again");
                told = reason;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn attend(&self) -> Result<std::convert::Infallible, PeerError> {
        // Before the list is read, so that no later change goes unnoticed.
        let mut changed = self.lookupds.changes();
        let registered = self.register().await;
        if registered.is_err() {
            // Not asked for channels any more either: that would hold up every new topic.
            self.lookupds.lost(&self.address);
        }
        let (mut connection, position) = registered?;
        self.follow(&mut connection, position, &mut changed).await
    }

    /// Connects, introduces this node and registers everything it has.
    async fn register(&self) -> Result<(Connection, u64), PeerError> {
        let mut connection = Connection::open(&self.address, self.answer_bytes_max).await?;
        let identity = connection.identify(&self.me).await?;
        self.lookupds.found(&self.address, &identity);
        let (list, position) = self.lookupds.all();
        for part in list.chunks(COMMANDS_MAX) {
            connection.command_all(part).await?;
        }
        let (address, version) = (&self.address, &identity.version);
        info!(address, version, registrations = list.len(), "registered with nsqlookupd");
        Ok((connection, position))
    }

    async fn follow(
        &self,
        connection: &mut Connection,
        mut position: u64,
        changed: &mut watch::Receiver<()>,
    ) -> Result<std::convert::Infallible, PeerError> {
        let mut ping = tokio::time::interval(PING_INTERVAL);
        ping.reset();
        loop {
            let changes = self.lookupds.since(position, COMMANDS_MAX).ok_or(PeerError::Behind)?;
            if !changes.is_empty() {
                connection.command_all(&changes).await?;
                position += changes.len() as u64;
                continue;
            }
            tokio::select! {
                // An error would mean that the node is gone, and this task with it.
                _ = changed.changed() => {}
                _ = ping.tick() => connection.command_all(&["PING"]).await?,
                error = connection.idle() => return Err(error),
            }
        }
    }
}

/// Magic and IDENTIFY are sent; answers come one for each command, in order.
struct Connection {
    stream: TcpStream,
    input: BytesMut,
    answer_bytes_max: usize,
}

impl Connection {
    async fn open(address: &str, answer_bytes_max: usize) -> Result<Self, PeerError> {
        let connected = timeout(IO_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| PeerError::Timeout("connection"))??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: BytesMut::new(), answer_bytes_max })
    }

    async fn identify(&mut self, me: &PeerInfo) -> Result<LookupIdentity, PeerError> {
        let body = go_json(me);
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.write(&[&MAGIC_V1[..], b"IDENTIFY\n", &size, &body].concat()).await?;
        let answer = self.answer().await?;
        serde_json::from_slice(&answer).map_err(|_| PeerError::Identify(shown(&answer)))
    }

    /// Sends at most [`COMMANDS_MAX`] lines and waits until each is answered with `OK`.
    async fn command_all<T: ToString>(&mut self, commands: &[T]) -> Result<(), PeerError> {
        debug_assert!(commands.len() <= COMMANDS_MAX, "both buffers have room");
        let lines: String = commands.iter().map(|command| command.to_string() + "\n").collect();
        self.write(lines.as_bytes()).await?;
        for command in commands {
            let answer = self.answer().await?;
            if answer[..] != *b"OK" {
                let (command, answer) = (command.to_string(), shown(&answer));
                return Err(PeerError::Refused { command, answer });
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), PeerError> {
        let written = timeout(IO_TIMEOUT, self.stream.write_all(bytes)).await;
        Ok(written.map_err(|_| PeerError::Timeout("room to write"))??)
    }

    async fn answer(&mut self) -> Result<Bytes, PeerError> {
        loop {
            if let Some(answer) = decode_lookup_response(&mut self.input, self.answer_bytes_max)? {
                return Ok(answer);
            }
            let read = timeout(IO_TIMEOUT, self.stream.read_buf(&mut self.input)).await;
            if read.map_err(|_| PeerError::Timeout("answer"))?? == 0 {
                return Err(PeerError::Closed);
            }
        }
    }

    /// Returns when the other side ends the connection. Nothing is due from it.
    async fn idle(&mut self) -> PeerError {
        if !self.input.is_empty() {
            return PeerError::Unasked;
        }
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => PeerError::Closed,
            Ok(_) => PeerError::Unasked,
            Err(error) => error.into(),
        }
    }
}

/// The start of an answer, so that any bytes can be in a log line.
fn shown(answer: &[u8]) -> String {
    answer[..answer.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string()
}

//! One TCP stream: frames with a length before them, and a deadline over all.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::cluster::ConnId;
use crate::framing::Splitter;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How long a stream may last in all; a slow or silent peer holds a slot no longer.
const STREAM_MAX: Duration = Duration::from_secs(10);

/// How long what the peer still sends is read after this side is done, so that closing does not
/// destroy the last frames on their way to it.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// What a stream tells the agent.
#[derive(Debug)]
pub(super) enum StreamEvent {
    Connected(ConnId),
    Frame(ConnId, Vec<u8>),
    Closed { conn: ConnId, is_refused: bool },
    Resolved { seed: usize, addrs: Vec<SocketAddr> },
    Persisted(u64),
}

pub(super) type Events = mpsc::Sender<StreamEvent>;
pub(super) type Frames = mpsc::UnboundedReceiver<Vec<u8>>;

/// Opens a stream and runs it to its end.
pub(super) async fn open(conn: ConnId, to: SocketAddr, frames: Frames, events: Events) {
    let is_refused = match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => {
            if events.send(StreamEvent::Connected(conn)).await.is_ok() {
                run(conn, stream, frames, &events).await;
            }
            false
        }
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    };
    let _ = events.send(StreamEvent::Closed { conn, is_refused }).await;
}

/// Runs an accepted stream to its end.
pub(super) async fn accept(conn: ConnId, stream: TcpStream, frames: Frames, events: Events) {
    run(conn, stream, frames, &events).await;
    let _ = events.send(StreamEvent::Closed { conn, is_refused: false }).await;
}

async fn run(conn: ConnId, stream: TcpStream, frames: Frames, events: &Events) {
    let _ = stream.set_nodelay(true);
    let (mut reader, writer) = stream.into_split();
    let both = async {
        tokio::select! {
            result = read(conn, &mut reader, events) => result,
            result = write(writer, frames) => {
                let mut rest = [0; 4096];
                let drain = async { while reader.read(&mut rest).await? > 0 {} io::Result::Ok(()) };
                let _ = tokio::time::timeout(DRAIN_MAX, drain).await;
                result
            }
        }
    };
    match tokio::time::timeout(STREAM_MAX, both).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "gossip stream"),
        Err(_) => tracing::debug!("gossip stream took too long"),
    }
}

async fn read(conn: ConnId, reader: &mut OwnedReadHalf, events: &Events) -> io::Result<()> {
    let mut splitter = Splitter::default();
    let mut part = [0; 16 * 1024];
    loop {
        let len = reader.read(&mut part).await?;
        if len == 0 {
            return Ok(());
        }
        splitter.push(&part[..len]);
        while let Some(frame) = splitter.next_frame().map_err(io::Error::other)? {
            if events.send(StreamEvent::Frame(conn, frame)).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Writes frames until the agent closes the stream.
async fn write(mut writer: OwnedWriteHalf, mut frames: Frames) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
        writer.write_u32(len).await?;
        writer.write_all(&frame).await?;
    }
    writer.shutdown().await
}

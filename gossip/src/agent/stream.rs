//! One TCP stream: frames with a length before them, and a deadline over all.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
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
            let _ = stream.set_nodelay(true);
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
    let _ = stream.set_nodelay(true);
    run(conn, stream, frames, &events).await;
    let _ = events.send(StreamEvent::Closed { conn, is_refused: false }).await;
}

async fn run<S>(conn: ConnId, stream: S, frames: Frames, events: &Events)
where
    S: AsyncRead + AsyncWrite,
{
    let (mut reader, writer) = tokio::io::split(stream);
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

async fn read(
    conn: ConnId,
    reader: &mut (impl AsyncRead + Unpin),
    events: &Events,
) -> io::Result<()> {
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
async fn write(mut writer: impl AsyncWrite + Unpin, mut frames: Frames) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        let len = u32::try_from(frame.len()).map_err(io::Error::other)?;
        writer.write_u32(len).await?;
        writer.write_all(&frame).await?;
    }
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::time::Instant;

    use super::*;
    use crate::message::FRAME_BYTES_MAX;

    const CONN: ConnId = ConnId(7);

    /// An end of a stream for a test to play the peer, and what the agent is told.
    struct Peer {
        stream: DuplexStream,
        events: mpsc::Receiver<StreamEvent>,
        frames: Option<mpsc::UnboundedSender<Vec<u8>>>,
        started: Instant,
        ended: tokio::task::JoinHandle<()>,
    }

    impl Peer {
        /// `room`: bytes that fit the pipe before a writer has to wait.
        fn new(room: usize) -> Self {
            let (stream, here) = tokio::io::duplex(room);
            let (events, inbox) = mpsc::channel(64);
            let (sender, frames) = mpsc::unbounded_channel();
            let ended = tokio::spawn(async move { run(CONN, here, frames, &events).await });
            Self { stream, events: inbox, frames: Some(sender), started: Instant::now(), ended }
        }

        async fn say(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.unwrap();
        }

        /// Frames until the agent's side of the stream ends, and how long that took.
        async fn outcome(mut self) -> (Vec<Vec<u8>>, Duration) {
            let mut frames = Vec::new();
            while let Some(event) = self.events.recv().await {
                match event {
                    StreamEvent::Frame(CONN, frame) => frames.push(frame),
                    other => panic!("unexpected {other:?}"),
                }
            }
            self.ended.await.unwrap();
            (frames, self.started.elapsed())
        }
    }

    fn framed(frame: &[u8]) -> Vec<u8> {
        let length = u32::try_from(frame.len()).unwrap();
        [&length.to_be_bytes(), frame].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_comes_in_pieces_is_one_frame() {
        let mut peer = Peer::new(1024);
        for byte in framed(b"hello") {
            peer.say(&[byte]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        peer.stream.shutdown().await.unwrap();
        assert_eq!(peer.outcome().await.0, [b"hello"]);
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_frame_is_none_and_what_came_before_it_counts() {
        let mut peer = Peer::new(1024);
        let bytes = [framed(b"one"), framed(b"two")].concat();
        peer.say(&bytes[..bytes.len() - 1]).await;
        peer.stream.shutdown().await.unwrap();
        let (frames, took) = peer.outcome().await;
        assert_eq!((frames, took), (vec![b"one".to_vec()], Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_length_that_is_too_large_ends_the_stream_at_once() {
        let mut peer = Peer::new(1024);
        peer.say(&framed(b"one")).await;
        peer.say(&u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_be_bytes()).await;
        let (frames, took) = peer.outcome().await;
        assert_eq!((frames, took), (vec![b"one".to_vec()], Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_a_byte_now_and_then_is_cut_off() {
        let mut peer = Peer::new(1024);
        peer.say(&1000_u32.to_be_bytes()).await;
        let Peer { mut stream, events, frames, started, ended } = peer;
        tokio::spawn(async move {
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let rest = Peer { stream: tokio::io::duplex(1).0, events, frames, started, ended };
        assert_eq!(rest.outcome().await, (vec![], STREAM_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_cut_off() {
        let peer = Peer::new(16);
        peer.frames.as_ref().unwrap().send(vec![7; 1000]).unwrap();
        let (frames, took) = peer.outcome().await;
        assert_eq!((frames, took), (vec![], STREAM_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_goes_in_the_middle_of_many_frames_leaves_those_that_came_whole() {
        let mut peer = Peer::new(1 << 20);
        let part = vec![1; 48 * 1024];
        for _ in 0..5 {
            peer.say(&framed(&part)).await;
        }
        peer.say(&framed(&part)[..20_000]).await;
        peer.stream = tokio::io::duplex(1).0;
        let (frames, took) = peer.outcome().await;
        assert_eq!((frames.len(), took), (5, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_before_closing_arrives_although_the_peer_still_speaks() {
        let mut peer = Peer::new(1 << 20);
        let frames = peer.frames.take().unwrap();
        frames.send(b"goodbye".to_vec()).unwrap();
        drop(frames);
        peer.say(&framed(b"and another thing")).await;
        let mut heard = Vec::new();
        peer.stream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, framed(b"goodbye"));
        let (_, took) = peer.outcome().await;
        assert!(took <= DRAIN_MAX, "{took:?}");
    }
}

//! nsqlookupd's TCP protocol, so that stock nsqds can register with this node.
//!
//! A producer is owned by the node it is connected to and ends with its connection; gossip tells
//! the others. A node of this very cluster tells them itself, and better: while it is a member,
//! what it registers here is answered and not written down. Else it would be listed twice over,
//! here without its drain, and for minutes after its host has died.
//!
//! Source: nsqlookupd/lookup_protocol_v1.go (nsq 3103474b); tcp-protocol.md section 16.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use grapevine_gossip::{Handle, Producer, ProducerId};
use grapevine_protocol::{
    ClientError, Code, LOOKUP_BODY_BYTES_MAX, LOOKUP_LINE_BYTES_MAX, LookupCommand, LookupDecoded,
    LookupIdentity, MAGIC_V1, PeerInfo, VERSION, decode_lookup, go_json, lookup_response,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::listener::Listener;
use super::start::Node;
use super::transport::Transport;

/// Producers connected at once; further ones wait to be accepted. A cluster of stock nsqds is some
/// hundreds of nodes, each with one connection.
const CONNECTIONS_MAX: usize = 4_096;

/// Bytes read and not yet decoded, at most: one command of the largest kind and then some.
const INPUT_BYTES_MAX: usize = LOOKUP_LINE_BYTES_MAX + LOOKUP_BODY_BYTES_MAX + READ_BYTES;

/// Bytes a read asks for: a burst of registrations.
const READ_BYTES: usize = 4 << 10;

/// Answers are sent when they are this long, in bytes, even if more commands have come.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// In the version of every node that gossips; a stock nsqd never does.
const GRAPEVINE: &str = "+grapevine.";

/// Pause after a failed accept (too many open files, say), so that the node does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves producers until `stop`.
pub(crate) async fn serve(listener: Listener, node: Arc<Node>, mut stop: watch::Receiver<bool>) {
    let identity: Arc<[u8]> = identity(&node, &listener).into();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (listener.accept().await, permit)
            } => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            (Ok((transport, remote)), permit) => {
                let handle = node.registry.cluster().handle().clone();
                let peer = Peer { handle, remote, standing: Standing::Unknown };
                let identity = Arc::clone(&identity);
                connections.spawn(async move {
                    peer.serve(transport, &identity).await;
                    drop(permit);
                });
            }
            (Err(error), _) => {
                warn!(%error, "cannot accept a producer");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    listener.remove_file();
    connections.shutdown().await; // nobody waits for an answer that matters
}

/// What this node answers to IDENTIFY: where its lookup API is.
fn identity(node: &Node, listener: &Listener) -> Vec<u8> {
    let port = |port: Option<u16>| port.map_or(0, i32::from);
    go_json(&LookupIdentity {
        broadcast_address: node.options.broadcast_address.clone(),
        hostname: node.hostname.clone(),
        // nsqd's own port answers the questions an nsqd asks, too
        http_port: port(node.lookup_http_port.or(node.http_port)),
        tcp_port: port(listener.port()),
        version: VERSION.to_owned(),
    })
}

/// One connection of a producer. Its registrations end when it is dropped.
struct Peer {
    handle: Handle,
    remote: String,
    standing: Standing,
}

/// What a connection's other end is.
enum Standing {
    /// It has not said.
    Unknown,
    /// Registered; with what it said of itself, if it may be a member of this cluster.
    Producer(ProducerId, Option<Box<Producer>>),
    /// A member of this cluster.
    Member(Box<Producer>),
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Standing::Producer(producer, _) = self.standing {
            info!(producer = %self.remote, "producer disconnected");
            self.handle.producer_gone(producer);
        }
    }
}

/// Why a connection ends.
enum End {
    /// The other side closed it or it broke.
    Closed,
    /// It broke a rule; it is told which.
    Refused(ClientError),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed // whatever the reason, the producer comes back by itself
    }
}

impl Peer {
    async fn serve(mut self, mut transport: Transport, identity: &[u8]) {
        let Err(end) = self.converse(&mut transport, identity).await;
        if let End::Refused(error) = end {
            debug!(producer = %self.remote, %error, "producer refused");
            let mut output = BytesMut::new();
            lookup_response(&mut output, &error.payload());
            let _ = transport.write_all(&output).await; // it is closed either way
            let _ = transport.shutdown().await;
        }
    }

    async fn converse(
        &mut self,
        transport: &mut Transport,
        identity: &[u8],
    ) -> Result<std::convert::Infallible, End> {
        let mut magic = [0; MAGIC_V1.len()];
        transport.read_exact(&mut magic).await?;
        if magic != *MAGIC_V1 {
            return Err(End::Refused(ClientError::bad_protocol()));
        }
        let mut input = BytesMut::new();
        let mut output = BytesMut::new();
        loop {
            let result = self.commands(&mut input, &mut output, identity);
            if !output.is_empty() {
                transport.write_all(&output).await?;
                output.clear();
            }
            let at_end = match result? {
                Turn::Full => continue,
                Turn::Starved(at_end) => at_end,
            };
            debug_assert!(input.len() <= INPUT_BYTES_MAX, "the decoder bounds what is incomplete");
            input.reserve(READ_BYTES);
            if transport.read_buf(&mut input).await? == 0 {
                return Err(at_end.map_or(End::Closed, End::Refused));
            }
        }
    }

    /// Carries out the complete commands of `input`; those before an error are answered too.
    fn commands(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
        identity: &[u8],
    ) -> Result<Turn, End> {
        while output.len() < OUTPUT_BYTES_MAX {
            let is_identified = !matches!(self.standing, Standing::Unknown);
            match decode_lookup(input, is_identified).map_err(End::Refused)? {
                LookupDecoded::Command { command, consumed } => {
                    input.advance(consumed);
                    let answer = self.act(command, identity)?;
                    lookup_response(output, answer);
                }
                LookupDecoded::Incomplete { at_end } => return Ok(Turn::Starved(at_end)),
                LookupDecoded::LineTooLong => return Err(End::Closed),
            }
        }
        Ok(Turn::Full)
    }

    fn act<'a>(&mut self, command: LookupCommand, identity: &'a [u8]) -> Result<&'a [u8], End> {
        match (command, &self.standing) {
            (LookupCommand::Identify(info), _) => {
                self.identified(self.producer(info).map_err(End::Refused)?);
                return Ok(identity);
            }
            (LookupCommand::Ping, _) => self.seen()?,
            (LookupCommand::Register(topic, channel), Standing::Producer(producer, _)) => {
                self.handle.producer_register(*producer, &topic, channel.as_deref());
            }
            (LookupCommand::Unregister(topic, channel), Standing::Producer(producer, _)) => {
                self.handle.producer_unregister(*producer, &topic, channel.as_deref());
            }
            // A member's word comes by gossip; before IDENTIFY only PING passes the decoder.
            (
                LookupCommand::Register(..) | LookupCommand::Unregister(..),
                Standing::Member(_) | Standing::Unknown,
            ) => {}
        }
        Ok(b"OK")
    }

    fn identified(&mut self, producer: Producer) {
        let (remote, address) = (&self.remote, &producer.broadcast_address);
        let maybe_member = producer.version.contains(GRAPEVINE);
        if maybe_member && self.handle.is_member(&producer) {
            info!(producer = %remote, address, "producer is a member; gossip speaks for it");
            self.standing = Standing::Member(Box::new(producer));
            return;
        }
        info!(producer = %remote, address, "producer connected");
        let said = maybe_member.then(|| Box::new(producer.clone()));
        self.standing = Standing::Producer(self.handle.producer_connected(producer), said);
    }

    /// A sign of life; also the moment to see who is a member now.
    fn seen(&mut self) -> Result<(), End> {
        match &mut self.standing {
            Standing::Unknown => {}
            Standing::Producer(id, said) => {
                let Some(producer) = said.take_if(|producer| self.handle.is_member(producer))
                else {
                    self.handle.producer_seen(*id);
                    return Ok(());
                };
                info!(producer = %self.remote, "producer is a member; gossip speaks for it");
                self.handle.producer_gone(*id);
                self.standing = Standing::Member(producer);
            }
            Standing::Member(producer) if self.handle.is_member(producer) => {}
            Standing::Member(_) => {
                // It comes back at once and registers anew what was not written down.
                info!(producer = %self.remote, "producer is no member any more; it has to return");
                return Err(End::Closed);
            }
        }
        Ok(())
    }

    fn producer(&self, info: PeerInfo) -> Result<Producer, ClientError> {
        // nsqlookupd passes any number on; one that is no port would only mislead clients.
        let port = |port: i32| {
            u16::try_from(port)
                .map_err(|_| ClientError::new(Code::BadBody, "IDENTIFY missing fields"))
        };
        Ok(Producer {
            remote_address: self.remote.clone(),
            hostname: info.hostname,
            broadcast_address: info.broadcast_address,
            tcp_port: port(info.tcp_port)?,
            http_port: port(info.http_port)?,
            version: info.version,
            topology_zone: info.topology_zone,
            topology_region: info.topology_region,
        })
    }
}

/// Why carrying out commands paused.
enum Turn {
    /// Answers should be sent first.
    Full,
    /// More input is needed; what to say if there is none.
    Starved(Option<ClientError>),
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTIFY: &[u8] =
        br#"{"broadcast_address":"b","tcp_port":4150,"http_port":4151,"version":"1.3.0"}"#;

    async fn peer() -> Peer {
        let config = grapevine_gossip::agent::Config {
            bind: ([127, 0, 0, 1], 0).into(),
            ..grapevine_gossip::agent::Config::default()
        };
        let handle = grapevine_gossip::agent::start(config).await.unwrap();
        Peer { handle, remote: "10.0.0.1:5".into(), standing: Standing::Unknown }
    }

    fn own(version: &str) -> Producer {
        Producer {
            broadcast_address: "b".to_owned(),
            tcp_port: 4150,
            http_port: 4151,
            version: version.to_owned(),
            ..Producer::default()
        }
    }

    fn identify(body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len()).unwrap().to_be_bytes();
        [b"IDENTIFY\n", &size[..], body].concat()
    }

    /// The answers to `bytes`, and the error that ends the connection, if one does.
    fn answers(peer: &mut Peer, bytes: &[u8]) -> (Vec<String>, Option<String>) {
        let (mut input, mut output) = (BytesMut::from(bytes), BytesMut::new());
        let end = match peer.commands(&mut input, &mut output, b"us") {
            Ok(_) => None,
            Err(End::Closed) => Some("closed".to_owned()),
            Err(End::Refused(error)) => Some(error.to_string()),
        };
        let mut answers = Vec::new();
        while !output.is_empty() {
            let size = output.get_u32() as usize;
            answers.push(String::from_utf8(output.split_to(size).to_vec()).unwrap());
        }
        (answers, end)
    }

    #[tokio::test]
    async fn a_producer_is_in_the_view_from_register_until_its_connection_ends() {
        let mut peer = peer().await;
        let view = peer.handle.view();
        let burst = [b"PING\n", &identify(IDENTIFY)[..], b"REGISTER t c\r\nREGISTER u\n"].concat();
        assert_eq!(answers(&mut peer, &burst).0, ["OK", "us", "OK", "OK"]);
        let found = view.lookup("t").unwrap();
        assert_eq!(found.channels, ["c"]);
        assert_eq!(found.producers[0].remote_address, "10.0.0.1:5");

        assert_eq!(answers(&mut peer, b"UNREGISTER u\nPING\n").0, ["OK", "OK"]);
        assert!(view.lookup("u").unwrap().producers.is_empty());
        drop(peer);
        assert!(view.lookup("t").unwrap().producers.is_empty(), "the name stays, it does not");
        assert!(view.nodes().iter().all(|node| node.producer.broadcast_address != "b"));
    }

    #[tokio::test]
    async fn what_a_member_registers_is_left_to_gossip() {
        let mut peer = peer().await;
        let view = peer.handle.view();
        let body = String::from_utf8_lossy(IDENTIFY).replace("1.3.0", VERSION);
        let hello = [&identify(body.as_bytes())[..], b"REGISTER t c\n"].concat();
        answers(&mut peer, &hello);
        assert_eq!(view.lookup("t").unwrap().producers.len(), 1, "it is not known as a member yet");

        peer.handle.set_producer_info(own(VERSION));
        answers(&mut peer, b"PING\n");
        assert!(view.lookup("t").unwrap().producers.is_empty(), "gossip has not said so");
        assert_eq!(answers(&mut peer, b"REGISTER t c\nUNREGISTER t\n").0, ["OK", "OK"]);
        assert_eq!(answers(&mut peer, b"PING\n"), (vec!["OK".to_owned()], None));
        assert!(view.lookup("t").unwrap().producers.is_empty());

        // Elsewhere from now on: whoever is at the old address is no member.
        let elsewhere = Producer { tcp_port: 1, ..own(VERSION) };
        peer.handle.set_producer_info(elsewhere);
        assert_eq!(answers(&mut peer, b"PING\n").1.as_deref(), Some("closed"));
        peer.standing = Standing::Unknown;
        answers(&mut peer, &hello);
        assert_eq!(view.lookup("t").unwrap().producers.len(), 1, "it has returned");
    }

    #[tokio::test]
    async fn a_stock_nsqd_at_the_address_of_a_member_is_a_producer_all_the_same() {
        let mut peer = peer().await;
        peer.handle.set_producer_info(own(VERSION));
        let hello = [&identify(IDENTIFY)[..], b"REGISTER t c\nPING\n"].concat();
        answers(&mut peer, &hello);
        assert_eq!(peer.handle.view().lookup("t").unwrap().producers.len(), 1);
    }

    #[tokio::test]
    async fn commands_before_an_error_are_answered() {
        let mut peer = peer().await;
        let (said, end) = answers(&mut peer, b"PING\nREGISTER t\nPING\n");
        assert_eq!(said, ["OK"]);
        assert_eq!(end.as_deref(), Some("E_INVALID client must IDENTIFY"));
    }

    #[tokio::test]
    async fn a_producer_without_real_ports_is_refused() {
        let mut peer = peer().await;
        let body = String::from_utf8_lossy(IDENTIFY).replace("4150", "70000");
        let (_, end) = answers(&mut peer, &identify(body.as_bytes()));
        assert_eq!(end.as_deref(), Some("E_BAD_BODY IDENTIFY missing fields"));
    }

    #[tokio::test]
    async fn lines_and_bodies_beyond_the_limits_end_the_connection() {
        let mut peer = peer().await;
        let (_, end) = answers(&mut peer, &vec![b'x'; LOOKUP_LINE_BYTES_MAX]);
        assert_eq!(end.as_deref(), Some("closed"));
        for size in [-1, i32::MIN, i32::MAX] {
            let bytes = [b"IDENTIFY\n", &size.to_be_bytes()[..]].concat();
            let (_, end) = answers(&mut peer, &bytes);
            assert_eq!(end.as_deref(), Some("E_BAD_BODY IDENTIFY failed to read body"), "{size}");
        }
    }

    #[tokio::test]
    async fn a_long_burst_is_answered_in_portions() {
        let mut peer = peer().await;
        let count = OUTPUT_BYTES_MAX / 2;
        let (said, end) = answers(&mut peer, &b"PING\n".repeat(count));
        assert_eq!(end, None);
        assert!(said.len() < count, "{} answers in one write", said.len());
    }
}

//! What several targets share: a node to feed, and how the fuzzer's bytes become messages.

use std::net::SocketAddr;
use std::time::Duration;

use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::{Boot, Cluster, ClusterTime, ConnId, Input, Output};
use grapevine_gossip::codec::encode;
use grapevine_gossip::config::Timings;
use grapevine_gossip::envelope::{Seal, Sender};
use grapevine_gossip::identity::Identity;
use grapevine_gossip::message::{DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX, Frame, Purpose};
use grapevine_protocol::Moment;

/// The node that is fed.
pub const ME: NodeId = NodeId(1);

/// The member that everything seems to come from.
pub const PEER: NodeId = NodeId(7);

/// Epoch of the member.
pub const PEER_EPOCH: u64 = 300;

/// Time that passes between two messages.
const STEP: u64 = 50_000_000;

/// The member's identity.
pub fn peer() -> Identity {
    let addr = SocketAddr::from(([10, 0, 0, 1], 4162));
    Identity { addr: addr.into(), node: PEER, epoch: PEER_EPOCH, renew: 0 }
}

/// Puts a body into an envelope of the member's.
pub fn sealed(body: &[u8]) -> Vec<u8> {
    Seal::none("fuzz").seal(Sender { node: PEER, epoch: PEER_EPOCH, counter: 1 }, body)
}

/// Cuts the fuzzer's bytes into messages: each has its length before it, in two bytes.
pub fn messages(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let (message, rest) =
            rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        data = rest;
        Some(message)
    })
}

/// Puts bodies together the way [`messages`] takes them apart.
pub fn joined(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for body in bodies {
        let length = u16::try_from(body.len()).expect("a seed is short");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(body);
    }
    bytes
}

/// A node with one member, and what must hold of everything it says.
pub struct Node {
    /// The core.
    pub cluster: Cluster,
    now: u64,
}

impl Node {
    /// A node that [`peer`] has joined by stream.
    pub fn with_member() -> Self {
        let boot = Boot {
            node: ME,
            epoch: 5,
            addr: SocketAddr::from(([10, 0, 0, 9], 4162)),
            seeds: 1,
            peers: vec![],
            cluster_name: "fuzz".to_owned(),
            timings: Timings::default(),
            inactive_producer_timeout: Duration::from_secs(300),
            tombstone_lifetime: Duration::from_secs(45),
            seed: 1,
        };
        let cluster = Cluster::new(boot, ClusterTime::default());
        let mut node = Self { cluster, now: 0 };
        let conn = ConnId(ConnId::ACCEPTED);
        node.tell(Input::Accepted(conn));
        let hello = encode(&Frame::Hello { identity: peer(), purpose: Purpose::Join });
        node.tell(Input::Frame(conn, &sealed(&hello)));
        node.tell(Input::Closed { conn, is_refused: false });
        assert!(node.cluster.membership().active().contains_key(&PEER));
        node
    }

    /// Hands in what happened; time goes on a little.
    pub fn tell(&mut self, input: Input<'_>) {
        self.now += STEP;
        let now = ClusterTime { at: Moment(self.now), wall_ns: 0 };
        let own = (self.cluster.catalogue().own().epoch, self.cluster.catalogue().own().len());
        let may_write = matches!(&input, Input::Datagram { .. });
        self.cluster.handle(now, input);
        if self.cluster.next_wake().is_some_and(|at| at <= now.at) {
            self.cluster.handle(now, Input::Wake);
        }
        let after = self.cluster.catalogue().own();
        assert!(own.0 <= after.epoch, "an epoch never goes back");
        assert!(may_write || own.1 == after.len(), "only a wish changes the own section");
        self.carry_out();
    }

    /// Hands in a datagram of the member's.
    pub fn datagram(&mut self, bytes: &[u8]) {
        self.tell(Input::Datagram { from: peer().addr.socket(), bytes });
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.cluster.poll() {
            match output {
                Output::Datagram { bytes, .. } => assert!(bytes.len() <= DATAGRAM_BYTES_MAX),
                Output::Write(_, bytes) => assert!(bytes.len() <= FRAME_BYTES_MAX),
                Output::Persist(epoch) => {
                    let now = ClusterTime { at: Moment(self.now), wall_ns: 0 };
                    self.cluster.handle(now, Input::Persisted(epoch));
                }
                _ => {}
            }
        }
    }
}

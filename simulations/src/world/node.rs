//! One node: its process, its disk, its clocks, and what waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use grapevine_gossip::cluster::{Cluster, ConnId};
use grapevine_gossip::envelope::WIRE_VERSION;
use grapevine_gossip::{NodeId, ProducerId};

use super::NodeView;
use super::clock::Clock;
use crate::disk::{Disk, Write};
use crate::luck::Domain;
use crate::plan::{DiskFate, Fault, Plan};

/// Datagrams that a socket keeps for a process that does not read.
const SOCKET_DATAGRAMS_MAX: usize = 64;

/// Something that reaches a process.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A datagram; its number among the parcels.
    Datagram(u32),
    Accepted(ConnId),
    Connected(ConnId),
    Frame {
        conn: ConnId,
        bytes: Vec<u8>,
        letter: Letter,
    },
    Closed {
        conn: ConnId,
        is_refused: bool,
    },
    Resolved(usize),
    Persisted(u64),
}

/// What records say of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Letter {
    pub(super) id: u64,
    pub(super) from: u32,
    pub(super) lamport: u64,
}

impl Arrival {
    /// A number for the kind, for hashes; wakes are 1.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Datagram(_) => 0,
            Self::Accepted(_) => 32,
            Self::Connected(_) => 33,
            Self::Frame { .. } => 34,
            Self::Closed { .. } => 35,
            Self::Resolved(_) => 36,
            Self::Persisted(_) => 37,
        }
    }
}

/// What waits for a process that stands still or is busy.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    datagrams: VecDeque<u32>,
    others: VecDeque<Arrival>,
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.datagrams.is_empty() && self.others.is_empty()
    }

    /// Keeps `arrival`; the datagram for which there is no room.
    pub(super) fn add(&mut self, arrival: Arrival) -> Option<u32> {
        match arrival {
            Arrival::Datagram(parcel) if self.datagrams.len() >= SOCKET_DATAGRAMS_MAX => {
                return Some(parcel);
            }
            Arrival::Datagram(parcel) => self.datagrams.push_back(parcel),
            other => self.others.push_back(other),
        }
        None
    }

    /// Datagrams that have not been read.
    pub(super) fn datagrams(&self) -> usize {
        self.datagrams.len()
    }

    pub(super) fn next_datagram(&mut self) -> Option<u32> {
        self.datagrams.pop_front()
    }

    pub(super) fn next(&mut self) -> Option<Arrival> {
        self.others.pop_front()
    }

    /// The process is gone: so is everything.
    pub(super) fn clear(&mut self) -> VecDeque<u32> {
        self.others.clear();
        std::mem::take(&mut self.datagrams)
    }
}

/// A topic that clients of a node made, or a channel of it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Made {
    /// Number of the topic; those of a burst of topics begin at [`Made::BURST`].
    pub(super) topic: u32,
    /// Number of the channel.
    pub(super) channel: Option<u32>,
}

impl Made {
    /// First number of the topics of a burst.
    pub(super) const BURST: u32 = 1 << 24;

    pub(super) fn topic_name(self) -> String {
        match self.topic.checked_sub(Self::BURST) {
            Some(number) => format!("n{number:03}"),
            None => super::topic_name(self.topic as usize),
        }
    }

    /// Channels of a burst are ephemeral.
    pub(super) fn channel_name(self) -> Option<String> {
        let suffix = if self.topic >= Self::BURST { "#ephemeral" } else { "" };
        self.channel.map(|channel| format!("c{channel}{suffix}"))
    }
}

/// A stock nsqd that registers at a node by nsqlookupd's TCP protocol.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    /// As the node's registrar knows it, while it is connected.
    pub(super) producer: Option<ProducerId>,
    /// What it has.
    pub(super) made: BTreeSet<Made>,
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) addr: SocketAddr,
    pub(super) cluster: Option<Cluster>,
    /// Grows with each start and each end, so that what was meant for an earlier process is not
    /// given to a later one.
    pub(super) life: u32,
    /// Epoch of its process.
    pub(super) epoch: u64,
    /// Number of starts so far.
    pub(super) starts: u32,
    /// Its process has begun to start and not yet to talk.
    pub(super) is_booting: bool,
    /// It says goodbye.
    pub(super) is_leaving: bool,
    /// It said goodbye and nobody starts it again.
    pub(super) has_left: bool,
    /// It lost power: its kernel does not answer either.
    pub(super) is_dark: bool,
    pub(super) is_stranger: bool,
    /// What the next start finds, and the fault that says so.
    pub(super) fate: Option<DiskFate>,
    pub(super) moves: u8,
    pub(super) disk: Disk,
    /// Writes in progress, by number.
    pub(super) writes: BTreeMap<u32, Write>,
    pub(super) write_count: u32,
    pub(super) clock: Clock,
    /// When the earliest wake on the queue is due; `u64::MAX`: there is none.
    pub(super) armed_at: u64,
    /// The moment of the node's own clock that wake is for.
    pub(super) armed_for: Option<grapevine_protocol::Moment>,
    /// Pauses in force.
    pub(super) pauses: u32,
    /// Time for each input, in ns.
    pub(super) slow: Option<u64>,
    pub(super) busy_until: u64,
    pub(super) turn_at: Option<u64>,
    pub(super) inbox: Inbox,
    /// Where its streams are: pipe and side.
    pub(super) conns: BTreeMap<ConnId, (u32, u8)>,
    pub(super) accepted: u64,
    /// Version of the wire format that it speaks.
    pub(super) wire: u8,
    /// What its nsqd has on disk.
    pub(super) made: BTreeSet<Made>,
    /// Changes of `made`, if a backup may be restored: when, what, whether it was made.
    pub(super) made_log: Option<Vec<(u64, Made, bool)>>,
    pub(super) foreign: Vec<Foreign>,
    pub(super) lamport: u64,
    /// Bytes sent since the last sample.
    pub(super) bytes: u64,
}

impl Node {
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        let remembers = plan.faults.iter().any(|timed| {
            let Fault::Crash { disk: DiskFate::Old(_), node, .. } = timed.fault else {
                return false;
            };
            node == index
        });
        Self {
            id: NodeId::default(),
            addr: addr_of(index, 0),
            cluster: None,
            life: 0,
            epoch: 0,
            starts: 0,
            is_booting: false,
            is_leaving: false,
            has_left: false,
            is_dark: false,
            is_stranger: plan.strangers.contains(&index),
            fate: None,
            moves: 0,
            disk: Disk::new(remembers),
            writes: BTreeMap::new(),
            write_count: 0,
            clock: Clock::new(Domain::new(plan.seed, "clock").draw(&[index as u64])),
            armed_at: u64::MAX,
            armed_for: None,
            pauses: 0,
            slow: None,
            busy_until: 0,
            turn_at: None,
            inbox: Inbox::default(),
            conns: BTreeMap::new(),
            accepted: 0,
            wire: WIRE_VERSION,
            made: BTreeSet::new(),
            made_log: remembers.then(Vec::new),
            foreign: (0..plan.workload.foreign).map(|_| Foreign::default()).collect(),
            lamport: 0,
            bytes: 0,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.pauses > 0
    }

    /// Whether its process can do something now.
    pub(super) fn is_up(&self) -> bool {
        self.cluster.is_some() && !self.is_paused()
    }

    pub(super) fn is_wake_due(&self, now: u64) -> bool {
        let wake = self.cluster.as_ref().and_then(Cluster::next_wake);
        wake.is_some_and(|moment| moment <= self.clock.local(now))
    }

    pub(super) fn view(&self) -> NodeView<'_> {
        NodeView {
            id: self.id,
            addr: self.addr,
            cluster: self.cluster.as_ref(),
            is_paused: self.is_paused(),
            has_left: self.has_left,
            is_stranger: self.is_stranger,
        }
    }

    /// Notes what its nsqd keeps on disk.
    pub(super) fn note(&mut self, now: u64, made: Made, is_made: bool) {
        let changed = if is_made { self.made.insert(made) } else { self.made.remove(&made) };
        if changed && let Some(log) = &mut self.made_log {
            log.push((now, made, is_made));
        }
    }

    /// What its nsqd had at `then`.
    pub(super) fn made_at(&self, then: u64) -> BTreeSet<Made> {
        let mut made = BTreeSet::new();
        let log = self.made_log.iter().flatten();
        for (_, what, is_made) in log.take_while(|(at, ..)| *at <= then) {
            if *is_made {
                made.insert(*what);
            } else {
                made.remove(what);
            }
        }
        made
    }
}

/// Address of a node that has moved this often.
pub(super) fn addr_of(index: usize, moves: u8) -> SocketAddr {
    let [high, low] = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
    SocketAddr::from(([10, moves, high, low], 4162))
}

/// Where datagrams of a node behind address translation seem to come from. Nobody is reached there.
pub(super) fn translated(index: usize) -> SocketAddr {
    let [high, low] = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
    SocketAddr::from(([100, 64, high, low], 40_000))
}

/// The node that has, or once had, this address.
pub(crate) fn index_of(addr: SocketAddr) -> Option<usize> {
    match addr {
        SocketAddr::V4(addr) => match addr.ip().octets() {
            [10, _, high, low] => Some(usize::from(u16::from_be_bytes([high, low]))),
            _ => None,
        },
        SocketAddr::V6(_) => None,
    }
}

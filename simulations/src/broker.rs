//! Brokers in the simulation: the core and the topic log that ship, on simulated disks, with
//! producers and consumers around them.
//!
//! | file | holds |
//! |---|---|
//! | `shell` | one process: what a node does around the core, in the node's order of steps |
//! | `store` | its data path, and what faults leave of it |
//! | `clients` | consumers and their connections |
//! | `ledger` | what brokers owe, and the rules M1 to M7 |
//!
//! [`World`](crate::World) moves messages between them in `world/broker.rs`.

pub(crate) mod clients;
pub(crate) mod ledger;
pub(crate) mod names;
pub(crate) mod shell;
pub(crate) mod store;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use grapevine_storage::Mode;

use crate::luck::Domain;
use crate::plan::{BrokerPlan, DiskFate, Fault, Plan};
use crate::rules::Rule;
use clients::{Clients, Consumer};
use ledger::Ledger;
use shell::{Options, Shell};
use store::Store;

/// The rules that brokers must keep.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        id: "M1",
        name: "nothing-lost",
        meaning: "A message that was acknowledged, and a channel that was created, is still there \
            unless a consumer finished it or something happened that --durability does not \
            promise to survive: lost power without fsync, any crash with memory, a disk that was \
            lost, set back or lied. Checked at each round of checkpoints by what channels count, \
            after each start, and at the end by taking everything out.",
        source: "DESIGN.md: what OK means",
    },
    Rule {
        id: "M2",
        name: "one-place",
        meaning: "For each channel a message is in exactly one place: not handed out, requeued, \
            deferred, in flight with one consumer, or finished. A message in flight is not \
            delivered to somebody else before its timeout, no two messages have one id, and a \
            channel never holds more than it is owed.",
        source: "DESIGN.md: rule 1",
    },
    Rule {
        id: "M3",
        name: "attempts",
        meaning: "The number of attempts grows by one with each delivery. After a crash it may go \
            back to what the last checkpoint says, not further.",
        source: "NSQ: message format",
    },
    Rule {
        id: "M4",
        name: "at-least-once",
        meaning: "Every channel that a topic had when a message was stored gets the message at \
            least once, once everything is mended and its consumers have had time: they find the \
            node by /lookup, are woken, and are not forgotten.",
        source: "NSQ: guarantees",
    },
    Rule {
        id: "M5",
        name: "not-early",
        meaning: "A deferred message is not delivered before its time by the node's own clock, \
            nor after a restart before the time that was written down.",
        source: "NSQ: DPUB and REQ",
    },
    Rule {
        id: "M6",
        name: "every-channel",
        meaning: "A node that gets the first message of a topic first makes every channel that \
            the cluster knows for it, so that none of them misses a message; also in a partition \
            and for channels of nodes that are down. Only a node that nobody answers within \
            --init-grace may begin with less.",
        source: "DESIGN.md: a registration",
    },
    Rule {
        id: "M7",
        name: "finished-once",
        meaning: "A message that was finished is not delivered again by the same process, nor \
            after a clean stop, nor after a crash if a checkpoint had been written meanwhile.",
        source: "DESIGN.md: the topic log",
    },
];

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) delivered: u64,
    pub(crate) finished: u64,
    pub(crate) requeued: u64,
    pub(crate) late_answers: u64,
    pub(crate) connections: u64,
}

/// One node's broker.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) store: Store,
    /// Its process, if one runs.
    pub(crate) shell: Option<Shell>,
    /// Its disk has lied at some time.
    pub(crate) has_lied: bool,
    /// Its wall clock jumps at some time.
    pub(crate) has_jumps: bool,
    /// How likely lost power cuts what was not synced, now.
    pub(crate) torn: Option<f64>,
    /// When its process began to talk (ns of the run).
    pub(crate) up_since: u64,
}

/// All brokers of a run.
#[derive(Debug)]
pub(crate) struct Brokers {
    pub(crate) plan: BrokerPlan,
    pub(crate) topics: u32,
    pub(crate) hosts: Vec<Host>,
    pub(crate) clients: Clients,
    pub(crate) ledger: Ledger,
    pub(crate) figures: Figures,
    pub(crate) luck: Domain,
    /// What nodes have to tell the cluster: node, topic, channel.
    pub(crate) registrations: Vec<(usize, u32, Option<u32>)>,
    seed: u64,
    /// By when every topic has begun at every node (ns of the run).
    open_by: u64,
}

impl Brokers {
    /// The brokers of a plan, if it has any.
    pub(crate) fn new(plan: &Plan) -> Option<Box<Self>> {
        let broker = plan.broker.clone()?;
        let host = |index: usize| {
            let goes_back = plan.faults.iter().any(|timed| {
                matches!(timed.fault, Fault::Crash { disk: DiskFate::Old(_), node, .. }
                    if node == index)
            });
            let has_jumps = plan.faults.iter().any(|timed| {
                matches!(timed.fault, Fault::Clock { node, wall_jump_ms, .. }
                    if node == index && wall_jump_ms != 0)
            });
            Host {
                store: Store::new(goes_back),
                shell: None,
                has_lied: false,
                has_jumps,
                torn: None,
                up_since: 0,
            }
        };
        let luck = Domain::new(plan.seed, "broker");
        let topics = u32::try_from(plan.topics).unwrap_or(u32::MAX).max(1);
        let until = plan.heal_at.unwrap_or(plan.end).min(plan.end);
        Some(Box::new(Self {
            topics,
            hosts: (0..plan.nodes).map(host).collect(),
            clients: clients(topics, &broker, luck),
            ledger: Ledger::default(),
            figures: Figures::default(),
            luck,
            registrations: Vec::new(),
            seed: plan.seed,
            open_by: u64::try_from(until.as_nanos()).unwrap_or(u64::MAX),
            plan: broker,
        }))
    }

    /// Whether what is acknowledged is synced first.
    pub(crate) fn is_fsync(&self) -> bool {
        self.plan.durability == "fsync"
    }

    /// Whether what is acknowledged is in the hands of the operating system.
    pub(crate) fn is_written(&self) -> bool {
        self.plan.durability != "memory"
    }

    /// How node `index`'s broker is set up. Segments and queues are small, so that short runs see
    /// what long ones do.
    pub(crate) fn options(&self, index: usize) -> Options {
        let draw = Domain::new(self.seed, "broker options").draw(&[index as u64]);
        let between =
            |field: u64, least: f64, most: f64| (least + draw.unit(field) * (most - least)) as u64;
        let mode = match self.is_written() {
            true => Mode::WriteThrough,
            false => Mode::WriteBehind { messages_max: between(0, 2.0, 60.0) },
        };
        Options {
            mode,
            is_fsync: self.is_fsync(),
            segment_bytes_max: between(1, 500.0, 10_000.0),
            msg_timeout: self.plan.msg_timeout,
            id_bits: (u16::try_from(index).unwrap_or(u16::MAX) << 6) | (draw.word(2) as u16 & 0x3f),
        }
    }

    /// From when on producers publish a topic at a node (ns of the run): topics begin here and
    /// there all the time, so that the first message of a topic meets all kinds of trouble.
    pub(crate) fn opens_at(&self, topic: u32, node: usize) -> u64 {
        let draw = Domain::new(self.seed, "broker topics").draw(&[u64::from(topic), node as u64]);
        let first = Domain::new(self.seed, "broker topics").draw(&[u64::from(topic)]);
        let is_first = first.pick(0, self.hosts.len()) == node;
        let share = if is_first { 0.0 } else { draw.unit(0) * LAST_OPENING };
        (self.open_by as f64 * share) as u64
    }

    /// Figures by name.
    pub(crate) fn figures(&self) -> BTreeMap<String, u64> {
        let figures = &self.figures;
        let all = [
            ("published", figures.published),
            ("acknowledged", figures.acknowledged),
            ("refused", figures.refused),
            ("delivered", figures.delivered),
            ("finished", figures.finished),
            ("requeued", figures.requeued),
            ("late_answers", figures.late_answers),
            ("connections", figures.connections),
            ("redelivered", self.ledger.redelivered),
            ("lost_allowed", self.ledger.lost_allowed),
        ];
        all.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }
}

/// The last topic begins at this share of the time in which faults happen.
const LAST_OPENING: f64 = 0.9;

/// Highest RDY of a consumer.
const RDY_MAX: usize = 8;

fn clients(topics: u32, plan: &BrokerPlan, luck: Domain) -> Clients {
    let channels = u32::try_from(plan.channels).unwrap_or(u32::MAX);
    let mut clients = Clients::default();
    for topic in 0..topics {
        for channel in 0..channels {
            for number in 0..plan.consumers {
                let ids = [u64::from(topic), u64::from(channel), number as u64];
                let rdy = 1 + luck.draw(&[RDY, ids[0], ids[1], ids[2]]).pick(0, RDY_MAX) as u64;
                let links = BTreeMap::new();
                clients.consumers.push(Consumer { topic, channel, rdy, links });
            }
        }
    }
    clients
}

/// What luck is about, the first word of a key.
pub(crate) const RDY: u64 = 0;
pub(crate) const PUBLISH: u64 = 1;
pub(crate) const POLL: u64 = 2;
pub(crate) const ANSWER: u64 = 3;
pub(crate) const POWER: u64 = 4;
pub(crate) const ROOM: u64 = 5;
pub(crate) const TURN: u64 = 6;

/// Time within which everybody must know a channel while nothing is wrong: the p99 of the design is
/// below 1 s.
pub(crate) const KNOWN_AFTER: Duration = Duration::from_secs(5);

//! What happened in a run, in the order it happened, for pages, files and comparisons.
//!
//! The world tells a [`Recorder`] while it runs. A run without one costs nothing; since a run is a
//! function of its plan, whoever wants the trace of a failure runs it again.

use std::time::Duration;

use serde::Serialize;

use crate::outcome::Violation;
use crate::plan::Plan;

/// Takes in what happens.
pub trait Recorder {
    /// How much it wants to be told.
    fn detail(&self) -> Detail {
        Detail::Everything
    }
    /// The run begins.
    fn begin(&mut self, _plan: &Plan) {}
    /// Something happened.
    fn record(&mut self, record: &Record);
    /// How things stand, taken each [`SAMPLE_PERIOD`] of simulated time.
    fn sample(&mut self, _sample: &Sample) {}
    /// The run is over.
    fn end(&mut self, _at: Duration, _violation: Option<&Violation>) {}
}

/// How much a [`Recorder`] is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Detail {
    /// All there is.
    Everything,
    /// No messages, timers and samples: lives, faults, members, writes, and who learns of them.
    /// With a thousand nodes the rest costs more than the run.
    Changes,
}

/// Pause between samples.
pub const SAMPLE_PERIOD: Duration = Duration::from_millis(250);

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Number of the event of the world that it belongs to, from 0.
    pub i: u64,
    /// When, in ns from the start.
    pub t: u64,
    /// At which node; `None`: at none.
    pub n: Option<u32>,
    /// Lamport time of the node.
    pub lamport: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// Hash of everything up to here.
    pub h: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "k", rename_all = "snake_case")]
pub enum What {
    /// A datagram or a frame is sent. `id` is unique among messages of the run.
    Send {
        /// Number of the message.
        id: u64,
        /// To which node.
        to: u32,
        /// What it is: `ping`, `ack`, `gossip`, `deltas`, `digest`, `snapshot`, ...
        msg: &'static str,
        /// Bytes.
        sz: u32,
        /// By stream.
        stream: bool,
    },
    /// It arrives.
    Recv {
        /// Number of the message.
        id: u64,
        /// From which node.
        from: u32,
        /// What it is.
        msg: &'static str,
        /// Bytes.
        sz: u32,
        /// By stream.
        stream: bool,
    },
    /// It does not arrive.
    Drop {
        /// Number of the message.
        id: u64,
        /// From which node.
        from: u32,
        /// What it is.
        msg: &'static str,
        /// `cut`, `loss`, `queue`, `mtu`, `dead`, `buffer`.
        reason: &'static str,
    },
    /// The node's timers fired.
    Timer,
    /// The node changed its mind about another.
    Member {
        /// Which.
        about: u32,
        /// `up`, `down`, `left`, `renewed`.
        to: &'static str,
    },
    /// The node wrote its own section.
    Write {
        /// Topic and channel.
        key: String,
        /// Created, or deleted.
        live: bool,
        /// Version of the write.
        ver: u64,
    },
    /// The node's copy of another's section went on.
    Apply {
        /// Whose.
        owner: u32,
        /// Epoch.
        epoch: u64,
        /// Version.
        ver: u64,
    },
    /// A process begins or ends.
    Life {
        /// `up`, `crashed`, `left`, `paused`, `resumed`.
        to: &'static str,
        /// Epoch of the process.
        epoch: u64,
    },
    /// A fault of the plan begins or ends.
    Fault {
        /// Its index in the plan.
        index: u32,
        /// Begins.
        begins: bool,
    },
    /// Everything is mended.
    Heal,
    /// Something reached the disk.
    Persist {
        /// The epoch.
        epoch: u64,
    },
    /// A broker's event: `publish`, `refused`, `deliver`, `finish`, `requeue`, `touch`; `late`: an
    /// answer to a message that had timed out.
    Broker {
        /// Which.
        op: &'static str,
        /// Number of the message in the run.
        message: u64,
    },
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// When, in ns from the start.
    pub t: u64,
    /// Of each node.
    pub nodes: Vec<NodeSample>,
    /// Datagram and stream bytes sent since the last sample, all nodes.
    pub bytes: u64,
    /// Share of pairs (node, other) in which the node is right about the other, of those that run.
    pub agreement: f64,
}

/// How one node stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeSample {
    /// It runs.
    pub runs: bool,
    /// Members it holds active, itself included.
    pub members: u32,
    /// Pairs (topic, producer) that it lists although they do not exist.
    pub phantom: u32,
    /// Pairs (topic, producer) that exist and that it does not list.
    pub missing: u32,
    /// Age of the oldest change it does not know, in ms.
    pub oldest_ms: u32,
    /// Bytes it sent since the last sample.
    pub bytes: u32,
}

/// Keeps everything. For short runs.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Events, in order.
    pub records: Vec<Record>,
    /// Samples, in order.
    pub samples: Vec<Sample>,
}

impl Recorder for Trace {
    fn record(&mut self, record: &Record) {
        self.records.push(record.clone());
    }

    fn sample(&mut self, sample: &Sample) {
        self.samples.push(sample.clone());
    }
}

//! What came of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A rule that does not hold.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Its id: `S1`, `L1`, `V4`, `B1`, `M1` (messages); see `simulate explain`.
    pub rule: String,
    /// Its name in a word or two: `lost-key`.
    pub name: String,
    /// Index of the node at which it shows; `None`: at none in particular, or it is not known.
    pub node: Option<usize>,
    /// What is wrong, as fields: `owner=1 key=t007 ...`.
    pub what: String,
    /// When.
    pub at: Duration,
    /// Number of the event that showed it.
    pub event: u64,
}

impl Violation {
    /// Whether it is a promise of the scenario about the whole run, rather than a rule that always
    /// holds and that broke at one moment.
    pub fn is_promise(&self) -> bool {
        self.rule.starts_with('E')
    }
}

impl std::fmt::Display for Violation {
    /// `S4 lost-key node=3 owner=1 key=t007 t=71.204s`; of a promise without node and moment.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rule, name, node, what, at, .. } = self;
        if self.is_promise() {
            return write!(f, "{rule} {name} {what}");
        }
        let node = node.map_or_else(|| "unknown".to_owned(), |node| node.to_string());
        write!(f, "{rule} {name} node={node} {what} t={:.3}s", at.as_secs_f64())
    }
}

impl std::error::Error for Violation {}

/// Figures of a run, up to where it ended; of one that panicked only the number of events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Events handled.
    pub events: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Bytes of datagrams, each with 28 B of IP and UDP, and room for a seal (42 B) counted.
    pub datagram_bytes: u64,
    /// Bytes of frames on streams.
    pub stream_bytes: u64,
    /// Bytes per node and second, average over the quiet time before the first fault and after
    /// everyone agreed; 0: no second was quiet.
    pub idle_bytes: f64,
    /// Bytes per node and second, by second of the run: the sum over nodes divided by nodes.
    pub bytes_by_second: Vec<u32>,
    /// How long after the healing everyone agreed on the members; `None`: never, or no healing.
    pub members_agreed: Option<Duration>,
    /// ... and on every topic.
    pub lookups_agreed: Option<Duration>,
    /// For each change made: how long until all live nodes that could know knew, in ms. Only
    /// changes made while no fault was active and the network itself was no worse than mild.
    pub staleness_ms: Vec<f32>,
    /// For each node that ended by crash or pause: how long until it was in nobody's view, in ms.
    pub gone_ms: Vec<(String, f32)>,
    /// Renewals of identities.
    pub renewals: u64,
    /// Live members declared down while nothing worse than 5 % loss was active.
    pub false_downs: u64,
    /// Those of the rules V1 and V5, which hold only while little is wrong, that held at some
    /// moment: what a rule counts that never held was not measured.
    pub watched: BTreeSet<String>,
    /// Points of the code reached.
    pub coverage: BTreeSet<String>,
    /// Counters of the cores, summed.
    pub counters: BTreeMap<String, u64>,
    /// Broker: published, acknowledged, delivered, finished, delivered more than once
    /// (`redelivered`), and copies for a channel that a fault was allowed to take (`lost_allowed`).
    pub messages: BTreeMap<String, u64>,
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Hash over every event in order: equal for equal runs.
    pub hash: u64,
    /// The hash after each [`CHECKPOINT_EVENTS`] events.
    pub checkpoints: Vec<u64>,
    /// Figures.
    pub stats: Stats,
    /// The first rule that was broken; the run ended there.
    pub violation: Option<Violation>,
}

/// Events between two checkpoints of the hash.
pub const CHECKPOINT_EVENTS: u64 = 1024;

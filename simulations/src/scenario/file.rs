//! A scenario file, table by table.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::scenario::chaos::ChaosClass;
use crate::scenario::drawn::{self, Drawn};
use crate::scenario::fault_table::FaultTable;
use crate::scenario::link_table::{Base, Net};
use crate::scenario::nodes::Nodes;
use crate::scenario::rates::{Churn, Lookups};
use crate::scenario::words::{Point, When};

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Grapevine scenario")]
pub(crate) struct File {
    /// Version of the format: 1.
    pub schema: u32,
    /// Its name; left out: that of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it shows, in a sentence or two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The nodes.
    #[serde(default)]
    pub cluster: Cluster,
    /// The network.
    #[serde(default)]
    pub net: Net,
    /// What topics there are.
    #[serde(default)]
    pub topics: Topics,
    /// What the nodes' clients do.
    #[serde(default)]
    pub workload: Workload,
    /// Parameters of the protocol.
    #[serde(default)]
    pub knobs: Knobs,
    /// What goes wrong, or is done.
    #[serde(default)]
    pub fault: Vec<FaultTable>,
    /// What may go wrong besides; each seed draws something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chaos: Option<Chaos>,
    /// How long.
    #[serde(default)]
    pub run: Run,
    /// What must be true beyond the rules that always hold.
    #[serde(default)]
    pub expect: Expect,
    /// Nodes also run brokers, and clients publish and consume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<Broker>,
    /// What `simulate report` draws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// `[cluster]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cluster {
    /// How many; 5 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Drawn<u64>>,
    /// Nodes whose addresses everyone is given; the first two if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Nodes>,
    /// What links are like if `[net]` says nothing: `lan` (the default) or `wan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Names for groups of nodes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<String, Vec<usize>>,
    /// When each node starts; drawn for each by itself. Within the first 0.2 s if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Drawn<Duration>>,
    /// When each node starts, one after the other, `never` if a fault starts it; instead of
    /// `start` and `absent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts: Option<Vec<When>>,
    /// Nodes that only a fault `start` starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absent: Option<Nodes>,
    /// Nodes that were given another cluster's name by mistake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strangers: Option<Nodes>,
}

/// What kind of network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Profile {
    /// One room.
    Lan,
    /// Far apart.
    Wan,
}

impl From<Profile> for Base {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Lan => Self::Lan,
            Profile::Wan => Self::Wan,
        }
    }
}

/// `[topics]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Topics {
    /// How many; they are called `t000`, `t001`, ... 10 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<Drawn<u64>>,
}

/// `[workload]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Workload {
    /// Registrations and deletions per second, all nodes together, until everything is mended; or a
    /// table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<Churn>,
    /// `/lookup`s per second, all nodes together; or a table. Each answer is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookups: Option<Lookups>,
    /// Stock nsqds that register with each node over TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Drawn<u64>>,
    /// Topics that each node has from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<Drawn<u64>>,
}

/// `[knobs]`: parameters of the protocol; what is left out has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Knobs {
    /// One member is probed in each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_period: Option<Drawn<Duration>>,
    /// How long a probed member has before others are asked to probe it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_rtt: Option<Drawn<Duration>>,
    /// How long a suspect has to object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspicion: Option<Drawn<Duration>>,
    /// Pause between rounds of rumours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread_period: Option<Drawn<Duration>>,
    /// Pause between comparisons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_period: Option<Drawn<Duration>>,
    /// Pause between attempts to reach the dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnect_period: Option<Drawn<Duration>>,
    /// How long deletions are remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletions_kept: Option<Drawn<Duration>>,
    /// How long the topics of the dead are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detached_kept: Option<Drawn<Duration>>,
    /// How likely each deviation built into the code is armed; it then fires as likely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buggify: Option<Drawn<f64>>,
}

/// `[chaos]`: each class is off in half of the seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Chaos {
    /// What may go wrong; everything if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<ChaosClass>>,
    /// From when until when. Left out: from 5 s until everything is mended, or until 35 s if
    /// `run.heal` does not say when that is.
    #[serde(deserialize_with = "window", skip_serializing_if = "Option::is_none")]
    pub window: Option<(Drawn<Duration>, Drawn<Duration>)>,
    /// How bad, from 0 to 1, drawn for each class on a logarithmic scale; `"0.1..1.0"` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensity: Option<Drawn<f64>>,
}

type Window = (Drawn<Duration>, Drawn<Duration>);

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Window>, D::Error> {
    drawn::pair(deserializer).map(Some)
}

/// `[run]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Run {
    /// When everything is mended: cuts, links, pauses, clocks, disks; the dead start. Clients
    /// change nothing from then on. `never`: what is broken stays broken. Left out: when the last
    /// fault is over, where one that does not say how long it lasts counts as 30 s; without any
    /// fault, 30 s before the end of the run, or in the middle of a run shorter than 60 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heal: Option<When>,
    /// End of the run, later than the healing; `heal + 30s` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<When>,
    /// Only some nodes are mended, and must agree among themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
}

/// TigerBeetle's second mode: a core works, everyone else stays as broken as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Liveness {
    /// Who: "random", nodes, or "any(3)".
    pub core: Nodes,
    /// What becomes of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<Others>,
}

/// What becomes of those who are not of the core.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Others {
    /// They stay in their faults.
    Frozen,
}

/// `[expect]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// By when all agree on the members: `"heal + 5s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership_agree: Option<When>,
    /// By when all agree on every topic: `"heal + 5s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookups_agree: Option<When>,
    /// How long changes take to reach everyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staleness: Option<Staleness>,
    /// A producer that is gone is listed no longer than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phantom_max: Option<Drawn<Duration>>,
    /// Live members declared down, while nothing worse than 5 % loss was active, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub false_down: Option<u64>,
    /// Traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_node_s: Option<Bytes>,
    /// Points of the code that some run must reach.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sometimes: Vec<Point>,
    /// A swarm of fewer runs need not reach them: rare points take many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sometimes_runs: Option<u64>,
}

/// How long changes take to reach everyone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Staleness {
    /// Half are faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<Drawn<Duration>>,
    /// One in a hundred is slower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<Drawn<Duration>>,
    /// The slowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Drawn<Duration>>,
    /// Which changes count: those made while no fault was active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Counted>,
}

/// Which changes count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Counted {
    /// Those made while no fault was active.
    FaultFree,
}

/// Bytes per node and second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bytes {
    /// On average, while idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<u64>,
    /// In the worst second but one in a hundred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<u64>,
}

/// `[broker]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Broker {
    /// What an acknowledgement promises; `kernel` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// Messages published per second, all nodes together; 20 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Drawn<f64>>,
    /// Share of them that are deferred; 0.1 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deferred: Option<Drawn<f64>>,
    /// Longest deferral; 2 s if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defer_max: Option<Drawn<Duration>>,
    /// Consumers of each channel; 2 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<Drawn<u64>>,
    /// Channels of each topic; 2 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Drawn<u64>>,
    /// Share of deliveries that are requeued; 0.05 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requeue: Option<Drawn<f64>>,
    /// Share of deliveries that are never answered; 0.02 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Drawn<f64>>,
    /// Time a consumer has to answer; 2 s if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg_timeout: Option<Drawn<Duration>>,
    /// Bytes of a message; 100 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<Drawn<u64>>,
}

/// `--durability`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Durability {
    /// Nothing but a clean stop is survived.
    Memory,
    /// `kill -9` is survived.
    Kernel,
    /// Lost power is survived.
    Fsync,
    /// One of the three, by luck.
    Any,
}

/// `[report]`: one axis and what is measured along it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Report {
    /// A key of this file that is a range, such as `fault.for`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// Figures, such as `converge.p99`.
    pub y: Vec<String>,
}

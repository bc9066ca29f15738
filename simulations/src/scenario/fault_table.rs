//! `[[fault]]` in a scenario file: one thing that goes wrong, or is done.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::drawn::{Drawn, Jump};
use crate::scenario::link_table::LinkFault;
use crate::scenario::nodes::Nodes;
use crate::scenario::partition_table::PartitionTable;
use crate::scenario::words::DiskWord;

/// When, for how long, at which nodes; and exactly one of the things that can happen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FaultTable {
    /// When it begins, from the start of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Drawn<Duration>>,
    /// Again and again, with this pause from beginning to beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Drawn<Duration>>,
    /// No repetition begins at or after this time. Left out: when everything is mended, if
    /// `run.heal` says when; or when chaos ends; or 30 s before `run.end`, if that is a time; or
    /// 60 s after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Drawn<Duration>>,
    /// How long it lasts. Left out: until everything is mended; if `run.heal` is left out too, it
    /// counts as 30 s.
    #[serde(rename = "for")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Drawn<Duration>>,
    /// At which nodes. For `link`: the links to and from them.
    #[serde(rename = "where")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Nodes>,
    /// It comes and goes while it lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flap: Option<Flap>,
    /// What people call it, in pages and reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Faults with one number are shown and removed together; left out: its place in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,

    /// Some nodes do not reach some others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionTable>,
    /// Nodes are cut off one by one, and come back in another order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swizzle: Option<Swizzle>,
    /// Links become worse, or better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkFault>,
    /// A clock jumps, or runs at a wrong rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// A process stands still: nothing is handled, its socket's buffer fills. A kill ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<AtNode>,
    /// A process is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
    /// A process is killed and started again after a moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// A node says goodbye and ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave: Option<Leave>,
    /// A node starts, if it does not run.
    #[serde(alias = "join")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<AtNode>,
    /// Every node is restarted, a few at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling_restart: Option<RollingRestart>,
    /// A disk misbehaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// A node handles its inputs slowly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_cpu: Option<SlowCpu>,
    /// A node speaks a version of the wire format that others do not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<Wire>,
    /// Every node in turn goes over to another version of the wire format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,
    /// Somebody sends random bytes and opens streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub junk: Option<Junk>,
    /// A node creates many topics at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<TopicBurst>,
    /// An operator hides a producer of a topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tombstone: Option<Tombstone>,
}

/// On and off again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flap {
    /// From one beginning to the next.
    pub period: Drawn<Duration>,
    /// Share of the period in which it is on, from 0 to 1; 0.5 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duty: Option<Drawn<f64>>,
}

/// Only which node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AtNode {
    /// Which; or say `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Nodes>,
}

/// Nodes cut off one by one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Swizzle {
    /// How many nodes; left out: half of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Drawn<u64>>,
    /// Pause from one to the next; 1 s if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Drawn<Duration>>,
}

/// What is wrong with a clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Clock {
    /// Which node; or say `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Nodes>,
    /// The wall clock jumps by this, at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jump: Option<Drawn<Jump>>,
    /// The monotonic clock runs at this rate while it lasts; 1.0 is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Drawn<f64>>,
}

/// A process killed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Crash {
    /// Which node; or say `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Nodes>,
    /// Time until it starts again, unless another fault starts it earlier. Left out: when
    /// everything is mended; if `run.heal` is left out too, it counts as 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Drawn<Duration>>,
    /// What it then finds: `keep` (all that was written), `power_loss` (what was synced, and some
    /// of the rest), `lose` (nothing), `old(2s)` (what was there 2 s ago), `clone(3)` (a copy of
    /// node 3's).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskWord>,
    /// It comes back at another address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moves: Option<bool>,
}

/// A process killed and started again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Restart {
    /// Which node; or say `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Nodes>,
    /// Time until it starts again; 0.1 s if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<Drawn<Duration>>,
    /// What it then finds; see `crash`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskWord>,
    /// It comes back at another address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moves: Option<bool>,
}

/// A node that leaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Leave {
    /// Which node; or say `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Nodes>,
    /// Time until it starts again; left out: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Drawn<Duration>>,
}

/// A restart of everything, a few at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RollingRestart {
    /// Nodes at once; 1 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Drawn<u64>>,
    /// From one batch to the next; 5 s if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Drawn<Duration>>,
    /// Time that each is down; 1 s if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<Drawn<Duration>>,
    /// They say goodbye (the default) or are killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graceful: Option<bool>,
}

/// What is wrong with a disk: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Disk {
    /// Which node; or say `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Nodes>,
    /// Each write takes this long to be durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Drawn<Duration>>,
    /// Writes fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<bool>,
    /// With this probability lost power leaves half of a write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<Drawn<f64>>,
    /// fsync returns, and nothing is durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsync_lies: Option<bool>,
}

/// A slow node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlowCpu {
    /// Which node; or say `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Nodes>,
    /// Time that each input takes.
    #[serde(alias = "per_message")]
    pub per_input: Drawn<Duration>,
}

/// Another version of the wire format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wire {
    /// Which node; or say `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Nodes>,
    /// Version byte.
    pub version: u8,
}

/// Another version of the wire format, node by node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upgrade {
    /// Version byte.
    pub version: u8,
    /// From one node to the next; 5 s if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Drawn<Duration>>,
}

/// Random bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Junk {
    /// To which node; or say `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Nodes>,
    /// Datagrams and connections per second.
    pub per_second: Drawn<f64>,
}

/// Many topics at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopicBurst {
    /// Which node; or say `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Nodes>,
    /// Topics.
    pub topics: Drawn<u64>,
    /// Channels of each, all ephemeral; none if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Drawn<u64>>,
    /// Deletes them again after this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_after: Option<Drawn<Duration>>,
}

/// A producer hidden.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tombstone {
    /// Node that is asked.
    pub at: Nodes,
    /// Node whose topic is hidden.
    pub of: Nodes,
    /// Number of the topic.
    pub topic: Drawn<u64>,
}

impl FaultTable {
    /// The keys of the things that happen; one is right.
    pub(crate) fn actions(&self) -> Vec<&'static str> {
        [
            ("partition", self.partition.is_some()),
            ("swizzle", self.swizzle.is_some()),
            ("link", self.link.is_some()),
            ("clock", self.clock.is_some()),
            ("pause", self.pause.is_some()),
            ("crash", self.crash.is_some()),
            ("restart", self.restart.is_some()),
            ("leave", self.leave.is_some()),
            ("start", self.start.is_some()),
            ("rolling_restart", self.rolling_restart.is_some()),
            ("disk", self.disk.is_some()),
            ("slow_cpu", self.slow_cpu.is_some()),
            ("wire", self.wire.is_some()),
            ("upgrade", self.upgrade.is_some()),
            ("junk", self.junk.is_some()),
            ("burst", self.burst.is_some()),
            ("tombstone", self.tombstone.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, is_there)| is_there.then_some(key))
        .collect()
    }

    /// The nodes that the thing itself names, if it is one that happens to nodes.
    pub(crate) fn node(&self) -> Option<&Nodes> {
        let inner = (self.pause.as_ref().or(self.start.as_ref()))
            .map(|at| at.node.as_ref())
            .or_else(|| self.clock.as_ref().map(|c| c.node.as_ref()))
            .or_else(|| self.crash.as_ref().map(|c| c.node.as_ref()))
            .or_else(|| self.restart.as_ref().map(|c| c.node.as_ref()))
            .or_else(|| self.leave.as_ref().map(|c| c.node.as_ref()))
            .or_else(|| self.disk.as_ref().map(|c| c.node.as_ref()))
            .or_else(|| self.slow_cpu.as_ref().map(|c| c.node.as_ref()))
            .or_else(|| self.wire.as_ref().map(|c| c.node.as_ref()))
            .or_else(|| self.junk.as_ref().map(|c| c.node.as_ref()))
            .or_else(|| self.burst.as_ref().map(|c| c.node.as_ref()));
        inner.flatten()
    }

    /// Whether it is a partition that heals in steps.
    pub(crate) fn is_staged(&self) -> bool {
        matches!(&self.partition, Some(PartitionTable::Shape(shape)) if shape.staged.is_some())
    }

    /// Whether it happens to a node, so that a node must be named.
    pub(crate) fn needs_node(&self) -> bool {
        self.actions().first().is_some_and(|action| {
            !["partition", "swizzle", "link", "rolling_restart", "upgrade", "tombstone"]
                .contains(action)
        })
    }
}

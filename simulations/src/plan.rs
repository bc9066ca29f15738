//! A scenario with nothing left open: what [`World`](crate::World) executes.
//!
//! A scenario may say "3 to 9 nodes" or "some faults"; a [`Plan`] is what one seed made of it. All
//! indices are of nodes, all times count from the start of the run. Removing a fault, a node's
//! traffic or a topic from a plan changes nothing else: every random choice of a run is keyed by
//! what it is about, not drawn from one stream (see [`crate::luck`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the scenario.
    pub name: String,
    /// Key of all luck in the run: network, disks, clocks, workload, nodes.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// Nodes whose addresses everyone is given as seeds.
    pub seeds: Vec<usize>,
    /// When each node first starts; `None`: a fault starts it. Indexed by node.
    pub starts: Vec<Option<Duration>>,
    /// Nodes that were given another cluster's name.
    pub strangers: Vec<usize>,
    /// Names of regions and the nodes in them, for display and links.
    pub regions: Vec<(String, Vec<usize>)>,
    /// Protocol parameters that are not the default.
    pub knobs: Knobs,
    /// Every link, unless a rule or a fault says otherwise.
    pub link: Link,
    /// Links with another quality; the last that matches counts.
    pub link_rules: Vec<LinkRule>,
    /// Topics that the workload draws from: `t000`, `t001`, ...
    pub topics: usize,
    /// What the nodes' clients do.
    pub workload: Workload,
    /// Faults, by time of beginning.
    pub faults: Vec<TimedFault>,
    /// When everything is mended: cuts, links, pauses, clocks' rates, disks; dead nodes that did
    /// not leave for good start. `None`: what is broken stays broken (safety only).
    pub heal_at: Option<Duration>,
    /// Liveness mode: these nodes are healed at `heal_at` and must agree on themselves, all others
    /// stay in their faults for ever.
    pub core: Option<Vec<usize>>,
    /// End of the run.
    pub end: Duration,
    /// Whether nodes also run brokers, and what is done to them.
    pub broker: Option<BrokerPlan>,
    /// What must be true beyond the invariants that always hold.
    pub expect: Expect,
}

impl Plan {
    /// Whether two processes may have one node's disk.
    pub(crate) fn has_clones(&self) -> bool {
        let mut faults = self.faults.iter().map(|timed| &timed.fault);
        faults.any(|it| matches!(it, Fault::Crash { disk: DiskFate::CloneOf(_), .. }))
    }
}

/// A fault and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimedFault {
    /// Beginning.
    pub at: Duration,
    /// How long; `None`: until everything is mended, or at once if it is an event.
    pub lasts: Option<Duration>,
    /// What.
    pub fault: Fault,
    /// Faults of one cause (a flapping link, a rolling restart) carry one number, so that they can
    /// be shown and removed together.
    pub group: u32,
    /// What people call it: `halves`, `swizzle`, `rolling restart`.
    pub label: String,
}

/// Something that goes wrong, or is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Some nodes do not reach some others. Lasts.
    Partition(Partition),
    /// The links from these to those nodes are of this quality, in this direction. Lasts.
    Link {
        /// Senders; empty: all.
        from: Vec<usize>,
        /// Receivers; empty: all.
        to: Vec<usize>,
        /// How the links are meanwhile.
        link: Link,
    },
    /// The process is killed, and started again after a while or never (before the healing).
    Crash {
        /// Which.
        node: usize,
        /// Time until it starts again.
        restart: Option<Duration>,
        /// What it then finds on its disk.
        disk: DiskFate,
        /// It comes back at another address.
        moves: bool,
    },
    /// The node starts, if it does not run.
    Start {
        /// Which.
        node: usize,
    },
    /// The node says goodbye and ends.
    Leave {
        /// Which.
        node: usize,
        /// Time until it starts again.
        restart: Option<Duration>,
    },
    /// The process does not run: its timers stand still, its socket's buffer fills. Lasts.
    Pause {
        /// Which.
        node: usize,
    },
    /// Every input takes this long to handle. Lasts.
    SlowCpu {
        /// Which.
        node: usize,
        /// Time for each input.
        per_input: Duration,
    },
    /// The clocks of a node go wrong.
    Clock {
        /// Which.
        node: usize,
        /// The wall clock jumps by this many ms, at once.
        wall_jump_ms: i64,
        /// The monotonic clock runs at this rate while it lasts; 1.0 is right.
        rate: f64,
    },
    /// The disk misbehaves. Lasts.
    Disk {
        /// Of which node.
        node: usize,
        /// How.
        trouble: DiskTrouble,
    },
    /// The node speaks this version of the wire format, which others do not know. Lasts.
    Wire {
        /// Which.
        node: usize,
        /// Version byte.
        version: u8,
    },
    /// Somebody sends random bytes and opens streams. Lasts.
    Junk {
        /// To which node.
        node: usize,
        /// Datagrams and connections per second.
        per_second: f64,
    },
    /// The node's operator creates this many topics at once (`n000`, ...), each with channels.
    Burst {
        /// Which node.
        node: usize,
        /// Topics.
        topics: usize,
        /// Channels of each; they are ephemeral.
        channels: usize,
        /// Deletes them again after this long.
        delete_after: Option<Duration>,
    },
    /// The node's operator asks to hide a producer of a topic, or all nodes' topic is deleted:
    /// what `/topic/tombstone` does at node `at` about node `of`.
    Tombstone {
        /// Node that is asked.
        at: usize,
        /// Node whose topic is hidden.
        of: usize,
        /// Number of the topic.
        topic: usize,
    },
}

impl Fault {
    /// Every kind of fault, as [`class`](Self::class) names it.
    pub const CLASSES: [&'static str; 13] = [
        "partition",
        "link",
        "crash",
        "start",
        "leave",
        "pause",
        "slow_cpu",
        "clock",
        "disk",
        "wire",
        "junk",
        "burst",
        "tombstone",
    ];

    /// What kind of fault it is, as it is called in scenarios.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Partition(_) => "partition",
            Self::Link { .. } => "link",
            Self::Crash { .. } => "crash",
            Self::Start { .. } => "start",
            Self::Leave { .. } => "leave",
            Self::Pause { .. } => "pause",
            Self::SlowCpu { .. } => "slow_cpu",
            Self::Clock { .. } => "clock",
            Self::Disk { .. } => "disk",
            Self::Wire { .. } => "wire",
            Self::Junk { .. } => "junk",
            Self::Burst { .. } => "burst",
            Self::Tombstone { .. } => "tombstone",
        }
    }
}

/// Who does not reach whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partition {
    /// Groups that do not reach each other; nodes in none of them form one more.
    Split(Vec<Vec<usize>>),
    /// What the first send does not reach the second.
    Oneway {
        /// Senders.
        from: Vec<usize>,
        /// Who does not hear them.
        to: Vec<usize>,
    },
    /// Two sides that only the bridge reaches, both.
    Bridge {
        /// The node between.
        bridge: usize,
        /// One side; the other is everyone else.
        side: Vec<usize>,
    },
    /// Each node reaches only this many neighbours to each side, in a ring of all nodes.
    Ring {
        /// Neighbours to each side.
        reach: usize,
    },
    /// Each node reaches its predecessor and its successor only.
    Chain,
    /// All reach the hub and nobody else.
    Star {
        /// The hub.
        hub: usize,
    },
    /// These links are cut, in both directions.
    Links(Vec<(usize, usize)>),
}

/// What a restarted process finds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFate {
    /// What a crash of the process leaves: everything written.
    Keep,
    /// What lost power leaves: what was synced, and some of the rest.
    PowerLoss,
    /// Nothing: it is a new node at the old address.
    Lose,
    /// What it held this long ago.
    Old(Duration),
    /// A copy of another node's.
    CloneOf(usize),
}

/// How a disk misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskTrouble {
    /// Each write takes this long to be durable.
    Slow(Duration),
    /// Writes fail.
    Full,
    /// With this probability lost power leaves half of a write.
    Torn(f64),
    /// fsync returns, nothing is durable.
    FsyncLies,
}

/// How good a link is. Probabilities are of each datagram, from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// It is lost.
    pub loss: f64,
    /// Loss in bursts, beside `loss`.
    pub burst: Option<Burst>,
    /// One way.
    pub delay: Delay,
    /// It arrives twice.
    pub dup: f64,
    /// It arrives later than what was sent after it.
    pub reorder: f64,
    /// By up to this much; minutes are allowed.
    pub reorder_by: Duration,
    /// One of its bits is flipped.
    pub corrupt: f64,
    /// Its end is missing.
    pub truncate: f64,
    /// Bytes per second.
    pub rate: Option<u64>,
    /// Datagrams that may wait where `rate` is set; more are lost.
    pub queue: usize,
    /// Datagrams with a larger payload are lost.
    pub mtu: Option<usize>,
    /// The receiver sees another source address than the sender tells (address translation).
    #[serde(default)]
    pub nat: bool,
}

impl Link {
    /// A quiet LAN: 0.1 ms and an exponential rest of 0.3 ms on average, nothing lost.
    pub const LAN: Self = Self {
        loss: 0.0,
        burst: None,
        delay: Delay::Exp { min: Duration::from_micros(100), mean: Duration::from_micros(300) },
        dup: 0.0,
        reorder: 0.0,
        reorder_by: Duration::ZERO,
        corrupt: 0.0,
        truncate: 0.0,
        rate: None,
        queue: 1_000,
        mtu: None,
        nat: false,
    };
}

/// A link that is sometimes bad for a while (Gilbert-Elliott).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    /// Probability per datagram that the bad time begins.
    pub enter: f64,
    /// Probability per datagram that it ends.
    pub exit: f64,
    /// Loss while it lasts.
    pub loss: f64,
}

/// How long a datagram takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delay {
    /// Always this long.
    Const(Duration),
    /// Between these.
    Uniform(Duration, Duration),
    /// At least `min`, and an exponential rest.
    Exp {
        /// Least.
        min: Duration,
        /// Average of the rest.
        mean: Duration,
    },
    /// Lognormal.
    Lognormal {
        /// Half are faster.
        median: Duration,
        /// One in a hundred is slower.
        p99: Duration,
    },
    /// Heavy tail.
    Pareto {
        /// Least.
        min: Duration,
        /// Shape; the smaller, the heavier the tail. Delays are cut at 10 s.
        alpha: f64,
    },
    /// Mostly one, sometimes the other.
    Bimodal {
        /// The usual one.
        fast: Duration,
        /// The other.
        slow: Duration,
        /// How likely the other is.
        p_slow: f64,
    },
}

/// Links from some nodes to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkRule {
    /// Senders.
    pub from: Vec<usize>,
    /// Receivers.
    pub to: Vec<usize>,
    /// In both directions.
    pub both: bool,
    /// How they are.
    pub link: Link,
}

/// Protocol parameters; `None`: the default of [`grapevine_gossip::config::Timings`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Knobs {
    /// See [`grapevine_gossip::config::Timings`], here and below.
    pub probe_period: Option<Duration>,
    /// How long a probed member has.
    pub probe_rtt: Option<Duration>,
    /// How long a suspect has to object.
    pub suspicion: Option<Duration>,
    /// Pause between rounds of rumours.
    pub spread_period: Option<Duration>,
    /// Pause between digests.
    pub digest_period: Option<Duration>,
    /// Pause between attempts to reach the dead.
    pub reconnect_period: Option<Duration>,
    /// How long deletions are remembered.
    pub deletions_kept: Option<Duration>,
    /// How long the sections of the dead are kept.
    pub detached_kept: Option<Duration>,
    /// How likely a `buggify!` site is armed in this run; it then fires with the same probability.
    pub buggify: f64,
}

/// What the nodes' clients do, all nodes together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Registrations and deletions per second.
    pub churn: f64,
    /// Share of them that are registrations.
    pub register: f64,
    /// Share of them that come as several in one instant: register, unregister, register again.
    pub bursts: f64,
    /// Channels per topic that churn draws from.
    pub channels: usize,
    /// `/lookup`s per second, at random nodes; each is checked.
    pub lookups: f64,
    /// Foreign producers (stock nsqds that register over TCP) per node.
    pub foreign: usize,
    /// Every node registers this many topics at its start.
    pub initial: usize,
}

/// Brokers in the simulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrokerPlan {
    /// `--durability`: `memory`, `kernel` or `fsync`.
    pub durability: String,
    /// Messages published per second, all nodes together.
    pub publish: f64,
    /// Share of them with a deferral.
    pub deferred: f64,
    /// Longest deferral.
    pub defer_max: Duration,
    /// Consumers of each channel.
    pub consumers: usize,
    /// Channels of each topic.
    pub channels: usize,
    /// Share of deliveries that are requeued.
    pub requeue: f64,
    /// Share of deliveries that are never answered.
    pub timeout: f64,
    /// `--msg-timeout`.
    pub msg_timeout: Duration,
    /// Bytes of a message.
    pub body_bytes: usize,
}

/// What a scenario promises beyond the invariants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expect {
    /// Everyone agrees on the members this long after the healing.
    pub membership_agree: Option<Duration>,
    /// ... and on every topic.
    pub lookups_agree: Option<Duration>,
    /// Changes made while nothing was wrong reach all within this: p50, p99, longest.
    pub staleness_p50: Option<Duration>,
    /// One in a hundred takes longer.
    pub staleness_p99: Option<Duration>,
    /// The longest.
    pub staleness_max: Option<Duration>,
    /// A producer that is gone is listed no longer than this.
    pub phantom_max: Option<Duration>,
    /// Live members declared down while no fault heavier than 5 % loss was active: at most.
    pub false_down: Option<u64>,
    /// Bytes per node and second, on average while idle.
    pub bytes_idle: Option<u64>,
    /// ... and in the worst second but one in a hundred.
    pub bytes_p99: Option<u64>,
    /// Points of the code that some run must reach; see [`crate::coverage`].
    pub sometimes: Vec<String>,
    /// ... if there are at least this many runs.
    pub sometimes_runs: u64,
}

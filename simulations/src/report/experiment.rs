//! What is done to a cluster so that a figure can be measured.

use std::time::Duration;

use super::observer::{Observer, Readings, Wanted};
use crate::execute::execute;
use crate::luck;
use crate::outcome::Violation;
use crate::plan::{DiskFate, Expect, Fault, Knobs, Link, Partition, Plan, TimedFault, Workload};

/// Topics that clients draw from.
const TOPICS: usize = 1_000;

/// Topics that each node has from its start; of more than 300 nodes, one: each node holds the
/// topics of all others, and all nodes are in one process.
const INITIAL: usize = 10;

/// Changes per second in the whole cluster, where there are any.
const CHURN: f64 = 10.0;

/// Topics that are made at once.
const BURST: usize = 1_000;

/// A fault begins at some moment of this time, so at any phase of the nodes' periods.
const PHASE_MS: u64 = 2_000;

/// How far behind a datagram that is overtaken may fall where the network is bad.
const REORDER_BY: Duration = Duration::from_millis(100);

/// One way to treat a cluster.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Experiment {
    /// Topics and channels come and go.
    Change,
    /// The same while 5 % of all datagrams are lost, 5 % arrive twice and 5 % are overtaken.
    Loss5,
    /// The same with 20 % lost.
    Loss20,
    /// One node makes 1000 topics at once.
    Burst,
    /// All nodes start in one instant; nothing else happens.
    ColdStart,
    /// Nodes join one by one.
    Join,
    /// Nodes leave one by one, and come back.
    Leave,
    /// Processes are killed one by one, and started again.
    Kill,
    /// Nodes hang or are cut off, in turns.
    Hang,
    /// Two halves do not reach each other for 20 s, while things change on both sides.
    Heal,
}

impl Experiment {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Change,
        Self::Loss5,
        Self::Loss20,
        Self::Burst,
        Self::ColdStart,
        Self::Join,
        Self::Leave,
        Self::Kill,
        Self::Hang,
        Self::Heal,
    ];

    /// What it is called in progress lines and file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Loss5 => "loss5",
            Self::Loss20 => "loss20",
            Self::Burst => "burst",
            Self::ColdStart => "cold-start",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Heal => "heal",
        }
    }

    /// Runs that give a steady 99th percentile; of a thousand nodes, as many as time allows.
    pub const fn runs(self, nodes: usize) -> u64 {
        let (few, many, most) = match self {
            Self::Change | Self::Loss20 => (20, 5, 1),
            // One node-day each, since a false alarm is counted per node-day.
            Self::Loss5 => (144, 15, 2),
            Self::Burst => (100, 20, 2),
            Self::ColdStart => (200, 30, 2),
            Self::Join => (200, 20, 1),
            Self::Leave => (40, 15, 1),
            Self::Kill => (40, 15, 1),
            Self::Hang => (40, 12, 1),
            Self::Heal => (200, 20, 1),
        };
        match nodes {
            0..=30 => few,
            31..=300 => many,
            _ => most,
        }
    }

    /// One run of it.
    pub fn plan(self, nodes: usize, seed: u64) -> Plan {
        let quiet = quiet(nodes);
        let mut plan = cluster(self, nodes, seed);
        let (count, pause, lasts) = self.events(nodes);
        let churn = Workload { churn: CHURN, register: 0.5, channels: 2, ..plan.workload.clone() };
        match self {
            Self::Change | Self::Loss5 | Self::Loss20 => {
                plan.workload = churn;
                plan.end = quiet + Duration::from_secs(60);
                let loss = match self {
                    Self::Loss5 => 0.05,
                    Self::Loss20 => 0.2,
                    _ => return plan,
                };
                let (dup, reorder) = (0.05, 0.05);
                plan.link = Link { loss, dup, reorder, reorder_by: REORDER_BY, ..Link::LAN };
            }
            Self::ColdStart => plan.end = Duration::from_secs(40),
            Self::Join => {
                plan.nodes += count;
                plan.starts.resize(plan.nodes, None);
            }
            Self::Heal => {
                plan.workload = churn;
                plan.heal_at = Some(at(&plan, 0) + lasts);
            }
            Self::Burst | Self::Leave | Self::Kill | Self::Hang => {}
        }
        for number in 0..count {
            let fault = self.fault(number, nodes, seed, lasts);
            let is_state = matches!(fault, Fault::Pause { .. } | Fault::Partition(_));
            plan.faults.push(TimedFault {
                at: at(&plan, number as u64) + pause * number as u32,
                lasts: is_state.then_some(lasts),
                fault,
                group: number as u32,
                label: self.name().to_owned(),
            });
        }
        if let Some(last) = plan.faults.last() {
            plan.end = last.at + lasts.max(pause).max(Duration::from_secs(10));
        }
        if let Some(heal) = plan.heal_at {
            plan.end = heal + Duration::from_secs(30);
        }
        plan
    }

    /// How many faults in one run, the pause between them, and how long each lasts.
    const fn events(self, nodes: usize) -> (usize, Duration, Duration) {
        let s = Duration::from_secs;
        let is_large = is_large(nodes);
        match self {
            Self::Change | Self::Loss5 | Self::Loss20 | Self::ColdStart => (0, s(0), s(0)),
            Self::Burst => (1, s(0), s(0)),
            Self::Join if nodes <= 30 => (1, s(0), s(0)),
            Self::Join => (5, s(4), s(0)),
            Self::Leave => (5, s(8), s(5)),
            Self::Kill if is_large => (6, s(11), s(8)),
            Self::Kill => (10, s(11), s(8)),
            Self::Hang if is_large => (3, s(20), s(10)),
            Self::Hang => (6, s(20), s(10)),
            Self::Heal => (1, s(0), s(20)),
        }
    }

    fn fault(self, number: usize, nodes: usize, seed: u64, lasts: Duration) -> Fault {
        let draw = luck::key(seed, "report node", &[number as u64]);
        // Node 0 stays: it is a seed, so that whoever comes back finds somebody.
        let node = 1 + (draw % (nodes as u64 - 1)) as usize;
        let restart = Some(lasts);
        match self {
            Self::Burst => Fault::Burst { node, topics: BURST, channels: 0, delete_after: None },
            Self::Join => Fault::Start { node: nodes + number },
            Self::Leave => Fault::Leave { node, restart },
            Self::Hang if number.is_multiple_of(2) => Fault::Pause { node },
            Self::Hang => Fault::Partition(Partition::Split(vec![vec![node]])),
            Self::Heal => Fault::Partition(Partition::Split(vec![(0..nodes / 2).collect()])),
            Self::Change | Self::Loss5 | Self::Loss20 | Self::ColdStart | Self::Kill => {
                Fault::Crash { node, restart, disk: DiskFate::Keep, moves: false }
            }
        }
    }

    /// Does it once and measures. A broken rule ends the run early.
    pub(super) fn measure(self, plan: &Plan) -> (Readings, Option<Violation>) {
        let nodes = plan.starts.iter().flatten().count();
        let together_since = match self {
            Self::ColdStart => Some(Duration::ZERO),
            _ => plan.heal_at,
        };
        let mut observer = Observer::new(plan, Wanted { quiet: quiet(nodes), together_since });
        let outcome = execute(plan, Some(&mut observer));
        let mut readings = observer.into_readings();
        let settled = 2 * quiet(nodes).as_secs() as usize;
        let bytes = outcome.stats.bytes_by_second.iter().skip(settled);
        readings.bytes = bytes.map(|&bytes| f64::from(bytes)).collect();
        (readings, outcome.violation)
    }
}

/// Two halves of a cluster that do not reach each other for a time, while things change on both
/// sides; 30 s for everything that follows. For measurements of the simulator.
pub fn partition(nodes: usize, seed: u64, lasts: Duration) -> Plan {
    let mut plan = Experiment::Heal.plan(nodes, seed);
    for timed in &mut plan.faults {
        timed.lasts = Some(lasts);
        plan.heal_at = Some(timed.at + lasts);
        plan.end = timed.at + lasts + Duration::from_secs(30);
    }
    plan
}

/// Time in which a cluster comes to rest before anything is measured.
const fn quiet(nodes: usize) -> Duration {
    Duration::from_secs(if is_large(nodes) { 15 } else { 10 })
}

/// Whether a run takes so long that there can only be few.
const fn is_large(nodes: usize) -> bool {
    nodes > 300
}

/// When fault number `number` begins at the earliest, at any phase of the nodes' periods.
fn at(plan: &Plan, number: u64) -> Duration {
    let phase = luck::key(plan.seed, "report phase", &[number]) % PHASE_MS;
    quiet(plan.nodes) + Duration::from_millis(phase)
}

/// A cluster at rest on a quiet LAN.
fn cluster(experiment: Experiment, nodes: usize, seed: u64) -> Plan {
    Plan {
        name: format!("report-{}-{nodes}", experiment.name()),
        seed,
        nodes,
        seeds: vec![0, 1],
        starts: vec![Some(Duration::ZERO); nodes],
        strangers: Vec::new(),
        regions: Vec::new(),
        knobs: Knobs::default(),
        link: Link::LAN,
        link_rules: Vec::new(),
        topics: TOPICS,
        workload: Workload {
            initial: if is_large(nodes) { 1 } else { INITIAL },
            ..Workload::default()
        },
        faults: Vec::new(),
        heal_at: None,
        core: None,
        end: quiet(nodes) + Duration::from_secs(10),
        broker: None,
        expect: Expect::default(),
    }
}

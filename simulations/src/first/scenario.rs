//! What happens to a simulated cluster, decided by a few numbers and a seed.

use std::time::Duration;

use grapevine_gossip::config::Timings;
use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::first::network::Quality;

/// Something that happens to the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Two sides that do not reach each other; `true`: the node is on the first.
    Partition(Vec<bool>),
    /// What the first sends does not reach the second.
    OneWay(usize, usize),
    /// The process is killed.
    Crash(usize),
    /// The node says goodbye and ends.
    Leave(usize),
    /// A node that is not running starts.
    Start(usize),
    /// The process does not run for a while.
    Stall(usize, Duration),
    /// All links work again.
    Heal,
}

/// A cluster, what is done to it, and for how long.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Number of nodes.
    pub nodes: usize,
    /// Time in which faults happen.
    pub chaos: Duration,
    /// Time after all faults are over, in which everyone must come to agree.
    pub quiet: Duration,
    /// Average pause between faults.
    pub fault_pause: Duration,
    /// Average pause between changes of topics and channels, cluster-wide.
    pub change_pause: Duration,
    /// The network during the chaos; afterwards it is good.
    pub quality: Quality,
    /// How likely a restart finds an old disk and a clock that is off.
    pub rollbacks: f64,
    /// Periods and bounds of the nodes.
    pub timings: Timings,
    /// Faults at given times instead of random ones.
    pub script: Option<Vec<(Duration, Fault)>>,
}

impl Scenario {
    /// Nothing goes wrong.
    pub fn calm(nodes: usize) -> Self {
        Self {
            nodes,
            chaos: Duration::from_secs(10),
            quiet: Duration::from_secs(5),
            fault_pause: Duration::from_secs(3600),
            change_pause: Duration::from_millis(200),
            quality: Quality::GOOD,
            rollbacks: 0.0,
            timings: Timings::default(),
            script: Some(Vec::new()),
        }
    }

    /// Everything goes wrong, differently with each seed: each kind of trouble is off in half of
    /// the runs, so that some are left with one kind alone.
    pub fn storm(nodes: usize, rng: &mut Xoshiro256PlusPlus) -> Self {
        let mut sometimes = |max: f64| {
            let value = rng.random_range(0.0..max);
            if rng.random_bool(0.5) { value } else { 0.0 }
        };
        let quality = Quality {
            loss: sometimes(0.2),
            duplicates: sometimes(0.2),
            late: sometimes(0.1),
            late_max: Duration::from_millis(2000),
        };
        let rollbacks = sometimes(0.5);
        Self {
            nodes,
            rollbacks,
            chaos: Duration::from_secs(40),
            quiet: Duration::from_secs(30),
            fault_pause: Duration::from_secs_f64(rng.random_range(1.0..8.0)),
            change_pause: Duration::from_millis(rng.random_range(50..800)),
            quality,
            // Short enough that deletions are forgotten while somebody is away.
            timings: Timings {
                deletions_kept: Duration::from_secs(rng.random_range(1..15)),
                detached_kept: Duration::from_secs(rng.random_range(5..30)),
                ..Timings::default()
            },
            script: None,
        }
    }

    /// A random fault; `is_running` says of each node whether its process runs.
    pub fn draw(&self, is_running: &[bool], rng: &mut Xoshiro256PlusPlus) -> Fault {
        let node = rng.random_range(0..self.nodes);
        let other = (node + rng.random_range(1..self.nodes.max(2))) % self.nodes;
        match rng.random_range(0..10) {
            0 | 1 => Fault::Partition((0..self.nodes).map(|_| rng.random_bool(0.5)).collect()),
            2 => Fault::OneWay(node, other),
            3 | 4 if is_running[node] => Fault::Crash(node),
            5 if is_running[node] => Fault::Leave(node),
            6 => Fault::Stall(node, Duration::from_secs_f64(rng.random_range(0.2..8.0))),
            7 => Fault::Heal,
            _ => Fault::Start(is_running.iter().position(|&runs| !runs).unwrap_or(node)),
        }
    }
}

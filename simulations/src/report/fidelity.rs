//! Real processes beside the simulator: the same things happen to both, and the times compared.
//!
//! The example `fidelity` measures real ones and writes [`Measured`]. [`compare`] lets the world
//! do the same to as many nodes over links as fast as that machine's, and says how far the two
//! are apart. A model that is off by more than [`DIFFERENCE_MAX`] says nothing about reality.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::{
    Delay, DiskFate, Expect, Fault, Knobs, Link, Partition, Plan, TimedFault, Workload,
};
use crate::trace::{Detail, Record, Recorder, What};
use crate::world::World;

/// Largest difference of the medians, as a share of the simulator's.
pub const DIFFERENCE_MAX: f64 = 0.25;

/// Differences of at most this are not seen: asking six processes over HTTP in turns takes as long.
const MEASURING: f64 = 0.010;

/// Runs of each thing that give a steady median.
pub const RUNS: u64 = 400;

/// When the fault begins, at the earliest; the cluster is long at rest.
const QUIET: Duration = Duration::from_secs(15);

/// The fault begins at some moment of this time, so at any phase of the nodes' periods.
const PHASES_MS: u64 = 2_000;

/// How long halves are apart and frozen nodes frozen, as with real ones.
const LASTS: Duration = Duration::from_secs(9);

/// Time for everything that follows.
const REST: Duration = Duration::from_secs(20);

/// What was measured with real processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Nodes in the cluster.
    pub nodes: usize,
    /// What a datagram takes from process to process and to its task there, in microseconds.
    pub delay_us: u64,
    /// The measurements.
    pub series: Vec<Series>,
}

/// Times of one thing in one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// `change`, `kill`, `freeze`, `thaw` or `heal`.
    pub what: String,
    /// `loopback` or `namespaces`.
    pub place: String,
    /// The times, in seconds.
    pub seconds: Vec<f64>,
}

/// One thing, real and simulated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What happened.
    pub what: String,
    /// Where the real nodes were.
    pub place: String,
    /// Times of real nodes.
    pub real: Spread,
    /// Times of simulated nodes.
    pub simulated: Spread,
    /// Median of the real ones less that of the simulated, as a share of the latter.
    pub difference: f64,
    /// Whether that is at most [`DIFFERENCE_MAX`], or less than measuring takes.
    pub is_within: bool,
}

/// How times are spread, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Number of times.
    pub count: usize,
    /// One in ten is shorter.
    pub p10: f64,
    /// Half are shorter.
    pub p50: f64,
    /// Nine in ten are shorter.
    pub p90: f64,
}

impl Spread {
    /// Of these times; `None` of none.
    pub fn of(seconds: &[f64]) -> Option<Self> {
        let mut sorted = seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted.get((sorted.len().checked_sub(1)?) * percent / 100);
        Some(Self { count: sorted.len(), p10: *at(10)?, p50: *at(50)?, p90: *at(90)? })
    }
}

/// Simulates what was measured, `runs` times each. What cannot be simulated is left out.
pub fn compare(measured: &Measured, runs: u64) -> Vec<Row> {
    let mut simulated: BTreeMap<&str, Option<Spread>> = BTreeMap::new();
    let rows = measured.series.iter().filter_map(|series| {
        let simulated = *simulated
            .entry(&series.what)
            .or_insert_with(|| Spread::of(&simulate(&series.what, measured, runs)));
        let (real, simulated) = (Spread::of(&series.seconds)?, simulated?);
        let apart = real.p50 - simulated.p50;
        let difference = apart / simulated.p50;
        let is_within = difference.abs() <= DIFFERENCE_MAX || apart.abs() <= MEASURING;
        let (what, place) = (series.what.clone(), series.place.clone());
        Some(Row { what, place, real, simulated, difference, is_within })
    });
    rows.collect()
}

/// The rows as a table for people.
pub fn table(rows: &[Row]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    let spread = |s: &Spread| format!("{:.3} / {:.3} / {:.3} s", s.p10, s.p50, s.p90);
    table.set_header(["what", "where", "real p10 / p50 / p90", "simulated", "p50 differs by", ""]);
    for row in rows {
        let verdict = if row.is_within { "ok" } else { "TOO FAR" };
        table.add_row([
            format!("{} ({} times)", meaning(&row.what), row.real.count),
            row.place.clone(),
            spread(&row.real),
            spread(&row.simulated),
            format!("{:+.0} %", 100.0 * row.difference),
            verdict.to_owned(),
        ]);
    }
    table.to_string()
}

pub(super) fn meaning(what: &str) -> &str {
    match what {
        "change" => "a new topic, until all nodes answer with it",
        "kill" => "kill -9, until nobody lists the node",
        "freeze" => "SIGSTOP, until nobody lists the node",
        "thaw" => "SIGCONT, until all list all",
        "heal" => "partition of halves healed, until all list all",
        other => other,
    }
}

/// Times of `what` in `runs` runs.
fn simulate(what: &str, measured: &Measured, runs: u64) -> Vec<f64> {
    let mut times = Vec::new();
    for seed in 0..runs {
        let Some(plan) = plan(what, measured, seed) else { break };
        let mut watch = Watch::new(what, measured.nodes);
        let _ = World::new(&plan).run(Some(&mut watch));
        times.append(&mut watch.seconds);
    }
    times
}

/// A cluster at rest to which `what` happens.
fn plan(what: &str, measured: &Measured, seed: u64) -> Option<Plan> {
    let nodes = measured.nodes;
    let node = 1 + usize::try_from(seed).unwrap_or(0) % (nodes - 1);
    let (before, after) = ((0..nodes / 2).collect(), (nodes / 2..nodes).collect());
    let fault = match what {
        "change" => None,
        "kill" => Some(Fault::Crash { node, restart: None, disk: DiskFate::Keep, moves: false }),
        "freeze" | "thaw" => Some(Fault::Pause { node }),
        "heal" => Some(Fault::Partition(Partition::Split(vec![before, after]))),
        _ => return None,
    };
    let churn = if fault.is_none() { 0.5 } else { 0.0 };
    let phase = crate::luck::key(seed, "fidelity", &[]) % PHASES_MS;
    let at = QUIET + Duration::from_millis(phase);
    let lasts = (what != "kill").then_some(LASTS + Duration::from_millis(phase / 2));
    let faults = fault.into_iter().map(|fault| {
        let label = what.to_owned();
        TimedFault { at, lasts, fault, group: 0, label }
    });
    let delay = Delay::Const(Duration::from_micros(measured.delay_us));
    Some(Plan {
        name: format!("fidelity-{what}"),
        seed,
        nodes,
        seeds: vec![0, 1],
        starts: vec![Some(Duration::ZERO); nodes],
        strangers: Vec::new(),
        regions: Vec::new(),
        knobs: Knobs::default(),
        link: Link { delay, ..Link::LAN },
        link_rules: Vec::new(),
        topics: 1_000,
        workload: Workload { churn, register: 1.0, initial: 1, ..Workload::default() },
        faults: faults.collect(),
        heal_at: None,
        core: None,
        end: at + LASTS + REST,
        broker: None,
        expect: Expect::default(),
    })
}

/// Watches a run for the moment at which all agree on what happened.
struct Watch {
    what: Wanted,
    /// `lists[a][b]`: node `a` holds node `b` active.
    lists: Vec<Vec<bool>>,
    /// When it happened, in ns; none before and after.
    since: Option<u64>,
    /// Writes not yet known to all: owner, version, when, who does not know it.
    unknown: Vec<(usize, u64, u64, Vec<usize>)>,
    seconds: Vec<f64>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Wanted {
    Change,
    Gone(Option<usize>),
    AllListed,
}

impl Watch {
    fn new(what: &str, nodes: usize) -> Self {
        let what = match what {
            "change" => Wanted::Change,
            "kill" | "freeze" => Wanted::Gone(None),
            _ => Wanted::AllListed,
        };
        let lists = (0..nodes).map(|a| (0..nodes).map(|b| a == b).collect()).collect();
        Self { what, lists, since: None, unknown: Vec::new(), seconds: Vec::new() }
    }

    fn is_done(&self) -> bool {
        match self.what {
            Wanted::Change | Wanted::Gone(None) => false,
            Wanted::Gone(Some(gone)) => {
                (0..self.lists.len()).all(|at| at == gone || !self.lists[at][gone])
            }
            Wanted::AllListed => self.lists.iter().flatten().all(|&is_listed| is_listed),
        }
    }

    fn note(&mut self, since: u64, now: u64) {
        self.seconds.push(Duration::from_nanos(now - since).as_secs_f64());
    }
}

impl Recorder for Watch {
    fn detail(&self) -> Detail {
        Detail::Changes
    }

    fn record(&mut self, record: &Record) {
        let at = record.n.map(|n| n as usize);
        match (&record.what, at) {
            (What::Member { about, to }, Some(at)) => {
                if let Some(is_listed) = self.lists[at].get_mut(*about as usize) {
                    *is_listed = matches!(*to, "up" | "renewed");
                }
            }
            (What::Life { to, .. }, Some(at)) => {
                if let (Wanted::Gone(gone), "crashed" | "paused") = (&mut self.what, *to) {
                    *gone = Some(at);
                    self.since = Some(record.t);
                }
            }
            (What::Fault { begins: false, .. }, _) if self.what == Wanted::AllListed => {
                // A fault that nobody noticed is not measured.
                self.since = (!self.is_done()).then_some(record.t);
            }
            (What::Write { ver, .. }, Some(at))
                if self.what == Wanted::Change && record.t >= QUIET.as_nanos() as u64 =>
            {
                let others = (0..self.lists.len()).filter(|&other| other != at).collect();
                self.unknown.push((at, *ver, record.t, others));
            }
            (What::Apply { owner, ver, .. }, Some(at)) => {
                for (_, _, _, others) in self
                    .unknown
                    .iter_mut()
                    .filter(|(of, v, ..)| of == &(*owner as usize) && v <= ver)
                {
                    others.retain(|&other| other != at);
                }
                let is_known = |(_, _, _, others): &(_, _, _, Vec<usize>)| others.is_empty();
                let known: Vec<u64> =
                    self.unknown.iter().filter(|entry| is_known(entry)).map(|e| e.2).collect();
                self.unknown.retain(|entry| !is_known(entry));
                for since in known {
                    self.note(since, record.t);
                }
            }
            _ => {}
        }
        if let Some(since) = self.since
            && self.is_done()
        {
            self.since = None;
            self.note(since, record.t);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(what: &str, seconds: Vec<f64>) -> Measured {
        let series = Series { what: what.to_owned(), place: "loopback".to_owned(), seconds };
        Measured { nodes: 6, delay_us: 50, series: vec![series] }
    }

    #[test]
    fn everything_that_is_measured_is_also_simulated() {
        for what in ["change", "kill", "freeze", "thaw", "heal"] {
            let rows = compare(&measured(what, vec![1.0]), 3);
            assert_eq!(rows.len(), 1, "{what}");
            let times = rows[0].simulated;
            assert!(times.count >= 3, "{what}: {times:?}");
            // Nothing is faster than one datagram.
            assert!(times.p10 > 49e-6 && times.p90 < 12.0, "{what}: {times:?}");
        }
        assert!(compare(&measured("an earthquake", vec![1.0]), 3).is_empty());
    }

    #[test]
    fn times_that_are_too_far_from_the_simulated_are_seen() {
        let near = compare(&measured("freeze", vec![1.0]), 5)[0].simulated.p50;
        for (seconds, is_within) in [(near, true), (near * 1.3, false), (near * 0.7, false)] {
            let rows = compare(&measured("freeze", vec![seconds]), 5);
            assert_eq!(rows[0].is_within, is_within, "{}", table(&rows));
        }
    }
}

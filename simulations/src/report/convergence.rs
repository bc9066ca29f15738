//! The table of what the protocol promises: figure by figure, beside what was measured.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::experiment::Experiment;
use super::observer::Readings;
use crate::expect::quantile_of;
use crate::outcome::Violation;
use crate::plan::Plan;

/// Sizes of clusters that there are targets for; a size between takes those of the next larger, a
/// larger one those of the last.
pub const SIZES: [usize; 3] = [10, 100, 1_000];

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What it means.
    pub what: &'static str,
    /// Where it is measured.
    #[serde(skip)]
    pub experiment: Experiment,
    /// How.
    #[serde(skip)]
    figure: Figure,
    /// What it is counted in.
    pub unit: Unit,
    /// At most this, for each of [`SIZES`].
    pub targets: [f64; 3],
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes per node and second.
    Bytes,
    /// How often per day of one node.
    PerNodeDay,
}

/// How a figure is made of readings.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    /// A quantile of these times.
    Quantile(&'static str, f64),
    /// The average of all seconds.
    Bytes,
    /// False alarms.
    FalseDowns,
}

const fn time(
    name: &'static str,
    what: &'static str,
    experiment: Experiment,
    series: &'static str,
    quantile: f64,
    targets: [f64; 3],
) -> Line {
    let (figure, unit) = (Figure::Quantile(series, quantile), Unit::Seconds);
    Line { name, what, experiment, figure, unit, targets }
}

/// The table, line by line.
pub const LINES: [Line; 16] = [
    time(
        "change",
        "a change is known everywhere, p50",
        Experiment::Change,
        "change",
        0.5,
        [0.05, 0.15, 0.25],
    ),
    time("change", "... p99", Experiment::Change, "change", 0.99, [0.5, 0.6, 1.0]),
    time(
        "loss5",
        "... with 5 % lost, doubled, overtaken, p99",
        Experiment::Loss5,
        "change",
        0.99,
        [0.8, 1.0, 1.5],
    ),
    time("loss20", "... with 20 % lost, p99", Experiment::Loss20, "change", 0.99, [2.5, 3.0, 5.0]),
    time(
        "burst",
        "1000 topics made at once, p99",
        Experiment::Burst,
        "burst",
        0.99,
        [0.5, 0.6, 1.0],
    ),
    time(
        "cold-start",
        "all start at once, until all know all, p99",
        Experiment::ColdStart,
        "together",
        0.99,
        [0.5, 1.0, 4.0],
    ),
    time(
        "join",
        "a new node knows everything, p99",
        Experiment::Join,
        "join",
        0.99,
        [0.1, 0.2, 3.0],
    ),
    time(
        "leave",
        "a node that leaves is in no view, p99",
        Experiment::Leave,
        "leave",
        0.99,
        [0.5, 0.7, 1.2],
    ),
    time(
        "kill",
        "kill -9, until it is in no view, p50",
        Experiment::Kill,
        "kill",
        0.5,
        [1.0, 1.2, 1.5],
    ),
    time("kill", "... p99", Experiment::Kill, "kill", 0.99, [2.0, 4.0, 4.0]),
    time("hang", "a hang or a cut, the same, p99", Experiment::Hang, "hang", 0.99, [6.5, 7.0, 7.0]),
    Line {
        name: "false-down",
        what: "live nodes declared dead at 5 % loss",
        experiment: Experiment::Loss5,
        figure: Figure::FalseDowns,
        unit: Unit::PerNodeDay,
        targets: [0.0, 0.0, 0.01],
    },
    time(
        "heal",
        "halves meet again, until all know all, p50",
        Experiment::Heal,
        "together",
        0.5,
        [f64::INFINITY, f64::INFINITY, f64::INFINITY],
    ),
    time("heal", "... p99", Experiment::Heal, "together", 0.99, [3.0, 5.0, 8.0]),
    Line {
        name: "idle",
        what: "traffic per node while nothing happens",
        experiment: Experiment::ColdStart,
        figure: Figure::Bytes,
        unit: Unit::Bytes,
        targets: [800.0, 1_000.0, 1_500.0],
    },
    Line {
        name: "busy",
        what: "traffic per node at 10 changes/s",
        experiment: Experiment::Change,
        figure: Figure::Bytes,
        unit: Unit::Bytes,
        targets: [6_000.0, 9_000.0, 12_000.0],
    },
];

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Order {
    /// Sizes of clusters.
    pub nodes: Vec<usize>,
    /// Names of lines; all if empty.
    pub only: Vec<String>,
    /// Runs of each experiment, instead of [`Experiment::runs`].
    pub runs: Option<u64>,
    /// No run begins later than this.
    pub budget: Option<Duration>,
    /// Threads.
    pub jobs: usize,
}

/// One figure of one size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Size of the cluster.
    pub nodes: usize,
    /// The figure; `None`: nothing was measured.
    pub value: Option<f64>,
    /// At most this is promised; `None`: nothing is.
    pub target: Option<f64>,
    /// Whether it is kept. Without a value it is not known.
    pub is_met: Option<bool>,
    /// Readings; of false alarms, node-days.
    pub count: f64,
    /// The 10th, 50th, 90th and 99th percentile, and the most.
    pub spread: Option<[f64; 5]>,
}

/// A rule that was broken meanwhile.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Where.
    pub experiment: Experiment,
    /// What was executed.
    pub plan: Plan,
    /// Which rule.
    pub violation: Violation,
}

/// The table, filled.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its lines and, for each size, a cell.
    pub lines: Vec<(Line, Vec<Cell>)>,
    /// Runs that broke a rule.
    pub broken: Vec<Broken>,
    /// Runs done, and wanted.
    pub runs: (usize, usize),
    /// Simulated time times nodes, in node-days.
    pub node_days: f64,
    /// Wall time.
    pub took: Duration,
}

impl Report {
    /// Measures. `progress` is told after each run how many seconds of nodes are done, of how many.
    pub fn make(order: &Order, progress: &(dyn Fn(u64, u64) + Sync)) -> Self {
        let started = Instant::now();
        let lines: Vec<Line> = LINES.into_iter().filter(|line| order.wants(line)).collect();
        let runs = order.runs_of(&lines);
        let weight = |plan: &Plan| plan.nodes as u64 * plan.end.as_secs();
        let total = runs.iter().map(|(_, _, plan)| weight(plan)).sum();
        let (next, done) = (AtomicUsize::new(0), Mutex::new((0, BTreeMap::new())));
        let work = || {
            while let Some((size, experiment, plan)) =
                runs.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if order.budget.is_some_and(|budget| started.elapsed() >= budget) {
                    break;
                }
                let result = experiment.measure(plan);
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.0 += weight(plan);
                done.1.insert((*size, *experiment, plan.seed), result);
                progress(done.0, total);
            }
        };
        crate::swarm::in_threads(order.jobs.max(1), &work);
        let (weight, done) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let counts = (done.len(), runs.len());
        let (readings, broken) = gathered(done, &runs);
        let cell = |line: &Line, &nodes: &usize| {
            let readings = readings.get(&(nodes, line.experiment));
            Cell::of(line, nodes, readings.unwrap_or(&Readings::default()))
        };
        let cells = |line: Line| {
            let cells = order.nodes.iter().map(|nodes| cell(&line, nodes)).collect();
            (line, cells)
        };
        Self {
            lines: lines.into_iter().map(cells).collect(),
            broken,
            runs: counts,
            node_days: weight as f64 / DAY,
            took: started.elapsed(),
        }
    }

    /// Figures that are worse than promised.
    pub fn missed(&self) -> usize {
        self.cells().filter(|cell| cell.is_met == Some(false)).count()
    }

    /// Figures that nothing was measured for.
    pub fn unknown(&self) -> usize {
        self.cells().filter(|cell| cell.value.is_none()).count()
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.lines.iter().flat_map(|(_, cells)| cells)
    }
}

/// Size, what is done, and one run of it.
type Task = (usize, Experiment, Plan);

/// What came of runs, by size, experiment and seed.
type Done = BTreeMap<(usize, Experiment, u64), (Readings, Option<Violation>)>;

fn gathered(done: Done, runs: &[Task]) -> (BTreeMap<(usize, Experiment), Readings>, Vec<Broken>) {
    let mut readings: BTreeMap<(usize, Experiment), Readings> = BTreeMap::new();
    let mut broken = Vec::new();
    for ((nodes, experiment, seed), (more, violation)) in done {
        readings.entry((nodes, experiment)).or_default().append(more);
        let is_it = |task: &&Task| (task.0, task.1, task.2.seed) == (nodes, experiment, seed);
        if let Some((violation, task)) = violation.zip(runs.iter().find(is_it)) {
            broken.push(Broken { experiment, plan: task.2.clone(), violation });
        }
    }
    (readings, broken)
}

impl Order {
    fn wants(&self, line: &Line) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == line.name)
    }

    /// The long runs first, so that threads end together; seed by seed, so that a budget that is
    /// over leaves something of everything.
    fn runs_of(&self, lines: &[Line]) -> Vec<Task> {
        let mut tasks = Vec::new();
        for &nodes in &self.nodes {
            for experiment in Experiment::ALL {
                if lines.iter().any(|line| line.experiment == experiment) {
                    let runs = self.runs.unwrap_or_else(|| experiment.runs(nodes));
                    let plans = (0..runs).map(|seed| experiment.plan(nodes, seed));
                    tasks.extend(plans.map(|plan| (nodes, experiment, plan)));
                }
            }
        }
        tasks.sort_by_key(|(nodes, experiment, plan)| {
            (std::cmp::Reverse(*nodes), plan.seed, *experiment)
        });
        tasks
    }
}

impl Cell {
    fn of(line: &Line, nodes: usize, readings: &Readings) -> Self {
        let mut values = match line.figure {
            Figure::Quantile(series, _) => {
                readings.seconds.get(series).cloned().unwrap_or_default()
            }
            Figure::Bytes => readings.bytes.clone(),
            Figure::FalseDowns => Vec::new(),
        };
        values.sort_by(f64::total_cmp);
        let node_days = readings.node_seconds / DAY;
        let (value, count) = match line.figure {
            Figure::Quantile(_, quantile) => (quantile_of(&values, quantile), values.len() as f64),
            Figure::Bytes => (mean(&values), values.len() as f64),
            Figure::FalseDowns => {
                let rate = readings.false_downs as f64 / node_days;
                ((node_days > 0.0).then_some(rate), node_days)
            }
        };
        let size = SIZES.iter().position(|&size| nodes <= size).unwrap_or(SIZES.len() - 1);
        let target = Some(line.targets[size]).filter(|target| target.is_finite());
        let is_met = value.and_then(|value| Some(value <= target?));
        let at = |quantile| quantile_of(&values, quantile);
        let spread = at(0.5)
            .map(|_| [0.1, 0.5, 0.9, 0.99, 1.0].map(|quantile| at(quantile).unwrap_or_default()));
        Self { nodes, value, target, is_met, count, spread }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(only: &[&str]) -> Order {
        let only = only.iter().map(|&name| name.to_owned()).collect();
        Order { nodes: vec![5], only, runs: Some(3), budget: None, jobs: 1 }
    }

    #[test]
    fn every_figure_of_the_table_is_measured_and_plausible() {
        let report = Report::make(&order(&[]), &|_, _| ());
        assert_eq!(report.lines.len(), LINES.len());
        assert!(report.broken.is_empty(), "{:?}", report.broken[0].violation);
        for (line, cells) in &report.lines {
            let cell = &cells[0];
            let value = cell.value.unwrap_or_else(|| panic!("{}: nothing measured", line.what));
            let (least, most) = match line.unit {
                Unit::Seconds => (1e-4, 12.0),
                Unit::Bytes => (50.0, 20_000.0),
                Unit::PerNodeDay => (0.0, 0.0),
            };
            assert!((least..=most).contains(&value), "{}: {cell:?}", line.what);
            assert!(cell.count > 0.0, "{}", line.what);
        }
    }

    #[test]
    fn the_same_order_gives_the_same_figures_whatever_the_threads() {
        let one = Report::make(&order(&["kill", "heal"]), &|_, _| ());
        let many = Report::make(&Order { jobs: 3, ..order(&["kill", "heal"]) }, &|_, _| ());
        assert_eq!(one.lines, many.lines);
        assert_eq!(one.lines.len(), 4, "only what was asked for");
    }

    #[test]
    fn a_figure_above_its_target_is_missed() {
        let line = LINES.into_iter().find(|line| line.name == "kill").unwrap();
        let of = |value: f64| {
            let seconds = BTreeMap::from([("kill", vec![value])]);
            Cell::of(&line, 100, &Readings { seconds, ..Readings::default() })
        };
        assert_eq!((of(1.1).is_met, of(1.3).is_met), (Some(true), Some(false)));
        assert_eq!(of(1.1).target, Some(1.2), "that of 100 nodes");
        assert_eq!(Cell::of(&line, 100, &Readings::default()).is_met, None);
    }
}

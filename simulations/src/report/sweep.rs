//! One key of a scenario along the x axis, figures of many runs along the y axis.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::execute::execute;
use crate::scenario::Scenario;
use crate::scenario::axis::number_of;
use crate::swarm::{Item, Order, Population, Quantiles, Swarm};

/// A figure of many runs: `converge.p99`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// As the scenario writes it.
    pub name: String,
    #[serde(skip)]
    measure: Measure,
    #[serde(skip)]
    part: Part,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Measure {
    Converge,
    Members,
    Staleness,
    Gone,
    Bytes,
    Idle,
    Renewals,
    FalseDowns,
}

/// Which part of a distribution.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    P50,
    P95,
    P99,
    Max,
    Mean,
}

const MEASURES: [(&str, Measure); 8] = [
    ("converge", Measure::Converge),
    ("members", Measure::Members),
    ("staleness", Measure::Staleness),
    ("gone", Measure::Gone),
    ("bytes", Measure::Bytes),
    ("idle", Measure::Idle),
    ("renewals", Measure::Renewals),
    ("false_downs", Measure::FalseDowns),
];

const PARTS: [(&str, Part); 5] = [
    ("p50", Part::P50),
    ("p95", Part::P95),
    ("p99", Part::P99),
    ("max", Part::Max),
    ("mean", Part::Mean),
];

impl Figure {
    /// Reads `staleness.p99`; without a part, the 99th percentile is meant.
    ///
    /// # Errors
    ///
    /// There is no such figure; in words for people.
    pub fn parse(name: &str) -> Result<Self, String> {
        let (measure, part) = name.split_once('.').unwrap_or((name, "p99"));
        let found = |word: &str| MEASURES.iter().find(|(known, _)| *known == word);
        let of = |word: &str| PARTS.iter().find(|(known, _)| *known == word);
        match (found(measure), of(part)) {
            (Some((_, measure)), Some((_, part))) => {
                Ok(Self { name: name.to_owned(), measure: *measure, part: *part })
            }
            _ => Err(format!(
                "there is no figure {name:?}; it is one of {}, with one of {}, such as \
                 converge.p99",
                MEASURES.map(|(name, _)| name).join(", "),
                PARTS.map(|(name, _)| name).join(", ")
            )),
        }
    }

    /// Whether it is a time, in seconds.
    pub fn is_time(&self) -> bool {
        use Measure::{Converge, Gone, Members, Staleness};
        matches!(self.measure, Converge | Members | Staleness | Gone)
    }

    /// Of these runs: seconds, bytes per node and second, or a number per run.
    fn of(&self, population: &Population) -> Option<f64> {
        let runs = population.runs.max(1) as f64;
        match self.measure {
            Measure::Converge => self.seconds(&population.lookups_agreed_ms),
            Measure::Members => self.seconds(&population.members_agreed_ms),
            Measure::Staleness => self.seconds(&population.staleness_ms),
            Measure::Gone => self.seconds(&population.gone_ms),
            Measure::Bytes => self.part_of(&population.bytes),
            Measure::Idle => self.part_of(&population.idle_bytes),
            Measure::Renewals => Some(population.renewals as f64 / runs),
            Measure::FalseDowns => Some(population.false_downs as f64 / runs),
        }
    }

    fn seconds(&self, ms: &Quantiles) -> Option<f64> {
        self.part_of(ms).map(|ms| ms / 1e3)
    }

    fn part_of(&self, quantiles: &Quantiles) -> Option<f64> {
        let summary = quantiles.summary()?;
        match self.part {
            Part::P50 => Some(summary.p50),
            Part::P95 => Some(summary.p95),
            Part::P99 => Some(summary.p99),
            Part::Max => Some(summary.max),
            Part::Mean => quantiles.mean(),
        }
    }
}

/// Figures at one value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The value, as it is written.
    pub value: String,
    /// The value as a number, in seconds if it is a time.
    pub number: Option<f64>,
    /// The figures, in order; `None`: nothing was measured.
    pub figures: Vec<Option<f64>>,
    /// Runs.
    pub runs: u64,
    /// Runs that broke a rule.
    pub failed: u64,
    /// The first of them: its seed, and what it broke.
    pub failure: Option<(u64, String)>,
}

/// A scenario along an axis.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// The scenario.
    pub scenario: String,
    /// The key that changes.
    pub x: String,
    /// What is measured.
    pub y: Vec<Figure>,
    /// The values.
    pub points: Vec<Point>,
    /// Whether time was over before all runs were done.
    pub is_cut_short: bool,
    /// Wall time.
    pub took: Duration,
}

impl Sweep {
    /// Runs what the scenario's `[report]` says: `runs` seeds of each value. `progress` is told
    /// after each run.
    ///
    /// # Errors
    ///
    /// The scenario has no `[report]`, or there is something wrong with it; in words for people.
    pub fn make(
        scenario: &Scenario,
        runs: u64,
        jobs: usize,
        budget: Option<Duration>,
        progress: &(dyn Fn() + Sync),
    ) -> Result<Self, String> {
        let started = Instant::now();
        let missing = "it says nothing to report; add [report] with x = \"fault.for\" and \
                       y = [\"converge.p99\"]";
        let (x, y) = scenario.report().ok_or(missing)?;
        let axis = scenario.axis(x.ok_or(missing)?)?;
        let y = y.iter().map(|name| Figure::parse(name)).collect::<Result<Vec<_>, _>>()?;
        if y.is_empty() {
            return Err(missing.to_owned());
        }
        let mut sweep = Self {
            scenario: scenario.name.clone(),
            x: axis.path.clone(),
            y,
            points: Vec::new(),
            is_cut_short: false,
            took: Duration::ZERO,
        };
        for value in axis.values {
            let at = scenario.set(&axis.path, &value).map_err(|error| error.to_string())?;
            let left = budget.map(|budget| budget.saturating_sub(started.elapsed()));
            let order = Order {
                scenarios: 1,
                seeds: 0..runs,
                jobs,
                budget: left,
                until_coverage_stable: None,
                twice: 0.0,
                keep_going: true,
            };
            let plan = |item: Item| at.plan(item.seed);
            let swarm = Swarm::run(&order, &plan, &execute, &|_| progress());
            sweep.is_cut_short |= swarm.population.runs < runs;
            sweep.points.push(Point::of(value, &swarm, &sweep.y));
        }
        sweep.took = started.elapsed();
        Ok(sweep)
    }
}

impl Point {
    fn of(value: String, swarm: &Swarm, figures: &[Figure]) -> Self {
        let failure = swarm.failures.first().and_then(|failure| {
            let violation = failure.outcome.violation.as_ref()?;
            Some((failure.item.seed, violation.to_string()))
        });
        Self {
            number: number_of(&value),
            value,
            figures: figures.iter().map(|figure| figure.of(&swarm.population)).collect(),
            runs: swarm.population.runs,
            failed: swarm.failed,
            failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_swept_along_its_axis() {
        let text = "schema = 1\n[cluster]\nnodes = 4\n[[fault]]\nat = \"5s\"\n\
                    for = [\"1s\", \"12s\"]\npartition = \"halves\"\n\
                    [report]\nx = \"fault.for\"\ny = [\"bytes.mean\", \"renewals\"]\n";
        let scenario = Scenario::parse(text, "mine.toml").unwrap();
        let sweep = Sweep::make(&scenario, 3, 1, None, &|| ()).unwrap();
        assert_eq!(sweep.x, "fault.0.for");
        let values: Vec<_> = sweep.points.iter().map(|point| (point.number, point.runs)).collect();
        assert_eq!(values, [(Some(1.0), 3), (Some(12.0), 3)]);
        assert!(sweep.points.iter().all(|point| point.failed == 0), "{:?}", sweep.points);
        let bytes = |at: usize| sweep.points[at].figures[0].unwrap();
        assert!(bytes(0) > 50.0 && bytes(1) > 50.0);
        assert_ne!(bytes(0), bytes(1), "the longer partition is another run");
    }

    #[test]
    fn a_figure_that_does_not_exist_is_refused_with_those_that_do() {
        assert!(Figure::parse("converge.p99").unwrap().is_time());
        assert!(!Figure::parse("bytes").unwrap().is_time());
        let refused = Figure::parse("convergence.p99").unwrap_err();
        assert!(refused.contains("converge, members") && refused.contains("p50, p95"));
    }
}

//! Many runs: seeds over threads, gathered in the order of seeds, so that what comes out does not
//! depend on how many threads there were.

pub mod baseline;
mod population;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use self::population::{Population, Quantiles};
use crate::execute::Execute;
use crate::outcome::Outcome;
use crate::plan::Plan;

/// What to run and when to stop.
#[derive(Clone, Debug)]
pub struct Order {
    /// Scenarios; each seed is run with each of them.
    pub scenarios: usize,
    /// Seeds.
    pub seeds: Range<u64>,
    /// Threads.
    pub jobs: usize,
    /// No run begins later than this.
    pub budget: Option<Duration>,
    /// Stop when this many runs in a row reached no new point of the code.
    pub until_coverage_stable: Option<u64>,
    /// Share of the runs that are done twice and compared, from 0 to 1.
    pub twice: f64,
    /// Go on after a failure.
    pub keep_going: bool,
}

/// One of the runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Item {
    /// Index of the scenario.
    pub scenario: usize,
    /// Seed.
    pub seed: u64,
}

/// A run that broke a rule.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub item: Item,
    /// What was executed.
    pub plan: Plan,
    /// How it ended.
    pub outcome: Outcome,
}

/// A run that was another one when it was repeated.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Which.
    pub item: Item,
    /// What was executed.
    pub plan: Plan,
    /// How it ended first.
    pub first: Outcome,
    /// How it ended then.
    pub second: Outcome,
}

/// Why no more runs were started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stopped {
    /// All are done.
    Done,
    /// Time is over.
    Budget,
    /// Nothing new was reached for long enough.
    Stable,
    /// A rule was broken or a repetition differed.
    Failed,
}

/// Failures kept with their plans; more are only counted.
const FAILURES_MAX: usize = 100;

/// What came of all runs.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Figures over all runs, in the order of seeds.
    pub population: Population,
    /// Runs asked for.
    pub wanted: u64,
    /// The first failures, lowest seed first.
    pub failures: Vec<Failure>,
    /// Runs that broke a rule.
    pub failed: u64,
    /// Runs that were done twice.
    pub repeated: u64,
    /// Those of them that differed, lowest seed first.
    pub mismatches: Vec<Mismatch>,
    /// Why it ended.
    pub stopped: Stopped,
    /// Wall time.
    pub took: Duration,
}

impl Swarm {
    /// Runs the order. `plan` makes the plan of a run; `progress` is told after each.
    pub fn run(
        order: &Order,
        plan: &(dyn Fn(Item) -> Plan + Sync),
        execute: &Execute<'_>,
        progress: &(dyn Fn(&Self) + Sync),
    ) -> Self {
        let started = Instant::now();
        let seeds = order.seeds.end.saturating_sub(order.seeds.start);
        let scenarios = order.scenarios.max(1) as u64;
        let wanted = seeds.saturating_mul(scenarios);
        let item_of = |index: u64| Item {
            scenario: usize::try_from(index % scenarios).unwrap_or_default(),
            seed: order.seeds.start + index / scenarios,
        };
        let gathered = Mutex::new(Gathering::new(wanted));
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let work = || {
            loop {
                let over = order.budget.is_some_and(|budget| started.elapsed() >= budget);
                if over || stop.load(Ordering::Relaxed) {
                    break;
                }
                // Numbers are given out in order, so when one is, all before it have been.
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= wanted {
                    break;
                }
                let run = Run::execute(item_of(index), order, plan, execute);
                let mut gathering = gathered.lock().unwrap_or_else(PoisonError::into_inner);
                gathering.take(index, run, order, started);
                if gathering.swarm.stopped != Stopped::Done {
                    stop.store(true, Ordering::Relaxed);
                }
                progress(&gathering.swarm);
            }
        };
        in_threads(order.jobs.max(1), &work);
        let gathering = gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut swarm = gathering.swarm;
        swarm.took = started.elapsed();
        if swarm.stopped == Stopped::Done && swarm.population.runs < wanted {
            swarm.stopped = Stopped::Budget;
        }
        swarm
    }
}

/// Does the work in that many threads, or in this one if there can be no others.
pub(crate) fn in_threads(jobs: usize, work: &(dyn Fn() + Sync)) {
    match rayon::ThreadPoolBuilder::new().num_threads(jobs).build() {
        Ok(pool) if jobs > 1 => drop(pool.broadcast(|_| work())),
        Ok(_) | Err(_) => work(),
    }
}

/// A run that is over, before it is gathered.
struct Run {
    item: Item,
    plan: Plan,
    outcome: Outcome,
    second: Option<Outcome>,
}

impl Run {
    fn execute(
        item: Item,
        order: &Order,
        plan: &(dyn Fn(Item) -> Plan + Sync),
        execute: &Execute<'_>,
    ) -> Self {
        let plan = plan(item);
        let outcome = execute(&plan, None);
        let second = is_repeated(item.seed, order.twice).then(|| execute(&plan, None));
        Self { item, plan, outcome, second }
    }
}

/// Whether a seed is among that share of all seeds. Which ones does not depend on anything else.
fn is_repeated(seed: u64, share: f64) -> bool {
    let draw = xxhash_rust::xxh3::xxh3_64(&seed.to_le_bytes()) >> 11;
    (draw as f64) < share * (1_u64 << 53) as f64
}

/// Runs that came back, put in order.
struct Gathering {
    swarm: Swarm,
    /// Number of the next to be counted.
    next: u64,
    /// Came back before one with a lower number; few more than there are threads.
    early: BTreeMap<u64, Run>,
}

impl Gathering {
    fn new(wanted: u64) -> Self {
        let swarm = Swarm {
            population: Population::default(),
            wanted,
            failures: Vec::new(),
            failed: 0,
            repeated: 0,
            mismatches: Vec::new(),
            stopped: Stopped::Done,
            took: Duration::ZERO,
        };
        Self { swarm, next: 0, early: BTreeMap::new() }
    }

    fn take(&mut self, index: u64, run: Run, order: &Order, started: Instant) {
        self.early.insert(index, run);
        self.swarm.took = started.elapsed();
        while let Some(run) = self.early.remove(&self.next) {
            self.next += 1;
            // What comes after the run that ended it all is not counted: how much that is depends
            // on the threads.
            if self.swarm.stopped == Stopped::Done {
                self.swarm.count(run, order);
            }
        }
    }
}

impl Swarm {
    fn count(&mut self, run: Run, order: &Order) {
        let Run { item, plan, outcome, second } = run;
        self.population.add(&plan, &outcome);
        let stable = order.until_coverage_stable;
        if stable.is_some_and(|runs| self.population.runs_without_news() >= runs) {
            self.stopped = Stopped::Stable;
        }
        let failed = outcome.violation.is_some();
        let mut differs = false;
        if let Some(second) = second {
            self.repeated += 1;
            differs = second != outcome;
            if differs && self.mismatches.len() < FAILURES_MAX {
                let (plan, first) = (plan.clone(), outcome.clone());
                self.mismatches.push(Mismatch { item, plan, first, second });
            }
        }
        if failed {
            self.failed += 1;
            if self.failures.len() < FAILURES_MAX {
                self.failures.push(Failure { item, plan, outcome });
            }
        }
        if (failed || differs) && !order.keep_going {
            self.stopped = Stopped::Failed;
        }
    }
}

#[cfg(test)]
mod tests;

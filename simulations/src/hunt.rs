//! The search for planted bugs: how good the simulator is at finding real ones.
//!
//! A kill counts only if the *same* seed passes without the bug; otherwise it says nothing about
//! the bug. Seeds are tried from 0 on, and the first that kills is reported, so the figures can be
//! compared between commits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use grapevine_gossip::mutant::Mutant;
use serde::Serialize;

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::swarm::{Population, baseline};

/// The rule that two runs of one plan are equal.
pub const TWICE_RULE: &str = "D1";

/// How a search is done.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// Bugs to look for.
    pub mutants: Vec<Mutant>,
    /// Seeds to try for each.
    pub seeds_max: u64,
    /// Time for all of them.
    pub budget: Duration,
    /// Threads.
    pub jobs: usize,
    /// Seeds to go on with after a kill, to see which other rules notice.
    pub more: u64,
    /// Seeds that are run twice if no rule is broken, since a bug may break that alone.
    pub twice: u64,
    /// Seeds whose figures are compared with and without the bug, if none of them finds it alone: a
    /// bug that only delays is seen by no single run. 0: none.
    pub population: u64,
}

/// A bug that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kill {
    /// The rule that noticed.
    pub rule: String,
    /// Its name.
    pub name: String,
    /// The first seed that does it; if it takes the figures of many, how many.
    pub seed: u64,
    /// It takes the figures of many: one of the rules P1 to P4.
    pub is_of_many: bool,
    /// How long it took, control run included.
    pub took: Duration,
}

/// What became of the search for one bug.
#[derive(Clone, Debug)]
pub struct Quarry {
    /// The bug.
    pub mutant: Mutant,
    /// `None`: it lives.
    pub kill: Option<Kill>,
    /// Seeds tried.
    pub seeds: u64,
    /// Rules that noticed it, and in how many seeds.
    pub rules: BTreeMap<String, u64>,
    /// Seeds that fail without the bug as well, so they prove nothing.
    pub unclean: Vec<u64>,
    /// Time was over before all seeds were tried.
    pub is_cut_short: bool,
    /// Time it took, all in all.
    pub took: Duration,
}

/// Runs a plan with a bug, or without.
pub type Run<'a> = dyn Fn(Option<Mutant>, &Plan) -> Outcome + Sync + 'a;

impl Hunt {
    /// Looks for all of them. `plan` makes the plan of a seed; `found` is told after each bug.
    pub fn start(
        &self,
        plan: &(dyn Fn(u64) -> Plan + Sync),
        run: &Run<'_>,
        found: &(dyn Fn(&Quarry) + Sync),
    ) -> Vec<Quarry> {
        let deadline = Instant::now().checked_add(self.budget);
        let (clean, figures) = (Mutex::default(), Mutex::default());
        let search = Search { hunt: self, plan, run, deadline, clean, figures };
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(&mutant) = self.mutants.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let quarry = search.one(mutant);
                        found(&quarry);
                        results.lock().unwrap_or_else(PoisonError::into_inner).push(quarry);
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|quarry| quarry.mutant);
        results
    }
}

struct Search<'a> {
    hunt: &'a Hunt,
    plan: &'a (dyn Fn(u64) -> Plan + Sync),
    run: &'a Run<'a>,
    /// `None`: later than clocks go.
    deadline: Option<Instant>,
    /// Which seeds pass without a bug.
    clean: Mutex<BTreeMap<u64, bool>>,
    /// Figures of the first [`Hunt::population`] seeds without a bug, once somebody needed them.
    figures: Mutex<Option<BTreeMap<String, f64>>>,
}

impl Search<'_> {
    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn one(&self, mutant: Mutant) -> Quarry {
        let started = Instant::now();
        let mut quarry = Quarry {
            mutant,
            kill: None,
            seeds: 0,
            rules: BTreeMap::new(),
            unclean: Vec::new(),
            is_cut_short: false,
            took: Duration::ZERO,
        };
        let mut last = self.hunt.seeds_max;
        let mut population = Population::default();
        while quarry.seeds < last {
            if self.is_over() {
                quarry.is_cut_short = true;
                break;
            }
            let seed = quarry.seeds;
            quarry.seeds += 1;
            let plan = (self.plan)(seed);
            let outcome = (self.run)(Some(mutant), &plan);
            let Some((rule, name)) = self.noticed(mutant, &plan, &outcome) else {
                population.add(&plan, &outcome);
                let is_enough = quarry.seeds == self.hunt.population && quarry.kill.is_none();
                if is_enough && let Some(kill) = self.slower(&population, quarry.seeds, started) {
                    *quarry.rules.entry(kill.rule.clone()).or_default() += 1;
                    quarry.kill = Some(kill);
                    break;
                }
                continue;
            };
            if !self.is_clean(seed, &plan) {
                quarry.unclean.push(seed);
                continue;
            }
            *quarry.rules.entry(rule.clone()).or_default() += 1;
            if quarry.kill.is_none() {
                quarry.kill =
                    Some(Kill { rule, name, seed, is_of_many: false, took: started.elapsed() });
                last = last.min(seed + 1 + self.hunt.more);
            }
        }
        quarry.took = started.elapsed();
        quarry
    }

    /// The rule that notices the bug in this run.
    fn noticed(&self, mutant: Mutant, plan: &Plan, outcome: &Outcome) -> Option<(String, String)> {
        if let Some(violation) = &outcome.violation {
            return Some((violation.rule.clone(), violation.name.clone()));
        }
        let differs =
            plan.seed < self.hunt.twice && (self.run)(Some(mutant), plan).hash != outcome.hash;
        differs.then(|| (TWICE_RULE.to_owned(), "repeatable".to_owned()))
    }

    /// The rule about many runs that notices the bug, if the same runs without it keep it.
    fn slower(&self, population: &Population, seeds: u64, started: Instant) -> Option<Kill> {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        if figures.is_none() {
            let mut clean = Population::default();
            for seed in 0..seeds {
                if self.is_over() {
                    return None;
                }
                let plan = (self.plan)(seed);
                let outcome = (self.run)(None, &plan);
                let is_clean = outcome.violation.is_none();
                let mut known = self.clean.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(seed, is_clean);
                if is_clean {
                    clean.add(&plan, &outcome);
                }
            }
            *figures = Some(baseline::figures(&clean));
        }
        let now = baseline::figures(population);
        let all = baseline::compare(figures.as_ref()?, &now);
        let worst = all.into_iter().find(|comparison| !comparison.is_kept)?;
        Some(Kill {
            rule: worst.rule.to_owned(),
            name: worst.name.to_owned(),
            seed: seeds,
            is_of_many: true,
            took: started.elapsed(),
        })
    }

    /// Whether the seed passes without a bug.
    fn is_clean(&self, seed: u64, plan: &Plan) -> bool {
        let known = self.clean.lock().unwrap_or_else(PoisonError::into_inner).get(&seed).copied();
        known.unwrap_or_else(|| {
            let is_clean = (self.run)(None, plan).violation.is_none();
            self.clean.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, is_clean);
            is_clean
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{failing_plan, outcome_of, violation};

    fn hunt(mutants: &[Mutant]) -> Hunt {
        Hunt {
            mutants: mutants.to_vec(),
            seeds_max: 50,
            budget: Duration::from_secs(60),
            jobs: 2,
            more: 0,
            twice: 5,
            population: 0,
        }
    }

    fn plan(seed: u64) -> Plan {
        Plan { seed, ..failing_plan() }
    }

    /// M01 is noticed from seed 7 on, M02 never; seeds 7 and 8 fail anyway.
    fn run(mutant: Option<Mutant>, plan: &Plan) -> Outcome {
        let mut outcome = outcome_of(plan, 100);
        let fails = [7, 8].contains(&plan.seed)
            || (mutant == Some(Mutant::M01) && plan.seed >= 7)
            || mutant == Some(Mutant::Canary);
        let rule = if plan.seed.is_multiple_of(2) { "L1" } else { "V9" };
        outcome.violation = fails.then(|| violation(rule, Duration::from_secs(1)));
        outcome
    }

    #[test]
    fn a_kill_counts_only_if_the_same_seed_passes_without_the_bug() {
        let all = hunt(&[Mutant::Canary, Mutant::M02, Mutant::M01]).start(&plan, &run, &|_| ());
        let ids: Vec<&str> = all.iter().map(|quarry| quarry.mutant.id()).collect();
        assert_eq!(ids, ["M01", "M02", "Canary"]);
        let kill = all[0].kill.as_ref().unwrap();
        assert_eq!((kill.seed, kill.rule.as_str()), (9, "V9"));
        assert_eq!(all[0].unclean, [7, 8]);
        assert_eq!((&all[1].kill, all[1].seeds), (&None, 50));
        assert_eq!(all[2].kill.as_ref().unwrap().seed, 0);
    }

    #[test]
    fn after_a_kill_other_rules_have_their_turn() {
        let hunt = Hunt { more: 10, ..hunt(&[Mutant::M01]) };
        let all = hunt.start(&plan, &run, &|_| ());
        assert_eq!(all[0].rules, BTreeMap::from([("L1".to_owned(), 5), ("V9".to_owned(), 6)]));
    }

    #[test]
    fn a_bug_that_only_makes_runs_differ_is_found_too() {
        let calls = std::sync::atomic::AtomicU64::new(0);
        let moody = |mutant: Option<Mutant>, plan: &Plan| {
            let mut outcome = outcome_of(plan, 100);
            if mutant.is_some() && plan.seed == 3 {
                outcome.hash ^= calls.fetch_add(1, Ordering::Relaxed);
            }
            outcome
        };
        let all = hunt(&[Mutant::X03]).start(&plan, &moody, &|_| ());
        let kill = all[0].kill.as_ref().unwrap();
        assert_eq!((kill.rule.as_str(), kill.seed), (TWICE_RULE, 3));
    }

    #[test]
    fn a_bug_that_only_delays_is_found_by_the_figures_of_many_runs() {
        let slow = |mutant: Option<Mutant>, plan: &Plan| {
            let mut outcome = outcome_of(plan, 100);
            let seconds = if mutant == Some(Mutant::N10) { 3 } else { 1 };
            outcome.stats.members_agreed = Some(Duration::from_secs(seconds));
            outcome
        };
        let hunt = Hunt { population: 30, ..hunt(&[Mutant::N10, Mutant::N11]) };
        let all = hunt.start(&plan, &slow, &|_| ());
        let kill = all[0].kill.as_ref().unwrap();
        assert_eq!((kill.rule.as_str(), kill.seed, kill.is_of_many), ("P1", 30, true));
        assert_eq!(all[1].kill, None, "no slower than without it");
        assert_eq!(all[1].seeds, 50);
    }

    #[test]
    fn when_time_is_over_it_is_said() {
        let late = Hunt { budget: Duration::ZERO, ..hunt(&[Mutant::M01]) };
        let all = late.start(&plan, &run, &|_| ());
        assert!(all[0].is_cut_short && all[0].kill.is_none());
        let never = Hunt { budget: Duration::MAX, ..hunt(&[Mutant::M01]) };
        assert!(never.start(&plan, &run, &|_| ())[0].kill.is_some());
    }
}

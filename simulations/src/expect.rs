//! What a scenario promises beyond the rules that always hold, compared with what was measured.
//!
//! [`Expect::phantom_max`](crate::plan::Expect) is not among them: the oracle watches it during the
//! run, as rule V1.

use std::time::Duration;

use serde::Serialize;

use crate::outcome::{Outcome, Stats, Violation};
use crate::plan::Plan;

/// A promise of a scenario and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Promise {
    /// Id of the rule: `E1` to `E8`.
    pub rule: &'static str,
    /// Its name.
    pub name: &'static str,
    /// At most this.
    pub promised: Amount,
    /// `None`: it never happened, or there was nothing to measure; see [`Self::is_kept`].
    pub measured: Option<Amount>,
    /// Whether it is kept.
    pub is_kept: bool,
}

/// A number with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// Milliseconds.
    Ms(f64),
    /// Bytes per node and second.
    Bytes(f64),
    /// How often.
    Count(u64),
}

/// Compares what the plan promises with a run that ended by itself.
pub fn promises(plan: &Plan, stats: &Stats) -> Vec<Promise> {
    let expect = &plan.expect;
    let mut promises = Vec::new();
    let mut agree = |rule, name, promised: Option<Duration>, measured: Option<Duration>| {
        let Some(promised) = promised else { return };
        // Without a healing there is nothing to agree after.
        let is_kept = plan.heal_at.is_none() || measured.is_some_and(|took| took <= promised);
        promises.push(Promise {
            rule,
            name,
            promised: Amount::Ms(ms(promised)),
            measured: measured.map(|took| Amount::Ms(ms(took))),
            is_kept,
        });
    };
    agree("E1", "membership-agree", expect.membership_agree, stats.members_agreed);
    agree("E2", "lookups-agree", expect.lookups_agree, stats.lookups_agreed);

    let mut staleness = stats.staleness_ms.clone();
    staleness.sort_by(f32::total_cmp);
    for (rule, name, promised, quantile) in [
        ("E3", "staleness-p50", expect.staleness_p50, 0.5),
        ("E4", "staleness-p99", expect.staleness_p99, 0.99),
        ("E5", "staleness-max", expect.staleness_max, 1.0),
    ] {
        let Some(promised) = promised else { continue };
        let measured = quantile_of(&staleness, quantile).map(f64::from);
        promises.push(Promise {
            rule,
            name,
            promised: Amount::Ms(ms(promised)),
            measured: measured.map(Amount::Ms),
            is_kept: measured.is_none_or(|measured| measured <= ms(promised)),
        });
    }
    if let Some(promised) = expect.false_down {
        promises.push(Promise {
            rule: "E6",
            name: "false-down",
            promised: Amount::Count(promised),
            measured: Some(Amount::Count(stats.false_downs)),
            is_kept: stats.false_downs <= promised,
        });
    }
    let mut seconds = stats.bytes_by_second.clone();
    seconds.sort_unstable();
    let worst = quantile_of(&seconds, 0.99).map(f64::from);
    // 0: no second of the run was quiet.
    let idle = Some(stats.idle_bytes).filter(|bytes| *bytes > 0.0);
    for (rule, name, promised, measured) in [
        ("E7", "bytes-idle", expect.bytes_idle, idle),
        ("E8", "bytes-p99", expect.bytes_p99, worst),
    ] {
        let Some(promised) = promised else { continue };
        promises.push(Promise {
            rule,
            name,
            promised: Amount::Bytes(promised as f64),
            measured: measured.map(Amount::Bytes),
            is_kept: measured.is_none_or(|measured| measured <= promised as f64),
        });
    }
    promises
}

/// The first promise that a run did not keep, if it broke no rule before.
pub fn broken(plan: &Plan, outcome: &Outcome) -> Option<Violation> {
    if outcome.violation.is_some() {
        return None;
    }
    let promise = promises(plan, &outcome.stats).into_iter().find(|promise| !promise.is_kept)?;
    let measured = promise.measured.map_or_else(|| "never".to_owned(), |amount| amount.to_string());
    Some(Violation {
        rule: promise.rule.to_owned(),
        name: promise.name.to_owned(),
        node: 0,
        what: format!("promised={} measured={measured}", promise.promised),
        at: plan.end,
        event: outcome.stats.events,
    })
}

/// Points that the plan wants some run to reach and that none of so many `runs` did.
pub fn never_reached<'a>(
    plan: &'a Plan,
    runs: u64,
    is_reached: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = &'a str> {
    let wanted = plan.expect.sometimes.iter().map(String::as_str);
    let is_enough = runs >= plan.expect.sometimes_runs;
    wanted.filter(move |point| is_enough && !is_reached(point))
}

/// The value that this share of all values does not exceed; `sorted` is in order.
pub fn quantile_of<T: Copy>(sorted: &[T], quantile: f64) -> Option<T> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl std::fmt::Display for Amount {
    /// Without a space between number and unit, since it is part of the fields of a violation.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Ms(ms) if ms >= 1_000.0 => write!(f, "{:.2}s", ms / 1e3),
            Self::Ms(ms) => write!(f, "{ms:.0}ms"),
            Self::Bytes(bytes) => write!(f, "{bytes:.0}B/s"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{failing_plan, outcome_of};

    fn plan() -> Plan {
        let mut plan = failing_plan();
        plan.expect.membership_agree = Some(Duration::from_secs(5));
        plan.expect.staleness_p99 = Some(Duration::from_millis(800));
        plan.expect.false_down = Some(0);
        plan
    }

    fn outcome() -> Outcome {
        let mut outcome = outcome_of(&plan(), 9);
        outcome.stats.members_agreed = Some(Duration::from_secs(2));
        outcome.stats.staleness_ms = vec![100.0; 200];
        outcome
    }

    #[test]
    fn a_promise_that_is_kept_breaks_nothing() {
        let all = promises(&plan(), &outcome().stats);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|promise| promise.is_kept), "{all:?}");
        assert_eq!(broken(&plan(), &outcome()), None);
    }

    #[test]
    fn each_promise_that_is_not_kept_is_a_rule_of_its_own() {
        let mut never = outcome();
        never.stats.members_agreed = None;
        assert_eq!(broken(&plan(), &never).unwrap().to_string(), {
            "E1 membership-agree node=0 promised=5.00s measured=never t=90.000s"
        });
        let mut stale = outcome();
        stale.stats.staleness_ms[..3].fill(900.0);
        let stale = broken(&plan(), &stale).unwrap();
        assert_eq!((stale.rule.as_str(), stale.what.as_str()), {
            ("E4", "promised=800ms measured=900ms")
        });
        let mut accused = outcome();
        accused.stats.false_downs = 1;
        assert_eq!(broken(&plan(), &accused).unwrap().rule, "E6");
    }

    #[test]
    fn one_slow_change_in_a_hundred_is_within_the_quantile() {
        let mut outcome = outcome();
        outcome.stats.staleness_ms[..2].fill(900.0);
        assert_eq!(broken(&plan(), &outcome), None);
    }

    #[test]
    fn a_point_is_missed_only_by_as_many_runs_as_were_to_reach_it() {
        let mut plan = plan();
        plan.expect.sometimes = vec!["gap".to_owned(), "pull_retry".to_owned()];
        let missed = |plan: &Plan, runs| never_reached(plan, runs, |point| point == "gap").count();
        assert_eq!(missed(&plan, 1), 1);
        plan.expect.sometimes_runs = 100;
        assert_eq!((missed(&plan, 99), missed(&plan, 100)), (0, 1));
    }

    #[test]
    fn without_a_healing_there_is_nothing_to_agree_after() {
        let mut plan = plan();
        plan.heal_at = None;
        let mut outcome = outcome();
        outcome.stats.members_agreed = None;
        assert_eq!(broken(&plan, &outcome), None);
    }
}

//! What a scenario promises beyond the rules that always hold, compared with what was measured.
//!
//! [`Expect::phantom_max`](crate::plan::Expect) is not among them: the oracle watches it during the
//! run, as rule V1. Only whether it could do so is asked here.

use std::time::Duration;

use serde::Serialize;

use crate::outcome::{Outcome, Violation};
use crate::plan::{Expect, Plan};

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
    /// Whether it is kept; `None`: there was nothing to measure, so nobody knows.
    pub is_kept: Option<bool>,
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

/// A key of `[expect]` and the rule that compares it.
struct Key {
    rule: &'static str,
    name: &'static str,
    /// What a run that measured something for it has reached; see [`never_reached`].
    point: &'static str,
    is_promised: fn(&Expect) -> bool,
}

macro_rules! keys {
    ($($rule:literal $name:literal $field:ident,)*) => {
        [$(Key {
            rule: $rule,
            name: $name,
            point: concat!("a measurement for ", $name),
            is_promised: |expect| expect.$field.is_some(),
        },)*]
    };
}

const KEYS: [Key; 9] = keys! {
    "E1" "membership_agree" membership_agree,
    "E2" "lookups_agree" lookups_agree,
    "E3" "staleness.p50" staleness_p50,
    "E4" "staleness.p99" staleness_p99,
    "E5" "staleness.max" staleness_max,
    "E6" "false_down" false_down,
    "E7" "bytes_per_node_s.idle" bytes_idle,
    "E8" "bytes_per_node_s.p99" bytes_p99,
    "V1" "phantom_max" phantom_max,
};

/// Compares what the plan promises with a run.
pub fn promises(plan: &Plan, outcome: &Outcome) -> Vec<Promise> {
    let (expect, stats) = (&plan.expect, &outcome.stats);
    let mut promises = Vec::new();
    let mut compare = |rule, name, promised: Option<Amount>, measured: Option<Amount>| {
        let Some(promised) = promised else { return };
        let is_kept = measured.map(|measured| measured.value() <= promised.value());
        promises.push(Promise { rule, name, promised, measured, is_kept });
    };
    let ms = |time: Option<Duration>| time.map(|time| Amount::Ms(time.as_secs_f64() * 1e3));
    compare("E1", "membership-agree", ms(expect.membership_agree), ms(stats.members_agreed));
    compare("E2", "lookups-agree", ms(expect.lookups_agree), ms(stats.lookups_agreed));

    let mut staleness = stats.staleness_ms.clone();
    staleness.sort_by(f32::total_cmp);
    for (rule, name, promised, quantile) in [
        ("E3", "staleness-p50", expect.staleness_p50, 0.5),
        ("E4", "staleness-p99", expect.staleness_p99, 0.99),
        ("E5", "staleness-max", expect.staleness_max, 1.0),
    ] {
        let measured = quantile_of(&staleness, quantile).map(f64::from);
        compare(rule, name, ms(promised), measured.map(Amount::Ms));
    }
    let is_watched = stats.watched.contains("V5") || stats.false_downs > 0;
    let false_downs = Some(Amount::Count(stats.false_downs)).filter(|_| is_watched);
    compare("E6", "false-down", expect.false_down.map(Amount::Count), false_downs);

    let mut seconds = stats.bytes_by_second.clone();
    seconds.sort_unstable();
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| Amount::Bytes(bytes as f64));
    let idle = Some(stats.idle_bytes).filter(|bytes| *bytes > 0.0).map(Amount::Bytes);
    compare("E7", "bytes-idle", bytes(expect.bytes_idle), idle);
    let worst = quantile_of(&seconds, 0.99).map(f64::from).map(Amount::Bytes);
    compare("E8", "bytes-p99", bytes(expect.bytes_p99), worst);

    // Those who had the time to agree and never did measured something after all.
    if had_time_to_agree(plan, outcome) {
        let agree = promises.iter_mut().filter(|it| ["E1", "E2"].contains(&it.rule));
        agree.for_each(|it| it.is_kept = Some(it.is_kept.unwrap_or(false)));
    }
    promises
}

/// The run went on after everything was mended, and no broken rule ended it before its time.
pub fn had_time_to_agree(plan: &Plan, outcome: &Outcome) -> bool {
    let is_whole = outcome.violation.as_ref().is_none_or(Violation::is_promise);
    is_whole && plan.heal_at.is_some_and(|heal| heal < plan.end)
}

/// The first promise that a run did not keep, if it broke no rule before.
pub fn broken(plan: &Plan, outcome: &Outcome) -> Option<Violation> {
    if outcome.violation.is_some() {
        return None;
    }
    let mut promises = promises(plan, outcome).into_iter();
    let promise = promises.find(|promise| promise.is_kept == Some(false))?;
    let measured = promise.measured.map_or_else(|| "never".to_owned(), |amount| amount.to_string());
    Some(Violation {
        rule: promise.rule.to_owned(),
        name: promise.name.to_owned(),
        node: None,
        what: format!("promised={} measured={measured}", promise.promised),
        at: plan.end,
        event: outcome.stats.events,
    })
}

/// Points that a run reached by measuring something for what the plan promises.
pub fn measured(plan: &Plan, outcome: &Outcome) -> impl Iterator<Item = &'static str> {
    promised(plan, outcome).filter(|(_, is_measured)| *is_measured).map(|(key, _)| key.point)
}

/// Keys of what the plan promises and for which the run measured nothing.
pub fn never_measured(plan: &Plan, outcome: &Outcome) -> impl Iterator<Item = &'static str> {
    promised(plan, outcome).filter(|(_, is_measured)| !is_measured).map(|(key, _)| key.name)
}

/// Keys of what the plan promises, each with whether the run measured something for it.
fn promised(plan: &Plan, outcome: &Outcome) -> impl Iterator<Item = (&'static Key, bool)> {
    let promises = promises(plan, outcome).into_iter().filter(|it| it.is_kept.is_some());
    let rules: Vec<&str> = promises.map(|promise| promise.rule).collect();
    let is_watched = outcome.stats.watched.contains("V1");
    let keys = KEYS.iter().filter(|key| (key.is_promised)(&plan.expect));
    let keys = keys.map(|key| (key, rules.contains(&key.rule) || key.rule == "V1" && is_watched));
    keys.collect::<Vec<_>>().into_iter()
}

/// Points that the plan wants some run to reach and that none of so many `runs` did, and promises
/// for which none of them measured anything: that they are kept nobody knows.
pub fn never_reached<'a>(
    plan: &'a Plan,
    runs: u64,
    is_reached: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = &'a str> {
    let is_enough = runs >= plan.expect.sometimes_runs;
    let wanted = plan.expect.sometimes.iter().map(String::as_str).filter(move |_| is_enough);
    let promised = KEYS.iter().filter(|key| (key.is_promised)(&plan.expect)).map(|key| key.point);
    wanted.chain(promised).filter(move |point| !is_reached(point))
}

/// The value that this share of all values does not exceed; `sorted` is in order.
pub fn quantile_of<T: Copy>(sorted: &[T], quantile: f64) -> Option<T> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

impl Amount {
    /// Without its unit.
    const fn value(self) -> f64 {
        match self {
            Self::Ms(value) | Self::Bytes(value) => value,
            Self::Count(count) => count as f64,
        }
    }
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
        outcome.stats.watched.insert("V5".to_owned());
        outcome
    }

    #[test]
    fn a_promise_that_is_kept_breaks_nothing() {
        let all = promises(&plan(), &outcome());
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|promise| promise.is_kept == Some(true)), "{all:?}");
        assert_eq!(broken(&plan(), &outcome()), None);
    }

    #[test]
    fn each_promise_that_is_not_kept_is_a_rule_of_its_own() {
        let mut never = outcome();
        never.stats.members_agreed = None;
        assert_eq!(broken(&plan(), &never).unwrap().to_string(), {
            "E1 membership-agree promised=5.00s measured=never"
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
        plan.expect.membership_agree = None;
        plan.expect.staleness_p99 = None;
        plan.expect.false_down = None;
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
        assert_eq!(promises(&plan, &outcome)[0].is_kept, None);
    }

    /// Points that are left once this run was counted.
    fn missed(plan: &Plan, outcome: &Outcome) -> Vec<String> {
        let reached: Vec<&str> = measured(plan, outcome).collect();
        let missed = never_reached(plan, 1, |point| reached.contains(&point));
        missed.map(str::to_owned).collect()
    }

    #[test]
    fn a_promise_for_which_nothing_was_measured_is_neither_kept_nor_broken() {
        let mut plan = plan();
        plan.expect.phantom_max = Some(Duration::from_secs(7));
        let mut whole = outcome();
        whole.stats.watched.insert("V1".to_owned());
        assert_eq!(missed(&plan, &whole), Vec::<String>::new());
        let mut blind = outcome();
        blind.stats.staleness_ms.clear();
        blind.stats.watched.clear();
        assert_eq!(broken(&plan, &blind), None);
        assert_eq!(
            missed(&plan, &blind),
            [
                "a measurement for staleness.p99",
                "a measurement for false_down",
                "a measurement for phantom_max",
            ]
        );
    }

    #[test]
    fn who_had_no_time_to_agree_did_not_break_the_promise() {
        let mut plan = plan();
        let mut outcome = outcome();
        outcome.stats.members_agreed = None;
        plan.end = Duration::from_secs(50);
        assert_eq!(broken(&plan, &outcome), None);
        assert_eq!(missed(&plan, &outcome), ["a measurement for membership_agree"]);
        plan.end = Duration::from_secs(51);
        assert_eq!(broken(&plan, &outcome).unwrap().rule, "E1");
    }
}

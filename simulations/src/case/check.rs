//! Plans in files that somebody may have changed: those that no world can execute are refused.
//!
//! Plans made of scenarios always can be; what scenarios promise about their contents is checked
//! where they are read.

use std::time::Duration;

use crate::plan::{BrokerPlan, Delay, DiskTrouble, Fault, Link, Plan};
use crate::shrink::nodes_of;

/// As in scenarios: a run of more nodes would not end in a day.
const NODES_MAX: usize = 10_000;

/// Of topics, channels and the like: more do not fit into memory.
const COUNT_MAX: usize = 1_000_000;

/// Of events per second: rarer than once in thirty years is never, and more than one in a
/// nanosecond there is no time for.
const RATES: std::ops::RangeInclusive<f64> = 1e-9..=1e9;

/// What is wrong with a plan, in words, with its value and what is accepted.
pub(crate) fn problem(plan: &Plan) -> Option<String> {
    let nodes = plan.nodes;
    if !(1..=NODES_MAX).contains(&nodes) {
        return Some(format!("nodes = {nodes} is not from 1 to {NODES_MAX}"));
    }
    if plan.starts.len() != nodes {
        return Some(format!("starts has {} times for {nodes} nodes", plan.starts.len()));
    }
    strays(plan)
        .or_else(|| shares(plan))
        .or_else(|| rates(plan))
        .or_else(|| counts(plan))
        .or_else(|| periods(plan))
}

/// Nodes that are named and are not there.
fn strays(plan: &Plan) -> Option<String> {
    let mut named: Vec<(String, &[usize])> =
        vec![("seeds".to_owned(), &plan.seeds), ("strangers".to_owned(), &plan.strangers)];
    named.extend(plan.core.iter().map(|core| ("core".to_owned(), core.as_slice())));
    named.extend(plan.regions.iter().map(|(name, all)| (format!("region {name:?}"), &all[..])));
    let rules = plan.link_rules.iter().enumerate();
    named.extend(rules.flat_map(|(index, rule)| {
        let what = format!("link rule {index}");
        [(what.clone(), rule.from.as_slice()), (what, rule.to.as_slice())]
    }));
    let in_faults: Vec<Vec<usize>> =
        plan.faults.iter().map(|timed| nodes_of(&timed.fault)).collect();
    let faults = in_faults.iter().enumerate();
    named.extend(faults.map(|(index, all)| (format!("fault {index}"), all.as_slice())));
    let last = plan.nodes - 1;
    named.into_iter().find_map(|(what, all)| {
        let node = all.iter().find(|&&node| node > last)?;
        Some(format!("{what} names node {node}; they are 0 to {last}"))
    })
}

/// Shares that are not from 0 to 1.
fn shares(plan: &Plan) -> Option<String> {
    let workload = &plan.workload;
    let mut all = vec![
        ("workload.register", workload.register),
        ("workload.bursts", workload.bursts),
        ("knobs.buggify", plan.knobs.buggify),
    ];
    for link in links(plan) {
        all.extend([
            ("loss", link.loss),
            ("dup", link.dup),
            ("reorder", link.reorder),
            ("corrupt", link.corrupt),
            ("truncate", link.truncate),
        ]);
        let burst = link.burst.iter();
        all.extend(burst.flat_map(|it| [it.enter, it.exit, it.loss].map(|it| ("burst", it))));
        if let Delay::Bimodal { p_slow, .. } = link.delay {
            all.push(("delay.p_slow", p_slow));
        }
    }
    all.extend(plan.faults.iter().filter_map(|timed| match timed.fault {
        Fault::Disk { trouble: DiskTrouble::Torn(share), .. } => Some(("torn", share)),
        _ => None,
    }));
    if let Some(BrokerPlan { deferred, requeue, timeout, .. }) = &plan.broker {
        let shares = [deferred, requeue, timeout].map(|share| ("broker", *share));
        all.extend(shares);
    }
    let (what, share) = all.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share))?;
    Some(format!("{what} = {share} is not from 0 to 1"))
}

fn links(plan: &Plan) -> impl Iterator<Item = &Link> {
    let rules = plan.link_rules.iter().map(|rule| &rule.link);
    let faults = plan.faults.iter().filter_map(|timed| match &timed.fault {
        Fault::Link { link, .. } => Some(link),
        _ => None,
    });
    std::iter::once(&plan.link).chain(rules).chain(faults)
}

/// Rates that are no rates, and clocks that stand still.
fn rates(plan: &Plan) -> Option<String> {
    let mut all =
        vec![("workload.churn", plan.workload.churn), ("workload.lookups", plan.workload.lookups)];
    all.extend(plan.broker.iter().map(|broker| ("broker.publish", broker.publish)));
    all.extend(plan.faults.iter().filter_map(|timed| match timed.fault {
        Fault::Junk { per_second, .. } => Some(("junk.per_second", per_second)),
        _ => None,
    }));
    let is_bad = |rate: f64| rate != 0.0 && !RATES.contains(&rate);
    if let Some((what, rate)) = all.into_iter().find(|(_, rate)| is_bad(*rate)) {
        return Some(format!("{what} = {rate} is neither 0 nor from 1e-9 to 1e9 a second"));
    }
    plan.faults.iter().find_map(|timed| match timed.fault {
        Fault::Clock { rate, .. } if !(0.01..=100.0).contains(&rate) => {
            Some(format!("clock.rate = {rate} is not from 0.01 to 100"))
        }
        _ => None,
    })
}

fn counts(plan: &Plan) -> Option<String> {
    let workload = &plan.workload;
    let mut all = vec![
        ("topics", plan.topics),
        ("workload.channels", workload.channels),
        ("workload.foreign", workload.foreign),
        ("workload.initial", workload.initial),
    ];
    for timed in &plan.faults {
        if let Fault::Burst { topics, channels, .. } = timed.fault {
            all.extend([("burst.topics", topics), ("burst.channels", channels)]);
        }
    }
    if let Some(BrokerPlan { consumers, channels, .. }) = &plan.broker {
        all.extend([("broker.consumers", *consumers), ("broker.channels", *channels)]);
    }
    let (what, count) = all.into_iter().find(|(_, count)| *count > COUNT_MAX)?;
    Some(format!("{what} = {count} is more than {COUNT_MAX}"))
}

/// Periods of nothing, which a run never gets past.
fn periods(plan: &Plan) -> Option<String> {
    let knobs = &plan.knobs;
    let all = [
        ("probe_period", knobs.probe_period),
        ("spread_period", knobs.spread_period),
        ("digest_period", knobs.digest_period),
        ("reconnect_period", knobs.reconnect_period),
    ];
    let (what, _) = all.into_iter().find(|(_, period)| *period == Some(Duration::ZERO))?;
    Some(format!("knobs.{what} is 0; it must be longer than nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::builtin;
    use crate::testing::failing_plan;

    #[test]
    fn plans_of_scenarios_are_fine() {
        assert_eq!(problem(&failing_plan()), None);
        for builtin in builtin::list() {
            let scenario = builtin::find(builtin.name).expect("built in");
            for seed in 0..50 {
                assert_eq!(problem(&scenario.plan(seed)), None, "{} {seed}", builtin.name);
            }
        }
    }

    #[test]
    fn a_plan_that_cannot_be_run_is_refused_with_what_is_wrong() {
        type Change = fn(&mut Plan);
        let broken: [(Change, &str); 10] = [
            (|plan| plan.nodes = 0, "nodes = 0 is not from 1 to 10000"),
            (|plan| plan.nodes = 8, "starts has 9 times for 8 nodes"),
            (|plan| plan.seeds = vec![9], "seeds names node 9; they are 0 to 8"),
            (|plan| plan.regions[0].1 = vec![99], "region \"a\" names node 99"),
            (|plan| plan.faults[1].fault = Fault::Pause { node: 12 }, "fault 1 names node 12"),
            (|plan| plan.link.loss = 1.5, "loss = 1.5 is not from 0 to 1"),
            (|plan| plan.workload.churn = -1.0, "workload.churn = -1"),
            (|plan| plan.workload.lookups = 1e-300, "workload.lookups = 0.00"),
            (|plan| plan.topics = usize::MAX, "topics = "),
            (|plan| plan.knobs.probe_period = Some(Duration::ZERO), "knobs.probe_period is 0"),
        ];
        for (break_it, said) in broken {
            let mut plan = failing_plan();
            break_it(&mut plan);
            let problem = problem(&plan).expect(said);
            assert!(problem.contains(said), "{said}: {problem}");
        }
    }
}

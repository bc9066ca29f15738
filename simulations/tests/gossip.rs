//! Clusters in trouble: whatever happens, nobody believes what was never written, and once it is
//! over everyone agrees.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test may be asked for more seeds"
)]

use std::time::Duration;

use grapevine_simulations::World;
use grapevine_simulations::outcome::Outcome;
use grapevine_simulations::plan::{
    DiskFate, Expect, Fault, Knobs, Link, Partition, Plan, TimedFault, Workload,
};
use grapevine_simulations::scenario::builtin;

/// Seeds of the storm that every run of the tests goes through; `GRAPEVINE_SEEDS` asks for more.
const SEEDS: u64 = 200;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A cluster in which nothing goes wrong until `heal`, and 15 s more.
fn calm(nodes: usize, heal: u64, seed: u64) -> Plan {
    Plan {
        name: "calm".to_owned(),
        seed,
        nodes,
        seeds: vec![0, 1],
        starts: (0..nodes).map(|node| Some(Duration::from_millis(200 * node as u64))).collect(),
        strangers: vec![],
        regions: vec![],
        knobs: Knobs::default(),
        link: Link::LAN,
        link_rules: vec![],
        topics: 6,
        workload: Workload { churn: 5.0, register: 0.55, channels: 3, ..Workload::default() },
        faults: vec![],
        heal_at: Some(secs(heal)),
        core: None,
        end: secs(heal + 15),
        broker: None,
        expect: Expect::default(),
    }
}

fn at(second: u64, fault: Fault) -> TimedFault {
    TimedFault { at: secs(second), lasts: None, fault, group: 0, label: String::new() }
}

fn split(side: &[usize]) -> Fault {
    Fault::Partition(Partition::Split(vec![side.to_vec()]))
}

fn run(plan: &Plan) -> Outcome {
    let outcome = World::new(plan).run(None);
    assert_eq!(outcome.violation, None, "seed {}", plan.seed);
    outcome
}

#[track_caller]
fn assert_agreed_within(seconds: u64, plan: &Plan) {
    let agreed = run(plan).stats.lookups_agreed;
    assert!(agreed.is_some_and(|after| after <= secs(seconds)), "seed {}: {agreed:?}", plan.seed);
}

#[test]
fn five_nodes_survive_any_storm_and_agree_afterwards() {
    let seeds = std::env::var("GRAPEVINE_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let scenario = builtin::find("swarm").expect("a scenario that ships");
    let mut agreed: Vec<Duration> = Vec::new();
    let mut failures = Vec::new();
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let outcome = World::new(&scenario.plan(seed)).run(None);
        match outcome.violation {
            None => agreed.extend(outcome.stats.lookups_agreed),
            Some(violation) => failures.push(format!("seed {seed:#x}: {violation}")),
        }
    }
    assert!(failures.is_empty(), "{}: {:#?}", failures.len(), &failures[..failures.len().min(10)]);
    agreed.sort_unstable();
    let at = |percent: usize| agreed[(agreed.len() - 1) * percent / 100];
    println!("agreement after a storm: p50 {:?} p95 {:?} max {:?}", at(50), at(95), at(100));
    assert!(at(95) <= secs(10), "p95 {:?}", at(95));
}

#[test]
fn an_idle_cluster_says_little() {
    let mut plan = calm(5, 60, 7);
    plan.workload.churn = 0.0;
    let idle = run(&plan).stats.idle_bytes;
    assert!(idle > 100.0 && idle < 1000.0, "{idle} bytes a second");
}

#[test]
fn two_halves_agree_soon_after_a_long_partition() {
    for seed in 0..20 {
        let mut plan = calm(6, 60, seed);
        plan.faults = vec![at(5, split(&[0, 1, 2]))];
        assert_agreed_within(8, &plan);
    }
}

#[test]
fn a_node_cut_off_alone_comes_back() {
    for seed in 0..20 {
        let mut plan = calm(3, 40, seed);
        let leave = Fault::Leave { node: 2, restart: Some(secs(36)) };
        plan.faults = vec![at(3, leave), at(5, split(&[0]))];
        assert_agreed_within(10, &plan);
    }
}

#[test]
fn a_cluster_that_was_killed_whole_is_whole_again_after_its_restart() {
    for seed in 0..20 {
        let mut plan = calm(5, 20, seed);
        let crash = |node| Fault::Crash { node, restart: None, disk: DiskFate::Keep, moves: false };
        plan.faults = (0..5).map(|node| at(10, crash(node))).collect();
        assert_agreed_within(6, &plan);
    }
}

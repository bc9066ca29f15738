//! Clusters in trouble: whatever happens, nobody believes what was never written, and once it is
//! over everyone agrees.

use std::time::Duration;

use grapevine_simulations::first::{Fault, Report, Scenario, World};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Seeds of the storm that every run of the tests goes through; `GRAPEVINE_SEEDS` asks for more.
const SEEDS: u64 = 200;

fn storm(seed: u64) -> World {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    World::new(Scenario::storm(5, &mut rng), seed)
}

fn run(scenario: Scenario, seed: u64) -> Report {
    World::new(scenario, seed).run().unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn five_nodes_survive_any_storm_and_agree_afterwards() {
    let seeds = std::env::var("GRAPEVINE_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let seeds = seeds.unwrap_or(SEEDS);
    let mut agreed: Vec<Duration> = Vec::new();
    let mut failures = Vec::new();
    for seed in 0..seeds {
        match storm(seed).run() {
            Ok(report) => agreed.push(report.agreed_after),
            Err(error) => failures.push(format!("seed {seed}: {error}")),
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {seeds}: {:#?}",
        failures.len(),
        &failures[..failures.len().min(10)]
    );
    agreed.sort_unstable();
    let at = |percent: usize| agreed[(agreed.len() - 1) * percent / 100];
    println!("agreement after a storm: p50 {:?} p95 {:?} max {:?}", at(50), at(95), at(100));
    assert!(at(95) <= secs(10), "p95 {:?}", at(95));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        let one = storm(seed).run().unwrap();
        let two = storm(seed).run().unwrap();
        assert_eq!((one.hash, one.events), (two.hash, two.events), "seed {seed}");
    }
    assert_ne!(storm(1).run().unwrap().hash, storm(2).run().unwrap().hash);
}

#[test]
fn an_idle_cluster_says_little() {
    let mut scenario = Scenario::calm(5);
    scenario.change_pause = secs(3600);
    scenario.chaos = secs(60);
    let report = run(scenario, 7);
    let per_node_second = report.bytes as f64 / 5.0 / 65.0;
    println!("idle: {per_node_second:.0} bytes a second and node");
    assert!(per_node_second < 1000.0, "{per_node_second} bytes a second");
}

#[test]
fn two_halves_agree_soon_after_a_long_partition() {
    for seed in 0..20 {
        let mut scenario = Scenario::calm(6);
        scenario.chaos = secs(60);
        scenario.quiet = secs(15);
        let sides = vec![true, true, true, false, false, false];
        scenario.script = Some(vec![(secs(5), Fault::Partition(sides))]);
        let report = run(scenario, seed);
        assert!(report.agreed_after <= secs(8), "seed {seed}: {:?}", report.agreed_after);
    }
}

#[test]
fn a_node_cut_off_alone_comes_back() {
    for seed in 0..20 {
        let mut scenario = Scenario::calm(3);
        scenario.chaos = secs(40);
        scenario.quiet = secs(15);
        let alone = vec![true, false, false];
        scenario.script =
            Some(vec![(secs(3), Fault::Leave(2)), (secs(5), Fault::Partition(alone))]);
        let report = run(scenario, seed);
        assert!(report.agreed_after <= secs(10), "seed {seed}: {:?}", report.agreed_after);
    }
}

#[test]
fn a_cluster_that_was_killed_whole_is_whole_again_after_its_restart() {
    for seed in 0..20 {
        let mut scenario = Scenario::calm(5);
        scenario.chaos = secs(20);
        scenario.quiet = secs(10);
        scenario.script = Some((0..5).map(|node| (secs(10), Fault::Crash(node))).collect());
        let report = run(scenario, seed);
        assert!(report.agreed_after <= secs(6), "seed {seed}: {:?}", report.agreed_after);
    }
}

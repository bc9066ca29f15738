//! Runs one plan for a while, for `perf` and for figures: `profile NODES SEEDS`. Times are of the
//! processor, so that they mean something on a machine that is busy (Linux only).

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a program")]

use std::time::Duration;

use grapevine_simulations::World;
use grapevine_simulations::plan::{
    Expect, Fault, Knobs, Link, Partition, Plan, TimedFault, Workload,
};

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |usual: u64| args.next().and_then(|arg| arg.parse().ok()).unwrap_or(usual);
    let nodes = number(5) as usize;
    let seeds = number(20);
    let started = processor_seconds();
    let mut events = 0;
    for seed in 0..seeds {
        let outcome = World::new(&plan(nodes, seed)).run(None);
        events += outcome.stats.events;
        let stats = &outcome.stats;
        println!(
            "seed {seed}: {} events, {} datagrams, agreed {:?}, idle {:.0} B/s, {:?}",
            stats.events,
            stats.datagrams,
            stats.lookups_agreed,
            stats.idle_bytes,
            outcome.violation
        );
    }
    let took = processor_seconds() - started;
    println!(
        "{nodes} nodes: {:.1} seeds/s, {:.0} events/s, {:.2} us an event",
        seeds as f64 / took,
        events as f64 / took,
        took * 1e6 / events as f64
    );
}

/// Seconds this thread has run.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    nanos.unwrap_or(0.0) / 1e9
}

/// One minute in which the two halves do not reach each other from 10 s to 40 s.
fn plan(nodes: usize, seed: u64) -> Plan {
    let halves = Partition::Split(vec![(0..nodes / 2).collect()]);
    let cut = TimedFault {
        at: Duration::from_secs(10),
        lasts: Some(Duration::from_secs(30)),
        fault: Fault::Partition(halves),
        group: 0,
        label: "halves".to_owned(),
    };
    Plan {
        name: "profile".to_owned(),
        seed,
        nodes,
        seeds: vec![0, 1],
        starts: (0..nodes)
            .map(|node| Some(Duration::from_millis(1000 * node as u64 / nodes as u64)))
            .collect(),
        strangers: vec![],
        regions: vec![],
        knobs: Knobs::default(),
        link: Link::LAN,
        link_rules: vec![],
        topics: 20,
        workload: Workload {
            churn: 5.0,
            register: 0.6,
            bursts: 0.1,
            channels: 3,
            lookups: 5.0,
            foreign: 0,
            initial: 5,
        },
        faults: vec![cut],
        heal_at: Some(Duration::from_secs(40)),
        core: None,
        end: Duration::from_secs(60),
        broker: None,
        expect: Expect::default(),
    }
}

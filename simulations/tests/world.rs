//! The world keeps its word: the same plan is the same run, and an edit changes only what it says.

use std::collections::BTreeMap;
use std::time::Duration;

use grapevine_simulations::World;
use grapevine_simulations::plan::{
    Expect, Fault, Knobs, Link, Partition, Plan, TimedFault, Workload,
};
use grapevine_simulations::trace::{Trace, What};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A cluster in which nothing goes wrong.
fn calm(nodes: usize, seed: u64) -> Plan {
    Plan {
        name: "calm".to_owned(),
        seed,
        nodes,
        seeds: vec![0, 1],
        starts: vec![Some(Duration::ZERO); nodes],
        strangers: vec![],
        regions: vec![],
        knobs: Knobs::default(),
        link: Link::LAN,
        link_rules: vec![],
        topics: 6,
        workload: Workload {
            churn: 5.0,
            register: 0.6,
            bursts: 0.1,
            channels: 3,
            lookups: 5.0,
            ..Workload::default()
        },
        faults: vec![],
        heal_at: Some(secs(20)),
        core: None,
        end: secs(30),
        broker: None,
        expect: Expect::default(),
    }
}

fn fault(at: u64, lasts: Option<u64>, fault: Fault) -> TimedFault {
    TimedFault { at: secs(at), lasts: lasts.map(secs), fault, group: 0, label: String::new() }
}

fn halves(nodes: usize) -> Fault {
    Fault::Partition(Partition::Split(vec![(0..nodes / 2).collect()]))
}

#[test]
fn the_same_plan_is_the_same_run() {
    for seed in 0..5 {
        let mut plan = calm(5, seed);
        plan.faults.push(fault(5, Some(10), halves(5)));
        let one = World::new(&plan).run(None);
        let two = World::new(&plan).run(Some(&mut Trace::default()));
        assert_eq!(one.violation, None, "seed {seed}");
        assert_eq!((one.hash, one.checkpoints), (two.hash, two.checkpoints), "seed {seed}");
        plan.seed += 1;
        assert_ne!(one.hash, World::new(&plan).run(None).hash);
    }
}

/// What became of each datagram by link and number: when it arrived after it was sent, or nothing.
fn luck_of(plan: &Plan, from: u32, to: u32) -> BTreeMap<usize, Option<u64>> {
    let mut trace = Trace::default();
    World::new(plan).run(Some(&mut trace));
    let mut sent = BTreeMap::new();
    let mut luck = BTreeMap::new();
    for record in &trace.records {
        match record.what {
            What::Send { id, to: target, stream: false, .. }
                if (record.n, target) == (Some(from), to) =>
            {
                luck.insert(sent.len(), None);
                sent.insert(id, (sent.len(), record.t));
            }
            What::Recv { id, .. } => {
                if let Some((number, at)) = sent.get(&id) {
                    luck.insert(*number, Some(record.t - at));
                }
            }
            _ => {}
        }
    }
    luck
}

#[test]
fn removing_a_fault_leaves_the_luck_of_other_links_as_it_was() {
    let mut plan = calm(5, 3);
    plan.link.loss = 0.1;
    let without = luck_of(&plan, 0, 1);
    plan.faults.push(fault(5, Some(5), Fault::Partition(Partition::Links(vec![(3, 4)]))));
    let with = luck_of(&plan, 0, 1);
    let both = without.len().min(with.len());
    assert!(both > 20);
    for number in 0..both - 5 {
        assert_eq!(without[&number], with[&number], "datagram {number}");
    }
}

#[test]
fn two_halves_know_each_other_again_soon_after_the_cut_is_mended() {
    for seed in 0..10 {
        let mut plan = calm(6, seed);
        plan.faults.push(fault(5, None, halves(6)));
        let outcome = World::new(&plan).run(None);
        assert_eq!(outcome.violation, None, "seed {seed}");
        assert!(outcome.stats.lookups_agreed <= Some(secs(8)), "seed {seed}");
        assert!(outcome.stats.counters["datagrams_in"] > 100);
    }
}

//! The world keeps its word: the same plan is the same run, and an edit changes only what it says.

use std::collections::BTreeMap;
use std::time::Duration;

use grapevine_simulations::World;
use grapevine_simulations::outcome::Outcome;
use grapevine_simulations::plan::{
    DiskFate, DiskTrouble, Expect, Fault, Knobs, Link, Partition, Plan, TimedFault, Workload,
};
use grapevine_simulations::trace::{Record, Trace, What};

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

fn traced(plan: &Plan) -> (Outcome, Vec<Record>) {
    let mut trace = Trace::default();
    let outcome = World::new(plan).run(Some(&mut trace));
    assert_eq!(outcome.violation, None, "{:?}", plan.faults);
    (outcome, trace.records)
}

/// A run with one fault from 5 s on.
fn with_fault(lasts: Option<u64>, what: Fault) -> (Outcome, Vec<Record>) {
    let mut plan = calm(4, 11);
    plan.faults.push(fault(5, lasts, what));
    traced(&plan)
}

fn crash(node: usize, disk: DiskFate) -> Fault {
    Fault::Crash { node, restart: Some(secs(4)), disk, moves: false }
}

/// Times and epochs at which the processes of `node` began.
fn starts(records: &[Record], node: u32) -> Vec<(u64, u64)> {
    let starts = records.iter().filter(|record| record.n == Some(node));
    starts
        .filter_map(|record| match record.what {
            What::Life { to: "up", epoch } => Some((record.t, epoch)),
            _ => None,
        })
        .collect()
}

fn drops(records: &[Record], why: &str) -> usize {
    let drops = records.iter().filter(|record| match &record.what {
        What::Drop { reason, .. } => *reason == why,
        _ => false,
    });
    drops.count()
}

#[test]
fn a_node_that_was_killed_starts_again_with_a_greater_epoch() {
    let (_, records) = with_fault(None, crash(2, DiskFate::Keep));
    let starts = starts(&records, 2);
    assert_eq!(starts.len(), 2);
    assert!((9_000_000_000..9_100_000_000).contains(&starts[1].0), "{starts:?}");
    assert!(starts[1].1 > starts[0].1);
    assert!(drops(&records, "dead") > 0);
}

#[test]
fn a_node_without_its_disk_or_at_a_new_address_is_taken_in_again() {
    with_fault(None, crash(2, DiskFate::Lose));
    with_fault(None, crash(2, DiskFate::PowerLoss));
    with_fault(None, crash(2, DiskFate::Old(secs(60))));
    let moves = Fault::Crash { node: 2, restart: Some(secs(4)), disk: DiskFate::Keep, moves: true };
    with_fault(None, moves);
}

#[test]
fn a_node_that_leaves_for_good_is_not_started_again() {
    let (_, records) = with_fault(None, Fault::Leave { node: 3, restart: None });
    assert_eq!(starts(&records, 3).len(), 1);
    let left = |record: &&Record| matches!(record.what, What::Life { to: "left", .. });
    let left = records.iter().find(left).expect("it left");
    assert!(left.t < 5_500_000_000, "{}", left.t);
}

#[test]
fn a_paused_node_says_nothing_and_loses_what_its_socket_has_no_room_for() {
    let mut plan = calm(4, 11);
    plan.workload.churn = 60.0;
    plan.faults.push(fault(5, Some(8), Fault::Pause { node: 1 }));
    let (_, records) = traced(&plan);
    let said = records.iter().filter(|record| {
        record.n == Some(1)
            && (5_000_000_000..13_000_000_000).contains(&record.t)
            && matches!(record.what, What::Send { .. } | What::Recv { .. } | What::Timer)
    });
    // It is on the instant of its resumption that the first 64 are read, and then the timers.
    assert_eq!(said.count(), 0);
    assert!(drops(&records, "buffer") > 0);
    let first = records.iter().filter(|record| record.n == Some(1) && record.t == 13_000_000_000);
    let first: Vec<&What> = first
        .map(|record| &record.what)
        .filter(|what| matches!(what, What::Recv { .. } | What::Timer))
        .collect();
    let timer = first.iter().position(|what| matches!(what, What::Timer));
    assert_eq!(timer, Some(64), "{}", first.len());
}

#[test]
fn a_node_that_is_slow_works_off_one_input_after_the_other() {
    let per_input = Duration::from_millis(20);
    let (_, records) = with_fault(Some(10), Fault::SlowCpu { node: 1, per_input });
    let inputs = records.iter().filter(|record| {
        record.n == Some(1)
            && (5_000_000_000..15_000_000_000).contains(&record.t)
            && matches!(record.what, What::Recv { .. } | What::Timer)
    });
    let times: Vec<u64> = inputs.map(|record| record.t).collect();
    assert!(times.len() > 50);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 20_000_000));
}

#[test]
fn a_node_whose_disk_takes_nothing_does_not_start_before_it_does() {
    let mut plan = calm(4, 11);
    plan.faults.push(fault(5, None, crash(2, DiskFate::Keep)));
    plan.faults.push(fault(6, Some(9), Fault::Disk { node: 2, trouble: DiskTrouble::Full }));
    let (_, records) = traced(&plan);
    let starts = starts(&records, 2);
    assert!((15_000_000_000..16_100_000_000).contains(&starts[1].0), "{starts:?}");
}

#[test]
fn a_node_that_speaks_another_version_is_alone_until_it_is_put_back() {
    let (outcome, records) = with_fault(Some(10), Fault::Wire { node: 0, version: 9 });
    assert!(outcome.stats.counters["dropped_wire_version"] > 0);
    let downs = records.iter().filter(|record| record.n == Some(0));
    let downs =
        downs.filter(|record| matches!(record.what, What::Member { to: "down", .. })).count();
    assert_eq!(downs, 3);
}

#[test]
fn junk_is_counted_and_does_no_harm() {
    let (outcome, _) = with_fault(Some(10), Fault::Junk { node: 1, per_second: 100.0 });
    let counters = &outcome.stats.counters;
    for name in ["dropped_truncated", "dropped_wire_version", "dropped_swim", "dropped_frame"] {
        assert!(counters.get(name).is_some_and(|count| *count > 0), "{name}: {counters:?}");
    }
}

#[test]
fn damaged_late_doubled_and_oversized_datagrams_are_part_of_a_bad_link() {
    let link = Link {
        corrupt: 0.1,
        truncate: 0.1,
        dup: 0.2,
        reorder: 0.1,
        reorder_by: secs(3),
        mtu: Some(150),
        rate: Some(3_000),
        queue: 3,
        loss: 0.05,
        ..Link::LAN
    };
    let (outcome, records) = with_fault(Some(10), Fault::Link { from: vec![], to: vec![], link });
    let counters = &outcome.stats.counters;
    assert!(counters["dropped_damaged"] > 0 && counters["dropped_truncated"] > 0, "{counters:?}");
    for why in ["mtu", "queue", "loss"] {
        assert!(drops(&records, why) > 0, "{why}");
    }
    let mut arrived = BTreeMap::new();
    for record in &records {
        if let What::Recv { id, .. } = record.what {
            *arrived.entry(id).or_insert(0) += 1;
        }
    }
    assert!(arrived.values().any(|&times| times == 2));
}

#[test]
fn a_clock_that_runs_fast_or_jumps_disturbs_nobody() {
    let clock = |wall_jump_ms, rate| Fault::Clock { node: 1, wall_jump_ms, rate };
    with_fault(Some(10), clock(0, 1.3));
    with_fault(Some(10), clock(0, 0.7));
    with_fault(None, clock(-3_600_000, 1.0));
}

#[test]
fn a_stranger_is_nobodys_member() {
    let mut plan = calm(4, 5);
    plan.strangers = vec![3];
    let (outcome, records) = traced(&plan);
    let about_it = records.iter().any(|record| {
        matches!(record.what, What::Member { about: 3, .. })
            || (record.n == Some(3) && matches!(record.what, What::Member { .. }))
    });
    assert!(!about_it);
    assert!(outcome.stats.counters["dropped_frame"] > 0);
}

#[test]
fn many_topics_at_once_come_and_go_everywhere() {
    let burst = Fault::Burst { node: 1, topics: 200, channels: 2, delete_after: Some(secs(8)) };
    let (_, records) = with_fault(None, burst);
    let writes = records.iter().filter(|record| {
        let live = |key: &str, live: bool| key.starts_with('n') && live;
        matches!(&record.what, What::Write { key, live: is, .. } if live(key, *is))
    });
    assert_eq!(writes.count(), 600);
}

#[test]
fn a_healthy_core_agrees_while_the_rest_stays_broken() {
    let mut plan = calm(5, 2);
    plan.core = Some(vec![0, 1, 2]);
    plan.faults.push(fault(5, None, Fault::Pause { node: 3 }));
    plan.faults.push(fault(6, None, Fault::Partition(Partition::Chain)));
    plan.faults.push(fault(7, None, crash(0, DiskFate::Keep)));
    let (outcome, records) = traced(&plan);
    assert!(outcome.stats.members_agreed.is_some());
    let resumed = |record: &Record| matches!(record.what, What::Life { to: "resumed", .. });
    assert!(!records.iter().any(resumed));
}

#[test]
fn a_run_can_be_stopped_early_and_is_the_same_up_to_there() {
    let plan = calm(8, 3);
    let whole = World::new(&plan).run(None);
    let part = World::new(&plan).until(secs(12)).run(None);
    assert_eq!(part.violation, None);
    let count = part.checkpoints.len();
    assert!(count > 0 && count < whole.checkpoints.len());
    assert_eq!(part.checkpoints, whole.checkpoints[..count]);
}

#[test]
fn what_happens_once_in_ages_happens_in_no_run_and_the_run_goes_on() {
    let mut plan = calm(3, 1);
    (plan.workload.churn, plan.workload.lookups) = (1e-300, 1e-300);
    plan.faults.push(fault(5, Some(5), Fault::Junk { node: 1, per_second: 1e-300 }));
    let outcome = World::new(&plan).run(None);
    assert_eq!(outcome.violation, None);
    assert!(outcome.stats.events > 100);
}

//! Plans and runs for tests of what surrounds the world: nothing of a cluster is executed.

use std::time::Duration;

use crate::outcome::{Outcome, Stats, Violation};
use crate::plan::{DiskFate, Expect, Fault, Knobs, Link, Partition, Plan, TimedFault, Workload};

/// Nine nodes, twelve faults in seven groups, traffic.
pub(crate) fn failing_plan() -> Plan {
    let at = |second: u64, group: u32, lasts: Option<u64>, fault: Fault| TimedFault {
        at: Duration::from_secs(second),
        lasts: lasts.map(Duration::from_secs),
        fault,
        group,
        label: format!("group {group}"),
    };
    let crash = |node| Fault::Crash {
        node,
        restart: Some(Duration::from_secs(8)),
        disk: DiskFate::Keep,
        moves: false,
    };
    let halves = Fault::Partition(Partition::Split(vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7, 8]]));
    let mut faults = vec![at(5, 0, Some(10), halves.clone())];
    faults.extend((0..4).map(|k| at(6 + 3 * k, 1, Some(1), Fault::Pause { node: 2 })));
    faults.extend((0..3).map(|k| at(8 + k, 2, None, crash(k as usize))));
    faults.push(at(12, 3, Some(4), Fault::Pause { node: 8 }));
    faults.push(at(20, 4, None, crash(3)));
    faults.push(at(25, 5, None, Fault::Leave { node: 7, restart: None }));
    faults.push(at(30, 6, Some(10), halves));
    Plan {
        name: "storm".to_owned(),
        seed: 0x2a,
        nodes: 9,
        seeds: vec![0, 8],
        starts: vec![Some(Duration::ZERO); 9],
        strangers: vec![8],
        regions: vec![("a".to_owned(), vec![0, 1, 8])],
        knobs: Knobs::default(),
        link: Link::LAN,
        link_rules: Vec::new(),
        topics: 20,
        workload: Workload { churn: 5.0, register: 0.6, lookups: 20.0, ..Workload::default() },
        faults,
        heal_at: Some(Duration::from_secs(50)),
        core: None,
        end: Duration::from_secs(90),
        broker: None,
        expect: Expect::default(),
    }
}

/// A run of that many events that broke nothing, with a hash that depends on the plan.
pub(crate) fn outcome_of(plan: &Plan, events: u64) -> Outcome {
    let text = serde_json::to_string(plan).expect("a plan is JSON");
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    Outcome {
        hash,
        checkpoints: vec![hash ^ 1, hash ^ 2],
        stats: Stats { events, ..Stats::default() },
        violation: None,
    }
}

/// A broken rule at that time.
pub(crate) fn violation(rule: &str, at: Duration) -> Violation {
    Violation {
        rule: rule.to_owned(),
        name: "lost-key".to_owned(),
        node: Some(0),
        what: "owner=1 key=t007".to_owned(),
        at,
        event: 812,
    }
}

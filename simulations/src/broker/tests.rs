//! Each rule is broken by a sequence made by hand and by a planted bug; a swarm breaks none.

use std::collections::BTreeSet;
use std::time::Duration;

use grapevine_broker::{ChannelStats, Now};
use grapevine_protocol::Moment;

use super::ledger::{Ledger, Left, Survival};
use super::names;
use super::shell::{Answer, Delivered};
use crate::execute::execute;
use crate::outcome::{Outcome, Violation};
use crate::plan::Plan;
use crate::scenario::builtin;

const TIMEOUT: Duration = Duration::from_secs(2);
const WHOSE: (usize, u32, u32, u64) = (0, 1, 0, 7);

fn at(ms: u64) -> Now {
    let ns = ms * 1_000_000;
    Now { mono: Moment(ns), wall: 1_800_000_000_000_000_000 + ns as i64 }
}

/// Node 0 has topic 1 with channel 0, saved, and in it message 5, acknowledged.
fn ledger() -> Ledger {
    ledger_with((0, None), true)
}

fn ledger_with(deferral: (i64, Option<Moment>), is_written: bool) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.topic_made(0, 1);
    ledger.channel_made(0, 1, 0, 0);
    ledger.saved(0, 1, at(0));
    ledger.stored(0, 1, &[5], deferral, is_written);
    ledger.acknowledged(5);
    ledger
}

fn deliver(ledger: &mut Ledger, attempts: u16, now: Now) -> Result<(), Violation> {
    ledger.delivered(WHOSE, Delivered { id: 50, attempts, number: 5 }, now, TIMEOUT)
}

fn answer(ledger: &mut Ledger, answer: Answer, is_taken: bool, now: Now) -> Result<(), Violation> {
    ledger.answered(WHOSE, 5, answer, is_taken, (now, TIMEOUT))
}

fn settle(ledger: &Ledger, left: &[u64], is_due: bool) -> Result<(), Violation> {
    let left = Left(left.iter().map(|number| (*number, 1)).collect());
    ledger.settled(0, 1, 0, &left, is_due)
}

fn restart(ledger: &mut Ledger, survival: Survival, now: Now) -> Result<(), Violation> {
    ledger.crashed(0, survival);
    ledger.all_loaded(0, &[1])?;
    ledger.loaded(0, 1, &[0], now)
}

#[track_caller]
fn assert_breaks(rule: &str, result: Result<(), Violation>) {
    let violation = result.expect_err("a rule is broken");
    assert_eq!(violation.rule, rule, "{violation}");
}

fn stats(depth: u64) -> Vec<ChannelStats> {
    vec![ChannelStats {
        name: names::channel(0),
        depth,
        backend_depth: 0,
        in_flight_count: 0,
        deferred_count: 0,
        message_count: 0,
        requeue_count: 0,
        timeout_count: 0,
        zone_local_count: 0,
        region_local_count: 0,
        global_count: 0,
        is_paused: false,
        latency: None,
        consumers: std::collections::BTreeMap::new(),
    }]
}

#[test]
fn an_acknowledged_message_must_survive_what_its_durability_survives() {
    for (is_written, is_synced, survival, is_owed) in [
        (true, false, Survival::Written, true),
        (false, false, Survival::Written, false),
        (true, false, Survival::Synced, true),
        (true, false, Survival::Power, false),
        (true, true, Survival::Power, true),
        (true, true, Survival::Unknown, false),
    ] {
        let mut ledger = ledger_with((0, None), is_written);
        if is_synced {
            ledger.synced(0, 1);
        }
        restart(&mut ledger, survival, at(5_000)).unwrap();
        settle(&ledger, &[5], false).unwrap();
        assert_eq!(settle(&ledger, &[], false).is_err(), is_owed, "{survival:?}");
        assert_eq!(ledger.lost_allowed, u64::from(!is_owed));
    }
    assert_breaks("M1", settle(&ledger(), &[], false));
    assert_breaks("M1", ledger().counted(0, 1, &stats(0)));
}

#[test]
fn a_channel_and_a_topic_that_were_saved_are_there_after_a_kill() {
    let mut ledger = ledger();
    ledger.crashed(0, Survival::Written);
    assert_breaks("M1", ledger.loaded(0, 1, &[], at(1)));
    assert_breaks("M1", ledger.all_loaded(0, &[]));
    ledger.crashed(0, Survival::Power);
    ledger.loaded(0, 1, &[], at(1)).unwrap();
}

#[test]
fn a_message_is_in_one_place() {
    let mut twice = ledger();
    deliver(&mut twice, 1, at(10)).unwrap();
    assert_breaks("M2", deliver(&mut twice, 2, at(2_009)));
    deliver(&mut twice, 2, at(2_010)).unwrap();
    assert_breaks("M2", answer(&mut twice, Answer::Finish, false, at(2_020)));
    assert_breaks("M2", ledger().counted(0, 1, &stats(2)));
    let unknown = Delivered { id: 51, attempts: 1, number: 6 };
    assert_breaks("M2", ledger().delivered(WHOSE, unknown, at(1), TIMEOUT));
    let mut one_id = ledger();
    one_id.stored(0, 1, &[6], (0, None), true);
    deliver(&mut one_id, 1, at(10)).unwrap();
    let other = Delivered { id: 50, attempts: 1, number: 6 };
    assert_breaks("M2", one_id.delivered(WHOSE, other, at(10), TIMEOUT));
}

#[test]
fn attempts_grow_by_one_and_go_back_no_further_than_the_last_checkpoint() {
    assert_breaks("M3", deliver(&mut ledger(), 2, at(1)));
    let mut ledger = ledger();
    for attempts in 1..=3 {
        deliver(&mut ledger, attempts, at(10 * u64::from(attempts))).unwrap();
        answer(&mut ledger, Answer::Requeue(Duration::ZERO), true, at(60)).unwrap();
        if attempts == 2 {
            ledger.saved(0, 1, at(70));
        }
    }
    restart(&mut ledger, Survival::Written, at(80)).unwrap();
    assert_breaks("M3", deliver(&mut ledger, 2, at(90)));
    assert_breaks("M3", deliver(&mut ledger, 5, at(90)));
    deliver(&mut ledger, 3, at(90)).unwrap();
}

#[test]
fn every_channel_gets_every_message_at_least_once() {
    assert_breaks("M4", settle(&ledger(), &[5], true));
    settle(&ledger(), &[5], false).unwrap();
    let mut got = ledger();
    deliver(&mut got, 1, at(1)).unwrap();
    settle(&got, &[5], true).unwrap();
    let mut later = Ledger::default();
    later.topic_made(0, 1);
    later.stored(0, 1, &[5], (0, None), true);
    later.channel_made(0, 1, 0, 0);
    assert_breaks("M4", settle(&later, &[5], true));
}

#[test]
fn a_deferred_message_is_not_early_also_after_a_kill() {
    let deferral = || (at(3_000).wall, Some(at(3_000).mono));
    assert_breaks("M5", deliver(&mut ledger_with(deferral(), true), 1, at(2_999)));
    deliver(&mut ledger_with(deferral(), true), 1, at(3_000)).unwrap();
    let mut ledger = ledger_with(deferral(), true);
    // The monotonic clock of the next process begins anew.
    let started = Now { mono: Moment(1), ..at(1_000) };
    restart(&mut ledger, Survival::Written, started).unwrap();
    let later = |ms: u64| Now { mono: Moment(1 + ms * 1_000_000), ..at(1_000 + ms) };
    assert_breaks("M5", deliver(&mut ledger, 1, later(1_999)));
    deliver(&mut ledger, 1, later(2_000)).unwrap();
}

#[test]
fn a_topic_begins_with_every_channel_that_is_known() {
    ledger().topic_began(0, 1, &BTreeSet::from([0])).unwrap();
    assert_breaks("M6", ledger().topic_began(0, 1, &BTreeSet::from([0, 1])));
}

#[test]
fn what_is_finished_comes_again_only_if_a_crash_could_forget_it() {
    let mut ledger = ledger();
    deliver(&mut ledger, 1, at(10)).unwrap();
    answer(&mut ledger, Answer::Finish, true, at(20)).unwrap();
    assert_breaks("M7", deliver(&mut ledger, 2, at(30)));
    let mut forgotten = ledger_finished_and(false);
    deliver(&mut forgotten, 1, at(50)).unwrap();
    assert_breaks("M7", deliver(&mut ledger_finished_and(true), 1, at(50)));
}

/// Message 5 was finished, then the process was killed; `is_saved`: after a checkpoint.
fn ledger_finished_and(is_saved: bool) -> Ledger {
    let mut ledger = ledger();
    deliver(&mut ledger, 1, at(10)).unwrap();
    answer(&mut ledger, Answer::Finish, true, at(20)).unwrap();
    if is_saved {
        ledger.saved(0, 1, at(30));
    }
    restart(&mut ledger, Survival::Written, at(40)).unwrap();
    ledger
}

fn plan(seed: u64) -> Plan {
    builtin::find("broker").expect("it is built in").plan(seed)
}

fn run(seed: u64) -> Outcome {
    execute(&plan(seed), None)
}

#[test]
fn brokers_keep_their_rules_in_200_runs_with_all_kinds_of_trouble() {
    let mut sums = std::collections::BTreeMap::<String, u64>::new();
    for seed in 0..200 {
        let outcome = run(seed);
        assert_eq!(outcome.violation, None, "seed {seed:#x}");
        for (name, count) in outcome.stats.messages {
            *sums.entry(name).or_default() += count;
        }
    }
    // All of it happened, or nothing was proven.
    for name in ["acknowledged", "refused", "requeued", "redelivered", "lost_allowed"] {
        assert!(sums[name] > 500, "{sums:?}");
    }
    assert!(sums["finished"] > sums["acknowledged"], "two channels: {sums:?}");
}

#[test]
fn a_run_with_brokers_is_the_same_run_twice_also_when_it_is_recorded() {
    for seed in 0..5 {
        let mut trace = crate::trace::Trace::default();
        let (first, second) = (run(seed), execute(&plan(seed), Some(&mut trace)));
        assert_eq!(first.hash, second.hash);
        assert_eq!(first.stats.messages, second.stats.messages);
        let is_of_brokers = |record: &&crate::trace::Record| {
            matches!(record.what, crate::trace::What::Broker { .. })
        };
        assert!(trace.records.iter().filter(is_of_brokers).count() > 1_000);
    }
}

#[cfg(feature = "mutants")]
#[test]
fn each_planted_bug_breaks_its_rule() {
    use grapevine_gossip::mutant::{Mutant, Shelf, plant};

    let rules = ["M1", "M1", "M2", "M3", "M6", "M6", "M5", "M4", "M7", "M1"];
    assert_eq!(Mutant::on(Shelf::Brokers).count(), rules.len());
    for (mutant, rule) in Mutant::on(Shelf::Brokers).zip(rules) {
        let violations = (0..40).filter_map(|seed| plant(Some(mutant), || run(seed)).violation);
        let found: BTreeSet<String> = violations.map(|violation| violation.rule).collect();
        assert!(found.contains(rule), "{mutant}: {found:?}");
    }
}

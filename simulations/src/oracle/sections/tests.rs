use std::collections::BTreeMap;
use std::time::Duration;

use grapevine_gossip::audit::Touched;
use grapevine_gossip::catalogue::Catalogue;
use grapevine_gossip::cluster::{ClusterEvent, Sizes};
use grapevine_gossip::config::Timings;
use grapevine_gossip::envelope::{Seal, Sender};
use grapevine_gossip::section::{Delta, Key, Op, ProducerId, Snapshot, Value};
use grapevine_gossip::{NodeId, Producer};
use grapevine_protocol::Moment;

use super::{Sections, bounds};
use crate::outcome::Violation;
use crate::plan::{DiskFate, Fault, Plan};
use crate::testing::failing_plan;
use crate::world::{Cause, Deed};

const OWNER: NodeId = NodeId(100);
const HOLDER: NodeId = NodeId(101);
const EPOCH: u64 = 7;
const HIDDEN: Value = Value::Registered { tombstoned_at_ns: Some(1) };

fn key(topic: &str) -> Key {
    Key::new(ProducerId::NSQD, topic, "")
}

fn catalogue(id: NodeId, epoch: u64) -> Catalogue {
    let mut catalogue = Catalogue::new(id, epoch, &Timings::default());
    catalogue.begin_audit();
    catalogue
}

/// Node 0 writes, node 1 holds a copy.
struct Stage {
    sections: Sections,
    owner: Catalogue,
    holder: Catalogue,
    left: BTreeMap<NodeId, u64>,
}

impl Stage {
    fn new() -> Self {
        Self::of(&failing_plan())
    }

    fn of(plan: &Plan) -> Self {
        let (owner, holder) = (catalogue(OWNER, EPOCH), catalogue(HOLDER, 1));
        let mut sections = Sections::new(plan);
        sections.started(0, &owner);
        sections.started(1, &holder);
        Self { sections, owner, holder, left: BTreeMap::new() }
    }

    /// The owner's nsqd makes topics, or deletes those that begin with a minus.
    fn written(mut self, steps: &[&str]) -> Self {
        self.write(steps).expect("the owner may write");
        self
    }

    fn write(&mut self, steps: &[&str]) -> Result<(), Violation> {
        for step in steps {
            let (producer, channel) = (ProducerId::NSQD, None);
            let (deed, value) = match step.strip_prefix('-') {
                Some(topic) => (Deed::Deletes { topic, channel }, None),
                None => {
                    let deed = Deed::Registers { producer, topic: step, channel };
                    (deed, Some(Value::REGISTERED))
                }
            };
            self.sections.did(0, &deed, Moment::default());
            self.owner.write(key(step.trim_start_matches('-')), value, Moment::default());
        }
        self.owner_handled(Cause::Local)
    }

    fn owner_handled(&mut self, cause: Cause) -> Result<(), Violation> {
        let touched = self.owner.take_touched();
        let (none, now) = (BTreeMap::new(), Moment::default());
        self.sections
            .examine(0, &self.owner, &none, &touched, now, cause)
            .map_err(|broken| broken.at(0))
    }

    fn holder_handled(&mut self) -> Result<(), Violation> {
        let touched = self.holder.take_touched();
        self.holder_told(&touched)
    }

    fn holder_told(&mut self, touched: &[Touched]) -> Result<(), Violation> {
        let now = Moment::default();
        self.sections
            .examine(1, &self.holder, &self.left, touched, now, Cause::Datagram)
            .map_err(|broken| broken.at(1))
    }

    /// The holder is told these writes, each `ver` and `topic` or `-topic`, as all in `(from, to]`.
    fn tell(&mut self, from: u64, to: u64, ops: &[(u64, &str)]) -> Result<(), Violation> {
        self.holder.apply_delta(OWNER, &delta(EPOCH, from, to, ops));
        self.holder_handled()
    }

    /// From now on the holder has another catalogue, as a broken one might be.
    fn swap_holder(&mut self) {
        self.holder = catalogue(HOLDER, 1);
    }
}

fn ops(ops: &[(u64, &str)]) -> Vec<Op> {
    let ops = ops.iter().map(|&(ver, topic)| {
        let value = (!topic.starts_with('-')).then_some(Value::REGISTERED);
        Op { ver, key: key(topic.trim_start_matches('-')), value }
    });
    ops.collect()
}

fn delta(epoch: u64, from: u64, to: u64, writes: &[(u64, &str)]) -> Delta {
    Delta { epoch, from, to, floor: 0, ops: ops(writes) }
}

#[track_caller]
fn assert_broken(result: Result<(), Violation>, rule: &str, what: &str) {
    let violation = result.expect_err("the rule is broken");
    assert_eq!((violation.rule.as_str(), violation.what.as_str()), (rule, what));
}

#[test]
fn a_copy_that_follows_its_owner_breaks_nothing() {
    let mut stage = Stage::new().written(&["a", "b"]);
    assert_eq!(stage.tell(0, 1, &[(1, "a")]), Ok(()));
    // "a" is written again before the next delta is made, which therefore lacks nothing.
    stage = stage.written(&["-b", "-a", "a"]);
    assert_eq!(stage.tell(1, 3, &[(3, "-b")]), Ok(()));
    assert_eq!(stage.tell(3, 5, &[(5, "a")]), Ok(()));
    stage.holder = catalogue(HOLDER, 2);
    stage.sections.ended(1);
    stage.sections.started(1, &stage.holder);
    assert_eq!(stage.tell(0, 5, &[(3, "-b"), (5, "a")]), Ok(()), "a new process");
}

#[test]
fn s1_a_copy_of_what_was_never_written_is_noticed() {
    let mut stage = Stage::new().written(&["a"]);
    assert_broken(stage.tell(0, 2, &[(1, "a")]), "S1", "owner=0 ver=2 written=1");
    let mut stage = Stage::new().written(&["a"]);
    stage.holder.apply_delta(OWNER, &delta(EPOCH + 1, 0, 1, &[(1, "a")]));
    assert_broken(stage.holder_handled(), "S1", "owner=0 epoch=8 ver=1 written=none");
}

#[test]
fn s2_a_copy_that_goes_back_is_noticed_unless_it_was_dropped() {
    let mut stage = Stage::new().written(&["a", "b"]);
    assert_eq!(stage.tell(0, 2, &[(1, "a"), (2, "b")]), Ok(()));
    stage.holder.forget(OWNER);
    assert_eq!(stage.holder_handled(), Ok(()));
    assert_eq!(stage.tell(0, 1, &[(1, "a")]), Ok(()), "dropped, and learnt from somebody behind");
    assert_eq!(stage.tell(1, 2, &[(2, "b")]), Ok(()));
    stage.swap_holder();
    assert_broken(stage.tell(0, 1, &[(1, "a")]), "S2", "owner=0 ver=1 held=2");
}

#[test]
fn s3_an_entry_that_the_owner_did_not_write_is_noticed() {
    let mut stage = Stage::new().written(&["a"]);
    let result = stage.tell(0, 1, &[(1, "b")]);
    assert_broken(result, "S3", "owner=0 key=b ver=1 is=live");
    let mut stage = Stage::new().written(&["a"]);
    let result = stage.tell(0, 1, &[(1, "-a")]);
    assert_broken(result, "S3", "owner=0 key=a ver=1 is=deleted");
}

#[test]
fn s3_keys_of_an_earlier_epoch_are_noticed() {
    let mut stage = Stage::new().written(&["a"]);
    stage.holder.apply_delta(OWNER, &delta(EPOCH, 0, 1, &[(1, "a")]));
    // Whoever keeps them has keys that nobody put there in this epoch.
    let untouched = [Touched { owner: OWNER, touches: vec![] }];
    assert_broken(stage.holder_told(&untouched), "S3", "owner=0 keys=1 written=0");
}

#[test]
fn s4_a_write_that_is_missing_is_noticed() {
    let mut stage = Stage::new().written(&["a", "b", "c"]);
    let result = stage.tell(0, 3, &[(1, "a"), (3, "c")]);
    assert_broken(result, "S4", "owner=0 key=b ver=2 is=live held=none");
    let mut stage = Stage::new().written(&["a", "-a", "c"]);
    let result = stage.tell(0, 3, &[(1, "a"), (3, "c")]);
    assert_broken(result, "S4", "owner=0 key=a ver=2 is=deleted held=1");
}

#[test]
fn s4_a_deletion_may_be_missing_at_or_below_the_floor_only() {
    let snapshot = |floor| Snapshot { epoch: EPOCH, ver: 3, floor, ops: ops(&[(3, "c")]) };
    let mut stage = Stage::new().written(&["a", "-a", "c"]);
    stage.holder.apply_snapshot(OWNER, &snapshot(2));
    assert_eq!(stage.holder_handled(), Ok(()));
    let mut stage = Stage::new().written(&["a", "-a", "c"]);
    stage.holder.apply_snapshot(OWNER, &snapshot(1));
    let what = "owner=0 key=a ver=2 is=deleted held=none";
    assert_broken(stage.holder_handled(), "S4", what);
}

#[test]
fn s4_a_key_may_not_be_removed_while_its_last_write_counts() {
    let mut stage = Stage::new().written(&["a", "b"]);
    assert_eq!(stage.tell(0, 1, &[(1, "a")]), Ok(()));
    let without = Snapshot { epoch: EPOCH, ver: 2, floor: 1, ops: ops(&[(2, "b")]) };
    stage.holder.apply_snapshot(OWNER, &without);
    let what = "owner=0 key=a ver=1 is=live held=none floor=1";
    assert_broken(stage.holder_handled(), "S4", what);
}

#[test]
fn s5_a_key_or_an_epoch_that_goes_back_is_noticed() {
    let mut stage = Stage::new().written(&["a", "b", "-a", "a"]);
    assert_eq!(stage.tell(0, 4, &[(2, "b"), (4, "a")]), Ok(()));
    stage.swap_holder();
    let result = stage.tell(0, 4, &[(1, "a"), (2, "b")]);
    assert_broken(result, "S5", "owner=0 key=a ver=1 is=live held=4");

    let mut stage = Stage::new().written(&["a"]);
    assert_eq!(stage.tell(0, 1, &[(1, "a")]), Ok(()));
    stage.owner = catalogue(OWNER, EPOCH - 1);
    stage.sections.started(0, &stage.owner);
    stage = stage.written(&["a"]);
    stage.swap_holder();
    stage.holder.apply_delta(OWNER, &delta(EPOCH - 1, 0, 1, &[(1, "a")]));
    assert_broken(stage.holder_handled(), "S5", "owner=0 epoch=6 held=7");
}

#[test]
fn s5_a_snapshot_that_replaces_what_it_should_be_merged_into_is_noticed() {
    let mut stage = Stage::new().written(&["a", "b"]);
    assert_eq!(stage.tell(0, 1, &[(1, "a")]), Ok(()));
    stage.swap_holder();
    let result = stage.tell(0, 2, &[(1, "a"), (2, "b")]);
    assert_broken(result, "S5", "owner=0 key=a ver=1 is=live held=1");
}

#[test]
fn s7_other_live_keys_at_the_owners_own_version_are_noticed() {
    let mut stage = Stage::new().written(&["a", "b"]);
    assert_eq!(stage.tell(0, 2, &[(1, "a"), (2, "b")]), Ok(()));
    stage.swap_holder();
    stage.holder.apply_delta(OWNER, &delta(EPOCH, 0, 2, &[(2, "b")]));
    let untouched = [Touched { owner: OWNER, touches: vec![] }];
    assert_broken(stage.holder_told(&untouched), "S7", "owner=0 ver=2 live-keys=1");
}

#[test]
fn s8_a_write_that_nobody_at_the_node_made_is_noticed() {
    for cause in [Cause::Datagram, Cause::Frame, Cause::Wake, Cause::Stream, Cause::Persisted] {
        let mut stage = Stage::new();
        stage.owner.write(key("a"), Some(Value::REGISTERED), Moment::default());
        let what = format!("key=a ver=1 is=live cause={cause:?}");
        assert_broken(stage.owner_handled(cause), "S8", &what);
    }
    let mut stage = Stage::new().written(&["a"]);
    stage.owner.write(key("a"), None, Moment::default());
    assert_broken(stage.owner_handled(Cause::Wake), "S8", "key=a ver=2 is=deleted cause=Wake");
}

#[test]
fn s8_a_producer_is_hidden_where_somebody_asked_for_it_and_listed_again_by_a_timer() {
    let mut stage = Stage::new().written(&["a"]);
    stage.sections.did(0, &Deed::Hides { topic: "a" }, Moment::default());
    stage.owner.write(key("a"), Some(HIDDEN), Moment::default());
    assert_eq!(stage.owner_handled(Cause::Datagram), Ok(()));
    stage.owner.write(key("a"), Some(Value::REGISTERED), Moment::default());
    assert_eq!(stage.owner_handled(Cause::Wake), Ok(()));
}

#[test]
fn s9_an_epoch_that_was_used_before_is_noticed_unless_the_disk_was_put_back() {
    let restarted = |plan: &Plan, fault: Option<usize>| {
        let mut stage = Stage::of(plan).written(&["a"]);
        fault.into_iter().for_each(|fault| stage.sections.fault(fault));
        stage.sections.ended(0);
        stage.owner = catalogue(OWNER, EPOCH);
        stage.sections.started(0, &stage.owner);
        stage.owner_handled(Cause::Start)
    };
    let mut plan = failing_plan();
    assert_broken(restarted(&plan, None), "S9", "epoch=7 used-by=0 versions=1");
    let disk = DiskFate::Old(Duration::from_secs(9));
    plan.faults[3].fault = Fault::Crash { node: 0, restart: None, disk, moves: false };
    assert_broken(restarted(&plan, None), "S9", "epoch=7 used-by=0 versions=1");
    assert_eq!(restarted(&plan, Some(3)), Ok(()));
}

#[test]
fn s9_nothing_can_be_said_of_copies_of_an_epoch_that_two_processes_used() {
    let mut plan = failing_plan();
    let disk = DiskFate::CloneOf(0);
    plan.faults[0].fault = Fault::Crash { node: 2, restart: None, disk, moves: false };
    let mut stage = Stage::of(&plan).written(&["a"]);
    stage.sections.fault(0);
    stage.sections.started(2, &catalogue(OWNER, EPOCH));
    assert_eq!(stage.tell(0, 2, &[(1, "b"), (2, "a")]), Ok(()));
}

#[test]
fn s9_an_epoch_that_is_not_on_the_disk_is_not_shown() {
    let packet = |epoch| {
        let sender = Sender { node: OWNER, epoch, counter: 1 };
        Seal::none("simulated").seal(sender, b"body")
    };
    let mut stage = Stage::new().written(&["a"]);
    assert_eq!(stage.sections.sent(0, &packet(EPOCH)), Ok(()));
    let early = stage.sections.sent(0, &packet(EPOCH + 5));
    assert_broken(early, "S9", "epoch=12 durable=7");
    stage.sections.persisted(0, EPOCH + 5);
    assert_eq!(stage.sections.sent(0, &packet(EPOCH + 5)), Ok(()));
    stage.owner.set_own_epoch(EPOCH + 5);
    assert_eq!(stage.owner_handled(Cause::Persisted), Ok(()));
    // Versions go on, and copies of the new epoch have what was written before.
    stage = stage.written(&["b"]);
    stage.holder.apply_delta(OWNER, &delta(EPOCH + 5, 0, 2, &[(1, "a"), (2, "b")]));
    assert_eq!(stage.holder_handled(), Ok(()));
    stage.owner.set_own_epoch(EPOCH + 9);
    assert_broken(stage.owner_handled(Cause::Persisted), "S9", "epoch=16 durable=12");
}

#[test]
fn s9_an_epoch_that_was_shown_is_on_the_disk_that_the_next_process_finds() {
    let found = |epoch| {
        let mut stage = Stage::new().written(&["a"]);
        stage.sections.ended(0);
        stage.sections.found(0, OWNER, epoch);
        stage.owner = catalogue(OWNER, EPOCH + 1);
        stage.sections.started(0, &stage.owner);
        stage.owner_handled(Cause::Start)
    };
    assert_eq!(found(Some(EPOCH)), Ok(()));
    assert_broken(found(Some(EPOCH - 1)), "S9", "epoch=7 found=6");
    assert_broken(found(None), "S9", "epoch=7 found=0");
}

#[test]
fn s9_a_node_that_found_its_id_elsewhere_is_silent() {
    let mut stage = Stage::new();
    stage.sections.event(0, &ClusterEvent::NodeIdConflict);
    let sender = Sender { node: OWNER, epoch: EPOCH, counter: 1 };
    let sent = stage.sections.sent(0, &Seal::none("simulated").seal(sender, b"body"));
    assert_broken(sent, "S9", "epoch=7 sent-after=node-id-conflict");
}

#[test]
fn v3_a_deleted_key_that_comes_back_is_noticed() {
    let mut stage = Stage::new().written(&["a", "b", "-a"]);
    assert_eq!(stage.tell(0, 3, &[(2, "b"), (3, "-a")]), Ok(()));
    stage.swap_holder();
    let result = stage.tell(0, 3, &[(1, "a"), (2, "b")]);
    assert_broken(result, "V3", "owner=0 key=a ver=1 is=live held=3");
}

#[test]
fn v3_an_owner_that_left_is_not_shown_again_in_that_epoch() {
    for by_event in [false, true] {
        let mut stage = Stage::new().written(&["a"]);
        stage.holder.member_up(OWNER, EPOCH);
        assert_eq!(stage.tell(0, 1, &[(1, "a")]), Ok(()));
        stage.holder.forget(OWNER);
        if !by_event {
            stage.left.insert(OWNER, EPOCH);
        }
        assert_eq!(stage.holder_handled(), Ok(()));
        if by_event {
            stage.sections.event(1, &ClusterEvent::MemberLeft(OWNER));
        }
        assert_eq!(stage.tell(0, 1, &[(1, "a")]), Ok(()), "held, and not shown");
        stage.holder.member_up(OWNER, EPOCH);
        assert_broken(stage.holder_handled(), "V3", "owner=0 epoch=7 left=7");
    }
}

#[test]
fn v4_a_registration_that_is_not_there_or_should_not_be_is_noticed() {
    let mut stage = Stage::new();
    let (producer, topic) = (ProducerId::NSQD, "a");
    let deed = Deed::Registers { producer, topic, channel: Some("c") };
    stage.sections.did(0, &deed, Moment::default());
    stage.owner.write(key("a"), Some(Value::REGISTERED), Moment::default());
    let result = stage.owner_handled(Cause::Local);
    assert_broken(result, "V4", "key=a/c is=deleted must=live");

    let mut stage = Stage::new();
    stage.owner.write(key("a"), Some(Value::REGISTERED), Moment::default());
    assert_broken(stage.owner_handled(Cause::Local), "V4", "key=a is=live must=deleted");

    let mut stage = Stage::new().written(&["a"]);
    stage.owner.write(key("a"), Some(HIDDEN), Moment::default());
    assert_broken(stage.owner_handled(Cause::Datagram), "V4", "key=a is=hidden must=live");
}

#[test]
fn v4_a_foreign_producer_that_hangs_up_leaves_its_names() {
    let mut stage = Stage::new();
    let producer = ProducerId(1);
    let what = Producer { hostname: "stock".to_owned(), ..Producer::default() };
    for deed in [
        Deed::Describes { producer, what: &what },
        Deed::Registers { producer, topic: "a", channel: Some("c#ephemeral") },
        Deed::HangsUp { producer },
    ] {
        stage.sections.did(0, &deed, Moment::default());
    }
    let names = |topic, channel| Key::new(ProducerId::NAMES, topic, channel);
    stage.owner.write(names("a", ""), Some(Value::REGISTERED), Moment::default());
    assert_eq!(stage.owner_handled(Cause::Local), Ok(()));
    stage.owner.write(names("a", "c#ephemeral"), Some(Value::REGISTERED), Moment::default());
    let what = "key=a/c#ephemeral@names is=live must=deleted";
    assert_broken(stage.owner_handled(Cause::Local), "V4", what);
}

#[test]
fn b2_whatever_exceeds_its_bound_is_noticed() {
    let sizes = Sizes { owners: 3, rumours: 3, outbound: Sizes::STREAMS_MAX, ..Sizes::default() };
    assert!(bounds::check(&sizes, 3).is_ok());
    let broken = |sizes| bounds::check(&sizes, 3).map_err(|broken| broken.at(0));
    let result = broken(Sizes { rumours: 4, ..sizes });
    assert_broken(result, "B2", "what=rumours held=4 most=3");
    let staged_bytes = Sizes::STAGED_BYTES_MAX + 1;
    assert!(broken(Sizes { staged_bytes, ..sizes }).is_err());
}

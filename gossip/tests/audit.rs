//! What an auditor of a catalogue is told.

use grapevine_gossip::NodeId;
use grapevine_gossip::catalogue::Catalogue;
use grapevine_gossip::config::Timings;
use grapevine_gossip::section::{Delta, Key, Op, ProducerId, Value};
use grapevine_protocol::Moment;

const OWNER: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

fn key(topic: &str) -> Key {
    Key::new(ProducerId::NSQD, topic, "")
}

fn audited(node: NodeId) -> Catalogue {
    let mut catalogue = Catalogue::new(node, 1, &Timings::default());
    catalogue.begin_audit();
    catalogue
}

fn delta(epoch: u64, from: u64, ops: Vec<(u64, &str, bool)>) -> Delta {
    let to = ops.last().map_or(from, |op| op.0);
    let ops = ops.into_iter().map(|(ver, topic, live)| {
        let value = live.then_some(Value::REGISTERED);
        Op { ver, key: key(topic), value }
    });
    Delta { epoch, from, to, floor: 0, ops: ops.collect() }
}

#[test]
fn every_write_is_told_even_if_the_next_one_undoes_it() {
    let mut catalogue = audited(OWNER);
    let now = Moment::default();
    catalogue.write(key("a"), Some(Value::REGISTERED), now);
    catalogue.write(key("a"), None, now);
    let touched = catalogue.take_touched();
    assert_eq!(touched.len(), 1);
    let touches: Vec<_> = touched[0]
        .touches
        .iter()
        .map(|t| (t.before, t.after.as_ref().map(|e| (e.ver, e.value.is_some()))))
        .collect();
    assert_eq!(touches, [(None, Some((1, true))), (Some(1), Some((2, false)))]);
    assert!(catalogue.take_touched().is_empty());
}

#[test]
fn equal_sections_have_equal_hashes_whatever_the_way_to_them() {
    let (mut owner, mut other) = (audited(OWNER), audited(OTHER));
    let now = Moment::default();
    for topic in ["a", "b", "c"] {
        owner.write(key(topic), Some(Value::REGISTERED), now);
    }
    owner.write(key("b"), None, now);
    other.apply_delta(OWNER, &delta(1, 0, vec![(1, "a", true), (2, "b", true)]));
    assert_ne!(other.section(OWNER).unwrap().live_hash(), owner.own().live_hash());
    other.apply_delta(OWNER, &delta(1, 2, vec![(3, "c", true), (4, "b", false)]));
    assert_eq!(other.section(OWNER).unwrap().live_hash(), owner.own().live_hash());
    assert_eq!(other.take_touched()[0].touches.len(), 4);
}

#[test]
fn a_new_epoch_begins_with_the_hash_of_nothing() {
    let mut other = audited(OTHER);
    other.apply_delta(OWNER, &delta(1, 0, vec![(1, "a", true)]));
    other.apply_delta(OWNER, &delta(2, 0, vec![]));
    assert_eq!(other.section(OWNER).unwrap().live_hash(), Some(0));
    assert!(other.take_touched()[0].touches.is_empty());
}

#[test]
fn nothing_is_noted_for_nobody() {
    let mut catalogue = Catalogue::new(OWNER, 1, &Timings::default());
    catalogue.write(key("a"), Some(Value::REGISTERED), Moment::default());
    assert!(catalogue.take_touched().is_empty());
    assert_eq!(catalogue.own().live_hash(), None);
}

#[test]
fn what_brings_nothing_new_touches_nothing() {
    let mut other = audited(OTHER);
    let news = delta(1, 0, vec![(1, "a", true)]);
    other.apply_delta(OWNER, &news);
    assert_eq!(other.take_touched().len(), 1);
    other.apply_delta(OWNER, &news);
    other.apply_delta(OWNER, &delta(1, 5, vec![(6, "b", true)]));
    assert!(other.take_touched().is_empty());
    other.apply_delta(OWNER, &delta(1, 1, vec![(2, "b", true)]));
    assert_eq!(other.take_touched().len(), 1);
}

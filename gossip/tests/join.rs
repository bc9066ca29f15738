//! Whoever can be found is found soon, whatever else is on the list.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod net;

use std::time::Duration;

use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::{Boot, ClusterEvent, ClusterTime, ConnId, Input};
use grapevine_gossip::codec::encode;
use grapevine_gossip::envelope::{Seal, Sender};
use grapevine_gossip::message::{Frame, Purpose};
use grapevine_protocol::Moment;
use net::{Net, addr, boot};

const SECOND: u64 = 1_000_000_000;

/// When the node found its cluster, in ns.
fn synced_at(net: &Net, node: usize) -> Option<u64> {
    let mut events = net.nodes[node].events.iter();
    events.find(|(_, event)| *event == ClusterEvent::Synced).map(|&(at, _)| at)
}

/// A network with one node, and 64 machines that are off.
fn with_dark_machines() -> Net {
    let mut net = Net::default();
    net.start(1, 5, addr(1), &[]);
    net.dark.extend((100..164).map(addr));
    net.run(Duration::from_secs(1));
    net
}

#[test]
fn members_of_an_earlier_life_that_are_gone_do_not_delay_a_join_by_a_seed() {
    let mut net = with_dark_machines();
    let peers = net.dark.iter().copied().collect();
    let joiner = net.boot(Boot { peers, ..boot(2, 5, addr(2)) }, &[addr(1)]);
    net.run(Duration::from_secs(1));
    assert!(synced_at(&net, joiner).is_some());
    assert_eq!(net.members(0), [addr(1), addr(2)]);
}

#[test]
fn a_seed_that_does_not_answer_is_not_waited_for() {
    let mut net = with_dark_machines();
    let seeds: Vec<_> = (100..106).chain([1]).map(addr).collect();
    let joiner = net.start(2, 5, addr(2), &seeds);
    net.run(Duration::from_secs(4));
    assert!(synced_at(&net, joiner).is_some(), "six are called within 2.5 s");
}

#[test]
fn a_name_that_is_not_found_does_not_hold_up_the_other_seeds() {
    let mut net = with_dark_machines();
    net.unnamed.insert(addr(100));
    let joiner = net.start(2, 5, addr(2), &[addr(100), addr(1)]);
    net.run(Duration::from_secs(1));
    assert!(synced_at(&net, joiner).is_some());
    // It is a seed all the same, and tried when its name is known.
    net.dark.remove(&addr(100));
    let late = net.start(3, 5, addr(100), &[]);
    net.input(joiner, Input::Resolved { seed: 0, addrs: vec![addr(100)] });
    net.run(Duration::from_secs(1));
    assert_eq!(net.members(late), [addr(1), addr(2), addr(100)]);
}

#[test]
fn without_seeds_members_of_an_earlier_life_are_looked_for_until_one_is_there() {
    let mut net = with_dark_machines();
    let alone = net.boot(Boot { peers: vec![addr(100)], ..boot(2, 5, addr(2)) }, &[]);
    net.run(Duration::from_secs(60));
    assert!(synced_at(&net, alone).is_some(), "it does not wait for them");
    net.dark.remove(&addr(100));
    net.start(3, 5, addr(100), &[]);
    net.run(Duration::from_secs(25));
    assert_eq!(net.members(alone), [addr(2), addr(100)]);
}

#[test]
fn a_node_that_has_lost_everybody_soon_finds_a_seed_that_does_not_know_it() {
    // Wherever the loss falls between two attempts.
    for shift in 0..6 {
        let mut net = with_dark_machines();
        let left = net.start(2, 5, addr(2), &[addr(1), addr(100)]);
        net.run(Duration::from_secs(60 + 3 * shift));
        net.kill(0);
        net.run(Duration::from_secs(6));
        assert_eq!(net.members(left), [addr(2)]);
        net.dark.remove(&addr(100));
        net.start(3, 5, addr(100), &[]);
        // A call that has just begun fails after 3 s, which is noticed within 1 s; 5 s later is the
        // next.
        net.run(Duration::from_secs(10));
        assert_eq!(net.members(left), [addr(2), addr(100)], "{shift}");
    }
}

#[test]
fn a_node_without_seeds_whose_epoch_is_taken_joins_with_a_greater_one() {
    let mut net = Net::default();
    net.start(1, 5, addr(1), &[]);
    let old = net.start(2, 1_000, addr(2), &[addr(1)]);
    net.run(Duration::from_secs(3));
    net.kill(old);
    let again = net.boot(Boot { peers: vec![addr(1)], ..boot(2, 700, addr(2)) }, &[]);
    net.run(Duration::from_secs(3));
    assert_eq!(net.members(again), [addr(1), addr(2)]);
    assert!(net.nodes[again].cluster.membership().me().epoch > 1_000);
}

#[test]
fn a_node_that_gives_the_address_of_another_as_its_own_stops_and_the_other_goes_on() {
    let mut net = Net::default();
    net.start(1, 5, addr(1), &[]);
    // What is sent there reaches the node that was started last.
    let wrong = net.start(2, 900, addr(3), &[addr(1)]);
    let right = net.start(3, 6, addr(3), &[addr(1)]);
    net.run(Duration::from_secs(30));
    let is_stopped = |node: usize| {
        let mut events = net.nodes[node].events.iter();
        events.any(|(_, event)| *event == ClusterEvent::NodeIdConflict)
    };
    assert!(is_stopped(wrong) && !is_stopped(right));
    let rival = net.nodes[wrong].cluster.address_rival().unwrap();
    assert_eq!((rival.node, rival.addr.socket()), (NodeId(3), addr(3)));
    for node in [0, right] {
        assert_eq!(net.members(node), [addr(1), addr(3)]);
        let active = net.nodes[node].cluster.membership().active();
        assert!(!active.contains_key(&NodeId(2)));
    }
}

#[test]
fn an_epoch_that_nobody_reaches_is_not_taken_and_ends_neither_the_join_nor_gossip() {
    let time = |at| ClusterTime { at: Moment(at), wall_ns: 0 };
    let mut net = Net::default();
    let node = net.start(2, 5, addr(2), &[addr(8), addr(1)]);
    net.run(Duration::from_millis(2));
    let sealed = |frame: &Frame| {
        let sender = Sender { node: NodeId(8), epoch: 300, counter: 1 };
        Seal::none("test").seal(sender, &encode(frame))
    };
    let taken = sealed(&Frame::EpochTaken { epoch: 1 << 61 });
    for conn in 0..8 {
        let cluster = &mut net.nodes[node].cluster;
        cluster.handle(time(SECOND), Input::Connected(ConnId(conn)));
        cluster.handle(time(SECOND), Input::Frame(ConnId(conn), &taken));
    }
    net.start(1, 5, addr(1), &[]);
    net.run(Duration::from_secs(20));
    assert_eq!(net.members(node), [addr(1), addr(2)]);
    assert!(net.nodes[node].persisted.is_empty(), "nothing was taken");
    // The same of a member that is said to have left for ever.
    let conn = ConnId(ConnId::ACCEPTED + 7_000);
    let me = net.nodes[node].cluster.membership().me();
    let left = vec![(me.node, u64::MAX)];
    let hello = Frame::Hello {
        identity: grapevine_gossip::identity::Identity { node: NodeId(8), ..me },
        purpose: Purpose::Sync,
    };
    net.input(1, Input::Accepted(conn));
    for frame in [hello, Frame::Members { members: vec![], left }] {
        net.input(1, Input::Frame(conn, &sealed(&frame)));
    }
    assert!(net.nodes[1].cluster.membership().active().contains_key(&me.node));
    assert!(net.nodes[1].cluster.membership().left().is_empty());
}

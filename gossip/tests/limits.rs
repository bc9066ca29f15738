//! Every limit holds for whatever comes in, whoever sends it.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod net;

use std::time::Duration;

use foca::{Codec, Header, Member, Message as Swim, State};
use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::{Cluster, ClusterTime, ConnId, Input, Output, Sizes};
use grapevine_gossip::codec::{SwimCodec, encode};
use grapevine_gossip::config::Timings;
use grapevine_gossip::envelope::{Seal, Sender};
use grapevine_gossip::identity::Identity;
use grapevine_gossip::membership::Membership;
use grapevine_gossip::message::{
    Ask, Frame, Head, KIND_MESSAGE, KIND_SWIM, Liveness, MemberState, Message, OwnedDelta, Purpose,
};
use grapevine_gossip::section::{
    Applied, Delta, Key, Op, ProducerId, SECTION_BYTES_MAX, SECTION_TOPICS_MAX, Section, Value,
};
use grapevine_protocol::Moment;
use net::{Net, addr, boot};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

const SECOND: u64 = 1_000_000_000;

/// A member of [`cluster`], which is node 1 in epoch 5.
const PEER: NodeId = NodeId(7);

fn identity(node: NodeId, port: u16) -> Identity {
    Identity { addr: addr(port).into(), node, epoch: 300, renew: 0 }
}

fn sealed(sender: NodeId, body: &[u8]) -> Vec<u8> {
    Seal::none("test").seal(Sender { node: sender, epoch: 300, counter: 1 }, body)
}

/// A node that [`PEER`] joined through.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(boot(1, 5, addr(1)), ClusterTime::default());
    let conn = accept(&mut cluster, 0, PEER);
    cluster.handle(ClusterTime::default(), Input::Closed { conn, is_refused: false });
    assert!(cluster.membership().active().contains_key(&PEER));
    cluster
}

fn accept(cluster: &mut Cluster, number: u64, node: NodeId) -> ConnId {
    let conn = ConnId(ConnId::ACCEPTED + number);
    cluster.handle(ClusterTime::default(), Input::Accepted(conn));
    let identity = identity(node, u16::try_from(node.0).unwrap());
    frame(cluster, conn, &Frame::Hello { identity, purpose: Purpose::Sync });
    conn
}

/// Whether the stream is still open after this frame.
fn frame(cluster: &mut Cluster, conn: ConnId, frame: &Frame) -> bool {
    let now = ClusterTime { at: Moment(SECOND), wall_ns: 0 };
    cluster.handle(now, Input::Frame(conn, &sealed(PEER, &encode(frame))));
    let mut outputs = std::iter::from_fn(|| cluster.poll());
    !outputs.any(|output| output == Output::Close(conn))
}

fn datagram(cluster: &mut Cluster, at: u64, sender: NodeId, kind: u8, body: &[u8]) {
    let bytes = sealed(sender, &[&[kind], body].concat());
    assert!(bytes.len() <= 1232);
    let now = ClusterTime { at: Moment(at), wall_ns: 0 };
    cluster.handle(now, Input::Datagram { from: addr(40), bytes: &bytes });
}

fn count(cluster: &Cluster, name: &str) -> u64 {
    cluster.counters().get(name).copied().unwrap_or(0)
}

/// A registration with long names.
fn op(ver: u64) -> Op {
    let (topic, channel) = (format!("{ver:064}"), format!("{ver:064}"));
    let key = Key::new(ProducerId::NSQD, &topic, &channel);
    Op { ver, key, value: Some(Value::REGISTERED) }
}

#[test]
fn a_stranger_is_heard_twenty_times_a_second_and_a_member_as_often_as_it_speaks() {
    let mut cluster = cluster();
    for at in 1..=50 {
        datagram(&mut cluster, at, NodeId(40), KIND_MESSAGE, b"");
        datagram(&mut cluster, at, PEER, KIND_MESSAGE, b"");
    }
    assert_eq!(count(&cluster, "dropped_flood"), 30);
    datagram(&mut cluster, SECOND, NodeId(40), KIND_MESSAGE, b"");
    assert_eq!(count(&cluster, "dropped_flood"), 30);
}

#[test]
fn lists_longer_than_anybody_makes_them_are_not_read() {
    let small =
        |ver| Op { ver, key: Key::new(ProducerId::NSQD, "t", ""), value: Some(Value::REGISTERED) };
    let deltas = |ops: u64| {
        let ops: Vec<Op> = (1..=ops).map(small).collect();
        let delta = Delta { epoch: 300, from: 0, to: 99, floor: 0, ops };
        Message::Deltas(vec![OwnedDelta { owner: PEER, delta }])
    };
    let head = Head { owner: PEER, epoch: 1, ver: 1, by_stream: false };
    let heads = |heads, asks| Message::Heads {
        heads: vec![head; heads],
        bucket_count: 128,
        asks: vec![1; asks],
    };
    let pull = |asks| Message::Pull(vec![Ask { owner: PEER, epoch: 1, have: 1 }; asks]);
    let digest = |bytes: usize| Message::Digest { view: 0, buckets: vec![1; bytes] };
    for (fits, exceeds) in [
        (deltas(64), deltas(65)),
        (heads(40, 128), heads(41, 1)),
        (heads(40, 128), heads(1, 129)),
        (pull(40), pull(41)),
        (digest(4 * 128), digest(4 * 129)),
        (digest(4), digest(0)),
        (digest(8), digest(7)),
    ] {
        let mut cluster = cluster();
        datagram(&mut cluster, 1, PEER, KIND_MESSAGE, &encode(&fits));
        assert_eq!(count(&cluster, "dropped_too_many"), 0, "{fits:?}");
        datagram(&mut cluster, 1, PEER, KIND_MESSAGE, &encode(&exceeds));
        assert_eq!(count(&cluster, "dropped_too_many"), 1, "{exceeds:?}");
    }
}

/// How to tell a node that it is down.
type Tell = fn(&mut Membership, Moment);

fn ways() -> [(&'static str, Tell); 4] {
    fn packet(membership: &mut Membership, now: Moment, message: Swim<Identity>, news: &[State]) {
        let (src, me) = (identity(PEER, 7), membership.me());
        let mut bytes = Vec::new();
        let header = Header { src, src_incarnation: 0, dst: me, message };
        SwimCodec.encode_header(&header, &mut bytes).unwrap();
        bytes.extend_from_slice(&u16::try_from(news.len()).unwrap().to_be_bytes());
        for &state in news {
            SwimCodec.encode_member(&Member::new(me, u16::MAX, state), &mut bytes).unwrap();
        }
        let _ = membership.handle_swim(now, src.addr.socket(), &bytes);
    }
    [
        ("to its face", |membership, now| packet(membership, now, Swim::TurnUndead, &[])),
        ("by a rumour", |membership, now| packet(membership, now, Swim::Gossip, &[State::Down])),
        ("by a suspicion that it cannot refute", |membership, now| {
            packet(membership, now, Swim::Gossip, &[State::Suspect]);
        }),
        ("by stream", |membership, now| {
            let identity = membership.me();
            let down = MemberState { identity, incarnation: 0, liveness: Liveness::Down };
            membership.apply(now, &[down], true);
        }),
    ]
}

#[test]
fn an_identity_is_renewed_six_times_a_minute_whoever_says_that_it_is_down_and_how() {
    for (way, tell) in ways() {
        let rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let me = Identity { addr: addr(1).into(), node: NodeId(1), epoch: 5, renew: 0 };
        let mut membership = Membership::new(me, &Timings::default(), 7, rng);
        let alive =
            MemberState { identity: identity(PEER, 7), incarnation: 0, liveness: Liveness::Alive };
        membership.apply(Moment(0), &[alive], false);
        for second in 0..50 {
            membership.tick(Moment(second * SECOND));
            tell(&mut membership, Moment(second * SECOND));
        }
        assert_eq!(membership.me().renew, 6, "{way}");
        assert!(membership.active().contains_key(&PEER), "{way}");
        membership.tick(Moment(62 * SECOND));
        tell(&mut membership, Moment(62 * SECOND));
        assert_eq!(membership.me().renew, 7, "{way}, a minute later");
    }
}

#[test]
fn a_stream_brings_no_more_than_64_mib() {
    let mut cluster = cluster();
    let conn = accept(&mut cluster, 1, PEER);
    let filler = Frame::Members { members: vec![], left: vec![(NodeId(9), 1); 31_000] };
    let mut bytes = 0;
    while frame(&mut cluster, conn, &filler) {
        bytes += sealed(PEER, &encode(&filler)).len();
        assert!(bytes <= 64 << 20);
    }
    assert!(bytes > 63 << 20);
    assert_eq!(count(&cluster, "dropped_frame"), 1);
}

#[test]
fn snapshots_in_the_making_are_8_mib_each_and_32_mib_in_all() {
    let mut cluster = cluster();
    let part = |owner, first: u64| {
        let ops = (first..first + 300).map(op).collect();
        Frame::Snapshot { owner, epoch: 300, ver: 1 << 40, floor: 0, ops, is_last: false }
    };
    // Number of parts that a stream brings before it is ended.
    let bring = |cluster: &mut Cluster, conn| {
        let parts = (0_u64..200).take_while(|at| frame(cluster, conn, &part(PEER, 1 + 300 * at)));
        let parts = parts.count();
        assert!(cluster.sizes().staged_bytes <= Sizes::STAGED_BYTES_MAX);
        parts
    };
    let conn = accept(&mut cluster, 1, PEER);
    let part_bytes = 300 * (16 + 64 + 64 + 12);
    assert_eq!(bring(&mut cluster, conn), SECTION_BYTES_MAX / part_bytes);
    assert_eq!(cluster.sizes().staged_bytes, 0, "nothing of it is kept");

    let conns: Vec<ConnId> = (2..8).map(|number| accept(&mut cluster, number, PEER)).collect();
    for round in 0..170_u64 {
        for (at, &conn) in conns.iter().enumerate() {
            let is_open = frame(&mut cluster, conn, &part(PEER, 1 + 300 * round));
            let staged = cluster.sizes().staged_bytes;
            assert!(staged <= Sizes::STAGED_BYTES_MAX, "{staged}");
            assert!(is_open || at > 0 || round > 100, "the others may go on");
        }
    }
    assert!(count(&cluster, "dropped_frame") >= 2);
}

#[test]
fn a_node_tells_of_65_535_topics_and_its_deletions_make_room_for_others() {
    let mut section = Section::new(1);
    let topic = |number: usize| Key::new(ProducerId::NSQD, &format!("topic-{number}"), "");
    for number in 0..SECTION_TOPICS_MAX {
        assert!(section.write(topic(number), Some(Value::REGISTERED)));
    }
    assert!(!section.write(topic(70_000), Some(Value::REGISTERED)));
    assert!(section.is_full());
    let channel = Key::new(ProducerId::NSQD, "topic-1", "c");
    assert!(section.write(channel, Some(Value::REGISTERED)), "a channel is no topic");
    assert!(section.write(topic(2), None));
    assert!(section.write(topic(70_000), Some(Value::REGISTERED)));
    assert!(!section.is_full() && section.floor > 0, "the deletion is forgotten for that");
    assert_eq!(section.len(), SECTION_TOPICS_MAX + 1);
}

#[test]
fn whatever_a_node_has_written_fits_a_snapshot_that_others_take() {
    let mut section = Section::new(1);
    let written = (1..100_000).take_while(|&n| section.write(op(n).key, op(n).value)).count();
    assert!((40_000..60_000).contains(&written), "{written}");
    let bytes = |section: &Section| section.snapshot().ops.len() * (16 + 64 + 64 + 12);
    assert!(bytes(&section) <= SECTION_BYTES_MAX && section.is_full());
    let mut copy = Section::new(0);
    assert!(matches!(copy.apply_snapshot(&section.snapshot()), Applied::Changed(_)));
    assert_eq!(copy.len(), section.len());
}

#[test]
fn a_copy_does_not_grow_beyond_what_an_owner_can_have() {
    let mut copy = Section::new(1);
    let mut from = 0;
    let refused = loop {
        let ops: Vec<Op> = (from + 1..=from + 1_000).map(op).collect();
        let delta = Delta { epoch: 1, from, to: from + 1_000, floor: 0, ops };
        if copy.apply_delta(&delta) == Applied::Invalid {
            break from;
        }
        from += 1_000;
        assert!(from < 1_000_000);
    };
    assert!(refused * 156 <= 2 * SECTION_BYTES_MAX as u64);
    assert_eq!((copy.ver, copy.len() as u64), (refused, refused), "nothing of it was applied");
}

#[test]
fn a_killed_process_is_gone_when_its_machine_has_refused_twice() {
    let mut net = Net::default();
    for number in 1..=5 {
        let seeds = if number == 1 { vec![] } else { vec![addr(1)] };
        net.start(u64::from(number), 5, addr(number), &seeds);
    }
    net.run(Duration::from_secs(5));
    net.kill(4);
    net.run(Duration::from_secs(2));
    let refused: u64 = (0..4).map(|at| count(&net.nodes[at].cluster, "members_refused")).sum();
    assert!(refused >= 1);
    for at in 0..4 {
        assert_eq!(net.members(at), [addr(1), addr(2), addr(3), addr(4)]);
    }
}

#[test]
fn a_member_that_others_reach_is_not_gone_because_one_machine_is_refused() {
    let mut net = Net::default();
    for number in 1..=3 {
        let seeds = if number == 1 { vec![] } else { vec![addr(1)] };
        net.start(u64::from(number), 5, addr(number), &seeds);
    }
    net.run(Duration::from_secs(5));
    net.rejected.insert((addr(1), addr(2)));
    for _ in 0..60 {
        net.run(Duration::from_secs(1));
        assert_eq!(net.members(2), [addr(1), addr(2), addr(3)]);
    }
    assert_eq!(count(&net.nodes[0].cluster, "members_refused"), 0);
    assert!(count(&net.nodes[0].cluster, "refusals_outvoted") > 10);
}

#[test]
fn a_stream_that_asks_for_sections_is_answered_once() {
    let mut cluster = cluster();
    let conn = accept(&mut cluster, 1, PEER);
    let hello = Frame::Hello { identity: identity(PEER, 7), purpose: Purpose::Pull };
    assert!(frame(&mut cluster, conn, &hello));
    let ask = Ask { owner: NodeId(1), epoch: 5, have: 0 };
    for is_open in [true, false] {
        assert!(frame(&mut cluster, conn, &Frame::Asks(vec![ask])));
        assert_eq!(frame(&mut cluster, conn, &Frame::End), is_open);
    }
}

#[test]
fn the_failure_detector_reads_no_packet_that_is_cut() {
    let mut cluster = cluster();
    datagram(&mut cluster, 1, PEER, KIND_SWIM, b"");
    assert_eq!(count(&cluster, "dropped_swim_malformed"), 1);
}

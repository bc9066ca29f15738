//! Rules of the core about others that are wrong, slow, or not who they say they are.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod net;

use std::net::SocketAddr;
use std::time::Duration;

use foca::{Codec, Header, Member, Message as Swim};
use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::{Cluster, ClusterEvent, ClusterTime, ConnId, Input, Output};
use grapevine_gossip::codec::SwimCodec;
use grapevine_gossip::config::Timings;
use grapevine_gossip::envelope::{Seal, Sender};
use grapevine_gossip::identity::{Identity, is_epoch_jump, next_epoch};
use grapevine_gossip::membership::{MEMBERS_MAX, Membership};
use grapevine_gossip::message::{KIND_SWIM, Liveness, MemberState, describe};
use grapevine_protocol::Moment;
use net::{Net, addr, boot};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

const SECOND: u64 = 1_000_000_000;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn identity(node: u64, epoch: u64, port: u16) -> Identity {
    Identity { addr: addr(port).into(), node: NodeId(node), epoch, renew: 0 }
}

fn alive(identity: Identity) -> MemberState {
    MemberState { identity, incarnation: 0, liveness: Liveness::Alive }
}

fn membership() -> Membership {
    let rng = Xoshiro256PlusPlus::seed_from_u64(1);
    Membership::new(identity(1, 5, 1), &Timings::default(), 7, rng)
}

/// A packet of the failure detector: from `src` to node 1, with news of others.
fn swim(src: Identity, message: Swim<Identity>, news: &[Identity]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = Header { src, src_incarnation: 0, dst: identity(1, 5, 1), message };
    SwimCodec.encode_header(&header, &mut bytes).unwrap();
    bytes.extend_from_slice(&u16::try_from(news.len()).unwrap().to_be_bytes());
    for &member in news {
        SwimCodec.encode_member(&Member::alive(member), &mut bytes).unwrap();
    }
    bytes
}

/// The same in an envelope.
fn datagram(src: Identity, message: Swim<Identity>, news: &[Identity]) -> Vec<u8> {
    let mut body = vec![KIND_SWIM];
    body.extend(swim(src, message, news));
    Seal::none("test").seal(Sender { node: src.node, epoch: src.epoch, counter: 1 }, &body)
}

fn alone() -> Cluster {
    Cluster::new(boot(1, 5, addr(1)), ClusterTime::default())
}

/// What `cluster` sends after a datagram.
fn answers(cluster: &mut Cluster, from: SocketAddr, bytes: &[u8]) -> Vec<(SocketAddr, usize)> {
    let now = ClusterTime { at: Moment(SECOND), wall_ns: 0 };
    cluster.handle(now, Input::Datagram { from, bytes });
    let outputs = std::iter::from_fn(|| cluster.poll());
    let sent = outputs.filter_map(|output| match output {
        Output::Datagram { to, bytes } => Some((to, bytes.len())),
        _ => None,
    });
    sent.collect()
}

fn count(cluster: &Cluster, name: &str) -> u64 {
    cluster.counters().get(name).copied().unwrap_or(0)
}

#[test]
fn a_stranger_must_be_where_it_says_it_is() {
    let mut cluster = alone();
    let ping = datagram(identity(2, 9, 2), Swim::Ping(1), &[]);
    assert_eq!(answers(&mut cluster, addr(3), &ping), []);
    assert_eq!(count(&cluster, "dropped_spoofed_source"), 1);
    assert!(cluster.membership().active().is_empty());
    assert_eq!(answers(&mut cluster, addr(2), &ping).len(), 1);
}

#[test]
fn a_member_behind_nat_is_answered_at_its_own_address() {
    let mut cluster = alone();
    let ping = datagram(identity(2, 9, 2), Swim::Ping(1), &[]);
    answers(&mut cluster, addr(2), &ping);
    let answers = answers(&mut cluster, addr(99), &ping);
    assert_eq!(answers.iter().map(|&(to, _)| to).collect::<Vec<_>>(), [addr(2)]);
}

#[test]
fn a_node_that_is_told_of_its_death_again_and_again_renews_its_identity_six_times_a_minute() {
    let mut members = membership();
    members.apply(Moment(SECOND), &[alive(identity(2, 9, 2))], false);
    let dies = |members: &mut Membership, at: u64| {
        let me = members.me();
        let down = MemberState { identity: me, incarnation: 0, liveness: Liveness::Down };
        members.apply(Moment(at * SECOND), &[down], true);
        let mut packet = Vec::new();
        let src = identity(2, 9, 2);
        let header = Header { src, src_incarnation: 0, dst: members.me(), message: Swim::Gossip };
        SwimCodec.encode_header(&header, &mut packet).unwrap();
        packet.extend_from_slice(&1_u16.to_be_bytes());
        SwimCodec.encode_member(&Member::down(members.me()), &mut packet).unwrap();
        members.handle_swim(Moment(at * SECOND), addr(2), &packet)
    };
    for at in 2..20 {
        let told = dies(&mut members, at);
        assert_eq!(told.is_err(), at >= 5, "second {at}");
    }
    assert_eq!(members.me().renew, 6);
    members.tick(Moment(70 * SECOND));
    dies(&mut members, 70).unwrap();
    assert_eq!(members.me().renew, 8);
}

#[test]
fn a_stranger_gets_back_no_more_bytes_than_it_sent() {
    let mut cluster = alone();
    let news: Vec<Identity> =
        (10..30).map(|number| identity(u64::from(number), 9, number)).collect();
    let told = datagram(identity(2, 9, 2), Swim::Gossip, &news);
    answers(&mut cluster, addr(2), &told);
    // There is much to tell now. A member is told all of it, a stranger nothing.
    let ping = datagram(identity(3, 9, 3), Swim::Ping(1), &[]);
    let reply = answers(&mut cluster, addr(3), &ping);
    assert!(matches!(reply[..], [(to, len)] if to == addr(3) && len <= ping.len()), "{reply:?}");
    assert_eq!(count(&cluster, "replies_curbed"), 1);
    let reply = answers(&mut cluster, addr(3), &ping);
    assert!(matches!(reply[..], [(to, len)] if to == addr(3) && len > ping.len()), "{reply:?}");
}

#[test]
fn a_stranger_cannot_have_others_called() {
    let (stranger, victim) = (identity(2, 9, 2), identity(3, 9, 3));
    for request in [
        Swim::PingReq { target: victim, probe_number: 1 },
        Swim::IndirectPing { origin: victim, probe_number: 1 },
        Swim::IndirectAck { target: victim, probe_number: 1 },
        Swim::ForwardedAck { origin: victim, probe_number: 1 },
    ] {
        let mut cluster = alone();
        let bytes = datagram(stranger, request, &[]);
        assert_eq!(answers(&mut cluster, addr(2), &bytes), []);
        assert_eq!(count(&cluster, "dropped_stranger_request"), 1);
    }
    let mut cluster = alone();
    let bytes = datagram(stranger, Swim::Announce, &[]);
    assert_eq!(answers(&mut cluster, addr(2), &bytes), []);
    assert_eq!(count(&cluster, "dropped_announce"), 1);
}

#[test]
fn an_epoch_far_beyond_the_known_one_is_not_believed() {
    let now = Moment(SECOND);
    let today = 1_800_000_000_000;
    let mut membership = membership();
    membership.apply(now, &[alive(identity(2, today, 2))], true);
    let absurd = identity(2, u64::MAX - 1, 2);
    membership.apply(now, &[alive(absurd)], true);
    let packet = swim(absurd, Swim::Ping(1), &[]);
    let refused = membership.handle_swim(now, addr(2), &packet);
    assert_eq!(refused, Err("dropped_epoch_jump"));
    assert_eq!(membership.active()[&NodeId(2)].epoch, today);
    // Ten years are believed, and so is today after a clock that stood at 1970.
    let decade = 10 * 366 * 86_400_000;
    membership.apply(now, &[alive(identity(2, today + decade, 2))], true);
    assert_eq!(membership.active()[&NodeId(2)].epoch, today + decade);
    membership.apply(now, &[alive(identity(3, 7, 3))], true);
    membership.apply(now, &[alive(identity(3, today, 3))], true);
    assert_eq!(membership.active()[&NodeId(3)].epoch, today);
}

#[test]
fn a_clock_that_is_far_off_does_not_make_an_epoch_that_nobody_believes() {
    let (today, far) = (1_800_000_000_000, 1 << 50);
    assert_eq!(next_epoch(Some(today), far, 0), today + 1);
    assert_eq!(next_epoch(None, today, 0), today);
    for kept in [1, today, far] {
        for wall in [0, today, far, u64::MAX] {
            let next = next_epoch(Some(kept), wall, wall);
            assert!(next > kept && !is_epoch_jump(next, kept), "{kept} {wall} {next}");
        }
    }
}

#[test]
fn members_beyond_the_maximum_are_not_taken_up() {
    let now = Moment(SECOND);
    let mut membership = membership();
    let many: Vec<MemberState> = (0..MEMBERS_MAX + 50)
        .map(|number| {
            let ip = u32::try_from(0x0a01_0000 + number).unwrap();
            let addr = SocketAddr::from((std::net::Ipv4Addr::from(ip), 4162));
            alive(Identity {
                addr: addr.into(),
                node: NodeId(100 + number as u64),
                epoch: 9,
                renew: 0,
            })
        })
        .collect();
    membership.apply(now, &many, false);
    assert_eq!(membership.known_count(), MEMBERS_MAX);
    let member = many[0].identity;
    let news = swim(member, Swim::Gossip, &[identity(2, 9, 2)]);
    let full = Err("dropped_members_full");
    assert_eq!(membership.handle_swim(now, member.addr.socket(), &news), full);
    let stranger = swim(identity(2, 9, 2), Swim::Ping(1), &[]);
    assert_eq!(membership.handle_swim(now, addr(2), &stranger), full);
    let known = swim(member, Swim::Gossip, &[many[1].identity]);
    assert_eq!(membership.handle_swim(now, member.addr.socket(), &known), Ok(()));
    // Who is known still gets through: a new epoch is not a new member.
    let newer = Identity { epoch: 10, ..many[1].identity };
    membership.apply(now, &[alive(newer)], false);
    assert_eq!(membership.active()[&newer.node].epoch, 10);
    assert_eq!(membership.known_count(), MEMBERS_MAX);
}

#[test]
fn who_has_left_does_not_come_back_by_late_news_of_a_renewed_identity() {
    let now = Moment(SECOND);
    let mut membership = membership();
    let (left, teller) = (identity(2, 9, 2), identity(3, 9, 3));
    membership.apply(now, &[alive(left), alive(teller)], false);
    assert!(membership.mark_left(now, left.node, left.epoch));
    let renewed = Identity { renew: 1, ..left };
    let news = swim(teller, Swim::Gossip, &[renewed]);
    assert_eq!(membership.handle_swim(now, addr(3), &news), Ok(()));
    assert!(!membership.active().contains_key(&left.node));
    let restarted = identity(2, 10, 2);
    let news = swim(teller, Swim::Gossip, &[restarted]);
    assert_eq!(membership.handle_swim(now, addr(3), &news), Ok(()));
    assert_eq!(membership.active().get(&left.node), Some(&restarted));
}

#[test]
fn a_member_is_suspected_to_be_killed_as_soon_as_others_are_asked_to_probe_it() {
    let timings = Timings::default();
    let failed_after = |others: u64| {
        let mut members = membership();
        let states: Vec<MemberState> =
            (2..2 + others).map(|n| alive(identity(n, 9, n as u16))).collect();
        members.apply(Moment(0), &states, false);
        let mut pinged: Option<(Moment, SocketAddr)> = None;
        loop {
            let now = members.next_wake().unwrap();
            members.handle_due(now);
            let sent = members.take_sends();
            let failed = members.take_failed_probes();
            pinged = pinged.or(sent.first().map(|(to, _)| (now, to.socket())));
            let Some(pinged) = pinged else { continue };
            if let [gone] = failed[..] {
                assert_eq!(gone.addr.socket(), pinged.1);
                return now.since(pinged.0);
            }
            assert!(failed.is_empty(), "said once");
        }
    };
    assert_eq!(failed_after(3), timings.probe_rtt);
    assert_eq!(failed_after(1), timings.probe_period, "nobody is there to be asked");
}

#[test]
fn news_of_a_member_does_not_wait_for_a_round_if_there_was_none_for_a_while() {
    let mut members = membership();
    let timings = Timings::default();
    members.apply(Moment(0), &[alive(identity(2, 9, 2))], false);
    // Before a probe that nobody answers is news itself.
    let later = Moment(0) + timings.probe_period / 2;
    while let Some(next) = members.next_wake().filter(|next| *next < later) {
        members.handle_due(next);
    }
    members.take_sends();
    members.apply(later, &[alive(identity(3, 9, 3))], true);
    members.handle_due(later + timings.spread_delay);
    assert!(members.take_sends().len() >= 2, "told to both");
}

#[test]
fn a_young_process_compares_ten_times_a_second_and_later_with_each_probe() {
    let mut cluster = alone();
    answers(&mut cluster, addr(2), &datagram(identity(2, 9, 2), Swim::Ping(1), &[]));
    let mut digests = [0; 4];
    for tenth in 0..40 {
        let now = ClusterTime { at: Moment(tenth * SECOND / 10), wall_ns: 0 };
        cluster.handle(now, Input::Wake);
        let mut sent = 0;
        while let Some(output) = cluster.poll() {
            if let Output::Datagram { bytes, .. } = output {
                sent += usize::from(describe(&bytes).ends_with("digest"));
                if tenth >= 30 {
                    assert_ne!(describe(&bytes), "digest", "one by itself takes a wake-up");
                }
            }
        }
        digests[tenth as usize / 10] += sent;
    }
    assert!(digests[..2].iter().sum::<usize>() >= 15, "{digests:?}");
    assert!((2..=3).contains(&digests[3]), "{digests:?}");
}

#[test]
fn many_that_start_in_one_instant_know_each_other_within_a_second() {
    let mut net = Net::default();
    for number in 1..=30 {
        net.start(u64::from(number), 5, addr(number), &[addr(1), addr(2)]);
    }
    net.run(seconds(1));
    for at in 0..30 {
        assert_eq!(net.members(at).len(), 30, "{at}");
    }
}

#[test]
fn a_node_that_does_not_keep_up_probes_more_slowly_until_it_does() {
    let mut net = Net::default();
    net.start(1, 5, addr(1), &[]);
    net.start(2, 5, addr(2), &[addr(1)]);
    net.run(seconds(3));
    assert_eq!(net.nodes[0].cluster.slowness(), 0);
    for late in 1..=20 {
        let due = net.nodes[0].cluster.next_wake().unwrap();
        net.now = due.0 + 150_000_000;
        net.input(0, Input::Wake);
        assert_eq!(net.nodes[0].cluster.slowness().max(1), late.clamp(1, 8), "{late}");
    }
    assert_eq!(count(&net.nodes[0].cluster, "loop_lags"), 20);
    net.run(seconds(15));
    assert_eq!(net.nodes[0].cluster.slowness(), 0);
    assert_eq!(net.members(0), [addr(1), addr(2)]);
    assert_eq!(net.members(1), [addr(1), addr(2)]);
}

#[test]
fn a_node_that_comes_back_with_an_older_disk_is_let_in_with_a_greater_epoch() {
    let mut net = Net::default();
    net.start(1, 5, addr(1), &[]);
    let mut old = net.start(2, 1_000, addr(2), &[addr(1)]);
    net.run(seconds(3));
    // The same node, from a backup, at the same address and at another.
    for port in [2, 3] {
        net.kill(old);
        let again = net.start(2, 700, addr(port), &[addr(1)]);
        net.run(seconds(3));
        let epoch = net.nodes[again].cluster.membership().me().epoch;
        assert_eq!(net.nodes[again].persisted.last(), Some(&epoch), "durable before it is shown");
        let known = net.nodes[0].cluster.membership().active()[&NodeId(2)];
        assert_eq!((known.epoch, known.addr.socket()), (epoch, addr(port)));
        assert!(epoch > 1_000);
        old = again;
    }
}

#[test]
fn one_of_two_nodes_with_one_id_stops_and_says_so() {
    let mut net = Net::default();
    net.start(1, 5, addr(1), &[]);
    net.start(4, 5, addr(4), &[addr(1)]);
    let twins = [net.start(2, 5, addr(2), &[addr(1)]), net.start(2, 6, addr(3), &[addr(1)])];
    net.run(seconds(30));
    let (stopped, goes_on): (Vec<usize>, Vec<usize>) = twins.into_iter().partition(|&twin| {
        net.nodes[twin].events.iter().any(|(_, event)| *event == ClusterEvent::NodeIdConflict)
    });
    assert_eq!((stopped.len(), goes_on.len()), (1, 1));
    // Streams that are opened to it now, or were on their way, get no answer.
    net.input(stopped[0], Input::Accepted(ConnId(ConnId::ACCEPTED + 9_999)));
    (0..50).for_each(|conn| net.input(stopped[0], Input::Connected(ConnId(conn))));
    // The others are left in peace: they list the one that is there, and do not doubt each other.
    let there = net.nodes[goes_on[0]].addr;
    let mut all = [addr(1), addr(4), there];
    all.sort_unstable();
    for node in [0, 1, goes_on[0]] {
        assert_eq!(net.members(node), all);
    }
    for node in [0, 1] {
        assert_eq!(net.nodes[node].cluster.membership().me().renew, 0);
        let events = &net.nodes[node].events;
        let ups = events.iter().filter(|(_, event)| matches!(event, ClusterEvent::MemberUp(_)));
        assert!(ups.count() <= 12, "{events:?}");
    }
}

#[test]
fn at_most_64_members_are_remembered_for_the_next_start_and_not_all_the_time() {
    let mut net = Net::default();
    net.start(1, 5, addr(1), &[]);
    for number in 2..=80 {
        net.start(u64::from(number), 5, addr(number), &[addr(1)]);
        if number % 10 == 0 {
            net.run(seconds(2));
        }
    }
    net.run(seconds(40));
    let written = &net.nodes[0].peers;
    assert!(!written.is_empty());
    assert!(written.iter().all(|(_, peers)| peers.len() <= 64));
    assert_eq!(written.last().unwrap().1.len(), 64);
    assert!(written[0].0 < 6 * SECOND, "the first list is not waited for");
    let pauses = written.windows(2).map(|two| two[1].0 - two[0].0);
    assert!(pauses.min().is_none_or(|pause| pause >= 29 * SECOND), "{written:?}");
}

#[test]
fn a_member_that_is_down_is_forgotten_after_a_day() {
    let mut members = membership();
    let at = |seconds: u64| Moment(seconds * SECOND);
    members.apply(at(1), &[alive(identity(2, 9, 2)), alive(identity(3, 9, 3))], false);
    members.declare_down(at(2), identity(2, 9, 2));
    members.declare_down(at(5), identity(3, 9, 3));
    let day = 24 * 3600;
    members.handle_due(at(day + 1));
    assert_eq!(members.known_count(), 2);
    members.handle_due(at(day + 3));
    assert_eq!(members.down(), [identity(3, 9, 3)]);
    members.handle_due(at(day + 5));
    assert_eq!((members.known_count(), members.down()), (0, vec![]));
}

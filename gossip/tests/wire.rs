//! What goes over the wire: its bytes, and what becomes of bytes that are something else.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::{Codec, Header, Member, Message as Swim, State};
use grapevine_gossip::cluster::{Boot, Cluster, ClusterTime, ConnId, Input, Output};
use grapevine_gossip::codec::{SwimCodec, SwimKind, decode_datagram, decode_frame, encode};
use grapevine_gossip::config::Timings;
use grapevine_gossip::envelope::{OpenError, Seal, Sender};
use grapevine_gossip::identity::Identity;
use grapevine_gossip::message::{
    Ask, Frame, Head, KIND_MESSAGE, KIND_MESSAGE_SWIM, KIND_SWIM, KIND_SWIM_SHORT, Liveness,
    MemberState, Message, OwnedDelta, Purpose, describe, swim_kind, swim_packet,
};
use grapevine_gossip::producer::ProducerRecord;
use grapevine_gossip::section::{Delta, Key, Op, Value};
use grapevine_gossip::wish::{What, Wish};
use grapevine_gossip::{NodeId, Producer, ProducerId};
use grapevine_protocol::Moment;
use proptest::prelude::*;

fn identity() -> Identity {
    let addr = SocketAddr::from(([10, 0, 0, 1], 4162));
    Identity { addr: addr.into(), node: NodeId(7), epoch: 300, renew: 2 }
}

fn delta() -> OwnedDelta {
    let record = ProducerRecord {
        producer: Arc::new(Producer { tcp_port: 4150, ..Producer::default() }),
        active: true,
        draining: false,
        last_update_ns: 5,
    };
    let write = |ver, key, value| Op { ver, key, value };
    let ops = vec![
        write(1, Key::record(ProducerId(0)), Some(Value::Producer(Arc::new(record)))),
        write(2, Key::new(ProducerId(0), "t", ""), Some(Value::REGISTERED)),
        write(3, Key::new(ProducerId(0), "t", "c"), None),
    ];
    OwnedDelta { owner: NodeId(7), delta: Delta { epoch: 300, from: 0, to: 3, floor: 0, ops } }
}

fn messages() -> Vec<Message> {
    let head = Head { owner: NodeId(7), epoch: 300, ver: 3, by_stream: true };
    let wish = |what| Wish { owner: NodeId(7), epoch: 300, as_of: 3, topic: "t".into(), what };
    vec![
        Message::Deltas(vec![delta()]),
        Message::Heads { heads: vec![head], bucket_count: 2, asks: vec![0, 1] },
        Message::Pull(vec![Ask { owner: NodeId(7), epoch: 300, have: 1 }]),
        Message::Digest { view: 1, buckets: vec![2, 0, 0, 0, 3, 0, 0, 0] },
        Message::Leave(identity()),
        Message::Wish(wish(What::DeleteTopic)),
        Message::Wish(wish(What::DeleteChannel("c".into()))),
        Message::Wish(wish(What::Tombstone(ProducerId(1), 9))),
    ]
}

fn frames() -> Vec<Frame> {
    let state = MemberState { identity: identity(), incarnation: 1, liveness: Liveness::Suspect };
    let OwnedDelta { owner, delta: Delta { ops, .. } } = delta();
    vec![
        Frame::Hello { identity: identity(), purpose: Purpose::Sync },
        Frame::EpochTaken { epoch: 9 },
        Frame::Members { members: vec![state], left: vec![(NodeId(8), 4)] },
        Frame::Heads(vec![]),
        Frame::Asks(vec![]),
        Frame::Deltas(vec![delta()]),
        Frame::Snapshot { owner, epoch: 300, ver: 3, floor: 0, ops, is_last: true },
        Frame::End,
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_datagrams_do_not_change_by_accident() {
    let encoded: Vec<String> = messages().iter().map(|message| hex(&encode(message))).collect();
    assert_eq!(encoded, MESSAGES, "a change of the wire format needs a new wire version");
}

#[test]
fn the_bytes_of_frames_do_not_change_by_accident() {
    let encoded: Vec<String> = frames().iter().map(|frame| hex(&encode(frame))).collect();
    assert_eq!(encoded, FRAMES, "a change of the wire format needs a new wire version");
}

/// Each kind of packet of the failure detector, with one member in it.
fn packets() -> Vec<Vec<u8>> {
    let (src, target) = (identity(), Identity { renew: 0, ..identity() });
    let dst =
        Identity { addr: SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 4162)).into(), ..src };
    let number = 3;
    let messages = [
        Swim::Ping(number),
        Swim::Ack(number),
        Swim::PingReq { target, probe_number: number },
        Swim::IndirectPing { origin: target, probe_number: number },
        Swim::IndirectAck { target, probe_number: number },
        Swim::ForwardedAck { origin: target, probe_number: number },
        Swim::Gossip,
        Swim::TurnUndead,
    ];
    let packet = |message| {
        let mut bytes = Vec::new();
        let header = Header { src, src_incarnation: 4, dst, message };
        SwimCodec.encode_header(&header, &mut bytes).unwrap();
        bytes.extend_from_slice(&1_u16.to_be_bytes());
        SwimCodec.encode_member(&Member::new(target, 5, State::Suspect), &mut bytes).unwrap();
        bytes
    };
    messages.into_iter().map(packet).collect()
}

#[test]
fn the_bytes_of_the_failure_detector_do_not_change_by_accident() {
    let encoded: Vec<String> = packets().iter().map(|packet| hex(packet)).collect();
    let [header, target, news] = SWIM;
    let expected = [
        format!("{header}0003{news}"),
        format!("{header}0103{news}"),
        format!("{header}02{target}03{news}"),
        format!("{header}03{target}03{news}"),
        format!("{header}04{target}03{news}"),
        format!("{header}05{target}03{news}"),
        format!("{header}08{news}"),
        format!("{header}0a{news}"),
    ];
    assert_eq!(encoded, expected, "a change of the wire format needs a new wire version");
}

/// What is before and after the node and the epoch of a packet's sender: 7 and 300 are 1 and 3
/// bytes after 8 of an address.
fn shorten(packet: &[u8]) -> (&[u8], &[u8]) {
    assert_eq!(hex(&packet[8..12]), "07fb2c01");
    (&packet[..8], &packet[12..])
}

#[test]
fn the_failure_detector_does_not_repeat_what_the_envelope_says_of_the_sender() {
    let Identity { node, epoch, .. } = identity();
    let sender = Sender { node, epoch, counter: 1 };
    for packet in packets() {
        let (before, after) = shorten(&packet);
        assert_eq!(hex(before), "000a000001fb4210", "an address");
        let short = [&[KIND_SWIM_SHORT], before, after].concat();
        assert_eq!(short.len(), 1 + packet.len() - 4, "node 7 and epoch 300 are 1 and 3 bytes");
        assert_eq!(swim_packet(sender, &short).as_deref(), Some(&packet[..]));
        let whole = [&[KIND_SWIM], &packet[..]].concat();
        assert_eq!(swim_packet(sender, &whole).as_deref(), Some(&packet[..]));
    }
    for cut in 0..7 {
        let short = [&[KIND_SWIM_SHORT], &packets()[0][..cut]].concat();
        assert_eq!(swim_packet(sender, &short), None, "{cut}");
    }
}

#[test]
fn what_a_node_sends_for_the_failure_detector_is_short() {
    let mut cluster = cluster_with_member();
    let mut pings = 0;
    for at in 0..20 {
        let now = ClusterTime { at: Moment(at * 100_000_000), wall_ns: 0 };
        cluster.handle(now, Input::Wake);
        while let Some(output) = cluster.poll() {
            let Output::Datagram { bytes, .. } = output else { continue };
            let (_, body) = Seal::none("test").open(&bytes).unwrap();
            if describe(&bytes).starts_with("ping") {
                assert_ne!(body[0], KIND_SWIM);
                pings += 1;
            }
        }
    }
    assert!(pings >= 2, "{pings}");
}

#[test]
fn a_digest_goes_with_a_probe_in_one_datagram() {
    let Identity { node, epoch, .. } = identity();
    let sender = Sender { node, epoch, counter: 1 };
    let digest = encode(&messages()[3]);
    let both = |ping: &[u8]| {
        let (before, after) = shorten(ping);
        [&[KIND_MESSAGE_SWIM, 0, digest.len() as u8], &digest[..], before, after].concat()
    };
    let ping = &packets()[0];
    let body = both(ping);
    assert_eq!(hex(&body[..3]), "03000b");
    assert_eq!(swim_packet(sender, &body).as_deref(), Some(&ping[..]));
    assert_eq!(swim_kind(&body), Some(SwimKind::Ping));
    assert_eq!(describe(&Seal::none("test").seal(sender, &body)), "ping+digest");
    // Both count: the probe is answered, and the digest, which shows another view, by stream.
    let mut cluster = cluster_with_member();
    let now = ClusterTime { at: Moment(3_000_000_000), wall_ns: 0 };
    let from = SocketAddr::from(([10, 0, 0, 1], 4162));
    let header = SwimCodec.decode_header(&ping[..]).unwrap();
    let mut to_it = Vec::new();
    let header = Header { dst: cluster.membership().me(), ..header };
    SwimCodec.encode_header(&header, &mut to_it).unwrap();
    let whole = both(&to_it);
    let answers = |cluster: &mut Cluster| {
        cluster.handle(now, Input::Datagram { from, bytes: &sealed(&whole) });
        let (mut acks, mut calls) = (0, 0);
        while let Some(output) = cluster.poll() {
            match output {
                Output::Datagram { bytes, .. } => acks += usize::from(describe(&bytes) == "ack"),
                Output::Connect { .. } => calls += 1,
                _ => {}
            }
        }
        (acks, calls)
    };
    assert_eq!(answers(&mut cluster), (1, 1));
    // The digest of whoever was no member before is not looked at.
    assert_eq!(answers(&mut self::cluster()).1, 0);
    for cut in 0..3 + digest.len() {
        assert_eq!(swim_packet(sender, &body[..cut]), None, "{cut}");
        feed(&mut cluster, &sealed(&whole[..cut]), 3_000_000_000);
    }
    assert!(cluster.counters()["dropped_malformed"] >= 1);
}

#[test]
fn the_bytes_of_an_envelope_do_not_change_by_accident() {
    let sender = Sender { node: NodeId(1), epoch: 2, counter: 3 };
    let sealed = Seal::none("grapevine").seal(sender, b"body");
    assert_eq!(hex(&sealed), ENVELOPE);
    assert_eq!(Seal::none("grapevine").open(&sealed), Ok((sender, &b"body"[..])));
}

#[test]
fn what_is_decoded_is_what_was_encoded() {
    for message in messages() {
        assert_eq!(decode_datagram::<Message>(&encode(&message)).unwrap(), message);
    }
    for frame in frames() {
        assert_eq!(decode_frame::<Frame>(&encode(&frame)).unwrap(), frame);
    }
}

#[test]
fn what_is_true_of_a_producer_is_one_byte_and_unknown_bits_of_it_do_no_harm() {
    let record = |active, draining| ProducerRecord {
        producer: Arc::default(),
        active,
        draining,
        last_update_ns: 0,
    };
    for (active, draining, byte) in [(false, false, 0), (true, false, 1), (true, true, 3)] {
        let mut bytes = encode(&record(active, draining));
        let at = bytes.len() - 2;
        assert_eq!(bytes[at], byte);
        bytes[at] |= 0x40;
        let known = decode_datagram::<ProducerRecord>(&bytes).unwrap();
        assert_eq!(known, record(active, draining));
    }
}

#[test]
fn an_envelope_of_another_cluster_or_version_stays_closed() {
    let sender = Sender { node: NodeId(1), epoch: 2, counter: 3 };
    let ours = Seal::none("ours");
    let mut sealed = ours.seal(sender, b"");
    assert_eq!(Seal::none("theirs").open(&sealed), Err(OpenError::Cluster));
    assert_eq!(ours.open(&sealed[..33]), Err(OpenError::Truncated));
    sealed[1] = 9;
    assert_eq!(ours.open(&sealed), Err(OpenError::Key));
    sealed[0] = 9;
    assert_eq!(ours.open(&sealed), Err(OpenError::Version));
}

#[test]
fn an_envelope_with_a_flipped_bit_or_without_its_end_stays_closed() {
    let ours = Seal::none("ours");
    let sealed = ours.seal(Sender { node: NodeId(1), epoch: 2, counter: 3 }, b"some body");
    for bit in 0..sealed.len() * 8 {
        let mut damaged = sealed.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(ours.open(&damaged).is_err(), "bit {bit}");
    }
    for len in 0..sealed.len() {
        assert!(ours.open(&sealed[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn cut_messages_are_errors() {
    for message in messages() {
        let bytes = encode(&message);
        for len in 0..bytes.len() {
            assert!(decode_datagram::<Message>(&bytes[..len]).is_err(), "{message:?} at {len}");
        }
    }
}

#[test]
fn a_length_of_gigabytes_is_refused_before_memory_is_taken() {
    // A variant with a list or a name, then the largest length there is.
    for variant in 0..6_u8 {
        let mut bytes = vec![variant];
        bytes.extend_from_slice(&[0xfd; 1]);
        bytes.extend_from_slice(&[0xff; 8]);
        bytes.extend_from_slice(&[0; 64]);
        assert!(decode_datagram::<Message>(&bytes).is_err());
        assert!(decode_frame::<Frame>(&bytes).is_err());
    }
    let mut topic = encode(&Message::Wish(Wish {
        owner: NodeId(0),
        epoch: 0,
        as_of: 0,
        topic: "".into(),
        what: What::DeleteTopic,
    }));
    let at = topic.len() - 2;
    topic.splice(at..=at, [0xfd, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]);
    assert!(decode_datagram::<Message>(&topic).is_err());
}

fn cluster() -> Cluster {
    let boot = Boot {
        node: NodeId(1),
        epoch: 5,
        addr: SocketAddr::from(([10, 0, 0, 9], 4162)),
        seeds: 0,
        peers: vec![],
        cluster_name: "test".to_owned(),
        timings: Timings::default(),
        inactive_producer_timeout: Duration::from_secs(300),
        tombstone_lifetime: Duration::from_secs(45),
        seed: 1,
    };
    Cluster::new(boot, ClusterTime::default())
}

/// A cluster that holds [`identity`] active, because it joined by stream.
fn cluster_with_member() -> Cluster {
    let mut cluster = cluster();
    let now = ClusterTime::default();
    let conn = ConnId(ConnId::ACCEPTED);
    cluster.handle(now, Input::Accepted(conn));
    let frame = encode(&Frame::Hello { identity: identity(), purpose: Purpose::Join });
    cluster.handle(now, Input::Frame(conn, &sealed(&frame)));
    cluster.handle(now, Input::Closed { conn, is_refused: false });
    assert!(cluster.membership().active().contains_key(&NodeId(7)));
    cluster
}

fn sealed(body: &[u8]) -> Vec<u8> {
    Seal::none("test").seal(Sender { node: NodeId(7), epoch: 300, counter: 1 }, body)
}

fn feed(cluster: &mut Cluster, bytes: &[u8], at: u64) {
    let now = ClusterTime { at: Moment(at), wall_ns: 0 };
    let from = SocketAddr::from(([10, 0, 0, 1], 4162));
    cluster.handle(now, Input::Datagram { from, bytes });
    while let Some(output) = cluster.poll() {
        if let Output::Datagram { bytes, .. } = output {
            assert!(bytes.len() <= 1232);
        }
    }
}

#[test]
fn nobody_changes_another_nodes_section_but_its_owner_and_nobody_at_all_changes_ours() {
    let mut cluster = cluster_with_member();
    let mut forged = delta();
    forged.owner = NodeId(1);
    forged.delta.epoch = 5;
    let mut body = vec![KIND_MESSAGE];
    body.extend_from_slice(&encode(&Message::Deltas(vec![forged])));
    feed(&mut cluster, &sealed(&body), 1);
    assert_eq!(cluster.catalogue().own().ver, 0);
    assert!(cluster.catalogue().row("t").is_none());
}

#[test]
fn strangers_are_not_answered() {
    let mut cluster = cluster();
    for message in messages() {
        let mut body = vec![KIND_MESSAGE];
        body.extend_from_slice(&encode(&message));
        let now = ClusterTime::default();
        let from = SocketAddr::from(([10, 0, 0, 1], 4162));
        cluster.handle(now, Input::Datagram { from, bytes: &sealed(&body) });
        while let Some(output) = cluster.poll() {
            assert!(!matches!(output, Output::Datagram { .. }), "{message:?}: {output:?}");
        }
    }
    assert_eq!(cluster.counters()["dropped_not_a_member"], messages().len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_an_error_or_a_value(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_datagram::<Message>(&bytes);
        let _ = decode_frame::<Frame>(&bytes);
        let _ = SwimCodec.decode_header(&bytes[..]);
        let _ = SwimCodec.decode_member(&bytes[..]);
        let _ = Seal::none("test").open(&bytes);
    }

    #[test]
    fn a_node_survives_any_datagram_of_a_member(
        kind in 0_u8..5,
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20),
    ) {
        let mut cluster = cluster_with_member();
        for (at, body) in bodies.iter().enumerate() {
            let mut whole = vec![kind];
            whole.extend_from_slice(body);
            feed(&mut cluster, &sealed(&whole), at as u64);
            feed(&mut cluster, body, at as u64);
        }
    }

    #[test]
    fn a_node_survives_messages_with_any_byte_changed(
        which in 0_usize..8, at in 0_usize..400, byte in any::<u8>(),
    ) {
        let mut cluster = cluster_with_member();
        let mut body = vec![KIND_MESSAGE];
        body.extend_from_slice(&encode(&messages()[which]));
        let at = at % body.len();
        body[at] = byte;
        feed(&mut cluster, &sealed(&body), 1);
        cluster.handle(ClusterTime { at: Moment(2_000_000_000), wall_ns: 0 }, Input::Wake);
    }

    #[test]
    fn a_node_survives_frames_with_any_byte_changed(
        which in 0_usize..8, at in 0_usize..400, byte in any::<u8>(),
    ) {
        let mut cluster = cluster();
        let (now, conn) = (ClusterTime::default(), ConnId(ConnId::ACCEPTED));
        cluster.handle(now, Input::Accepted(conn));
        for (index, frame) in frames().iter().enumerate() {
            let mut body = encode(frame);
            if index == which {
                let at = at % body.len();
                body[at] = byte;
            }
            cluster.handle(now, Input::Frame(conn, &sealed(&body)));
        }
        while cluster.poll().is_some() {}
    }
}

const MESSAGES: [&str; 8] = [
    "000107fb2c010003002203010000000100000000fb361000000000010a020174000001010003017400016300",
    "010107fb2c01030102020001",
    "020107fb2c0101",
    "0301080200000003000000",
    "04000a000001fb421007fb2c0102",
    "0507fb2c0103017400",
    "0507fb2c01030174010163",
    "0507fb2c01030174020112",
];

const FRAMES: [&str; 8] = [
    "00000a000001fb421007fb2c010201",
    "0109",
    "0201000a000001fb421007fb2c01020101010804",
    "0300",
    "0400",
    "050107fb2c010003002203010000000100000000fb361000000000010a020174000001010003017400016300",
    "0607fb2c01030003010000000100000000fb361000000000010a02017400000101000301740001630001",
    "07",
];

const ENVELOPE: &str =
    "01006ba2e96a000000000000000100000000000000020000000000000003ba35cfb2626f6479";

/// Sender and receiver, a member that is named, and the count of members with one of them.
const SWIM: [&str; 3] = [
    "000a000001fb421007fb2c01020401fd000000000000000000000000000001fb421007fb2c0102",
    "000a000001fb421007fb2c0100",
    "0001000a000001fb421007fb2c01000501",
];

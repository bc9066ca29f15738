//! Writes the first inputs of every target, made of valid messages: `cargo run --bin seeds`.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use foca::Codec;
use grapevine_fuzz::{PEER, PEER_EPOCH, joined, peer, sealed};
use grapevine_gossip::codec::{SwimCodec, encode};
use grapevine_gossip::message::{
    Ask, Frame, Head, KIND_MESSAGE, Liveness, MemberState, Message, OwnedDelta, Purpose,
};
use grapevine_gossip::producer::ProducerRecord;
use grapevine_gossip::section::{Delta, Key, Op, Value};
use grapevine_gossip::wish::{What, Wish};
use grapevine_gossip::{NodeId, Producer, ProducerId};

fn main() -> io::Result<()> {
    write("envelope", &[sealed(&[KIND_MESSAGE]), sealed(b"")])?;
    write("codec", &[joined(&swim()), swim()[0].clone()])?;
    let messages: Vec<Vec<u8>> = messages().iter().map(encode).collect();
    let each = messages.iter().map(|message| joined(std::slice::from_ref(message)));
    write("datagram", &each.chain([joined(&messages)]).collect::<Vec<_>>())?;
    let deltas: Vec<Vec<u8>> = deltas().iter().map(encode).collect();
    write("delta", &[joined(&deltas), joined(&deltas[..1])])?;
    write("stream", &streams())?;
    let frames = streams()[0][1..].to_vec();
    let framed: Vec<u8> =
        [&[3, 0, 0, 0, 2][..], b"ab", &[0, 0, 0, 0, 0, 0, 0, 9], &frames].concat();
    write("framing", &[framed])?;
    write("commands", &commands())
}

fn write(target: &str, inputs: &[Vec<u8>]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    for (number, input) in inputs.iter().enumerate() {
        fs::write(folder.join(format!("{number:02}")), input)?;
    }
    Ok(())
}

fn swim() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for message in [
        foca::Message::Ping(1),
        foca::Message::Ack(1),
        foca::Message::PingReq { target: peer(), probe_number: 1 },
        foca::Message::Gossip,
        foca::Message::TurnUndead,
        foca::Message::Announce,
    ] {
        let addr = std::net::SocketAddr::from(([10, 0, 0, 9], 4162)).into();
        let dst =
            grapevine_gossip::identity::Identity { addr, node: NodeId(1), epoch: 5, renew: 0 };
        let mut bytes = Vec::new();
        let header = foca::Header { src: peer(), src_incarnation: 0, dst, message };
        SwimCodec.encode_header(&header, &mut bytes).expect("a header");
        bytes.extend_from_slice(&1_u16.to_be_bytes());
        SwimCodec
            .encode_member(&foca::Member::new(peer(), 0, foca::State::Suspect), &mut bytes)
            .expect("a member");
        packets.push(bytes);
    }
    packets
}

fn ops() -> Vec<Op> {
    let record = ProducerRecord {
        producer: Arc::new(Producer { tcp_port: 4150, ..Producer::default() }),
        active: true,
        draining: true,
        last_update_ns: 5,
    };
    let write = |ver, key, value| Op { ver, key, value };
    let nsqd = ProducerId::NSQD;
    vec![
        write(1, Key::record(nsqd), Some(Value::Producer(Arc::new(record)))),
        write(2, Key::new(nsqd, "t", ""), Some(Value::REGISTERED)),
        write(3, Key::new(nsqd, "t", "c"), None),
    ]
}

fn delta(from: u64, to: u64, ops: Vec<Op>) -> OwnedDelta {
    OwnedDelta { owner: PEER, delta: Delta { epoch: PEER_EPOCH, from, to, floor: 0, ops } }
}

fn deltas() -> Vec<Frame> {
    let later = vec![
        Op { ver: 4, key: Key::new(ProducerId::NSQD, "t", "c"), value: Some(Value::REGISTERED) },
        Op { ver: 6, key: Key::new(ProducerId::NSQD, "t", ""), value: None },
    ];
    let mut newer = delta(0, 3, ops());
    newer.delta.epoch += 1;
    vec![
        Frame::Deltas(vec![delta(0, 3, ops())]),
        Frame::Deltas(vec![delta(3, 7, later)]),
        snapshot(9, 5, true),
        Frame::Deltas(vec![newer]),
    ]
}

fn snapshot(ver: u64, floor: u64, is_last: bool) -> Frame {
    Frame::Snapshot { owner: PEER, epoch: PEER_EPOCH, ver, floor, ops: ops(), is_last }
}

fn messages() -> Vec<Message> {
    let head = Head { owner: PEER, epoch: PEER_EPOCH, ver: 9, by_stream: true };
    let wish = |what| {
        Message::Wish(Wish { owner: NodeId(1), epoch: 5, as_of: 3, topic: "t".into(), what })
    };
    vec![
        Message::Deltas(vec![delta(0, 3, ops())]),
        Message::Heads { heads: vec![head], bucket_count: 2, asks: vec![0, 1] },
        Message::Pull(vec![Ask { owner: PEER, epoch: PEER_EPOCH, have: 0 }]),
        Message::Digest { view: 1, buckets: vec![2, 0, 0, 0, 3, 0, 0, 0] },
        wish(What::DeleteTopic),
        wish(What::DeleteChannel("c".into())),
        wish(What::Tombstone(ProducerId(0), 9)),
        Message::Leave(peer()),
    ]
}

fn streams() -> Vec<Vec<u8>> {
    let alive = MemberState { identity: peer(), incarnation: 1, liveness: Liveness::Alive };
    let head = Head { owner: PEER, epoch: PEER_EPOCH, ver: 3, by_stream: true };
    let members = || Frame::Members { members: vec![alive.clone()], left: vec![(NodeId(8), 4)] };
    let ask = Ask { owner: NodeId(1), epoch: 5, have: 0 };
    let hello = |purpose| Frame::Hello { identity: peer(), purpose };
    let sync = [
        hello(Purpose::Sync),
        members(),
        Frame::Heads(vec![head]),
        Frame::End,
        Frame::Deltas(vec![delta(0, 3, ops())]),
        snapshot(9, 5, false),
        snapshot(9, 5, true),
        Frame::End,
    ];
    let pull = [hello(Purpose::Pull), Frame::Asks(vec![ask]), Frame::End];
    let taken = [Frame::EpochTaken { epoch: 900 }];
    let input = |mode: u8, frames: &[Frame]| {
        [vec![mode], joined(&frames.iter().map(encode).collect::<Vec<_>>())].concat()
    };
    vec![input(0, &sync), input(1, &sync), input(0, &pull), input(1, &taken), input(3, &sync)]
}

fn commands() -> Vec<Vec<u8>> {
    let mut all = vec![9];
    all.extend_from_slice(b"IDENTIFY\n\0\0\0\x02{}PUB t\n\0\0\0\x01aMPUB t\n\0\0\0\x0d\0\0\0\x02");
    all.extend_from_slice(b"\0\0\0\x01a\0\0\0\x00NOP\nDPUB t 5\n\0\0\0\x01bSUB t c\n");
    let mut consumer = vec![10];
    consumer.extend_from_slice(b"RDY 5\nFIN 0123456789abcdef\nREQ 0123456789abcdef 10\nCLS\n");
    consumer.extend_from_slice(b"TOUCH 0123456789abcdef\r\nNOP\nAUTH\n\0\0\0\x01x");
    vec![all, consumer]
}

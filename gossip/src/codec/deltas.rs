//! Deltas, without the writes that nobody needs.
//!
//! In a gossip each node is told of a change about seven times, and looks at the first only. Of the
//! others it decodes whose section they are about and how far they go; the writes are stepped over:
//! they are a string of bytes with its length before it.

use super::{
    BorrowDecode, BorrowDecoder, CodecError, DecodeError, Encode, EncodeError, Encoder,
    NUMBER_BYTE_MAX, NUMBER_EIGHT, NUMBER_TWO, decode_frame, decode_front, encode, encode_into,
    known,
};
use crate::NodeId;
use crate::message::{DELTA_OPS_MAX, OwnedDelta};
use crate::section::{Delta, Op};

/// The case of [`Message`](crate::message::Message) that holds deltas, as its first byte.
const CASE: u8 = 0;

/// The same of [`Frame`](crate::message::Frame).
const FRAME_CASE: u8 = 5;

/// Most bytes of the case and the number of deltas.
pub(crate) const HEAD_BYTES_MAX: usize = 1 + 9;

/// Fewest bytes of a delta: owner, epoch, from, to, floor, and a length and number of writes.
const DELTA_BYTES_MIN: usize = 7;

/// Fewest bytes of a write: version, topic, producer, channel, and that it is a deletion.
const OP_BYTES_MIN: usize = 5;

/// Owner, epoch, from, to, floor, and the writes, which stay where they are.
type DeltaSeen<'a> = (NodeId, u64, u64, u64, u64, &'a [u8]);

/// Bytes before the writes' length in a delta as nearly all are: owner and epoch take all eight
/// bytes, after one that says so, and the three versions one each.
const USUAL_BYTES: usize = 9 + 9 + 3;

/// What is left of the bytes of a datagram.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn next<T: BorrowDecode<'a, ()>>(&mut self) -> Result<T, CodecError> {
        let (value, rest) = decode_front(self.0)?;
        self.0 = rest;
        Ok(value)
    }

    fn delta(&mut self) -> Result<DeltaSeen<'a>, CodecError> {
        if let Some((seen, rest)) = usual(self.0) {
            self.0 = rest;
            return Ok(seen);
        }
        self.next()
    }
}

/// The first delta of `bytes`, if it is as nearly all are, and what follows it.
fn usual(bytes: &[u8]) -> Option<(DeltaSeen<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<USUAL_BYTES>()?;
    let [from, to, floor] = [head[18], head[19], head[20]];
    let is_usual = head[0] == NUMBER_EIGHT && head[9] == NUMBER_EIGHT;
    if !is_usual || from.max(to).max(floor) > NUMBER_BYTE_MAX {
        return None;
    }
    let (len, rest) = match rest {
        [len @ ..=NUMBER_BYTE_MAX, rest @ ..] => (usize::from(*len), rest),
        [NUMBER_TWO, low, high, rest @ ..] => (u16::from_le_bytes([*low, *high]).into(), rest),
        _ => return None,
    };
    let (ops, rest) = rest.split_at_checked(len)?;
    let number = |at: usize| head[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let owner = NodeId(number(1)?);
    Some(((owner, number(10)?, from.into(), to.into(), floor.into(), ops), rest))
}

/// How a message of `count` deltas begins; their encodings, `bytes` in all, follow.
pub(crate) fn deltas_head(count: usize, bytes: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX + bytes);
    encode_into(&(CASE, count as u64), &mut head);
    head
}

/// Appends the frame of `count` deltas whose encodings are `deltas`.
pub(crate) fn deltas_frame(count: usize, deltas: &[u8], bytes: &mut Vec<u8>) {
    encode_into(&(FRAME_CASE, count as u64), bytes);
    bytes.extend_from_slice(deltas);
}

/// Whether a message is [`decode_deltas`]'s.
pub(crate) fn has_deltas(message: &[u8]) -> bool {
    message.first() == Some(&CASE)
}

/// What a delta is worth to who decodes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Worth {
    /// It is news, with its writes.
    All,
    /// Not its writes, but whose it is and how far it goes.
    Head,
    /// It is known.
    Nothing,
}

/// The deltas of a message, but for those that are worth nothing; `worth` is told the owner, the
/// epoch and the last version of each. `None`: there are more writes in one than senders put.
///
/// # Errors
///
/// [`CodecError`] if it is not exactly one such message.
pub(crate) fn decode_deltas(
    message: &[u8],
    mut worth: impl FnMut(NodeId, u64, u64) -> Worth,
) -> Result<Option<Vec<OwnedDelta>>, CodecError> {
    let mut rest = Rest(message);
    let (_case, count): (u8, u64) = rest.next()?;
    // Each is at least so long: no more room than there may be deltas.
    let room = usize::try_from(count).unwrap_or(usize::MAX).min(message.len() / DELTA_BYTES_MIN);
    let mut deltas = Vec::with_capacity(room);
    let mut is_bounded = true;
    for _ in 0..count {
        let (owner, epoch, from, to, floor, ops) = rest.delta()?;
        let count = count_of(ops)?;
        is_bounded &= count <= DELTA_OPS_MAX;
        let ops = match worth(owner, epoch, to) {
            Worth::All => decode_ops(ops, count)?,
            Worth::Head => Vec::new(),
            Worth::Nothing => continue,
        };
        deltas.push(OwnedDelta { owner, delta: Delta { epoch, from, to, floor, ops } });
    }
    if !rest.0.is_empty() {
        return Err(CodecError::Trailing);
    }
    Ok(is_bounded.then_some(deltas))
}

impl Encode for Delta {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.epoch, self.from, self.to, self.floor).encode(encoder)?;
        encode(&self.ops).encode(encoder)
    }
}

impl<'de, C> BorrowDecode<'de, C> for Delta {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        let (epoch, from, to, floor) = BorrowDecode::borrow_decode(decoder)?;
        let ops = BorrowDecode::borrow_decode(decoder)?;
        let ops = count_of(ops).and_then(|count| decode_ops(ops, count));
        let ops = ops.map_err(|error| DecodeError::OtherString(error.to_string()))?;
        Ok(Self { epoch, from, to, floor, ops })
    }
}

/// How many writes `bytes` begins to tell.
fn count_of(bytes: &[u8]) -> Result<usize, CodecError> {
    let (count, _): (u64, _) = decode_front(bytes)?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// The `count` writes that `bytes` are. No more room is made than for as many as there may be in
/// them.
fn decode_ops(bytes: &[u8], count: usize) -> Result<Vec<Op>, CodecError> {
    if count > bytes.len() / OP_BYTES_MIN {
        return Err(CodecError::TooMany);
    }
    known::decoded(bytes, |bytes| decode_frame(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::Producer;
    use crate::codec::decode_datagram;
    use crate::message::{Frame, Message};
    use crate::producer::ProducerRecord;
    use crate::section::{Key, ProducerId, Value};

    fn message() -> Vec<u8> {
        let producer = Producer {
            remote_address: "10.0.0.1:4150".to_owned(),
            hostname: "one".to_owned(),
            broadcast_address: "one.example".to_owned(),
            tcp_port: 4150,
            http_port: 4151,
            version: "1.3.0".to_owned(),
            topology_zone: "z".to_owned(),
            topology_region: "r".to_owned(),
        };
        let record = ProducerRecord {
            producer: Arc::new(producer),
            active: true,
            draining: false,
            last_update_ns: 1_700_000_000_000_000_000,
        };
        let values = [
            Some(Value::Producer(Arc::new(record))),
            Some(Value::REGISTERED),
            Some(Value::Registered { tombstoned_at_ns: Some(-5) }),
            None,
        ];
        let op = |(ver, value)| Op { ver, key: Key::new(ProducerId(300), "topic", "ch"), value };
        let ops: Vec<Op> = (1..).zip(values).map(op).collect();
        let delta = |owner, to| {
            let delta = Delta { epoch: 300, from: 0, to, floor: 0, ops: ops.clone() };
            OwnedDelta { owner: NodeId(owner), delta }
        };
        encode(&Message::Deltas(vec![delta(1, 4), delta(2, 4), delta(3, 70_000)]))
    }

    fn whole(bytes: &[u8]) -> Option<Vec<OwnedDelta>> {
        match decode_datagram(bytes) {
            Ok(Message::Deltas(deltas)) => Some(deltas),
            Ok(_) | Err(_) => None,
        }
    }

    #[test]
    fn what_is_not_wanted_has_no_writes_and_all_else_is_there() {
        let bytes = message();
        assert!(has_deltas(&bytes));
        let head = deltas_head(3, 0);
        assert!(bytes.starts_with(&head));
        let all = whole(&bytes).unwrap();
        let mut frame = Vec::new();
        deltas_frame(3, &bytes[head.len()..], &mut frame);
        assert_eq!(frame, encode(&Frame::Deltas(all.clone())));
        assert_eq!(decode_deltas(&bytes, |_, _, _| Worth::All).unwrap().as_ref(), Some(&all));
        let mut asked = Vec::new();
        let some = decode_deltas(&bytes, |owner, epoch, to| {
            asked.push((owner.0, epoch, to));
            if owner.0 == 2 { Worth::Head } else { Worth::All }
        });
        let some = some.unwrap().unwrap();
        assert_eq!(asked, [(1, 300, 4), (2, 300, 4), (3, 300, 70_000)]);
        assert_eq!((&some[0], &some[2]), (&all[0], &all[2]));
        assert_eq!(some[1].delta.ops, []);
        assert_eq!(some[1].delta.to, 4);
        let none = decode_deltas(&bytes, |_, _, _| Worth::Nothing);
        assert_eq!(none.unwrap(), Some(vec![]));
    }

    #[test]
    fn a_delta_as_nearly_all_are_is_read_as_any_other() {
        let wide = u64::from(u32::MAX) + 1;
        for (owner, epoch) in [(u64::MAX, wide), (wide - 1, wide), (wide, wide - 1)] {
            for (from, to, floor) in [(0, 250, 250), (251, 252, 0), (0, 251, 0), (9, 10, 251)] {
                for topics in [1_u64, 20] {
                    let ops = (1..=topics).map(|ver| {
                        let key = Key::new(ProducerId(0), &format!("a-topic-{ver}"), "");
                        Op { ver, key, value: Some(Value::REGISTERED) }
                    });
                    let delta = Delta { epoch, from, to, floor, ops: ops.collect() };
                    let deltas = vec![OwnedDelta { owner: NodeId(owner), delta }; 2];
                    let bytes = encode(&Message::Deltas(deltas.clone()));
                    let read = decode_deltas(&bytes, |_, _, _| Worth::All).unwrap();
                    assert_eq!(read, Some(deltas));
                    for len in 0..bytes.len() {
                        assert!(decode_deltas(&bytes[..len], |_, _, _| Worth::All).is_err());
                    }
                }
            }
        }
    }

    #[test]
    fn a_delta_of_too_many_writes_is_noticed_even_if_nobody_wants_it() {
        let op = Op { ver: 1, key: Key::new(ProducerId(0), "t", ""), value: None };
        let ops = vec![op; DELTA_OPS_MAX + 1];
        let delta = Delta { epoch: 1, from: 0, to: 1, floor: 0, ops };
        let bytes = encode(&Message::Deltas(vec![OwnedDelta { owner: NodeId(1), delta }]));
        assert_eq!(decode_deltas(&bytes, |_, _, _| Worth::All).unwrap(), None);
        assert_eq!(decode_deltas(&bytes, |_, _, _| Worth::Head).unwrap(), None);
        assert_eq!(decode_deltas(&bytes, |_, _, _| Worth::Nothing).unwrap(), None);
    }

    #[test]
    fn more_writes_than_there_are_bytes_for_are_refused_before_there_is_room_for_them() {
        let begin = |ops: &[u8]| (0_u64, 1_u64, 0_u64, 1_u64, 0_u64, ops.to_vec());
        for count in [2, u64::from(u32::MAX), u64::MAX] {
            let ops = [encode(&count), vec![0; OP_BYTES_MIN]].concat();
            let bytes = [deltas_head(1, 0), encode(&begin(&ops))].concat();
            let refused = decode_deltas(&bytes, |_, _, _| Worth::All);
            assert!(matches!(refused, Err(CodecError::TooMany)), "{refused:?}");
            assert!(decode_datagram::<Message>(&bytes).is_err());
        }
    }

    #[test]
    fn a_length_that_is_not_that_of_the_writes_is_refused() {
        let ops = vec![Op { ver: 1, key: Key::new(ProducerId(0), "t", ""), value: None }];
        for cut in [0, 1] {
            let mut ops = encode(&ops);
            ops.truncate(ops.len() - cut);
            ops.resize(ops.len() + 1 - cut, 0);
            let bytes = encode(&(0_u64, 1_u64, 0_u64, 1_u64, 0_u64, ops));
            let bytes = [deltas_head(1, 0), bytes].concat();
            assert!(decode_deltas(&bytes, |_, _, _| Worth::All).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_damaged_message_is_refused_or_read_as_by_everybody_else(
            at in 0..message().len(), byte: u8, cut in 0..message().len(),
        ) {
            let mut bytes = message();
            bytes[at] = byte;
            bytes[0] = CASE;
            for bytes in [&bytes[..], &bytes[..cut]] {
                let wanted = decode_deltas(bytes, |_, _, _| Worth::All);
                let unwanted = decode_deltas(bytes, |_, _, _| Worth::Head);
                prop_assert!(unwanted.is_ok() || wanted.is_err());
                if let Some(whole) = whole(bytes) {
                    prop_assert_eq!(wanted.unwrap().unwrap(), whole);
                }
            }
        }
    }
}

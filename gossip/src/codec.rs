//! Bytes and values: the only file that knows bincode. What other files derive and implement, they
//! have from here.
//!
//! bincode 2.0.1 is the last release that works and has no successor; whoever replaces it
//! raises the version byte of the envelope.

mod deltas;
mod head;
mod known;
mod swim;

pub(crate) use bincode::de::BorrowDecoder;
pub(crate) use bincode::de::read::Reader;
pub(crate) use bincode::enc::Encoder;
pub(crate) use bincode::enc::write::Writer;
pub(crate) use bincode::error::{DecodeError, EncodeError};
pub use bincode::{BorrowDecode, Encode};

pub(crate) use deltas::{
    HEAD_BYTES_MAX as DELTAS_HEAD_BYTES_MAX, Worth, decode_deltas, deltas_frame, deltas_head,
    has_deltas,
};
pub(crate) use known::keep_decoded;
pub(crate) use swim::{
    Item as SwimItem, SHOWN_SENDER_BYTES, SWIM_FRONT_BYTES, USUAL_BYTES as USUAL_IDENTITY_BYTES,
    endpoint, identity_bytes, peek_header, restore_swim, sender_bytes, shown_sender, split_member,
    split_sender, take_shown_header, take_usual as take_usual_identity, usual as usual_identity,
};
pub use swim::{SwimCodec, SwimKind, peek_short_swim, peek_swim, swim_receiver};

/// Most bytes the values of one datagram may claim while being decoded. A datagram has at most
/// 1232 bytes, but a list claims what its items take in memory, before that is allocated, and a
/// write of 5 bytes takes 72.
const DATAGRAM_CLAIM_MAX: usize = 32 * 1024;

/// The same for a stream frame of at most 64 KiB.
const FRAME_CLAIM_MAX: usize = 1024 * 1024;

/// Largest number that is its own first and only byte.
const NUMBER_BYTE_MAX: u8 = 250;

/// First bytes of numbers of two, four and eight bytes, which follow, the lowest first.
const NUMBER_TWO: u8 = 251;
const NUMBER_FOUR: u8 = 252;
const NUMBER_EIGHT: u8 = 253;

/// Room that is made for an encoding at first: most messages fit.
const ENCODED_BYTES_USUAL: usize = 256;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not an encoding of the expected type, or larger than allowed.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// Not what the failure detector sends.
    #[error("malformed packet of the failure detector")]
    Swim,
    /// The buffer has no room for it.
    #[error("no room")]
    Full,
    /// More items than there are bytes for.
    #[error("a list of more than there is")]
    TooMany,
    /// Bytes are left over after the value.
    #[error("trailing bytes")]
    Trailing,
}

/// Encodes `value`.
///
/// # Panics
///
/// Never for this crate's messages: they hold nothing bincode cannot encode.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENCODED_BYTES_USUAL);
    encode_into(value, &mut bytes);
    bytes
}

/// Appends the encoding of `value` to `bytes`.
///
/// # Panics
///
/// Never, as [`encode`].
pub fn encode_into<T: Encode>(value: &T, bytes: &mut Vec<u8>) {
    bincode::encode_into_std_write(value, bytes, bincode::config::standard())
        .expect("the messages of this crate hold only types that bincode encodes");
}

/// Whether a message is a digest, by its first byte.
pub(crate) fn has_digest(message: &[u8]) -> bool {
    /// The case of [`Message`](crate::message::Message) that is one.
    const CASE: u8 = 3;
    message.first() == Some(&CASE)
}

/// Decodes what a datagram carries.
///
/// # Errors
///
/// [`CodecError`] if it is not exactly one value.
pub fn decode_datagram<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let (value, rest) = decode_front(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Trailing) }
}

/// Decodes what the rest of a datagram begins with, and returns what follows.
fn decode_front<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), CodecError> {
    let config = bincode::config::standard().with_limit::<DATAGRAM_CLAIM_MAX>();
    let (value, len) = bincode::borrow_decode_from_slice(bytes, config)?;
    Ok((value, &bytes[len..]))
}

/// Decodes what a stream frame carries.
///
/// # Errors
///
/// [`CodecError`] if it is not exactly one value.
pub fn decode_frame<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<FRAME_CLAIM_MAX>();
    let (value, len) = bincode::borrow_decode_from_slice(bytes, config)?;
    if len == bytes.len() { Ok(value) } else { Err(CodecError::Trailing) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;
    use crate::identity::Identity;
    use crate::message::{
        Ask, DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX, Frame, Head, Liveness, MemberState, Message,
        OwnedDelta,
    };
    use crate::section::{Delta, Key, Op, ProducerId, Value};

    const OWNER: NodeId = NodeId(0);

    fn op() -> Op {
        Op { ver: 0, key: Key::record(ProducerId(0)), value: None }
    }

    fn delta(ops: Vec<Op>) -> OwnedDelta {
        OwnedDelta { owner: OWNER, delta: Delta { epoch: 0, from: 0, to: 0, floor: 0, ops } }
    }

    /// One list for each kind that a datagram has, of `count` of the smallest items.
    fn messages(count: usize) -> Vec<Message> {
        let head = Head { owner: OWNER, epoch: 0, ver: 0, by_stream: false };
        let heads = |heads, asks| Message::Heads { heads, bucket_count: 0, asks };
        vec![
            Message::Deltas(vec![delta(vec![]); count]),
            Message::Deltas(vec![delta(vec![op(); count])]),
            heads(vec![head; count], vec![]),
            heads(vec![], vec![0; count]),
            Message::Pull(vec![Ask { owner: OWNER, epoch: 0, have: 0 }; count]),
            Message::Digest { view: 0, buckets: vec![0; count] },
        ]
    }

    /// The same for a frame.
    fn frames(count: usize) -> Vec<Frame> {
        let addr = std::net::SocketAddr::from(([0; 4], 0)).into();
        let identity = Identity { addr, node: OWNER, epoch: 0, renew: 0 };
        let state = MemberState { identity, incarnation: 0, liveness: Liveness::Alive };
        let head = Head { owner: OWNER, epoch: 0, ver: 0, by_stream: false };
        let ops = vec![op(); count];
        vec![
            Frame::Members { members: vec![state; count], left: vec![] },
            Frame::Members { members: vec![], left: vec![(OWNER, 0); count] },
            Frame::Heads(vec![head; count]),
            Frame::Asks(vec![Ask { owner: OWNER, epoch: 0, have: 0 }; count]),
            Frame::Deltas(vec![delta(vec![]); count]),
            Frame::Deltas(vec![delta(ops.clone())]),
            Frame::Snapshot { owner: OWNER, epoch: 0, ver: 0, floor: 0, ops, is_last: true },
        ]
    }

    /// How many items make the longest encoding of at most `bytes_max` bytes, given those of none
    /// and of 100, which are as many as a length of one byte says.
    fn count_that_fits(none: usize, hundred: usize, bytes_max: usize) -> usize {
        // Lengths above 250 have two bytes more, and writes have two lengths.
        (bytes_max - none - 4) / ((hundred - none) / 100)
    }

    #[test]
    fn whatever_a_datagram_or_a_frame_has_room_for_can_be_decoded() {
        let (none, hundred) = (messages(0), messages(100));
        for (at, (none, hundred)) in none.iter().zip(&hundred).enumerate() {
            let (none, hundred) = (encode(none).len(), encode(hundred).len());
            let count = count_that_fits(none, hundred, DATAGRAM_BYTES_MAX);
            let message = messages(count).swap_remove(at);
            let bytes = encode(&message);
            assert!((DATAGRAM_BYTES_MAX - 20..=DATAGRAM_BYTES_MAX).contains(&bytes.len()));
            assert_eq!(decode_datagram::<Message>(&bytes).unwrap(), message);
        }
        let (none, hundred) = (frames(0), frames(100));
        for (at, (none, hundred)) in none.iter().zip(&hundred).enumerate() {
            let (none, hundred) = (encode(none).len(), encode(hundred).len());
            let count = count_that_fits(none, hundred, FRAME_BYTES_MAX);
            let frame = frames(count).swap_remove(at);
            let bytes = encode(&frame);
            assert!((FRAME_BYTES_MAX - 20..=FRAME_BYTES_MAX).contains(&bytes.len()));
            assert_eq!(decode_frame::<Frame>(&bytes).unwrap(), frame);
        }
    }

    #[test]
    fn a_list_that_takes_more_memory_than_any_honest_one_is_refused_before_it_is_taken() {
        // Where the list's length is: what follows the encoding of an empty one is not read.
        let is_refused =
            |error| matches!(error, Some(CodecError::Malformed(DecodeError::LimitExceeded)));
        for len in [DATAGRAM_CLAIM_MAX as u64, u64::MAX / 8, u64::MAX] {
            for (empty, one) in messages(0).iter().zip(&messages(1)) {
                let bytes = with_length(&encode(empty), &encode(one), len);
                assert!(is_refused(decode_datagram::<Message>(&bytes).err()), "{empty:?} {len}");
            }
        }
        for len in [FRAME_CLAIM_MAX as u64, u64::MAX / 8, u64::MAX] {
            for (empty, one) in frames(0).iter().zip(&frames(1)) {
                let bytes = with_length(&encode(empty), &encode(one), len);
                assert!(is_refused(decode_frame::<Frame>(&bytes).err()), "{empty:?} {len}");
            }
        }
    }

    /// `empty`, which has a list of none where `one` has a list of one, with `len` as its length.
    fn with_length(empty: &[u8], one: &[u8], len: u64) -> Vec<u8> {
        let at = empty.iter().zip(one).position(|(empty, one)| empty != one).unwrap();
        [&empty[..at], &[253], &len.to_le_bytes(), &empty[at + 1..]].concat()
    }

    #[test]
    fn a_time_may_be_before_1970() {
        let value = Value::Registered { tombstoned_at_ns: Some(-3) };
        assert_eq!(encode(&value), [1, 1, 5]);
        assert_eq!(decode_datagram::<Value>(&[1, 1, 5]).unwrap(), value);
    }
}

//! Putting deltas and heads into as few datagrams as they fit.

use crate::NodeId;
use crate::codec::{deltas_head, encode, encode_into};
use crate::message::{HEADS_MAX, Head, Message, OwnedDelta};
use crate::section::{Delta, Op};
use crate::spread::DATAGRAMS_PER_ROUND_MAX;

/// Bytes of writes in one datagram; the rest is room for what surrounds them.
const DELTA_BYTES_MAX: usize = 1000;

/// What surrounds the writes of one delta, at most: owner, epoch, where it begins and ends, and
/// floor, nine bytes each; the length and number of writes, three bytes each in a datagram.
const DELTA_HEADER_BYTES: usize = 5 * 9 + 2 * 3;

/// [`DELTA_BYTES_MAX`], unless somebody got it wrong.
pub(super) fn delta_bytes_max() -> usize {
    // X02, class "forgot the headers".
    if mutant!(X02) { 2 * DELTA_BYTES_MAX } else { DELTA_BYTES_MAX }
}

/// What is told of one section: encoded once, put into datagrams to several members.
#[derive(Debug)]
pub(super) enum Part {
    /// The writes.
    Delta {
        /// Upper bound of the size of `bytes`.
        size: usize,
        bytes: Vec<u8>,
    },
    /// That there are some.
    Head(Head),
}

impl Part {
    /// `None`: it is too large for a datagram.
    pub(super) fn delta(owner: NodeId, delta: Delta) -> Option<Self> {
        let size = DELTA_HEADER_BYTES + delta.ops.iter().map(Op::size).sum::<usize>();
        if size > delta_bytes_max() + DELTA_HEADER_BYTES {
            return None;
        }
        let mut bytes = Vec::with_capacity(size);
        encode_into(&OwnedDelta { owner, delta }, &mut bytes);
        Some(Self::Delta { size, bytes })
    }
}

/// How much of a round's datagrams is taken.
#[derive(Default)]
pub(super) struct Room {
    datagrams: usize,
    /// Of the last of them, as an upper bound.
    bytes: usize,
    heads: usize,
}

/// Where a part goes.
pub(super) enum Place {
    /// Beside what is in the last datagram.
    Last,
    /// Into a datagram that begins with it.
    Next,
    /// Among the heads.
    Heads,
}

impl Room {
    /// Takes the room for a part. `None`: there are enough datagrams for its writes.
    pub(super) fn takes(&mut self, part: &Part) -> Option<Place> {
        let Part::Delta { size, .. } = part else {
            self.heads += 1;
            return Some(Place::Heads);
        };
        if self.datagrams > 0 && self.bytes + size <= delta_bytes_max() + DELTA_HEADER_BYTES {
            self.bytes += size;
            return Some(Place::Last);
        }
        if self.datagrams == DATAGRAMS_PER_ROUND_MAX {
            return None;
        }
        self.datagrams += 1;
        self.bytes = *size;
        Some(Place::Next)
    }

    pub(super) const fn is_full(&self) -> bool {
        self.datagrams >= DATAGRAMS_PER_ROUND_MAX || self.heads >= HEADS_MAX
    }
}

/// Deltas and heads, packed into datagrams.
#[derive(Default)]
pub(super) struct Batch<'a> {
    room: Room,
    /// The encodings of each datagram's deltas.
    datagrams: Vec<Vec<&'a [u8]>>,
    heads: Vec<Head>,
}

impl<'a> Batch<'a> {
    /// Adds what is told of one section. False if there are enough datagrams for its writes.
    pub(super) fn adds(&mut self, part: &'a Part) -> bool {
        match (self.room.takes(part), part) {
            (Some(Place::Next), Part::Delta { bytes, .. }) => self.datagrams.push(vec![bytes]),
            (Some(_), Part::Delta { bytes, .. }) => {
                self.datagrams.last_mut().expect("one has room").push(bytes);
            }
            (Some(_), Part::Head(head)) => self.heads.push(*head),
            (None, _) => return false,
        }
        true
    }

    /// The messages, encoded.
    pub(super) fn bodies(&self) -> Vec<Vec<u8>> {
        let deltas = self.datagrams.iter().map(|deltas| {
            let bytes = deltas.iter().map(|delta| delta.len()).sum::<usize>();
            let mut body = deltas_head(deltas.len(), bytes);
            for delta in deltas {
                body.extend_from_slice(delta);
            }
            body
        });
        let heads = self.heads.chunks(HEADS_MAX).map(|heads| {
            encode(&Message::Heads { heads: heads.to_vec(), bucket_count: 0, asks: vec![] })
        });
        deltas.chain(heads).collect()
    }
}

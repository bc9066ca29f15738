//! Putting deltas and heads into as few datagrams as they fit.

use crate::NodeId;
use crate::codec::{deltas_head, encode, encode_into};
use crate::message::{HEADS_MAX, Head, Message, OwnedDelta};
use crate::section::{Delta, Op};
use crate::spread::DATAGRAMS_PER_ROUND_MAX;

/// Bytes of writes in one datagram; the rest is room for what surrounds them.
const DELTA_BYTES_MAX: usize = 1000;

/// What surrounds the writes of one delta, at most.
const DELTA_HEADER_BYTES: usize = 48;

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

/// A datagram's deltas.
struct Deltas {
    size: usize,
    count: usize,
    bytes: Vec<u8>,
}

/// Deltas and heads, packed into datagrams.
#[derive(Default)]
pub(super) struct Batch {
    datagrams: Vec<Deltas>,
    heads: Vec<Head>,
}

impl Batch {
    /// Adds what is told of one section. False if there are enough datagrams for its writes.
    pub(super) fn adds(&mut self, part: &Part) -> bool {
        let (size, bytes) = match part {
            Part::Delta { size, bytes } => (*size, bytes),
            Part::Head(head) => {
                self.heads.push(*head);
                return true;
            }
        };
        let fits = |used: usize| used + size <= delta_bytes_max() + DELTA_HEADER_BYTES;
        let has_room = self.datagrams.len() < DATAGRAMS_PER_ROUND_MAX;
        match self.datagrams.last_mut() {
            Some(last) if fits(last.size) => {
                last.size += size;
                last.count += 1;
                last.bytes.extend_from_slice(bytes);
            }
            Some(_) | None if has_room => {
                self.datagrams.push(Deltas { size, count: 1, bytes: bytes.clone() });
            }
            Some(_) | None => return false,
        }
        true
    }

    pub(super) fn is_full(&self) -> bool {
        self.datagrams.len() >= DATAGRAMS_PER_ROUND_MAX || self.heads.len() >= HEADS_MAX
    }

    /// The messages, encoded.
    pub(super) fn bodies(self) -> impl Iterator<Item = Vec<u8>> {
        let deltas = self.datagrams.into_iter().map(|Deltas { count, bytes, .. }| {
            let mut body = deltas_head(count);
            body.extend_from_slice(&bytes);
            body
        });
        let heads: Vec<_> = self.heads.chunks(HEADS_MAX).map(<[Head]>::to_vec).collect();
        let heads = heads
            .into_iter()
            .map(|heads| encode(&Message::Heads { heads, bucket_count: 0, asks: vec![] }));
        deltas.chain(heads)
    }
}

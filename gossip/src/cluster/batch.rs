//! Putting deltas and heads into as few datagrams as they fit.

use crate::NodeId;
use crate::message::{HEADS_MAX, Head, Message, OwnedDelta};
use crate::section::{Delta, Op};
use crate::spread::DATAGRAMS_PER_ROUND_MAX;

/// Bytes of writes in one datagram; the rest is room for what surrounds them.
const DELTA_BYTES_MAX: usize = 1000;

/// [`DELTA_BYTES_MAX`], unless somebody got it wrong.
pub(super) fn delta_bytes_max() -> usize {
    // X02, class "forgot the headers".
    if mutant!(X02) { 2 * DELTA_BYTES_MAX } else { DELTA_BYTES_MAX }
}

/// Deltas and heads, packed into datagrams.
#[derive(Default)]
pub(super) struct Batch {
    datagrams: Vec<(usize, Vec<OwnedDelta>)>,
    pub(super) heads: Vec<Head>,
}

impl Batch {
    /// Adds a delta unless it is too large for a datagram or there are enough datagrams.
    pub(super) fn adds(&mut self, owner: NodeId, delta: Delta) -> bool {
        let size = 48 + delta.ops.iter().map(Op::size).sum::<usize>();
        if size > delta_bytes_max() + 48 {
            return false;
        }
        let fits = |used: usize| used + size <= delta_bytes_max() + 48;
        let owned = OwnedDelta { owner, delta };
        let has_room = self.datagrams.len() < DATAGRAMS_PER_ROUND_MAX;
        match self.datagrams.last_mut() {
            Some((used, deltas)) if fits(*used) => {
                *used += size;
                deltas.push(owned);
            }
            Some(_) | None if has_room => {
                self.datagrams.push((size, vec![owned]));
            }
            Some(_) | None => return false,
        }
        true
    }

    pub(super) fn is_full(&self) -> bool {
        self.datagrams.len() >= DATAGRAMS_PER_ROUND_MAX || self.heads.len() >= HEADS_MAX
    }

    pub(super) fn messages(self) -> Vec<Message> {
        let mut messages: Vec<Message> =
            self.datagrams.into_iter().map(|(_, deltas)| Message::Deltas(deltas)).collect();
        for heads in self.heads.chunks(HEADS_MAX) {
            messages.push(Message::Heads { heads: heads.to_vec(), bucket_count: 0, asks: vec![] });
        }
        messages
    }
}

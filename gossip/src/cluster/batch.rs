//! Putting deltas and heads into as few datagrams as they fit.

use crate::NodeId;
use crate::codec::{deltas_head, encode, encode_into};
use crate::message::{DELTA_OPS_MAX, HEADS_MAX, Head, Message, OwnedDelta};
use crate::section::{Delta, Op, Section};
use crate::spread::DATAGRAMS_PER_ROUND_MAX;

/// Bytes of writes in one datagram; the rest is room for what surrounds them.
const DELTA_BYTES_MAX: usize = 1000;

/// What surrounds the writes of one delta, at most: owner, epoch, where it begins and ends, and
/// floor, nine bytes each; the length and number of writes, three bytes each in a datagram.
const DELTA_HEADER_BYTES: usize = 5 * 9 + 2 * 3;

/// Room that is made for the deltas of a datagram: so many small ones fit.
const DELTAS_USUAL: usize = 16;

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
    /// What `section` has after the version `begin`: all of it, if that is 0 and no more than
    /// `bytes_max` bytes, or else what `told` makes of the delta that begins there. `None`: there
    /// is none, or it is too large for a datagram.
    pub(super) fn since(
        (owner, section): (NodeId, &Section),
        begin: u64,
        bytes_max: usize,
        told: impl FnOnce(Delta) -> Option<Delta>,
    ) -> Option<Self> {
        if begin == 0
            && let Some((ops, size)) = section.encoded(DELTA_OPS_MAX, bytes_max)
        {
            let mut bytes = Vec::new();
            encode_whole((owner, section), ops, &mut bytes);
            return Some(Self::Delta { size: DELTA_HEADER_BYTES + size, bytes });
        }
        let delta = section.delta_since(begin, DELTA_OPS_MAX, bytes_max).and_then(told)?;
        Self::delta(owner, delta)
    }

    fn delta(owner: NodeId, delta: Delta) -> Option<Self> {
        let size = DELTA_HEADER_BYTES + delta.ops.iter().map(Op::size).sum::<usize>();
        if size > delta_bytes_max() + DELTA_HEADER_BYTES {
            return None;
        }
        let mut bytes = Vec::with_capacity(size);
        encode_into(&OwnedDelta { owner, delta }, &mut bytes);
        Some(Self::Delta { size, bytes })
    }
}

/// Appends the delta that is all of an owner's section, whose writes are encoded as `ops`, to
/// `bytes`.
pub(super) fn encode_whole((owner, section): (NodeId, &Section), ops: &[u8], bytes: &mut Vec<u8>) {
    let Section { epoch, ver, floor, .. } = section;
    bytes.reserve(DELTA_HEADER_BYTES + ops.len());
    // As an `OwnedDelta` is.
    encode_into(&(owner, epoch, 0_u64, ver, floor, ops), bytes);
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
            (Some(Place::Next), Part::Delta { bytes, .. }) => {
                let mut deltas = Vec::with_capacity(DELTAS_USUAL);
                deltas.push(bytes.as_slice());
                self.datagrams.push(deltas);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::{Key, ProducerId, Value};

    fn whole(section: &Section, bytes_max: usize) -> Option<Part> {
        Part::since((NodeId(7), section), 0, bytes_max, |_| None)
    }

    /// The part that is all of `section`, and what the writes that it holds would make.
    fn whole_and_made(section: &Section) -> [Option<(usize, Vec<u8>)>; 2] {
        let bytes_max = delta_bytes_max();
        let delta = section.delta_since(0, DELTA_OPS_MAX, bytes_max);
        let made = delta.and_then(|delta| Part::delta(NodeId(7), delta));
        [whole(section, bytes_max), made].map(|part| match part {
            Some(Part::Delta { size, bytes }) => Some((size, bytes)),
            Some(Part::Head(_)) | None => None,
        })
    }

    #[test]
    fn a_whole_section_is_told_as_its_writes_are_also_after_one_more() {
        let mut section = Section::new(3);
        for at in 0..20_u64 {
            let key = Key::new(ProducerId::NSQD, &format!("t{}", at % 12), "");
            section.write(key, (at != 15).then_some(Value::REGISTERED));
            let [whole, made] = whole_and_made(&section);
            assert!(whole.is_some());
            assert_eq!(whole, made);
            assert_eq!(whole, whole_and_made(&section)[0], "it is the same when told again");
        }
    }

    #[test]
    fn what_is_more_than_a_datagram_or_without_its_deletions_is_not_told_whole() {
        let mut section = Section::new(3);
        let write = |section: &mut Section, name: &str, value| {
            section.write(Key::new(ProducerId::NSQD, name, ""), value)
        };
        write(&mut section, "t", Some(Value::REGISTERED));
        write(&mut section, "t", None);
        assert!(whole(&section, delta_bytes_max()).is_some());
        section.forget_deletions(section.ver);
        assert!(whole(&section, delta_bytes_max()).is_none());
        let mut section = Section::new(3);
        for at in 0..=DELTA_OPS_MAX {
            write(&mut section, &format!("t{at}"), Some(Value::REGISTERED));
        }
        assert!(whole(&section, usize::MAX).is_none());
    }
}

//! What is still to happen, by time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::broker::BrokerEvent;

/// Something that happens at some time. Small; what is large lies in a slab.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A datagram reaches a node's socket.
    Datagram { to: u32, parcel: u32 },
    /// A node's timers may be due.
    Wake { node: u32 },
    /// A node that was busy or paused goes on with what waits.
    Turn { node: u32 },
    /// The next thing on a stream reaches this end of it.
    Pipe { pipe: u32, side: u8 },
    /// A seed's name is resolved.
    Resolved { node: u32, life: u32, seed: u32 },
    /// A write to a node's disk ends.
    Written { node: u32, life: u32, write: u32 },
    /// A node's process starts, if none runs.
    Start { node: u32, fault: u32 },
    /// It has written its epoch and begins to talk.
    Booted { node: u32, life: u32 },
    /// A node that says goodbye has had time enough.
    Gone { node: u32, life: u32 },
    /// A fault begins.
    Begin { fault: u32 },
    /// A fault ends.
    End { fault: u32 },
    /// Somebody sends junk.
    Junk { fault: u32, number: u32 },
    /// Clients change something.
    Churn { number: u32 },
    /// A client asks.
    Lookup { number: u32 },
    /// Foreign producers say that they are there.
    Ping { node: u32, life: u32 },
    /// Something about brokers.
    Broker(BrokerEvent),
    /// Everything is mended.
    Heal,
    /// Rules about everyone are checked.
    Look,
    /// The recorder is told how things stand.
    Sample,
}

impl Event {
    /// The node at which it happens, if that is known before.
    pub(super) fn node(&self) -> Option<u32> {
        match *self {
            Self::Datagram { to: node, .. }
            | Self::Wake { node }
            | Self::Turn { node }
            | Self::Resolved { node, .. }
            | Self::Written { node, .. }
            | Self::Start { node, .. }
            | Self::Booted { node, .. }
            | Self::Gone { node, .. }
            | Self::Ping { node, .. } => Some(node),
            Self::Broker(event) => event.subject().0.map(|(node, _)| node),
            Self::Pipe { .. }
            | Self::Begin { .. }
            | Self::End { .. }
            | Self::Junk { .. }
            | Self::Churn { .. }
            | Self::Lookup { .. }
            | Self::Heal
            | Self::Look
            | Self::Sample => None,
        }
    }

    /// A number for the kind, for hashes.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Datagram { .. } => 0,
            Self::Wake { .. } => 1,
            Self::Turn { .. } => 2,
            Self::Pipe { .. } => 3,
            Self::Resolved { .. } => 4,
            Self::Written { .. } => 5,
            Self::Start { .. } => 6,
            Self::Booted { .. } => 7,
            Self::Gone { .. } => 8,
            Self::Begin { .. } => 9,
            Self::End { .. } => 10,
            Self::Junk { .. } => 11,
            Self::Churn { .. } => 12,
            Self::Lookup { .. } => 13,
            Self::Ping { .. } => 14,
            Self::Heal => 15,
            Self::Look => 16,
            Self::Sample => 17,
            // Each kind has a number of its own there.
            Self::Broker(_) => 64,
        }
    }
}

/// All slots of the [`Queue`] together, as a power of two of ns: 268 ms, longer than nearly all
/// delays of datagrams and pauses between timers.
const TURN_BITS: u32 = 28;

/// One slot, as a power of two of ns, with few nodes and with many: 4.2 ms and 524 µs. Into one
/// that is longer more falls than is quickly sorted: with a thousand nodes some ten events. Slots
/// that are shorter are more, and the memory of each has left the cache when its turn comes again.
const SLOT_BITS: (u32, u32) = (22, 19);

/// With twice as many nodes as this, slots are half as long; and so on.
const NODES_FEW: usize = 64;

/// An event that waits.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: u64,
    /// Number of events added before it.
    sequence: u64,
    event: Event,
}

impl Due {
    fn order(&self) -> (u64, u64) {
        (self.at, self.sequence)
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Due {}

/// Events by time; those of one instant in the order they were added.
///
/// A calendar queue (Brown, 1988) that is turned once: what is due soon lies in slots by time, and
/// a slot is sorted when its turn comes. Nearly every event is of that kind, and a heap would move
/// each of them past all timers of all nodes.
#[derive(Debug)]
pub(super) struct Queue {
    /// The slot whose turn it is; `now` is everything of it and of those before, latest first.
    current: u64,
    now: Vec<Due>,
    /// Those of the next slots, at the slot's number modulo their number, a power of two.
    slots: Vec<Vec<Due>>,
    slot_bits: u32,
    /// Which slots hold something, one bit each.
    filled: Vec<u64>,
    /// Later ones.
    later: BinaryHeap<Reverse<Due>>,
    sequence: u64,
}

impl Queue {
    /// Of what happens to so many nodes.
    pub(super) fn new(nodes: usize) -> Self {
        let (few, many) = SLOT_BITS;
        let slot_bits = (few - (nodes / NODES_FEW).max(1).ilog2()).max(many);
        let slots = 1 << (TURN_BITS - slot_bits);
        Self {
            current: 0,
            now: Vec::new(),
            slots: vec![Vec::new(); slots],
            slot_bits,
            filled: vec![0; slots / 64],
            later: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// Adds an event at `at`, in ns from the start.
    pub(super) fn add(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        let due = Due { at, sequence: self.sequence, event };
        let slot = at >> self.slot_bits;
        if slot <= self.current {
            let place = self.now.partition_point(|other| *other > due);
            self.now.insert(place, due);
        } else if slot - self.current < self.slots.len() as u64 {
            let place = self.place(slot);
            self.slots[place].push(due);
            self.filled[place / 64] |= 1 << (place % 64);
        } else {
            self.later.push(Reverse(due));
        }
    }

    /// The next event and its time, unless it is later than `end`.
    pub(super) fn next(&mut self, end: u64) -> Option<(u64, Event)> {
        if self.now.is_empty() {
            self.turn();
        }
        let due = self.now.pop_if(|due| due.at <= end)?;
        Some((due.at, due.event))
    }

    /// Goes on to the next slot that holds something, if any does. Nothing is due in this one.
    #[inline(never)]
    fn turn(&mut self) {
        let soon = self.next_filled();
        let late = self.later.peek().map(|Reverse(due)| due.at >> self.slot_bits);
        let Some(slot) = soon.into_iter().chain(late).min() else { return };
        self.current = slot;
        if soon == Some(slot) {
            let place = self.place(slot);
            std::mem::swap(&mut self.now, &mut self.slots[place]);
            self.filled[place / 64] &= !(1 << (place % 64));
        }
        while let Some(Reverse(due)) = self.later.peek()
            && due.at >> self.slot_bits == slot
        {
            self.now.push(*due);
            self.later.pop();
        }
        if self.now.len() > 1 {
            self.now.sort_unstable_by(|one, other| other.cmp(one));
        }
    }

    fn place(&self, slot: u64) -> usize {
        slot as usize & (self.slots.len() - 1)
    }

    /// The first slot after this one that holds something.
    fn next_filled(&self) -> Option<u64> {
        let words = self.filled.len();
        let from = self.place(self.current + 1);
        let first = from / 64;
        let ahead = |at: usize, word: u64| {
            let place = at * 64 + word.trailing_zeros() as usize;
            self.current + 1 + self.place(place.wrapping_sub(from) as u64) as u64
        };
        let word = self.filled[first] & (!0 << (from % 64));
        if word != 0 {
            return Some(ahead(first, word));
        }
        // The first word comes again, for its low bits.
        let mut others = (1..=words).map(|step| (first + step) & (words - 1));
        let at = others.find(|&at| self.filled[at] != 0)?;
        Some(ahead(at, self.filled[at]))
    }
}

/// Things by small numbers that are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Keeps something; its number.
    pub(super) fn add(&mut self, thing: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.places[number as usize] = Some(thing);
            return number;
        }
        self.places.push(Some(thing));
        (self.places.len() - 1) as u32
    }

    /// Something that is kept.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(number as usize)?.as_mut()
    }

    /// Gives something back; its number will be used again.
    pub(super) fn take(&mut self, number: u32) -> Option<T> {
        let thing = self.places.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::luck::Domain;

    /// Pauses as they occur: none, within a slot, within the slots, beyond them.
    const PAUSES: [u64; 5] = [0, 100_000, 1_000_000, 300_000_000, 3_000_000_000];

    #[test]
    fn events_happen_by_time_and_then_in_the_order_they_were_added() {
        for nodes in [1, 100, 300, 10_000] {
            let luck = Domain::new(1, "queue");
            let mut queue = Queue::new(nodes);
            let mut waiting = std::collections::BTreeSet::new();
            let (mut now, mut node) = (0, 0);
            for step in 0..20_000 {
                let draw = luck.draw(&[step]);
                // Now more come than go, now more go.
                let adds = if step / 500 % 2 == 0 { 3 } else { 1 };
                for field in 0..draw.pick(0, adds + 1) as u64 {
                    let most = PAUSES[draw.pick(10 + field, PAUSES.len())];
                    let at = now + (most as f64 * draw.unit(20 + field)) as u64;
                    queue.add(at, Event::Wake { node });
                    waiting.insert((at, node));
                    node += 1;
                }
                let next = queue.next(u64::MAX).map(|(at, event)| match event {
                    Event::Wake { node } => (at, node),
                    other => panic!("{other:?}"),
                });
                assert_eq!(next, waiting.pop_first());
                now = next.map_or(now, |(at, _)| at);
            }
            assert!(node > 10_000 && now > 10_000_000_000, "{node} {now}");
        }
    }

    #[test]
    fn what_is_later_than_the_end_waits() {
        let mut queue = Queue::new(5);
        queue.add(5_000_000_000, Event::Look);
        assert!(queue.next(4_999_999_999).is_none());
        queue.add(7, Event::Heal);
        assert!(matches!(queue.next(4_999_999_999), Some((7, Event::Heal))));
        assert!(matches!(queue.next(5_000_000_000), Some((5_000_000_000, Event::Look))));
        assert!(queue.next(u64::MAX).is_none());
    }
}

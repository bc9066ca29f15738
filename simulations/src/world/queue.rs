//! What is still to happen, by time.

use std::cmp::Reverse;
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

/// Bits of a place among the events; the others of a word count what was added, of which there are
/// then 2^38.
const PLACE_BITS: u32 = 26;

/// Events by time; those of one instant in the order they were added.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// When, in which order, and where the event is: 16 bytes, since a heap moves them about.
    heap: BinaryHeap<Reverse<u128>>,
    events: Vec<Event>,
    /// Places among them that nothing is in.
    free: Vec<u32>,
    sequence: u64,
}

impl Queue {
    /// Adds an event at `at`, in ns from the start.
    pub(super) fn add(&mut self, at: u64, event: Event) {
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place as usize] = event;
                place
            }
            None => {
                self.events.push(event);
                (self.events.len() - 1) as u32
            }
        };
        debug_assert!(place >> PLACE_BITS == 0, "67 million events are waiting");
        self.sequence += 1;
        let order = self.sequence << PLACE_BITS | u64::from(place);
        self.heap.push(Reverse(u128::from(at) << 64 | u128::from(order)));
    }

    /// The next event and its time, unless it is later than `end`.
    pub(super) fn next(&mut self, end: u64) -> Option<(u64, Event)> {
        let time = |due: &Reverse<u128>| (due.0 >> 64) as u64;
        if time(self.heap.peek()?) > end {
            return None;
        }
        let due = self.heap.pop()?;
        let place = due.0 as u32 & ((1 << PLACE_BITS) - 1);
        self.free.push(place);
        Some((time(&due), self.events[place as usize]))
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

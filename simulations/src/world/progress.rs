//! How far a run has come: the chain of hashes, and what is left for whoever has to say where it
//! panicked.

use std::cell::Cell;
use std::rc::Rc;

use grapevine_gossip::envelope::HEADER_BYTES;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::World;
use crate::outcome::CHECKPOINT_EVENTS;

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Progress {
    /// Time, in ns from the start.
    pub(crate) now: u64,
    /// Events handled.
    pub(crate) events: u64,
    /// Hash over them.
    pub(crate) hash: u64,
    /// The node that is being told something, if it is one.
    pub(crate) node: Option<u32>,
}

impl World<'_> {
    /// Keeps how far the run has come in `progress`, which a panic does not take with it.
    pub(crate) fn telling(mut self, progress: Rc<Cell<Progress>>) -> Self {
        self.progress = progress;
        self
    }

    /// Something is about to happen, at this node if at one. Where it was before.
    pub(super) fn note_progress(&self, node: Option<u32>) -> Option<u32> {
        let (now, events, hash) = (self.now, self.stats.events, self.hash);
        self.progress.replace(Progress { now, events, hash, node }).node
    }

    /// One more link of the chain of hashes.
    pub(super) fn link(&mut self, kind: u8, index: usize, payload: u64) {
        let mut bytes = [0; 32];
        let node = (index as u64) << 8 | u64::from(kind);
        for (place, word) in
            bytes.chunks_exact_mut(8).zip([self.now, self.stats.events, node, payload])
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.hash = xxh3_64_with_seed(&bytes, self.hash);
        self.stats.events += 1;
        if self.stats.events.is_multiple_of(CHECKPOINT_EVENTS) {
            self.checkpoints.push(self.hash);
        }
    }
}

/// What the hash chain has of a message: its header, which has a checksum of what follows it, and
/// how long it is.
pub(super) fn summary(message: &[u8]) -> u64 {
    let header = &message[..message.len().min(HEADER_BYTES)];
    xxh3_64_with_seed(header, message.len() as u64)
}

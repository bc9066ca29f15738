//! How far a run has come, for whoever has to say where it panicked.

use super::World;

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
    /// Something is about to happen, at this node if at one. Where it was before.
    pub(super) fn note_progress(&self, node: Option<u32>) -> Option<u32> {
        let (now, events, hash) = (self.now, self.stats.events, self.hash);
        self.progress.replace(Progress { now, events, hash, node }).node
    }
}

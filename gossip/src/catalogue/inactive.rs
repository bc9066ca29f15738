//! Owners that are not active: whose sections are kept, how much that is, and since when.

use grapevine_protocol::Moment;

use crate::NodeId;
use crate::node_map::NodeMap;

/// Owners that membership does not hold active, in order, so that they are found without a look at
/// all owners: as a rule there are few.
#[derive(Debug, Default)]
pub(super) struct Inactive {
    /// By owner, the number of keys in its section.
    keys: NodeMap<usize>,
    total: usize,
    /// None has been down for longer; it may be back by now.
    since: Option<Moment>,
}

impl Inactive {
    /// In order.
    pub(super) fn owners(&self) -> impl Iterator<Item = NodeId> {
        self.keys.keys().copied()
    }

    /// Keys of all of them together.
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// When the one that has been down for longest went down, or earlier.
    pub(super) const fn since(&self) -> Option<Moment> {
        self.since
    }

    /// `owner` is not active, and its section has so many keys.
    pub(super) fn insert(&mut self, owner: NodeId, keys: usize) {
        self.total += keys;
        self.total -= self.keys.insert(owner, keys).unwrap_or(0);
    }

    /// `owner` went down.
    pub(super) fn went_down(&mut self, owner: NodeId, keys: usize, now: Moment) {
        self.insert(owner, keys);
        self.since = Some(self.since.map_or(now, |since| since.min(now)));
    }

    /// `owner` is active, or forgotten.
    pub(super) fn remove(&mut self, owner: NodeId) {
        self.total -= self.keys.remove(&owner).unwrap_or(0);
        if self.keys.is_empty() {
            self.since = None;
        }
    }

    /// If `owner` is one of them, its section has this number of keys now.
    pub(super) fn recount(&mut self, owner: NodeId, keys: impl FnOnce() -> usize) {
        if let Some(counted) = self.keys.get_mut(&owner) {
            let keys = keys();
            self.total = self.total - *counted + keys;
            *counted = keys;
        }
    }

    /// All were looked at: none has been down since before `since`.
    pub(super) const fn looked_at(&mut self, since: Option<Moment>) {
        self.since = since;
    }
}

//! How much the core holds of everything that has a bound.

use super::{Cluster, streams};

/// Numbers of things held, each with its bound; see gossip.md, part 4.11.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// Owners whose sections are held, this node included.
    pub owners: usize,
    /// Rumours about sections; at most one for each owner.
    pub rumours: usize,
    /// Requests for sections that are not answered yet; at most one for each owner.
    pub pulls: usize,
    /// Members known to the failure detector, dead ones included.
    pub members: usize,
    /// Nodes that are known to have left.
    pub left: usize,
    /// Wishes not yet fulfilled.
    pub wishes: usize,
    /// Keys of owners that are down.
    pub detached_keys: usize,
    /// Streams opened by this node.
    pub outbound: usize,
    /// Streams opened by others.
    pub inbound: usize,
    /// Bytes of snapshots that are being put together.
    pub staged_bytes: usize,
}

impl Sizes {
    /// Most streams at once in each direction.
    pub const STREAMS_MAX: usize = if streams::OUTBOUND_MAX > streams::INBOUND_MAX {
        streams::OUTBOUND_MAX
    } else {
        streams::INBOUND_MAX
    };

    /// Most bytes of snapshots in the making.
    pub const STAGED_BYTES_MAX: usize = streams::STAGED_BYTES_MAX;
}

impl Cluster {
    /// How much is held now.
    pub fn sizes(&self) -> Sizes {
        let (outbound, inbound, staged_bytes) = self.streams.sizes();
        Sizes {
            owners: 1 + self.catalogue.replicas().len(),
            rumours: self.spread.len(),
            pulls: self.pulls.len(),
            members: self.membership.known_count(),
            left: self.membership.left().len(),
            wishes: self.catalogue.wishes_ref().len(),
            detached_keys: self.catalogue.inactive_keys(),
            outbound,
            inbound,
            staged_bytes,
        }
    }
}

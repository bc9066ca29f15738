//! Who a member is to the failure detector.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// One life of a node at one address.
///
/// At one address the greater `(epoch, renew, node)` wins, so a restart replaces what it was
/// before, and a node that was wrongly declared down comes back by raising `renew`. That does
/// not touch its section: only a process start changes `epoch`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Identity {
    /// Where it receives gossip.
    pub addr: SocketAddr,
    /// The node.
    pub node: NodeId,
    /// The start of its process.
    pub epoch: u64,
    /// How often it was wrongly declared down since.
    pub renew: u32,
}

impl Identity {
    /// What decides between two identities of one address or of one node.
    pub fn rank(&self) -> (u64, u32, NodeId) {
        (self.epoch, self.renew, self.node)
    }
}

/// Epochs this far above the known one are not believed: 35 years of milliseconds.
const EPOCH_JUMP_MAX: u64 = 1 << 40;

/// An epoch below this is no reason to doubt a later one: the clock may have stood at 1970 when it
/// was taken. It is the year 2039.
const EPOCH_DOUBTED_MIN: u64 = 1 << 41;

/// Whether `epoch` is too far above `known`, another epoch of the same node, to be believed.
///
/// A node with an epoch near the end of the number's range could never take a greater one.
pub fn is_epoch_jump(epoch: u64, known: u64) -> bool {
    epoch > known.max(EPOCH_DOUBTED_MIN).saturating_add(EPOCH_JUMP_MAX)
}

/// The epoch of a start of the process: greater than the one `kept` on disk, which counts as 0 if
/// there is none. The wall clock (ms since 1970) only helps a node that lost its disk; others would
/// not believe a great jump of it.
pub fn next_epoch(kept: Option<u64>, wall_ms: u64) -> u64 {
    match kept {
        Some(kept) if mutant!(M06) => kept,
        _ if mutant!(M07) => wall_ms,
        Some(kept) if is_epoch_jump(wall_ms, kept) => kept.saturating_add(1),
        _ => kept.unwrap_or(0).saturating_add(1).max(wall_ms),
    }
}

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        if mutant!(M04) {
            return None;
        }
        Some(Self { renew: self.renew.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        if mutant!(M05) {
            return self.rank() < adversary.rank();
        }
        self.rank() > adversary.rank()
    }
}

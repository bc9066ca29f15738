//! What a node knows of another's section.

use grapevine_protocol::Moment;

use crate::section::Section;

/// Another owner's section as this node knows it: a cache, never authoritative.
#[derive(Debug, Default)]
pub struct Replica {
    /// What is known of it.
    pub section: Section,
    /// The epoch in which membership holds the owner active; `None`: it is down.
    pub active_epoch: Option<u64>,
    /// Since when it is down.
    pub(super) detached_at: Option<Moment>,
}

impl Replica {
    /// Whether its producers may be shown: its owner is active in the epoch the section is of.
    pub fn is_shown(&self) -> bool {
        self.active_epoch == Some(self.section.epoch)
    }
}

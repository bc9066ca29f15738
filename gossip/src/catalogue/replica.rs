//! What a node knows of another's section.

use grapevine_protocol::Moment;

use crate::section::Section;

/// Another owner's section as this node knows it: a cache, never authoritative.
#[derive(Debug, Default)]
pub struct Replica {
    /// What is known of it.
    pub section: Section,
    standing: Standing,
}

/// What membership says of an owner.
#[derive(Clone, Copy, Debug, Default)]
enum Standing {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It is active, in this epoch.
    Active(u64),
    /// It is down since then.
    Detached(Moment),
}

impl Replica {
    /// Whether its producers may be shown: its owner is active in the epoch the section is of.
    pub fn is_shown(&self) -> bool {
        self.active_epoch() == Some(self.section.epoch)
    }

    /// The epoch in which membership holds the owner active; `None`: it is down.
    pub const fn active_epoch(&self) -> Option<u64> {
        match self.standing {
            Standing::Active(epoch) => Some(epoch),
            Standing::Unknown | Standing::Detached(_) => None,
        }
    }

    /// Membership: the owner is active, in `epoch`.
    pub const fn activate(&mut self, epoch: u64) {
        self.standing = Standing::Active(epoch);
    }

    /// Since when the owner is down.
    pub(super) const fn detached_at(&self) -> Option<Moment> {
        match self.standing {
            Standing::Detached(at) => Some(at),
            Standing::Unknown | Standing::Active(_) => None,
        }
    }

    /// Membership: the owner is down.
    pub(super) const fn detach(&mut self, now: Moment) {
        self.standing = Standing::Detached(now);
    }
}

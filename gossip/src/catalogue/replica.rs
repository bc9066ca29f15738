//! What a node knows of another's section.

use grapevine_protocol::Moment;

use crate::section::Section;

/// Another owner's section as this node knows it: a cache, never authoritative.
#[derive(Debug, Default)]
pub struct Replica {
    /// What is known of it.
    pub section: Section,
    standing: Standing,
    /// The epoch the owner is active in, or since when it is down: apart from `standing`, since
    /// every node holds one of these for each other.
    since: u64,
}

/// What membership says of an owner.
#[derive(Clone, Copy, Debug, Default)]
enum Standing {
    /// Nothing yet.
    #[default]
    Unknown,
    Active,
    Detached,
}

impl Replica {
    /// Whether its producers may be shown: its owner is active in the epoch the section is of.
    #[inline]
    pub fn is_shown(&self) -> bool {
        self.active_epoch() == Some(self.section.epoch)
    }

    /// The epoch in which membership holds the owner active; `None`: it is down.
    pub const fn active_epoch(&self) -> Option<u64> {
        match self.standing {
            Standing::Active => Some(self.since),
            Standing::Unknown | Standing::Detached => None,
        }
    }

    /// Membership: the owner is active, in `epoch`.
    pub const fn activate(&mut self, epoch: u64) {
        (self.standing, self.since) = (Standing::Active, epoch);
    }

    /// Since when the owner is down.
    pub(super) const fn detached_at(&self) -> Option<Moment> {
        match self.standing {
            Standing::Detached => Some(Moment(self.since)),
            Standing::Unknown | Standing::Active => None,
        }
    }

    /// Membership: the owner is down.
    pub(super) const fn detach(&mut self, now: Moment) {
        (self.standing, self.since) = (Standing::Detached, now.0);
    }

    /// Epoch and version of the section, if the owner is active: what others are told of it.
    pub(super) const fn head(&self) -> Option<(u64, u64)> {
        match self.standing {
            Standing::Active => Some((self.section.epoch, self.section.ver)),
            Standing::Unknown | Standing::Detached => None,
        }
    }
}

//! Members drawn by lot.

use rand::RngExt;

use super::Cluster;
use crate::identity::Identity;

impl Cluster {
    /// Up to `count` different active members, at random.
    pub(super) fn some_members(&mut self, count: usize) -> Vec<Identity> {
        let active = self.membership.active();
        if count < active.len() / 8 && !mutant!(X03) {
            return self.few_members(count);
        }
        let mut members: Vec<Identity> = active.values().copied().collect();
        // X03, class "order of a hashed map".
        if mutant!(X03) {
            #[allow(clippy::disallowed_types, reason = "the bug")]
            let hasher = std::hash::RandomState::new();
            members.sort_by_key(|id| std::hash::BuildHasher::hash_one(&hasher, id.node.0));
        }
        let picks = count.min(members.len());
        for at in 0..picks {
            let other = self.rng.random_range(at..members.len());
            members.swap(at, other);
        }
        members.truncate(picks);
        members
    }

    /// The same draw without a copy of all members: only what was swapped is kept.
    fn few_members(&mut self, count: usize) -> Vec<Identity> {
        let len = self.membership.active().len();
        let mut swapped: Vec<(usize, usize)> = Vec::with_capacity(count);
        let mut picked = Vec::with_capacity(count);
        for at in 0..count {
            let other = self.rng.random_range(at..len);
            let now_at = |place: usize| {
                swapped.iter().rev().find(|(of, _)| *of == place).map_or(place, |&(_, is)| is)
            };
            let (mine, theirs) = (now_at(at), now_at(other));
            swapped.push((other, mine));
            picked.extend(self.membership.active().at(theirs).copied());
        }
        picked
    }
}

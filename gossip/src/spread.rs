//! Which owners' changes are still to be passed on, and how often: rumours, one for each owner.
//!
//! A hint only. What is lost, or does not fit the budget, is found by comparing digests.

use std::collections::BTreeMap;
use std::time::Duration;

use grapevine_protocol::Moment;

use crate::NodeId;

/// Members that get a rumour in each round.
pub const FANOUT: usize = 3;

/// Datagrams to one member in one round.
pub const DATAGRAMS_PER_ROUND_MAX: usize = 4;

/// Bytes a second spent on rumours, and most that may be saved up: 64 KB.
const BUDGET_BYTES: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug)]
struct Rumour {
    /// What the listeners are assumed to have.
    from: u64,
    rounds: u32,
}

/// Rumours by owner.
#[derive(Debug)]
pub struct Spread {
    /// By owner; the number is 0.
    rumours: BTreeMap<(NodeId, u64), Rumour>,
    next: Option<Moment>,
    budget: u64,
    filled_at: Moment,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            rumours: BTreeMap::new(),
            next: None,
            budget: BUDGET_BYTES,
            filled_at: Moment::default(),
        }
    }
}

impl Spread {
    /// `owner`'s section went beyond version `from`; passed on from `at` at the latest.
    pub fn add(&mut self, owner: NodeId, from: u64, at: Moment) {
        // N19, class "a queue grows with what is in it".
        let slot = (owner, if mutant!(N19) { from } else { 0 });
        let rumour = self.rumours.entry(slot).or_insert(Rumour { from, rounds: 0 });
        rumour.from = rumour.from.min(from);
        rumour.rounds = 0;
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// When the next round is due; `None` without rumours.
    pub fn next(&self) -> Option<Moment> {
        self.next
    }

    /// Rumours of this round, those told least often first, with the version they start from.
    pub fn round(&self) -> Vec<(NodeId, u64)> {
        let mut rumours: Vec<_> =
            self.rumours.iter().map(|(&(owner, _), r)| (r.rounds, owner, r.from)).collect();
        rumours.sort_unstable();
        rumours.into_iter().map(|(_, owner, from)| (owner, from)).collect()
    }

    /// A round was sent to a cluster of `members`; the next is due after `period`.
    ///
    /// A rumour ends after `ceil(1.5 ln(n + 1))` rounds.
    pub fn sent(&mut self, told: &[NodeId], members: usize, now: Moment, period: Duration) {
        let rounds_max = rounds_max(members);
        for owner in told {
            for (_, rumour) in self.rumours.range_mut((*owner, 0)..=(*owner, u64::MAX)) {
                rumour.rounds += 1;
            }
        }
        self.rumours.retain(|_, rumour| rumour.rounds < rounds_max);
        self.next = (!self.rumours.is_empty()).then(|| now + period);
    }

    /// Number of rumours.
    pub fn len(&self) -> usize {
        self.rumours.len()
    }

    /// Whether there is no rumour.
    pub fn is_empty(&self) -> bool {
        self.rumours.is_empty()
    }

    /// Nobody is there to listen.
    pub fn clear(&mut self) {
        self.rumours.clear();
        self.next = None;
    }

    /// Takes `bytes` out of the budget. False if they are not there; the next round has more.
    pub fn spend(&mut self, bytes: usize, now: Moment) -> bool {
        let elapsed = now.since(self.filled_at).min(Duration::from_secs(1));
        let earned = BUDGET_BYTES * u64::try_from(elapsed.as_millis()).unwrap_or(0) / 1000;
        if earned > 0 {
            self.budget = (self.budget + earned).min(BUDGET_BYTES);
            self.filled_at = now;
        }
        let bytes = bytes as u64;
        if self.budget < bytes {
            return false;
        }
        self.budget -= bytes;
        true
    }
}

fn rounds_max(members: usize) -> u32 {
    // N10, class "told once".
    if mutant!(N10) {
        return 1;
    }
    let rounds = (1.5 * ((members + 1) as f64).ln()).ceil();
    // At most 1.5 ln(10,001), which is 14.
    rounds.clamp(1.0, 64.0) as u32
}

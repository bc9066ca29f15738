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

/// A rumour that could not be told often enough in this time ends: it takes half a second unless
/// there are more than fit the budget, and then comparisons have long been faster.
const AGE_MAX: Duration = Duration::from_secs(2);

/// Rumours in line from which on others' are not passed on: the budget tells some 500 a second,
/// each up to 14 times, so that more than this would not be told often enough in [`AGE_MAX`].
const PASSED_ON_MAX: usize = 128;

/// Bytes a second spent on rumours, and most that may be saved up: 64 KB.
const BUDGET_BYTES: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug)]
struct Rumour {
    /// What the listeners are assumed to have.
    from: u64,
    /// Members it has been sent to.
    sends: u32,
    /// Who told it last.
    teller: Option<NodeId>,
    /// When it was news.
    since: Moment,
}

/// A rumour as it is told in one round.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Told {
    /// Whose section it is about.
    pub owner: NodeId,
    /// The version the listeners are assumed to have.
    pub from: u64,
    /// How many of the round's listeners it is for, [`FANOUT`] at most.
    pub listeners: usize,
    /// Who told it, and so need not hear it.
    teller: Option<NodeId>,
}

impl Told {
    /// Whether `node` wrote it, or told it.
    pub fn is_known_to(&self, node: NodeId) -> bool {
        self.owner == node || self.teller == Some(node)
    }
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
    /// `owner`'s section went beyond version `from`, as `teller` says if it is not this node's;
    /// passed on from `at` at the latest. What others tell is not passed on while so much is in
    /// line that it would be old before its turn.
    pub fn add(&mut self, owner: NodeId, from: u64, teller: Option<NodeId>, at: Moment) {
        // N19, class "a queue grows with what is in it".
        let slot = (owner, if mutant!(N19) { from } else { 0 });
        let is_known = self.rumours.contains_key(&slot);
        if is_known {
            sometimes!("rumour_superseded");
        }
        if teller.is_some() && !is_known && self.rumours.len() >= PASSED_ON_MAX && !mutant!(N19) {
            return;
        }
        let rumour =
            self.rumours.entry(slot).or_insert(Rumour { from, sends: 0, teller, since: at });
        rumour.from = rumour.from.min(from);
        rumour.sends = 0;
        rumour.teller = teller;
        rumour.since = at;
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// When the next round is due; `None` without rumours.
    pub fn next(&self) -> Option<Moment> {
        self.next
    }

    /// Rumours of this round in a cluster of `members`, those told least often first.
    pub fn round(&self, members: usize) -> Vec<Told> {
        let most = sends_max(members);
        let mut rumours: Vec<_> = self
            .rumours
            .iter()
            .map(|(&(owner, _), rumour)| {
                let left = most.saturating_sub(rumour.sends).max(1) as usize;
                let Rumour { from, teller, .. } = *rumour;
                (rumour.sends, Told { owner, from, listeners: left.min(FANOUT), teller })
            })
            .collect();
        rumours.sort_unstable_by_key(|&(sends, told)| (sends, told.owner, told.from));
        rumours.into_iter().map(|(_, told)| told).collect()
    }

    /// A round was sent to a cluster of `members`; the next is due after `period`.
    ///
    /// A rumour ends after `ceil(1.5 ln(n + 1))` sends: then one node in `n` misses it by luck, and
    /// finds out by comparing digests. It also ends after [`AGE_MAX`].
    pub fn sent(&mut self, told: &[Told], members: usize, now: Moment, period: Duration) {
        let most = sends_max(members);
        for told in told {
            let of_owner = (told.owner, 0)..=(told.owner, u64::MAX);
            for (_, rumour) in self.rumours.range_mut(of_owner) {
                rumour.sends += told.listeners as u32;
            }
        }
        self.rumours.retain(|_, rumour| rumour.sends < most && now.since(rumour.since) <= AGE_MAX);
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

fn sends_max(members: usize) -> u32 {
    // N10, class "told once".
    if mutant!(N10) {
        return 1;
    }
    let sends = spread_rounds(members).ceil();
    // X09, class "a budget in the wrong unit".
    let sends = if mutant!(X09) { 3.0 * sends } else { sends };
    // At most 1.5 ln(10,001), which is 14.
    sends.clamp(1.0, 64.0) as u32
}

/// Rounds in which a rumour reaches that many members. The last bit of a logarithm may differ from
/// platform to platform; no result is so near to a whole number that it mattered.
fn spread_rounds(members: usize) -> f64 {
    1.5 * ((members + 1) as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::MEMBERS_MAX;

    #[test]
    fn how_often_a_rumour_is_told_is_the_same_on_every_platform() {
        for members in 1..=MEMBERS_MAX {
            let rounds = spread_rounds(members);
            assert!((rounds - rounds.round()).abs() > 1e-6, "{members}: {rounds}");
        }
    }

    #[test]
    fn a_rumour_that_found_no_room_for_two_seconds_ends() {
        let mut spread = Spread::default();
        let at = |ms: u64| Moment(ms * 1_000_000);
        spread.add(NodeId(1), 0, None, at(0));
        spread.add(NodeId(2), 0, None, at(900));
        for ms in [1_000, 1_999, 2_001] {
            assert_eq!(spread.len(), 2);
            spread.sent(&[], 1_000, at(ms), Duration::from_millis(100));
        }
        let left: Vec<NodeId> = spread.round(1_000).iter().map(|told| told.owner).collect();
        assert_eq!(left, [NodeId(2)]);
    }
}

//! What could have caused an event: everything before it at its node, and whatever was before the
//! messages that the node had received.

use std::collections::{BTreeSet, VecDeque};

use crate::outcome::Violation;
use crate::trace::{Record, What};

/// Events remembered for the case that a rule breaks.
const RECENT_MAX: usize = 20_000;
/// Events shown.
pub(super) const WHY_MAX: usize = 20;

/// The last events of the run.
#[derive(Debug, Default)]
pub(super) struct Recent {
    records: VecDeque<Record>,
}

/// Causes of a violation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cone {
    /// Messages through which causes came.
    pub messages: BTreeSet<u64>,
    /// The last events, oldest first, without timers and messages that played no part.
    pub why: Vec<Record>,
}

impl Recent {
    /// Takes in an event.
    pub(super) fn record(&mut self, record: &Record) {
        if self.records.len() >= RECENT_MAX {
            self.records.pop_front();
        }
        self.records.push_back(record.clone());
    }

    /// Goes back from the end of the run, where the rule broke.
    pub(super) fn cone(&self, violation: &Violation) -> Cone {
        let mut cone = Cone::default();
        let mut reached = BTreeSet::from_iter(violation.node.map(|node| node as u32));
        let mut wanted = BTreeSet::new();
        for record in self.records.iter().rev() {
            let is_cause = match &record.what {
                What::Recv { id, .. } => {
                    record.n.is_some_and(|node| reached.contains(&node)) && wanted.insert(*id)
                }
                What::Send { id, .. } => {
                    let is_wanted = wanted.contains(id);
                    if is_wanted {
                        cone.messages.insert(*id);
                        reached.extend(record.n);
                    }
                    is_wanted
                }
                What::Drop { .. } | What::Timer => false,
                What::Fault { .. } | What::Heal => true,
                What::Member { .. }
                | What::Write { .. }
                | What::Apply { .. }
                | What::Life { .. }
                | What::Persist { .. }
                | What::Broker { .. } => record.n.is_some_and(|node| reached.contains(&node)),
            };
            if is_cause && cone.why.len() < WHY_MAX {
                cone.why.push(record.clone());
            }
        }
        cone.why.reverse();
        cone
    }
}

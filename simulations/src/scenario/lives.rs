//! What one fault of a file means for another at the same node.
//!
//! A process that was killed is started again by the fault that killed it, unless something else
//! does so first: then that fault has had its say, and does not start a later process that another
//! one killed. And a process that stands still ends with a kill; the next one runs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::{Fault, TimedFault};
use crate::scenario::chaos::GROUPS;

/// Ends restarts and pauses where something else ended them. What luck has drawn stays as it is, so
/// that the file written from a plan makes the same plan.
pub(crate) fn settle(faults: &mut [TimedFault]) {
    let mut at_node: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, timed) in faults.iter().enumerate().filter(|(_, timed)| timed.group < GROUPS) {
        let (Fault::Crash { node, .. }
        | Fault::Leave { node, .. }
        | Fault::Start { node }
        | Fault::Pause { node }) = timed.fault
        else {
            continue;
        };
        at_node.entry(node).or_default().push(index);
    }
    for mut indices in at_node.into_values() {
        indices.sort_by_key(|&index| faults[index].at);
        for &index in &indices {
            let others = indices.iter().filter(|&&other| other != index);
            let others = others.map(|&other| &faults[other]);
            let timed = &faults[index];
            let ended = match timed.fault {
                Fault::Pause { .. } => first(timed.at, others.filter_map(kill_of)),
                _ => first(timed.at, others.filter_map(start_of)),
            };
            if let Some(ended) = ended {
                shorten(&mut faults[index], ended);
            }
        }
    }
}

/// The first of these times after `at`.
fn first(at: Duration, times: impl Iterator<Item = Duration>) -> Option<Duration> {
    times.filter(|time| *time > at).min()
}

fn kill_of(timed: &TimedFault) -> Option<Duration> {
    matches!(timed.fault, Fault::Crash { .. }).then_some(timed.at)
}

/// When a fault starts a process.
fn start_of(timed: &TimedFault) -> Option<Duration> {
    match timed.fault {
        Fault::Start { .. } => Some(timed.at),
        Fault::Crash { restart, .. } | Fault::Leave { restart, .. } => Some(timed.at + restart?),
        _ => None,
    }
}

/// Ends a fault at `end` if it would go on.
fn shorten(timed: &mut TimedFault, end: Duration) {
    let longest = end - timed.at;
    match &mut timed.fault {
        Fault::Pause { .. } => timed.lasts = Some(timed.lasts.map_or(longest, |l| l.min(longest))),
        Fault::Crash { restart: Some(restart), .. }
        | Fault::Leave { restart: Some(restart), .. } => *restart = (*restart).min(longest),
        _ => {}
    }
}

//! A log with vector clocks, for ShiViz.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::plan::Plan;
use crate::render::page::event;
use crate::trace::{Trace, What};

/// The log; each event is two lines: what happened, and the node with its vector clock.
///
/// <https://bestchai.bitbucket.io/shiviz/> reads it as it is. Timers, and messages that were lost,
/// are left out: they order nothing.
pub(super) fn log(plan: &Plan, trace: &Trace) -> String {
    let mut clocks = vec![vec![0_u64; plan.nodes]; plan.nodes];
    let mut sent: BTreeMap<u64, Option<Vec<u64>>> = BTreeMap::new();
    for record in &trace.records {
        if let What::Recv { id, .. } = record.what {
            sent.insert(id, None);
        }
    }
    let mut log = String::new();
    for record in &trace.records {
        let Some(node) = record.n.map(|node| node as usize).filter(|node| *node < plan.nodes)
        else {
            continue;
        };
        match &record.what {
            What::Timer | What::Drop { .. } | What::Apply { .. } => continue,
            What::Send { id, .. } => {
                let Some(clock) = sent.get_mut(id) else { continue };
                clocks[node][node] += 1;
                *clock = Some(clocks[node].clone());
            }
            What::Recv { id, .. } => {
                clocks[node][node] += 1;
                if let Some(Some(clock)) = sent.get(id) {
                    for (mine, theirs) in clocks[node].iter_mut().zip(clock) {
                        *mine = (*mine).max(*theirs);
                    }
                }
            }
            What::Member { .. }
            | What::Write { .. }
            | What::Life { .. }
            | What::Fault { .. }
            | What::Heal
            | What::Persist { .. }
            | What::Broker { .. } => clocks[node][node] += 1,
        }
        let seconds = record.t as f64 / 1e9;
        let _ = write!(log, "{seconds:.6} {}\nnode-{node} {{", event(record));
        let known = clocks[node].iter().enumerate().filter(|(_, count)| **count > 0);
        for (index, (other, count)) in known.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(log, "{comma}\"node-{other}\": {count}");
        }
        log.push_str("}\n");
    }
    log
}

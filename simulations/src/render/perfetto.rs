//! A trace in the JSON format of Chrome and Perfetto.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::plan::Plan;
use crate::render::page::event;
use crate::render::words;
use crate::trace::{Record, Trace, What};

/// Process of the faults; node n is process n + 1.
const FAULTS: usize = 0;

/// The trace; <https://ui.perfetto.dev> opens it. One process per node, arrows for messages that
/// arrived, counters for what each node sees and has wrong.
pub(super) fn trace(plan: &Plan, trace: &Trace) -> String {
    let mut events = vec![named(FAULTS, "faults")];
    events.extend((0..plan.nodes).map(|node| named(node + 1, &format!("node {node}"))));
    let arrived: BTreeSet<u64> = trace
        .records
        .iter()
        .filter_map(|record| match record.what {
            What::Recv { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    for record in &trace.records {
        add(&mut events, plan, record, &arrived);
    }
    for sample in &trace.samples {
        for (node, state) in sample.nodes.iter().enumerate() {
            let counters = [
                ("members", json!({ "members": state.members })),
                ("wrong", json!({ "missing": state.missing, "phantom": state.phantom })),
            ];
            events.extend(counters.into_iter().map(|(name, args)| {
                let ts = us(sample.t);
                json!({ "ph": "C", "name": name, "pid": node + 1, "ts": ts, "args": args })
            }));
        }
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events }).to_string()
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

fn named(process: usize, name: &str) -> Value {
    json!({ "ph": "M", "name": "process_name", "pid": process, "args": { "name": name } })
}

fn add(events: &mut Vec<Value>, plan: &Plan, record: &Record, arrived: &BTreeSet<u64>) {
    let ts = us(record.t);
    let pid = record.n.map_or(FAULTS, |node| node as usize + 1);
    let text = event(record);
    match &record.what {
        What::Timer | What::Apply { .. } => {}
        What::Send { id, msg, sz, .. } | What::Recv { id, msg, sz, .. } => {
            let is_send = matches!(record.what, What::Send { .. });
            let args = json!({ "id": id, "bytes": sz, "lamport": record.lamport });
            events.push(json!({
                "ph": "X", "name": text, "pid": pid, "tid": 1, "ts": ts, "dur": 1, "args": args,
            }));
            if arrived.contains(id) {
                let (phase, bind) = if is_send { ("s", "") } else { ("f", "e") };
                events.push(json!({
                    "ph": phase, "bp": bind, "cat": "message", "name": msg, "id": id, "pid": pid,
                    "tid": 1, "ts": ts,
                }));
            }
        }
        What::Fault { index, begins } => {
            let name = plan.faults.get(*index as usize).map_or_else(
                || format!("fault {index}"),
                |timed| format!("{}: {}", timed.label, words::fault(timed, plan)),
            );
            let phase = if *begins { "b" } else { "e" };
            events.push(json!({
                "ph": phase, "cat": "fault", "id": index, "name": name, "pid": FAULTS, "tid": 1,
                "ts": ts,
            }));
        }
        What::Drop { .. }
        | What::Member { .. }
        | What::Write { .. }
        | What::Life { .. }
        | What::Heal
        | What::Persist { .. }
        | What::Broker { .. } => events.push(json!({
            "ph": "i", "s": "p", "name": text, "pid": pid, "tid": 1, "ts": ts,
        })),
    }
}

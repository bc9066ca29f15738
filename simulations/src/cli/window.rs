//! Events for people: a few lines of a run, around a moment of it.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::Stop;
use super::{terminal, trace_file};
use crate::plan::{Fault, Plan};
use crate::trace::{Record, Recorder, What};

/// Share of the lines shown that come after the moment, as one in this many.
const AFTER_SHARE: usize = 4;

/// Keeps the events around a moment, of one node or of all.
pub(super) struct Window {
    stop: Stop,
    node: Option<u32>,
    /// Lines before the moment, and after it.
    lines: (usize, usize),
    before: VecDeque<Record>,
    after: Vec<Record>,
}

impl Window {
    /// Keeps `lines` events around `stop`, most of them before it.
    pub(super) fn around(stop: Stop, node: Option<u32>, lines: usize) -> Self {
        let after = if stop == Stop::Invariant { 0 } else { lines / AFTER_SHARE };
        let lines = (lines - after, after);
        Self { stop, node, lines, before: VecDeque::new(), after: Vec::new() }
    }

    /// Keeps the last `lines` events before `until`.
    pub(super) fn until(until: Duration, node: Option<u32>, lines: usize) -> Self {
        let stop = Stop::Time(until);
        Self { stop, node, lines: (lines, 0), before: VecDeque::new(), after: Vec::new() }
    }

    /// The lines, one for each event.
    pub(super) fn text(&self, plan: &Plan) -> String {
        let mut text = String::new();
        for record in &self.before {
            text.push_str(&line(record, plan));
        }
        if self.stop != Stop::Invariant {
            text.push_str("  ---------- here\n");
        }
        for record in &self.after {
            text.push_str(&line(record, plan));
        }
        text
    }

    /// The same for machines.
    pub(super) fn json(&self) -> Value {
        let before: Vec<Value> = self.before.iter().map(trace_file::object).collect();
        let after: Vec<Value> = self.after.iter().map(trace_file::object).collect();
        json!({ "before": before, "after": after })
    }

    fn is_before(&self, record: &Record) -> bool {
        match self.stop {
            Stop::Invariant => true,
            Stop::Time(at) => u128::from(record.t) <= at.as_nanos(),
            Stop::Event(number) => record.i <= number,
        }
    }
}

impl Recorder for Window {
    fn record(&mut self, record: &Record) {
        if self.node.is_some() && record.n != self.node {
            return;
        }
        if !self.is_before(record) {
            if self.after.len() < self.lines.1 {
                self.after.push(record.clone());
            }
            return;
        }
        self.before.push_back(record.clone());
        if self.before.len() > self.lines.0 {
            self.before.pop_front();
        }
    }
}

/// One event in a line.
pub(super) fn line(record: &Record, plan: &Plan) -> String {
    let seconds = record.t as f64 / 1e9;
    let node = record.n.map_or_else(|| "      -".to_owned(), |node| format!("node {node:>2}"));
    format!("{:>8}  {seconds:>11.6}s  {node}  {}\n", record.i, what(&record.what, plan))
}

fn what(what: &What, plan: &Plan) -> String {
    let by = |stream: bool| if stream { "stream" } else { "datagram" };
    match what {
        What::Send { id, to, msg, sz, stream } => {
            format!("sends {msg} to {to} ({sz} B, {} {id})", by(*stream))
        }
        What::Recv { id, from, msg, sz, stream } => {
            format!("gets {msg} from {from} ({sz} B, {} {id})", by(*stream))
        }
        What::Drop { id, from, msg, reason } => {
            format!("does not get {msg} from {from} ({reason}, {id})")
        }
        What::Timer => "wakes up".to_owned(),
        What::Member { about, to } => format!("holds node {about} for {to}"),
        What::Write { key, live: true, ver } => format!("creates {key} (version {ver})"),
        What::Write { key, live: false, ver } => format!("deletes {key} (version {ver})"),
        What::Apply { owner, epoch, ver } => {
            format!("knows what node {owner} wrote up to version {ver} (epoch {epoch:x})")
        }
        What::Life { to, epoch } => format!("is {to} (epoch {epoch:x})"),
        What::Fault { index, begins } => {
            let change = if *begins { "begins" } else { "ends" };
            let fault = plan.faults.get(*index as usize);
            let label = fault.map_or_else(
                || format!("fault {index}"),
                |fault| {
                    let label = &fault.label;
                    let class = fault.fault.class();
                    let about = subject(&fault.fault).map(|node| format!(" of node {node}"));
                    let label = if label.is_empty() { class.into() } else { terminal::name(label) };
                    format!("fault {index}, {label}{}", about.unwrap_or_default())
                },
            );
            format!("{label}: {change}")
        }
        What::Heal => "everything is mended".to_owned(),
        What::Persist { epoch } => format!("has epoch {epoch:x} on its disk"),
        What::Broker { op, message } => format!("{op} message {message}"),
    }
}

/// The node that a fault is about, if it is about one.
fn subject(fault: &Fault) -> Option<usize> {
    match fault {
        Fault::Partition(_) | Fault::Link { .. } => None,
        Fault::Tombstone { of, .. } => Some(*of),
        Fault::Crash { node, .. }
        | Fault::Start { node }
        | Fault::Leave { node, .. }
        | Fault::Pause { node }
        | Fault::SlowCpu { node, .. }
        | Fault::Clock { node, .. }
        | Fault::Disk { node, .. }
        | Fault::Wire { node, .. }
        | Fault::Junk { node, .. }
        | Fault::Burst { node, .. } => Some(*node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::failing_plan;

    fn feed(window: &mut Window) {
        for i in 0..100 {
            let what = What::Fault { index: 1, begins: true };
            let what = if i == 50 { what } else { What::Timer };
            window.record(&Record {
                i,
                t: i * 1_000_000,
                n: Some((i % 3) as u32),
                lamport: 0,
                what,
                h: i,
            });
        }
    }

    #[test]
    fn the_lines_around_an_event_are_shown_and_the_place_is_marked() {
        let mut window = Window::around(Stop::Event(50), None, 8);
        feed(&mut window);
        let text = window.text(&failing_plan());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6 + 1 + 2, "{text}");
        assert!(lines[5].contains("fault 1, group 1 of node 2: begins"), "{text}");
        assert!(lines[6].contains("here"), "{text}");
        assert!(lines[7].contains("0.051000s"), "{text}");
        let json = window.json();
        assert_eq!((json["before"][5]["k"].as_str(), json["before"][5]["i"].as_u64()), {
            (Some("fault"), Some(50))
        });
        assert_eq!(json["after"][0]["i"], 51);
    }

    #[test]
    fn one_node_may_be_looked_at_alone() {
        let mut window = Window::until(Duration::from_millis(20), Some(2), 3);
        feed(&mut window);
        let text = window.text(&failing_plan());
        let numbers: Vec<&str> =
            text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(numbers, ["14", "17", "20", "----------"], "{text}");
    }
}

//! Measures how soon all nodes know: each moment is that of the event, not of a look.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::outcome::Violation;
use crate::plan::{Fault, Partition, Plan};
use crate::trace::{Detail, Record, Recorder, What};

/// A change that is not known everywhere this long before the end of a run counts with the time it
/// has taken by then; a younger one says nothing and does not count.
const LATE_NS: u64 = 8_000_000_000;

/// What an observer looks for. Times are of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    /// Changes of nodes' sections made after this count, and false alarms.
    pub(super) quiet: Duration,
    /// Since when all have to find together: lives and topics.
    pub(super) together_since: Option<Duration>,
}

/// What was seen in one run, or in many.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Readings {
    /// Times by what was timed, in seconds.
    pub(super) seconds: BTreeMap<&'static str, Vec<f64>>,
    /// Nodes that ran and were reachable, and that another declared dead.
    pub(super) false_downs: u64,
    /// Nodes times seconds in which that was looked for.
    pub(super) node_seconds: f64,
    /// Bytes that a node sent in one second, on average over all nodes, by second.
    pub(super) bytes: Vec<f64>,
}

impl Readings {
    /// Adds those of another run.
    pub(super) fn append(&mut self, mut other: Self) {
        for (what, mut seconds) in other.seconds {
            self.seconds.entry(what).or_default().append(&mut seconds);
        }
        self.false_downs += other.false_downs;
        self.node_seconds += other.node_seconds;
        self.bytes.append(&mut other.bytes);
    }
}

/// A change of a section on its way to all.
#[derive(Clone, Copy, Debug)]
struct Change {
    ver: u64,
    since: u64,
    /// Nodes that do not know it.
    unaware: u32,
}

/// A node that ended, hangs or is cut off, while others list it.
#[derive(Clone, Copy, Debug)]
struct Gone {
    node: usize,
    what: &'static str,
    since: u64,
}

/// Follows a run. O(1) for each event but writes, starts and ends, which are O(nodes).
#[derive(Debug)]
pub(super) struct Observer {
    wanted: Wanted,
    nodes: usize,
    runs: Vec<bool>,
    /// `lists[a * nodes + b]`: node `a` holds `b` active.
    lists: Vec<bool>,
    /// Epoch and version that `a` holds of `b`'s section, in the same order.
    holds: Vec<(u64, u64)>,
    /// Epoch and version of each node's own section.
    heads: Vec<(u64, u64)>,
    /// Nodes that run and list a node, by node.
    listed_by: Vec<u32>,
    /// About how many others a node is wrong, by node; 0 for those that do not run.
    wrong: Vec<u32>,
    all_wrong: u64,
    /// Changes that some do not know, by owner, in order.
    changes: Vec<VecDeque<Change>>,
    open_changes: u64,
    gone: Vec<Gone>,
    /// Faults by number: which node they take out, and how that is called.
    takes_out: Vec<Option<(usize, &'static str)>>,
    burst_since: Option<u64>,
    is_burst_made: bool,
    joining: Vec<(usize, u64)>,
    /// When all were last right about all after some were not.
    together_at: u64,
    readings: Readings,
}

impl Observer {
    pub(super) fn new(plan: &Plan, wanted: Wanted) -> Self {
        let nodes = plan.nodes;
        Self {
            wanted,
            nodes,
            runs: vec![false; nodes],
            lists: vec![false; nodes * nodes],
            holds: vec![(0, 0); nodes * nodes],
            heads: vec![(0, 0); nodes],
            listed_by: vec![0; nodes],
            wrong: vec![0; nodes],
            all_wrong: 0,
            changes: vec![VecDeque::new(); nodes],
            open_changes: 0,
            gone: Vec::new(),
            takes_out: plan.faults.iter().map(|timed| taken_out(&timed.fault)).collect(),
            burst_since: None,
            is_burst_made: false,
            joining: joiners(plan),
            together_at: 0,
            readings: Readings::default(),
        }
    }

    pub(super) fn into_readings(self) -> Readings {
        self.readings
    }

    fn note(&mut self, what: &'static str, since: u64, now: u64) {
        let took = Duration::from_nanos(now.saturating_sub(since)).as_secs_f64();
        self.readings.seconds.entry(what).or_default().push(took);
    }

    /// Whether `at` is wrong about `about`: does not list it or know its section, although it runs,
    /// or lists it although it does not.
    fn is_wrong(&self, at: usize, about: usize) -> bool {
        let pair = at * self.nodes + about;
        at != about
            && self.runs[at]
            && match self.runs[about] {
                true => !self.lists[pair] || self.holds[pair] != self.heads[about],
                false => self.lists[pair],
            }
    }

    /// Counts a pair anew after a change of it.
    fn recount(&mut self, at: usize, about: usize, was_wrong: bool) {
        match (was_wrong, self.is_wrong(at, about)) {
            (false, true) => {
                self.wrong[at] += 1;
                self.all_wrong += 1;
            }
            (true, false) => {
                self.wrong[at] -= 1;
                self.all_wrong -= 1;
            }
            _ => {}
        }
    }

    /// Counts everything about a node anew after `change` of it.
    fn recount_node(&mut self, node: usize, change: impl FnOnce(&mut Self)) {
        let before: Vec<(bool, bool)> = (0..self.nodes)
            .map(|other| (self.is_wrong(node, other), self.is_wrong(other, node)))
            .collect();
        change(self);
        for (other, (own, others)) in before.into_iter().enumerate() {
            self.recount(node, other, own);
            self.recount(other, node, others);
        }
    }

    fn set_listed(&mut self, at: usize, about: usize, is_listed: bool) {
        let pair = at * self.nodes + about;
        if self.lists[pair] == is_listed {
            return;
        }
        let was_wrong = self.is_wrong(at, about);
        self.lists[pair] = is_listed;
        if is_listed {
            self.listed_by[about] += 1;
        } else {
            self.listed_by[about] -= 1;
        }
        self.recount(at, about, was_wrong);
    }

    fn started(&mut self, node: usize, epoch: u64) {
        self.recount_node(node, |it| {
            it.runs[node] = true;
            it.heads[node] = (epoch, 0);
        });
    }

    /// Its process is over, and what it knew is lost.
    fn ended(&mut self, node: usize) {
        for about in 0..self.nodes {
            self.set_listed(node, about, false);
        }
        self.recount_node(node, |it| {
            it.runs[node] = false;
            it.holds[node * it.nodes..(node + 1) * it.nodes].fill((0, 0));
        });
    }

    fn member(&mut self, at: usize, about: usize, to: &str, now: u64) {
        self.set_listed(at, about, matches!(to, "up" | "renewed"));
        let is_out = self.gone.iter().any(|gone| [at, about].contains(&gone.node));
        if to == "down" && self.runs[about] && !is_out && self.is_counted(now) {
            self.readings.false_downs += 1;
        }
    }

    fn is_counted(&self, now: u64) -> bool {
        u128::from(now) >= self.wanted.quiet.as_nanos()
    }

    fn wrote(&mut self, owner: usize, ver: u64, now: u64) {
        self.recount_node(owner, |it| it.heads[owner].1 = it.heads[owner].1.max(ver));
        let others = self.runs.iter().filter(|&&runs| runs).count() as u32;
        if self.is_counted(now) && others > 1 {
            self.changes[owner].push_back(Change { ver, since: now, unaware: others - 1 });
            self.open_changes += 1;
        }
    }

    fn applied(&mut self, at: usize, owner: usize, head: (u64, u64), now: u64) {
        let pair = at * self.nodes + owner;
        let was_wrong = self.is_wrong(at, owner);
        let before = std::mem::replace(&mut self.holds[pair], head);
        self.recount(at, owner, was_wrong);
        let from = if before.0 == head.0 { before.1 } else { 0 };
        let mut known = Vec::new();
        for change in &mut self.changes[owner] {
            if change.ver > from && change.ver <= head.1 {
                change.unaware = change.unaware.saturating_sub(1);
                if change.unaware == 0 {
                    known.push(change.since);
                }
            }
        }
        if !known.is_empty() {
            self.changes[owner].retain(|change| change.unaware > 0);
            self.open_changes -= known.len() as u64;
        }
        for since in known {
            self.note("change", since, now);
        }
    }

    fn fault_begins(&mut self, taken: Option<(usize, &'static str)>, now: u64) {
        match taken {
            Some((_, "burst")) => self.burst_since = Some(now),
            Some((node, what)) if self.listed_by[node] > 0 => {
                self.gone.push(Gone { node, what, since: now });
            }
            Some(_) | None => {}
        }
    }

    /// Whoever still lists a node that is back never noticed.
    fn fault_ends(&mut self, taken: Option<(usize, &'static str)>, now: u64) {
        let Some((node, _)) = taken else { return };
        if let Some(at) = self.gone.iter().position(|gone| gone.node == node) {
            let gone = self.gone.swap_remove(at);
            self.note(gone.what, gone.since, now);
        }
    }

    /// What may have become true by the last event.
    fn settle(&mut self, now: u64) {
        let mut at = 0;
        while let Some(&gone) = self.gone.get(at) {
            if self.listed_by[gone.node] == 0 {
                self.gone.swap_remove(at);
                self.note(gone.what, gone.since, now);
            } else {
                at += 1;
            }
        }
        if self.is_burst_made && self.open_changes == 0 {
            self.is_burst_made = false;
            if let Some(since) = self.burst_since.take() {
                self.note("burst", since, now);
            }
        }
        let joined = |it: &Self, node: usize| it.runs[node] && it.wrong[node] == 0;
        while let Some(at) = self.joining.iter().position(|&(node, _)| joined(self, node)) {
            let (_, since) = self.joining.swap_remove(at);
            self.note("join", since, now);
        }
    }
}

impl Recorder for Observer {
    fn detail(&self) -> Detail {
        Detail::Changes
    }

    fn record(&mut self, record: &Record) {
        let (now, were_wrong) = (record.t, self.all_wrong > 0);
        let at = record.n.map(|n| n as usize).filter(|at| *at < self.nodes);
        match (&record.what, at) {
            (What::Member { about, to }, Some(at)) if (*about as usize) < self.nodes => {
                self.member(at, *about as usize, to, now);
            }
            (What::Apply { owner, epoch, ver }, Some(at)) if (*owner as usize) < self.nodes => {
                self.applied(at, *owner as usize, (*epoch, *ver), now);
            }
            (What::Write { ver, .. }, Some(at)) => {
                self.wrote(at, *ver, now);
                self.is_burst_made = self.burst_since.is_some();
            }
            (What::Life { to: "up", epoch }, Some(at)) => self.started(at, *epoch),
            (What::Life { to: "crashed" | "left", .. }, Some(at)) => self.ended(at),
            (What::Persist { epoch }, Some(at)) if self.heads[at].0 != *epoch => {
                self.recount_node(at, |it| it.heads[at].0 = *epoch);
            }
            (What::Fault { index, begins }, _) => {
                let taken = self.takes_out.get(*index as usize).copied().flatten();
                if *begins {
                    self.fault_begins(taken, now);
                } else {
                    self.fault_ends(taken, now);
                }
            }
            _ => {}
        }
        if were_wrong && self.all_wrong == 0 {
            self.together_at = now;
        }
        self.settle(now);
    }

    fn end(&mut self, at: Duration, _: Option<&Violation>) {
        let now = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let late: Vec<u64> = self
            .changes
            .iter()
            .flatten()
            .map(|change| change.since)
            .filter(|since| now - since > LATE_NS)
            .collect();
        for since in late {
            self.note("change", since, now);
        }
        for gone in std::mem::take(&mut self.gone) {
            self.note(gone.what, gone.since, now);
        }
        for (_, since) in std::mem::take(&mut self.joining) {
            self.note("join", since, now);
        }
        if let Some(since) = self.burst_since {
            self.note("burst", since, now);
        }
        if let Some(since) = self.wanted.together_since {
            let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            let until = if self.all_wrong == 0 { self.together_at } else { now };
            self.note("together", since, until);
        }
        let watched = at.saturating_sub(self.wanted.quiet).as_secs_f64();
        self.readings.node_seconds += watched * self.nodes as f64;
    }
}

/// The node that a fault takes out, and how that is called; of a burst, who makes it.
fn taken_out(fault: &Fault) -> Option<(usize, &'static str)> {
    match fault {
        Fault::Crash { node, .. } => Some((*node, "kill")),
        Fault::Leave { node, .. } => Some((*node, "leave")),
        Fault::Pause { node } => Some((*node, "hang")),
        Fault::Burst { node, .. } => Some((*node, "burst")),
        Fault::Partition(Partition::Split(groups)) => match groups.as_slice() {
            [one] if one.len() == 1 => Some((one[0], "hang")),
            _ => None,
        },
        _ => None,
    }
}

/// Nodes that faults start, and when.
fn joiners(plan: &Plan) -> Vec<(usize, u64)> {
    let joiners = plan.faults.iter().filter_map(|timed| match timed.fault {
        Fault::Start { node } => {
            Some((node, u64::try_from(timed.at.as_nanos()).unwrap_or(u64::MAX)))
        }
        _ => None,
    });
    joiners.collect()
}

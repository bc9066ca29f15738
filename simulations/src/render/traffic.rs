//! Messages: summed up in bundles for the whole run, one by one where it matters.
//!
//! A run of a hundred nodes sends millions. Bundles say how many went from whom to whom in which
//! slice of time, and how many were lost. Single messages are kept while there are few; once there
//! are many, only those within a second of a fault, of its end, or of a broken rule.

use std::collections::{BTreeMap, VecDeque};

use crate::plan::Plan;
use crate::trace::{Record, What};

/// Single messages kept for the whole run; beyond it, only those in windows.
const MESSAGES_ALL: usize = 30_000;
/// Single messages kept at all: about 26 B each in the page.
const MESSAGES_MAX: usize = 40_000;
/// Half of a window around an edge of a fault, in ns.
const WINDOW_NS: u64 = 1_000_000_000;
/// What is remembered of the time before an edge that nobody knows of yet.
const RECENT_MAX: usize = 6_000;
/// Messages on their way that are remembered; more are taken for lost without a word.
const PENDING_MAX: usize = 200_000;
/// Slices of time.
const SLICES_MAX: usize = 256;
/// First guess of a slice, in ns; it doubles when there are too many.
const SLICE_NS: u64 = 125_000_000;
/// Up to this many nodes bundles go from node to node, beyond from group to group.
pub(super) const PAIRS_NODES_MAX: usize = 12;

/// What became of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It was on its way at the end.
    Flying,
    /// It arrived.
    Arrived,
    /// It did not, for this reason.
    Lost(&'static str),
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Message {
    /// Its number in the run.
    pub id: u64,
    /// Sender.
    pub from: u32,
    /// Receiver.
    pub to: u32,
    /// When it was sent, in ns.
    pub sent: u64,
    /// When its fate was known, in ns.
    pub done: u64,
    /// What it is.
    pub kind: &'static str,
    /// Bytes.
    pub size: u32,
    /// By stream.
    pub stream: bool,
    /// What became of it.
    pub fate: Fate,
}

/// All messages of a run.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Bundle end of each node.
    pub ends: Vec<u32>,
    /// Number of bundle ends.
    pub width: usize,
    /// Length of a slice in ns.
    pub slice: u64,
    /// For each slice and pair of ends: sent and arrived.
    pub arrived: Vec<Vec<u32>>,
    /// ... sent and lost.
    pub lost: Vec<Vec<u32>>,
    /// Single messages, in the order of their fates.
    pub kept: Vec<Message>,
    /// Times between which `kept` is complete; empty: always.
    pub windows: Vec<(u64, u64)>,
    /// Whether only windows are kept.
    pub is_windowed: bool,
    /// Bytes and number of each kind of message.
    pub kinds: BTreeMap<&'static str, (u64, u64)>,
    /// Messages lost, by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    edges: Vec<u64>,
    recent: VecDeque<Message>,
    pending: BTreeMap<u64, Message>,
}

impl Traffic {
    /// Nothing was sent yet.
    pub(super) fn new(plan: &Plan, groups: &[(String, Vec<usize>)]) -> Self {
        let mut ends: Vec<u32> = (0..plan.nodes as u32).collect();
        let mut width = plan.nodes;
        if plan.nodes > PAIRS_NODES_MAX {
            width = groups.len();
            for (index, (_, nodes)) in groups.iter().enumerate() {
                for &node in nodes.iter().filter(|node| **node < plan.nodes) {
                    ends[node] = index as u32;
                }
            }
        }
        Self {
            ends,
            width,
            slice: SLICE_NS,
            arrived: Vec::new(),
            lost: Vec::new(),
            kept: Vec::new(),
            windows: Vec::new(),
            is_windowed: false,
            kinds: BTreeMap::new(),
            reasons: BTreeMap::new(),
            edges: Vec::new(),
            recent: VecDeque::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Takes in what is about messages.
    pub(super) fn record(&mut self, record: &Record) {
        match &record.what {
            What::Send { id, to, msg, sz, stream } => {
                let Some(from) = record.n else { return };
                let kind = self.kinds.entry(msg).or_default();
                *kind = (kind.0 + 1, kind.1 + u64::from(*sz));
                let message = Message {
                    id: *id,
                    from,
                    to: *to,
                    sent: record.t,
                    done: record.t,
                    kind: msg,
                    size: *sz,
                    stream: *stream,
                    fate: Fate::Flying,
                };
                self.pending.insert(*id, message);
                if self.pending.len() > PENDING_MAX {
                    self.pending.pop_first();
                }
            }
            What::Recv { id, .. } => self.done(record.t, *id, Fate::Arrived),
            What::Drop { id, reason, .. } => {
                *self.reasons.entry(reason).or_default() += 1;
                self.done(record.t, *id, Fate::Lost(reason));
            }
            What::Timer
            | What::Member { .. }
            | What::Write { .. }
            | What::Apply { .. }
            | What::Life { .. }
            | What::Fault { .. }
            | What::Heal
            | What::Persist { .. }
            | What::Broker { .. } => {}
        }
    }

    /// Something happened that people will look at closely.
    pub(super) fn edge(&mut self, t: u64) {
        self.edges.push(t);
        if self.is_windowed {
            let recent = std::mem::take(&mut self.recent);
            for message in recent.into_iter().filter(|message| message.sent + WINDOW_NS >= t) {
                self.keep(message);
            }
        }
    }

    /// The run is over.
    pub(super) fn end(&mut self, t: u64, is_violated: bool) {
        if is_violated {
            self.kept.truncate(MESSAGES_MAX - RECENT_MAX);
            self.edge(t);
        }
        for message in std::mem::take(&mut self.pending).into_values() {
            if message.sent + WINDOW_NS >= t {
                self.sort_in(Message { done: t, ..message });
            }
        }
        self.kept.sort_by_key(|message| (message.sent, message.id));
        if self.is_windowed {
            for edge in std::mem::take(&mut self.edges) {
                let (from, to) = (edge.saturating_sub(WINDOW_NS), (edge + WINDOW_NS).min(t));
                match self.windows.last_mut() {
                    Some((_, last)) if *last >= from => *last = to.max(*last),
                    _ => self.windows.push((from, to)),
                }
            }
            // Where the budget ended, the windows end.
            if self.kept.len() >= MESSAGES_MAX - RECENT_MAX && !is_violated {
                let last = self.kept.last().map_or(0, |message| message.sent);
                self.windows.retain(|(from, _)| *from < last);
                if let Some((_, to)) = self.windows.last_mut() {
                    *to = last.min(*to);
                }
            }
        }
    }

    fn done(&mut self, t: u64, id: u64, fate: Fate) {
        // Unknown: a second copy of a message, or bytes from outside the cluster.
        let Some(message) = self.pending.remove(&id) else { return };
        let message = Message { done: t, fate, ..message };
        self.bundle(&message);
        self.sort_in(message);
    }

    fn sort_in(&mut self, message: Message) {
        if !self.is_windowed {
            self.kept.push(message);
            if self.kept.len() > MESSAGES_ALL {
                self.thin_out();
            }
            return;
        }
        if self.edges.last().is_some_and(|edge| message.sent <= edge + WINDOW_NS) {
            self.keep(message);
        } else {
            if self.recent.len() >= RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back(message);
        }
    }

    fn keep(&mut self, message: Message) {
        if self.kept.len() < MESSAGES_MAX {
            self.kept.push(message);
        }
    }

    /// There are too many to keep all: only windows stay.
    fn thin_out(&mut self) {
        self.is_windowed = true;
        let all = std::mem::take(&mut self.kept);
        for message in all {
            let is_near = self.edges.iter().any(|edge| edge.abs_diff(message.sent) <= WINDOW_NS);
            if is_near {
                self.kept.push(message);
            } else {
                self.recent.push_back(message);
                if self.recent.len() > RECENT_MAX {
                    self.recent.pop_front();
                }
            }
        }
    }

    fn bundle(&mut self, message: &Message) {
        let end = |node: u32| self.ends.get(node as usize).copied().unwrap_or(0) as usize;
        let (from, to) = (end(message.from), end(message.to));
        let mut slice = (message.sent / self.slice) as usize;
        while slice >= SLICES_MAX {
            halve(&mut self.arrived);
            halve(&mut self.lost);
            self.slice *= 2;
            slice = (message.sent / self.slice) as usize;
        }
        let pairs = self.width * self.width;
        let rows =
            if matches!(message.fate, Fate::Lost(_)) { &mut self.lost } else { &mut self.arrived };
        if rows.len() <= slice {
            rows.resize_with(slice + 1, || vec![0; pairs]);
        }
        rows[slice][from * self.width + to] += 1;
    }
}

/// Two slices become one.
fn halve(rows: &mut Vec<Vec<u32>>) {
    let old = std::mem::take(rows);
    let mut pairs = old.into_iter();
    while let Some(mut one) = pairs.next() {
        if let Some(two) = pairs.next() {
            one.iter_mut().zip(two).for_each(|(sum, more)| *sum += more);
        }
        rows.push(one);
    }
}

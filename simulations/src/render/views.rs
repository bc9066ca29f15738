//! What every node believes about every other, kept while the run goes on.
//!
//! Two questions are answered here. *When was everyone right?* By counting, for each pair of nodes,
//! whether belief and truth agree. *Which nodes see the same members?* By giving every set of
//! members a colour: what a split brain is becomes visible when a row of equal bars turns into two
//! colours and back.

use std::collections::BTreeMap;

use crate::plan::Plan;

/// Beliefs that last less than this, in ns, are drawn as "changing": a start passes through as many
/// views as there are nodes.
const SETTLED_NS: u64 = 150_000_000;
/// Agreement counts from its first instant if it lasts this long, in ns.
pub(super) const AGREED_NS: u64 = 1_000_000_000;
/// Beyond this many nodes single changes are not kept, only their sums.
pub(super) const DETAIL_NODES_MAX: usize = 200;
/// Changes kept for the words at the cursor; a run with more tells less about its end.
const CHANGES_MAX: usize = 150_000;
/// Different settled views whose members are remembered.
const VIEWS_MAX: usize = 4_096;

/// Whether a node is there to be seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Truth {
    /// It runs.
    Up,
    /// It does not.
    Down,
    /// Both beliefs are right: it stands still, or belongs to another cluster.
    Either,
}

/// How a node's view compares with the truth.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Sight {
    /// It does not run.
    Dark,
    /// It sees who is there.
    Right,
    /// It is about to change.
    Changing,
    /// It sees another set of members; the number stands for the set.
    Other(u64),
}

/// A change of one belief.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    /// When, in ns.
    pub t: u64,
    /// Who changed its mind.
    pub node: u32,
    /// About whom.
    pub about: u32,
    /// 1 up, 0 down, 2 left.
    pub to: u8,
}

/// When the last to believe in a node stopped, or the last to miss it learned of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    /// When, in ns.
    pub t: u64,
    /// About whom all agree now.
    pub about: usize,
    /// That it is there.
    pub there: bool,
}

/// Beliefs of all nodes.
#[derive(Debug)]
pub(super) struct Views {
    nodes: usize,
    believes: Vec<bool>,
    truth: Vec<Truth>,
    strangers: Vec<bool>,
    /// Sum of keys of the members that a node sees.
    prints: Vec<u64>,
    wrong: Vec<u32>,
    wrong_all: u64,
    /// For each node: observers that run and believe in it.
    believers: Vec<u32>,
    up: u32,
    /// For each node: since when it has which sight.
    pub sights: Vec<Vec<(u64, Sight)>>,
    /// Members of settled views.
    pub members: BTreeMap<u64, Vec<u32>>,
    /// Changes of beliefs, in order.
    pub changes: Vec<Change>,
    /// Whether changes are missing at the end.
    pub is_cut_short: bool,
    /// Since when everyone is right (`true`) or not.
    pub agreed: Vec<(u64, bool)>,
    /// Verdicts, in order.
    pub verdicts: Vec<Verdict>,
    /// Nodes of which the truth changed and about which not all agree yet.
    open: Vec<bool>,
}

impl Views {
    /// Nobody runs, nobody believes anything.
    pub(super) fn new(plan: &Plan) -> Self {
        let nodes = plan.nodes;
        let mut strangers = vec![false; nodes];
        for &node in plan.strangers.iter().filter(|node| **node < nodes) {
            strangers[node] = true;
        }
        Self {
            nodes,
            believes: vec![false; nodes * nodes],
            truth: strangers
                .iter()
                .map(|is| if *is { Truth::Either } else { Truth::Down })
                .collect(),
            strangers,
            prints: vec![0; nodes],
            wrong: vec![0; nodes],
            wrong_all: 0,
            believers: vec![0; nodes],
            up: 0,
            sights: vec![vec![(0, Sight::Dark)]; nodes],
            members: BTreeMap::new(),
            changes: Vec::new(),
            is_cut_short: false,
            agreed: Vec::new(),
            verdicts: Vec::new(),
            open: vec![false; nodes],
        }
    }

    /// Whether `node` believes that `about` is a member.
    pub(super) fn believes(&self, node: usize, about: usize) -> bool {
        self.believes[node * self.nodes + about]
    }

    /// Whether a node runs.
    pub(super) fn runs(&self, node: usize) -> bool {
        self.truth[node] == Truth::Up
    }

    /// Members that a node sees.
    pub(super) fn members_of(&self, node: usize) -> Vec<usize> {
        (0..self.nodes).filter(|about| self.believes(node, *about)).collect()
    }

    /// A node changed its mind.
    pub(super) fn member(&mut self, t: u64, node: usize, about: usize, to: &str) {
        let code = match to {
            // Renewed: it is back under a new name of its own.
            "up" | "renewed" => 1,
            "left" => 2,
            "down" => 0,
            _ => return,
        };
        let is_known = node < self.nodes && about < self.nodes && node != about;
        if !is_known || self.truth[node] == Truth::Down {
            return;
        }
        self.believe(node, about, code == 1);
        self.keep(Change { t, node: node as u32, about: about as u32, to: code });
        self.look(t, node);
        self.judge(t, about);
        self.note_agreement(t);
    }

    /// A node's process begins, ends, stands still or goes on.
    pub(super) fn life(&mut self, t: u64, node: usize, to: &str) {
        if node >= self.nodes {
            return;
        }
        let (truth, is_fresh) = match to {
            "up" => (Truth::Up, true),
            "resumed" => (Truth::Up, false),
            "paused" => (Truth::Either, false),
            _ => (Truth::Down, true),
        };
        let truth = if self.strangers[node] { Truth::Either } else { truth };
        self.set_truth(node, truth);
        if is_fresh {
            for about in 0..self.nodes {
                self.believe(node, about, about == node && truth != Truth::Down);
            }
            self.keep(Change {
                t,
                node: node as u32,
                about: node as u32,
                to: u8::from(to == "up"),
            });
        }
        self.open[node] = true;
        for seen_by in 0..self.nodes {
            self.look(t, seen_by);
        }
        self.judge_all(t);
        self.note_agreement(t);
    }

    fn keep(&mut self, change: Change) {
        if self.nodes > DETAIL_NODES_MAX || self.changes.len() >= CHANGES_MAX {
            self.is_cut_short = true;
            return;
        }
        self.changes.push(change);
    }

    fn is_wrong(&self, node: usize, about: usize) -> bool {
        self.truth[node] == Truth::Up
            && node != about
            && match self.truth[about] {
                Truth::Up => !self.believes(node, about),
                Truth::Down => self.believes(node, about),
                Truth::Either => false,
            }
    }

    fn believe(&mut self, node: usize, about: usize, is: bool) {
        if self.believes(node, about) == is {
            return;
        }
        let was_wrong = self.is_wrong(node, about);
        self.believes[node * self.nodes + about] = is;
        let key = key_of(about);
        self.prints[node] = if is {
            self.prints[node].wrapping_add(key)
        } else {
            self.prints[node].wrapping_sub(key)
        };
        if self.truth[node] == Truth::Up && node != about {
            self.believers[about] =
                self.believers[about].wrapping_add_signed(if is { 1 } else { -1 });
        }
        let is_wrong = self.is_wrong(node, about);
        self.count(node, was_wrong, is_wrong);
    }

    fn count(&mut self, node: usize, was_wrong: bool, is_wrong: bool) {
        let step = i32::from(is_wrong) - i32::from(was_wrong);
        self.wrong[node] = self.wrong[node].wrapping_add_signed(step);
        self.wrong_all = self.wrong_all.wrapping_add_signed(i64::from(step));
    }

    fn set_truth(&mut self, node: usize, truth: Truth) {
        let old = self.truth[node];
        if old == truth {
            return;
        }
        // As an observer: its row counts only while it runs.
        let was: Vec<bool> = (0..self.nodes).map(|about| self.is_wrong(node, about)).collect();
        let seen: Vec<bool> = (0..self.nodes).map(|other| self.is_wrong(other, node)).collect();
        self.truth[node] = truth;
        let step = i32::from(truth == Truth::Up) - i32::from(old == Truth::Up);
        self.up = self.up.wrapping_add_signed(step);
        for other in 0..self.nodes {
            if other == node {
                continue;
            }
            let is_wrong = self.is_wrong(node, other);
            self.count(node, was[other], is_wrong);
            let is_seen_wrong = self.is_wrong(other, node);
            self.count(other, seen[other], is_seen_wrong);
            if self.believes(node, other) {
                self.believers[other] = self.believers[other].wrapping_add_signed(step);
            }
        }
    }

    /// Notes how a node sees now.
    fn look(&mut self, t: u64, node: usize) {
        let sight = match self.truth[node] {
            Truth::Down => Sight::Dark,
            Truth::Up | Truth::Either if self.wrong[node] == 0 => Sight::Right,
            Truth::Up | Truth::Either => Sight::Other(self.prints[node]),
        };
        let sights = &mut self.sights[node];
        let Some(&(since, last)) = sights.last() else { return };
        if last == sight {
            return;
        }
        if matches!(last, Sight::Other(_)) && t - since < SETTLED_NS {
            sights.pop();
            if !matches!(sights.last(), Some((_, Sight::Changing))) {
                sights.push((since, Sight::Changing));
            }
        }
        sights.push((t, sight));
    }

    /// Remembers the members of views that have lasted; called each sample, since to do so with
    /// each change would cost as many steps as there are nodes.
    pub(super) fn sampled(&mut self, t: u64) {
        for node in 0..self.nodes {
            if let Some(&(since, Sight::Other(print))) = self.sights[node].last()
                && t - since >= SETTLED_NS
            {
                self.remember(node, print);
            }
        }
    }

    fn remember(&mut self, node: usize, print: u64) {
        if self.members.len() < VIEWS_MAX && !self.members.contains_key(&print) {
            let members = self.members_of(node).iter().map(|about| *about as u32).collect();
            self.members.insert(print, members);
        }
    }

    fn judge_all(&mut self, t: u64) {
        for about in 0..self.nodes {
            self.judge(t, about);
        }
    }

    fn judge(&mut self, t: u64, about: usize) {
        if !self.open[about] || self.strangers[about] {
            return;
        }
        let there = self.truth[about] == Truth::Up;
        let others = self.up - u32::from(there);
        let is_done =
            if there { self.believers[about] == others } else { self.believers[about] == 0 };
        if is_done && others > 0 {
            self.open[about] = false;
            self.verdicts.push(Verdict { t, about, there });
        }
    }

    fn note_agreement(&mut self, t: u64) {
        let is = self.wrong_all == 0;
        match self.agreed.last_mut() {
            Some((_, last)) if *last == is => {}
            Some((since, last)) if *since == t => *last = is,
            _ => self.agreed.push((t, is)),
        }
    }

    /// When everyone agreed at or after `from`, and kept to it for a while; `end` is the run's.
    pub(super) fn agreed_from(&self, from: u64, end: u64) -> Option<u64> {
        self.agreed.iter().enumerate().find_map(|(index, &(since, is))| {
            let until = self.agreed.get(index + 1).map_or(end, |(until, _)| *until);
            let since = since.max(from);
            let lasts = until.saturating_sub(since);
            (is && until > from && (lasts >= AGREED_NS || until == end)).then_some(since)
        })
    }
}

/// A number for a member, such that sums of them tell sets apart (`SplitMix64`).
fn key_of(node: usize) -> u64 {
    let mut key = (node as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

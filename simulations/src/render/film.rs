//! A run, small enough to be looked at.

use std::time::Duration;

use crate::outcome::Violation;
use crate::plan::{Fault, Plan};
use crate::render::cone::{Cone, Recent};
use crate::render::heat::Heat;
use crate::render::traffic::Traffic;
use crate::render::views::Views;
use crate::render::{cuts, words};
use crate::trace::{Record, Recorder, Sample, What};

/// Records a run for [`html`](super::html) and [`svg`](super::svg).
///
/// It adds up while the run goes on, so its memory depends on the number of nodes and faults, not
/// on how long the run is: some MB for 100 nodes, some tens of MB for 1000.
///
/// ```ignore
/// let mut film = Film::new(&plan);
/// let outcome = World::new(&plan).run(&mut film);
/// std::fs::write("out.html", html(&film, &plan, &outcome))?;
/// ```
#[derive(Debug)]
pub struct Film {
    pub(super) nodes: usize,
    pub(super) groups: Vec<(String, Vec<usize>)>,
    pub(super) views: Views,
    pub(super) traffic: Traffic,
    pub(super) heat: Heat,
    /// For each node: when its process changed how: `up`, `crashed`, ...; and the epoch.
    pub(super) lives: Vec<Vec<(u64, &'static str, u64)>>,
    /// For each fault of the plan: when it really began and ended, in ns.
    pub(super) spans: Vec<Span>,
    /// For each partition of the plan that began: when it was noticed.
    pub(super) noticed: Vec<Notice>,
    pub(super) healed: Option<u64>,
    /// How often a node took another for dead that ran.
    pub(super) mistaken: u64,
    pub(super) end: u64,
    pub(super) cone: Option<Cone>,
    /// For each node and owner: the version of the owner's section it has; small clusters only.
    pub(super) applied: Vec<(u64, u64)>,
    /// For each node: the version of its own section.
    pub(super) written: Vec<u64>,
    /// The command that draws the run again, if it was made by one.
    pub(super) words: Option<String>,
    partitions: Vec<Option<crate::plan::Partition>>,
    recent: Recent,
}

/// When a fault was there, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Span {
    /// Beginning; `None`: it never began.
    pub from: Option<u64>,
    /// End; `None`: at the end of the run, or it is an event.
    pub to: Option<u64>,
}

/// How the sides of a partition came to know of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notice {
    /// Index of the fault.
    pub fault: usize,
    /// Its sides.
    pub sides: Vec<Vec<usize>>,
    /// For each side: beliefs in nodes that it cannot reach.
    believed: Vec<u32>,
    /// For each side: when the last of them ended.
    pub at: Vec<Option<u64>>,
    /// It lasts.
    is_open: bool,
    /// Processes began or ended meanwhile: no statement.
    pub is_spoiled: bool,
}

impl Film {
    /// An empty film of a run of this plan.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let groups = cuts::groups(plan);
        let detail = if plan.nodes <= super::views::DETAIL_NODES_MAX { plan.nodes } else { 0 };
        Self {
            nodes: plan.nodes,
            views: Views::new(plan),
            traffic: Traffic::new(plan, &groups),
            heat: Heat::new(),
            lives: vec![Vec::new(); plan.nodes],
            spans: vec![Span::default(); plan.faults.len()],
            noticed: Vec::new(),
            healed: None,
            mistaken: 0,
            end: 0,
            cone: None,
            applied: vec![(0, 0); detail * detail],
            written: vec![0; plan.nodes],
            partitions: plan
                .faults
                .iter()
                .map(|timed| match &timed.fault {
                    Fault::Partition(partition) => Some(partition.clone()),
                    _ => None,
                })
                .collect(),
            recent: Recent::default(),
            words: None,
            groups,
        }
    }

    /// The same, for a run that this command draws again: `simulate render case-a-2a.sim`.
    #[must_use]
    pub fn named(mut self, words: String) -> Self {
        self.words = Some(words);
        self
    }

    /// Nodes in the order of their lanes.
    pub(super) fn order(&self) -> Vec<usize> {
        self.groups.iter().flat_map(|(_, nodes)| nodes.iter().copied()).collect()
    }

    /// When a fault was there; for one that never reported its end, until the run's.
    pub(super) fn span(&self, plan: &Plan, index: usize) -> Option<(u64, u64)> {
        let span = self.spans.get(index)?;
        let from = span.from?;
        let timed = &plan.faults[index];
        let nanos = |duration: Duration| duration.as_nanos() as u64;
        let planned = match (&timed.fault, timed.lasts) {
            (_, Some(lasts)) => from + nanos(lasts),
            (Fault::Crash { node, .. } | Fault::Leave { node, .. }, None) => self.lives[*node]
                .iter()
                .find(|(t, to, _)| *t > from && *to == "up")
                .map_or(self.end, |(t, _, _)| *t),
            (Fault::Start { .. } | Fault::Burst { .. } | Fault::Tombstone { .. }, None) => from,
            (Fault::Clock { rate, .. }, None) if (*rate - 1.0).abs() < f64::EPSILON => from,
            (_, None) => self.healed.unwrap_or(self.end),
        };
        let to = span.to.filter(|to| *to > from).unwrap_or(planned);
        Some((from, to.min(self.end).max(from)))
    }

    fn fault(&mut self, t: u64, index: usize, begins: bool) {
        let Some(span) = self.spans.get_mut(index) else { return };
        if begins {
            span.from.get_or_insert(t);
        } else {
            span.to = Some(t);
        }
        self.traffic.edge(t);
        if let Some(partition) = self.partitions[index].clone() {
            if begins {
                self.watch(t, index, &partition);
            } else {
                self.close(|notice| notice.fault == index);
            }
        }
    }

    fn close(&mut self, which: impl Fn(&Notice) -> bool) {
        self.noticed.iter_mut().filter(|notice| which(notice)).for_each(|it| it.is_open = false);
    }

    /// Begins to count who still believes in whom across a cut.
    fn watch(&mut self, t: u64, fault: usize, partition: &crate::plan::Partition) {
        let sides = cuts::sides(partition, self.nodes);
        if sides.len() < 2 || matches!(partition, crate::plan::Partition::Oneway { .. }) {
            return;
        }
        let mut believed = vec![0; sides.len()];
        for (side, nodes) in sides.iter().enumerate() {
            for &node in nodes.iter().filter(|node| self.views.runs(**node)) {
                believed[side] += (0..self.nodes)
                    .filter(|&about| cuts::blocks(partition, self.nodes, node, about))
                    .filter(|&about| self.views.believes(node, about))
                    .count() as u32;
            }
        }
        let at = believed.iter().map(|left| (*left == 0).then_some(t)).collect();
        let notice = Notice { fault, sides, believed, at, is_open: true, is_spoiled: false };
        self.noticed.push(notice);
    }

    fn member(&mut self, t: u64, node: usize, about: usize, to: &str) {
        if node >= self.nodes || about >= self.nodes {
            return;
        }
        let was = self.views.believes(node, about);
        self.mistaken += u64::from(to == "down" && was && self.views.runs(about));
        self.views.member(t, node, about, to);
        let is = self.views.believes(node, about);
        if was == is {
            return;
        }
        for notice in self.noticed.iter_mut().filter(|notice| notice.is_open) {
            let Some(partition) = &self.partitions[notice.fault] else { continue };
            if !cuts::blocks(partition, self.nodes, node, about) {
                continue;
            }
            let Some(side) = notice.sides.iter().position(|side| side.contains(&node)) else {
                continue;
            };
            notice.believed[side] =
                notice.believed[side].saturating_add_signed(if is { 1 } else { -1 });
            if notice.believed[side] == 0 && notice.at[side].is_none() {
                notice.at[side] = Some(t);
            }
        }
    }

    fn life(&mut self, t: u64, node: usize, to: &'static str, epoch: u64) {
        if node >= self.nodes {
            return;
        }
        self.lives[node].push((t, to, epoch));
        self.views.life(t, node, to);
        self.noticed
            .iter_mut()
            .filter(|notice| notice.is_open)
            .for_each(|notice| notice.is_spoiled = true);
        self.traffic.edge(t);
    }

    fn apply(&mut self, node: usize, owner: usize, epoch: u64, ver: u64) {
        let width = self.applied.len().isqrt();
        if node < width && owner < width {
            self.applied[node * width + owner] = (epoch, ver);
        }
    }
}

impl Recorder for Film {
    fn record(&mut self, record: &Record) {
        self.recent.record(record);
        self.traffic.record(record);
        self.end = self.end.max(record.t);
        let node = record.n.map(|node| node as usize);
        match (&record.what, node) {
            (What::Member { about, to }, Some(node)) => {
                self.member(record.t, node, *about as usize, to);
            }
            (What::Life { to, epoch }, Some(node)) => self.life(record.t, node, to, *epoch),
            (What::Fault { index, begins }, _) => self.fault(record.t, *index as usize, *begins),
            (What::Heal, _) => {
                self.healed = Some(record.t);
                self.traffic.edge(record.t);
                self.close(|_| true);
            }
            (What::Write { ver, .. }, Some(node)) if node < self.nodes => {
                self.written[node] = *ver;
            }
            (What::Apply { owner, epoch, ver }, Some(node)) => {
                self.apply(node, *owner as usize, *epoch, *ver);
            }
            _ => {}
        }
    }

    fn sample(&mut self, sample: &Sample) {
        self.end = self.end.max(sample.t);
        self.heat.sample(sample);
        self.views.sampled(sample.t);
    }

    fn end(&mut self, at: Duration, violation: Option<&Violation>) {
        self.end = at.as_nanos() as u64;
        self.traffic.end(self.end, violation.is_some());
        self.cone = violation.map(|violation| self.recent.cone(violation));
    }
}

/// Class of a fault of the plan, for colours.
pub(super) fn class_of(plan: &Plan, index: usize) -> words::Class {
    words::Class::of(&plan.faults[index].fault)
}

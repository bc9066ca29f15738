//! How long things take: changes until everyone knows them, deaths until nobody lists the dead.

use std::collections::BTreeMap;
use std::time::Duration;

use grapevine_protocol::Moment;

use super::table::{Step, Table};

/// A write that not everyone knows yet.
#[derive(Debug)]
struct Change {
    owner: usize,
    ver: u64,
    at: Moment,
    /// Nodes that have not got it.
    waiting: usize,
}

/// Why an owner is to vanish.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Departure {
    Crash,
    Leave,
    /// It stands still.
    Pause,
    /// It is cut off.
    Cut,
}

impl Departure {
    fn kind(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Leave => "leave",
            Self::Pause => "pause",
            Self::Cut => "cut",
        }
    }
}

/// An owner that is still listed by some.
#[derive(Debug)]
struct Departing {
    why: Departure,
    at: Moment,
    /// Nodes that list it.
    listed: usize,
    /// It is to be gone within this, if it said goodbye.
    most: Duration,
    /// Nothing at all is wrong, so that it counts among the figures.
    is_clear: bool,
}

/// Times that were measured, and those that are being measured.
#[derive(Debug, Default)]
pub(super) struct Figures {
    changes: Vec<Change>,
    /// By owner.
    departing: BTreeMap<usize, Departing>,
    /// The side of each node while halves are cut from each other.
    sides: Vec<usize>,
    pub(super) staleness_ms: Vec<f32>,
    pub(super) gone_ms: Vec<(String, f32)>,
}

impl Figures {
    /// An owner wrote while nothing was wrong and everyone knew each other.
    pub(super) fn wrote(&mut self, owner: usize, ver: u64, table: &Table, now: Moment) {
        let waiting = table.members.saturating_sub(1);
        if waiting > 0 {
            self.changes.push(Change { owner, ver, at: now, waiting });
        }
    }

    /// Something was not as it is when nothing is wrong: what was under way is not measured.
    pub(super) fn disturbed(&mut self) {
        self.changes.clear();
        self.departing.clear();
    }

    /// A process starts or ends.
    pub(super) fn lives_changed(&mut self) {
        self.changes.clear();
    }

    /// An owner is back: how long it would have been listed is not known.
    pub(super) fn is_back(&mut self, owner: usize) {
        self.departing.remove(&owner);
    }

    /// Halves are cut from each other: the side of each node.
    pub(super) fn set_sides(&mut self, sides: Vec<usize>) {
        self.sides = sides;
    }

    /// An owner is to vanish from all views, or if it is cut off, from those of other sides.
    pub(super) fn departs(
        &mut self,
        owner: usize,
        why: Departure,
        (most, is_clear): (Duration, bool),
        table: &Table,
        now: Moment,
    ) {
        let node = table.owners[owner].node;
        let concerned =
            |at: &usize| *at != node && table.is_judged(*at) && self.is_concerned(why, *at, node);
        let mut listed = 0;
        for at in (0..table.viewers.len()).filter(concerned) {
            if table.cell(at, owner).is_none_or(|cell| cell.life == 0) {
                return;
            }
            listed += 1;
        }
        if listed > 0 {
            self.departing.insert(owner, Departing { why, at: now, listed, most, is_clear });
        }
    }

    fn is_concerned(&self, why: Departure, at: usize, node: usize) -> bool {
        why != Departure::Cut || self.sides.get(at) != self.sides.get(node)
    }

    /// Node `at` ends, and with it what it shows.
    pub(super) fn viewer_ends(&mut self, at: usize, table: &Table, now: Moment) {
        if !table.is_judged(at) {
            return;
        }
        let listed: Vec<usize> = self
            .departing
            .keys()
            .copied()
            .filter(|&owner| table.cell(at, owner).is_some_and(|cell| cell.life != 0))
            .collect();
        for owner in listed {
            self.unlisted(at, owner, table, now);
        }
    }

    /// Something changed in what node `at` shows. How long an owner that said goodbye was listed,
    /// if that was too long and is over.
    pub(super) fn step(
        &mut self,
        at: usize,
        step: &Step,
        table: &Table,
        now: Moment,
    ) -> Option<Duration> {
        if self.changes.is_empty() && self.departing.is_empty() {
            return None;
        }
        if !table.is_judged(at) {
            return None;
        }
        let (before, after) = (u64::from(step.before.ver), u64::from(step.after.ver));
        if after > before && step.after.shown != 0 {
            let staleness = &mut self.staleness_ms;
            self.changes.retain_mut(|change| {
                if change.owner == step.owner && before < change.ver && change.ver <= after {
                    change.waiting -= 1;
                    if change.waiting == 0 {
                        staleness.push(now.since(change.at).as_secs_f32() * 1e3);
                    }
                }
                change.waiting > 0
            });
        }
        match (step.before.life, step.after.life) {
            (0, 0) => None,
            (_, 0) => self.unlisted(at, step.owner, table, now),
            (0, _) => {
                let node = table.owners[step.owner].node;
                let why = self.departing.get(&step.owner)?.why;
                if self.is_concerned(why, at, node) {
                    self.departing.get_mut(&step.owner)?.listed += 1;
                }
                None
            }
            (..) => None,
        }
    }

    fn unlisted(
        &mut self,
        at: usize,
        owner: usize,
        table: &Table,
        now: Moment,
    ) -> Option<Duration> {
        let node = table.owners[owner].node;
        let why = self.departing.get(&owner)?.why;
        if !self.is_concerned(why, at, node) {
            return None;
        }
        let departing = self.departing.get_mut(&owner)?;
        departing.listed = departing.listed.saturating_sub(1);
        if departing.listed > 0 {
            return None;
        }
        let (took, most, is_clear) = (now.since(departing.at), departing.most, departing.is_clear);
        self.departing.remove(&owner);
        if is_clear {
            self.gone_ms.push((why.kind().to_owned(), took.as_secs_f32() * 1e3));
        }
        (why == Departure::Leave && took > most).then_some(took)
    }

    /// Owners that said goodbye too long ago and are still listed.
    pub(super) fn overdue(&self, now: Moment) -> impl Iterator<Item = (usize, Duration)> {
        let leaving = self.departing.iter().filter(|(_, it)| it.why == Departure::Leave);
        let aged = leaving.map(move |(&owner, it)| (owner, now.since(it.at), it.most));
        aged.filter(|&(_, age, most)| age > most).map(|(owner, age, _)| (owner, age))
    }
}

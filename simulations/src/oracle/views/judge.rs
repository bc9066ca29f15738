//! The rules about everyone, each half second: they ask how old what is wrong is.

use std::time::Duration;

use grapevine_gossip::cluster::Cluster;
use grapevine_protocol::Moment;

use super::bounds::PAUSE_AFTER_STALL;
use super::table::{Cell, Owner, Standing, moment};
use super::{Views, lookups, traffic};
use crate::oracle::violation;
use crate::outcome::{Stats, Violation};
use crate::plan::{Fault, Knobs};
use crate::world::NodeView;

/// Seconds after everyone agreed that are not idle yet: the last news still goes round.
const IDLE_AFTER_S: usize = 3;

/// Fewer idle seconds than this say nothing.
const IDLE_S_MIN: usize = 5;

/// Seconds after the start in which the cluster comes together.
const SETTLING_S: usize = 10;

impl Views {
    /// V9: who lists others probes them.
    pub(super) fn check_probes(&self, nodes: &[NodeView<'_>]) -> Result<(), Violation> {
        for (at, node) in nodes.iter().enumerate() {
            let Some(cluster) = node.cluster.filter(|_| !self.nodes[at].has_stopped) else {
                continue;
            };
            let membership = cluster.membership();
            if !membership.active().is_empty() && !membership.has_left() && !membership.is_probing()
            {
                let what = format!("members={}", membership.active().len());
                return Err(violation("V9", "inert", at, what));
            }
        }
        Ok(())
    }

    /// V9: who is alone tries those who are down, whatever is wrong with the network.
    pub(super) fn check_knocks(
        &mut self,
        nodes: &[NodeView<'_>],
        now: Moment,
    ) -> Result<(), Violation> {
        let most = self.bounds.knock;
        for (at, node) in nodes.iter().enumerate() {
            let known = &mut self.nodes[at];
            let cluster = node.cluster.filter(|cluster| {
                cluster.membership().active().is_empty()
                    && !cluster.membership().has_left()
                    && !known.has_stopped
                    && !node.is_paused
            });
            let Some(cluster) = cluster.filter(|it| !it.membership().down().is_empty()) else {
                known.lonely_since = None;
                continue;
            };
            let since = *known.lonely_since.get_or_insert(now);
            let since = since.max(known.knocked_at).max(self.weather.fast_at());
            let age = now.since(since);
            if age > most && !self.weather.is_slow() && cluster.sizes().outbound == 0 {
                let what = format!("members=0 since={age:.1?} most={most:?}");
                return Err(violation("V9", "gave-up", at, what));
            }
        }
        Ok(())
    }

    /// V6: sections of the dead are forgotten.
    pub(super) fn check_retention(
        &mut self,
        nodes: &[NodeView<'_>],
        now: Moment,
    ) -> Result<(), Violation> {
        // A node that does not run, or hardly, forgets nothing; then it has to have time.
        let Some(steady_since) = self.weather.steady_since() else { return Ok(()) };
        if now.since(steady_since) <= PAUSE_AFTER_STALL {
            return Ok(());
        }
        for (at, node) in nodes.iter().enumerate() {
            let Some(cluster) = node.cluster.filter(|_| !self.nodes[at].has_stopped) else {
                continue;
            };
            let owners = &self.table.owners;
            self.nodes[at].detached.retain(|&(owner, _)| {
                let id = owners[owner].id;
                let replica = cluster.catalogue().replica(id);
                replica.is_some() && !cluster.membership().active().contains_key(&id)
            });
            for &(owner, since) in &self.nodes[at].detached {
                self.check_detached(at, owner, moment(since), steady_since, now)?;
            }
        }
        Ok(())
    }

    fn check_detached(
        &self,
        at: usize,
        owner: usize,
        since: Moment,
        steady_since: Moment,
        now: Moment,
    ) -> Result<(), Violation> {
        let broken = |name, age: Duration, most: Duration| {
            let who = named(self.table.owners[owner].node);
            let what = format!("owner={who} since={age:.1?} most={most:?}");
            Err(violation("V6", name, at, what))
        };
        let age = now.since(since);
        if age > self.bounds.retention {
            return broken("never-forgotten", age, self.bounds.retention);
        }
        // Who left is forgotten at once, as soon as somebody tells.
        let Some(left_at) = self.table.owners[owner].left_at else { return Ok(()) };
        let epoch = self.table.owners[owner].epoch();
        let is_told = (0..self.nodes.len()).any(|other| {
            self.table.is_judged(other) && self.nodes[other].left.contains(&(owner, epoch))
        });
        let age = now.since(since.max(left_at).max(steady_since).max(self.lives_changed_at));
        let most = self.bounds.agreement;
        if is_told && self.table.is_judged(at) && self.is_judgeable() && age > most {
            return broken("kept-after-leaving", age, most);
        }
        Ok(())
    }

    /// Links are good, and no faults are left that only some nodes are spared.
    fn is_judgeable(&self) -> bool {
        self.weather.has_good_links() && !self.weather.is_core_healed()
    }

    /// L1: after the healing all agree.
    pub(super) fn check_agreement(
        &self,
        nodes: &[NodeView<'_>],
        now: Moment,
    ) -> Result<(), Violation> {
        let Some(healed_at) = self.healed_at else { return Ok(()) };
        let from = healed_at.max(self.lives_changed_at).max(self.weather.fast_at());
        let age = now.since(from);
        let links = if self.weather.has_good_links() { 1 } else { 3 };
        if self.lookups_agreed.is_some()
            || age <= self.bounds.agreement * links
            || self.traffic.is_any_spent(now)
        {
            return Ok(());
        }
        // Members that agree now may have disagreed until a moment ago.
        let wrong = (0..nodes.len()).filter(|&at| self.table.is_judged(at));
        let wrong = wrong.filter(|&at| !self.table.is_right(at));
        for at in wrong {
            for owner in 0..self.table.owners.len() {
                if let Some(what) = self.what_is_wrong(at, owner) {
                    let what = format!("{what} since={age:.1?}");
                    return Err(violation("L1", "disagreement", at, what));
                }
            }
        }
        Ok(())
    }

    fn what_is_wrong(&self, at: usize, index: usize) -> Option<String> {
        let (owner, cell) = (&self.table.owners[index], self.table.cell(at, index)?);
        let who = named(owner.node);
        match owner.standing {
            Standing::Member if cell.life == 0 => Some(format!("peer={who} listed=no")),
            Standing::Member if cell.life != owner.life => {
                let (listed, epoch) = (owner.epoch_of(cell.life), owner.epoch());
                Some(format!("peer={who} listed={listed} epoch={epoch}"))
            }
            Standing::Member if cell.shown != owner.head => {
                Some(format!("owner={who} ver={} written={}", cell.ver, owner.ver))
            }
            Standing::Gone if cell.life != 0 => Some(format!("peer={who} listed=though-gone")),
            Standing::Member | Standing::Gone | Standing::Any => None,
        }
    }

    /// Nothing has disturbed for so long that something could be overdue.
    pub(super) fn is_overdue_watched(&self, now: Moment) -> bool {
        let least = self.bounds.content.min(self.bounds.join).min(self.bounds.ghost);
        self.weather.has_good_links()
            && self.weather.steady_since().is_some_and(|since| now.since(since) > least)
            && !self.traffic.is_any_spent(now)
    }

    /// V1, V2, L2 and L3: nothing stays wrong for long while nothing disturbs.
    pub(super) fn check_overdue(
        &self,
        nodes: &[NodeView<'_>],
        now: Moment,
    ) -> Result<(), Violation> {
        let Some(steady_since) = self.weather.steady_since() else { return Ok(()) };
        if self.table.is_current() || !self.is_overdue_watched(now) {
            return Ok(());
        }
        for at in (0..nodes.len()).filter(|&at| self.table.is_judged(at)) {
            if self.table.is_right(at) {
                continue;
            }
            let from = steady_since.max(self.table.viewers[at].since);
            for (index, owner) in self.table.owners.iter().enumerate() {
                let Some(cell) = self.table.cell(at, index) else { continue };
                self.check_cell(nodes, at, owner, cell, from, now)?;
            }
        }
        Ok(())
    }

    fn check_cell(
        &self,
        nodes: &[NodeView<'_>],
        at: usize,
        owner: &Owner,
        cell: Cell,
        from: Moment,
        now: Moment,
    ) -> Result<(), Violation> {
        let (bounds, who) = (&self.bounds, named(owner.node));
        let overdue = |since: Moment, most: Duration| {
            let age = now.since(since.max(from));
            (age > most).then_some(age)
        };
        match owner.standing {
            Standing::Gone if cell.life != 0 => {
                let Some(age) = overdue(owner.since, bounds.ghost) else { return Ok(()) };
                let what = format!("peer={who} since={age:.1?} most={:?}", bounds.ghost);
                Err(violation("L2", "ghost", at, what))
            }
            Standing::Member if cell.life != owner.life => {
                let since = owner.since.max(moment(cell.listed_ms));
                let (rule, name, most) = if owner.is_admitted {
                    ("L2", "lost-member", bounds.member)
                } else {
                    ("L3", "exile", bounds.join)
                };
                let Some(age) = overdue(since, most) else { return Ok(()) };
                let what = format!("peer={who} since={age:.1?} most={most:?}");
                Err(violation(rule, name, at, what))
            }
            Standing::Member if cell.shown != owner.head => {
                let listed = moment(cell.listed_ms).max(owner.since);
                let since = if u64::from(cell.ver) == owner.ver {
                    moment(cell.shown_ms)
                } else {
                    owner.written_after(u64::from(cell.ver)).unwrap_or(moment(cell.shown_ms))
                };
                let since = since.max(listed);
                let Some(age) = overdue(since, bounds.content) else { return Ok(()) };
                let clusters = (nodes[at].cluster, nodes.get(owner.node).and_then(|it| it.cluster));
                let (is_phantom, key) = different_key(owner, clusters);
                let what = format!("owner={who} key={key} since={age:.1?} ver={}", cell.ver);
                let rule = if is_phantom { ("V1", "phantom") } else { ("V2", "lost-producer") };
                Err(violation(rule.0, rule.1, at, what))
            }
            Standing::Member | Standing::Gone | Standing::Any => Ok(()),
        }
    }

    /// Bytes per node and second while nothing happens, on average, and how many such seconds there
    /// were until now.
    pub(super) fn idle(&self, stats: &Stats, now: Moment) -> Option<(f64, usize)> {
        let plan = &self.plan;
        let second = |at: Moment| (at.as_nanos() / 1_000_000_000) as usize;
        let first = plan.faults.first().map_or(plan.end, |fault| fault.at);
        let until = second(now);
        let before = if plan.workload.churn == 0.0 { first.as_secs() as usize } else { 0 };
        let before = before.min(until);
        // What begins or ends later is no idle time.
        let agreed = self.lookups_agreed.filter(|_| plan.core.is_none());
        let from = agreed.map(|at| second(at.max(self.lives_changed_at)) + IDLE_AFTER_S);
        let by_second = stats.bytes_by_second.iter().enumerate();
        let idle = by_second.filter(|&(at, _)| {
            (SETTLING_S..before).contains(&at)
                || from.is_some_and(|from| (from..until).contains(&at))
        });
        let idle: Vec<f64> = idle.map(|(_, &bytes)| f64::from(bytes)).collect();
        (!idle.is_empty()).then(|| (idle.iter().sum::<f64>() / idle.len() as f64, idle.len()))
    }

    /// B3: it is little that is sent while nothing happens.
    pub(super) fn check_idle(&self, stats: &Stats, now: Moment) -> Result<(), Violation> {
        let Some((average, seconds)) = self.idle(stats, now) else { return Ok(()) };
        let plan = &self.plan;
        let most = traffic::idle_bytes_max(plan.nodes);
        let is_usual = plan.knobs == Knobs::default()
            && self.weather.is_clear()
            && !self.has_clones
            && !plan.faults.iter().any(|timed| delays_for_long(&timed.fault));
        if is_usual && seconds >= IDLE_S_MIN && plan.broker.is_none() && average > most {
            let what = format!("bytes={average:.0} most={most:.0} seconds={seconds}");
            return Err(violation("B3", "talkative", 0, what));
        }
        Ok(())
    }
}

/// A key in which a copy differs from what its owner has, and whether it is only in the copy.
fn different_key(owner: &Owner, clusters: (Option<&Cluster>, Option<&Cluster>)) -> (bool, String) {
    let (viewer, own) = clusters;
    let held = viewer.and_then(|cluster| cluster.catalogue().replica(owner.id));
    let own = own.map(|cluster| cluster.catalogue().own());
    let held = held.filter(|replica| replica.is_shown()).map(|replica| &replica.section);
    match (held, own) {
        (Some(held), Some(own)) => {
            lookups::difference(held, own).unwrap_or((false, "none".to_owned()))
        }
        _ => (false, "all".to_owned()),
    }
}

/// What was sent long ago may arrive in idle seconds and is answered.
fn delays_for_long(fault: &Fault) -> bool {
    let Fault::Link { link, .. } = fault else { return false };
    link.reorder > 0.0 && link.reorder_by > Duration::from_secs(IDLE_AFTER_S as u64)
}

/// A node, or that it is none.
fn named(node: usize) -> String {
    if node == super::NOBODY { "unknown".to_owned() } else { node.to_string() }
}

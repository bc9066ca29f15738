//! Who is listed where, how soon, and at what cost.

mod bounds;
mod figures;
mod judge;
mod lookups;
mod news;
mod rules;
mod table;
mod traffic;
mod weather;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use grapevine_gossip::NodeId;
use grapevine_gossip::audit::Touched;
use grapevine_gossip::cluster::Cluster;
use grapevine_gossip::section::Value;
use grapevine_protocol::Moment;

use super::violation;
use crate::network::Network;
use crate::outcome::{Stats, Violation};
use crate::plan::{Fault, Partition, Plan};
use crate::world::{Cause, End, NodeView, index_of, topic_name};

use bounds::Bounds;
use figures::{Departure, Figures};
use lookups::Answered;
use table::{NOBODY, Standing, Step, Table, ms};
use traffic::Traffic;
use weather::Weather;

pub(super) use rules::RULES;

/// Rules that do not hold where the links as planned are worse than mild.
const OFF_ON_BAD_LINKS: &[&str] = &["L2", "L3", "V1", "V2", "V5", "V7"];

/// Rules that hold at no moment of a run of this plan, because of its links without any fault.
pub(super) fn rules_off(plan: &Plan) -> &'static [&'static str] {
    if Weather::new(plan).has_good_links() { &[] } else { OFF_ON_BAD_LINKS }
}

/// What everyone shows, and since when.
#[derive(Debug)]
pub(super) struct Views {
    plan: Plan,
    bounds: Bounds,
    weather: Weather,
    table: Table,
    figures: Figures,
    traffic: Traffic,
    /// What is known of each node beyond its cells.
    nodes: Vec<Known>,
    healed_at: Option<Moment>,
    /// The last start or end of a process.
    lives_changed_at: Moment,
    /// Since when all list each other, from the healing on.
    members_agreed: Option<Moment>,
    lookups_agreed: Option<Moment>,
    /// All listed each other at some time since it became calm.
    agreed_in_calm: Option<Moment>,
    /// Producers that operators ask to hide: node and topic.
    hidden: BTreeSet<(usize, String)>,
    has_clones: bool,
    false_downs: u64,
    /// Rules that hold only while little is wrong, and that held at some moment.
    watched: BTreeSet<&'static str>,
}

/// What one node has been seen to do.
#[derive(Debug, Default)]
struct Known {
    /// Owners whose sections it keeps although they are down, and since when, in ms.
    detached: Vec<(usize, u32)>,
    /// Owners that it knows to have left, and in which epoch.
    left: Vec<(usize, u64)>,
    has_stopped: bool,
    /// When it last tried to reach somebody by stream.
    knocked_at: Moment,
    /// Since when it has no members although it knows of some that are down.
    lonely_since: Option<Moment>,
    /// Nodes at whose addresses it has had members, one bit each.
    vouched: Vec<u64>,
    answered: Answered,
}

impl Known {
    fn vouches(&mut self, addr: SocketAddr) {
        let Some(at) = index_of(addr) else { return };
        if self.vouched.len() <= at / 64 {
            self.vouched.resize(at / 64 + 1, 0);
        }
        self.vouched[at / 64] |= 1 << (at % 64);
    }
}

impl Views {
    pub(super) fn new(plan: &Plan) -> Self {
        let faults = plan.faults.iter().map(|timed| &timed.fault);
        Self {
            bounds: Bounds::new(plan),
            weather: Weather::new(plan),
            table: Table::new(plan.nodes),
            figures: Figures::default(),
            traffic: Traffic::new(plan),
            nodes: (0..plan.nodes).map(|_| Known::default()).collect(),
            healed_at: None,
            lives_changed_at: Moment(0),
            members_agreed: None,
            lookups_agreed: None,
            agreed_in_calm: None,
            hidden: faults
                .filter_map(|fault| match fault {
                    Fault::Tombstone { of, topic, .. } => Some((*of, topic_name(*topic))),
                    _ => None,
                })
                .collect(),
            has_clones: plan.has_clones(),
            false_downs: 0,
            watched: BTreeSet::new(),
            plan: plan.clone(),
        }
    }

    pub(super) fn started(&mut self, node: usize, _: SocketAddr, cluster: &Cluster, now: Moment) {
        let me = cluster.membership().me();
        self.nodes[node] = Known::default();
        self.traffic.started(node);
        let owner = self.table.owner(me.node, now);
        self.figures.lives_changed();
        self.figures.is_back(owner);
        let counts = !self.plan.strangers.contains(&node);
        self.table.started(node, me.node, me.epoch, counts, now);
        self.lives_changed_at = now;
        self.note_agreement(now);
    }

    pub(super) fn ended(&mut self, node: usize, now: Moment, how: End) {
        let owner = self.table.viewers[node].owner;
        self.figures.lives_changed();
        self.figures.viewer_ends(node, &self.table, now);
        let was_member = owner != NOBODY && self.table.is_judged(node);
        self.table.ended(node, now);
        if was_member && how == End::Crashed && self.weather.is_clear() {
            self.departs(owner, Departure::Crash, now);
        }
        self.lives_changed_at = now;
        self.note_agreement(now);
    }

    /// A core was called, whatever came of it.
    pub(super) fn called(
        &mut self,
        node: usize,
        cluster: &Cluster,
        now: Moment,
    ) -> Result<(), Violation> {
        self.traffic.handled(node, cluster, now)
    }

    pub(super) fn handled(
        &mut self,
        node: usize,
        cluster: &Cluster,
        touched: &[Touched],
        now: Moment,
        cause: Cause,
    ) -> Result<(), Violation> {
        if cause == Cause::Leave {
            self.leaves(node, now);
        }
        let own = cluster.catalogue().own();
        if self.table.is_news(node, own) {
            let is_measured = self.weather.is_undisturbed() && self.table.is_agreed();
            self.table.wrote(node, own, now);
            if is_measured {
                let owner = self.table.viewers[node].owner;
                self.figures.wrote(owner, own.ver, &self.table, now);
            }
            self.note_agreement(now);
        }
        if !touched.is_empty() {
            self.nodes[node].answered.clear();
        }
        for touched in touched {
            if touched.owner == cluster.catalogue().me() {
                self.check_hidden(node, touched)?;
                continue;
            }
            let replica = cluster.catalogue().replica(touched.owner);
            let active = cluster.membership().active().get(&touched.owner);
            if let Some(replica) = replica.filter(|replica| replica.is_shown())
                && active.is_none_or(|active| active.epoch != replica.section.epoch)
            {
                let owner = self.name(touched.owner);
                let what = format!("owner={owner} epoch={}", replica.section.epoch);
                return Err(violation("S6", "shown-without-member", node, what));
            }
            let owner = self.table.owner(touched.owner, now);
            if let Some(step) = self.table.holds(node, owner, replica, now) {
                self.step(node, &step, now)?;
            }
            self.note_retention(node, owner, replica.is_some(), active.is_some(), now);
        }
        Ok(())
    }

    fn departs(&mut self, owner: usize, why: Departure, now: Moment) {
        let is_clear = self.weather.is_clear() || why != Departure::Leave;
        let most = if is_clear { self.bounds.leave } else { self.bounds.leave_in_loss };
        self.figures.departs(owner, why, (most, is_clear), &self.table, now);
    }

    /// A node says goodbye: it is no member from now on.
    fn leaves(&mut self, node: usize, now: Moment) {
        let owner = self.table.viewers[node].owner;
        if owner == NOBODY {
            return;
        }
        let was_member = self.table.is_judged(node);
        self.figures.lives_changed();
        // Who leaves need not hear of those who leave with it.
        self.figures.viewer_ends(node, &self.table, now);
        self.table.dismiss(owner, now);
        let it = &mut self.table.owners[owner];
        it.left_epoch = Some(it.epoch());
        if was_member && self.weather.has_good_links() && self.weather.calm_since().is_some() {
            self.departs(owner, Departure::Leave, now);
        }
        self.lives_changed_at = now;
        self.note_agreement(now);
    }

    /// A node hides one of its producers only where somebody asked for it.
    fn check_hidden(&self, node: usize, touched: &Touched) -> Result<(), Violation> {
        for touch in &touched.touches {
            let value = touch.after.as_ref().and_then(|entry| entry.value.as_ref());
            let Some(Value::Registered { tombstoned_at_ns: Some(_) }) = value else { continue };
            let topic = touch.key.topic.to_string();
            if self.has_clones || self.hidden.contains(&(node, topic.clone())) {
                continue;
            }
            return Err(violation("V2", "hidden-unasked", node, format!("topic={topic}")));
        }
        Ok(())
    }

    fn note_retention(&mut self, node: usize, owner: usize, held: bool, active: bool, now: Moment) {
        let detached = &mut self.nodes[node].detached;
        let known = detached.iter().position(|(known, _)| *known == owner);
        match (held && !active, known) {
            (true, None) => detached.push((owner, ms(now))),
            (false, Some(at)) => {
                detached.swap_remove(at);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// A cell changed.
    fn step(&mut self, node: usize, step: &Step, now: Moment) -> Result<(), Violation> {
        let took = self.figures.step(node, step, &self.table, now);
        self.note_agreement(now);
        took.map_or(Ok(()), |took| Err(self.slow_goodbye(node, step.owner, took)))
    }

    fn slow_goodbye(&self, node: usize, owner: usize, took: Duration) -> Violation {
        let who = self.table.owners[owner].node;
        let what = format!("peer={who} since={took:.2?}");
        violation("V7", "slow-goodbye", node, what)
    }

    /// Keeps the moments of agreement.
    fn note_agreement(&mut self, now: Moment) {
        if !self.table.is_agreed() {
            (self.members_agreed, self.lookups_agreed) = (None, None);
            return;
        }
        if self.agreed_in_calm.is_none() && self.weather.calm_since().is_some() {
            self.agreed_in_calm = Some(now);
        }
        if self.healed_at.is_some() {
            self.members_agreed.get_or_insert(now);
            if self.lookups_agreed.is_none() && self.table.is_current() {
                self.lookups_agreed = Some(now);
            }
        }
    }

    pub(super) fn sent(
        &mut self,
        node: usize,
        to: SocketAddr,
        bytes: &[u8],
        is_stream: bool,
        cluster: Option<&Cluster>,
        now: Moment,
    ) -> Result<(), Violation> {
        if is_stream {
            return self.traffic.wrote_frame(node, bytes);
        }
        let is_vouched = self.has_vouched(node, to);
        self.traffic.sent(node, to, bytes, is_vouched, cluster, now)
    }

    /// A node opens a stream.
    pub(super) fn knocked(&mut self, node: usize, now: Moment) {
        self.nodes[node].knocked_at = now;
    }

    pub(super) fn received(&mut self, node: usize, from: SocketAddr, bytes: usize) {
        if !self.has_vouched(node, from) {
            self.traffic.received(node, from, bytes);
        }
    }

    /// Whether a member at `node` has, or had, this address. A node's own twin is in no list.
    fn has_vouched(&self, node: usize, addr: SocketAddr) -> bool {
        if self.has_clones {
            return true;
        }
        let vouched = &self.nodes[node].vouched;
        index_of(addr)
            .is_some_and(|at| vouched.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1))
    }

    pub(super) fn fault(&mut self, index: usize, begins: bool, now: Moment) {
        let was_undisturbed = self.weather.is_undisturbed();
        self.weather.fault(index, begins, now);
        if self.weather.is_undisturbed() && was_undisturbed {
            return;
        }
        self.figures.disturbed();
        if self.weather.calm_since().is_none() {
            self.agreed_in_calm = None;
        }
        if !begins || !self.weather.is_alone(index) {
            return;
        }
        let Some(timed) = self.plan.faults.get(index) else { return };
        match &timed.fault {
            Fault::Pause { node } => {
                let owner = self.table.viewers[*node].owner;
                if owner != NOBODY && self.table.is_judged(*node) {
                    self.departs(owner, Departure::Pause, now);
                }
            }
            Fault::Partition(Partition::Split(groups)) => {
                let mut sides = vec![groups.len(); self.plan.nodes];
                for (side, nodes) in groups.iter().enumerate() {
                    for &node in nodes {
                        if let Some(place) = sides.get_mut(node) {
                            *place = side;
                        }
                    }
                }
                self.figures.set_sides(sides);
                for owner in 0..self.table.owners.len() {
                    if self.table.owners[owner].standing == Standing::Member {
                        self.departs(owner, Departure::Cut, now);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn healed(&mut self, now: Moment) {
        self.healed_at = Some(now);
        self.weather.healed(self.plan.core.is_some(), now);
        if let Some(core) = self.plan.core.clone() {
            self.figures.disturbed();
            self.table.restrict(&core, now);
        }
        self.note_agreement(now);
    }

    pub(super) fn look(
        &mut self,
        nodes: &[NodeView<'_>],
        _: &Network,
        now: Moment,
    ) -> Result<(), Violation> {
        self.check_probes(nodes)?;
        self.check_knocks(nodes, now)?;
        self.check_retention(nodes, now)?;
        let late = self.figures.overdue(now).next();
        if let Some((owner, age)) = late {
            return Err(self.slow_goodbye(self.table.owners[owner].node, owner, age));
        }
        self.look_at_times(nodes, now)
    }

    /// The rules about how long what is wrong has been so.
    fn look_at_times(&mut self, nodes: &[NodeView<'_>], now: Moment) -> Result<(), Violation> {
        self.check_agreement(nodes, now)?;
        if self.is_time_to_blame(now) {
            self.watched.insert("V5");
        }
        if self.is_overdue_watched(now) {
            self.watched.insert("V1");
            self.check_overdue(nodes, now)?;
        }
        Ok(())
    }

    pub(super) fn lookup(
        &mut self,
        node: usize,
        topic: &str,
        cluster: &Cluster,
        _: Moment,
    ) -> Result<(), Violation> {
        self.nodes[node].answered.check(node, topic, cluster)
    }

    pub(super) fn finish(
        &mut self,
        nodes: &[NodeView<'_>],
        now: Moment,
        stats: &Stats,
    ) -> Result<(), Violation> {
        self.check_agreement(nodes, now)?;
        self.check_idle(stats, now)
    }

    /// What was measured until now.
    pub(super) fn measured(&mut self, now: Moment, stats: &mut Stats) {
        let after = |at: Option<Moment>| Some(at?.since(self.healed_at?));
        stats.members_agreed = after(self.members_agreed);
        stats.lookups_agreed = after(self.lookups_agreed);
        stats.staleness_ms = std::mem::take(&mut self.figures.staleness_ms);
        stats.gone_ms = std::mem::take(&mut self.figures.gone_ms);
        stats.renewals = self.traffic.renewals;
        stats.false_downs = self.false_downs;
        stats.idle_bytes = self.idle(stats, now).map_or(0.0, |(average, _)| average);
        let watched = self.watched.iter().map(|rule| (*rule).to_owned());
        stats.watched = watched.collect();
    }

    /// The node that has, or had, this id; for people.
    fn name(&self, id: NodeId) -> String {
        match self.table.find(id).map(|owner| self.table.owners[owner].node) {
            None | Some(NOBODY) => format!("unknown-{id}"),
            Some(node) => node.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;

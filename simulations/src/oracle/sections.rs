//! What owners wrote, and what copies may hold.

mod bounds;
mod copies;
mod life;
mod rows;
mod rules;
#[cfg(test)]
mod tests;
mod truth;

use std::collections::BTreeMap;

use grapevine_gossip::NodeId;
use grapevine_gossip::audit::Touched;
use grapevine_gossip::catalogue::Catalogue;
use grapevine_gossip::cluster::{Cluster, ClusterEvent};
use grapevine_gossip::envelope::claimed_sender;
use grapevine_protocol::Moment;

use crate::outcome::Violation;
use crate::plan::{DiskFate, DiskTrouble, Fault, Plan};
use crate::world::{Cause, Deed, NodeView};

use copies::Copied;
use life::Life;
use rows::Rows;
use rules::{AHEAD, Broken, EPOCH, OUTSIDER, UNDEAD};
use truth::{LogId, Owner, Truth};

pub(super) use rules::RULES;

/// Nodes whose bounds are checked at each look, all of them if there are fewer.
const SIZED_AT_ONCE: usize = 32;

/// Every section as its owner wrote it, and what each node holds of it.
///
/// What is held is kept as an epoch and a version only: with the log that says what must be there,
/// and 16 bytes for each node and owner, a thousand nodes fit in little memory.
#[derive(Debug)]
pub(super) struct Sections {
    truth: Truth,
    /// Processes that run, by node.
    lives: Vec<Option<Box<Life>>>,
    /// Nodes whose disk may have shown them an older epoch than they had.
    doubted: Vec<bool>,
    /// Faults of the plan that do that, with the nodes concerned.
    doubts: Vec<(usize, [usize; 2])>,
    /// By node: what its next process finds on the disk.
    found: Vec<Option<(NodeId, u64)>>,
    /// By node: who its last process was, and in which epoch.
    last: Vec<Option<(NodeId, u64)>>,
    /// Versions that an event put into a copy; kept for its memory.
    put: Vec<u64>,
    /// Times that everyone was looked at.
    looks: usize,
}

impl Sections {
    pub(super) fn new(plan: &Plan) -> Self {
        let doubts = plan.faults.iter().enumerate().filter_map(|(index, timed)| {
            let nodes = match &timed.fault {
                Fault::Crash { node, disk: DiskFate::CloneOf(of), .. } => [*node, *of],
                Fault::Crash { node, disk: DiskFate::Old(_) | DiskFate::Lose, .. }
                | Fault::Disk { node, trouble: DiskTrouble::Torn(_) | DiskTrouble::FsyncLies } => {
                    [*node, *node]
                }
                _ => return None,
            };
            Some((index, nodes))
        });
        Self {
            truth: Truth::default(),
            lives: (0..plan.nodes).map(|_| None).collect(),
            doubted: vec![false; plan.nodes],
            doubts: doubts.collect(),
            found: vec![None; plan.nodes],
            last: vec![None; plan.nodes],
            put: Vec::new(),
            looks: 0,
        }
    }

    pub(super) fn started(&mut self, node: usize, catalogue: &Catalogue) {
        let (id, epoch) = (catalogue.me(), catalogue.own().epoch);
        let owner = self.truth.owner(id, node);
        let lost = self.lost_epoch(node, id);
        let (log, broken) = self.begin(owner, epoch, node, None);
        let broken = broken.or(lost);
        self.lives[node] = Some(Box::new(Life {
            id,
            owner,
            log,
            epoch,
            durable: epoch,
            has_stopped: false,
            rows: Rows::default(),
            held: Vec::new(),
            left: Default::default(),
            dropped: Vec::new(),
            broken,
        }));
    }

    pub(super) fn ended(&mut self, node: usize) {
        if let Some(life) = self.lives[node].take() {
            self.last[node] = Some((life.id, life.epoch));
        }
    }

    /// What a process that is about to start finds on its disk.
    pub(super) fn found(&mut self, node: usize, id: NodeId, epoch: Option<u64>) {
        self.found[node] = Some((id, epoch.unwrap_or(0)));
    }

    /// The last process of `node` used an epoch that is not on the disk.
    fn lost_epoch(&mut self, node: usize, id: NodeId) -> Option<Broken> {
        let (_, found) = self.found[node].take().filter(|(found, _)| *found == id)?;
        let (_, epoch) = self.last[node].filter(|(last, _)| *last == id)?;
        let is_lost = found < epoch && !self.doubted[node];
        is_lost.then(|| Broken::new(&EPOCH, format!("epoch={epoch} found={found}")))
    }

    /// The node's disk has this epoch.
    pub(super) fn persisted(&mut self, node: usize, epoch: u64) {
        if let Some(life) = &mut self.lives[node] {
            life.durable = epoch;
        }
    }

    /// Somebody did something at the node.
    pub(super) fn did(&mut self, node: usize, deed: &Deed<'_>, now: Moment) {
        if let Some(life) = &mut self.lives[node] {
            life.rows.did(deed, now);
        }
    }

    pub(super) fn fault(&mut self, index: usize) {
        for (_, nodes) in self.doubts.iter().filter(|(fault, _)| *fault == index) {
            for &node in nodes {
                if let Some(doubted) = self.doubted.get_mut(node) {
                    *doubted = true;
                }
            }
        }
    }

    /// A life begins to write in an epoch; what is wrong with that.
    fn begin(
        &mut self,
        owner: Owner,
        epoch: u64,
        node: usize,
        before: Option<LogId>,
    ) -> (LogId, Option<Broken>) {
        let Some(log) = self.truth.find(owner, epoch) else {
            return (self.truth.begin(owner, epoch, node, before), None);
        };
        let other = self.truth.log(log).node;
        self.truth.log_mut(log).is_contested = true;
        let is_excused = self.doubted[node] || self.doubted[other];
        let what = format!("epoch={epoch} used-by={other} versions={}", self.truth.log(log).head());
        (log, (!is_excused).then(|| Broken::new(&EPOCH, what)))
    }

    /// Whether there was nothing to examine: a second event like it has nothing either.
    pub(super) fn handled(
        &mut self,
        node: usize,
        cluster: &Cluster,
        touched: &[Touched],
        now: Moment,
        cause: Cause,
    ) -> Result<bool, Violation> {
        if touched.is_empty() && self.is_as_before(node, cluster.catalogue()) {
            return Ok(true);
        }
        let left = cluster.membership().left();
        self.examine(node, cluster.catalogue(), left, touched, now, cause)
            .map_err(|broken| broken.at(node))?;
        Ok(false)
    }

    /// Whether there is nothing to examine after an event that touched no section: the node's own
    /// is in the epoch and at the version it had, nobody did anything there, and nothing is known
    /// to be wrong. Most events are of that kind.
    fn is_as_before(&mut self, node: usize, catalogue: &Catalogue) -> bool {
        let Some(life) = &mut self.lives[node] else { return true };
        life.dropped.clear();
        let (own, log) = (catalogue.own(), self.truth.log(life.log));
        life.broken.is_none()
            && (own.epoch, own.ver) == (life.epoch, log.head())
            && !life.rows.has_changed()
    }

    /// Looks at what an event did to a node's sections. `left`: who left, and in which epoch.
    fn examine(
        &mut self,
        node: usize,
        catalogue: &Catalogue,
        left: &BTreeMap<NodeId, u64>,
        touched: &[Touched],
        now: Moment,
        cause: Cause,
    ) -> Result<(), Broken> {
        let Some(mut life) = self.lives[node].take() else { return Ok(()) };
        let result = match life.broken.take() {
            Some(broken) => Err(broken),
            None => self.examine_life(node, &mut life, catalogue, touched, now, cause),
        };
        let result = result.and_then(|()| {
            life.dropped.clear();
            let me = life.id;
            let mut others = touched.iter().filter(|touched| touched.owner != me);
            others.try_for_each(|touched| self.examine_copy(&mut life, catalogue, left, touched))
        });
        self.lives[node] = Some(life);
        result
    }

    /// The node's own section.
    fn examine_life(
        &mut self,
        node: usize,
        life: &mut Life,
        catalogue: &Catalogue,
        touched: &[Touched],
        now: Moment,
        cause: Cause,
    ) -> Result<(), Broken> {
        let own = catalogue.own();
        if own.epoch != life.epoch {
            if own.epoch != life.durable {
                let what = format!("epoch={} durable={}", own.epoch, life.durable);
                return Err(Broken::new(&EPOCH, what));
            }
            let (log, broken) = self.begin(life.owner, own.epoch, node, Some(life.log));
            (life.log, life.epoch) = (log, own.epoch);
            broken.map_or(Ok(()), Err)?;
        }
        let log = self.truth.log_mut(life.log);
        if let Some(touched) = touched.iter().find(|touched| touched.owner == life.id) {
            life::take_writes(log, own, &touched.touches, cause)?;
            for touch in &touched.touches {
                life.rows.check(&touch.key, own, now)?;
            }
        }
        if own.ver != log.head() && !log.is_contested {
            let what = format!("ver={} written={} cause={cause:?}", own.ver, log.head());
            return Err(Broken::new(&OUTSIDER, what));
        }
        life.rows.check_changed(own, now)
    }

    /// The node's copy of another's section.
    fn examine_copy(
        &mut self,
        life: &mut Life,
        catalogue: &Catalogue,
        left: &BTreeMap<NodeId, u64>,
        touched: &Touched,
    ) -> Result<(), Broken> {
        let replica = catalogue.replica(touched.owner);
        let Some(owner) = self.truth.known(touched.owner) else {
            let ver = replica.map_or(0, |replica| replica.section.ver);
            let what = format!("owner={} ver={ver} written=0", touched.owner);
            return if ver == 0 { Ok(()) } else { Err(Broken::new(&AHEAD, what)) };
        };
        let Some(replica) = replica else {
            if let Some(epoch) = life.held(owner).drop_it(&self.truth) {
                match left.get(&touched.owner) {
                    Some(&left) if left >= epoch => {
                        life.left.insert(owner, epoch);
                    }
                    Some(_) => {}
                    None => life.dropped.push((owner, epoch)),
                }
            }
            return Ok(());
        };
        let section = &replica.section;
        let is_doubted = self.truth.nodes(owner).iter().any(|&node| self.doubted[node]);
        let copied = Copied { owner, section, touches: &touched.touches, is_doubted };
        copied.check(&self.truth, life.held(owner), &mut self.put)?;
        if let Some(&left) = life.left.get(&owner)
            && section.ver > 0
            && section.epoch <= left
            && replica.is_shown()
            && !is_doubted
        {
            let node = self.truth.nodes(owner).last().copied().unwrap_or_default();
            let what = format!("owner={node} epoch={} left={left}", section.epoch);
            return Err(Broken::new(&UNDEAD, what));
        }
        Ok(())
    }

    pub(super) fn sent(&self, node: usize, bytes: &[u8]) -> Result<(), Violation> {
        let (Some(life), Some(sender)) = (&self.lives[node], claimed_sender(bytes)) else {
            return Ok(());
        };
        life.check_sender(sender).map_err(|broken| broken.at(node))
    }

    pub(super) fn event(&mut self, node: usize, event: &ClusterEvent) {
        let Some(life) = &mut self.lives[node] else { return };
        match event {
            ClusterEvent::NodeIdConflict => life.has_stopped = true,
            ClusterEvent::MemberLeft(id) => {
                let Some(owner) = self.truth.known(*id) else { return };
                let mut dropped = life.dropped.iter().filter(|(dropped, _)| *dropped == owner);
                if let Some(&(_, epoch)) = dropped.next_back() {
                    life.left.insert(owner, epoch);
                }
            }
            ClusterEvent::Synced
            | ClusterEvent::MemberUp(_)
            | ClusterEvent::MemberDown(_)
            | ClusterEvent::Left => {}
        }
    }

    /// The run is over: the index of topics holds no name that nobody has.
    pub(super) fn finish(&self, nodes: &[NodeView<'_>]) -> Result<(), Violation> {
        for (node, view) in nodes.iter().enumerate() {
            let unowned = view.cluster.map_or(0, |cluster| cluster.catalogue().unowned_topics());
            if unowned > 0 {
                return Err(bounds::unowned(unowned).at(node));
            }
        }
        Ok(())
    }

    pub(super) fn look(&mut self, nodes: &[NodeView<'_>]) -> Result<(), Violation> {
        // To count what a node holds takes as long as there are nodes: of many, some each time.
        let every = 1 + nodes.len() / SIZED_AT_ONCE;
        self.looks += 1;
        for (node, view) in nodes.iter().enumerate().skip(self.looks % every).step_by(every) {
            if let Some(cluster) = view.cluster {
                bounds::check(&cluster.sizes(), self.truth.owners())
                    .map_err(|broken| broken.at(node))?;
            }
        }
        Ok(())
    }
}

//! What nodes say of their members as they come and go.

use std::time::Duration;

use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::{Cluster, ClusterEvent};
use grapevine_gossip::identity::Identity;
use grapevine_protocol::Moment;

use super::table::{NOBODY, Standing};
use super::{Views, lookups};
use crate::oracle::violation;
use crate::outcome::Violation;

/// Nothing may have been wrong for so long before a death that is no death is blamed on the core:
/// longer than any suspicion lasts.
const CALM_BEFORE_BLAME: Duration = Duration::from_secs(8);

impl Views {
    /// A core said something to the rest of its node.
    pub(in crate::oracle) fn event(
        &mut self,
        node: usize,
        event: &ClusterEvent,
        cluster: Option<&Cluster>,
        now: Moment,
    ) -> Result<(), Violation> {
        match event {
            ClusterEvent::MemberUp(id) => self.member_up(node, id, now),
            ClusterEvent::MemberDown(id) => self.member_down(node, id, cluster, now),
            ClusterEvent::MemberLeft(id) => {
                self.member_left(node, *id, cluster, now);
                Ok(())
            }
            ClusterEvent::NodeIdConflict => self.conflict(node, now),
            ClusterEvent::Synced | ClusterEvent::Left => Ok(()),
        }
    }

    fn member_up(&mut self, node: usize, id: &Identity, now: Moment) -> Result<(), Violation> {
        self.nodes[node].vouches(id.addr.socket());
        self.traffic.vouched(node, id.addr.socket());
        let owner = self.table.owner(id.node, now);
        let left = self.nodes[node].left.iter();
        let left = left.filter(|(known, epoch)| *known == owner && *epoch >= id.epoch);
        // Of twins one leaves in the other's name.
        if let Some((_, epoch)) = left.max().filter(|_| !self.has_clones) {
            let what = format!("peer={} epoch={} left={epoch}", self.name(id.node), id.epoch);
            return Err(violation("S6", "listed-after-leaving", node, what));
        }
        match self.table.lists(node, id.node, Some(id.epoch), now) {
            Some(step) => self.step(node, &step, now),
            None => Ok(()),
        }
    }

    fn member_left(&mut self, node: usize, id: NodeId, cluster: Option<&Cluster>, now: Moment) {
        let owner = self.table.owner(id, now);
        let it = &mut self.table.owners[owner];
        // Which life is meant is in the node's list, unless it does not keep one.
        let listed = cluster.and_then(|cluster| cluster.membership().left().get(&id).copied());
        let Some(epoch) = listed.or(it.left_epoch) else { return };
        if it.standing == Standing::Gone && epoch == it.epoch() {
            it.left_at.get_or_insert(now);
        }
        self.nodes[node].left.push((owner, epoch));
    }

    fn member_down(
        &mut self,
        node: usize,
        id: &Identity,
        cluster: Option<&Cluster>,
        now: Moment,
    ) -> Result<(), Violation> {
        if self.is_blamed(node, id, now) {
            self.false_downs += 1;
            // A scenario that allows for some has them counted; the sum is compared at the end.
            if self.plan.expect.false_down.unwrap_or(0) == 0 {
                let what = format!("peer={} renew={}", self.name(id.node), id.renew);
                return Err(violation("V5", "declared-dead", node, what));
            }
        }
        if let Some(step) = self.table.lists(node, id.node, None, now) {
            self.step(node, &step, now)?;
        }
        cluster.map_or(Ok(()), |cluster| lookups::check_one_of(node, id.node, cluster))
    }

    /// Whether nothing explains that `node` takes a live member for dead.
    fn is_blamed(&mut self, node: usize, id: &Identity, now: Moment) -> bool {
        let owner = self.table.owner(id.node, now);
        let owner = &self.table.owners[owner];
        let is_alive = owner.standing == Standing::Member && owner.epoch() == id.epoch;
        is_alive && self.table.is_judged(node) && self.is_time_to_blame(now)
    }

    /// Nothing has been wrong for so long that nobody may take a live member for dead.
    pub(super) fn is_time_to_blame(&self, now: Moment) -> bool {
        self.weather.has_good_links()
            && !self.weather.is_core_healed()
            && self.weather.calm_since().is_some_and(|at| now.since(at) >= CALM_BEFORE_BLAME)
            && self.agreed_in_calm.is_some_and(|at| now.since(at) >= CALM_BEFORE_BLAME)
            && !self.traffic.is_any_spent(now)
    }

    /// A node stops because another seems to have its id.
    fn conflict(&mut self, node: usize, now: Moment) -> Result<(), Violation> {
        self.nodes[node].has_stopped = true;
        let owner = self.table.viewers[node].owner;
        if owner != NOBODY {
            self.table.dismiss(owner, now);
        }
        if self.has_clones {
            return Ok(());
        }
        let what = "reason=node-id-conflict twins=0".to_owned();
        Err(violation("L3", "exiled", node, what))
    }
}

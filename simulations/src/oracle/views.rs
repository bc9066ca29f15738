//! Who is listed where, how soon, and at what cost.

use std::net::SocketAddr;

use grapevine_gossip::audit::Touched;
use grapevine_gossip::cluster::{Cluster, ClusterEvent};
use grapevine_gossip::message::{DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX};
use grapevine_protocol::Moment;

use super::violation;
use crate::network::Network;
use crate::outcome::{Stats, Violation};
use crate::plan::Plan;
use crate::rules::Rule;
use crate::world::{Cause, End, NodeView};

/// The rules that this file watches.
pub(super) const RULES: &[Rule] = &[];

/// What everyone shows, and since when.
#[derive(Debug)]
pub(super) struct Views {
    healed_at: Option<Moment>,
    core: Option<Vec<usize>>,
    agreed_at: Option<Moment>,
}

impl Views {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { healed_at: None, core: plan.core.clone(), agreed_at: None }
    }

    pub(super) fn started(&mut self, _: usize, _: SocketAddr, _: &Cluster, _: Moment) {}

    pub(super) fn ended(&mut self, _: usize, _: Moment, _: End) {}

    pub(super) fn wrote(&mut self, _: usize, _: &Cluster, _: Moment) {}

    pub(super) fn handled(
        &mut self,
        _: usize,
        _: &Cluster,
        _: &[Touched],
        _: Moment,
        _: Cause,
    ) -> Result<(), Violation> {
        Ok(())
    }

    pub(super) fn sent(
        &mut self,
        node: usize,
        _: SocketAddr,
        bytes: &[u8],
        is_stream: bool,
        _: Option<&Cluster>,
        _: Moment,
    ) -> Result<(), Violation> {
        let most = if is_stream { FRAME_BYTES_MAX } else { DATAGRAM_BYTES_MAX };
        if bytes.len() > most {
            return Err(violation("B1", "too-large", node, format!("bytes={}", bytes.len())));
        }
        Ok(())
    }

    pub(super) fn event(&mut self, _: usize, _: &ClusterEvent, _: Moment) -> Result<(), Violation> {
        Ok(())
    }

    pub(super) fn fault(&mut self, _: usize, _: bool, _: Moment) {}

    pub(super) fn healed(&mut self, now: Moment) {
        self.healed_at = Some(now);
    }

    pub(super) fn look(
        &mut self,
        nodes: &[NodeView<'_>],
        _: &Network,
        now: Moment,
    ) -> Result<(), Violation> {
        if self.healed_at.is_some() {
            match self.disagreement(nodes) {
                None => self.agreed_at = self.agreed_at.or(Some(now)),
                Some(_) => self.agreed_at = None,
            }
        }
        Ok(())
    }

    pub(super) fn lookup(
        &mut self,
        _: usize,
        _: &str,
        _: &Cluster,
        _: Moment,
    ) -> Result<(), Violation> {
        Ok(())
    }

    pub(super) fn finish(
        &mut self,
        nodes: &[NodeView<'_>],
        _: Moment,
        stats: &mut Stats,
    ) -> Result<(), Violation> {
        let Some(healed_at) = self.healed_at else { return Ok(()) };
        if let Some((node, what)) = self.disagreement(nodes) {
            return Err(violation("L1", "disagreement", node, what));
        }
        let after = self.agreed_at.map(|at| at.since(healed_at));
        (stats.members_agreed, stats.lookups_agreed) = (after, after);
        Ok(())
    }

    fn disagreement(&self, nodes: &[NodeView<'_>]) -> Option<(usize, String)> {
        let concerned: Vec<(usize, &NodeView<'_>)> = nodes
            .iter()
            .enumerate()
            .filter(|(at, _)| self.core.as_ref().is_none_or(|core| core.contains(at)))
            .filter(|(_, node)| !node.is_stranger && !node.has_left)
            .collect();
        for &(index, node) in &concerned {
            let Some(cluster) = node.cluster else { continue };
            for (other, peer) in concerned.iter().filter(|(at, _)| *at != index) {
                let Some(own) = peer.cluster.map(|peer| peer.catalogue().own()) else { continue };
                let active = cluster.membership().active().get(&peer.id).map(|id| id.epoch);
                if active != Some(own.epoch) {
                    return Some((index, format!("peer={other} active={active:?}")));
                }
                let held = cluster.catalogue().section(peer.id);
                if held.is_none_or(|held| !held.live().eq(own.live())) {
                    return Some((index, format!("owner={other} other-keys")));
                }
            }
        }
        None
    }
}

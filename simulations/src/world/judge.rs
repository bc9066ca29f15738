//! The rules that are checked until [`crate::oracle`] does so: S1 to S5, S9, B1 and L1.

use std::net::SocketAddr;
use std::time::Duration;

use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::{Cluster, ClusterEvent};
use grapevine_gossip::message::{DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX};
use grapevine_protocol::Moment;

use super::{Cause, End, NodeView};
use crate::first::oracle::{Oracle as Sections, Violation as First};
use crate::outcome::{Stats, Violation};
use crate::plan::Plan;

#[derive(Debug)]
pub(super) struct Oracle {
    sections: Sections,
    healed_at: Option<Moment>,
    core: Option<Vec<usize>>,
    agreed_at: Option<Moment>,
    /// Its checks cost too much in large clusters.
    is_small: bool,
}

impl Oracle {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            sections: Sections::default(),
            healed_at: None,
            core: plan.core.clone(),
            agreed_at: None,
            is_small: plan.nodes <= 12,
        }
    }

    pub(super) fn started(&mut self, _: usize, id: NodeId, _: SocketAddr, _: u64, _: Moment) {
        self.sections.begin_life(id);
    }

    pub(super) fn ended(&mut self, node: usize, _: Moment, _: End) {
        self.sections.forget_beliefs(node);
    }

    pub(super) fn wrote(&mut self, node: usize, cluster: &Cluster, _: Moment) {
        drop(self.sections.record(node, cluster, true));
    }

    pub(super) fn handled(
        &mut self,
        node: usize,
        cluster: &mut Cluster,
        _: Moment,
        cause: Cause,
    ) -> Result<(), Violation> {
        if !self.is_small {
            return Ok(());
        }
        let may_write = !matches!(cause, Cause::Frame | Cause::Stream);
        self.sections.record(node, cluster, may_write).map_err(translated)?;
        self.sections.check(node, cluster).map_err(translated)
    }

    pub(super) fn sent(
        &mut self,
        node: usize,
        _: SocketAddr,
        bytes: &[u8],
        is_stream: bool,
        _: Moment,
    ) -> Result<(), Violation> {
        let most = if is_stream { FRAME_BYTES_MAX } else { DATAGRAM_BYTES_MAX };
        if bytes.len() > most {
            return Err(violation("B1", node, format!("bytes={}", bytes.len())));
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

    pub(super) fn look(&mut self, nodes: &[NodeView<'_>], now: Moment) -> Result<(), Violation> {
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
            return Err(violation("L1", node, what));
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

fn violation(rule: &str, node: usize, what: String) -> Violation {
    let name = "broken".to_owned();
    Violation { rule: rule.to_owned(), name, node, what, at: Duration::ZERO, event: 0 }
}

fn translated(first: First) -> Violation {
    violation(first.rule, first.node, first.what)
}

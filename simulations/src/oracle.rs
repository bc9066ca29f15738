//! What is really so, and the rules that what nodes believe must keep.
//!
//! The world tells the oracle everything it does and, after every input, lets it look at the core
//! that was called. Rules about one section are checked on the keys that were touched, rules about
//! everyone each [`LOOK_PERIOD`](crate::world::LOOK_PERIOD).

mod sections;
mod views;

use std::net::SocketAddr;
use std::time::Duration;

use grapevine_gossip::NodeId;
use grapevine_gossip::audit::Touched;
use grapevine_gossip::cluster::{Cluster, ClusterEvent};
use grapevine_protocol::Moment;

use crate::network::Network;
use crate::outcome::{Stats, Violation};
use crate::plan::Plan;
use crate::rules::Rule;
use crate::world::{Cause, Deed, End, NodeView};

use sections::Sections;
use views::Views;

/// Nodes up to which each has its own copy of every section. A hundred would have 10,000, which are
/// soon out of reach of a cache.
const UNSHARED_NODES_MAX: usize = 32;

/// Everything that watches a run.
#[derive(Debug)]
pub(crate) struct Oracle {
    is_sharing: bool,
    sections: Sections,
    views: Views,
    /// By node: the epoch and version of its own section, while an event that leaves them as they
    /// are and touches no other section has nothing about it to be looked at. Most are of that
    /// kind.
    at_rest: Vec<Option<(u64, u64)>>,
    /// Of two nodes with one id, what one does is looked at in the light of the other.
    has_clones: bool,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            is_sharing: plan.nodes > UNSHARED_NODES_MAX,
            sections: Sections::new(plan),
            views: Views::new(plan),
            at_rest: vec![None; plan.nodes],
            has_clones: plan.has_clones(),
        }
    }

    /// A process is about to start: what it finds on its disk of an earlier life.
    pub(crate) fn found(&mut self, node: usize, id: NodeId, epoch: Option<u64>) {
        self.sections.found(node, id, epoch);
    }

    /// A process began to talk. Nothing has been written in it yet.
    pub(crate) fn started(
        &mut self,
        node: usize,
        addr: SocketAddr,
        cluster: &mut Cluster,
        now: Moment,
    ) {
        cluster.begin_audit();
        if self.is_sharing {
            cluster.share_sections();
        }
        self.at_rest.fill(None);
        self.sections.started(node, cluster.catalogue());
        self.views.started(node, addr, cluster, now);
    }

    /// A process ended.
    pub(crate) fn ended(&mut self, node: usize, now: Moment, how: End) {
        self.at_rest.fill(None);
        self.sections.ended(node);
        self.views.ended(node, now, how);
    }

    /// An epoch is on a node's disk.
    pub(crate) fn persisted(&mut self, node: usize, epoch: u64) {
        self.at_rest[node] = None;
        self.sections.persisted(node, epoch);
    }

    /// Somebody does something at a node whose process runs; [`handled`](Self::handled) follows.
    pub(crate) fn did(&mut self, node: usize, deed: &Deed<'_>, now: Moment) {
        self.at_rest[node] = None;
        self.sections.did(node, deed, now);
    }

    /// A core was called and says which sections it may have changed: are its beliefs allowed?
    pub(crate) fn handled(
        &mut self,
        node: usize,
        cluster: &Cluster,
        touched: &[Touched],
        now: Moment,
        cause: Cause,
    ) -> Result<(), Violation> {
        self.views.called(node, cluster, now)?;
        let own = cluster.catalogue().own();
        let own = Some((own.epoch, own.ver));
        if self.at_rest[node] == own && touched.is_empty() && cause != Cause::Leave {
            return Ok(());
        }
        let is_as_before = self.sections.handled(node, cluster, touched, now, cause)?;
        self.views.handled(node, cluster, touched, now, cause)?;
        let rests = is_as_before && touched.is_empty() && !self.has_clones;
        self.at_rest[node] = own.filter(|_| rests);
        Ok(())
    }

    /// A core sends a datagram, or a frame on a stream.
    pub(crate) fn sent(
        &mut self,
        node: usize,
        to: SocketAddr,
        bytes: &[u8],
        is_stream: bool,
        cluster: Option<&Cluster>,
        now: Moment,
    ) -> Result<(), Violation> {
        self.sections.sent(node, bytes)?;
        self.views.sent(node, to, bytes, is_stream, cluster, now)
    }

    /// A core said something to the rest of its node.
    pub(crate) fn event(
        &mut self,
        node: usize,
        event: &ClusterEvent,
        cluster: Option<&Cluster>,
        now: Moment,
    ) -> Result<(), Violation> {
        self.at_rest[node] = None;
        self.sections.event(node, event);
        self.views.event(node, event, cluster, now)
    }

    /// A core opens a stream.
    pub(crate) fn knocked(&mut self, node: usize, now: Moment) {
        self.views.knocked(node, now);
    }

    /// A datagram is about to be handed to a core.
    pub(crate) fn received(&mut self, node: usize, from: SocketAddr, bytes: usize) {
        self.views.received(node, from, bytes);
    }

    /// A fault of the plan begins or ends.
    pub(crate) fn fault(&mut self, index: usize, begins: bool, now: Moment) {
        self.at_rest.fill(None);
        self.sections.fault(index);
        self.views.fault(index, begins, now);
    }

    /// Everything is mended.
    pub(crate) fn healed(&mut self, now: Moment) {
        self.views.healed(now);
    }

    /// Rules about everyone, each half second.
    pub(crate) fn look(
        &mut self,
        nodes: &[NodeView<'_>],
        network: &Network,
        now: Moment,
    ) -> Result<(), Violation> {
        self.sections.look(nodes)?;
        self.views.look(nodes, network, now)
    }

    /// A client asked `node` for a topic.
    pub(crate) fn lookup(
        &mut self,
        node: usize,
        topic: &str,
        cluster: &Cluster,
        now: Moment,
    ) -> Result<(), Violation> {
        self.views.lookup(node, topic, cluster, now)
    }

    /// The run came to its end.
    pub(crate) fn finish(
        &mut self,
        nodes: &[NodeView<'_>],
        now: Moment,
        stats: &Stats,
    ) -> Result<(), Violation> {
        self.sections.finish(nodes)?;
        self.views.finish(nodes, now, stats)
    }

    /// What was measured until now, whatever ended the run.
    pub(crate) fn measured(&mut self, now: Moment, stats: &mut Stats) {
        self.views.measured(now, stats);
    }
}

/// Rules that do not hold in any run of this plan, since the network itself, without any fault, is
/// worse than they allow for.
pub(crate) fn rules_off(plan: &Plan) -> &'static [&'static str] {
    views::rules_off(plan)
}

/// Every rule that the oracle watches, in the order to show them in.
pub(crate) fn rules() -> impl Iterator<Item = &'static Rule> {
    sections::RULES.iter().chain(views::RULES)
}

/// A broken rule; when and at which event is filled in by the world.
#[cold]
pub(crate) fn violation(rule: &str, name: &str, node: usize, what: String) -> Violation {
    Violation {
        rule: rule.to_owned(),
        name: name.to_owned(),
        node: Some(node),
        what,
        at: Duration::ZERO,
        event: 0,
    }
}

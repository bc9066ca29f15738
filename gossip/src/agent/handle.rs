//! The handle the rest of the node holds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::watches::Watch;
use super::{Shared, now_since};
use crate::NodeId;
use crate::catalogue::Catalogue;
use crate::message::Liveness;
use crate::producer::Producer;
use crate::registrar::{Now, Registrar};
use crate::section::ProducerId;
use crate::view::LookupView;

/// How long [`Handle::leave`] waits at most.
const LEAVE_MAX: Duration = Duration::from_millis(1500);

/// A node's voice in the cluster, and its ear.
///
/// Calls take one short lock and return; what they do is in this node's own answers at once and in
/// everybody's soon. Names must be valid NSQ names; others are ignored.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// This nsqd has a topic.
    pub fn topic_created(&self, topic: &str) {
        self.act(|registrar, catalogue, now| {
            registrar.register(catalogue, ProducerId::NSQD, topic, None, now.at);
        });
    }

    /// This nsqd no longer has a topic, nor any channel of it.
    pub fn topic_deleted(&self, topic: &str) {
        self.act(|registrar, catalogue, now| registrar.deleted(catalogue, topic, None, now.at));
    }

    /// This nsqd has a channel (and its topic).
    pub fn channel_created(&self, topic: &str, channel: &str) {
        self.act(|registrar, catalogue, now| {
            registrar.register(catalogue, ProducerId::NSQD, topic, Some(channel), now.at);
        });
    }

    /// This nsqd no longer has a channel.
    pub fn channel_deleted(&self, topic: &str, channel: &str) {
        self.act(|registrar, catalogue, now| {
            registrar.deleted(catalogue, topic, Some(channel), now.at);
        });
    }

    /// Describes this nsqd anew, as soon as its ports are known.
    pub fn set_producer_info(&self, mut producer: Producer) {
        if producer.remote_address.is_empty() {
            producer.remote_address = self.local_address().to_string();
        }
        self.act(|registrar, catalogue, now| registrar.set_own_producer(catalogue, producer, now));
    }

    /// This nsqd takes no new messages (`true`), or takes them again. `/nodes`, which publishers
    /// read, leaves it out meanwhile; `/lookup`, which consumers read, does not.
    pub fn set_draining(&self, draining: bool) {
        self.act(|registrar, catalogue, now| registrar.set_draining(catalogue, draining, now.at));
    }

    /// The cluster as this node sees it.
    pub fn view(&self) -> Arc<LookupView> {
        Arc::clone(&self.shared.view)
    }

    /// Waits for changes of what the view answers for `topic`; `None` if
    /// [`WATCHES_MAX`](super::WATCHES_MAX) wait already.
    pub fn watch(&self, topic: &str) -> Option<Watch> {
        self.shared.watches.watch(topic)
    }

    /// The gossip address others reach this node at, with the real port.
    pub fn local_address(&self) -> SocketAddr {
        self.shared.local_address
    }

    /// Resolves when this node has the cluster's state from one of its seeds, or has no seeds.
    pub async fn first_sync(&self) {
        // An error means that the task has ended, so there is nothing left to wait for.
        let _ = self.shared.synced.subscribe().wait_for(|is_synced| *is_synced).await;
    }

    /// Tells everyone that this node leaves and waits until they can know: at most 1.5 s.
    /// Whoever waits with [`watch`](Self::watch) is told at once.
    pub async fn leave(&self) {
        self.shared.watches.end();
        self.shared.cluster.lock().leave(now_since(self.shared.started));
        self.shared.poked.notify_one();
        let mut left = self.shared.left.subscribe();
        let _ = tokio::time::timeout(LEAVE_MAX, left.wait_for(|is_left| *is_left)).await;
    }

    /// `/topic/create` and `/channel/create` of the lookup API.
    pub fn create_name(&self, topic: &str, channel: Option<&str>) {
        self.act(|registrar, catalogue, now| {
            registrar.create_name(catalogue, topic, channel, now.at);
        });
    }

    /// `/topic/delete` of the lookup API: the topic's name and every registration, on all nodes.
    pub fn delete_topic_registrations(&self, topic: &str) {
        self.act(|registrar, catalogue, now| {
            registrar.delete_registrations(catalogue, topic, None, now.at);
        });
    }

    /// `/channel/delete` of the lookup API. False if nobody knows the channel, and nobody did until
    /// another node was told to delete it.
    pub fn delete_channel_registrations(&self, topic: &str, channel: &str) -> bool {
        let (is_known, was_known, now) = self.act(|registrar, catalogue, now| {
            let row = catalogue.row(topic);
            let is_known = row.is_some_and(|row| row.channels().any(|name| name == channel));
            if is_known {
                registrar.delete_registrations(catalogue, topic, Some(channel), now.at);
            }
            (is_known, is_remembered(catalogue, topic, channel), now.at)
        });
        let mut deletions = self.shared.deletions.lock();
        let was_there = is_known || was_known && !deletions.has(topic, channel, now);
        if was_there {
            deletions.note(topic, channel, now);
        }
        was_there
    }

    /// `/topic/tombstone` of the lookup API; `node` is `broadcast_address:http_port`.
    pub fn tombstone(&self, topic: &str, node: &str) {
        self.act(|registrar, catalogue, now| registrar.tombstone(catalogue, topic, node, now));
    }

    /// An nsqd identified itself by nsqlookupd's TCP protocol.
    pub fn producer_connected(&self, producer: Producer) -> ProducerId {
        self.act(|registrar, catalogue, now| registrar.connected(catalogue, producer, now))
    }

    /// `REGISTER`.
    pub fn producer_register(&self, producer: ProducerId, topic: &str, channel: Option<&str>) {
        self.act(|registrar, catalogue, now| {
            registrar.register(catalogue, producer, topic, channel, now.at);
        });
    }

    /// `UNREGISTER`.
    pub fn producer_unregister(&self, producer: ProducerId, topic: &str, channel: Option<&str>) {
        self.act(|registrar, catalogue, now| {
            registrar.unregister(catalogue, producer, topic, channel, now.at);
        });
    }

    /// `PING`.
    pub fn producer_seen(&self, producer: ProducerId) {
        self.act(|registrar, catalogue, now| registrar.seen(catalogue, producer, now));
    }

    /// The connection of a foreign nsqd ended.
    pub fn producer_gone(&self, producer: ProducerId) {
        self.act(|registrar, catalogue, now| registrar.gone(catalogue, producer, now.at));
    }

    /// Whether `producer` is the nsqd of a node of this cluster that is alive, this one included.
    pub fn is_member(&self, producer: &Producer) -> bool {
        let cluster = self.shared.cluster.lock();
        let catalogue = cluster.catalogue();
        let shown = catalogue.replicas().filter(|(_, replica)| replica.is_shown());
        let sections = std::iter::once(catalogue.own()).chain(shown.map(|(_, r)| &r.section));
        let mut records = sections.filter_map(|section| section.record(ProducerId::NSQD));
        records.any(|record| record.producer.cmp_address(producer).is_eq())
    }

    /// Members and counters.
    pub fn stats(&self) -> Stats {
        let cluster = self.shared.cluster.lock();
        let (membership, catalogue) = (cluster.membership(), cluster.catalogue());
        let me = membership.me();
        let members = membership.states().into_iter().map(|member| MemberStats {
            node: member.identity.node,
            address: member.identity.addr.socket(),
            state: match member.liveness {
                Liveness::Alive => "alive",
                Liveness::Suspect => "suspect",
                Liveness::Down if membership.left().contains_key(&member.identity.node) => "left",
                Liveness::Down => "down",
            },
            epoch: member.identity.epoch,
            version: catalogue.section(member.identity.node).map_or(0, |section| section.ver),
        });
        Stats {
            node: me.node,
            epoch: me.epoch,
            members: members.collect(),
            watches: self.shared.watches.count(),
            counters: cluster.counters().into_iter().collect(),
        }
    }

    /// Lets `what` write, and shows the effect in this node's own answers before returning.
    fn act<T>(&self, what: impl FnOnce(&mut Registrar, &mut Catalogue, Now) -> T) -> T {
        let now = now_since(self.shared.started);
        let mut cluster = self.shared.cluster.lock();
        let result = cluster.local(now, |registrar, catalogue| what(registrar, catalogue, now));
        cluster.publish(&self.shared.view);
        drop(cluster);
        self.shared.poked.notify_one();
        result
    }
}

/// Whether anybody has the channel, or had it until lately.
fn is_remembered(catalogue: &Catalogue, topic: &str, channel: &str) -> bool {
    let mut sections = std::iter::once(catalogue.own())
        .chain(catalogue.replicas().map(|(_, replica)| &replica.section));
    sections.any(|section| section.remembers(topic, channel))
}

/// What happened so far, for pages and metrics.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// This node.
    pub node: NodeId,
    /// The start of its process, as others know it.
    pub epoch: u64,
    /// Members it knows, itself first, then by address.
    pub members: Vec<MemberStats>,
    /// Who waits with [`Handle::watch`].
    pub watches: usize,
    /// Counters by name (`datagrams_in`, `dropped_wrong_cluster`, ...), sorted by name.
    pub counters: Vec<(&'static str, u64)>,
}

/// One member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberStats {
    /// The member.
    pub node: NodeId,
    /// Its gossip address.
    pub address: SocketAddr,
    /// `alive`, `suspect`, `down` or `left`.
    pub state: &'static str,
    /// Its epoch.
    pub epoch: u64,
    /// Version of its section here.
    pub version: u64,
}

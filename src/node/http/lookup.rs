//! The cluster as gossip sees it, in the shape of nsqlookupd's API.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use grapevine_admin::lookup::LookupSource;
use grapevine_admin::watch::TopicWatch;
use grapevine_gossip::Producer;
use grapevine_gossip::agent::Watch;
use grapevine_protocol::documents::{
    DebugProducer, LookupDocument, NodeProducer, Producer as ProducerDocument,
};
use grapevine_protocol::{ChannelName, TopicName};

use crate::node::ClusterLink;

/// Reads the gossip view, writes through the gossip handle; never waits for another node.
#[derive(Clone)]
pub(crate) struct GossipLookup {
    cluster: ClusterLink,
}

impl GossipLookup {
    pub(crate) const fn new(cluster: ClusterLink) -> Self {
        Self { cluster }
    }
}

impl LookupSource for GossipLookup {
    fn lookup(&self, topic: &str) -> Option<LookupDocument> {
        let found = self.cluster.view().lookup(topic)?;
        let producers = found.producers.iter().map(|producer| document(producer)).collect();
        Some(LookupDocument { channels: found.channels, producers })
    }

    fn topics(&self) -> Vec<String> {
        self.cluster.view().topics()
    }

    fn channels(&self, topic: &str) -> Vec<String> {
        self.cluster.view().channels(topic)
    }

    fn nodes(&self) -> Vec<NodeProducer> {
        let nodes = self.cluster.view().nodes().into_iter().map(|node| {
            let (topics, tombstones) = node.topics.into_iter().unzip();
            NodeProducer { producer: document(&node.producer), tombstones, topics }
        });
        nodes.collect()
    }

    fn debug(&self) -> BTreeMap<String, Vec<DebugProducer>> {
        let table = self.cluster.view().debug().into_iter();
        let rows = table.map(|(key, registrations)| {
            let row = registrations.into_iter().map(|registration| {
                let producer = document(&registration.producer);
                DebugProducer {
                    broadcast_address: producer.broadcast_address,
                    hostname: producer.hostname,
                    http_port: producer.http_port,
                    id: registration.id,
                    last_update: registration.last_update_ns,
                    tcp_port: producer.tcp_port,
                    tombstoned: registration.tombstoned,
                    tombstoned_at: registration.tombstoned_at_ns,
                    topology_region: producer.topology_region,
                    topology_zone: producer.topology_zone,
                    version: producer.version,
                }
            });
            (key, row.collect())
        });
        rows.collect()
    }

    fn create_topic(&self, topic: &TopicName) {
        self.cluster.handle().create_name(topic, None);
    }

    fn create_channel(&self, topic: &TopicName, channel: &ChannelName) {
        self.cluster.handle().create_name(topic, Some(channel));
    }

    fn delete_topic(&self, topic: &str) {
        self.cluster.handle().delete_topic_registrations(topic);
    }

    fn delete_channel(&self, topic: &TopicName, channel: &ChannelName) -> bool {
        self.cluster.handle().delete_channel_registrations(topic, channel)
    }

    fn tombstone(&self, topic: &str, node: &str) {
        self.cluster.handle().tombstone(topic, node);
    }

    fn age(&self) -> Option<Duration> {
        self.cluster.view().gossip_age()
    }

    fn watch(&self, topic: &str) -> Option<Box<dyn TopicWatch>> {
        let watch = self.cluster.handle().watch(topic)?;
        Some(Box::new(GossipWatch(watch)))
    }
}

/// A watch of the gossip view.
struct GossipWatch(Watch);

impl TopicWatch for GossipWatch {
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(self.0.changed())
    }
}

fn document(producer: &Producer) -> ProducerDocument {
    ProducerDocument {
        remote_address: producer.remote_address.clone(),
        hostname: producer.hostname.clone(),
        broadcast_address: producer.broadcast_address.clone(),
        tcp_port: i32::from(producer.tcp_port),
        http_port: i32::from(producer.http_port),
        version: producer.version.clone(),
        topology_zone: producer.topology_zone.clone(),
        topology_region: producer.topology_region.clone(),
    }
}

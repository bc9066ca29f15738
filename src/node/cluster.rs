//! The node's way to the others: what it registers, with gossip and with stock nsqlookupds, and
//! what it asks the cluster's view.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use grapevine_gossip::{Handle, LookupView};
use grapevine_protocol::{ChannelName, TopicName};
use tracing::warn;

use super::lookupd::Lookupds;

/// The gossip agent's handle, and the nsqlookupds to register with, if any. What is told here is
/// only noted: nothing but what is `async` waits.
#[derive(Clone)]
pub struct ClusterLink {
    handle: Handle,
    lookupds: Option<Arc<Lookupds>>,
    started: tokio::time::Instant,
}

impl ClusterLink {
    /// A link over a running agent.
    pub fn new(handle: Handle) -> Self {
        Self { handle, lookupds: None, started: tokio::time::Instant::now() }
    }

    /// The same, with stock nsqlookupds that are told the same things.
    pub fn with_lookupds(self, lookupds: Arc<Lookupds>) -> Self {
        Self { lookupds: Some(lookupds), ..self }
    }

    /// The agent.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What this node knows of the cluster.
    pub fn view(&self) -> Arc<LookupView> {
        self.handle.view()
    }

    pub(crate) fn topic_created(&self, topic: &TopicName) {
        self.handle.topic_created(topic);
        if let Some(lookupds) = &self.lookupds {
            lookupds.topic_created(topic);
        }
    }

    pub(crate) fn topic_deleted(&self, topic: &TopicName) {
        self.handle.topic_deleted(topic);
        if let Some(lookupds) = &self.lookupds {
            lookupds.topic_deleted(topic);
        }
    }

    pub(crate) fn channel_created(&self, topic: &TopicName, channel: &ChannelName) {
        self.handle.channel_created(topic, channel);
        if let Some(lookupds) = &self.lookupds {
            lookupds.channel_created(topic, channel);
        }
    }

    pub(crate) fn channel_deleted(&self, topic: &TopicName, channel: &str) {
        self.handle.channel_deleted(topic, channel);
        if let Some(lookupds) = &self.lookupds {
            lookupds.channel_deleted(topic, channel);
        }
    }

    /// Channels a new topic must have before its first message.
    pub(crate) fn channels_for_new_topic(&self, topic: &TopicName) -> Vec<String> {
        self.handle.view().channels_for_new_topic(topic)
    }

    /// The same from the stock nsqlookupds; waits for their answers as long as the timeouts of
    /// HTTP clients allow.
    pub(crate) async fn channels_at_lookupds(&self, topic: &TopicName) -> BTreeSet<ChannelName> {
        match &self.lookupds {
            Some(lookupds) => lookupds.channels(topic).await,
            None => BTreeSet::new(),
        }
    }

    /// Waits for the cluster's first answer, until `grace` after the start at most: a node that is
    /// cut off must not hold up every new topic.
    pub(crate) async fn first_sync(&self, grace: Duration) {
        if tokio::time::timeout_at(self.started + grace, self.handle.first_sync()).await.is_err() {
            warn!("no other node answered yet; a new topic starts with the channels known here");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_that_is_cut_off_waits_once_and_not_for_every_new_topic() {
        let config = grapevine_gossip::agent::Config {
            bind: ([127, 0, 0, 1], 0).into(),
            seeds: vec!["127.0.0.1:1".to_owned()],
            ..grapevine_gossip::agent::Config::default()
        };
        let link = ClusterLink::new(grapevine_gossip::agent::start(config).await.unwrap());
        let grace = Duration::from_millis(300);
        link.first_sync(grace).await;
        assert!(link.started.elapsed() >= grace, "its seed never answers");

        let asked = tokio::time::Instant::now();
        for _ in 0..100 {
            link.first_sync(grace).await;
        }
        assert!(asked.elapsed() < 20 * grace, "a hundred topics took {:?}", asked.elapsed());
    }
}

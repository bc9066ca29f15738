//! Figures of a topic, its channels and their consumers at one moment.

use std::collections::BTreeMap;

use grapevine_protocol::{ChannelName, TopicName};
use hdrhistogram::Histogram;

use crate::topic::{Now, Topic};
use crate::{Channel, ConsumerId};

/// One topic's figures; counters are since the start of the process.
#[derive(Debug)]
pub struct TopicStats {
    /// Name.
    pub name: TopicName,
    /// Messages not yet opened to channels.
    pub depth: u64,
    /// The part of `depth` beyond `--mem-queue-size`.
    pub backend_depth: u64,
    /// Messages published.
    pub message_count: u64,
    /// Bytes of their bodies.
    pub message_bytes: u64,
    /// Whether its channels get nothing new.
    pub is_paused: bool,
    /// Latencies of its channels together, in microseconds, if percentiles are configured.
    pub latency: Option<Histogram<u64>>,
    /// By name.
    pub channels: Vec<ChannelStats>,
}

/// One channel's figures.
#[derive(Debug)]
pub struct ChannelStats {
    /// Name.
    pub name: ChannelName,
    /// Messages waiting, without in-flight and deferred ones.
    pub depth: u64,
    /// The part of `depth` beyond `--mem-queue-size`.
    pub backend_depth: u64,
    /// With consumers, unanswered.
    pub in_flight_count: u64,
    /// Waiting for their time.
    pub deferred_count: u64,
    /// Handed to the channel.
    pub message_count: u64,
    /// REQs.
    pub requeue_count: u64,
    /// Deadlines passed.
    pub timeout_count: u64,
    /// Deliveries to consumers of the node's zone.
    pub zone_local_count: u64,
    /// Deliveries to consumers of the node's region.
    pub region_local_count: u64,
    /// Other deliveries.
    pub global_count: u64,
    /// Whether consumers get nothing.
    pub is_paused: bool,
    /// Latencies in microseconds, if percentiles are configured.
    pub latency: Option<Histogram<u64>>,
    /// Its consumers' figures.
    pub consumers: BTreeMap<ConsumerId, ConsumerStats>,
}

/// What a channel knows of one consumer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConsumerStats {
    /// RDY.
    pub ready_count: u64,
    /// Unanswered.
    pub in_flight_count: u64,
    /// Deliveries.
    pub message_count: u64,
    /// FINs.
    pub finish_count: u64,
    /// REQs.
    pub requeue_count: u64,
}

impl<D: grapevine_storage::Disk> Topic<D> {
    /// Figures at `now`; `wants` chooses the channels.
    pub fn stats(&mut self, now: Now, wants: &dyn Fn(&ChannelName) -> bool) -> TopicStats {
        let memory_max = self.settings.mem_queue_size;
        let is_ephemeral = self.name.is_ephemeral();
        let backend = |depth: u64, is_ephemeral: bool| match is_ephemeral {
            true => 0,
            false => depth.saturating_sub(memory_max),
        };
        let depth = self.depth();
        let released = self.released;
        let mut latency: Option<Histogram<u64>> = None;
        let mut channels = Vec::new();
        for (name, channel) in &mut self.channels {
            let channel_latency = channel.latency.as_mut().map(|latency| latency.merged(now.mono));
            if let Some(add) = &channel_latency {
                match &mut latency {
                    Some(all) => all.add(add).expect("all latencies have the same bounds"),
                    None => latency = Some(add.clone()),
                }
            }
            if wants(name) {
                let depth = channel.depth(released);
                let is_ephemeral = is_ephemeral || name.is_ephemeral();
                let mut stats = channel.stats(name, depth, backend(depth, is_ephemeral));
                stats.latency = channel_latency;
                channels.push(stats);
            }
        }
        TopicStats {
            name: self.name.clone(),
            depth,
            backend_depth: backend(depth, is_ephemeral),
            message_count: self.message_count,
            message_bytes: self.message_bytes,
            is_paused: self.is_paused,
            latency,
            channels,
        }
    }
}

impl Channel {
    fn stats(&self, name: &ChannelName, depth: u64, backend_depth: u64) -> ChannelStats {
        let consumers = self.consumers.values().map(|consumer| {
            let figures = ConsumerStats {
                ready_count: consumer.rdy,
                in_flight_count: consumer.in_flight,
                message_count: consumer.message_count,
                finish_count: consumer.finish_count,
                requeue_count: consumer.requeue_count,
            };
            (consumer.id, figures)
        });
        ChannelStats {
            name: name.clone(),
            depth,
            backend_depth,
            in_flight_count: self.in_flight.len() as u64,
            deferred_count: self.deferred.len() as u64,
            message_count: self.message_count,
            requeue_count: self.requeue_count,
            timeout_count: self.timeout_count,
            zone_local_count: self.zone_local_count,
            region_local_count: self.region_local_count,
            global_count: self.global_count,
            is_paused: self.is_paused,
            latency: None,
            consumers: consumers.collect(),
        }
    }
}

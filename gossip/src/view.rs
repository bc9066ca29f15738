//! What this node answers to `/lookup`: a projection of the catalogue, readable from any thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dashmap::DashMap;

use crate::producer::{Producer, ProducerRecord};
use crate::section::Name;

/// `tombstoned_at` of a producer that was never tombstoned: Go's zero time in `UnixNano`.
///
/// Source: `/debug` of nsqlookupd, nsqlookupd/http.go:331-356 (nsq 3103474b).
pub const NEVER_TOMBSTONED_NS: i64 = -6_795_364_578_871_345_152;

/// The answer to `/lookup?topic=`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lookup {
    /// Channel names, sorted.
    pub channels: Vec<String>,
    /// Live producers that are not tombstoned for the topic, sorted by address, each once.
    pub producers: Vec<Arc<Producer>>,
}

/// One producer of `/nodes`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeEntry {
    /// The producer.
    pub producer: Arc<Producer>,
    /// Its topics, sorted, and whether it is tombstoned for each.
    pub topics: Vec<(String, bool)>,
}

/// One registration of `/debug`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration {
    /// The producer.
    pub producer: Arc<Producer>,
    /// What identifies it at its lookup: the remote address.
    pub id: String,
    /// Wall-clock time (ns since 1970) of its last update as far as this node knows.
    pub last_update_ns: i64,
    /// Whether it is tombstoned.
    pub tombstoned: bool,
    /// Since when (ns since 1970), or [`NEVER_TOMBSTONED_NS`].
    pub tombstoned_at_ns: i64,
}

/// Wants to know which topics' answers may have changed.
pub trait TopicListener: std::fmt::Debug + Send + Sync {
    /// The answer for `topic` may have changed; the view shows it already. Must not block.
    fn changed(&self, topic: &str);
}

/// Who produces which topic, as this node sees the cluster.
///
/// Only the gossip core writes it, and readers never wait for gossip. Guards never leave this
/// file: callers get owned values, sorted.
#[derive(Debug)]
pub struct LookupView {
    topics: DashMap<Name, Arc<TopicRow>>,
    producers: ArcSwap<Vec<Arc<ProducerRecord>>>,
    started: Instant,
    /// Nanoseconds from `started` to the last digest exchange; `u64::MAX` before the first.
    exchanged: AtomicU64,
    listener: Arc<dyn TopicListener>,
}

impl LookupView {
    #[cfg_attr(not(feature = "agent"), allow(dead_code, reason = "only the agent makes one"))]
    pub(crate) fn new(started: Instant, listener: Arc<dyn TopicListener>) -> Self {
        Self {
            listener,
            topics: DashMap::new(),
            producers: ArcSwap::default(),
            started,
            exchanged: AtomicU64::new(u64::MAX),
        }
    }

    /// Channels and producers of `topic`; `None` if no node has registered it, nor its name.
    pub fn lookup(&self, topic: &str) -> Option<Lookup> {
        let row = self.row(topic)?;
        let visible = row.producers.iter().filter(|p| p.record.active && p.tombstoned_at.is_none());
        Some(Lookup {
            channels: row.channel_names(),
            producers: visible.map(|p| Arc::clone(&p.record.producer)).collect(),
        })
    }

    /// Every topic name, sorted.
    pub fn topics(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.topics.iter().map(|entry| entry.key().to_string()).collect();
        names.sort_unstable();
        names
    }

    /// Channel names of `topic`, sorted; empty if the topic is unknown.
    pub fn channels(&self, topic: &str) -> Vec<String> {
        self.row(topic).map(|row| row.channel_names()).unwrap_or_default()
    }

    /// The channels to create before the first message of a topic that is new to this node: every
    /// channel the cluster knows for it that is not ephemeral.
    pub fn channels_for_new_topic(&self, topic: &str) -> Vec<String> {
        let row = self.row(topic);
        row.iter().flat_map(|row| row.lasting_channels()).map(str::to_owned).collect()
    }

    /// Every live producer that takes messages, once, sorted by address, with its topics.
    pub fn nodes(&self) -> Vec<NodeEntry> {
        let mut topics: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
        for entry in &self.topics {
            for registered in &entry.value().producers {
                topics
                    .entry(registered.record.producer.address())
                    .or_default()
                    .insert(entry.key().to_string(), registered.tombstoned_at.is_some());
            }
        }
        let producers = self.producers.load_full();
        producers
            .iter()
            .filter(|record| record.active && !record.draining)
            .map(|record| NodeEntry {
                producer: Arc::clone(&record.producer),
                topics: topics
                    .remove(&record.producer.address())
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
            })
            .collect()
    }

    /// The registration table as `/debug` shows it: keys are `client::`, `topic:<topic>:` and
    /// `channel:<topic>:<channel>`; keys without producers are left out.
    pub fn debug(&self) -> BTreeMap<String, Vec<Registration>> {
        let mut table: BTreeMap<String, Vec<Registration>> = BTreeMap::new();
        let clients: Vec<_> =
            self.producers.load().iter().map(|record| registration(record, None)).collect();
        table.insert("client::".to_owned(), clients);
        for entry in &self.topics {
            let (topic, row) = (entry.key(), entry.value());
            let producers = row.producers.iter();
            table.insert(
                format!("topic:{topic}:"),
                producers.map(|p| registration(&p.record, p.tombstoned_at)).collect(),
            );
            for (channel, producers) in &row.channels {
                let records = producers.records.iter();
                table.insert(
                    format!("channel:{topic}:{channel}"),
                    records.map(|record| registration(record, None)).collect(),
                );
            }
        }
        table.retain(|_, registrations| !registrations.is_empty());
        table
    }

    /// Time since this node last compared its catalogue with another's; `None` before the first.
    pub fn gossip_age(&self) -> Option<Duration> {
        let at = self.exchanged.load(Ordering::Relaxed);
        (at != u64::MAX).then(|| self.started.elapsed().saturating_sub(Duration::from_nanos(at)))
    }

    pub(crate) fn set_topic(&self, topic: &Name, row: Option<TopicRow>) {
        match row {
            Some(row) => {
                self.topics.insert(Arc::clone(topic), Arc::new(row));
            }
            None => {
                self.topics.remove(topic);
            }
        }
        self.listener.changed(topic);
    }

    pub(crate) fn set_producers(&self, producers: Vec<Arc<ProducerRecord>>) {
        self.producers.store(Arc::new(producers));
    }

    pub(crate) fn set_exchanged(&self, nanos: u64) {
        self.exchanged.store(nanos, Ordering::Relaxed);
    }

    fn row(&self, topic: &str) -> Option<Arc<TopicRow>> {
        self.topics.get(topic).map(|entry| Arc::clone(entry.value()))
    }
}

fn registration(record: &ProducerRecord, tombstoned_at: Option<i64>) -> Registration {
    Registration {
        producer: Arc::clone(&record.producer),
        id: record.producer.remote_address.clone(),
        last_update_ns: record.last_update_ns,
        tombstoned: tombstoned_at.is_some(),
        tombstoned_at_ns: tombstoned_at.unwrap_or(NEVER_TOMBSTONED_NS),
    }
}

/// Everything about one topic, ready to be shown.
#[derive(Clone, Debug, Default)]
pub struct TopicRow {
    /// Channel names with the producers that have them.
    channels: BTreeMap<Name, ChannelProducers>,
    /// Producers of the topic by address, each once.
    pub(crate) producers: Vec<Registered>,
}

/// A producer of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) record: Arc<ProducerRecord>,
    pub(crate) tombstoned_at: Option<i64>,
}

/// The producers that have a channel, each address once, in the order in which they were found.
#[derive(Clone, Debug, Default)]
struct ChannelProducers {
    records: Vec<Arc<ProducerRecord>>,
    /// Places in `records`, by address, if there are several: a row is built anew with each change
    /// of the topic, and thousands of producers may have a channel.
    by_address: Vec<u32>,
}

impl ChannelProducers {
    fn add(&mut self, record: &Arc<ProducerRecord>) {
        let Self { records, by_address } = self;
        if records.is_empty() {
            return records.push(Arc::clone(record));
        }
        if by_address.is_empty() {
            by_address.push(0);
        }
        let found = by_address.binary_search_by(|&place| {
            records[place as usize].producer.cmp_address(&record.producer)
        });
        if let Err(at) = found {
            by_address.insert(at, records.len() as u32);
            records.push(Arc::clone(record));
        }
    }
}

impl TopicRow {
    fn channel_names(&self) -> Vec<String> {
        self.channels.keys().map(|name| name.to_string()).collect()
    }

    /// Channel names, sorted.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.keys().map(|name| &**name)
    }

    /// Names of the channels that a node which is new to the topic creates, sorted: all that are
    /// not ephemeral.
    pub fn lasting_channels(&self) -> impl Iterator<Item = &str> {
        self.channels().filter(|name| !name.ends_with("#ephemeral"))
    }

    /// Producers that `/lookup` lists.
    pub fn visible(&self) -> impl Iterator<Item = &Arc<Producer>> {
        self.producers
            .iter()
            .filter(|p| p.record.active && p.tombstoned_at.is_none())
            .map(|p| &p.record.producer)
    }

    /// Adds a registration; a producer registered at several owners counts once, and a tombstone
    /// at one of them counts for all.
    pub(crate) fn add_producer(&mut self, record: &Arc<ProducerRecord>, tombstoned: Option<i64>) {
        let producer = &record.producer;
        match self.producers.binary_search_by(|p| p.record.producer.cmp_address(producer)) {
            Ok(at) => {
                let known = &mut self.producers[at];
                known.tombstoned_at = known.tombstoned_at.max(tombstoned);
                if record.active && !known.record.active {
                    known.record = Arc::clone(record);
                }
            }
            Err(at) => self
                .producers
                .insert(at, Registered { record: Arc::clone(record), tombstoned_at: tombstoned }),
        }
    }

    pub(crate) fn add_channel(&mut self, channel: &Name, record: Option<&Arc<ProducerRecord>>) {
        let producers = self.channels.entry(Arc::clone(channel)).or_default();
        if let Some(record) = record {
            producers.add(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(host: u32, tcp_port: u16) -> Arc<ProducerRecord> {
        let broadcast_address = format!("10.{}.{}.1", host / 256, host % 256);
        let producer = Arc::new(Producer { broadcast_address, tcp_port, ..Producer::default() });
        Arc::new(ProducerRecord { producer, active: true, draining: false, last_update_ns: 0 })
    }

    #[test]
    fn a_channel_has_each_address_once_in_the_order_it_was_found() {
        let (channel, mut row) = (Name::from("c"), TopicRow::default());
        let mut want: Vec<Arc<ProducerRecord>> = Vec::new();
        for step in 0..600_u32 {
            // Neither in order of address nor without repetition.
            let found = record(step * 389 % 97, 4150 + (step % 3) as u16);
            row.add_channel(&channel, Some(&found));
            if want.iter().all(|known| known.producer.address() != found.producer.address()) {
                want.push(found);
            }
        }
        row.add_channel(&channel, None);
        let got = &row.channels[&channel].records;
        assert_eq!(got.len(), 97 * 3);
        assert!(got.iter().zip(&want).all(|(got, want)| Arc::ptr_eq(got, want)));
    }
}

//! How local facts become writes of this node's own section: its nsqd's topics and channels, nsqds
//! that registered by nsqlookupd's TCP protocol, and the lookup HTTP API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grapevine_protocol::Moment;

use crate::catalogue::Catalogue;
use crate::producer::{Producer, ProducerRecord};
use crate::section::{Key, ProducerId, Value};
use crate::wish::{What, Wish};

/// Two instants of one moment: the core's clock, and the wall clock where NSQ shows one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic time.
    pub at: Moment,
    /// Nanoseconds since 1970. Shown to people, never compared.
    pub wall_ns: i64,
}

/// Foreign producers of this node, and the rules of nsqlookupd's registration table.
#[derive(Debug)]
pub struct Registrar {
    next_producer: u32,
    /// When each foreign producer was last heard of, and whether it is listed as active.
    foreign: BTreeMap<ProducerId, (Moment, bool)>,
    inactive_after: Duration,
}

impl Registrar {
    /// `inactive_after`: silence after which a foreign producer is hidden
    /// (`--inactive-producer-timeout`).
    pub fn new(inactive_after: Duration) -> Self {
        Self { next_producer: 1, foreign: BTreeMap::new(), inactive_after }
    }

    /// Describes this node's own nsqd.
    pub fn set_own_producer(&self, catalogue: &mut Catalogue, producer: Producer, now: Now) {
        write_record(catalogue, ProducerId::NSQD, producer, now);
    }

    /// This node's nsqd takes no new messages, or takes them again.
    pub fn set_draining(&self, catalogue: &mut Catalogue, draining: bool, now: Moment) {
        let Some(mut record) = record_of(catalogue, ProducerId::NSQD) else { return };
        if draining {
            sometimes!("draining");
        }
        record.draining = draining;
        let value = Value::Producer(Arc::new(record));
        catalogue.write(Key::record(ProducerId::NSQD), Some(value), now);
    }

    /// A topic, or a channel of it, exists in this node's nsqd or was registered by `producer`.
    pub fn register(
        &self,
        catalogue: &mut Catalogue,
        producer: ProducerId,
        topic: &str,
        channel: Option<&str>,
        now: Moment,
    ) {
        let is_known = producer == ProducerId::NSQD || self.foreign.contains_key(&producer);
        if !is_known {
            return;
        }
        register_key(catalogue, Key::new(producer, topic, ""), now);
        if let Some(channel) = channel {
            register_key(catalogue, Key::new(producer, topic, channel), now);
        }
    }

    /// A channel is gone from this node's nsqd, or with `None` the topic and all its channels.
    pub fn deleted(
        &self,
        catalogue: &mut Catalogue,
        topic: &str,
        channel: Option<&str>,
        now: Moment,
    ) {
        match channel {
            Some(channel) => {
                catalogue.write(Key::new(ProducerId::NSQD, topic, channel), None, now);
            }
            None => {
                for key in keys_of(catalogue, topic, |key| key.producer == ProducerId::NSQD) {
                    catalogue.write(key, None, now);
                }
            }
        }
    }

    /// A foreign nsqd identified itself.
    pub fn connected(
        &mut self,
        catalogue: &mut Catalogue,
        producer: Producer,
        now: Now,
    ) -> ProducerId {
        let id = ProducerId(self.next_producer);
        self.next_producer += 1;
        self.foreign.insert(id, (clock(now), true));
        write_record(catalogue, id, producer, now);
        id
    }

    /// `UNREGISTER`: names stay, except ephemeral ones.
    ///
    /// Source: nsqlookupd/lookup_protocol_v1.go:146-187 (nsq 3103474b).
    pub fn unregister(
        &self,
        catalogue: &mut Catalogue,
        producer: ProducerId,
        topic: &str,
        channel: Option<&str>,
        now: Moment,
    ) {
        let concerned = |key: &Key| {
            key.producer == producer && channel.is_none_or(|channel| &*key.channel == channel)
        };
        for key in keys_of(catalogue, topic, concerned) {
            leave_name(catalogue, key, now);
        }
    }

    /// `PING`: the producer is there.
    pub fn seen(&mut self, catalogue: &mut Catalogue, producer: ProducerId, now: Now) {
        let Some((seen, active)) = self.foreign.get_mut(&producer) else { return };
        *seen = clock(now);
        if !std::mem::replace(active, true) {
            set_active(catalogue, producer, true, now);
        }
    }

    /// The producer's connection ended: its registrations end, the names stay.
    pub fn gone(&mut self, catalogue: &mut Catalogue, producer: ProducerId, now: Moment) {
        if self.foreign.remove(&producer).is_none() {
            return;
        }
        let live = catalogue.own().live().map(|(key, _)| key);
        let mut keys: Vec<Key> = live.filter(|key| key.producer == producer).cloned().collect();
        keys.retain(|key| !key.topic.is_empty());
        for key in keys {
            leave_name(catalogue, key, now);
        }
        catalogue.write(Key::record(producer), None, now);
    }

    /// Hides the producers that have been silent for too long.
    pub fn hide_silent(&mut self, catalogue: &mut Catalogue, now: Now) {
        for (&producer, (seen, active)) in &mut self.foreign {
            if *active && clock(now).since(*seen) > self.inactive_after {
                *active = false;
                set_active(catalogue, producer, false, now);
            }
        }
    }

    /// `/topic/create`, `/channel/create` of the lookup API: a name without a producer.
    pub fn create_name(
        &self,
        catalogue: &mut Catalogue,
        topic: &str,
        channel: Option<&str>,
        now: Moment,
    ) {
        register_key(catalogue, Key::new(ProducerId::NAMES, topic, ""), now);
        if let Some(channel) = channel {
            register_key(catalogue, Key::new(ProducerId::NAMES, topic, channel), now);
        }
    }

    /// `/topic/delete`, or `/channel/delete` with a channel: the name and every registration of
    /// it, whoever wrote it.
    pub fn delete_registrations(
        &self,
        catalogue: &mut Catalogue,
        topic: &str,
        channel: Option<&str>,
        now: Moment,
    ) {
        let what = || channel.map_or(What::DeleteTopic, |name| What::DeleteChannel(name.into()));
        wish_everywhere(catalogue, topic, now, |_| vec![what()]);
    }

    /// `/topic/tombstone`: hides the producer at `node` (`broadcast_address:http_port`).
    pub fn tombstone(&self, catalogue: &mut Catalogue, topic: &str, node: &str, now: Now) {
        wish_everywhere(catalogue, topic, now.at, |record| match record {
            Some((id, record)) if record.producer.node() == node => {
                vec![What::Tombstone(id, now.wall_ns)]
            }
            Some(_) | None => vec![],
        });
    }
}

/// The clock that silence is measured by.
fn clock(now: Now) -> Moment {
    // N20, class "the wall clock in a comparison".
    if mutant!(N20) { Moment(now.wall_ns.unsigned_abs()) } else { now.at }
}

/// Writes this node's part of a wish and sends every other owner of the topic its own.
///
/// `what` is asked once without a producer and once for each producer of the owner.
fn wish_everywhere(
    catalogue: &mut Catalogue,
    topic: &str,
    now: Moment,
    what: impl Fn(Option<(ProducerId, &ProducerRecord)>) -> Vec<What>,
) {
    let me = catalogue.me();
    for owner in std::iter::once(me).chain(catalogue.other_owners(topic)) {
        let Some(section) = catalogue.section(owner) else { continue };
        let records = section.topic("").filter_map(|(key, entry)| match &entry.value {
            Some(Value::Producer(record)) => Some((key.producer, &**record)),
            Some(Value::Registered { .. }) | None => None,
        });
        let mut wanted = what(None);
        wanted.extend(records.flat_map(|(id, record)| what(Some((id, record)))));
        wanted.dedup();
        let (epoch, as_of) = (section.epoch, section.ver);
        for what in wanted {
            let wish = Wish { owner, epoch, as_of, topic: topic.into(), what };
            if owner == me {
                catalogue.fulfil(&wish, now);
            } else {
                catalogue.wish(wish, now);
            }
        }
    }
}

fn write_record(catalogue: &mut Catalogue, id: ProducerId, mut producer: Producer, now: Now) {
    producer.bound();
    let draining = record_of(catalogue, id).is_some_and(|record| record.draining);
    let producer = Arc::new(producer);
    let record = ProducerRecord { producer, active: true, draining, last_update_ns: now.wall_ns };
    catalogue.write(Key::record(id), Some(Value::Producer(Arc::new(record))), now.at);
}

fn record_of(catalogue: &Catalogue, id: ProducerId) -> Option<ProducerRecord> {
    match catalogue.own().get(&Key::record(id))? {
        Value::Producer(record) => Some(ProducerRecord::clone(record)),
        Value::Registered { .. } => None,
    }
}

fn set_active(catalogue: &mut Catalogue, id: ProducerId, active: bool, now: Now) {
    let Some(mut record) = record_of(catalogue, id) else { return };
    record.active = active;
    if active {
        record.last_update_ns = now.wall_ns;
    }
    catalogue.write(Key::record(id), Some(Value::Producer(Arc::new(record))), now.at);
}

/// Registers `key` unless it is registered already, tombstoned or not.
fn register_key(catalogue: &mut Catalogue, key: Key, now: Moment) {
    if catalogue.own().get(&key).is_none() {
        catalogue.write(key, Some(Value::REGISTERED), now);
    }
}

/// Ends a registration and keeps its name, unless that is ephemeral.
fn leave_name(catalogue: &mut Catalogue, key: Key, now: Moment) {
    let ephemeral = "#ephemeral";
    if !key.topic.ends_with(ephemeral) && !key.channel.ends_with(ephemeral) {
        register_key(catalogue, Key { producer: ProducerId::NAMES, ..key.clone() }, now);
    }
    catalogue.write(key, None, now);
}

fn keys_of(catalogue: &Catalogue, topic: &str, wanted: impl Fn(&Key) -> bool) -> Vec<Key> {
    let keys = catalogue.own().topic(topic).map(|(key, _)| key);
    keys.filter(|key| wanted(key)).cloned().collect()
}

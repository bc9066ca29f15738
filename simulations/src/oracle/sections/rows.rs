//! What a node's own section must list: nsqlookupd's registration table, told by its clients.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grapevine_gossip::section::{Key, Section, Value};
use grapevine_gossip::{Producer, ProducerId};
use grapevine_protocol::Moment;

use super::rules::{Broken, ROWS};
use super::truth::{name, state};
use crate::world::Deed;

/// A foreign producer that was heard of within this time is not hidden: half of the world's
/// inactive-producer timeout, since a node's clock may run at another rate.
const HEARD_WITHIN: Duration = Duration::from_secs(150);

/// The registrations of one process.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Every key that must be live.
    must: BTreeMap<Key, Must>,
    /// Topics for which somebody asked to hide the node's nsqd.
    hidden: BTreeSet<String>,
    /// Keys that are to be compared.
    changed: Vec<Key>,
}

/// What a live key must say.
#[derive(Debug)]
enum Must {
    Registration,
    Producer { producer: Box<Producer>, heard_at: Moment },
}

impl Rows {
    /// Somebody did something at the node.
    ///
    /// Source: nsqlookupd/lookup_protocol_v1.go:108-187 (nsq 3103474b).
    pub(super) fn did(&mut self, deed: &Deed<'_>, now: Moment) {
        match *deed {
            Deed::Describes { producer, what } => {
                let must = Must::Producer { producer: Box::new(what.clone()), heard_at: now };
                self.insert(Key::record(producer), must);
            }
            Deed::Registers { producer, topic, channel } => {
                let is_known = self.must.contains_key(&Key::record(producer));
                if is_known || producer == ProducerId::NSQD {
                    self.register(Key::new(producer, topic, ""));
                    if let Some(channel) = channel {
                        self.register(Key::new(producer, topic, channel));
                    }
                }
            }
            Deed::Deletes { topic, channel: Some(channel) } => {
                self.remove(&Key::new(ProducerId::NSQD, topic, channel));
            }
            Deed::Deletes { topic, channel: None } => {
                for key in self.of(ProducerId::NSQD, topic) {
                    self.remove(&key);
                }
            }
            Deed::Unregisters { producer, topic, channel } => {
                for key in self.of(producer, topic) {
                    if channel.is_none_or(|channel| *key.channel == *channel) {
                        self.leave_name(&key);
                    }
                }
            }
            Deed::HangsUp { producer } => {
                let all = self.must.keys().filter(|key| key.producer == producer);
                let all: Vec<Key> = all.filter(|key| !key.topic.is_empty()).cloned().collect();
                for key in all {
                    self.leave_name(&key);
                }
                self.remove(&Key::record(producer));
            }
            Deed::Pings { producer } => {
                let must = self.must.get_mut(&Key::record(producer));
                if let Some(Must::Producer { heard_at, .. }) = must {
                    *heard_at = now;
                }
            }
            Deed::Hides { topic } => {
                self.hidden.insert(topic.to_owned());
            }
        }
    }

    fn insert(&mut self, key: Key, must: Must) {
        self.changed.push(key.clone());
        self.must.insert(key, must);
    }

    fn register(&mut self, key: Key) {
        self.insert(key, Must::Registration);
    }

    fn remove(&mut self, key: &Key) {
        self.must.remove(key);
        self.changed.push(key.clone());
    }

    /// A registration ends; the name stays, unless it is ephemeral.
    fn leave_name(&mut self, key: &Key) {
        self.remove(key);
        let is_ephemeral = |name: &str| name.ends_with("#ephemeral");
        if !is_ephemeral(&key.topic) && !is_ephemeral(&key.channel) {
            self.register(Key { producer: ProducerId::NAMES, ..key.clone() });
        }
    }

    /// Keys of a producer in a topic.
    fn of(&self, producer: ProducerId, topic: &str) -> Vec<Key> {
        let from = Key::new(producer, topic, "");
        let keys = self.must.range(from..).map(|(key, _)| key);
        keys.take_while(|key| *key.topic == *topic && key.producer == producer).cloned().collect()
    }

    /// Whether somebody changed a key since the last comparison.
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Compares every key that somebody changed since the last time.
    pub(super) fn check_changed(&mut self, own: &Section, now: Moment) -> Result<(), Broken> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let mut changed = std::mem::take(&mut self.changed);
        let result = changed.iter().try_for_each(|key| self.check(key, own, now));
        changed.clear();
        self.changed = changed;
        result
    }

    /// Compares one key.
    pub(super) fn check(&self, key: &Key, own: &Section, now: Moment) -> Result<(), Broken> {
        let is = own.get(key);
        let must = self.must.get(key);
        let is_right = match (must, is) {
            (None, None) => true,
            (None, Some(_)) | (Some(_), None) => false,
            (Some(Must::Registration), Some(Value::Registered { tombstoned_at_ns: at })) => {
                at.is_none() || self.may_be_hidden(key)
            }
            (Some(Must::Producer { producer, heard_at }), Some(Value::Producer(record))) => {
                let must_be_active =
                    key.producer == ProducerId::NSQD || now.since(*heard_at) < HEARD_WITHIN;
                *record.producer == **producer && (record.active || !must_be_active)
            }
            (Some(Must::Registration), Some(Value::Producer(_)))
            | (Some(Must::Producer { .. }), Some(Value::Registered { .. })) => false,
        };
        if is_right {
            return Ok(());
        }
        let (is, must) = (state(is), if must.is_some() { "live" } else { "deleted" });
        Err(Broken::new(&ROWS, format!("key={} is={is} must={must}", name(key))))
    }

    fn may_be_hidden(&self, key: &Key) -> bool {
        key.producer == ProducerId::NSQD
            && key.channel.is_empty()
            && self.hidden.contains(&*key.topic)
    }
}

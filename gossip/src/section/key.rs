//! What a section is made of: keys and values, and the writes and answers that travel.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use grapevine_protocol::is_valid_name;

use crate::codec::{BorrowDecode, BorrowDecoder, DecodeError, Encode};
use crate::name::{Name, name};
use crate::producer::ProducerRecord;

/// Which producer of an owner a key belongs to.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Encode, BorrowDecode,
)]
pub struct ProducerId(pub u32);

impl ProducerId {
    /// The owner's own nsqd.
    pub const NSQD: Self = Self(0);
    /// No producer at all: names that exist without one (`/topic/create` of the lookup API).
    pub const NAMES: Self = Self(u32::MAX);
}

/// What an entry is about. Ordered by topic, so that everything about a topic is one range.
///
/// An empty topic is the producer's own record; an empty channel is the topic itself.
#[allow(clippy::derived_hash_with_manual_eq, reason = "equal are those whose fields are")]
#[derive(Clone, Debug, Eq, Hash, Ord, PartialOrd, Encode)]
pub struct Key {
    /// Topic name, or empty.
    pub topic: Name,
    /// Whose registration.
    pub producer: ProducerId,
    /// Channel name, or empty.
    pub channel: Name,
}

/// As it would be derived; names are often the very same.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let are_same = |one: &Name, other: &Name| Arc::ptr_eq(one, other) || one == other;
        self.producer == other.producer
            && are_same(&self.topic, &other.topic)
            && are_same(&self.channel, &other.channel)
    }
}

impl Key {
    /// A registration of `topic`, or of `channel` in it if that is not empty.
    pub fn new(producer: ProducerId, topic: &str, channel: &str) -> Self {
        Self { topic: Name::from(topic), producer, channel: Name::from(channel) }
    }

    /// The producer's own record.
    pub fn record(producer: ProducerId) -> Self {
        Self::new(producer, "", "")
    }

    /// Whether it is equal, and its names are the very same.
    pub(super) fn has_names_of(&self, other: &Self) -> bool {
        self.producer == other.producer
            && Arc::ptr_eq(&self.topic, &other.topic)
            && Arc::ptr_eq(&self.channel, &other.channel)
    }

    /// Whether it is the registration of a topic.
    pub(super) fn is_topic(&self) -> bool {
        !self.topic.is_empty() && self.channel.is_empty()
    }

    pub(super) fn is_valid(&self) -> bool {
        if self.topic.is_empty() {
            return self.channel.is_empty() && self.producer != ProducerId::NAMES;
        }
        is_valid_name(self.topic.as_bytes())
            && (self.channel.is_empty() || is_valid_name(self.channel.as_bytes()))
    }
}

/// As it would be derived, but for the names.
impl<'de, Context> BorrowDecode<'de, Context> for Key {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        from: &mut D,
    ) -> Result<Self, DecodeError> {
        let topic = name(from)?;
        let producer = ProducerId::borrow_decode(from)?;
        Ok(Self { topic, producer, channel: name(from)? })
    }
}

/// A place in the order of keys: a [`Key`], or what one would be made of.
///
/// A key owns its names, and to make one only to look for it costs more than the search.
pub(super) trait Place {
    /// What keys are ordered by: first the topic,
    fn topic(&self) -> &str;

    /// then the producer, then the channel.
    fn in_topic(&self) -> (ProducerId, &str);
}

impl Place for Key {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn in_topic(&self) -> (ProducerId, &str) {
        (self.producer, &self.channel)
    }
}

impl Place for (&str, ProducerId, &str) {
    fn topic(&self) -> &str {
        self.0
    }

    fn in_topic(&self) -> (ProducerId, &str) {
        (self.1, self.2)
    }
}

impl<'a> Borrow<dyn Place + 'a> for Key {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.topic(), self.in_topic(), other.topic(), other.in_topic())
    }
}

/// The order of keys. In most comparisons of a search the topics differ; where they do not, one of
/// the channels is often empty, and a call to compare nothing takes as long as one to compare
/// names. Names are often the very same, too.
#[inline]
pub(super) fn compare(
    topic: &str,
    (producer, channel): (ProducerId, &str),
    other_topic: &str,
    (other_producer, other_channel): (ProducerId, &str),
) -> Ordering {
    let names = |name: &str, other: &str| {
        if name.is_empty() || other.is_empty() {
            return name.len().cmp(&other.len());
        }
        if std::ptr::eq(name, other) {
            return Ordering::Equal;
        }
        name.cmp(other)
    };
    names(topic, other_topic)
        .then_with(|| producer.cmp(&other_producer))
        .then_with(|| names(channel, other_channel))
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Place + '_ {}

/// What a live key says.
#[derive(Clone, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub enum Value {
    /// The record of a producer.
    Producer(Arc<ProducerRecord>),
    /// A topic or channel is registered. `tombstoned_at_ns` (wall clock, ns since 1970) hides the
    /// producer from this topic's `/lookup`; only the owner ends it.
    Registered {
        /// When it was tombstoned, if it is.
        tombstoned_at_ns: Option<i64>,
    },
}

impl Value {
    /// A plain registration.
    pub const REGISTERED: Self = Self::Registered { tombstoned_at_ns: None };
}

/// A key's last write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Version of that write.
    pub ver: u64,
    /// `None`: deleted.
    pub value: Option<Value>,
}

impl Entry {
    /// Whether it is equal, and its record is the very same.
    pub(super) fn has_record_of(&self, other: &Self) -> bool {
        let is_same = match (&self.value, &other.value) {
            (Some(Value::Producer(one)), Some(Value::Producer(other))) => Arc::ptr_eq(one, other),
            (one, other) => one == other,
        };
        is_same && self.ver == other.ver
    }
}

/// One write, as it travels.
#[derive(Clone, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub struct Op {
    /// Version of the write.
    pub ver: u64,
    /// What was written.
    pub key: Key,
    /// Its new value; `None`: deleted.
    pub value: Option<Value>,
}

impl Op {
    /// Upper bound of its encoded size in bytes.
    pub(crate) fn size(&self) -> usize {
        size(&self.key, self.value.as_ref())
    }

    pub(super) fn is_valid(&self) -> bool {
        self.key.is_valid()
            && match &self.value {
                None => true,
                Some(Value::Producer(record)) => {
                    self.key.topic.is_empty() && record.producer.is_bounded()
                }
                Some(Value::Registered { .. }) => !self.key.topic.is_empty(),
            }
    }
}

/// The writes of an owner with versions in `(from, to]`, overwritten ones left out.
///
/// On the wire the writes have their length in bytes before them; see `codec/deltas.rs`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delta {
    /// Epoch of the owner.
    pub epoch: u64,
    /// What the receiver must have.
    pub from: u64,
    /// What the receiver has afterwards.
    pub to: u64,
    /// The owner's floor as far as the sender knows it.
    pub floor: u64,
    /// The writes, by rising version.
    pub ops: Vec<Op>,
}

/// A whole section.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// Epoch of the owner.
    pub epoch: u64,
    /// Version of the sender's copy.
    pub ver: u64,
    /// Highest version whose deletion has been forgotten.
    pub floor: u64,
    /// Every key the sender's copy holds, by rising version.
    pub ops: Vec<Op>,
}

/// What came of a delta or a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Applied {
    /// Nothing new.
    Stale,
    /// Cannot be applied: ask for everything after `have`.
    Gap {
        /// Version to ask from.
        have: u64,
    },
    /// Breaks the format's rules; nothing was applied.
    Invalid,
    /// Applied; these keys may have changed.
    Changed(Vec<Key>),
}

/// Upper bound of the encoded size of a write, in bytes.
pub(super) fn size(key: &Key, value: Option<&Value>) -> usize {
    key_size(key) + value_size(value)
}

/// The share of the key in that.
pub(super) fn key_size(key: &Key) -> usize {
    16 + key.topic.len() + key.channel.len()
}

/// The share of the value in that.
pub(super) fn value_size(value: Option<&Value>) -> usize {
    match value {
        None => 1,
        Some(Value::Registered { .. }) => 12,
        Some(Value::Producer(record)) => {
            let p = &record.producer;
            32 + p.remote_address.len()
                + p.hostname.len()
                + p.broadcast_address.len()
                + p.version.len()
                + p.topology_zone.len()
                + p.topology_region.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_in_the_order_of_keys() {
        let mut all = Vec::new();
        for topic in ["", "a", "ab", "b"] {
            for producer in [ProducerId::NSQD, ProducerId(1), ProducerId::NAMES] {
                all.extend(["", "a", "b"].map(|channel| (topic, producer, channel)));
            }
        }
        let key = |&(topic, producer, channel): &(_, _, _)| Key::new(producer, topic, channel);
        for one in &all {
            for other in &all {
                let place: &dyn Place = one;
                assert_eq!(place.cmp(key(other).borrow()), key(one).cmp(&key(other)));
            }
        }
    }
}

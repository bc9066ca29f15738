//! What the lookup API asked of registrations that another owner writes.

use std::collections::BTreeMap;
use std::time::Duration;

use grapevine_protocol::Moment;

use crate::NodeId;
use crate::codec::{BorrowDecode, Encode};
use crate::section::{Key, Name, ProducerId, Section, Value};

/// Most wishes kept at once; beyond it the oldest is dropped, as if the owner had refused it.
pub const WISHES_MAX: usize = 8_192;

/// First pause before a wish is sent again.
const RETRY_FIRST: Duration = Duration::from_millis(200);

/// Longest pause before a wish is sent again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How long an unfulfilled deletion is kept, as long as the section of an owner that is down.
const DELETION_LIFETIME: Duration = Duration::from_secs(600);

/// Something the owner should do to registrations of a topic that it wrote up to `as_of`.
///
/// A registration written later was not meant, so a wish may arrive late or twice without harm.
#[derive(Clone, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub struct Wish {
    /// Whose section.
    pub owner: NodeId,
    /// In which of its epochs.
    pub epoch: u64,
    /// Highest version that is meant.
    pub as_of: u64,
    /// The topic.
    pub topic: Name,
    /// What to do.
    pub what: What,
}

/// The kinds of [`Wish`].
#[derive(Clone, Debug, Eq, PartialEq, Encode, BorrowDecode)]
pub enum What {
    /// Drop every registration of the topic.
    DeleteTopic,
    /// Drop every registration of one channel.
    DeleteChannel(Name),
    /// Hide a producer from the topic's `/lookup`, since a wall-clock time (ns since 1970).
    Tombstone(ProducerId, i64),
}

impl Wish {
    /// Whether it is about `key`, last written at `ver`.
    pub fn concerns(&self, key: &Key, ver: u64) -> bool {
        ver <= self.as_of
            && key.topic == self.topic
            && match &self.what {
                What::DeleteTopic => true,
                What::DeleteChannel(channel) => key.channel == *channel,
                What::Tombstone(producer, _) => key.channel.is_empty() && key.producer == *producer,
            }
    }

    /// What becomes of `value`.
    pub fn effect(&self, value: &Value) -> Option<Value> {
        match (&self.what, value) {
            (What::Tombstone(_, at), Value::Registered { .. }) => {
                Some(Value::Registered { tombstoned_at_ns: Some(*at) })
            }
            (What::Tombstone(..), Value::Producer(_)) => Some(value.clone()),
            (What::DeleteTopic | What::DeleteChannel(_), _) => None,
        }
    }
}

#[derive(Debug)]
struct Pending {
    wish: Wish,
    until: Moment,
    next_send: Moment,
    pause: Duration,
}

/// Wishes that the owners' sections do not show yet, by topic.
#[derive(Debug, Default)]
pub struct Wishes {
    by_topic: BTreeMap<Name, Vec<Pending>>,
    count: usize,
    /// `/topic/tombstone` ends by itself after this long (`--tombstone-lifetime`).
    pub tombstone_lifetime: Duration,
}

impl Wishes {
    /// Adds a wish, due to be sent at once. Returns a topic whose rows lost a wish to make room.
    pub fn add(&mut self, wish: Wish, now: Moment) -> Option<Name> {
        let mut dropped = None;
        if self.count >= WISHES_MAX
            && let Some((topic, pending)) = self.by_topic.pop_first()
        {
            self.count -= pending.len();
            dropped = Some(topic);
        }
        let lifetime = match wish.what {
            What::Tombstone(..) => self.tombstone_lifetime,
            What::DeleteTopic | What::DeleteChannel(_) => DELETION_LIFETIME,
        };
        let list = self.by_topic.entry(wish.topic.clone()).or_default();
        if list.iter().all(|pending| pending.wish != wish) {
            let pending =
                Pending { wish, until: now + lifetime, next_send: now, pause: RETRY_FIRST };
            list.push(pending);
            self.count += 1;
        }
        dropped
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// Number of wishes.
    pub fn len(&self) -> usize {
        self.count
    }

    /// When the next wish wants to be sent.
    pub fn next_send(&self) -> Option<Moment> {
        self.by_topic.values().flatten().map(|pending| pending.next_send).min()
    }

    /// Wishes to be sent now to owners for which `is_reachable`; the others wait.
    pub fn due(&mut self, now: Moment, is_reachable: impl Fn(NodeId) -> bool) -> Vec<Wish> {
        let mut due = Vec::new();
        for pending in self.by_topic.values_mut().flatten() {
            if pending.next_send > now {
                continue;
            }
            if is_reachable(pending.wish.owner) {
                due.push(pending.wish.clone());
            }
            pending.next_send = now + pending.pause;
            pending.pause = (pending.pause * 2).min(RETRY_MAX);
        }
        due
    }

    /// The value of a key with this node's unfulfilled wishes applied.
    pub fn seen_through(
        &self,
        owner: NodeId,
        epoch: u64,
        key: &Key,
        ver: u64,
        value: &Value,
    ) -> Option<Value> {
        let mut value = value.clone();
        for Pending { wish, .. } in self.by_topic.get(&key.topic).into_iter().flatten() {
            if wish.owner == owner && wish.epoch == epoch && wish.concerns(key, ver) {
                value = wish.effect(&value)?;
            }
        }
        Some(value)
    }

    /// Forgets the wishes to `owner` that its section shows fulfilled, or that are void.
    pub fn fulfilled_by(&mut self, owner: NodeId, section: &Section) {
        let before = self.count;
        self.retain(|pending| {
            let wish = &pending.wish;
            wish.owner != owner
                || (wish.epoch == section.epoch
                    && section.topic(&wish.topic).any(|(key, e)| wish.concerns(key, e.ver)))
        });
        if self.count < before {
            sometimes!("wish_fulfilled");
        }
    }

    /// Forgets wishes whose time is over; returns their topics.
    pub fn expire(&mut self, now: Moment) -> Vec<Name> {
        let expired = |pending: &Pending| pending.until <= now;
        let topics = self.by_topic.iter().filter(|(_, list)| list.iter().any(expired));
        let topics: Vec<Name> = topics.map(|(topic, _)| topic.clone()).collect();
        self.retain(|pending| pending.until > now);
        topics
    }

    fn retain(&mut self, keep: impl Fn(&Pending) -> bool) {
        for list in self.by_topic.values_mut() {
            list.retain(&keep);
        }
        self.by_topic.retain(|_, list| !list.is_empty());
        self.count = self.by_topic.values().map(Vec::len).sum();
    }
}

//! What a section holds: its keys, found by key and by version.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};

use super::key::{self, Entry, Key, Place};
use super::keys::Keys;

/// Most contents that a thread knows again; more than a thousand nodes change at once.
const KNOWN_MAX: usize = 65_536;

/// Contents that nobody holds any more are forgotten when there are more than this, and twice as
/// many as were left the last time.
const KNOWN_USUAL: usize = 1024;

thread_local! {
    /// Contents of audited sections that this thread holds, by a hash of them.
    static KNOWN: RefCell<Known> = const { RefCell::new(Known::NONE) };
}

/// Contents by a hash of them.
struct Known {
    /// And whether they were once those that somebody else made: names and records of a section
    /// that its owner wrote are its own, all who decode it have others, and have them together.
    by_hash: BTreeMap<u64, (Weak<Entries>, bool)>,
    /// How many may be there until it is looked which of them somebody holds.
    most: usize,
}

impl Known {
    const NONE: Self = Self { by_hash: BTreeMap::new(), most: KNOWN_USUAL };

    fn make_room(&mut self) {
        if self.by_hash.len() < self.most {
            return;
        }
        self.by_hash.retain(|_, (entries, _)| entries.strong_count() > 0);
        if self.by_hash.len() > KNOWN_MAX / 2 {
            self.by_hash.clear();
        }
        self.most = KNOWN_USUAL.max(2 * self.by_hash.len());
    }
}

/// Keys with their last writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    keys: Keys,
    /// What they weigh as a snapshot, and the topics among them, deletions included in both.
    bytes: usize,
    topics: usize,
    /// Of the live keys, if the section is audited; else 0.
    pub(super) live_hash: u64,
    /// What [`Section::encoded`](super::Section::encoded) made: no more than fits into a datagram.
    pub(super) encoded: OnceLock<Box<[u8]>>,
}

static NONE: Entries = Entries {
    keys: Keys::Few(Vec::new()),
    bytes: 0,
    topics: 0,
    live_hash: 0,
    encoded: OnceLock::new(),
};

impl Entries {
    /// Number of keys, deletions included.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.len() == 0
    }

    /// Keys, topics and bytes, deletions included.
    pub(super) fn load(&self) -> (usize, usize, usize) {
        (self.keys.len(), self.topics, self.bytes)
    }

    /// The last write of `key`.
    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.keys.at(key)
    }

    /// All keys, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.keys.iter()
    }

    /// The last write of the key at `place`.
    pub(super) fn at(&self, place: &dyn Place) -> Option<&Entry> {
        self.keys.at(place)
    }

    /// Keys of `topic`, in order.
    pub(super) fn topic<'a, 't>(
        &'a self,
        topic: &'t str,
    ) -> impl Iterator<Item = (&'a Key, &'a Entry)> + use<'a, 't> {
        self.keys.topic(topic)
    }

    /// Keys whose last write is `ver` or later, by version.
    pub(super) fn since(&self, ver: u64) -> impl Iterator<Item = (&Key, &Entry)> {
        self.keys.since(ver)
    }

    /// Version of the last deletion at or below `ver` that is still known.
    pub(super) fn last_deletion(&self, ver: u64) -> Option<u64> {
        self.keys.last_deletion(ver)
    }

    /// Writes `key`; what was there.
    pub(super) fn put(&mut self, key: Key, entry: Entry) -> Option<Entry> {
        self.weigh(&key, &entry, true);
        let (key_size, topics) = (key::key_size(&key), usize::from(key.is_topic()));
        let old = self.keys.put(key, entry);
        if let Some(old) = &old {
            self.bytes -= key_size + key::value_size(old.value.as_ref());
            self.topics -= topics;
        }
        old
    }

    /// Takes `key` out; what was there.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        let old = self.keys.remove(key)?;
        self.weigh(key, &old, false);
        Some(old)
    }

    /// Takes out the deletions up to `floor`.
    pub(super) fn take_deletions(&mut self, floor: u64) -> Vec<(Key, Entry)> {
        let taken = self.keys.take_deletions(floor);
        for (key, old) in &taken {
            self.weigh(key, old, false);
        }
        taken
    }

    /// `entry` of `key` came, or is gone.
    fn weigh(&mut self, key: &Key, entry: &Entry, comes: bool) {
        let (bytes, topics) = (key::size(key, entry.value.as_ref()), usize::from(key.is_topic()));
        if comes {
            (self.bytes, self.topics) = (self.bytes + bytes, self.topics + topics);
        } else {
            (self.bytes, self.topics) = (self.bytes - bytes, self.topics - topics);
        }
    }

    /// Whether they are equal because names and records are the very same, which is quicker to see.
    fn has_parts_of(&self, other: &Self) -> bool {
        let is_same =
            |((key, entry), (other_key, other_entry)): ((&Key, &Entry), (&Key, &Entry))| {
                key.has_names_of(other_key) && entry.has_record_of(other_entry)
            };
        self.live_hash == other.live_hash
            && self.len() == other.len()
            && self.iter().zip(other.iter()).all(is_same)
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        // What else there is follows from the keys.
        self.live_hash == other.live_hash
            && self.len() == other.len()
            && self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

/// [`Entries`] that sections with the same ones may hold together; one that changes has its own.
///
/// Nothing is held together unless [`share`](Self::share) is called, and whether it is cannot be
/// seen but in the memory it takes.
#[derive(Clone, Default)]
pub(super) struct Shared(Option<Arc<Entries>>);

impl Shared {
    /// To be changed.
    pub(super) fn change(&mut self) -> &mut Entries {
        let entries = Arc::make_mut(self.0.get_or_insert_default());
        let _of_before = entries.encoded.take();
        entries
    }

    /// Holds them together with whoever in this thread shared the same ones under the same `hash`,
    /// but for the first, which is the owner: the names and records that it made are its own.
    pub(super) fn share(&mut self, hash: u64) {
        let Some(mine) = self.0.take().filter(|entries| !entries.is_empty()) else { return };
        self.0 = Some(KNOWN.with_borrow_mut(|known| {
            let found =
                known.by_hash.get(&hash).map(|(same, was_other)| (same.upgrade(), *was_other));
            let mut is_other = false;
            if let Some((Some(same), was_other)) = found {
                if same.has_parts_of(&mine) || (was_other && same == mine) {
                    return same;
                }
                is_other = same == mine;
            }
            known.make_room();
            known.by_hash.insert(hash, (Arc::downgrade(&mine), is_other));
            mine
        }));
    }

    /// Whether it is the same allocation.
    #[cfg(test)]
    fn is_one_with(&self, other: &Self) -> bool {
        self.0.as_ref().zip(other.0.as_ref()).is_some_and(|(mine, other)| Arc::ptr_eq(mine, other))
    }
}

impl Deref for Shared {
    type Target = Entries;

    fn deref(&self) -> &Entries {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::{ProducerId, Value};

    fn put(entries: &mut Shared, topic: &str, ver: u64) {
        let key = Key::new(ProducerId::NSQD, topic, "");
        entries.change().put(key, Entry { ver, value: Some(Value::REGISTERED) });
    }

    #[test]
    fn equal_contents_are_held_once_and_part_when_one_changes() {
        let mut all = [const { Shared(None) }; 4];
        for entries in &mut all {
            put(entries, "t", 1);
            entries.share(7);
        }
        let [owners, one, mut other, third] = all;
        assert!(one.is_one_with(&other) && one.is_one_with(&third));
        assert!(!owners.is_one_with(&one), "whoever made them has its own");
        let (mut same, mut again) = (owners.clone(), one.clone());
        same.share(7);
        again.share(7);
        assert!(again.is_one_with(&one) && same.is_one_with(&one));
        put(&mut other, "u", 2);
        assert!(!one.is_one_with(&other));
        assert_eq!((one.len(), other.len()), (1, 2));
    }

    #[test]
    fn an_equal_hash_is_not_enough_to_be_held_together() {
        let (mut one, mut other) = (Shared::default(), Shared::default());
        put(&mut one, "t", 1);
        put(&mut other, "u", 1);
        one.share(8);
        other.share(8);
        assert_ne!(one, other);
        assert!(other.get(&Key::new(ProducerId::NSQD, "u", "")).is_some());
    }

    #[test]
    fn no_entries_are_equal_to_entries_that_were_taken_out() {
        let mut emptied = Shared::default();
        put(&mut emptied, "t", 1);
        emptied.change().remove(&Key::new(ProducerId::NSQD, "t", ""));
        assert_eq!(emptied, Shared::default());
    }
}

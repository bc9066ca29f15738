//! One owner's part of the catalogue: versioned keys, written by the owner alone.
//!
//! The rules of a copy:
//!
//! 1. A section of a newer epoch replaces the copy whole, and only from its beginning.
//! 2. A delta that begins above the copy's version leaves a gap and is not applied.
//! 3. Otherwise operations above the copy's version are applied, in order of version.
//! 4. Below the owner's floor deletions have been forgotten, so only a snapshot is served.
//! 5. A snapshot of the same epoch is merged: it may come from a copy that is itself behind.

mod entries;
mod key;
mod keys;

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::FxHasher;

use crate::audit::{Touch, entry_hash};
use crate::codec::encode;
use crate::producer::ProducerRecord;

use entries::Shared;

pub use crate::name::Name;
pub use key::{Applied, Delta, Entry, Key, Op, ProducerId, Snapshot, Value};

/// Most keys one section may hold: 65,535 topics with seven channels each.
pub const SECTION_KEYS_MAX: usize = 524_288;

/// Most topics in one section, counted once for each producer that has them.
pub const SECTION_TOPICS_MAX: usize = 65_535;

/// Most bytes of one section as it travels whole: the largest snapshot.
pub const SECTION_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Of those the owner leaves some free for what changes without a new key.
const OWN_BYTES_MAX: usize = SECTION_BYTES_MAX - 512 * 1024;

/// Room that is made for the writes of a delta: a new topic, or a node and its topic.
const OPS_USUAL: usize = 2;

/// Keys of one owner, in one epoch, up to one version.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Section {
    /// The owner's epoch: one for each start of its process.
    pub epoch: u64,
    /// Version of the last write that is known, with everything before it.
    pub ver: u64,
    /// Highest version whose deletion has been forgotten.
    pub floor: u64,
    entries: Shared,
    /// What an auditor has not been told yet.
    untold: Option<Box<Untold>>,
    is_audited: bool,
    is_full: bool,
}

/// Changes of keys, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Untold {
    touches: Vec<Touch>,
}

impl Section {
    /// An empty section of `epoch`.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// From now on every change of a key is noted, for [`take_touches`](Self::take_touches).
    pub fn begin_audit(&mut self) {
        if !self.is_audited {
            self.is_audited = true;
            let hashes = self.entries.iter().map(|(key, entry)| entry_hash(key, entry));
            let live_hash = hashes.fold(0, |all, hash| all ^ hash);
            if live_hash != 0 {
                self.entries.change().live_hash = live_hash;
            }
        }
    }

    /// What an auditor has not been told yet, in order; nothing without one.
    ///
    /// An audited section is one of many copies in one process. With `is_sharing` equal ones are
    /// held once from here on.
    pub fn take_touches(&mut self, is_sharing: bool) -> Vec<Touch> {
        let Some(untold) = self.untold.take() else { return Vec::new() };
        if !is_sharing {
            return untold.touches;
        }
        let mut hasher = FxHasher::default();
        (self.epoch, self.ver, self.floor, self.entries.live_hash).hash(&mut hasher);
        self.entries.share(hasher.finish());
        untold.touches
    }

    /// A hash of the live keys: equal for equal sets. `None` without an auditor.
    #[inline]
    pub fn live_hash(&self) -> Option<u64> {
        self.is_audited.then_some(self.entries.live_hash)
    }

    /// The owner writes `key`; `None` deletes it. False if that changes nothing,
    /// or if a name is not one of NSQ's.
    pub fn write(&mut self, key: Key, value: Option<Value>) -> bool {
        if !key.is_valid() {
            return false;
        }
        let unchanged = match self.entries.get(&key) {
            Some(entry) => entry.value == value,
            None => value.is_none(),
        };
        if unchanged || !self.has_room_for(&key, value.as_ref()) {
            return false;
        }
        let last = self.entries.get(&key).map(|entry| entry.ver);
        // M20, class "two writes in one tick": the second one cannot be told from the first.
        if !(mutant!(M20) && value.is_none() && last == Some(self.ver)) {
            self.ver += 1;
        }
        self.put(key, Entry { ver: self.ver, value });
        true
    }

    /// M16: the keys are gone, the version stays.
    #[cfg(feature = "mutants")]
    pub(crate) fn lose_keys(&mut self) {
        let keys: Vec<Key> = self.entries.iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.remove(&key);
        }
    }

    /// The owner forgets every deletion at or below `ver`.
    pub fn forget_deletions(&mut self, ver: u64) {
        if let Some(last) = self.entries.last_deletion(ver) {
            self.drop_dead(last);
            // M13, class "garbage collection nobody is told of".
            if !mutant!(M13) {
                self.floor = self.floor.max(last);
            }
        }
    }

    /// Applies rules 1 to 3.
    pub fn apply_delta(&mut self, delta: &Delta) -> Applied {
        // M09, class "late replay of an earlier life".
        if delta.epoch < self.epoch && !mutant!(M09) {
            return Applied::Stale;
        }
        let newer_epoch = delta.epoch != self.epoch;
        if newer_epoch && delta.from > 0 {
            return Applied::Gap { have: 0 };
        }
        if !newer_epoch {
            if delta.to <= self.ver && !mutant!(M14) {
                return Applied::Stale;
            }
            // M10, class "the last write is taken for the newest of an unbroken row".
            if delta.from > self.ver && !mutant!(M10) {
                return Applied::Gap { have: self.ver };
            }
        }
        let in_range = |ops: &[Op]| {
            ops.iter().all(|op| delta.from < op.ver && op.ver <= delta.to && op.is_valid())
                && ops.is_sorted_by(|a, b| a.ver < b.ver)
        };
        let of_before = if newer_epoch { (0, 0, 0) } else { self.entries.load() };
        if !in_range(&delta.ops) || !is_bounded(of_before, &delta.ops, 2) {
            return Applied::Invalid;
        }
        let mut changed = Vec::new();
        if newer_epoch {
            changed = self.begin_epoch(delta.epoch);
        }
        let have = self.ver;
        // M14, class "compared by key, not by section".
        let by_key = |section: &Self, op: &Op| {
            mutant!(M14) && section.entry(&op.key).is_none_or(|entry| entry.ver < op.ver)
        };
        for op in &delta.ops {
            if op.ver <= have && !by_key(self, op) {
                continue;
            }
            self.put(op.key.clone(), Entry { ver: op.ver, value: op.value.clone() });
            changed.push(op.key.clone());
        }
        self.ver = if mutant!(M14) { have.max(delta.to) } else { delta.to };
        // X05, class "off by one".
        self.ver += u64::from(mutant!(X05));
        self.raise_floor(delta.floor);
        Applied::Changed(changed)
    }

    /// Applies rules 1 and 5.
    pub fn apply_snapshot(&mut self, snapshot: &Snapshot) -> Applied {
        if snapshot.epoch < self.epoch || (snapshot.epoch == self.epoch && snapshot.ver <= self.ver)
        {
            return Applied::Stale;
        }
        let ops = &snapshot.ops;
        if !is_bounded((0, 0, 0), ops, 1)
            || !ops.iter().all(|op| op.ver <= snapshot.ver && op.is_valid())
            || !ops.is_sorted_by(|a, b| a.ver < b.ver)
        {
            return Applied::Invalid;
        }
        let mut changed = Vec::new();
        // M15, class "a peer's copy is taken for the owner's".
        if snapshot.epoch > self.epoch || mutant!(M15) {
            changed = self.begin_epoch(snapshot.epoch);
        }
        let present: BTreeSet<&Key> = ops.iter().map(|op| &op.key).collect();
        let absent: Vec<Key> = self
            .entries
            .iter()
            .filter(|(key, entry)| entry.ver <= snapshot.floor && !present.contains(key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in absent {
            self.remove(&key);
            changed.push(key);
        }
        let have = self.ver;
        // N18, class "all or nothing".
        let taken = if mutant!(N18) { ops.len() / 2 } else { ops.len() };
        for op in ops.iter().take(taken).filter(|op| op.ver > have) {
            self.put(op.key.clone(), Entry { ver: op.ver, value: op.value.clone() });
            changed.push(op.key.clone());
        }
        self.ver = snapshot.ver;
        self.raise_floor(snapshot.floor);
        Applied::Changed(changed)
    }

    /// Everything after `have`, at most `ops_max` writes and about `bytes_max` bytes; cut at a
    /// whole write. `None` if only a snapshot can serve that (rule 4).
    pub fn delta_since(&self, have: u64, ops_max: usize, bytes_max: usize) -> Option<Delta> {
        if have < self.floor {
            return None;
        }
        let ops = Vec::with_capacity(OPS_USUAL);
        let mut delta =
            Delta { epoch: self.epoch, from: have, to: self.ver, floor: self.floor, ops };
        let mut bytes = 0;
        for (key, entry) in self.entries.since(have.saturating_add(1)) {
            let op = op(key, entry);
            bytes += op.size();
            if delta.ops.len() == ops_max || (bytes > bytes_max && !delta.ops.is_empty()) {
                // M11, class "cut at the size of a packet".
                sometimes!("delta_cut");
                if !mutant!(M11) {
                    delta.to = delta.ops.last().map_or(have, |op| op.ver);
                }
                break;
            }
            // M12, class "deletions do not travel".
            if !(mutant!(M12) && op.value.is_none()) {
                delta.ops.push(op);
            }
        }
        Some(delta)
    }

    /// The writes of the delta from 0, encoded, and the upper bound of their size, if they are no
    /// more than `ops_max` and `bytes_max`. A section that is new is told many times before it
    /// changes: they are encoded once.
    pub(crate) fn encoded(&self, ops_max: usize, bytes_max: usize) -> Option<(&[u8], usize)> {
        let (ops, _, size) = self.entries.load();
        if self.floor > 0 || ops > ops_max || size > bytes_max {
            return None;
        }
        if let Some(bytes) = self.entries.encoded.get() {
            return Some((bytes, size));
        }
        let delta = self.delta_since(0, ops_max, bytes_max)?;
        Some((self.entries.encoded.get_or_init(|| encode(&delta.ops).into()), size))
    }

    /// The whole section.
    pub fn snapshot(&self) -> Snapshot {
        let ops = self.entries.since(0).map(|(key, entry)| op(key, entry)).collect();
        Snapshot { epoch: self.epoch, ver: self.ver, floor: self.floor, ops }
    }

    /// How many writes a delta from `have` would carry, counted up to `limit`.
    pub fn ops_since(&self, have: u64, limit: usize) -> usize {
        self.entries.since(have.saturating_add(1)).take(limit).count()
    }

    /// The value of a key that is live.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.entries.get(key)?.value.as_ref()
    }

    /// What the owner says of one of its producers.
    pub fn record(&self, producer: ProducerId) -> Option<&Arc<ProducerRecord>> {
        match self.entries.at(&("", producer, ""))?.value.as_ref()? {
            Value::Producer(record) => Some(record),
            Value::Registered { .. } => None,
        }
    }

    /// The last write of `key`, deletions included.
    pub fn entry(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Live keys of `topic` with their entries, in order.
    pub fn topic<'a, 't>(
        &'a self,
        topic: &'t str,
    ) -> impl Iterator<Item = (&'a Key, &'a Entry)> + use<'a, 't> {
        self.entries.topic(topic).filter(|(_, entry)| entry.value.is_some())
    }

    /// Whether anybody has the channel of the topic, or had it and the deletion is remembered.
    pub fn remembers(&self, topic: &str, channel: &str) -> bool {
        self.entries.topic(topic).any(|(key, _)| &*key.channel == channel)
    }

    /// All live keys with their entries, in order.
    pub fn live(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.value.is_some())
    }

    /// All keys with their entries, deletions included, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// Number of keys held, deletions included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds no key at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn put(&mut self, key: Key, entry: Entry) {
        if !self.is_audited {
            self.entries.change().put(key, entry);
            return;
        }
        let old = self.entries.change().put(key.clone(), entry.clone());
        self.note(key, old.as_ref(), Some(entry));
    }

    fn remove(&mut self, key: &Key) {
        if self.entries.get(key).is_some() {
            let old = self.entries.change().remove(key);
            self.note(key.clone(), old.as_ref(), None);
        }
    }

    /// For an auditor: `key` was `before` and is `after`.
    fn note(&mut self, key: Key, before: Option<&Entry>, after: Option<Entry>) {
        if !self.is_audited {
            return;
        }
        let entries = before.into_iter().chain(&after);
        let change = entries.fold(0, |hash, entry| hash ^ entry_hash(&key, entry));
        if change != 0 {
            self.entries.change().live_hash ^= change;
        }
        let touch = Touch { key, before: before.map(|entry| entry.ver), after };
        self.untold.get_or_insert_default().touches.push(touch);
    }

    /// Whether the owner may write that: a key more must leave the section small enough for
    /// everyone to take it whole. Deletions are forgotten early if that makes room.
    fn has_room_for(&mut self, key: &Key, value: Option<&Value>) -> bool {
        if value.is_none() || self.entries.get(key).is_some() {
            return true;
        }
        let fits = |section: &Self| {
            let (_, topics, bytes) = section.entries.load();
            bytes + key::size(key, value) <= OWN_BYTES_MAX
                && topics + usize::from(key.is_topic()) <= SECTION_TOPICS_MAX
        };
        if !fits(self) {
            self.forget_deletions(self.ver);
        }
        self.is_full = !fits(self);
        !self.is_full
    }

    /// Whether the owner's last attempt to write a new key found no room.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    fn begin_epoch(&mut self, epoch: u64) -> Vec<Key> {
        // M08, class "state of an earlier life".
        if mutant!(M08) && self.epoch > 0 {
            self.epoch = epoch;
            return Vec::new();
        }
        if self.epoch > 0 {
            sometimes!("new_epoch_replaces");
        }
        let is_audited = self.is_audited;
        let old = std::mem::replace(self, Self { is_audited, ..Self::new(epoch) });
        old.entries.iter().map(|(key, _)| key.clone()).collect()
    }

    fn raise_floor(&mut self, floor: u64) {
        let floor = floor.min(self.ver);
        if floor > self.floor {
            self.floor = floor;
            self.drop_dead(floor);
        }
    }

    fn drop_dead(&mut self, floor: u64) {
        if self.entries.last_deletion(floor).is_some() {
            for (key, old) in self.entries.change().take_deletions(floor) {
                self.note(key, Some(&old), None);
            }
        }
    }
}

fn op(key: &Key, entry: &Entry) -> Op {
    Op { ver: entry.ver, key: key.clone(), value: entry.value.clone() }
}

/// Whether a section that has so many keys, topics and bytes may take `ops`.
///
/// With a delta what its owner has deleted and forgotten meanwhile is still there until it has been
/// applied, so that a section may have twice (`margin`) what its owner can have.
fn is_bounded(load: (usize, usize, usize), ops: &[Op], margin: usize) -> bool {
    let (keys, topics, bytes) = load;
    let new_topics = ops.iter().filter(|op| op.key.is_topic()).count();
    let new_bytes: usize = ops.iter().map(Op::size).sum();
    keys + ops.len() <= margin * SECTION_KEYS_MAX
        && topics + new_topics <= margin * SECTION_TOPICS_MAX
        && bytes + new_bytes <= margin * SECTION_BYTES_MAX
}

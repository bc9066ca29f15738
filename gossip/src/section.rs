//! One owner's part of the catalogue: versioned keys, written by the owner alone.
//!
//! The rules of a copy:
//!
//! 1. A section of a newer epoch replaces the copy whole, and only from its beginning.
//! 2. A delta that begins above the copy's version leaves a gap and is not applied.
//! 3. Otherwise operations above the copy's version are applied, in order of version.
//! 4. Below the owner's floor deletions have been forgotten, so only a snapshot is served.
//! 5. A snapshot of the same epoch is merged: it may come from a copy that is itself behind.

mod key;

use std::collections::{BTreeMap, BTreeSet};

use crate::audit::{Audit, Touch};

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

/// Keys of one owner, in one epoch, up to one version.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Section {
    /// The owner's epoch: one for each start of its process.
    pub epoch: u64,
    /// Version of the last write that is known, with everything before it.
    pub ver: u64,
    /// Highest version whose deletion has been forgotten.
    pub floor: u64,
    keys: BTreeMap<Key, Entry>,
    by_ver: BTreeMap<u64, Key>,
    dead: BTreeSet<u64>,
    /// What it weighs as a snapshot, and its topics, deletions included in both.
    bytes: usize,
    topics: usize,
    is_full: bool,
    audit: Option<Box<Audit>>,
}

impl Section {
    /// An empty section of `epoch`.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// From now on every change of a key is noted, for [`take_touches`](Self::take_touches).
    pub fn begin_audit(&mut self) {
        if self.audit.is_none() {
            self.audit = Some(Box::new(Audit::of(self.keys.iter())));
        }
    }

    /// What an auditor has not been told yet, in order; nothing without one.
    pub fn take_touches(&mut self) -> Vec<Touch> {
        self.audit.as_mut().map(|audit| audit.take_touches()).unwrap_or_default()
    }

    /// A hash of the live keys: equal for equal sets. `None` without an auditor.
    pub fn live_hash(&self) -> Option<u64> {
        self.audit.as_ref().map(|audit| audit.live_hash())
    }

    /// The owner writes `key`; `None` deletes it. False if that changes nothing,
    /// or if a name is not one of NSQ's.
    pub fn write(&mut self, key: Key, value: Option<Value>) -> bool {
        if !key.is_valid() {
            return false;
        }
        let unchanged = match self.keys.get(&key) {
            Some(entry) => entry.value == value,
            None => value.is_none(),
        };
        if unchanged || !self.has_room_for(&key, value.as_ref()) {
            return false;
        }
        let last = self.keys.get(&key).map(|entry| entry.ver);
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
        let keys: Vec<Key> = self.keys.keys().cloned().collect();
        for key in keys {
            self.remove(&key);
        }
    }

    /// The owner forgets every deletion at or below `ver`.
    pub fn forget_deletions(&mut self, ver: u64) {
        let last = self.dead.range(..=ver).next_back().copied();
        if let Some(last) = last {
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
        let of_before = if newer_epoch { (0, 0, 0) } else { self.load() };
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
            .keys
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
        let mut delta =
            Delta { epoch: self.epoch, from: have, to: self.ver, floor: self.floor, ops: vec![] };
        let mut bytes = 0;
        for (&ver, key) in self.by_ver.range(have.saturating_add(1)..) {
            let op = self.op(ver, key);
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

    /// The whole section.
    pub fn snapshot(&self) -> Snapshot {
        let ops = self.by_ver.iter().map(|(&ver, key)| self.op(ver, key)).collect();
        Snapshot { epoch: self.epoch, ver: self.ver, floor: self.floor, ops }
    }

    /// How many writes a delta from `have` would carry, counted up to `limit`.
    pub fn ops_since(&self, have: u64, limit: usize) -> usize {
        self.by_ver.range(have.saturating_add(1)..).take(limit).count()
    }

    /// The value of a key that is live.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.keys.get(key)?.value.as_ref()
    }

    /// The last write of `key`, deletions included.
    pub fn entry(&self, key: &Key) -> Option<&Entry> {
        self.keys.get(key)
    }

    /// Live keys of `topic` with their entries, in order.
    pub fn topic<'a>(
        &'a self,
        topic: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Entry)> + use<'a> {
        let first = Key::new(ProducerId(0), topic, "");
        self.keys
            .range(first..)
            .take_while(move |(key, _)| &*key.topic == topic)
            .filter(|(_, entry)| entry.value.is_some())
    }

    /// All live keys with their entries, in order.
    pub fn live(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.keys.iter().filter(|(_, entry)| entry.value.is_some())
    }

    /// All keys with their entries, deletions included, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.keys.iter()
    }

    /// Number of keys held, deletions included.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn op(&self, ver: u64, key: &Key) -> Op {
        let value = self.keys.get(key).and_then(|entry| entry.value.clone());
        Op { ver, key: key.clone(), value }
    }

    fn put(&mut self, key: Key, entry: Entry) {
        let ver = entry.ver;
        if entry.value.is_none() {
            self.dead.insert(ver);
        }
        if let Some(audit) = &mut self.audit {
            audit.note(&key, self.keys.get(&key), Some(&entry));
        }
        self.weigh(&key, Some(&entry), true);
        if let Some(old) = self.keys.insert(key.clone(), entry) {
            self.weigh(&key, Some(&old), false);
            self.by_ver.remove(&old.ver);
            self.dead.remove(&old.ver);
        }
        self.by_ver.insert(ver, key);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(old) = self.keys.remove(key) {
            self.weigh(key, Some(&old), false);
            if let Some(audit) = &mut self.audit {
                audit.note(key, Some(&old), None);
            }
            self.by_ver.remove(&old.ver);
            self.dead.remove(&old.ver);
        }
    }

    /// Whether the owner may write that: a key more must leave the section small enough for
    /// everyone to take it whole. Deletions are forgotten early if that makes room.
    fn has_room_for(&mut self, key: &Key, value: Option<&Value>) -> bool {
        if value.is_none() || self.keys.contains_key(key) {
            return true;
        }
        let fits = |section: &Self| {
            section.bytes + key::size(key, value) <= OWN_BYTES_MAX
                && section.topics + usize::from(key.is_topic()) <= SECTION_TOPICS_MAX
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

    /// `entry` of `key` came, or is gone.
    fn weigh(&mut self, key: &Key, entry: Option<&Entry>, comes: bool) {
        let Some(entry) = entry else { return };
        let (bytes, topics) = (key::size(key, entry.value.as_ref()), usize::from(key.is_topic()));
        if comes {
            (self.bytes, self.topics) = (self.bytes + bytes, self.topics + topics);
        } else {
            (self.bytes, self.topics) = (self.bytes - bytes, self.topics - topics);
        }
    }

    /// Keys, topics and bytes, deletions included.
    fn load(&self) -> (usize, usize, usize) {
        (self.keys.len(), self.topics, self.bytes)
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
        let audit = self.audit.take().map(|audit| audit.of_new_epoch());
        let old = std::mem::replace(self, Self { audit, ..Self::new(epoch) });
        old.keys.into_keys().collect()
    }

    fn raise_floor(&mut self, floor: u64) {
        let floor = floor.min(self.ver);
        if floor > self.floor {
            self.floor = floor;
            self.drop_dead(floor);
        }
    }

    fn drop_dead(&mut self, floor: u64) {
        let kept = self.dead.split_off(&(floor + 1));
        for ver in std::mem::replace(&mut self.dead, kept) {
            if let Some(key) = self.by_ver.remove(&ver) {
                let old = self.keys.remove(&key);
                self.weigh(&key, old.as_ref(), false);
                if let Some(audit) = &mut self.audit {
                    audit.note(&key, old.as_ref(), None);
                }
            }
        }
    }
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

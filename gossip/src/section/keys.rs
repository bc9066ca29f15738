//! The keys of a section, found by key and by version.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::key::{Entry, Key, Place, ProducerId, compare};

/// Keys that are held in a row. Most nodes have few topics, and every node holds the sections of
/// all: a row of two takes 144 bytes, two maps with two entries 1,500. A row of 32 is searched as
/// quickly as a map, and moved in less time than three maps take for a key.
const FEW_MAX: usize = 32;

/// Room for so many more is made in a row that is full.
const FEW_MORE: usize = 2;

/// Keys with their last writes, in order.
#[derive(Clone, Debug)]
pub(super) enum Keys {
    /// In the order of keys.
    Few(Vec<(Key, Entry)>),
    /// They were once more than [`FEW_MAX`].
    Many(Box<Maps>),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Maps {
    keys: BTreeMap<Key, Entry>,
    by_ver: BTreeMap<u64, Key>,
    dead: BTreeSet<u64>,
}

impl Default for Keys {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(row) => row.len(),
            Self::Many(maps) => maps.keys.len(),
        }
    }

    /// One of the two is empty.
    fn parts(&self) -> (&[(Key, Entry)], Option<&Maps>) {
        match self {
            Self::Few(row) => (row, None),
            Self::Many(maps) => (&[], Some(maps)),
        }
    }

    pub(super) fn at(&self, place: &dyn Place) -> Option<&Entry> {
        match self {
            Self::Few(row) => find(row, place).ok().map(|at| &row[at].1),
            Self::Many(maps) => maps.keys.get(place),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        let (row, maps) = self.parts();
        let row = row.iter().map(|(key, entry)| (key, entry));
        row.chain(maps.into_iter().flat_map(|maps| &maps.keys))
    }

    /// Those of `topic`, in order.
    pub(super) fn topic<'a, 't>(
        &'a self,
        topic: &'t str,
    ) -> impl Iterator<Item = (&'a Key, &'a Entry)> + use<'a, 't> {
        let (row, maps) = self.parts();
        let row = &row[row.partition_point(|(key, _)| *key.topic < *topic)..];
        let end = row.iter().position(|(key, _)| *key.topic != *topic).unwrap_or(row.len());
        let row = row[..end].iter().map(|(key, entry)| (key, entry));
        let first: &dyn Place = &(topic, ProducerId(0), "");
        let bounds = (Bound::Included(first), Bound::Unbounded);
        let maps = maps.map(|maps| maps.keys.range::<dyn Place, _>(bounds));
        let maps = maps.map(|keys| keys.take_while(move |(key, _)| *key.topic == *topic));
        row.chain(maps.into_iter().flatten())
    }

    /// Those written with `ver` or later, by version.
    pub(super) fn since(&self, ver: u64) -> impl Iterator<Item = (&Key, &Entry)> {
        let (row, maps) = self.parts();
        let mut by_ver = [None; FEW_MAX];
        let mut count = 0;
        for (key, entry) in row.iter().filter(|(_, entry)| entry.ver >= ver) {
            by_ver[count] = Some((key, entry));
            count += 1;
        }
        by_ver[..count].sort_unstable_by_key(|pair| pair.map(|(_, entry)| entry.ver));
        let maps = maps.into_iter().flat_map(move |maps| {
            let keys = maps.by_ver.range(ver..).map(|(_, key)| key);
            keys.filter_map(|key| Some((key, maps.keys.get(key)?)))
        });
        by_ver.into_iter().take(count).flatten().chain(maps)
    }

    /// Version of the last deletion at or below `ver`.
    pub(super) fn last_deletion(&self, ver: u64) -> Option<u64> {
        match self {
            Self::Few(row) => {
                let dead = row.iter().filter(|(_, entry)| entry.value.is_none());
                dead.map(|(_, entry)| entry.ver).filter(|&at| at <= ver).max()
            }
            Self::Many(maps) => maps.dead.range(..=ver).next_back().copied(),
        }
    }

    /// Writes `key`; what was there.
    pub(super) fn put(&mut self, key: Key, entry: Entry) -> Option<Entry> {
        let row = match self {
            Self::Few(row) => row,
            Self::Many(maps) => return maps.put(key, entry),
        };
        match find(row, &key) {
            Ok(at) => return Some(std::mem::replace(&mut row[at].1, entry)),
            Err(at) if row.len() < FEW_MAX => {
                if row.len() == row.capacity() {
                    row.reserve_exact(FEW_MORE);
                }
                row.insert(at, (key, entry));
                return None;
            }
            Err(_) => {}
        }
        let mut maps = Box::<Maps>::default();
        for (key, entry) in std::mem::take(row) {
            maps.put(key, entry);
        }
        maps.put(key, entry);
        *self = Self::Many(maps);
        None
    }

    /// Takes `key` out; what was there.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        match self {
            Self::Few(row) => find(row, key).ok().map(|at| row.remove(at).1),
            Self::Many(maps) => maps.remove(key),
        }
    }

    /// Takes out the deletions up to `floor`, by version.
    pub(super) fn take_deletions(&mut self, floor: u64) -> Vec<(Key, Entry)> {
        let row = match self {
            Self::Few(row) => row,
            Self::Many(maps) => return maps.take_deletions(floor),
        };
        let is_over = |(_, entry): &mut (_, Entry)| entry.value.is_none() && entry.ver <= floor;
        let mut taken: Vec<_> = row.extract_if(.., is_over).collect();
        taken.sort_unstable_by_key(|(_, entry)| entry.ver);
        taken
    }
}

/// Where `place` is in `row`, or would be.
fn find(row: &[(Key, Entry)], place: &dyn Place) -> Result<usize, usize> {
    let (topic, in_topic) = (place.topic(), place.in_topic());
    // Records come first, and nearly every node has only one.
    if topic.is_empty()
        && row.first().is_some_and(|(key, _)| key.topic.is_empty() && key.in_topic() == in_topic)
    {
        return Ok(0);
    }
    row.binary_search_by(|(key, _)| compare(&key.topic, key.in_topic(), topic, in_topic))
}

impl Maps {
    fn put(&mut self, key: Key, entry: Entry) -> Option<Entry> {
        let ver = entry.ver;
        if entry.value.is_none() {
            self.dead.insert(ver);
        }
        let old = self.keys.insert(key.clone(), entry);
        if let Some(old) = &old {
            self.forget(old.ver);
        }
        self.by_ver.insert(ver, key);
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let old = self.keys.remove(key)?;
        self.forget(old.ver);
        Some(old)
    }

    fn forget(&mut self, ver: u64) {
        self.by_ver.remove(&ver);
        self.dead.remove(&ver);
    }

    fn take_deletions(&mut self, floor: u64) -> Vec<(Key, Entry)> {
        let kept = self.dead.split_off(&(floor + 1));
        let dead = std::mem::replace(&mut self.dead, kept);
        let taken = dead.into_iter().filter_map(|ver| {
            let key = self.by_ver.remove(&ver)?;
            let old = self.keys.remove(&key)?;
            Some((key, old))
        });
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::section::{ProducerId, Value};

    fn key(number: u8) -> Key {
        let channel = ["", "a", "b", "c"][usize::from(number % 4)];
        Key::new(ProducerId::NSQD, &format!("t{}", number / 4), channel)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn few_and_many_are_maps_by_key_and_by_version(
            limit in 1..60_u8,
            steps in prop::collection::vec((0..60_u8, 0..8_u8), 1..120),
        ) {
            let mut keys = Keys::default();
            let mut model: BTreeMap<Key, Entry> = BTreeMap::new();
            for (ver, (number, step)) in (1..).zip(steps) {
                let key = key(number % limit);
                match step {
                    0 => prop_assert_eq!(keys.remove(&key), model.remove(&key)),
                    1 => {
                        let floor = ver / 2;
                        let is_over = |entry: &Entry| entry.value.is_none() && entry.ver <= floor;
                        let mut over: Vec<_> =
                            model.extract_if(.., |_, entry| is_over(entry)).collect();
                        over.sort_by_key(|(_, entry)| entry.ver);
                        let last = over.last().map(|(_, entry)| entry.ver);
                        prop_assert_eq!(keys.last_deletion(floor), last);
                        prop_assert_eq!(keys.take_deletions(floor), over);
                    }
                    _ => {
                        let value = (step > 3).then_some(Value::REGISTERED);
                        let entry = Entry { ver, value };
                        prop_assert_eq!(
                            keys.put(key.clone(), entry.clone()),
                            model.insert(key.clone(), entry)
                        );
                    }
                }
                prop_assert_eq!(keys.len(), model.len());
                prop_assert_eq!(keys.at(&key), model.get(&key));
                prop_assert!(keys.iter().eq(&model));
                let of_topic = model.iter().filter(|(other, _)| other.topic == key.topic);
                prop_assert!(keys.topic(&key.topic).eq(of_topic));
                for since in [0, ver / 2, ver + 1] {
                    let mut later: Vec<_> =
                        model.iter().filter(|(_, entry)| entry.ver >= since).collect();
                    later.sort_by_key(|(_, entry)| entry.ver);
                    prop_assert!(keys.since(since).eq(later));
                }
            }
        }
    }
}

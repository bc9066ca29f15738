//! What a node's broker keeps on disk, and what faults leave of it.

use std::collections::BTreeMap;
use std::io;

use grapevine_storage::{Disk as _, MemoryDisk};

use crate::luck::Draw;
use crate::plan::DiskTrouble;

/// Bytes that still fit on a disk that is called full, at most: a write is then cut short.
const ROOM_BYTES_MAX: f64 = 300.0;

/// How likely lost power leaves a part of what was not synced, rather than all or nothing of it.
const PART_SHARE: f64 = 0.3;

/// Where the files of one topic are.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicDir {
    /// Its log, `topic.state`, and a `.channel` file for each channel.
    pub(crate) main: MemoryDisk,
    /// Its side log.
    pub(crate) side: MemoryDisk,
}

impl TopicDir {
    fn disks(&self) -> [&MemoryDisk; 2] {
        [&self.main, &self.side]
    }

    fn copy(&self) -> Self {
        Self { main: self.main.snapshot(), side: self.side.snapshot() }
    }
}

/// The data path at one moment.
#[derive(Debug, Default)]
struct Content {
    topics: BTreeMap<u32, TopicDir>,
    /// Files of the node itself.
    node: MemoryDisk,
}

impl Content {
    fn copy(&self) -> Self {
        let topics = self.topics.iter().map(|(&topic, dir)| (topic, dir.copy())).collect();
        Self { topics, node: self.node.snapshot() }
    }

    fn disks(&self) -> impl Iterator<Item = &MemoryDisk> {
        self.topics.values().flat_map(TopicDir::disks).chain([&self.node])
    }
}

/// One node's data path.
#[derive(Debug, Default)]
pub(crate) struct Store {
    content: Content,
    /// What it held at these moments (ns), if somebody will want to know.
    history: Option<Vec<(u64, Content)>>,
    is_full: bool,
    lies: bool,
}

impl Store {
    /// An empty one. `keeps_history`: it may be asked for what it held earlier.
    pub(crate) fn new(keeps_history: bool) -> Self {
        Self { history: keeps_history.then(Vec::new), ..Self::default() }
    }

    /// Topics that have a directory, in order.
    pub(crate) fn topics(&self) -> Vec<u32> {
        self.content.topics.keys().copied().collect()
    }

    /// A topic's directory, if it is there.
    pub(crate) fn dir(&self, topic: u32) -> Option<TopicDir> {
        self.content.topics.get(&topic).cloned()
    }

    /// Makes a topic's directory.
    ///
    /// # Errors
    ///
    /// When the disk is full.
    pub(crate) fn create_dir(&mut self, topic: u32) -> io::Result<TopicDir> {
        if self.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let dir = TopicDir::default();
        for disk in dir.disks() {
            disk.set_lies(self.lies);
        }
        self.content.topics.insert(topic, dir.clone());
        Ok(dir)
    }

    /// The files of the node itself.
    pub(crate) fn node(&self) -> MemoryDisk {
        self.content.node.clone()
    }

    /// What is wrong with the disk from now on.
    pub(crate) fn set_troubles(&mut self, troubles: &[DiskTrouble], draw: Draw) {
        self.is_full = troubles.contains(&DiskTrouble::Full);
        self.lies = troubles.contains(&DiskTrouble::FsyncLies);
        for (field, disk) in (0..).zip(self.content.disks()) {
            let room = (draw.unit(field) * ROOM_BYTES_MAX) as u64;
            disk.set_room(self.is_full.then_some(room));
            disk.set_lies(self.lies);
        }
    }

    /// Remembers what it holds at `now`, if somebody will want to know.
    pub(crate) fn remember(&mut self, now: u64) {
        if let Some(history) = &mut self.history {
            history.push((now, self.content.copy()));
        }
    }

    /// Power was lost: what was not synced is gone, there, or cut. `torn`: how likely it is cut.
    pub(crate) fn lose_power(&mut self, draw: Draw, torn: Option<f64>) {
        let mut field = 0;
        let mut keep = |unsynced: u64| {
            field += 3;
            if draw.chance(field, torn.unwrap_or(PART_SHARE)) {
                (draw.unit(field + 1) * unsynced as f64) as u64
            } else {
                u64::from(draw.chance(field + 2, 0.5)) * unsynced
            }
        };
        for disk in self.content.disks() {
            disk.crash(&mut keep);
        }
        // A directory of which nothing was synced was itself only in memory.
        self.content.topics.retain(|_, dir| dir.main.list().is_ok_and(|names| !names.is_empty()));
    }

    /// Everything is gone.
    pub(crate) fn lose(&mut self) {
        self.replace(Content::default());
    }

    /// It holds what it held at `then` (ns), as far as anybody remembers.
    pub(crate) fn go_back(&mut self, then: u64) {
        let before = self.history.iter().flatten().take_while(|(at, _)| *at <= then);
        let content = before.last().map(|(_, content)| content.copy());
        self.replace(content.unwrap_or_default());
    }

    /// It holds what another one holds.
    pub(crate) fn become_like(&mut self, other: &Self) {
        self.replace(other.content.copy());
    }

    fn replace(&mut self, content: Content) {
        self.content = content;
        for disk in self.content.disks() {
            disk.set_room(self.is_full.then_some(0));
            disk.set_lies(self.lies);
        }
    }
}

#[cfg(test)]
mod tests {
    use grapevine_storage::SyncHandle as _;

    use super::*;

    fn store() -> (Store, TopicDir) {
        let mut store = Store::new(true);
        let dir = store.create_dir(3).unwrap();
        dir.main.append("log", 0, b"synced").unwrap();
        dir.main.sync_handle(&["log"]).sync().unwrap();
        dir.main.append("log", 6, b" and not").unwrap();
        (store, dir)
    }

    fn log(store: &Store) -> Vec<u8> {
        store.dir(3).unwrap().main.read("log").unwrap().unwrap()
    }

    #[test]
    fn lost_power_leaves_what_was_synced_and_perhaps_more() {
        let mut lengths = std::collections::BTreeSet::new();
        for luck in 0..200 {
            let (mut store, _) = store();
            store.lose_power(Draw(luck), None);
            lengths.insert(log(&store).len());
        }
        assert!(lengths.iter().all(|len| (6..=14).contains(len)), "{lengths:?}");
        assert!(lengths.contains(&6) && lengths.contains(&14) && lengths.len() > 4);
    }

    #[test]
    fn a_sync_that_lies_saves_nothing() {
        let gone = (0..100).filter(|&luck| {
            let mut store = Store::new(false);
            store.set_troubles(&[DiskTrouble::FsyncLies], Draw(0));
            let dir = store.create_dir(3).unwrap();
            dir.main.append("log", 0, b"synced").unwrap();
            dir.main.sync_handle(&["log"]).sync().unwrap();
            store.lose_power(Draw(luck), None);
            store.topics().is_empty()
        });
        assert!((20..60).contains(&gone.count()));
    }

    #[test]
    fn a_backup_holds_what_was_there_then_and_a_full_disk_takes_nothing_new() {
        let (mut store, dir) = store();
        store.remember(1_000);
        dir.main.append("log", 14, b" later").unwrap();
        store.go_back(1_500);
        assert_eq!(log(&store), b"synced and not");
        store.set_troubles(&[DiskTrouble::Full], Draw(1));
        assert!(store.create_dir(4).is_err());
        assert!(store.dir(3).unwrap().main.append("log", 14, &[0; 400]).is_err());
        store.go_back(999);
        assert!(store.topics().is_empty());
    }
}

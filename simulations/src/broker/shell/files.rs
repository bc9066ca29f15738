//! Start, rounds and end of a broker's process: what it reads and writes.

use std::io;
use std::sync::Arc;

use grapevine_broker::{ChannelFile, ChannelStats, Checkpoint, IdSource, Now, Topic};
use grapevine_gossip::mutant;
use grapevine_protocol::ChannelName;
use grapevine_storage::{
    ChannelCheckpoint, Disk as _, Log, MemoryDisk, SyncHandle as _, TopicState,
};

use super::{Hosted, Options, Shell};
use crate::broker::names;
use crate::broker::store::{Store, TopicDir};

/// Holds the mark below which message ids were given out.
const IDS_FILE: &str = "message-ids";

const STATE_FILE: &str = "topic.state";
const CHANNEL_SUFFIX: &str = ".channel";

impl Shell {
    /// A process starts: it loads what is there.
    ///
    /// # Errors
    ///
    /// When something cannot be read at all; a node does not start then.
    pub(crate) fn start(store: &Store, options: Options, now: Now) -> io::Result<Self> {
        let mark = store.node().read(IDS_FILE)?;
        let mark = mark.and_then(|bytes| Some(u64::from_le_bytes(*bytes.first_chunk()?)));
        let ids = IdSource::new(options.id_bits, mark.unwrap_or(0));
        let mut shell = Self::empty(options, ids);
        for topic in store.topics() {
            let Some(dir) = store.dir(topic) else { continue };
            let (hosted, highest_id) = shell.load(topic, dir, now)?;
            shell.ids.raise(highest_id);
            shell.topics.insert(topic, hosted);
        }
        // On a full disk ids follow the clock all the same.
        drop(shell.save_ids(store));
        shell.expire(now);
        Ok(shell)
    }

    fn load(&self, topic: u32, dir: TopicDir, now: Now) -> io::Result<(Hosted, u64)> {
        let (log, recovery) = Log::open(dir.main.clone(), self.log_options())?;
        let side = match dir.side.list()?.is_empty() {
            true => None,
            false => Some(Log::open(dir.side.clone(), self.side_options())?.0),
        };
        let state = dir.main.read(STATE_FILE)?;
        let state = state.and_then(|bytes| TopicState::decode(&bytes).ok());
        let mut channels = Vec::new();
        for file in dir.main.list()? {
            let Some(name) = file.strip_suffix(CHANNEL_SUFFIX) else { continue };
            let Ok(name) = ChannelName::new(name) else { continue };
            let bytes = dir.main.read(&file)?.unwrap_or_default();
            channels.push(ChannelFile { name, checkpoint: ChannelCheckpoint::decode(&bytes).ok() });
        }
        let settings = Arc::clone(&self.settings);
        let name = names::topic(topic);
        let core = Topic::recover(name, log, side, state, channels, settings, now)?;
        let highest_id = recovery.highest_id.max(core.highest_held_id());
        Ok((Hosted::new(core, dir), highest_id))
    }

    /// Numbers of a topic's channels, in order.
    pub(crate) fn channels(&self, topic: u32) -> Vec<u32> {
        let hosted = self.topics.get(&topic);
        let names = hosted.into_iter().flat_map(|hosted| hosted.core.channel_names());
        names.filter_map(|name| names::channel_number(name)).collect()
    }

    fn save_ids(&mut self, store: &Store) -> io::Result<()> {
        let mark = self.ids.mark();
        store.node().replace(IDS_FILE, &mark.to_le_bytes(), self.options.is_fsync)?;
        self.saved_ids = self.ids.high_water();
        Ok(())
    }

    /// Writes what changed of a topic, then frees what nobody needs; whether it was written.
    pub(crate) fn save(&mut self, topic: u32, now: Now, all: bool, is_last: bool) -> bool {
        let is_fsync = self.options.is_fsync;
        let Some(hosted) = self.topics.get_mut(&topic) else { return false };
        let mut checkpoint = hosted.core.checkpoint(now, all);
        spoil(&mut checkpoint, is_last);
        let side_handle = checkpoint.has_side.then(|| hosted.core.side_sync_handle()).flatten();
        let is_durable = is_fsync || is_last || checkpoint.has_side;
        let is_written = side_handle.is_none_or(|handle| handle.sync().is_ok())
            && write(&hosted.dir.main, &checkpoint, is_durable).is_ok();
        hosted.is_touched |= !is_written; // tried again with the next round
        hosted.is_saved = is_written;
        let forgotten = hosted.core.checkpointed(&checkpoint, is_written);
        for name in &forgotten.log {
            drop(hosted.dir.main.remove(name));
        }
        for name in &forgotten.side {
            drop(hosted.dir.side.remove(name));
        }
        is_written
    }

    /// The regular round over one topic; whether what it has was written. `None`: nothing to do.
    pub(crate) fn round(&mut self, topic: u32, now: Now) -> Option<bool> {
        let hosted = self.topics.get_mut(&topic)?;
        if !std::mem::take(&mut hosted.is_touched) {
            return None;
        }
        let mut is_written = self.save(topic, now, false, false);
        let side_options = self.side_options();
        let hosted = self.topics.get_mut(&topic)?;
        hosted.core.take_damage();
        let side = hosted.dir.side.clone();
        let mut open = || Log::open(side.clone(), side_options.clone()).map(|(log, _)| log);
        if hosted.core.relocate(&mut open).unwrap_or(false) {
            is_written = self.save(topic, now, false, false);
        }
        Some(is_written)
    }

    /// The part of a round that is about the node.
    pub(crate) fn round_of_node(&mut self, store: &Store) {
        if self.ids.high_water() != self.saved_ids {
            drop(self.save_ids(store));
        }
    }

    /// The background sync of one topic; whether all that was published is on the device.
    pub(crate) fn sync_now(&mut self, topic: u32) -> bool {
        let Some(hosted) = self.topics.get_mut(&topic) else { return false };
        if !std::mem::take(&mut hosted.has_unsynced) {
            return false;
        }
        let handle = hosted.core.sync_handle();
        let is_done = handle.is_none_or(|handle| handle.sync().is_ok());
        hosted.has_unsynced |= !is_done;
        is_done
    }

    /// The node stops in order, its clients are gone: everything is written. Those topics of which
    /// all that is in memory is on the disk, and whether their checkpoints are.
    pub(crate) fn stop(&mut self, store: &Store, now: Now) -> Vec<(u32, bool)> {
        self.is_exiting = true;
        let mut kept = Vec::new();
        for topic in self.topics() {
            let Some(hosted) = self.topics.get_mut(&topic) else { continue };
            hosted.core.exit();
            let is_flushed = hosted.core.flush().is_ok();
            hosted.has_unsynced = true;
            let is_saved = self.save(topic, now, true, true);
            self.sync_now(topic);
            if is_flushed {
                kept.push((topic, is_saved));
            }
        }
        drop(self.save_ids(store));
        kept
    }

    /// Figures of a topic's channels.
    pub(crate) fn counts(&mut self, topic: u32, now: Now) -> Vec<ChannelStats> {
        let hosted = self.topics.get_mut(&topic);
        hosted.map(|hosted| hosted.core.stats(now, &|_| true).channels).unwrap_or_default()
    }
}

/// Planted bugs of checkpoints.
fn spoil(checkpoint: &mut Checkpoint, is_last: bool) {
    for (_, state) in &mut checkpoint.channels {
        if mutant!(Y02) {
            state.entries.clear();
        }
        if mutant!(Y04) && is_last {
            state.entries.iter_mut().for_each(|entry| entry.attempts = 0);
        }
    }
}

fn write(dir: &MemoryDisk, checkpoint: &Checkpoint, is_durable: bool) -> io::Result<()> {
    for (channel, state) in &checkpoint.channels {
        let name = format!("{channel}{CHANNEL_SUFFIX}");
        if mutant!(Y09) && dir.read(&name)?.is_some() {
            continue;
        }
        dir.replace(&name, &state.encode(), is_durable)?;
    }
    if let Some(state) = &checkpoint.state {
        dir.replace(STATE_FILE, &state.encode(), is_durable)?;
    }
    Ok(())
}

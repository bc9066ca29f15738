//! A topic's files: checkpoints, removal of finished segments, syncs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use grapevine_protocol::TopicName;
use grapevine_storage::{Cursor, DirDisk, Disk as _, Log, SyncHandle as _, TopicDir};
use tracing::{error, info};

use super::Topic;
use crate::node::registry::SIDE_LOG;

/// Rounds without anything happening after which a topic gives back its buffers and file handle.
const QUIET_ROUNDS_MAX: u64 = 10;

impl Topic {
    /// Returns once everything below `through` is on the device: one fsync serves all who wait.
    ///
    /// # Errors
    ///
    /// When the device refuses.
    pub async fn sync_through(self: &Arc<Self>, through: Cursor) -> std::io::Result<()> {
        let mut synced = self.synced.lock().await;
        if *synced >= through.offset {
            return Ok(());
        }
        let (handle, end) = {
            let mut core = self.core.lock();
            (core.sync_handle(), core.end())
        };
        if let Some(handle) = handle {
            tokio::task::spawn_blocking(move || handle.sync())
                .await
                .map_err(std::io::Error::other)??;
        }
        *synced = end.offset;
        Ok(())
    }

    /// Background sync of `--durability=os`; returns whether there was anything to do.
    pub(crate) fn sync_now(&self) -> bool {
        if self.unsynced.swap(0, Ordering::Relaxed) == 0 {
            return false;
        }
        let handle = self.core.lock().sync_handle();
        if let Some(handle) = handle
            && let Err(error) = handle.sync()
        {
            self.registry.health.write_failed(&error);
            error!(topic = %self.name, %error, "cannot sync the topic log");
        }
        true
    }

    /// Writes what changed, then frees what nobody needs any more.
    pub(crate) fn save(&self) {
        self.save_files(false, false);
    }

    /// The last save: everything, log included.
    pub(crate) fn save_all(&self) {
        if let Err(error) = self.core.lock().flush() {
            error!(
                topic = %self.name, %error,
                "cannot write the topic log; messages in memory are lost"
            );
        }
        self.save_files(true, true);
        self.sync_now();
    }

    fn save_files(&self, all: bool, is_last: bool) {
        let is_gone = self.files.lock();
        if *is_gone {
            return;
        }
        let now = self.registry.clock.now();
        let checkpoint = self.core.lock().checkpoint(now, all);
        let is_durable = self.registry.is_fsync || is_last;
        if let Some(dir) = &self.dir
            && let Err(error) = write_checkpoint(dir, &checkpoint, is_durable)
        {
            self.core.lock().checkpoint_failed();
            if self.registry.health.write_failed(&error) {
                error!(
                    topic = %self.name, %error,
                    "cannot write a checkpoint; messages may come again after a crash"
                );
            }
            return;
        }
        let forgotten = self.core.lock().forget(&checkpoint);
        if let Some(dir) = &self.dir {
            remove_segments(&self.name, &dir.disk(), &forgotten.log);
            remove_segments(&self.name, &dir.side_disk(SIDE_LOG), &forgotten.side);
        }
    }

    /// The regular round: checkpoint, and moving old messages out of the way.
    pub(crate) fn round(&self) {
        if !self.is_touched.swap(false, Ordering::Relaxed) {
            if self.quiet_rounds.fetch_add(1, Ordering::Relaxed) == QUIET_ROUNDS_MAX {
                self.core.lock().rest();
            }
            return;
        }
        self.quiet_rounds.store(0, Ordering::Relaxed);
        self.save();
        let Some(dir) = &self.dir else { return };
        let registry = &self.registry;
        let mut open =
            || Log::open(dir.side_disk(SIDE_LOG), registry.side_options()).map(|(log, _)| log);
        let is_gone = self.files.lock();
        let moved = match *is_gone {
            true => Ok(false),
            false => self.core.lock().relocate(&mut open),
        };
        drop(is_gone);
        match moved {
            Ok(false) => {}
            Ok(true) => {
                info!(topic = %self.name, "old unfinished messages moved to the side log");
                self.save();
            }
            Err(error) => {
                error!(topic = %self.name, %error, "cannot move old messages to the side log")
            }
        }
    }
}

fn write_checkpoint(
    dir: &TopicDir,
    checkpoint: &grapevine_broker::Checkpoint,
    is_durable: bool,
) -> std::io::Result<()> {
    for (channel, state) in &checkpoint.channels {
        dir.write_channel(channel, &state.encode(), is_durable)?;
    }
    if let Some(state) = &checkpoint.state {
        dir.write_state(&state.encode(), is_durable)?;
    }
    Ok(())
}

fn remove_segments(topic: &TopicName, disk: &DirDisk, names: &[String]) {
    for name in names {
        if let Err(error) = disk.remove(name) {
            error!(%topic, segment = name, %error, "cannot remove a finished segment");
        }
    }
}

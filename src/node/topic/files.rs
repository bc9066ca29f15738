//! A topic's files: checkpoints, removal of finished segments, syncs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use grapevine_protocol::TopicName;
use grapevine_storage::{Cursor, DirDisk, Disk as _, Log, SyncHandle as _, TopicDir};
use tracing::{error, info};

use super::Topic;
use crate::node::registry::{SIDE_LOG, report_damage};

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
        let count = self.unsynced.swap(0, Ordering::Relaxed);
        if count == 0 {
            return false;
        }
        let handle = self.core.lock().sync_handle();
        if let Some(handle) = handle
            && let Err(error) = handle.sync()
        {
            self.unsynced.fetch_add(count, Ordering::Relaxed); // tried again
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
        let (checkpoint, side_handle) = {
            let mut core = self.core.lock();
            let checkpoint = core.checkpoint(now, all);
            let side_handle = checkpoint.has_side.then(|| core.side_sync_handle()).flatten();
            (checkpoint, side_handle)
        };
        let is_durable = self.registry.is_fsync || is_last || checkpoint.has_side;
        let written = self.dir.as_ref().map_or(Ok(()), |dir| {
            side_handle.map_or(Ok(()), |handle| handle.sync())?;
            write_checkpoint(dir, &checkpoint, is_durable)
        });
        if let Err(error) = &written {
            self.is_touched.store(true, Ordering::Relaxed); // tried again with the next round
            if self.registry.health.write_failed(error) {
                error!(
                    topic = %self.name, %error,
                    "cannot write a checkpoint; messages may come again after a crash"
                );
            }
        }
        let (forgotten, disk, side_disk) = {
            let mut core = self.core.lock();
            let forgotten = core.checkpointed(&checkpoint, written.is_ok());
            let (disk, side_disk) = core.disks();
            (forgotten, disk, side_disk)
        };
        // Through the log's own disks, which keep the files open otherwise.
        remove_segments(&self.name, &disk, &forgotten.log);
        if let Some(side_disk) = side_disk {
            remove_segments(&self.name, &side_disk, &forgotten.side);
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
        let damaged = self.core.lock().take_damage();
        report_damage(&self.name, &damaged);
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use grapevine_broker::{
        ConsumerId, ConsumerSettings, IdSource, Locality, PullLimits, Settings,
    };
    use grapevine_protocol::ChannelName;
    use grapevine_storage::{Batch, DataPath};

    use super::*;
    use crate::config::Durability;
    use crate::node::{Clock, ClusterLink, Registry, RegistryOptions, Wake};

    const BY: ConsumerId = ConsumerId(1);

    /// A topic with small segments in `folder`, its channel `c`, and a consumer.
    async fn topic(folder: &Path) -> Arc<Topic> {
        let gossip = grapevine_gossip::agent::Config {
            bind: ([127, 0, 0, 1], 0).into(),
            ..grapevine_gossip::agent::Config::default()
        };
        let options = RegistryOptions {
            settings: Settings {
                mem_queue_size: 100,
                msg_timeout_max: Duration::from_secs(900),
                channel_consumers_max: 0,
                latency_window: None,
            },
            durability: Durability::Os,
            segment_bytes_max: 100_000,
            sync_every: 1,
            init_grace: Duration::ZERO,
        };
        let registry = Registry::new(
            DataPath::open(folder).unwrap(),
            options,
            Clock::start(),
            IdSource::new(1, 0),
            ClusterLink::new(grapevine_gossip::agent::start(gossip).await.unwrap()),
        );
        let topic = registry.topic(&TopicName::new("t").unwrap()).await.unwrap();
        topic.create_channel(&ChannelName::new("c").unwrap());
        let settings = ConsumerSettings {
            id: BY,
            signal: Arc::new(Wake::default()),
            msg_timeout: Duration::from_secs(60),
            sample_rate: 0,
            locality: Locality::Global,
            seed: 1,
        };
        topic.subscribe("c", settings).unwrap();
        topic
    }

    /// Publishes more than is kept in memory, then takes and finishes all of it.
    fn publish_and_finish(topic: &Arc<Topic>) {
        let now = topic.registry.clock.now();
        for _ in 0..300 {
            let mut batch = Batch::new();
            batch.push(&[b'x'; 10_000], 0);
            topic.publish(&mut batch, now).unwrap();
        }
        let mut ids = vec![0];
        while !ids.is_empty() {
            ids.clear();
            let limits = PullLimits { messages_max: 100, bytes_max: 1 << 20 };
            topic.turn(now, |core| {
                core.set_ready("c", BY, 10);
                core.pull("c", BY, limits, &mut |message| ids.push(message.id)).unwrap();
                ids.iter().for_each(|&id| core.finish("c", BY, id).unwrap());
            });
        }
    }

    fn segments(folder: &Path) -> usize {
        let names = std::fs::read_dir(folder.join("topics/t.topic")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".seg")).count()
    }

    #[tokio::test]
    async fn finished_segments_go_even_if_no_checkpoint_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let topic = topic(folder.path()).await;
        // As on a full disk: the checkpoint cannot take its place.
        let checkpoint = folder.path().join("topics/t.topic/c.channel");
        std::fs::remove_file(&checkpoint).unwrap();
        std::fs::create_dir_all(checkpoint.join("in the way")).unwrap();

        publish_and_finish(&topic);
        assert!(segments(folder.path()) > 10);
        topic.round();
        assert!(!topic.registry.health.is_ok());
        assert!(segments(folder.path()) <= 2, "a full disk would stay full");

        std::fs::remove_dir_all(&checkpoint).unwrap();
        topic.round();
        assert!(checkpoint.is_file(), "tried again although nothing else happened");
    }

    #[tokio::test]
    async fn removed_segments_are_not_kept_open() {
        let folder = tempfile::tempdir().unwrap();
        let topic = topic(folder.path()).await;
        publish_and_finish(&topic);
        topic.round();
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let open = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        let kept: Vec<_> = open
            .filter(|path| path.starts_with(folder.path()))
            .filter(|path| path.to_string_lossy().ends_with("(deleted)"))
            .collect();
        assert!(kept.is_empty(), "{kept:?} take room on the disk");
    }

    #[tokio::test]
    async fn a_topic_that_is_only_looked_at_stays_at_rest() {
        let folder = tempfile::tempdir().unwrap();
        let topic = topic(folder.path()).await;
        topic.round();
        assert!(!topic.is_touched.load(Ordering::Relaxed));
        for _ in 0..=QUIET_ROUNDS_MAX {
            assert_eq!(topic.stats(&|_| true).channels.len(), 1);
            topic.round();
        }
        assert!(topic.quiet_rounds.load(Ordering::Relaxed) > QUIET_ROUNDS_MAX);
    }
}

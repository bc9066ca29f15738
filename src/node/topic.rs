//! A topic of this node: the core behind its lock, its files, its deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use grapevine_broker::{
    ConsumerId, ConsumerSettings, Deleted, Delivery, Now, PublishError, PullLimits, Pulled,
    SubscribeError, TopicStats, Unanswered, Unsubscribed, Wakes,
};
use grapevine_protocol::{ChannelName, Moment, TopicName};
use grapevine_storage::{Batch, Cursor, DirDisk, TopicDir};
use parking_lot::Mutex;
use tracing::{error, info};

use super::drain::REFUSAL;
use super::registry::Registry;

mod files;

type Core = grapevine_broker::Topic<DirDisk>;

/// Why a batch is not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The node is being emptied.
    #[error("{REFUSAL}")]
    Draining,
    /// The topic or the disk refuses.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// One short lock around the core; every method takes it once and never awaits under it.
pub struct Topic {
    name: TopicName,
    number: u64,
    core: Mutex<Core>,
    /// `None` for an ephemeral topic, which has no files.
    dir: Option<TopicDir>,
    /// Held while files are written, so that an older snapshot never overwrites a newer one, and
    /// nothing is written after a deletion. `true` once the topic's files are gone.
    files: Mutex<bool>,
    /// The earliest moment the timekeeper knows, in nanoseconds; `u64::MAX` for none.
    scheduled: AtomicU64,
    /// Offset up to which the log is on the device; publishers with `fsync` queue here.
    synced: tokio::sync::Mutex<u64>,
    /// Messages appended since the last background sync.
    unsynced: AtomicU64,
    /// Something happened since the last round.
    is_touched: AtomicBool,
    /// Rounds in a row in which nothing happened.
    quiet_rounds: AtomicU64,
    registry: Arc<Registry>,
}

impl Topic {
    /// Wraps a core; `dir` is where its files are.
    pub(crate) fn new(
        name: TopicName,
        core: Core,
        dir: Option<TopicDir>,
        registry: Arc<Registry>,
    ) -> Self {
        Self {
            name,
            number: registry.next_number(),
            core: Mutex::new(core),
            dir,
            files: Mutex::new(false),
            scheduled: AtomicU64::new(u64::MAX),
            synced: tokio::sync::Mutex::new(0),
            unsynced: AtomicU64::new(0),
            is_touched: AtomicBool::new(true),
            quiet_rounds: AtomicU64::new(0),
            registry,
        }
    }

    /// Name.
    pub const fn name(&self) -> &TopicName {
        &self.name
    }

    /// Unique within the process.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Runs `work` under the lock; afterwards wakes whom it concerns and notes new deadlines.
    fn with<R>(self: &Arc<Self>, work: impl FnOnce(&mut Core, Now, &mut Wakes) -> R) -> R {
        let now = self.registry.clock.now();
        self.with_at(now, work)
    }

    fn with_at<R>(
        self: &Arc<Self>,
        now: Now,
        work: impl FnOnce(&mut Core, Now, &mut Wakes) -> R,
    ) -> R {
        self.is_touched.store(true, Ordering::Relaxed);
        let mut wakes = Wakes::default();
        let (result, due) = {
            let mut core = self.core.lock();
            let result = work(&mut core, now, &mut wakes);
            (result, core.next_due())
        };
        wakes.wake();
        if let Some(due) = due {
            self.schedule(due);
        }
        result
    }

    fn schedule(self: &Arc<Self>, due: Moment) {
        let before = self.scheduled.fetch_min(due.as_nanos(), Ordering::AcqRel);
        if due.as_nanos() < before {
            self.registry.timekeeper.schedule(due, self);
        }
    }

    /// Takes back what timed out; the timekeeper calls it.
    pub(crate) fn expire(self: &Arc<Self>) {
        self.scheduled.store(u64::MAX, Ordering::Release);
        self.with(|core, now, wakes| core.expire(now, wakes));
    }

    /// Stores a batch; consumers are woken. With `--durability=fsync`, wait for
    /// [`sync_through`](Self::sync_through) the returned place before acknowledging.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing was stored. The node's health tells of disk errors.
    pub fn publish(self: &Arc<Self>, batch: &mut Batch, now: Now) -> Result<Cursor, StoreError> {
        let count = batch.len() as u64;
        let registry = &self.registry;
        let result = self.with_at(now, |core, now, wakes| {
            // Under the lock: a topic that was empty when the node drained already stays empty,
            // however long ago this publish was let in.
            if registry.drain.is_on() {
                return Err(StoreError::Draining);
            }
            Ok(core.publish(batch, &registry.ids, now, wakes)?)
        });
        match &result {
            Ok(_) => {
                self.registry.health.write_succeeded();
                let unsynced = self.unsynced.fetch_add(count, Ordering::Relaxed) + count;
                if unsynced >= self.registry.sync_every
                    && unsynced - count < self.registry.sync_every
                {
                    self.registry.sync_wanted.notify_one();
                }
            }
            Err(StoreError::Publish(PublishError::Disk(error))) => {
                if self.registry.health.write_failed(error) {
                    error!(
                        topic = %self.name, %error,
                        "cannot write the topic log; publishes are refused until there is room"
                    );
                }
            }
            Err(StoreError::Draining | StoreError::Publish(PublishError::Exiting)) => {}
        }
        result
    }

    /// Publishes and, where `--durability=fsync` asks for it, waits for the device.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish), and [`PublishError::Disk`] when syncing fails.
    pub async fn publish_durably(self: &Arc<Self>, batch: &mut Batch) -> Result<(), StoreError> {
        let end = self.publish(batch, self.registry.clock.now())?;
        if self.registry.is_fsync {
            self.sync_through(end).await.map_err(PublishError::Disk)?;
        }
        Ok(())
    }

    /// Whether the channel exists.
    pub fn has_channel(&self, channel: &str) -> bool {
        self.core.lock().has_channel(channel)
    }

    /// The channels' names, sorted.
    pub fn channel_names(&self) -> Vec<ChannelName> {
        self.core.lock().channel_names().cloned().collect()
    }

    /// Creates the channel if it is not there; announces it to the cluster.
    pub fn create_channel(self: &Arc<Self>, channel: &ChannelName) {
        let is_new = self.with(|core, now, wakes| core.create_channel(channel, now, wakes));
        if is_new {
            self.save();
            info!(topic = %self.name, channel = %channel, "channel created");
            // Under the lock of the files, as in `channel_deleted`, so that the last word the
            // others hear is true whoever creates and deletes it at the same moment.
            let is_gone = self.files.lock();
            if !*is_gone && self.has_channel(channel) {
                self.registry.cluster.channel_created(&self.name, channel);
            }
        }
    }

    /// Deletes the channel and closes its consumers' connections; `false` if there is none.
    pub fn delete_channel(self: &Arc<Self>, channel: &str) -> bool {
        let Some(deleted) = self.core.lock().delete_channel(channel) else {
            return false;
        };
        self.channel_deleted(channel);
        close_all(deleted);
        if self.name.is_ephemeral() && self.core.lock().channel_names().next().is_none() {
            self.registry.ended(self);
        }
        true
    }

    fn channel_deleted(self: &Arc<Self>, channel: &str) {
        // First the topic's state: without channels, what is published from here on waits in it.
        self.save();
        info!(topic = %self.name, channel, "channel deleted");
        let is_gone = self.files.lock();
        // It may have been created again meanwhile, with a file of its own; or the whole topic.
        if *is_gone || self.has_channel(channel) {
            return;
        }
        if let Some(dir) = &self.dir
            && let Err(error) = dir.remove_channel(channel)
        {
            error!(topic = %self.name, channel, %error, "cannot remove the channel's checkpoint");
        }
        self.registry.cluster.channel_deleted(&self.name, channel);
    }

    /// Refuses everything from now on and removes the topic's files and channels.
    pub(crate) fn delete(self: &Arc<Self>) {
        let deleted = self.core.lock().exit();
        let mut files = self.files.lock();
        *files = true;
        if let Some(dir) = &self.dir
            && let Err(error) = dir.remove_all()
        {
            error!(topic = %self.name, %error, "cannot remove the topic's files");
        }
        drop(files);
        close_all(deleted);
    }

    /// Adds a consumer to an existing channel.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    pub fn subscribe(
        &self,
        channel: &str,
        consumer: ConsumerSettings,
    ) -> Result<(), SubscribeError> {
        self.core.lock().subscribe(channel, consumer)
    }

    /// Removes a consumer; ephemeral channels and topics end with their last one.
    pub fn unsubscribe(self: &Arc<Self>, channel: &ChannelName, consumer: ConsumerId) {
        let ended = self.with(|core, _, wakes| core.unsubscribe(channel, consumer, wakes));
        match ended {
            Unsubscribed::Stays => {}
            Unsubscribed::ChannelEnded => self.channel_deleted(channel),
            Unsubscribed::TopicEnded => {
                self.channel_deleted(channel);
                self.registry.ended(self);
            }
        }
    }

    /// One turn of a consumer: `answers` (FIN, REQ, TOUCH, RDY), then a pull, under one lock.
    pub(crate) fn turn<R>(
        self: &Arc<Self>,
        now: Now,
        answers: impl FnOnce(&mut Answers<'_>) -> R,
    ) -> R {
        self.with_at(now, |core, now, wakes| answers(&mut Answers { core, now, wakes }))
    }

    /// Has the consumer woken by the next message; `false` if there is one already.
    pub(crate) fn park(self: &Arc<Self>, channel: &str, consumer: ConsumerId) -> bool {
        self.with(|core, now, wakes| core.park(channel, consumer, now, wakes))
    }

    /// The consumer is stuck behind a client that does not read: others are woken in its place.
    pub(crate) fn unpark(self: &Arc<Self>, channel: &str, consumer: ConsumerId) {
        self.with(|core, _, wakes| core.unpark(channel, consumer, wakes));
    }

    /// Holds published messages back, or lets them flow again.
    pub fn set_paused(self: &Arc<Self>, is_paused: bool) {
        self.with(|core, now, wakes| core.set_paused(is_paused, now, wakes));
        self.save();
    }

    /// Stops or resumes a channel; `false` if there is none.
    pub fn set_channel_paused(self: &Arc<Self>, channel: &str, is_paused: bool) -> bool {
        let found = self.with(|core, _, wakes| core.set_channel_paused(channel, is_paused, wakes));
        if found {
            self.save();
        }
        found
    }

    /// Drops what the channels have not got yet.
    pub fn empty(self: &Arc<Self>) {
        self.with(|core, _, _| core.empty());
        self.save();
    }

    /// Drops everything a channel has; `false` if there is none.
    pub fn empty_channel(self: &Arc<Self>, channel: &str) -> bool {
        let found = self.with(|core, _, wakes| core.empty_channel(channel, wakes));
        if found {
            self.save();
        }
        found
    }

    /// Figures of the topic and of the channels that `wants` chooses.
    ///
    /// Looking changes nothing that must be written: a topic at rest stays at rest, however often
    /// it is looked at.
    pub fn stats(self: &Arc<Self>, wants: &dyn Fn(&ChannelName) -> bool) -> TopicStats {
        let now = self.registry.clock.now();
        let is_due = self.core.lock().next_due().is_some_and(|due| due <= now.mono);
        if is_due {
            self.expire();
        }
        self.core.lock().stats(now, wants)
    }

    /// Refuses publishes and closes consumers; the node is stopping.
    pub(crate) fn exit(&self) {
        let deleted = self.core.lock().exit();
        close_all(deleted);
    }

    /// Whether publishes are refused because it is being deleted or the node stops.
    pub(crate) fn is_exiting(&self) -> bool {
        self.core.lock().is_exiting()
    }
}

/// What a consumer's connection may do under the topic's lock.
pub(crate) struct Answers<'a> {
    core: &'a mut Core,
    now: Now,
    wakes: &'a mut Wakes,
}

impl Answers<'_> {
    pub(crate) fn finish(
        &mut self,
        channel: &str,
        by: ConsumerId,
        id: u64,
    ) -> Result<(), Unanswered> {
        self.core.finish(channel, by, id, self.now)
    }

    pub(crate) fn requeue(
        &mut self,
        channel: &str,
        by: ConsumerId,
        id: u64,
        delay: Duration,
    ) -> Result<(), Unanswered> {
        self.core.requeue(channel, by, id, delay, self.now, self.wakes)
    }

    pub(crate) fn touch(
        &mut self,
        channel: &str,
        by: ConsumerId,
        id: u64,
    ) -> Result<(), Unanswered> {
        self.core.touch(channel, by, id, self.now)
    }

    pub(crate) fn set_ready(&mut self, channel: &str, consumer: ConsumerId, rdy: u64) {
        self.core.set_ready(channel, consumer, rdy);
    }

    pub(crate) fn pull(
        &mut self,
        channel: &str,
        consumer: ConsumerId,
        limits: PullLimits,
        deliver: &mut dyn FnMut(Delivery<'_>),
    ) -> std::io::Result<Pulled> {
        self.core.pull(channel, consumer, limits, self.now, self.wakes, deliver)
    }
}

fn close_all(deleted: Deleted) {
    for consumer in deleted.consumers {
        consumer.close();
    }
}

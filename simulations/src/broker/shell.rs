//! One broker's process: the core's topics and what the node around them does, step by step.
//!
//! The order of steps is that of `src/node` (`registry.rs`, `topic.rs`, `topic/files.rs`,
//! `storekeeper.rs`); tasks and locks are left out.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use grapevine_broker::{
    ConsumerId, ConsumerSettings, IdSource, Locality, Now, PublishError, PullLimits, Pulled,
    Settings, Signal, Topic, Unanswered, Wakes,
};
use grapevine_gossip::mutant;
use grapevine_protocol::{ChannelName, Moment};
use grapevine_storage::{
    Batch, CacheBudget, Cursor, Log, LogOptions, MemoryHandle, Mode, SyncHandle as _,
};

use super::names;
use super::store::{Store, TopicDir};

mod files;

/// What one pull may take: `PULL_MESSAGES_MAX` and `PULL_BYTES_MAX` of `src/node/session`.
const PULL: PullLimits = PullLimits { messages_max: 512, bytes_max: 64 * 1024 };

/// `--max-msg-timeout`: nsqd's default.
const MSG_TIMEOUT_MAX: Duration = Duration::from_secs(900);

/// Bytes of messages a node keeps in memory; small, so that older ones are read from the disk.
const CACHE_BYTES_MAX: u64 = 16 * 1024;

/// How a broker is set up.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// When what is published reaches the disk.
    pub(crate) mode: Mode,
    /// `--durability=fsync`.
    pub(crate) is_fsync: bool,
    /// `--max-bytes-per-file`.
    pub(crate) segment_bytes_max: u64,
    /// `--msg-timeout`.
    pub(crate) msg_timeout: Duration,
    /// The node's bits of message ids.
    pub(crate) id_bits: u16,
}

/// Connections that were woken, in order.
#[derive(Debug, Default)]
struct Woken(Mutex<Vec<u64>>);

/// Wakes one connection.
struct Wake {
    conn: u64,
    woken: Arc<Woken>,
}

impl Signal for Wake {
    fn wake(&self) {
        self.woken.0.lock().unwrap_or_else(PoisonError::into_inner).push(self.conn);
    }

    fn close(&self) {}
}

/// A message as a consumer gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    /// Message id.
    pub(crate) id: u64,
    /// This delivery included.
    pub(crate) attempts: u16,
    /// Its number in the run, from the body.
    pub(crate) number: u64,
}

/// Publishers that wait for the device: up to where the log must be on it, and their messages.
type Waiting = (u64, Vec<u64>);

/// A topic and its files.
pub(super) struct Hosted {
    pub(super) core: Topic<grapevine_storage::MemoryDisk>,
    pub(super) dir: TopicDir,
    /// Offset up to which the log is on the device.
    synced: u64,
    /// A sync that takes its time, and up to which offset it reaches.
    syncing: Option<(Option<MemoryHandle>, u64)>,
    waiting: Vec<Waiting>,
    /// Something was appended since the last background sync.
    has_unsynced: bool,
    /// Something happened since the last round.
    pub(super) is_touched: bool,
    /// The last checkpoint was written.
    pub(super) is_saved: bool,
}

/// What waits until the node has heard of the cluster's channels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held {
    /// A publish, by its number.
    Publish(u64),
    /// A subscription, by the consumer's number.
    Subscribe(u32),
}

/// One process.
pub(crate) struct Shell {
    pub(super) topics: BTreeMap<u32, Hosted>,
    pub(super) ids: IdSource,
    pub(super) saved_ids: u64,
    pub(super) options: Options,
    settings: Arc<Settings>,
    cache: Arc<CacheBudget>,
    woken: Arc<Woken>,
    conns: u64,
    /// What waits for the first answer of the cluster.
    pub(crate) held: Vec<Held>,
    /// The cluster has answered.
    pub(crate) is_synced: bool,
    /// `--init-grace` is over.
    pub(crate) is_grace_over: bool,
    /// It is stopping: nothing is taken any more.
    pub(crate) is_exiting: bool,
    /// When the earliest look at deadlines on the queue is; `u64::MAX`: none is.
    pub(crate) armed_at: u64,
}

impl std::fmt::Debug for Shell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell").field("topics", &self.topics.len()).finish_non_exhaustive()
    }
}

impl Shell {
    fn log_options(&self) -> LogOptions {
        let mode = match self.options.mode {
            // What was handed over is not yet in the hands of the operating system.
            Mode::WriteThrough if mutant!(Y01) => Mode::WriteBehind { messages_max: 1_000 },
            mode => mode,
        };
        let segment_bytes_max = self.options.segment_bytes_max;
        LogOptions { mode, segment_bytes_max, cache: Arc::clone(&self.cache) }
    }

    fn side_options(&self) -> LogOptions {
        let segment_bytes_max = self.options.segment_bytes_max;
        LogOptions { mode: Mode::WriteThrough, segment_bytes_max, cache: Arc::clone(&self.cache) }
    }

    fn empty(options: Options, ids: IdSource) -> Self {
        let mem_queue_size = match options.mode {
            Mode::WriteBehind { messages_max } => messages_max,
            Mode::WriteThrough | Mode::MemoryOnly => 10_000,
        };
        let settings = Settings {
            mem_queue_size,
            msg_timeout_max: MSG_TIMEOUT_MAX,
            channel_consumers_max: 0,
            latency_window: None,
        };
        Self {
            topics: BTreeMap::new(),
            saved_ids: ids.high_water(),
            ids,
            options,
            settings: Arc::new(settings),
            cache: Arc::new(CacheBudget::new(CACHE_BYTES_MAX)),
            woken: Arc::default(),
            conns: 0,
            held: Vec::new(),
            is_synced: false,
            is_grace_over: false,
            is_exiting: false,
            armed_at: u64::MAX,
        }
    }

    /// Whether it has the topic.
    pub(crate) fn has_topic(&self, topic: u32) -> bool {
        self.topics.contains_key(&topic)
    }

    /// Consumers whose subscription waits for the cluster.
    pub(crate) fn held_consumers(&self) -> impl Iterator<Item = u32> {
        self.held.iter().filter_map(|held| match held {
            Held::Subscribe(consumer) => Some(*consumer),
            Held::Publish(_) => None,
        })
    }

    /// Whether the last checkpoint of a topic has been written.
    pub(crate) fn is_saved(&self, topic: u32) -> bool {
        self.topics.get(&topic).is_some_and(|hosted| hosted.is_saved)
    }

    /// Its topics, in order.
    pub(crate) fn topics(&self) -> Vec<u32> {
        self.topics.keys().copied().collect()
    }

    /// Whether a new topic can be made: the cluster was heard, or the grace is over.
    pub(crate) const fn may_create(&self) -> bool {
        self.is_synced || self.is_grace_over
    }

    /// Makes a topic, as yet without channels, and saves it.
    ///
    /// # Errors
    ///
    /// When its directory or its log cannot be made.
    pub(crate) fn create_topic(
        &mut self,
        store: &mut Store,
        topic: u32,
        now: Now,
    ) -> io::Result<()> {
        let dir = match store.dir(topic) {
            Some(dir) => dir,
            None => store.create_dir(topic)?,
        };
        let (log, _) = Log::open(dir.main.clone(), self.log_options())?;
        let core = Topic::new(names::topic(topic), log, Arc::clone(&self.settings));
        self.topics.insert(topic, Hosted::new(core, dir));
        self.save(topic, now, false, false);
        Ok(())
    }

    /// Makes a channel and saves it; `false` if it was there. Wakes are noted.
    pub(crate) fn create_channel(&mut self, topic: u32, channel: &ChannelName, now: Now) -> bool {
        let is_new = self.with(topic, |core, wakes| core.create_channel(channel, now, wakes));
        let is_new = is_new.unwrap_or(false);
        if is_new {
            self.save(topic, now, false, false);
        }
        is_new
    }

    /// Stores a batch.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; nothing was stored.
    pub(crate) fn publish(
        &mut self,
        topic: u32,
        batch: &mut Batch,
        now: Now,
    ) -> Result<Cursor, PublishError> {
        let Some(hosted) = self.topics.get_mut(&topic) else { return Err(PublishError::Exiting) };
        hosted.is_touched = true;
        hosted.has_unsynced = true;
        let mut wakes = Wakes::default();
        let result = hosted.core.publish(batch, &self.ids, now, &mut wakes);
        if mutant!(Y03) && result.is_ok() {
            hosted.core.publish(batch, &self.ids, now, &mut wakes)?;
        }
        if !mutant!(Y08) {
            wakes.wake();
        }
        result
    }

    /// Joins those who wait for the device; true if a sync must be begun.
    pub(crate) fn wait_for_device(&mut self, topic: u32, end: Cursor, numbers: Vec<u64>) -> bool {
        let Some(hosted) = self.topics.get_mut(&topic) else { return false };
        hosted.waiting.push((end.offset, numbers));
        hosted.begin_sync()
    }

    /// A sync has had its time. Those who are acknowledged, those who are refused, and whether the
    /// next one begins.
    pub(crate) fn end_sync(&mut self, topic: u32) -> (Vec<u64>, Vec<u64>, bool) {
        let Some(hosted) = self.topics.get_mut(&topic) else { return Default::default() };
        let Some((handle, end)) = hosted.syncing.take() else { return Default::default() };
        let is_done = handle.is_none_or(|handle| handle.sync().is_ok());
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        if is_done {
            hosted.synced = end;
            let (over, waiting) =
                hosted.waiting.drain(..).partition(|(through, _)| *through <= end);
            hosted.waiting = waiting;
            done.extend(Vec::from_iter::<Vec<Waiting>>(over).into_iter().flat_map(|(_, all)| all));
        } else {
            refused.extend(hosted.waiting.drain(..).flat_map(|(_, numbers)| numbers));
        }
        let again = !hosted.waiting.is_empty() && hosted.begin_sync();
        (done, refused, again)
    }

    /// Adds a consumer to a channel; the number of its connection.
    pub(crate) fn subscribe(&mut self, topic: u32, channel: u32, rdy: u64) -> Option<u64> {
        self.conns += 1;
        let conn = self.conns;
        let hosted = self.topics.get_mut(&topic)?;
        let settings = ConsumerSettings {
            id: ConsumerId(conn),
            signal: Arc::new(Wake { conn, woken: Arc::clone(&self.woken) }),
            msg_timeout: self.options.msg_timeout,
            sample_rate: 0,
            locality: Locality::Global,
            seed: conn,
        };
        let name = names::channel(channel);
        hosted.core.subscribe(&name, settings).ok()?;
        hosted.core.set_ready(&name, ConsumerId(conn), rdy);
        Some(conn)
    }

    /// Removes a consumer; what it held is ready again.
    pub(crate) fn unsubscribe(&mut self, topic: u32, channel: u32, conn: u64) {
        let name = names::channel(channel);
        self.with(topic, |core, wakes| core.unsubscribe(&name, ConsumerId(conn), wakes));
    }

    /// Takes what a consumer may have.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub(crate) fn pull(
        &mut self,
        topic: u32,
        channel: u32,
        conn: u64,
        now: Now,
    ) -> io::Result<(Vec<Delivered>, Pulled)> {
        let name = names::channel(channel);
        let mut got = Vec::new();
        let pulled = self.with(topic, |core, wakes| {
            core.pull(&name, ConsumerId(conn), PULL, now, wakes, &mut |message| {
                let number = message.body.first_chunk().map(|number| u64::from_le_bytes(*number));
                let number = number.unwrap_or(u64::MAX);
                got.push(Delivered { id: message.id, attempts: message.attempts, number });
            })
        });
        Ok((got, pulled.transpose()?.unwrap_or_default()))
    }

    /// Has the consumer woken by the next message; `false` if there is one already.
    pub(crate) fn park(&mut self, topic: u32, channel: u32, conn: u64, now: Now) -> bool {
        let name = names::channel(channel);
        let parked = self.with(topic, |core, wakes| core.park(&name, ConsumerId(conn), now, wakes));
        parked.unwrap_or(true)
    }

    /// FIN, REQ or TOUCH.
    ///
    /// # Errors
    ///
    /// [`Unanswered`]; nothing changed.
    pub(crate) fn answer(
        &mut self,
        (topic, channel, conn): (u32, u32, u64),
        id: u64,
        answer: Answer,
        now: Now,
    ) -> Result<(), Unanswered> {
        let (name, by) = (names::channel(channel), ConsumerId(conn));
        let result = self.with(topic, |core, wakes| match answer {
            Answer::Finish => core.finish(&name, by, id, now),
            Answer::Requeue(delay) => core.requeue(&name, by, id, delay, now, wakes),
            Answer::Touch => core.touch(&name, by, id, now),
        });
        result.unwrap_or(Err(Unanswered::NotInFlight))
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        self.topics.values().filter_map(|hosted| hosted.core.next_due()).min()
    }

    /// Makes ready what timed out or was deferred.
    pub(crate) fn expire(&mut self, now: Now) {
        for topic in self.topics() {
            let is_due = |hosted: &Hosted| hosted.core.next_due().is_some_and(|at| at <= now.mono);
            if self.topics.get(&topic).is_some_and(is_due) {
                self.with(topic, |core, wakes| core.expire(now, wakes));
            }
        }
    }

    /// Connections woken since the last call, in order.
    pub(crate) fn take_woken(&mut self) -> Vec<u64> {
        std::mem::take(&mut *self.woken.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `work` on a topic and wakes whom it concerns.
    fn with<R>(
        &mut self,
        topic: u32,
        work: impl FnOnce(&mut Topic<grapevine_storage::MemoryDisk>, &mut Wakes) -> R,
    ) -> Option<R> {
        let hosted = self.topics.get_mut(&topic)?;
        hosted.is_touched = true;
        let mut wakes = Wakes::default();
        let result = work(&mut hosted.core, &mut wakes);
        wakes.wake();
        Some(result)
    }
}

/// What a consumer says of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// FIN.
    Finish,
    /// REQ, with this delay.
    Requeue(Duration),
    /// TOUCH.
    Touch,
}

impl Hosted {
    fn new(mut core: Topic<grapevine_storage::MemoryDisk>, dir: TopicDir) -> Self {
        // Segments are so small here that publishers outrun the first background sync, and those
        // that are full before anybody asked for one would be left out of it.
        drop(core.sync_handle());
        Self {
            core,
            dir,
            synced: 0,
            syncing: None,
            waiting: Vec::new(),
            has_unsynced: false,
            is_touched: true,
            is_saved: false,
        }
    }

    /// Begins a sync for those who wait, unless one is on its way.
    fn begin_sync(&mut self) -> bool {
        if self.syncing.is_some() {
            return false;
        }
        let handle = self.core.sync_handle();
        self.syncing = Some((handle, self.core.end().offset));
        true
    }
}

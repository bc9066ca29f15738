//! A topic: an append-only log of messages, and the channels that read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grapevine_protocol::{ChannelName, Moment, TopicName};
use grapevine_storage::{Batch, Cursor, Damage, Disk, Log, Record};

use crate::in_flight::Held;
use crate::latency::Latency;
use crate::{Channel, IdSource, Signal};

/// One instant on both clocks a broker needs.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For timeouts and deferral.
    pub mono: Moment,
    /// Unix nanoseconds, for timestamps and what must survive a restart.
    pub wall: i64,
}

impl Now {
    /// The moment at which the wall clock shows `wall_ns`, as far as can be told now.
    pub(crate) fn moment_of(self, wall_ns: i64) -> Moment {
        let ahead = u64::try_from(wall_ns.saturating_sub(self.wall)).unwrap_or(0);
        self.mono + Duration::from_nanos(ahead)
    }

    /// What the wall clock will show at `moment`, as far as can be told now.
    pub(crate) fn wall_of(self, moment: Moment) -> i64 {
        let ahead = i64::try_from(moment.since(self.mono).as_nanos()).unwrap_or(i64::MAX);
        self.wall.saturating_add(ahead)
    }
}

/// What every topic of a node has in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--mem-queue-size`: where an ephemeral topic or channel starts to drop, in messages.
    pub mem_queue_size: u64,
    /// `--max-msg-timeout`: how far TOUCH can reach beyond the delivery.
    pub msg_timeout_max: Duration,
    /// `--max-channel-consumers`; 0 means any number.
    pub channel_consumers_max: usize,
    /// `--e2e-processing-latency-window-time`, if there are percentiles to keep.
    pub latency_window: Option<Duration>,
}

/// Signals to send once every lock is released.
#[derive(Default)]
pub struct Wakes {
    signals: Vec<Arc<dyn Signal>>,
}

impl Wakes {
    pub(crate) fn push(&mut self, signal: &Arc<dyn Signal>) {
        self.signals.push(Arc::clone(signal));
    }

    /// Wakes everyone noted so far.
    pub fn wake(&mut self) {
        for signal in self.signals.drain(..) {
            signal.wake();
        }
    }
}

/// A publish that stored nothing.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The topic was deleted or the node is stopping.
    #[error("exiting")]
    Exiting,
    /// The log could not be written; `Display` is the operating system's words.
    #[error("{0}")]
    Disk(#[from] std::io::Error),
}

/// What is left to do after a topic or channel was deleted.
#[derive(Default)]
pub struct Deleted {
    /// Connections to close.
    pub consumers: Vec<Arc<dyn Signal>>,
}

/// Bytes an ephemeral topic's log may grow before a publish looks for something to free.
const MEMORY_BYTES_UNSWEPT_MAX: u64 = 1 << 20;

/// A topic with its channels. One short lock of the owner guards it whole.
pub struct Topic<D: Disk> {
    pub(crate) name: TopicName,
    pub(crate) settings: Arc<Settings>,
    pub(crate) log: Log<D>,
    /// Messages moved out of the way of deletion (see `relocate`).
    pub(crate) side: Option<Log<D>>,
    pub(crate) channels: BTreeMap<ChannelName, Channel>,
    /// How far the log is open to channels. A new channel starts here.
    pub(crate) released: Cursor,
    /// Deferred publishes at or above `released`.
    pub(crate) deferred_unreleased: Vec<DeferredPublish>,
    pub(crate) is_paused: bool,
    pub(crate) is_exiting: bool,
    pub(crate) is_dirty: bool,
    pub(crate) message_count: u64,
    pub(crate) message_bytes: u64,
}

impl<D: Disk> Topic<D> {
    /// A topic nobody has published to, or whose log is all there is to know of it.
    pub fn new(name: TopicName, log: Log<D>, settings: Arc<Settings>) -> Self {
        let released = log.start();
        Self {
            name,
            settings,
            log,
            side: None,
            channels: BTreeMap::new(),
            released,
            deferred_unreleased: Vec::new(),
            is_paused: false,
            is_exiting: false,
            is_dirty: true,
            message_count: 0,
            message_bytes: 0,
        }
    }

    /// Appends a batch and opens it to the channels.
    ///
    /// Returns where the log ends now: with `--durability=fsync` the owner waits until that is on
    /// the device. An ephemeral topic without channels keeps `mem_queue_size` messages and drops
    /// the rest, as nsqd does.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; nothing of the batch is stored then.
    pub fn publish(
        &mut self,
        batch: &mut Batch,
        ids: &IdSource,
        now: Now,
        wakes: &mut Wakes,
    ) -> Result<Cursor, PublishError> {
        if self.is_exiting {
            return Err(PublishError::Exiting);
        }
        let (count, bytes) = (batch.len() as u64, batch.body_bytes());
        if self.name.is_ephemeral() && self.is_held_back() {
            batch.truncate(self.settings.mem_queue_size.saturating_sub(self.depth()) as usize);
        }
        if !batch.is_empty() {
            let first_id = ids.reserve(batch.len() as u64, now.wall);
            let first = self.log.append(batch, first_id, IdSource::STEP, now.wall)?;
            if batch.has_deferred() {
                self.note_deferred(batch, first, first_id, now.wall);
            }
        }
        self.message_count += count;
        self.message_bytes += bytes;
        self.release(now, wakes);
        if self.name.is_ephemeral() {
            self.free_memory();
        }
        Ok(self.log.end())
    }

    /// Notes the deferred publishes of a batch that was just appended at `first`.
    fn note_deferred(&mut self, batch: &Batch, first: Cursor, first_id: u64, timestamp: i64) {
        let keeps_bodies = self.name.is_ephemeral();
        for message in batch.deferred() {
            let place = message.index as u64;
            let offset = first.offset + message.offset as u64;
            let held = Held {
                cursor: Cursor { seq: first.seq + place, offset },
                is_side: false,
                id: first_id.wrapping_add(place * IdSource::STEP),
                attempts: 0,
                timestamp,
                body: keeps_bodies.then(|| bytes::Bytes::copy_from_slice(message.body)),
            };
            let deliver_at = message.deliver_at;
            self.deferred_unreleased.push(DeferredPublish { held, deliver_at });
        }
    }

    /// Whether published messages stay in the topic for now.
    pub(crate) fn is_held_back(&self) -> bool {
        self.is_paused || self.channels.is_empty()
    }

    /// Messages published and not yet opened to channels.
    pub(crate) fn depth(&self) -> u64 {
        self.log.end().seq - self.released.seq
    }

    /// Frees what an ephemeral topic's channels are done with; its log has no checkpoint to wait
    /// for.
    fn free_memory(&mut self) {
        let held = self.log.end().offset - self.log.start().offset;
        if held > MEMORY_BYTES_UNSWEPT_MAX {
            let floor = self.channels.values().map(Channel::floor).fold(self.released, Cursor::min);
            self.log.release(floor);
        }
    }

    /// Opens everything to the channels, unless the topic is paused or has none.
    pub(crate) fn release(&mut self, now: Now, wakes: &mut Wakes) {
        let (from, to) = (self.released, self.log.end());
        if self.is_held_back() || from == to {
            return;
        }
        self.released = to;
        let count = to.seq - from.seq;
        let deferred = std::mem::take(&mut self.deferred_unreleased);
        for (name, channel) in &mut self.channels {
            channel.message_count += count;
            let mut kept = count;
            if name.is_ephemeral() || self.name.is_ephemeral() {
                kept = keep_what_fits(channel, from, to, self.settings.mem_queue_size);
            }
            for publish in &deferred {
                if publish.held.cursor.seq < from.seq + kept {
                    channel.deferred_ahead += 1;
                    channel.defer(publish.held.clone(), now.moment_of(publish.deliver_at));
                }
            }
            channel.wake_for(kept, wakes);
        }
    }

    /// Whether the channel exists.
    pub fn has_channel(&self, channel: &str) -> bool {
        self.channels.contains_key(channel)
    }

    /// The channels' names, in order.
    pub fn channel_names(&self) -> impl Iterator<Item = &ChannelName> {
        self.channels.keys()
    }

    /// Creates a channel; `false` if it was there, or the topic is gone.
    ///
    /// The first channel gets the topic's backlog, later ones what is released from now on.
    pub fn create_channel(&mut self, channel: &ChannelName, now: Now, wakes: &mut Wakes) -> bool {
        if self.is_exiting || self.channels.contains_key(channel) {
            return false;
        }
        let latency = self.settings.latency_window.map(|window| Latency::new(window, now.mono));
        self.channels.insert(channel.clone(), Channel::new(self.released, latency));
        self.is_dirty = true;
        self.release(now, wakes);
        true
    }

    /// Deletes a channel with everything in it; `None` if there is none.
    pub fn delete_channel(&mut self, channel: &str) -> Option<Deleted> {
        let channel = self.channels.remove(channel)?;
        self.is_dirty = true;
        let consumers = channel.consumers.values().map(|consumer| Arc::clone(&consumer.signal));
        Some(Deleted { consumers: consumers.collect() })
    }

    /// Refuses every publish and subscription from now on; the owner then deletes or stores it.
    pub fn exit(&mut self) -> Deleted {
        self.is_exiting = true;
        let consumers = self.channels.values().flat_map(|channel| channel.consumers.values());
        Deleted { consumers: consumers.map(|consumer| Arc::clone(&consumer.signal)).collect() }
    }

    /// Whether [`exit`](Self::exit) was called.
    pub const fn is_exiting(&self) -> bool {
        self.is_exiting
    }

    /// Where the log ends.
    pub fn end(&self) -> Cursor {
        self.log.end()
    }

    /// Brings everything published so far to the device, without the topic's lock.
    pub fn sync_handle(&mut self) -> Option<D::Handle> {
        self.log.sync_handle()
    }

    /// Writes what is only in memory (`--durability=memory`).
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.log.flush()
    }

    /// Gives back file handles and buffers.
    pub fn rest(&mut self) {
        self.log.go_idle();
        if let Some(side) = &mut self.side {
            side.go_idle();
        }
    }

    /// Damage met while reading since the last call.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        self.log.take_damage()
    }

    /// When [`expire`](Self::expire) has something to do; not later than that.
    pub fn next_due(&self) -> Option<Moment> {
        let due = self.channels.values().map(|channel| channel.next_due).min()?;
        (due < Moment::MAX).then_some(due)
    }

    /// Makes ready again what timed out or whose delay is over.
    pub fn expire(&mut self, now: Now, wakes: &mut Wakes) {
        for channel in self.channels.values_mut() {
            channel.expire(now, wakes);
        }
    }

    /// Whether messages stay in the topic.
    pub const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Holds published messages back, or opens them to the channels again.
    pub fn set_paused(&mut self, is_paused: bool, now: Now, wakes: &mut Wakes) {
        self.is_dirty |= self.is_paused != is_paused;
        self.is_paused = is_paused;
        self.release(now, wakes);
    }

    /// Stops or resumes a channel's deliveries; `false` if there is no such channel.
    pub fn set_channel_paused(
        &mut self,
        channel: &str,
        is_paused: bool,
        wakes: &mut Wakes,
    ) -> bool {
        let Some(channel) = self.channels.get_mut(channel) else {
            return false;
        };
        channel.is_dirty |= channel.is_paused != is_paused;
        channel.is_paused = is_paused;
        for consumer in channel.consumers.values() {
            // Paused: to flush what is buffered. Resumed: to pull.
            wakes.push(&consumer.signal);
        }
        true
    }

    /// Drops what the channels have not got yet.
    pub fn empty(&mut self) {
        let (from, to) = (self.released, self.log.end());
        if from == to {
            return;
        }
        for channel in self.channels.values_mut() {
            channel.skip(from.seq, to);
            channel.is_dirty = true;
        }
        self.deferred_unreleased.clear();
        self.released = to;
        self.is_dirty = true;
    }

    /// Drops everything a channel waits for or has in flight; `false` if there is no such channel.
    pub fn empty_channel(&mut self, channel: &str, wakes: &mut Wakes) -> bool {
        let released = self.released;
        let Some(channel) = self.channels.get_mut(channel) else {
            return false;
        };
        channel.empty(released, wakes);
        true
    }
}

/// A deferred publish on its way to the channels.
#[derive(Clone, Debug)]
pub(crate) struct DeferredPublish {
    pub(crate) held: Held,
    /// Unix nanoseconds before which it must not be delivered.
    pub(crate) deliver_at: i64,
}

/// The deferred publishes from `first` to the end of a log that was just opened.
pub(crate) fn deferred_between<D: Disk>(
    log: &mut Log<D>,
    first: Cursor,
) -> std::io::Result<Vec<DeferredPublish>> {
    let mut deferred = Vec::new();
    let until = log.end().seq;
    log.read(first, until, &mut |record: Record<'_>| {
        if record.deliver_at != 0 {
            let held = Held {
                cursor: record.cursor,
                is_side: false,
                id: record.id,
                attempts: 0,
                timestamp: record.timestamp,
                body: None,
            };
            deferred.push(DeferredPublish { held, deliver_at: record.deliver_at });
        }
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(deferred)
}

/// Bounds what an ephemeral channel keeps waiting; returns how many of the new messages it keeps.
fn keep_what_fits(channel: &mut Channel, from: Cursor, to: Cursor, memory_max: u64) -> u64 {
    let count = to.seq - from.seq;
    // A queue of 0 hands over to whoever waits, and only to them (nsqd's unbuffered channel).
    let room = memory_max.max(channel.waiting_room()).saturating_sub(channel.depth(from));
    if room < count {
        channel.skip(from.seq + room, to);
    }
    room.min(count)
}

//! How nsqd's queues, one for each channel and one for the topic, become one log.
//!
//! In nsqd a message lies in the queue of each channel; here a record is for all channels, and each
//! channel knows from where on the log is its own. So the queues are laid one behind the other:
//!
//! ```text
//! | tried c1 | new c1 | tried c2 | new c2 | ... | the topic's own queue |
//!            ^ next of c1  jump from the end of it to there ^
//! ```
//! `tried` are the messages handed out before: below `next`, and remembered one by one with their
//! attempts. What is below `next` and not remembered is finished, so no channel sees the queue of
//! another; what lies between its own and the topic's it jumps over.

use std::ops::ControlFlow;
use std::sync::Arc;

use grapevine_broker::IdSource;
use grapevine_protocol::{ChannelName, TopicName};
use grapevine_storage::{
    Batch, CacheBudget, ChannelCheckpoint, CheckpointEntry, Cursor, DirDisk, Jump, Log, LogOptions,
    Mode, TopicDir, TopicState,
};
use tracing::warn;

use super::disk_queue::{DiskQueue, Unread};
use super::error::ImportError;
use super::kept_ids::KeptIds;
use super::plan::{ChannelPlan, TopicPlan};
use super::queue_file::QueueRecord;
use super::take_over::ImportLimits;

/// What a topic has brought with it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Imported {
    /// Messages, once for each queue they were in.
    pub(super) messages: u64,
    /// Bytes of their bodies.
    pub(super) bytes: u64,
    /// The highest message id.
    pub(super) highest_id: u64,
}

/// Writes `topic` into `dir`, then reads it back. Nothing is synced yet.
pub(super) fn import_topic(
    name: &TopicName,
    topic: &TopicPlan,
    dir: &TopicDir,
    ids: &IdSource,
    limits: &ImportLimits,
) -> Result<Imported, ImportError> {
    let at = || ImportError::at(dir.path());
    dir.create(false).map_err(at())?;
    let cache = Arc::new(CacheBudget::new(CACHE_BYTES_MAX));
    let options =
        LogOptions { mode: Mode::WriteThrough, segment_bytes_max: limits.segment_bytes_max, cache };
    let mut writer = Writer {
        name,
        dir,
        limits,
        log: Log::open(dir.disk(), options.clone()).map_err(at())?.0,
        batch: Batch::new(),
        ids: KeptIds::new(ids, limits.wall_ns),
        parts: Vec::new(),
        imported: Imported::default(),
    };
    let mut channels = Vec::new();
    for (channel, planned) in &topic.channels {
        channels.push((channel, writer.channel(planned)?));
    }
    let own = writer.end();
    writer.begin_part();
    writer.queue(&topic.queue, Pick::All, &mut |_, _| ())?;
    writer.flush()?;
    let end = writer.end();
    let is_open = !topic.is_paused && !topic.channels.is_empty();
    let released = if is_open { end } else { own };
    let checkpoints: Vec<(&ChannelName, ChannelCheckpoint)> = channels
        .into_iter()
        .map(|(name, channel)| (name, channel.checkpoint(own, released)))
        .collect();
    let state = TopicState { paused: topic.is_paused, released };
    for (channel, checkpoint) in &checkpoints {
        dir.write_channel(channel, &checkpoint.encode(), false).map_err(at())?;
    }
    dir.write_state(&state.encode(), false).map_err(at())?;
    let Writer { log, parts, imported, ids, .. } = writer;
    drop(log);
    if ids.renamed() > 0 {
        warn!(topic = %name, messages = ids.renamed(), "messages of nsqd got new ids");
    }
    read_back(name, dir, options, &parts, end)?;
    read_back_states(name, dir, &state, &checkpoints)?;
    Ok(Imported { highest_id: ids.highest(), ..imported })
}

/// A channel whose queue has been written.
struct Written {
    is_paused: bool,
    /// Messages handed out before.
    entries: Vec<CheckpointEntry>,
    /// Where the other ones begin, and end.
    new: (Cursor, Cursor),
}

impl Written {
    /// What is to be remembered of the channel; the topic's own queue begins at `own`.
    fn checkpoint(self, own: Cursor, released: Cursor) -> ChannelCheckpoint {
        let (next, end) = self.new;
        let jump = Jump { at: end.seq, to: own };
        ChannelCheckpoint {
            paused: self.is_paused,
            next,
            deferred_ahead: 0,
            jumps: if end < own { vec![jump] } else { Vec::new() },
            entries: self.entries,
            // Not the end of the log: what is not released yet would count as if it were.
            known_end: released,
        }
    }
}

/// Which messages of a queue are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pick {
    /// Those handed out before, as many as are remembered one by one.
    Tried,
    /// The other ones.
    New,
    All,
}

/// What has been written from one place of the log to the next, to be compared when it is read
/// back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Part {
    from: Cursor,
    messages: u64,
    /// Sum of a checksum for each message.
    checksums: u64,
}

impl Part {
    fn add(&mut self, id: u64, timestamp: i64, body: &[u8]) {
        self.messages += 1;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(body), &id.to_le_bytes());
        let checksum = crc32c::crc32c_append(checksum, &timestamp.to_le_bytes());
        self.checksums = self.checksums.wrapping_add(u64::from(checksum));
    }
}

struct Writer<'a> {
    name: &'a TopicName,
    dir: &'a TopicDir,
    limits: &'a ImportLimits,
    log: Log<DirDisk>,
    batch: Batch,
    ids: KeptIds<'a>,
    parts: Vec<Part>,
    imported: Imported,
}

impl Writer<'_> {
    fn channel(&mut self, planned: &ChannelPlan) -> Result<Written, ImportError> {
        self.ids.next_channel();
        self.begin_part();
        let mut entries = Vec::new();
        let unread = self.queue(&planned.queue, Pick::Tried, &mut |record, (cursor, id)| {
            entries.push(CheckpointEntry {
                cursor,
                side: false,
                id,
                attempts: record.attempts,
                timestamp: record.timestamp,
                deliver_at: 0,
            });
        })?;
        report(self.name, &unread);
        if entries.len() == ATTEMPTS_MAX {
            let queue = &planned.queue.name;
            warn!(queue, kept = ATTEMPTS_MAX, "attempts of further messages start over");
        }
        let next = self.end();
        self.queue(&planned.queue, Pick::New, &mut |_, _| ())?;
        Ok(Written { is_paused: planned.is_paused, entries, new: (next, self.end()) })
    }

    /// Appends the messages of `queue` that are wanted; each is shown with its place and id.
    fn queue(
        &mut self,
        queue: &DiskQueue,
        pick: Pick,
        taken: &mut dyn FnMut(&QueueRecord<'_>, (Cursor, u64)),
    ) -> Result<Vec<Unread>, ImportError> {
        let mut tried = 0;
        let mut oversized = 0_u64;
        let message_bytes_max = self.limits.message_bytes_max;
        let unread = queue.read(message_bytes_max, &mut |record| {
            let is_tried = record.attempts > 0 && tried < ATTEMPTS_MAX;
            tried += usize::from(is_tried);
            oversized += u64::from(record.body.len() as u64 > message_bytes_max);
            match pick {
                Pick::Tried if !is_tried => return Ok(()),
                Pick::New if is_tried => return Ok(()),
                Pick::Tried | Pick::New | Pick::All => {}
            }
            let id = match pick {
                Pick::All => self.ids.in_topic(record.id),
                Pick::Tried | Pick::New => self.ids.in_channel(record.id),
            };
            taken(record, (self.end(), id));
            self.push(record, id)
        })?;
        if oversized > 0 && pick != Pick::New {
            let queue = &queue.name;
            warn!(queue, messages = oversized, "messages larger than -max-msg-size taken over");
        }
        if pick == Pick::All {
            report(self.name, &unread);
        }
        Ok(unread)
    }

    fn push(&mut self, record: &QueueRecord<'_>, id: u64) -> Result<(), ImportError> {
        self.batch.push_stored(record.body, id, record.timestamp);
        if let Some(part) = self.parts.last_mut() {
            part.add(id, record.timestamp, record.body);
        }
        self.imported.messages += 1;
        self.imported.bytes += record.body.len() as u64;
        if self.batch.bytes() as u64 >= BATCH_BYTES_MAX.min(self.limits.segment_bytes_max) {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        let appended = self.log.append(&mut self.batch, 0, 0, 0);
        appended.map_err(ImportError::at(self.dir.path()))?;
        self.batch.clear();
        Ok(())
    }

    /// Where the next message will lie.
    fn end(&self) -> Cursor {
        let end = self.log.end();
        Cursor {
            seq: end.seq + self.batch.len() as u64,
            offset: end.offset + self.batch.bytes() as u64,
        }
    }

    fn begin_part(&mut self) {
        self.parts.push(Part { from: self.end(), ..Part::default() });
    }
}

fn report(topic: &TopicName, unread: &[Unread]) {
    for part in unread {
        warn!(
            %topic,
            file = %part.path.display(),
            offset = part.offset,
            bytes = part.bytes,
            reason = part.reason,
            "part of a queue of nsqd not read"
        );
    }
}

/// Reads the log as a node would and compares each part with what was written.
fn read_back(
    name: &TopicName,
    dir: &TopicDir,
    options: LogOptions,
    parts: &[Part],
    end: Cursor,
) -> Result<(), ImportError> {
    let at = || ImportError::at(dir.path());
    let differs = |reason| ImportError::ReadBack { topic: name.to_string(), reason };
    let (mut log, recovery) = Log::open(dir.disk(), options).map_err(at())?;
    if recovery.torn_bytes > 0 || !recovery.damaged.is_empty() || log.end() != end {
        return Err(differs("the log read back is not whole"));
    }
    for (i, part) in parts.iter().enumerate() {
        let until = parts.get(i + 1).map_or(end, |next| next.from);
        let mut there = Part { from: part.from, ..Part::default() };
        let mut visit = |record: grapevine_storage::Record<'_>| {
            there.add(record.id, record.timestamp, record.body);
            ControlFlow::Continue(())
        };
        log.read(part.from, until.seq, &mut visit).map_err(at())?;
        if there != *part {
            return Err(differs("messages read back are not those written"));
        }
    }
    Ok(())
}

fn read_back_states(
    name: &TopicName,
    dir: &TopicDir,
    state: &TopicState,
    checkpoints: &[(&ChannelName, ChannelCheckpoint)],
) -> Result<(), ImportError> {
    let at = || ImportError::at(dir.path());
    let read = dir.read_state().map_err(at())?.unwrap_or_default();
    let mut is_same = TopicState::decode(&read).as_ref() == Ok(state);
    for (channel, checkpoint) in checkpoints {
        let read = dir.read_channel(channel).map_err(at())?.unwrap_or_default();
        is_same &= ChannelCheckpoint::decode(&read).as_ref() == Ok(checkpoint);
    }
    let reason = "what is remembered of its channels is not what was written";
    is_same.then_some(()).ok_or(ImportError::ReadBack { topic: name.to_string(), reason })
}

/// Messages of one channel whose attempts are kept: they are held in memory and written with each
/// checkpoint, 43 B each. An nsqd that wrote more has consumers that requeue everything.
pub(super) const ATTEMPTS_MAX: usize = 100_000;
/// Bytes written at once, if segments are not smaller.
const BATCH_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of messages kept in memory while reading back: a few read-ahead blocks.
const CACHE_BYTES_MAX: u64 = 4 * 1024 * 1024;

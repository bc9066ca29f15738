//! Moving a few old messages out of the way, so that one message deferred for a day does not keep
//! a day of disk.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use grapevine_storage::{Batch, Cursor, Disk, Log, Record, SegmentInfo};

use crate::Channel;
use crate::in_flight::Held;
use crate::topic::Topic;

/// Messages moved in one go; bounds the time the topic's lock is held.
const RELOCATED_MESSAGES_MAX: usize = 1_024;

/// Bytes of bodies read for ephemeral channels in one go, for the same reason.
const RELOCATED_BYTES_MAX: usize = 4 << 20;

/// Segments that may lie between the oldest unfinished message and what the channels read now.
const SEGMENTS_BEHIND_MAX: usize = 2;

/// A segment is given up when at most this part of its bytes is still needed (1/8).
const LIVE_BYTES_DIVISOR: u64 = 8;

impl<D: Disk> Topic<D> {
    /// Copies the unfinished messages of the oldest segment into the side log, if few of its bytes
    /// are still needed and all channels read far ahead of it.
    ///
    /// `open_side` opens the topic's side log when it is needed for the first time. Returns whether
    /// messages were moved: a checkpoint must be written before the segment can go.
    ///
    /// # Errors
    ///
    /// When the side log cannot be opened or written, or the log cannot be read; the messages then
    /// stay where they are.
    pub fn relocate(
        &mut self,
        open_side: &mut dyn FnMut() -> std::io::Result<Log<D>>,
    ) -> std::io::Result<bool> {
        if self.name.is_ephemeral() {
            return Ok(false);
        }
        self.keep_in_memory()?;
        let head =
            self.channels.values().map(|channel| channel.next).fold(self.released, Cursor::min);
        let moved = match oldest_behind(&self.log.segments(), head) {
            Some(segment) => self.relocate_from(false, segment, open_side)?,
            None => false,
        };
        let side = self.side.as_ref().and_then(|side| oldest_behind(&side.segments(), side.end()));
        match side {
            Some(segment) => Ok(self.relocate_from(true, segment, open_side)? || moved),
            None => Ok(moved),
        }
    }

    /// Reads what ephemeral channels far behind have waiting, so that they hold no segments: where
    /// their queue is full they jump ahead, and may never read what lies before.
    ///
    /// At most `--mem-queue-size` messages of a channel, as in nsqd.
    fn keep_in_memory(&mut self) -> std::io::Result<()> {
        let Some(oldest) = oldest_behind(&self.log.segments(), self.released) else {
            return Ok(());
        };
        let released = self.released.seq;
        for (_, channel) in self.channels.iter_mut().filter(|(name, _)| name.is_ephemeral()) {
            let mut left = RELOCATED_MESSAGES_MAX;
            let mut bytes_left = RELOCATED_BYTES_MAX;
            channel.take_jumps();
            while left > 0 && bytes_left > 0 && channel.next < oldest.end {
                let until = channel.jumps.front().map_or(released, |jump| jump.at.min(released));
                let from = channel.next;
                let after = self.log.read(from, until, &mut |record: Record<'_>| {
                    left -= 1;
                    bytes_left = bytes_left.saturating_sub(record.body.len());
                    channel.keep(&record);
                    match left > 0 && bytes_left > 0 {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                })?;
                channel.next = channel.next.max(after);
                channel.take_jumps();
                if channel.next == from {
                    break;
                }
            }
        }
        Ok(())
    }

    fn relocate_from(
        &mut self,
        is_side: bool,
        segment: SegmentInfo,
        open_side: &mut dyn FnMut() -> std::io::Result<Log<D>>,
    ) -> std::io::Result<bool> {
        let mut wanted = self.held_within(is_side, &segment);
        let records = segment.end.seq - segment.first.seq;
        let is_many = wanted.len() > RELOCATED_MESSAGES_MAX;
        if wanted.is_empty() || (is_many && wanted.len() as u64 > records / LIVE_BYTES_DIVISOR) {
            return Ok(false);
        }
        if is_many {
            // The rest of them with the next call.
            wanted = wanted.into_iter().take(RELOCATED_MESSAGES_MAX).collect();
        }
        if self.side.is_none() {
            self.side = Some(open_side()?);
        }
        let Some(side) = &mut self.side else {
            return Ok(false);
        };
        let mut copies = Vec::new();
        let mut bytes = 0;
        for (&cursor, &id) in &wanted {
            let mut batch = Batch::new();
            let mut timestamp = 0;
            let mut visit = |record: Record<'_>| {
                bytes += record.body.len() as u64;
                timestamp = record.timestamp;
                batch.push(record.body, record.deliver_at);
            };
            let is_there = match is_side {
                true => side.read_one(cursor, &mut visit)?,
                false => self.log.read_one(cursor, &mut visit)?,
            };
            if bytes > segment.bytes / LIVE_BYTES_DIVISOR {
                return Ok(false);
            }
            if is_there {
                copies.push((cursor, id, timestamp, batch));
            }
        }
        let mut moves = BTreeMap::new();
        for (cursor, id, timestamp, mut batch) in copies {
            moves.insert(cursor, side.append(&mut batch, id, 0, timestamp)?);
        }
        self.point_to(is_side, &moves);
        Ok(true)
    }

    /// Unfinished messages whose records lie in `segment`: place and id.
    fn held_within(&self, is_side: bool, segment: &SegmentInfo) -> BTreeMap<Cursor, u64> {
        let mut wanted = BTreeMap::new();
        for channel in self.channels.values() {
            let waiting = channel.requeued.iter().chain(channel.deferred.values());
            let in_flight = channel.in_flight.sorted().into_iter().map(|entry| &entry.held);
            let held = waiting.chain(in_flight).filter(|held| {
                held.body.is_none()
                    && held.is_side == is_side
                    && segment.first <= held.cursor
                    && held.cursor < segment.end
            });
            wanted.extend(held.map(|held| (held.cursor, held.id)));
        }
        wanted
    }

    fn point_to(&mut self, was_side: bool, moves: &BTreeMap<Cursor, Cursor>) {
        for channel in self.channels.values_mut() {
            let in_flight: Vec<u64> =
                channel.in_flight.sorted().into_iter().map(|entry| entry.held.id).collect();
            let mut point = |held: &mut Held| {
                if held.body.is_none()
                    && held.is_side == was_side
                    && let Some(&to) = moves.get(&held.cursor)
                {
                    held.is_side = true;
                    held.cursor = to;
                }
            };
            channel.requeued.iter_mut().chain(channel.deferred.values_mut()).for_each(&mut point);
            for id in in_flight {
                if let Some(held) = channel.in_flight.held_mut(id) {
                    point(held);
                }
            }
            channel.is_dirty = true;
        }
    }
}

impl Channel {
    /// Takes a message never handed out into memory.
    fn keep(&mut self, record: &Record<'_>) {
        self.next = record.next;
        if record.deliver_at != 0 {
            self.deferred_ahead = self.deferred_ahead.saturating_sub(1);
            return;
        }
        self.requeued.push_back(Held {
            cursor: record.cursor,
            is_side: false,
            id: record.id,
            attempts: 0,
            timestamp: record.timestamp,
            body: Some(Bytes::copy_from_slice(record.body)),
        });
    }
}

/// The oldest segment, if it lies far enough behind `head`.
fn oldest_behind(segments: &[SegmentInfo], head: Cursor) -> Option<SegmentInfo> {
    let behind = segments.iter().filter(|segment| segment.end <= head).count();
    (behind > SEGMENTS_BEHIND_MAX).then(|| segments[0])
}

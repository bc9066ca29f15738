//! The log of one topic.

use std::io;
use std::ops::ControlFlow;

use crate::batch::Batch;
use crate::blocks::{Blocks, Loaded, READ_BLOCK_BYTES, SMALL_BLOCK_BYTES};
use crate::disk::Disk;
use crate::options::{LogOptions, Mode};
use crate::record::{Cursor, Record};
use crate::recovery::{DAMAGE_REPORTS_MAX, Damage, Recovered, Recovery, recover};
use crate::resync::resync;
use crate::run::Span;
use crate::segment::{Segment, SegmentInfo};
use crate::segment_files::SegmentFiles;
use crate::tail::Tail;

/// The messages of one topic, or those a channel has put aside.
///
/// Owned by its topic, under the topic's lock. Methods may do file I/O except where it says not.
///
/// Invariants: segments and chunks of the tail are each ascending and do not overlap; what is
/// between
/// `written` and `end` is in the tail unless it was released; between segments there may be gaps.
#[derive(Debug)]
pub struct Log<D: Disk> {
    /// What is on the disk.
    files: SegmentFiles<D>,
    options: LogOptions,
    tail: Tail,
    blocks: Blocks,
    /// Where the next record goes.
    end: Cursor,
    /// Everything below is on the disk, or was released before it had to be.
    written: Cursor,
    /// Everything below is finished.
    floor: Cursor,
    /// Where the segment of the next record began, written or not; `None`: a new one is due.
    current: Option<Current>,
    /// Known damage: from which offset to go on where. Ascending.
    skips: Vec<(u64, Cursor)>,
    damage: Vec<Damage>,
    damaged_messages: u64,
    /// Where the last single read missed memory, to tell a run of them from a lone one.
    last_single_offset: u64,
}

/// The segment that is being filled.
#[derive(Clone, Copy, Debug)]
struct Current {
    index_base: u64,
    first_offset: u64,
}

impl<D: Disk> Log<D> {
    /// Opens what is on the disk, or an empty log, and repairs what a crash left behind.
    ///
    /// # Errors
    ///
    /// Only when the disk cannot be read at all; damage is passed over and reported in
    /// [`Recovery`].
    pub fn open(disk: D, options: LogOptions) -> io::Result<(Self, Recovery)> {
        let recovered = match options.mode {
            Mode::MemoryOnly => Recovered::default(),
            Mode::WriteThrough | Mode::WriteBehind { .. } => recover(&disk)?,
        };
        let Recovered { segments, end, is_torn, report, .. } = recovered;
        let current = segments
            .back()
            .filter(|last| last.end == end)
            .map(|last| Current { index_base: last.index_base, first_offset: last.first.offset });
        disk.close_idle();
        let log = Self {
            tail: Tail::new(options.cache.clone()),
            blocks: Blocks::new(options.cache.clone()),
            files: SegmentFiles::new(disk, segments, is_torn),
            options,
            end,
            written: end,
            floor: Cursor::default(),
            current,
            skips: Vec::new(),
            damage: Vec::new(),
            damaged_messages: 0,
            last_single_offset: 0,
        };
        Ok((log, report))
    }

    /// Makes sure that new records get places at or past `known`, which somebody remembers as
    /// having been in use: the log's end may not have been written, or was lost with the power. No
    /// I/O.
    pub fn advance_to(&mut self, known: Cursor) {
        if known.seq <= self.end.seq && known.offset <= self.end.offset {
            return;
        }
        let is_written = self.written == self.end;
        self.end.seq = self.end.seq.max(known.seq);
        self.end.offset = self.end.offset.max(known.offset);
        if is_written {
            self.written = self.end;
        }
        self.roll();
    }

    /// Appends the whole batch or, on an error, nothing. Message `i` gets id `first_id + i *
    /// id_step` (wrapping). Returns the place of the first.
    ///
    /// # Errors
    ///
    /// What the disk said. The log is as before; trying again later is fine.
    pub fn append(
        &mut self,
        batch: &mut Batch,
        first_id: u64,
        id_step: u64,
        timestamp: i64,
    ) -> io::Result<Cursor> {
        let first = self.end;
        if batch.is_empty() {
            return Ok(first);
        }
        let messages = batch.len() as u64;
        let end = Cursor { seq: first.seq + messages, offset: first.offset + batch.bytes() as u64 };
        let current = self.segment_for(end);
        let index = u32::try_from(first.seq - current.index_base).unwrap_or(u32::MAX);
        batch.seal(index, first_id, id_step, timestamp);
        let span = Span { index_base: current.index_base, first, end };
        let is_written = match self.options.mode {
            Mode::WriteThrough => true,
            Mode::WriteBehind { messages_max } => {
                self.make_room_unwritten(messages, messages_max)?;
                messages > messages_max
                    || !self.tail.push(span, batch.records(), self.written.offset, false)
            }
            Mode::MemoryOnly => {
                self.tail.push(span, batch.records(), 0, true);
                false
            }
        };
        if is_written {
            self.flush()?;
            self.files.write(span, batch.records())?;
            self.written = end;
            self.tail.push(span, batch.records(), end.offset, false);
        }
        self.current = Some(current);
        self.end = end;
        Ok(first)
    }

    /// Shows the records from `from` on to `visit` while their seq is below `until_seq`, until it
    /// returns `Break` (having taken that record). Returns where to go on.
    ///
    /// What is released, damaged or was never written is passed over: seqs may jump, and what is
    /// returned may lie beyond `until_seq` if everything up to there is gone.
    ///
    /// # Errors
    ///
    /// When the disk fails for another reason than damage. Records may have been visited already.
    pub fn read(
        &mut self,
        from: Cursor,
        until_seq: u64,
        visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<Cursor> {
        self.read_by(from, until_seq, READ_BLOCK_BYTES, visit)
    }

    /// Shows the record at `at`. `false`: it is damaged or no longer there.
    ///
    /// # Errors
    ///
    /// When the disk fails for another reason than damage.
    pub fn read_one(&mut self, at: Cursor, visit: &mut dyn FnMut(Record<'_>)) -> io::Result<bool> {
        let is_near = at.offset.wrapping_sub(self.last_single_offset) < READ_BLOCK_BYTES as u64;
        self.last_single_offset = at.offset;
        let block_bytes = if is_near { READ_BLOCK_BYTES } else { SMALL_BLOCK_BYTES };
        let mut is_found = false;
        self.read_by(at, at.seq.saturating_add(1), block_bytes, &mut |record| {
            is_found = record.cursor == at;
            if is_found {
                visit(record);
            }
            ControlFlow::Break(())
        })?;
        Ok(is_found)
    }

    /// Everything below `floor` is finished: frees its memory and returns the names of files to
    /// remove, which the caller does through a clone of the disk after giving up the lock.
    ///
    /// A large segment of which everything is finished goes too; then, and only then, this creates
    /// an empty file, so that numbers go on after a restart.
    pub fn release(&mut self, floor: Cursor) -> Vec<String> {
        self.floor = self.floor.max(floor);
        self.tail.release(self.floor.offset);
        self.skips.retain(|(_, to)| to.offset > self.floor.offset);
        let mut names = Vec::new();
        while let Some(segment) = self.files.list().front() {
            let is_finished = segment.end.seq <= self.floor.seq;
            if !is_finished || (self.files.list().len() == 1 && !self.may_drop_last()) {
                break;
            }
            names.extend(self.files.pop_front().map(|segment| segment.name()));
        }
        names
    }

    /// Writes everything that is only in memory; does nothing in [`Mode::MemoryOnly`].
    ///
    /// # Errors
    ///
    /// What the disk said; what is not written stays in memory.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.options.mode == Mode::MemoryOnly {
            return Ok(());
        }
        while self.written < self.end {
            let from = self.written.max(self.floor);
            let Some(chunk) = self.tail.at(from.offset) else {
                // Released, or a gap that `advance_to` made.
                let next = self.tail.first_from(from.offset);
                self.written = next.unwrap_or(self.end);
                continue;
            };
            let first = from.max(chunk.first); // seqs may have gone on without bytes
            let span = Span { index_base: chunk.index_base, first, end: chunk.end };
            let bytes = chunk.bytes_from(first.offset);
            self.files.write(span, bytes)?;
            self.written = span.end;
        }
        self.tail.trim(self.written.offset);
        Ok(())
    }

    /// To sync everything written so far, without holding the lock; `None` if nothing was.
    ///
    /// Covers every segment written to since the last handle, and the few before it.
    pub fn sync_handle(&mut self) -> Option<D::Handle> {
        self.files.sync_handle()
    }

    /// Gives up file handles and buffers until the log is next used. No I/O.
    pub fn go_idle(&mut self) {
        let evictable = match self.options.mode {
            Mode::MemoryOnly => self.floor.offset,
            Mode::WriteThrough | Mode::WriteBehind { .. } => self.written.offset,
        };
        self.tail.shrink(evictable);
        self.blocks.clear();
        self.files.close_idle();
    }

    /// Makes the next append start a new segment. No I/O.
    pub fn roll(&mut self) {
        self.current = None;
    }

    /// Damage met while reading since the last call, to be logged. No I/O.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// Messages passed over as damaged since the log was opened, at most. No I/O.
    pub fn damaged_messages(&self) -> u64 {
        self.damaged_messages
    }

    /// Where the first record lies that may still be read; [`end`](Self::end) if there is none.
    /// No I/O.
    pub fn start(&self) -> Cursor {
        self.first_from(0).unwrap_or(self.end).max(self.floor).min(self.end)
    }

    /// Where the next record will be appended. No I/O.
    pub fn end(&self) -> Cursor {
        self.end
    }

    /// The segments on disk, oldest first. No I/O.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.files.list().iter().map(Segment::info).collect()
    }

    /// Messages, not yet released, that are only in memory. No I/O.
    pub fn unwritten_messages(&self) -> u64 {
        let from = match self.options.mode {
            Mode::MemoryOnly => self.start(),
            Mode::WriteThrough | Mode::WriteBehind { .. } => self.written.max(self.floor),
        };
        self.end.seq.saturating_sub(from.seq)
    }

    /// The disk this log is on.
    pub fn disk(&self) -> &D {
        &self.files.disk
    }

    /// What the log was opened with.
    pub fn options(&self) -> &LogOptions {
        &self.options
    }

    /// The segment that records from here to `end` go to.
    fn segment_for(&self, end: Cursor) -> Current {
        let due = Current { index_base: self.end.seq, first_offset: self.end.offset };
        self.current
            .filter(|current| {
                let is_first = current.first_offset == self.end.offset;
                let bytes = end.offset - current.first_offset;
                let has_room = is_first || bytes <= self.options.segment_bytes_max;
                has_room && end.seq - current.index_base <= u64::from(u32::MAX)
            })
            .unwrap_or(due)
    }

    /// Writes what is unwritten if `messages` more would make it too much.
    fn make_room_unwritten(&mut self, messages: u64, messages_max: u64) -> io::Result<()> {
        let unwritten = self.unwritten_messages();
        let is_full = unwritten > 0 && unwritten.saturating_add(messages) > messages_max;
        if is_full { self.flush() } else { Ok(()) }
    }

    /// Whether the only segment left, of which everything is finished, may go.
    fn may_drop_last(&mut self) -> bool {
        let Some(last) = self.files.list().back() else { return false };
        if self.floor.seq > last.end.seq {
            return true; // never appended to again: what comes next does not join it
        }
        let is_large = last.bytes() >= DRAINED_BYTES_MIN.min(self.options.segment_bytes_max);
        let is_last_written = last.end == self.end && self.options.mode == Mode::WriteThrough;
        if last.is_empty() || !is_large || !is_last_written {
            return false;
        }
        if self.files.start(self.end, self.end.seq).is_err() {
            // As on a full disk. Making room comes first; a checkpoint remembers the end.
            self.roll();
            return true;
        }
        self.current = Some(Current { index_base: self.end.seq, first_offset: self.end.offset });
        true
    }

    fn read_by(
        &mut self,
        from: Cursor,
        until_seq: u64,
        block_bytes: usize,
        visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> io::Result<Cursor> {
        let mut cursor = from;
        while cursor.seq < until_seq && cursor.offset < self.end.offset {
            let run = if let Some(chunk) = self.tail.at(cursor.offset) {
                chunk
            } else if let Some(segment) = self.files.at(cursor.offset).copied() {
                if cursor.seq < segment.first.seq {
                    cursor = segment.first; // seqs went on without bytes
                } else if cursor.seq >= segment.end.seq {
                    // From before a power loss that `advance_to` was not told of.
                    cursor = self.first_for_seq(cursor.seq);
                    continue;
                }
                if self.blocks.at(cursor.offset).is_none()
                    && let Some(skip_to) = self.load(&segment, cursor, block_bytes)?
                {
                    cursor = skip_to;
                    continue;
                }
                let Some(block) = self.blocks.at(cursor.offset) else { break };
                block
            } else {
                let next = self.first_from(cursor.offset).unwrap_or(self.end);
                cursor = Cursor { seq: next.seq.max(cursor.seq), ..next };
                continue;
            };
            let (next, flow) = run.visit(cursor, from.seq..until_seq, visit);
            if flow.is_break() || next == cursor {
                return Ok(next);
            }
            cursor = next;
        }
        if cursor.seq < until_seq && cursor.offset >= self.end.offset {
            // Whatever seqs are missing went without bytes.
            cursor.seq = cursor.seq.max(self.end.seq);
        }
        Ok(cursor)
    }

    /// Gets the record at `cursor` into a block; if there is none to get, says where to go on.
    fn load(
        &mut self,
        segment: &Segment,
        cursor: Cursor,
        block_bytes: usize,
    ) -> io::Result<Option<Cursor>> {
        if let Ok(i) = self.skips.binary_search_by_key(&cursor.offset, |(from, _)| *from) {
            return Ok(Some(self.skips[i].1));
        }
        let floor = self.floor.offset;
        let reason = match self.blocks.load(&self.files.disk, segment, cursor, block_bytes, floor) {
            Ok(Loaded::Good(_)) => return Ok(None),
            Ok(Loaded::Damaged(reason)) => reason,
            Err(error) if error.kind() == io::ErrorKind::NotFound => "the file is gone",
            Err(error) => return Err(error),
        };
        let found = match resync(&self.files.disk, segment, cursor) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => other?,
        };
        let next = found.unwrap_or(segment.end);
        let damage = Damage::between(segment, cursor, next, reason);
        self.damaged_messages += damage.messages;
        if self.damage.len() < DAMAGE_REPORTS_MAX {
            self.damage.push(damage);
        }
        if self.skips.len() < SKIPS_MAX {
            let i = self.skips.partition_point(|(from, _)| *from < cursor.offset);
            self.skips.insert(i, (cursor.offset, next));
        }
        Ok(Some(next))
    }

    /// The start of the segment or chunk in which `seq` would be, or of the first one after it.
    fn first_for_seq(&self, seq: u64) -> Cursor {
        let in_memory = self.tail.first_for_seq(seq);
        self.files.first_for_seq(seq).into_iter().chain(in_memory).min().unwrap_or(self.end)
    }

    /// The first record, on disk or in memory, that begins at or after `offset`.
    fn first_from(&self, offset: u64) -> Option<Cursor> {
        self.files.first_from(offset).into_iter().chain(self.tail.first_from(offset)).min()
    }
}

/// A finished segment at least this large, in bytes, is removed although it is the last: small
/// enough that a drained topic keeps no disk worth speaking of, large enough that the file creation
/// it takes
/// does not show in the cost of a message.
const DRAINED_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Damaged places remembered, so that each channel need not search past them again.
const SKIPS_MAX: usize = 1024;

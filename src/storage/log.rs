//! The log of one topic.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::batch::Batch;
use crate::budget::CacheBudget;
use crate::disk::Disk;
use crate::record::{Cursor, HEADER_BYTES, Header, Record};

/// When appended messages reach the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Before `append` returns (durability `os` and `fsync`).
    WriteThrough,
    /// Kept in memory until more than `messages_max` are unwritten or memory runs short, then
    /// everything unwritten at once (durability `memory`).
    WriteBehind {
        /// Messages that may be unwritten (`--mem-queue-size`).
        messages_max: u64,
    },
    /// Never (ephemeral topics): released data is freed, and the disk is not touched.
    MemoryOnly,
}

/// What a [`Log`] is opened with.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// When appended messages reach the disk.
    pub mode: Mode,
    /// Bytes after which a new segment is started (`--max-bytes-per-file`). A batch is never split,
    /// so one that is larger gets a segment of its own.
    pub segment_bytes_max: u64,
    /// What all logs of the node may together hold in memory.
    pub cache: Arc<CacheBudget>,
}

/// What opening a log found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recovery {
    /// Bytes cut from the end of the last segment: a write that a crash interrupted.
    pub torn_bytes: u64,
    /// What could not be read and was passed over.
    pub damaged: Vec<Damage>,
    /// The highest message id in the last segment that holds any; 0 if there is none.
    pub highest_id: u64,
    /// Whole records in the last segment.
    pub last_segment_records: u64,
}

/// A stretch of a segment that could not be read and was passed over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The file.
    pub segment: String,
    /// Position in the file, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Messages that were in it, where known.
    pub messages: u64,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// One segment, oldest first in [`Log::segments`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentInfo {
    /// Its first record.
    pub first: Cursor,
    /// Just past its last one. For a segment that was not read at recovery, the `seq` is that of the
    /// next segment's first record.
    pub end: Cursor,
    /// Bytes of the file.
    pub bytes: u64,
}

/// The messages of one topic, or those a channel has put aside.
///
/// Owned by its topic, under the topic's lock. Every method may do file I/O except where it says not.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: D,
    options: LogOptions,
    records: VecDeque<(Cursor, Vec<u8>)>,
    start: Cursor,
    end: Cursor,
}

impl<D: Disk> Log<D> {
    /// Opens what is on the disk, or an empty log, and repairs what a crash left behind.
    ///
    /// # Errors
    ///
    /// Only when the disk cannot be read at all; damage is passed over and reported in [`Recovery`].
    pub fn open(disk: D, options: LogOptions) -> io::Result<(Self, Recovery)> {
        let (records, start) = (VecDeque::new(), Cursor::default());
        Ok((Self { disk, options, records, start, end: start }, Recovery::default()))
    }

    /// Where the first record lies that may still be read; [`end`](Self::end) if there is none. No I/O.
    pub fn start(&self) -> Cursor {
        self.start
    }

    /// Where the next record will be appended. No I/O.
    pub fn end(&self) -> Cursor {
        self.end
    }

    /// Makes sure that new records get places at or past `known`, which somebody remembers as having
    /// been in use: the log's end may not have been written, or was lost with the power.
    pub fn advance_to(&mut self, known: Cursor) {
        self.end.seq = self.end.seq.max(known.seq);
        self.end.offset = self.end.offset.max(known.offset);
    }

    /// Appends the whole batch or, on an error, nothing. Message `i` gets id `first_id + i * id_step`
    /// (wrapping). Returns the place of the first.
    pub fn append(
        &mut self,
        batch: &mut Batch,
        first_id: u64,
        id_step: u64,
        timestamp: i64,
    ) -> io::Result<Cursor> {
        let first = self.end;
        batch.seal(0, first_id, id_step, timestamp);
        let mut rest = batch.records();
        while let Some(header) = Header::decode(rest) {
            let (record, after) = rest.split_at(HEADER_BYTES + header.len as usize);
            self.records.push_back((self.end, record.to_vec()));
            self.end.seq += 1;
            self.end.offset += record.len() as u64;
            rest = after;
        }
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
        let mut cursor = from;
        for (at, bytes) in self.records.iter().filter(|(at, _)| at.seq >= from.seq) {
            if at.seq >= until_seq {
                break;
            }
            let next = Cursor { seq: at.seq + 1, offset: at.offset + bytes.len() as u64 };
            cursor = next;
            let Some(header) = Header::decode(bytes) else { continue };
            let record = Record {
                cursor: *at,
                next,
                id: header.id,
                timestamp: header.timestamp,
                deliver_at: header.deliver_at,
                body: &bytes[HEADER_BYTES..],
            };
            if visit(record).is_break() {
                break;
            }
        }
        Ok(cursor)
    }

    /// Shows the record at `at`. `false`: it is damaged or no longer there.
    pub fn read_one(&mut self, at: Cursor, visit: &mut dyn FnMut(Record<'_>)) -> io::Result<bool> {
        let mut found = false;
        self.read(at, at.seq + 1, &mut |record| {
            found = record.cursor == at;
            if found {
                visit(record);
            }
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Everything below `floor` is finished: frees its memory and returns the names of files to
    /// remove, which the caller does through a clone of the disk after giving up the lock.
    pub fn release(&mut self, floor: Cursor) -> Vec<String> {
        self.records.retain(|(at, _)| at.seq >= floor.seq);
        self.start = self.records.front().map_or(self.end, |(at, _)| *at);
        Vec::new()
    }

    /// The segments on disk, oldest first. No I/O.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        Vec::new()
    }

    /// Writes everything that is only in memory (not for [`Mode::MemoryOnly`]).
    pub fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Messages, not yet released, that are only in memory. No I/O.
    pub fn unwritten_messages(&self) -> u64 {
        0
    }

    /// To sync everything written so far, without holding the lock; `None` if nothing ever was.
    pub fn sync_handle(&self) -> Option<D::Handle> {
        None
    }

    /// Gives up file handles and buffers until the log is next used. No I/O.
    pub fn go_idle(&mut self) {}

    /// Makes the next append start a new segment.
    pub fn roll(&mut self) {}

    /// Damage met while reading since the last call, to be logged.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        Vec::new()
    }

    /// The disk this log is on.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// What the log was opened with.
    pub fn options(&self) -> &LogOptions {
        &self.options
    }
}

//! What opening a log finds on the disk, and repairs.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::blocks::{Blocks, Loaded};
use crate::budget::CacheBudget;
use crate::disk::Disk;
use crate::record::Cursor;
use crate::resync::resync;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, seq_in_name};

/// What opening a log found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recovery {
    /// Bytes cut from the end of the last segment: a write that a crash interrupted.
    pub torn_bytes: u64,
    /// What could not be read and was passed over.
    pub damaged: Vec<Damage>,
    /// The highest message id in the newest segment that holds any; 0 if there is none.
    pub highest_id: u64,
    /// Whole records in that segment.
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
    /// Messages that were in it; at most, where a gap between segments hides the true number.
    pub messages: u64,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Damage {
    /// The damage between two places of a segment.
    pub(crate) fn between(
        segment: &Segment,
        at: Cursor,
        next: Cursor,
        reason: &'static str,
    ) -> Self {
        Self {
            segment: segment.name(),
            offset: segment.position(at.offset),
            bytes: next.offset.saturating_sub(at.offset),
            messages: next.seq.saturating_sub(at.seq),
            reason,
        }
    }
}

/// The segments that can be used, and what was found on the way.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) segments: VecDeque<Segment>,
    /// At or past every place that may be in use.
    pub(crate) end: Cursor,
    /// Whether bytes that are not ours lie past the end of the last segment and could not be cut.
    pub(crate) is_torn: bool,
    pub(crate) report: Recovery,
    /// Bytes of files that could not be used.
    lost_bytes: u64,
}

/// Reads headers of all segments and all of the last one, and cuts a torn tail.
pub(crate) fn recover<D: Disk>(disk: &D) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    let names: Vec<String> =
        disk.list()?.into_iter().filter(|name| seq_in_name(name).is_some()).collect();
    for (i, name) in names.iter().enumerate() {
        recovered.add(disk, name, i + 1 == names.len())?;
    }
    recovered.close_gaps();
    recovered.read_last(disk)?;
    recovered.find_highest_id(disk)?;
    Ok(recovered)
}

impl Recovered {
    fn add<D: Disk>(&mut self, disk: &D, name: &str, is_last: bool) -> io::Result<()> {
        let mut head = [0; SEGMENT_HEADER_BYTES as usize];
        let there = disk.read_at(name, 0, &mut head)?;
        let bytes = disk.len(name)?;
        if is_last && bytes < SEGMENT_HEADER_BYTES {
            // The crash came while it was being created. Nothing was in it yet, but its name says
            // how far seqs had gone.
            self.report.torn_bytes += bytes;
            self.end.seq = self.end.seq.max(seq_in_name(name).unwrap_or_default());
            return disk.remove(name);
        }
        let decoded = Segment::decode_header(&head[..there])
            .filter(|segment| segment.name() == name && segment.index_base <= segment.first.seq)
            .filter(|segment| segment.first.offset >= self.end.offset);
        let Some(mut segment) = decoded else {
            self.report.damaged.push(Damage {
                segment: name.to_owned(),
                offset: 0,
                bytes,
                messages: 0,
                reason: "no segment header that fits, file left alone",
            });
            // New records must not take the file's name nor the places that were in it.
            self.lost_bytes = self.lost_bytes.saturating_add(bytes);
            let seq = seq_in_name(name).unwrap_or_default();
            self.end.seq = self.end.seq.max(seq.saturating_add(1));
            return Ok(());
        };
        let payload = bytes.saturating_sub(SEGMENT_HEADER_BYTES);
        segment.end.offset = segment.first.offset.saturating_add(payload);
        self.end.seq = self.end.seq.max(segment.first.seq);
        self.end.offset = self.end.offset.max(segment.first.offset);
        self.segments.push_back(segment);
        Ok(())
    }

    /// A segment ends where the next one begins, or earlier.
    fn close_gaps(&mut self) {
        for i in 1..self.segments.len() {
            let next = self.segments[i].first;
            let segment = &mut self.segments[i - 1];
            segment.end.seq = next.seq;
            segment.end.offset = segment.end.offset.min(next.offset);
        }
    }

    fn read_last<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        let Some(last) = self.segments.back().copied() else {
            self.end.offset = self.lost_bytes;
            return Ok(());
        };
        let file_end = last.end.offset;
        let whole = Segment { end: Cursor { seq: u64::MAX, offset: file_end }, ..last };
        let read = read_all(disk, &whole)?;
        let end = read.end;
        self.report.damaged.extend(read.damaged);
        self.report.last_segment_records = read.records;
        self.report.highest_id = read.highest_id;
        self.report.torn_bytes += file_end - end.offset;
        if end.offset < file_end {
            self.is_torn = disk.truncate(&last.name(), last.position(end.offset)).is_err();
        }
        if let Some(last) = self.segments.back_mut() {
            last.end = end;
        }
        self.end.seq = self.end.seq.max(end.seq);
        self.end.offset = end.offset.saturating_add(self.lost_bytes);
        Ok(())
    }

    /// Goes back to the newest segment with records, if the last one has none.
    fn find_highest_id<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        for segment in self.segments.iter().rev().skip(1) {
            if self.report.last_segment_records > 0 {
                break;
            }
            let read = read_all(disk, segment)?;
            self.report.last_segment_records = read.records;
            self.report.highest_id = read.highest_id;
        }
        Ok(())
    }
}

/// All good records of a segment, counted.
struct ReadAll {
    /// Just past the last good record.
    end: Cursor,
    records: u64,
    highest_id: u64,
    /// What lies between good records.
    damaged: Vec<Damage>,
}

fn read_all<D: Disk>(disk: &D, segment: &Segment) -> io::Result<ReadAll> {
    // A budget of its own: what is read here is given back at once.
    let mut blocks = Blocks::new(Arc::new(CacheBudget::new(2 * RECOVERY_BLOCK_BYTES as u64)));
    let mut read = ReadAll { end: segment.first, records: 0, highest_id: 0, damaged: Vec::new() };
    let mut cursor = segment.first;
    while cursor.offset < segment.end.offset {
        match blocks.load(disk, segment, cursor, RECOVERY_BLOCK_BYTES, u64::MAX)? {
            Loaded::Good(found) => {
                read.records += found.records;
                read.highest_id = read.highest_id.max(found.highest_id);
                read.end = found.end;
                cursor = found.end;
            }
            Loaded::Damaged(reason) => {
                let Some(next) = resync(disk, segment, cursor)? else { break };
                if read.damaged.len() < DAMAGE_REPORTS_MAX {
                    read.damaged.push(Damage::between(segment, cursor, next, reason));
                }
                cursor = next;
            }
        }
    }
    Ok(read)
}

/// Read at a time, in bytes.
const RECOVERY_BLOCK_BYTES: usize = crate::blocks::READ_BLOCK_BYTES;
/// Reports kept of one log: enough to see what happened, and bounded.
pub(crate) const DAMAGE_REPORTS_MAX: usize = 64;

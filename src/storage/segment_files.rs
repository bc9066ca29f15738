//! The segments of one log: appending to the last, and what has to be synced.

use std::collections::VecDeque;
use std::io;

use crate::disk::{Disk, SyncHandle};
use crate::record::Cursor;
use crate::run::Span;
use crate::segment::{Segment, name_of};

/// Segment files on a disk, oldest first. Only the last one is appended to.
#[derive(Debug)]
pub(crate) struct SegmentFiles<D> {
    pub(crate) disk: D,
    segments: VecDeque<Segment>,
    /// First seq and file name of the segment written to last: every append needs it.
    written: (u64, String),
    /// Whether the last segment has bytes past its end that are not ours and could not be cut.
    is_torn: bool,
    /// First seqs of segments written to since the last sync handle, and a few before.
    unsynced: Vec<u64>,
    /// Whether anybody has asked for a sync handle.
    is_sync_wanted: bool,
}

impl<D: Disk> SegmentFiles<D> {
    pub(crate) fn new(disk: D, segments: VecDeque<Segment>, is_torn: bool) -> Self {
        // A process that was killed may not have synced the last ones.
        let first_kept = segments.len().saturating_sub(UNSYNCED_KEPT);
        let unsynced = segments.range(first_kept..).map(|segment| segment.first.seq).collect();
        let written = (u64::MAX, String::new());
        Self { disk, segments, written, is_torn, unsynced, is_sync_wanted: false }
    }

    /// Appends to the last segment if `span` continues it, else to a new one. All or nothing.
    pub(crate) fn write(&mut self, span: Span, bytes: &[u8]) -> io::Result<()> {
        let continues = |last: &Segment| {
            last.end == span.first && last.index_base == span.index_base && !self.is_torn
        };
        if !self.segments.back().is_some_and(continues) {
            self.start(span.first, span.index_base)?;
        }
        let Some(segment) = self.segments.back_mut() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let seq = segment.first.seq;
        if self.written.0 != seq {
            self.written = (seq, segment.name());
        }
        let name = self.written.1.as_str();
        let position = segment.position(span.first.offset);
        if let Err(error) = self.disk.append(name, position, bytes) {
            self.is_torn = self.disk.truncate(name, position).is_err();
            return Err(error);
        }
        segment.end = span.end;
        self.note_unsynced(seq);
        Ok(())
    }

    /// Starts a segment without records; on an error there is none.
    pub(crate) fn start(&mut self, first: Cursor, index_base: u64) -> io::Result<()> {
        self.sync_forgotten()?;
        let segment = Segment::empty(first, index_base);
        if self.segments.back().is_some_and(|last| last.first.seq == first.seq) {
            self.segments.pop_back(); // empty, and about to be overwritten
        }
        let name = segment.name();
        if let Err(error) = self.disk.append(&name, 0, &segment.encode_header()) {
            drop(self.disk.remove(&name));
            return Err(error);
        }
        self.is_torn = false;
        self.segments.push_back(segment);
        self.note_unsynced(first.seq);
        Ok(())
    }

    pub(crate) fn sync_handle(&mut self) -> Option<D::Handle> {
        self.is_sync_wanted = true;
        let names: Vec<String> = self.unsynced.iter().map(|&seq| name_of(seq)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let handle = (!names.is_empty()).then(|| self.disk.sync_handle(&names));
        // Some stay, because this handle's sync may fail or be overtaken by the next one's. It
        // costs nothing: a disk does not sync again what has not changed.
        self.unsynced.drain(..self.unsynced.len().saturating_sub(UNSYNCED_KEPT));
        handle
    }

    pub(crate) fn pop_front(&mut self) -> Option<Segment> {
        self.segments.pop_front()
    }

    pub(crate) fn close_idle(&mut self) {
        self.segments.shrink_to_fit();
        self.unsynced.shrink_to_fit();
        self.disk.close_idle();
    }

    pub(crate) fn list(&self) -> &VecDeque<Segment> {
        &self.segments
    }

    /// The segment that holds `offset`.
    pub(crate) fn at(&self, offset: u64) -> Option<&Segment> {
        let i = self.segments.partition_point(|segment| segment.end.offset <= offset);
        self.segments.get(i).filter(|segment| segment.first.offset <= offset)
    }

    /// The first record of a segment that begins at or after `offset`.
    pub(crate) fn first_from(&self, offset: u64) -> Option<Cursor> {
        let i = self.segments.partition_point(|segment| segment.first.offset < offset);
        let next = self.segments.range(i..).find(|segment| !segment.is_empty());
        next.map(|segment| segment.first)
    }

    /// The start of the segment in which `seq` would be, or of the first one after it.
    pub(crate) fn first_for_seq(&self, seq: u64) -> Option<Cursor> {
        let i = self.segments.partition_point(|segment| segment.end.seq <= seq);
        self.segments.get(i).map(|segment| segment.first)
    }

    fn note_unsynced(&mut self, seq: u64) {
        if self.unsynced.last() != Some(&seq) {
            self.unsynced.push(seq);
        }
    }

    /// Keeps the list of segments for the next sync handle short: if handles are taken too rarely,
    /// the oldest is synced here; if they never are, it is left out.
    fn sync_forgotten(&mut self) -> io::Result<()> {
        while self.unsynced.len() >= UNSYNCED_MAX {
            if self.is_sync_wanted {
                self.disk.sync_handle(&[&name_of(self.unsynced[0])]).sync()?;
            }
            self.unsynced.remove(0);
        }
        Ok(())
    }
}

/// Segments a sync handle covers, at most. With 100 MiB segments no publisher outruns the
/// background sync by this much.
const UNSYNCED_MAX: usize = 8;
/// Segments the next handle covers as well.
const UNSYNCED_KEPT: usize = 3;

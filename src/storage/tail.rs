//! The recent end of a log, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::budget::CacheBudget;
use crate::record::Cursor;
use crate::run::{Run, Span};

/// The most recent records, in chunks, oldest first.
///
/// A ring: a chunk that is no longer needed becomes the next one's buffer. Touching fresh memory
/// for every message costs more (page faults) than writing it to a file. Chunks start at 4 KiB, so
/// that a
/// small topic stays small, and double up to 256 KiB.
#[derive(Debug)]
pub(crate) struct Tail {
    chunks: VecDeque<Run>,
    /// A buffer waiting to be a chunk again.
    spare: Option<Vec<u8>>,
    next_capacity: usize,
    budget: Arc<CacheBudget>,
    /// What has been taken from the budget, in bytes: the capacity of all chunks and the spare.
    taken: u64,
}

impl Tail {
    pub(crate) fn new(budget: Arc<CacheBudget>) -> Self {
        let (chunks, spare) = (VecDeque::new(), None);
        Self { chunks, spare, next_capacity: CHUNK_BYTES_MIN, budget, taken: 0 }
    }

    /// The chunk that holds `offset`.
    pub(crate) fn at(&self, offset: u64) -> Option<&Run> {
        // Most reads are at the front or the back; the search is short anyway.
        let i = self.chunks.partition_point(|chunk| chunk.end.offset <= offset);
        self.chunks.get(i).filter(|chunk| chunk.holds(offset))
    }

    /// The first record held that begins at or after `offset`.
    pub(crate) fn first_from(&self, offset: u64) -> Option<Cursor> {
        let i = self.chunks.partition_point(|chunk| chunk.first.offset < offset);
        self.chunks.get(i).map(|chunk| chunk.first)
    }

    /// The start of the chunk in which `seq` would be, or of the first one after it.
    pub(crate) fn first_for_seq(&self, seq: u64) -> Option<Cursor> {
        let i = self.chunks.partition_point(|chunk| chunk.end.seq <= seq);
        self.chunks.get(i).map(|chunk| chunk.first)
    }

    /// Adds the records of `span` if there is room; chunks that end at or below `written_offset`
    /// may give theirs.
    ///
    /// `must`: what does not fit the budget is held all the same.
    pub(crate) fn push(
        &mut self,
        span: Span,
        bytes: &[u8],
        written_offset: u64,
        must: bool,
    ) -> bool {
        if let Some(last) = self.chunks.back_mut()
            && last.end == span.first
            && last.index_base == span.index_base
            && last.buffer.capacity() - last.buffer.len() >= bytes.len()
        {
            last.buffer.extend_from_slice(bytes);
            last.end = span.end;
            return true;
        }
        let Some(mut buffer) = self.buffer_for(bytes.len(), written_offset, must) else {
            return false;
        };
        buffer.extend_from_slice(bytes);
        let Span { index_base, first, end } = span;
        self.chunks.push_back(Run { index_base, first, end, buffer });
        true
    }

    /// Frees what ends at or below `floor_offset`.
    pub(crate) fn release(&mut self, floor_offset: u64) {
        while self.chunks.front().is_some_and(|chunk| chunk.end.offset <= floor_offset) {
            self.evict_first();
        }
    }

    /// Frees everything that ends at or below `written_offset`, and the spare buffer.
    pub(crate) fn shrink(&mut self, written_offset: u64) {
        self.release(written_offset);
        self.drop_spare();
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
            self.next_capacity = CHUNK_BYTES_MIN;
        }
    }

    /// Brings what is evictable below the bound for one log; called after unwritten chunks were
    /// written.
    pub(crate) fn trim(&mut self, written_offset: u64) {
        while self.taken > TAIL_BYTES_MAX && self.evict_written(written_offset) {
            self.drop_spare();
        }
    }

    /// An empty buffer with room for `bytes`.
    fn buffer_for(&mut self, bytes: usize, written_offset: u64, must: bool) -> Option<Vec<u8>> {
        if bytes > CHUNK_BYTES_MAX && !must {
            return None;
        }
        loop {
            if let Some(spare) = self.spare.take() {
                if spare.capacity() >= bytes {
                    return Some(spare);
                }
                self.give_back(spare);
            }
            let capacity = self.next_capacity.max(bytes);
            if (self.taken + capacity as u64 <= TAIL_BYTES_MAX || must)
                && self.budget.try_take(capacity as u64)
            {
                self.next_capacity = (self.next_capacity * 2).min(CHUNK_BYTES_MAX);
                return Some(self.taken_buffer(capacity));
            }
            if !self.evict_written(written_offset) {
                break;
            }
        }
        let may_exceed = must || (self.chunks.is_empty() && bytes <= CHUNK_BYTES_MIN);
        may_exceed.then(|| {
            let capacity = bytes.max(CHUNK_BYTES_MIN);
            self.budget.take(capacity as u64);
            self.taken_buffer(capacity)
        })
    }

    fn taken_buffer(&mut self, capacity: usize) -> Vec<u8> {
        self.taken += capacity as u64;
        Vec::with_capacity(capacity)
    }

    fn evict_written(&mut self, written_offset: u64) -> bool {
        let is_evictable =
            self.chunks.front().is_some_and(|chunk| chunk.end.offset <= written_offset);
        if is_evictable {
            self.evict_first();
        }
        is_evictable
    }

    /// Keeps the larger of the evicted buffer and the spare.
    fn evict_first(&mut self) {
        let Some(chunk) = self.chunks.pop_front() else { return };
        let mut buffer = chunk.buffer;
        buffer.clear();
        let is_kept = buffer.capacity() <= CHUNK_BYTES_MAX
            && self.spare.as_ref().is_none_or(|spare| spare.capacity() < buffer.capacity());
        if is_kept {
            self.drop_spare();
            self.spare = Some(buffer);
        } else {
            self.give_back(buffer);
        }
    }

    fn drop_spare(&mut self) {
        if let Some(spare) = self.spare.take() {
            self.give_back(spare);
        }
    }

    fn give_back(&mut self, buffer: Vec<u8>) {
        let bytes = buffer.capacity() as u64;
        self.taken -= bytes;
        self.budget.give_back(bytes);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.budget.give_back(self.taken);
    }
}

/// The first chunk of a log, in bytes: one page, so that ten thousand small topics cost 40 MB.
const CHUNK_BYTES_MIN: usize = 4 * 1024;
/// A chunk in full use: fits a core's second-level cache, and its cost per message no longer shows.
const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// What one log keeps of written data, in bytes. A reader further behind than this gets blocks from
/// the page cache for about the same price; measured, more memory here buys nothing.
const TAIL_BYTES_MAX: u64 = 1024 * 1024;

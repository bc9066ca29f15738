//! Read-ahead for channels that lag behind the tail.

use std::io;
use std::sync::Arc;

use crate::budget::CacheBudget;
use crate::disk::Disk;
use crate::record::Cursor;
use crate::run::Run;
use crate::segment::{Segment, Stop, Walk, walk};

/// Blocks of older records, shared by all channels of the topic.
///
/// A block begins wherever some reader was and holds only whole, checked records, so reading from
/// it costs no more than reading from the tail.
#[derive(Debug)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// Counts uses, to find the block not used for longest.
    uses: u64,
    budget: Arc<CacheBudget>,
    /// What has been taken from the budget, in bytes: the length of all buffers.
    taken: u64,
}

#[derive(Debug)]
struct Block {
    run: Run,
    last_use: u64,
}

/// What [`Blocks::load`] found at a place.
pub(crate) enum Loaded {
    /// At least one good record; this is how far they go.
    Good(Walk),
    /// No record.
    Damaged(&'static str),
}

impl Blocks {
    pub(crate) const fn new(budget: Arc<CacheBudget>) -> Self {
        Self { blocks: Vec::new(), uses: 0, budget, taken: 0 }
    }

    /// The block that holds `offset`.
    pub(crate) fn at(&mut self, offset: u64) -> Option<&Run> {
        self.uses += 1;
        let block = self.blocks.iter_mut().find(|block| block.run.holds(offset))?;
        block.last_use = self.uses;
        Some(&block.run)
    }

    /// Reads about `bytes` bytes at `from` into a block, or one whole record if that is longer.
    /// Blocks that end at or below `floor_offset` are reused first.
    pub(crate) fn load<D: Disk>(
        &mut self,
        disk: &D,
        segment: &Segment,
        from: Cursor,
        bytes: usize,
        floor_offset: u64,
    ) -> io::Result<Loaded> {
        let i = self.choose(floor_offset);
        let block = &mut self.blocks[i];
        block.run.end = block.run.first;
        block.last_use = 0;
        let name = segment.name();
        let left = segment.end.offset - from.offset;
        let mut wanted = bytes.min(block.run.buffer.len()).min(as_length(left));
        loop {
            let block = &mut self.blocks[i];
            let buffer = &mut block.run.buffer[..wanted];
            let there = disk.read_at(&name, segment.position(from.offset), buffer)?;
            let end_offset =
                if there < wanted { from.offset + there as u64 } else { segment.end.offset };
            let found = walk(&buffer[..there], from, segment.index_base, end_offset);
            if found.records > 0 {
                block.last_use = self.uses;
                let run = &mut block.run;
                (run.index_base, run.first, run.end) = (segment.index_base, from, found.end);
                return Ok(Loaded::Good(found));
            }
            match found.stop {
                Stop::Partial(needed) => {
                    wanted = as_length(needed);
                    self.grow(i, wanted);
                }
                Stop::Damaged(reason) => return Ok(Loaded::Damaged(reason)),
                Stop::End => return Ok(Loaded::Damaged("cut short before a header")),
            }
        }
    }

    /// Frees everything.
    pub(crate) fn clear(&mut self) {
        self.blocks = Vec::new();
        self.budget.give_back(self.taken);
        self.taken = 0;
    }

    /// A block to overwrite: one that is finished, a new one, or the one not used for longest.
    fn choose(&mut self, floor_offset: u64) -> usize {
        let is_finished = |block: &Block| {
            block.run.end.offset <= floor_offset || block.run.first == block.run.end
        };
        let chosen = self.blocks.iter().position(is_finished).or_else(|| {
            let may_add =
                self.blocks.len() < BLOCKS_MAX && self.budget.try_take(READ_BLOCK_BYTES as u64);
            if may_add {
                return Some(self.add(READ_BLOCK_BYTES));
            }
            let oldest = self.blocks.iter().enumerate().min_by_key(|(_, block)| block.last_use);
            oldest.map(|(i, _)| i)
        });
        let Some(i) = chosen else {
            // No room at all: one small block, so that reading goes on.
            self.budget.take(SMALL_BLOCK_BYTES as u64);
            return self.add(SMALL_BLOCK_BYTES);
        };
        self.resize_to_usual(i);
        i
    }

    fn add(&mut self, bytes: usize) -> usize {
        self.taken += bytes as u64;
        self.blocks
            .push(Block { run: Run { buffer: vec![0; bytes], ..Run::default() }, last_use: 0 });
        self.blocks.len() - 1
    }

    /// Makes room for one long record, counted but not refused.
    fn grow(&mut self, i: usize, bytes: usize) {
        let buffer = &mut self.blocks[i].run.buffer;
        let more = bytes.saturating_sub(buffer.len());
        buffer.resize(buffer.len() + more, 0);
        self.taken += more as u64;
        self.budget.take(more as u64);
    }

    /// Gives back what a long record needed; lets a block that had to be small grow if it now can.
    fn resize_to_usual(&mut self, i: usize) {
        let buffer = &mut self.blocks[i].run.buffer;
        let excess = buffer.len().saturating_sub(READ_BLOCK_BYTES);
        let missing = READ_BLOCK_BYTES.saturating_sub(buffer.len());
        if excess > 0 {
            buffer.truncate(READ_BLOCK_BYTES);
            buffer.shrink_to_fit();
            self.taken -= excess as u64;
            self.budget.give_back(excess as u64);
        } else if missing > 0 && self.budget.try_take(missing as u64) {
            buffer.resize(READ_BLOCK_BYTES, 0);
            self.taken += missing as u64;
        }
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.budget.give_back(self.taken);
    }
}

fn as_length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// One read, in bytes: some hundred messages, so that the call does not show in the cost of each.
pub(crate) const READ_BLOCK_BYTES: usize = 128 * 1024;
/// For a single message far from others, and when the node's memory is used up.
pub(crate) const SMALL_BLOCK_BYTES: usize = 4 * 1024;
/// Blocks of one log: channels further apart than this many places read more than once.
const BLOCKS_MAX: usize = 8;

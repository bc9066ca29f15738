//! How a log is opened.

use std::sync::Arc;

use crate::budget::CacheBudget;

/// When appended messages reach the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Before `append` returns (durability `os` and `fsync`).
    WriteThrough,
    /// Kept in memory until more than `messages_max` are unwritten or memory runs short, then
    /// everything unwritten at once (durability `memory`). What is released before that is never
    /// written.
    WriteBehind {
        /// Messages that may be unwritten (`--mem-queue-size`).
        messages_max: u64,
    },
    /// Never (ephemeral topics): released data is freed, and the disk is not touched.
    MemoryOnly,
}

/// What a [`Log`](crate::Log) is opened with.
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

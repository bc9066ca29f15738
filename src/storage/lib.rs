//! The topic log: what a topic has published, and what its channels must remember.
//!
//! A topic is one append-only sequence of records, kept in segment files; channels are readers of
//! it. This package knows bytes, files and positions. It knows nothing of consumers, timeouts or
//! names on the wire, takes every time as an argument, and starts no thread.
//!
//! | file | holds |
//! |---|---|
//! | `record` | [`Cursor`], [`Record`], the 40-byte record header |
//! | `batch` | [`Batch`]: messages encoded before the topic's lock is taken |
//! | `segment` | segment files: header, name, and the walk over its records |
//! | `segment_files` | appending to the last segment, and what has to be synced |
//! | `resync` | finding the next good record after damage |
//! | `recovery` | what opening a log finds and repairs |
//! | `log` | [`Log`]: append, read, release |
//! | `run` | records in memory, and how they are shown |
//! | `tail`, `blocks` | what is kept in memory: the recent tail, and read-ahead of older data |
//! | `budget` | [`CacheBudget`]: the node-wide bound on both |
//! | `checkpoint` | [`ChannelCheckpoint`], [`TopicState`] |
//! | `disk`, `files`, `memory_disk` | [`Disk`], and its real and imaginary implementations |
//! | `data_path` | [`DataPath`]: the lock, and which file of the data path is what |
//! | `staging` | [`Staging`]: topics put together aside, which then appear together |

mod batch;
mod blocks;
mod budget;
mod checkpoint;
mod data_path;
mod disk;
mod files;
mod log;
mod memory_disk;
mod options;
mod record;
mod recovery;
mod resync;
mod run;
mod segment;
mod segment_files;
mod staging;
mod tail;

pub use batch::{Batch, DeferredMessage};
pub use budget::CacheBudget;
pub use checkpoint::{ChannelCheckpoint, CheckpointEntry, CheckpointError, Jump, TopicState};
pub use data_path::{DataPath, DataPathError, TopicDir};
pub use disk::{Disk, SyncHandle};
pub use files::{DirDisk, DirHandle};
pub use log::Log;
pub use memory_disk::{MemoryDisk, MemoryHandle};
pub use options::{LogOptions, Mode};
pub use record::{Cursor, Record};
pub use recovery::{Damage, Recovery};
pub use segment::SegmentInfo;
pub use staging::Staging;

//! Which file of the data path is what.
//!
//! ```text
//! <data>/topics/<topic>.topic/00000000000000000000.seg   a segment of the topic's log
//!                             topic.state                 TopicState
//!                             <channel>.channel           ChannelCheckpoint; exists = the channel
//! does
//!                             <channel>.side/             the channel's side log
//! <data>/importing/                                       topics being put together, see
//! `staging`
//! <data>/<name>                                           files of the node itself
//! ```
//! Topic and channel names may be `.` or `..`, hence the suffixes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use tracing::warn;

use crate::disk::Disk as _;
use crate::files::{
    DirDisk, TEMPORARY_SUFFIX, create_dir, read_file, remove_file, replace_file, sync_dir,
};

/// The directory a node keeps everything in, locked against a second node for as long as any clone
/// of this exists.
#[derive(Clone, Debug)]
pub struct DataPath {
    dir: Arc<Path>,
    /// The locked directory; the lock goes with it.
    _lock: Arc<File>,
}

/// Why a data path cannot be used. Nothing has been changed in it.
#[derive(Debug, thiserror::Error)]
pub enum DataPathError {
    /// It does not exist, is no directory, or may not be read.
    #[error("failed to open data-path {}: {error}", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// Another process holds it. The words are nsqd's (nsqd/nsqd.go:102 and internal/dirlock).
    #[error(
        "failed to lock data-path: cannot flock directory {} (possibly in use by another instance \
         of nsqd)",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// Nothing can be written in it.
    #[error("data-path {} is not writable: {error}", dir.display())]
    NotWritable {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
}

impl DataPath {
    /// Locks `dir`, which must exist, and makes sure that it can be written.
    ///
    /// # Errors
    ///
    /// See [`DataPathError`]; the node must not start.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, DataPathError> {
        let dir = dir.as_ref();
        let open_error = |error| DataPathError::Open { dir: dir.to_owned(), error };
        let lock = File::open(dir).map_err(open_error)?;
        if !lock.metadata().map_err(open_error)?.is_dir() {
            return Err(open_error(io::ErrorKind::NotADirectory.into()));
        }
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| DataPathError::Locked { dir: dir.to_owned() })?;
        let data_path = Self { dir: dir.into(), _lock: Arc::new(lock) };
        data_path
            .probe(0)
            .map_err(|error| DataPathError::NotWritable { dir: dir.to_owned(), error })?;
        Ok(data_path)
    }

    /// Writes and removes a file of `bytes` bytes, to see whether that is possible.
    pub fn probe(&self, bytes: usize) -> io::Result<()> {
        replace_file(&self.dir, PROBE_FILE, &vec![0; bytes], false)?;
        remove_file(&self.dir.join(PROBE_FILE))
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of the topics that have a directory, sorted. What does not look like one is left alone
    /// and logged.
    pub fn topics(&self) -> io::Result<Vec<String>> {
        named_entries(&self.dir.join(TOPICS_DIR), TOPIC_SUFFIX, true)
    }

    /// Where a topic's files are, whether or not it exists. `topic` must be a valid topic name.
    pub fn topic_dir(&self, topic: &str) -> TopicDir {
        TopicDir::within(&self.dir, topic)
    }

    /// A file of the node itself; `None` if there is none.
    pub fn read_file(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        read_file(&self.dir.join(name))
    }

    /// Replaces a file of the node itself, atomically; `durable`: synced before returning.
    pub fn replace_file(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        replace_file(&self.dir, name, bytes, durable)
    }
}

/// Where the files of one topic are.
#[derive(Clone, Debug)]
pub struct TopicDir {
    dir: Arc<Path>,
}

impl TopicDir {
    /// The directory of `topic`, which must be a valid name, in `data_dir` or a directory that is
    /// laid out like it.
    pub(crate) fn within(data_dir: &Path, topic: &str) -> Self {
        Self { dir: data_dir.join(TOPICS_DIR).join(format!("{topic}{TOPIC_SUFFIX}")).into() }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether there is nothing in it to lose: no message, no channel. True if it is not there.
    pub fn is_empty(&self) -> io::Result<bool> {
        let names = self.disk().list()?;
        let is_nothing = |name: &String| name == STATE_FILE || name.ends_with(TEMPORARY_SUFFIX);
        Ok(names.iter().all(is_nothing))
    }

    /// Creates the directory; one that is there already is fine. `durable`: synced before
    /// returning.
    pub fn create(&self, durable: bool) -> io::Result<()> {
        create_dir(&self.dir)?;
        if durable {
            for ancestor in self.dir.ancestors().skip(1).take(2) {
                sync_dir(ancestor)?;
            }
        }
        Ok(())
    }

    /// Removes the topic with everything in it; one that is not there is fine.
    pub fn remove_all(&self) -> io::Result<()> {
        remove_dir(&self.dir)
    }

    /// The directory as the disk of the topic's log.
    pub fn disk(&self) -> DirDisk {
        DirDisk::new(&*self.dir)
    }

    /// Names of the channels that have a checkpoint, sorted. What does not look like one is left
    /// alone and logged.
    pub fn channels(&self) -> io::Result<Vec<String>> {
        named_entries(&self.dir, CHANNEL_SUFFIX, false)
    }

    /// A channel's encoded checkpoint; `None` if there is none.
    pub fn read_channel(&self, channel: &str) -> io::Result<Option<Vec<u8>>> {
        read_file(&self.dir.join(format!("{channel}{CHANNEL_SUFFIX}")))
    }

    /// Replaces a channel's checkpoint, atomically; the first one is what creates the channel.
    pub fn write_channel(&self, channel: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        replace_file(&self.dir, &format!("{channel}{CHANNEL_SUFFIX}"), bytes, durable)
    }

    /// Removes a channel: its checkpoint first, so that half a removal is a whole one, then its
    /// side log.
    pub fn remove_channel(&self, channel: &str) -> io::Result<()> {
        remove_file(&self.dir.join(format!("{channel}{CHANNEL_SUFFIX}")))?;
        remove_dir(&self.dir.join(format!("{channel}{SIDE_SUFFIX}")))
    }

    /// The topic's encoded state; `None` if there is none.
    pub fn read_state(&self) -> io::Result<Option<Vec<u8>>> {
        read_file(&self.dir.join(STATE_FILE))
    }

    /// Replaces the topic's state, atomically.
    pub fn write_state(&self, bytes: &[u8], durable: bool) -> io::Result<()> {
        replace_file(&self.dir, STATE_FILE, bytes, durable)
    }

    /// The disk of a channel's side log; its directory appears with the first write.
    pub fn side_disk(&self, channel: &str) -> DirDisk {
        DirDisk::new(self.dir.join(format!("{channel}{SIDE_SUFFIX}")))
    }
}

pub(crate) fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Names in `dir` that end in `suffix` and are valid without it, sorted.
fn named_entries(dir: &Path, suffix: &str, directories: bool) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name();
        let file_name = file_name.to_string_lossy();
        let Some(name) = file_name.strip_suffix(suffix) else {
            if directories {
                warn!(path = %entry.path().display(), "not a topic directory, left alone");
            }
            continue;
        };
        if is_valid_name(name) && entry.file_type()?.is_dir() == directories {
            names.push(name.to_owned());
        } else if !file_name.ends_with(TEMPORARY_SUFFIX) {
            warn!(path = %entry.path().display(), "not a valid name, left alone");
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// NSQ's rule for topic and channel names (internal/protocol/names.go:7-20). Kept here as well
/// because a name from the disk decides which directory is removed.
fn is_valid_name(name: &str) -> bool {
    let stem = name.strip_suffix("#ephemeral").unwrap_or(name);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !stem.is_empty() && stem.bytes().all(allowed)
}

/// NSQ's bound on names, suffix included (internal/protocol/names.go:14).
const NAME_BYTES_MAX: usize = 64;
pub(crate) const TOPICS_DIR: &str = "topics";
const TOPIC_SUFFIX: &str = ".topic";
const CHANNEL_SUFFIX: &str = ".channel";
const SIDE_SUFFIX: &str = ".side";
const STATE_FILE: &str = "topic.state";
/// Written and removed to see whether the directory can be written at all.
const PROBE_FILE: &str = ".writable";

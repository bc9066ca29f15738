//! What a log needs from the place its files live in.

use std::io;

/// A flat directory of files, as the log and its checkpoints use one.
///
/// Cheap to clone; clones are the same directory, so that files can be removed and synced without
/// holding the lock of the log that named them. Names are chosen by this package and hold no `/`.
pub trait Disk: Clone + Send + Sync + 'static {
    /// What [`sync_handle`](Self::sync_handle) returns.
    type Handle: SyncHandle;

    /// Names of all files, sorted. A directory that does not exist is empty.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Length of a file in bytes.
    fn len(&self, name: &str) -> io::Result<u64>;

    /// Writes `bytes` at `at`, which the caller knows to be the end of the file (0 creates or
    /// empties it).
    ///
    /// # Errors
    ///
    /// Any prefix of `bytes` may have been written; the caller truncates back.
    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file to `len` bytes.
    fn truncate(&self, name: &str, len: u64) -> io::Result<()>;

    /// Fills `buffer` from position `at`; returns how much there was, short only at the file's end.
    fn read_at(&self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// A whole (small) file; `None` if there is none.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Replaces a whole file atomically: a reader, or a restart, sees the old bytes or the new.
    /// `durable`: synced before it takes the old one's place.
    fn replace(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()>;

    /// Removes a file; one that is not there is fine.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Something to sync these files with, and the directory that names them, without holding any
    /// lock. Files that no longer exist are left out. Failure to open one is reported by `sync`.
    fn sync_handle(&self, names: &[&str]) -> Self::Handle;

    /// Closes cached file handles.
    fn close_idle(&self);
}

/// Open files that can be brought to the device.
pub trait SyncHandle: Send + Sync + 'static {
    /// Returns once everything written to the files before the handle was made is on the device.
    fn sync(&self) -> io::Result<()>;
}

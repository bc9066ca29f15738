//! A directory that exists only in memory: for tests, and for the simulator.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, SyncHandle};

/// A [`Disk`] in memory that can lose power, be killed, run full and fail.
///
/// Clones are the same disk. After a *process kill* everything appended is still there: just open
/// it again. After a *power loss* ([`crash`](Self::crash)) what was never synced may be gone.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, File>,
    /// Bytes that may still be written before the disk is full; `None` = no bound.
    room: Option<u64>,
    /// Every write fails with this while it is set.
    failure: Option<io::ErrorKind>,
    /// Syncs return and do nothing while it is set.
    lies: bool,
    reads: u64,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// How much of `bytes` is on the device.
    synced: usize,
    /// Whether the directory on the device names it.
    is_named: bool,
    /// What a power loss may bring back in place of an unsynced replacement.
    before: Option<Vec<u8>>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses power: of each file, in name order, the unsynced bytes are cut to `keep(unsynced)`.
    /// A file replaced without a sync falls back to its old content when `keep` keeps nothing, and
    /// one that was never synced is then gone.
    pub fn crash(&self, keep: &mut dyn FnMut(u64) -> u64) {
        let mut state = self.state.lock();
        state.files.retain(|_, file| {
            let unsynced = (file.bytes.len() - file.synced) as u64;
            let kept = if unsynced == 0 { 0 } else { keep(unsynced).min(unsynced) };
            match file.before.take() {
                Some(before) if kept == 0 => file.bytes = before,
                Some(_) => {}
                None => file.bytes.truncate(file.synced + kept as usize),
            }
            file.synced = file.bytes.len();
            let is_there = file.is_named || kept > 0;
            file.is_named = true;
            is_there
        });
    }

    /// While set, syncs return as if all was well and bring nothing to the device.
    pub fn set_lies(&self, lies: bool) {
        self.state.lock().lies = lies;
    }

    /// From now on only `room` more bytes can be written: the write that passes it is cut short and
    /// fails with [`io::ErrorKind::StorageFull`]. `None` lifts the bound.
    pub fn set_room(&self, room: Option<u64>) {
        self.state.lock().room = room;
    }

    /// While set, every write fails with `kind`, leaving half of its bytes in the file.
    pub fn set_failure(&self, kind: Option<io::ErrorKind>) {
        self.state.lock().failure = kind;
    }

    /// Sum of all files' lengths.
    pub fn bytes(&self) -> u64 {
        self.state.lock().files.values().map(|file| file.bytes.len() as u64).sum()
    }

    /// How often [`Disk::read_at`] was called.
    pub fn reads(&self) -> u64 {
        self.state.lock().reads
    }

    /// Changes a file behind everyone's back, as a failing device would.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(file) = self.state.lock().files.get_mut(name) {
            change(&mut file.bytes);
            file.synced = file.synced.min(file.bytes.len());
        }
    }

    /// A copy that shares nothing with this disk.
    pub fn snapshot(&self) -> Self {
        let state = self.state.lock();
        let copy = State {
            files: state.files.clone(),
            room: state.room,
            failure: state.failure,
            lies: state.lies,
            reads: 0,
        };
        Self { state: Arc::new(Mutex::new(copy)) }
    }
}

impl State {
    /// How many of `wanted` bytes can be written, and the error to report if that is not all.
    fn allowance(&mut self, wanted: usize) -> (usize, Option<io::Error>) {
        if let Some(kind) = self.failure {
            return (wanted / 2, Some(kind.into()));
        }
        let Some(room) = &mut self.room else { return (wanted, None) };
        let granted = wanted.min(usize::try_from(*room).unwrap_or(usize::MAX));
        *room -= granted as u64;
        let full = (granted < wanted).then(|| io::ErrorKind::StorageFull.into());
        (granted, full)
    }

    fn existing(&mut self, name: &str) -> io::Result<&mut File> {
        self.files.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for MemoryDisk {
    type Handle = MemoryHandle;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().files.keys().cloned().collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.state.lock().existing(name)?.bytes.len() as u64)
    }

    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let (granted, error) = state.allowance(bytes.len());
        let file = state.files.entry(name.to_owned()).or_default();
        let at = usize::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
        file.bytes.truncate(at);
        file.synced = file.synced.min(file.bytes.len());
        file.bytes.resize(at, 0);
        file.bytes.extend_from_slice(&bytes[..granted]);
        error.map_or(Ok(()), Err)
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(kind) = state.failure {
            return Err(kind.into());
        }
        let file = state.existing(name)?;
        file.bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        file.synced = file.synced.min(file.bytes.len());
        Ok(())
    }

    fn read_at(&self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.reads += 1;
        let bytes = &state.existing(name)?.bytes;
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let there = buffer.len().min(bytes.len() - at);
        buffer[..there].copy_from_slice(&bytes[at..at + there]);
        Ok(there)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.state.lock().files.get(name).map(|file| file.bytes.clone()))
    }

    fn replace(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let mut state = self.state.lock();
        if let (_, Some(error)) = state.allowance(bytes.len()) {
            return Err(error);
        }
        let lies = state.lies;
        let file = state.files.entry(name.to_owned()).or_default();
        let synced_before = file.bytes[..file.synced].to_vec();
        let (bytes, is_named) = (bytes.to_vec(), file.is_named);
        if durable && !lies {
            *file = File { synced: bytes.len(), bytes, is_named: true, before: None };
        } else {
            let before = file.before.take().unwrap_or(synced_before);
            *file = File { bytes, synced: 0, is_named, before: Some(before) };
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if let (Some(file), Some(room)) = (state.files.remove(name), state.room.as_mut()) {
            *room += file.bytes.len() as u64;
        }
        Ok(())
    }

    fn sync_handle(&self, names: &[&str]) -> MemoryHandle {
        let state = self.state.lock();
        let written = |&name: &&str| Some((name.to_owned(), state.files.get(name)?.bytes.len()));
        let names = names.iter().filter_map(written).collect();
        MemoryHandle { disk: self.clone(), names }
    }

    fn close_idle(&self) {}
}

/// Files of a [`MemoryDisk`] that can be made safe from [`MemoryDisk::crash`].
#[derive(Clone, Debug)]
pub struct MemoryHandle {
    disk: MemoryDisk,
    /// Files, and how long they were when the handle was made: no more than that is promised.
    names: Vec<(String, usize)>,
}

impl SyncHandle for MemoryHandle {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if let Some(kind) = state.failure {
            return Err(kind.into());
        }
        if state.lies {
            return Ok(());
        }
        for (name, len) in &self.names {
            if let Some(file) = state.files.get_mut(name) {
                file.synced = file.synced.max(*len).min(file.bytes.len());
                file.is_named = true;
                file.before = None;
            }
        }
        Ok(())
    }
}

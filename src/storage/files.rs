//! A real directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::disk::{Disk, SyncHandle};

/// A [`Disk`] that is a directory, created with the first write into it.
///
/// Keeps at most two file handles: the segment being appended to and the one last read.
#[derive(Clone, Debug)]
pub struct DirDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    appending: Mutex<Option<OpenFile>>,
    reading: Mutex<Option<OpenFile>>,
    /// Whether names in the directory have changed since it was last synced. Held while syncing it,
    /// so that whoever finds it clean knows that the sync is over.
    is_unsynced: Mutex<bool>,
    /// Files known to be on the device up to some length. Syncing a file that has not changed is
    /// not free: it may flush the whole device.
    synced: Mutex<SyncedFiles>,
}

#[derive(Debug, Default)]
struct SyncedFiles {
    files: Vec<Synced>,
    /// Counts what made an entry untrue, so that a sync under way meanwhile does not add it again.
    changes: u64,
}

#[derive(Debug)]
struct Synced {
    name: Box<str>,
    len: u64,
}

#[derive(Clone, Debug)]
struct OpenFile {
    name: Box<str>,
    file: Arc<File>,
}

impl DirDisk {
    /// The directory `dir`; nothing is touched yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        let shared = Shared {
            dir,
            appending: Mutex::default(),
            reading: Mutex::default(),
            is_unsynced: Mutex::default(),
            synced: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shared.dir.join(name)
    }

    /// The file for appending, from the cache or opened; `empty` discards what is in it.
    fn open_for_append(&self, name: &str, empty: bool) -> io::Result<Arc<File>> {
        let mut appending = self.shared.appending.lock();
        if let Some(open) = &*appending
            && !empty
            && *open.name == *name
        {
            return Ok(open.file.clone());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(empty).truncate(empty).mode(FILE_MODE);
        let path = self.path(name);
        let file = match options.open(&path) {
            Err(error) if empty && error.kind() == io::ErrorKind::NotFound => {
                create_dir(&self.shared.dir)?;
                options.open(&path)?
            }
            other => other?,
        };
        if empty {
            *self.shared.is_unsynced.lock() = true;
        }
        let file = Arc::new(file);
        *appending = Some(OpenFile { name: name.into(), file: file.clone() });
        Ok(file)
    }

    fn open_for_reading(&self, name: &str) -> io::Result<Arc<File>> {
        if let Some(file) = self.cached(name) {
            return Ok(file);
        }
        let file = Arc::new(File::open(self.path(name))?);
        *self.shared.reading.lock() = Some(OpenFile { name: name.into(), file: file.clone() });
        Ok(file)
    }

    fn cached(&self, name: &str) -> Option<Arc<File>> {
        [&self.shared.appending, &self.shared.reading].into_iter().find_map(|cache| {
            let cache = cache.lock();
            cache.as_ref().filter(|open| *open.name == *name).map(|open| open.file.clone())
        })
    }

    /// Brings a file to the device, if it is not there already.
    fn sync_file(&self, open: &OpenFile) -> io::Result<()> {
        // Before syncing: what is appended meanwhile may miss it.
        let len = open.file.metadata()?.len();
        let is_same = |synced: &Synced| synced.name == open.name;
        let known = self.shared.synced.lock();
        if known.files.iter().any(|synced| is_same(synced) && synced.len == len) {
            return Ok(());
        }
        let changes = known.changes;
        drop(known);
        open.file.sync_data()?;
        let mut known = self.shared.synced.lock();
        if known.changes == changes {
            known.files.retain(|synced| !is_same(synced));
            if known.files.len() >= SYNCED_MAX {
                known.files.remove(0);
            }
            known.files.push(Synced { name: open.name.clone(), len });
        }
        Ok(())
    }

    /// The file's bytes may change other than by growing.
    fn forget_synced(&self, name: &str) {
        let mut known = self.shared.synced.lock();
        known.changes += 1;
        known.files.retain(|synced| *synced.name != *name);
    }

    fn forget(&self, name: &str) {
        self.forget_synced(name);
        for cache in [&self.shared.appending, &self.shared.reading] {
            let mut cache = cache.lock();
            if cache.as_ref().is_some_and(|open| *open.name == *name) {
                *cache = None;
            }
        }
    }
}

impl Disk for DirDisk {
    type Handle = DirHandle;

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.shared.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn append(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        if at == 0 {
            self.forget_synced(name);
        }
        self.open_for_append(name, at == 0)?.write_all_at(bytes, at)
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        self.forget_synced(name);
        self.open_for_append(name, false)?.set_len(len)
    }

    fn read_at(&self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.open_for_reading(name)?;
        let mut there = 0;
        while there < buffer.len() {
            match file.read_at(&mut buffer[there..], at + there as u64) {
                Ok(0) => break,
                Ok(read) => there += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(there)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        read_file(&self.path(name))
    }

    fn replace(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        replace_file(&self.shared.dir, name, bytes, durable)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.forget(name);
        remove_file(&self.path(name))
    }

    fn sync_handle(&self, names: &[&str]) -> DirHandle {
        let mut files = Vec::with_capacity(names.len());
        let mut error = None;
        for &name in names {
            let opened =
                self.cached(name).map_or_else(|| File::open(self.path(name)).map(Arc::new), Ok);
            match opened {
                Ok(file) => files.push(OpenFile { name: name.into(), file }),
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
                Err(failed) => error = Some((failed.kind(), failed.to_string())),
            }
        }
        DirHandle { disk: self.clone(), files, error }
    }

    fn close_idle(&self) {
        *self.shared.appending.lock() = None;
        *self.shared.reading.lock() = None;
        self.shared.synced.lock().files = Vec::new();
    }
}

/// Files of a [`DirDisk`], open for syncing.
#[derive(Debug)]
pub struct DirHandle {
    disk: DirDisk,
    files: Vec<OpenFile>,
    error: Option<(io::ErrorKind, String)>,
}

impl SyncHandle for DirHandle {
    fn sync(&self) -> io::Result<()> {
        if let Some((kind, text)) = &self.error {
            return Err(io::Error::new(*kind, text.clone()));
        }
        for file in &self.files {
            self.disk.sync_file(file)?;
        }
        let mut is_unsynced = self.disk.shared.is_unsynced.lock();
        if *is_unsynced {
            sync_dir(&self.disk.shared.dir)?;
            *is_unsynced = false;
        }
        Ok(())
    }
}

/// A whole file; `None` if there is none.
pub(crate) fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Replaces `dir/name` through a temporary file and a rename, creating `dir` if need be.
pub(crate) fn replace_file(dir: &Path, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
    let unique = TEMPORARY_COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = dir.join(format!("{name}.{unique}{TEMPORARY_SUFFIX}"));
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let file = match options.open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_dir(dir)?;
                options.open(&temporary)?
            }
            other => other?,
        };
        file.write_all_at(bytes, 0)?;
        if durable {
            file.sync_data()?;
        }
        fs::rename(&temporary, dir.join(name))?;
        if durable { sync_dir(dir) } else { Ok(()) }
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Creates a directory and its parents, for this user only.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
}

/// Brings a directory's names to the device.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Files whose synced length is remembered: the few a sync handle covers.
const SYNCED_MAX: usize = 8;
/// Distinguishes temporary files of two replacements under way at once.
static TEMPORARY_COUNT: AtomicU64 = AtomicU64::new(0);
/// Ends the name of a file that is not finished; left over only by a crash, and then of no use.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";
/// As nsqd creates its queue files (go-diskqueue diskqueue.go, mode 0600).
const FILE_MODE: u32 = 0o600;
/// Directories need the search bit as well.
const DIR_MODE: u32 = 0o700;

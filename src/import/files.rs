//! Which file of nsqd is what, and moving them aside.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk_queue::{DataFile, DiskQueue, Positions};
use super::error::ImportError;

/// nsqd's list of topics and channels.
pub(super) const METADATA_FILE: &str = "nsqd.dat";

/// What nsqd has left in a data path.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// `nsqd.dat`, if it is there.
    pub(super) metadata: Option<PathBuf>,
    /// The queues by their names: `topic` or `topic:channel`.
    pub(super) queues: BTreeMap<String, DiskQueue>,
    /// Files of nsqd that hold nothing to take over, and why.
    pub(super) rest: Vec<(PathBuf, &'static str)>,
    /// Every file of nsqd, by name, to be moved aside.
    pub(super) files: Vec<OldFile>,
}

/// A file of nsqd, and how to tell whether it has changed.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct OldFile {
    /// Its name in the data path.
    pub(super) name: String,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Found {
    /// Whether nsqd has left nothing that is to be taken over.
    pub(super) fn is_nothing(&self) -> bool {
        self.metadata.is_none() && self.queues.is_empty()
    }

    /// Bytes of all its files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn add(&mut self, path: PathBuf, name: &str, file: &fs::Metadata) -> Result<(), ImportError> {
        match Kind::of(name) {
            Kind::Foreign => return Ok(()),
            Kind::Metadata => self.metadata = Some(path),
            Kind::Data { queue, number } => {
                let file = DataFile { path, bytes: file.len() };
                self.queue(queue).files.insert(number, file);
            }
            Kind::Meta { queue } => {
                let text = match file.len() {
                    0..=META_BYTES_MAX => fs::read(&path).map_err(ImportError::at(&path))?,
                    _ => Vec::new(),
                };
                let positions = Positions::parse(&text);
                if positions.is_none() {
                    self.rest.push((path, "no positions in it; all of the queue is read"));
                }
                self.queue(queue).positions = positions;
            }
            Kind::Bad => self.rest.push((path, "set aside by nsqd as unreadable")),
            Kind::Temporary => self.rest.push((path, "never finished by nsqd")),
            Kind::Strange => self.rest.push((path, "not a name nsqd gives")),
        }
        self.files.push(OldFile::of(name, file));
        Ok(())
    }

    fn queue(&mut self, name: &str) -> &mut DiskQueue {
        let queue = self.queues.entry(name.to_owned()).or_default();
        name.clone_into(&mut queue.name);
        queue
    }

    /// What a link in the data path points to goes where the link goes, if it is beside it.
    fn add_target(&mut self, dir: &Path, path: &Path) -> Result<(), ImportError> {
        let Ok(target) = fs::read_link(path) else { return Ok(()) };
        let parent = target.parent().unwrap_or(Path::new(""));
        let is_beside = parent.as_os_str().is_empty() || parent == Path::new(".") || parent == dir;
        let name = target.file_name().and_then(|name| name.to_str()).filter(|_| is_beside);
        if let Some(name) = name
            && let Kind::Foreign = Kind::of(name)
        {
            let target = dir.join(name);
            let file = fs::metadata(&target).map_err(ImportError::at(&target))?;
            self.files.push(OldFile::of(name, &file));
        }
        Ok(())
    }
}

impl OldFile {
    fn of(name: &str, file: &fs::Metadata) -> Self {
        let (modified_s, modified_ns) = (file.mtime(), file.mtime_nsec());
        Self { name: name.to_owned(), bytes: file.len(), modified_s, modified_ns }
    }
}

/// What a name in the data path stands for.
enum Kind<'a> {
    Metadata,
    Data { queue: &'a str, number: u64 },
    Meta { queue: &'a str },
    Bad,
    Temporary,
    Strange,
    Foreign,
}

impl<'a> Kind<'a> {
    fn of(name: &'a str) -> Self {
        if name == METADATA_FILE {
            return Self::Metadata;
        }
        let is_queue = name.contains(QUEUE_MARK);
        if !is_queue && !name.starts_with("nsqd.dat.") {
            return Self::Foreign;
        }
        if name.ends_with(".tmp") {
            return Self::Temporary;
        }
        if !is_queue {
            return Self::Foreign;
        }
        if name.ends_with(".bad") {
            return Self::Bad;
        }
        // From the right: topics and channels may have dots in their names, even whole file names.
        let Some((queue, number)) = name
            .strip_suffix(DATA_SUFFIX)
            .and_then(|stem| stem.rsplit_once('.'))
            .and_then(|(stem, number)| Some((stem.strip_suffix(QUEUE_SUFFIX)?, number)))
        else {
            return Self::Strange;
        };
        match number.parse() {
            Err(_) if number == "meta" => Self::Meta { queue },
            Ok(parsed) if name == data_file_name(queue, parsed) => {
                Self::Data { queue, number: parsed }
            }
            Ok(_) | Err(_) => Self::Strange,
        }
    }
}

/// The name nsqd gives to data file `number` of a queue.
pub(super) fn data_file_name(queue: &str, number: u64) -> String {
    format!("{queue}{QUEUE_SUFFIX}.{number:06}{DATA_SUFFIX}")
}

/// Finds what nsqd has left in `dir`: one look through the directory, and each queue's meta file.
pub(super) fn scan(dir: &Path) -> Result<Found, ImportError> {
    let mut found = Found::default();
    for entry in fs::read_dir(dir).map_err(ImportError::at(dir))? {
        let entry = entry.map_err(ImportError::at(dir))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Kind::Foreign = Kind::of(&name) {
            continue;
        }
        let path = entry.path();
        // A link is followed: `nsqd.dat` is one where nsqd was upgraded from 0.3.
        let file = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                found.rest.push((path, "a link to nothing"));
                continue;
            }
            other => other.map_err(ImportError::at(&path))?,
        };
        if file.is_file() {
            found.add(path.clone(), &name, &file)?;
            found.add_target(dir, &path)?;
        }
    }
    found.files.sort_unstable();
    found.files.dedup();
    Ok(found)
}

/// A directory for old files that is not there yet: `nsqd-files-imported`, or with a number after
/// it if this is not the first import into this data path.
pub(super) fn free_old_files_dir(dir: &Path) -> Result<String, ImportError> {
    for number in 1..=OLD_FILES_DIRS_MAX {
        let name = match number {
            1 => OLD_FILES_DIR.to_owned(),
            _ => format!("{OLD_FILES_DIR}-{number}"),
        };
        let path = dir.join(&name);
        if !path.try_exists().map_err(ImportError::at(&path))? {
            return Ok(name);
        }
    }
    let error = io::Error::other("too many of these already, remove some");
    Err(ImportError::Io { path: dir.join(OLD_FILES_DIR), error })
}

/// Makes the directory for old files; one that is there already is fine.
pub(super) fn create_old_files_dir(to: &Path) -> Result<(), ImportError> {
    DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(ImportError::at(to))
}

/// Moves a file of nsqd from `dir` to `to`; one that is not there has been moved before.
pub(super) fn move_aside(dir: &Path, to: &Path, file: &OldFile) -> Result<(), ImportError> {
    let path = dir.join(&file.name);
    match fs::rename(&path, to.join(&file.name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(ImportError::at(&path)),
    }
}

/// Brings the names in a directory to the device.
pub(super) fn sync_dir(dir: &Path) -> Result<(), ImportError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(ImportError::at(dir))
}

const QUEUE_MARK: &str = ".diskqueue.";
const QUEUE_SUFFIX: &str = ".diskqueue";
const DATA_SUFFIX: &str = ".dat";
/// A meta file has three lines of at most 21 digits twice; one that is larger is none.
const META_BYTES_MAX: u64 = 4 * 1024;
const OLD_FILES_DIR: &str = "nsqd-files-imported";
/// Imports into one data path whose old files are kept: nobody moves back and forth that often.
const OLD_FILES_DIRS_MAX: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_from_the_right() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        for name in [
            "nsqd.dat",
            "nsqd.dat.123456.tmp",
            "t.diskqueue.000000.dat",
            "t.diskqueue.meta.dat",
            "t.diskqueue.meta.dat.99.tmp",
            "t:c.diskqueue.000012.dat",
            "t:c.diskqueue.000011.dat.bad",
            "a.diskqueue.000001.dat:b.diskqueue.meta.diskqueue.1234567.dat",
            "t.diskqueue.12.dat",
            "t.diskqueue.x.dat",
            "message-ids",
            "nsqd.dat.old",
            "diskqueue.txt",
        ] {
            fs::write(dir.join(name), b"").unwrap();
        }
        fs::create_dir(dir.join("d.diskqueue.000000.dat")).unwrap();
        let found = scan(dir).unwrap();
        assert!(!found.is_nothing());
        assert_eq!(found.metadata, Some(dir.join("nsqd.dat")));
        let queues: Vec<(&str, Vec<u64>)> = found
            .queues
            .iter()
            .map(|(name, queue)| (name.as_str(), queue.files.keys().copied().collect()))
            .collect();
        let want = [
            ("a.diskqueue.000001.dat:b.diskqueue.meta", vec![1_234_567]),
            ("t", vec![0]),
            ("t:c", vec![12]),
        ];
        assert_eq!(queues, want);
        assert_eq!(found.rest.len(), 6, "{:?}", found.rest);
        assert_eq!(found.files.len(), 10);
    }

    #[test]
    fn a_link_and_what_it_points_to_go_together() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("nsqd.617.dat"), b"{}").unwrap();
        std::os::unix::fs::symlink("nsqd.617.dat", folder.path().join("nsqd.dat")).unwrap();
        let found = scan(folder.path()).unwrap();
        let names: Vec<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["nsqd.617.dat", "nsqd.dat"]);

        let to = folder.path().join(free_old_files_dir(folder.path()).unwrap());
        create_old_files_dir(&to).unwrap();
        for _ in 0..2 {
            for file in &found.files {
                move_aside(folder.path(), &to, file).unwrap();
            }
        }
        assert_eq!(fs::read(to.join("nsqd.dat")).unwrap(), b"{}");
        assert!(scan(folder.path()).unwrap().is_nothing());
        assert_eq!(free_old_files_dir(folder.path()).unwrap(), "nsqd-files-imported-2");
    }
}

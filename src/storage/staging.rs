//! Topics that are put together aside and then take their places for good.
//!
//! ```text
//! <data>/importing/topics/<topic>.topic/   laid out as <data>/topics/
//!                  commit                  there: everything above is complete and on the device
//! ```
//! Without `commit` the directory is rubbish. With it, whatever has not taken its place yet must:
//! the steps after it can each be repeated, so a crash between any two of them costs nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::data_path::{DataPath, TOPICS_DIR, TopicDir, remove_dir};
use crate::files::{create_dir, read_file, replace_file, sync_dir};

/// The directory in which topics are put together; the data path stays locked while it exists.
#[derive(Clone, Debug)]
pub struct Staging {
    data_path: DataPath,
    dir: PathBuf,
}

impl Staging {
    /// The one of `data_path`; nothing is touched yet.
    pub fn of(data_path: &DataPath) -> Self {
        Self { dir: data_path.dir().join(STAGING_DIR), data_path: data_path.clone() }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether something is there, complete or not.
    pub fn exists(&self) -> io::Result<bool> {
        self.dir.try_exists()
    }

    /// Where `topic`, a valid name, is put together.
    pub fn topic_dir(&self, topic: &str) -> TopicDir {
        TopicDir::within(&self.dir, topic)
    }

    /// What [`commit`](Self::commit) was given; `None` if it has not happened.
    pub fn committed(&self) -> io::Result<Option<Vec<u8>>> {
        read_file(&self.dir.join(COMMIT_FILE))
    }

    /// Brings everything to the device and then, atomically, says that it is complete. `note` is
    /// for whoever has to finish after a crash.
    ///
    /// # Errors
    ///
    /// What the disk said; it may have happened or not, [`committed`](Self::committed) tells.
    pub fn commit(&self, note: &[u8]) -> io::Result<()> {
        create_dir(&self.dir.join(TOPICS_DIR))?;
        sync_tree(&self.dir)?;
        sync_dir(self.data_path.dir())?;
        replace_file(&self.dir, COMMIT_FILE, note, true)
    }

    /// Moves `topic` to its place; one that is there already is fine.
    ///
    /// # Errors
    ///
    /// What the disk said, or that there is another topic in its place that is not empty. Trying
    /// again is fine.
    pub fn take_place(&self, topic: &str) -> io::Result<()> {
        let (staged, place) = (self.topic_dir(topic), self.data_path.topic_dir(topic));
        if !staged.path().try_exists()? {
            return Ok(());
        }
        if !place.is_empty()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        place.remove_all()?;
        create_dir(&self.data_path.dir().join(TOPICS_DIR))?;
        fs::rename(staged.path(), place.path())
    }

    /// Brings the places taken to the device.
    pub fn sync_places(&self) -> io::Result<()> {
        create_dir(&self.data_path.dir().join(TOPICS_DIR))?;
        sync_dir(&self.data_path.dir().join(TOPICS_DIR))?;
        sync_dir(self.data_path.dir())
    }

    /// Removes the directory with everything in it; one that is not there is fine.
    pub fn remove(&self) -> io::Result<()> {
        remove_dir(&self.dir)?;
        sync_dir(self.data_path.dir())
    }
}

/// Brings a directory with everything in it to the device.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(dir)
}

/// Not `topics`, so that nothing in it is taken for a topic.
const STAGING_DIR: &str = "importing";
/// Written last.
const COMMIT_FILE: &str = "commit";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_appear_with_the_commit_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let data_path = DataPath::open(folder.path()).unwrap();
        let staging = Staging::of(&data_path);
        assert!(!staging.exists().unwrap());
        staging.topic_dir("t").write_state(b"state", false).unwrap();
        assert!(staging.exists().unwrap());
        assert_eq!(staging.committed().unwrap(), None);
        assert!(data_path.topics().unwrap().is_empty());

        staging.commit(b"note").unwrap();
        assert_eq!(staging.committed().unwrap().as_deref(), Some(&b"note"[..]));
        data_path.topic_dir("t").create(false).unwrap(); // empty: may be replaced
        for _ in 0..2 {
            staging.take_place("t").unwrap();
            staging.sync_places().unwrap();
            let state = data_path.topic_dir("t").read_state().unwrap();
            assert_eq!(state.as_deref(), Some(&b"state"[..]), "the second time changes nothing");
        }
        staging.remove().unwrap();
        staging.remove().unwrap();
        assert!(!staging.exists().unwrap());
        assert_eq!(data_path.topics().unwrap(), ["t"]);
    }

    #[test]
    fn a_topic_that_has_a_channel_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let data_path = DataPath::open(folder.path()).unwrap();
        let staging = Staging::of(&data_path);
        staging.topic_dir("t").create(false).unwrap();
        data_path.topic_dir("t").write_channel("c", b"", false).unwrap();
        let error = staging.take_place("t").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(data_path.topic_dir("t").channels().unwrap(), ["c"]);
    }
}

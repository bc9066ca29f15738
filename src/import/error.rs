//! Why a data path of nsqd cannot be taken over.

use std::io;
use std::path::{Path, PathBuf};

/// Why the import failed. nsqd's files are as they were, or all of them moved aside; the next start
/// tries again.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read, written or moved.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// `nsqd.dat` is not what nsqd writes; nsqd would not start either.
    #[error(
        "{}: {reason}; want {{\"topics\":[{{\"name\",\"paused\",\"channels\":[{{\"name\",\
         \"paused\"}}]}}]}}",
        path.display()
    )]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// nsqd's topic would replace one that has messages or channels here.
    #[error(
        "topic {topic} of nsqd is here already: move away either {} or its entry in nsqd.dat and \
         its {topic}*.diskqueue.* files",
        dir.display()
    )]
    TopicExists {
        /// The topic.
        topic: String,
        /// Where the topic is that would be replaced.
        dir: PathBuf,
    },
    /// What was read back is not what was written.
    #[error("topic {topic}: {reason}; look after the device")]
    ReadBack {
        /// The topic.
        topic: String,
        /// What differs.
        reason: &'static str,
    },
    /// An nsqd has used its files after they had been imported, before they could be moved.
    #[error(
        "{} has changed since it was imported, so nsqd has run here in between: move {} away to \
         import again",
        file.display(),
        staging.display()
    )]
    Changed {
        /// nsqd's file.
        file: PathBuf,
        /// What has been imported.
        staging: PathBuf,
    },
    /// The note of what is left to do cannot be read.
    #[error("{}: {reason}; move the directory away to import again", staging.display())]
    Commit {
        /// The directory it is in.
        staging: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl ImportError {
    /// For `map_err` where `path` is read or written.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }
}

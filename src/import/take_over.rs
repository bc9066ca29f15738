//! The steps of an import, and what a start after a crash does with them.

use std::path::Path;
use std::time::Instant;

use grapevine_broker::IdSource;
use grapevine_storage::{DataPath, Staging};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::error::ImportError;
use super::files::{self, Found, OldFile, scan};
use super::plan::{Plan, plan};
use super::topic::import_topic;
use crate::node::IDS_FILE;

/// What the import needs to know of the node.
#[derive(Clone, Copy, Debug)]
pub struct ImportLimits {
    /// `--max-msg-size`: a length beyond it is doubted.
    pub message_bytes_max: u64,
    /// `--max-bytes-per-file`.
    pub segment_bytes_max: u64,
    /// Now, in Unix nanoseconds: for new message ids.
    pub wall_ns: i64,
}

/// Takes over what an nsqd has left in `data_path`, if anything, before its topics are loaded.
///
/// Everything is written into the staging directory, read back and synced; the commit says so;
/// then topics take their places and nsqd's files are moved aside. Killed before the commit, the
/// next start begins anew from nsqd's files, which nothing has touched; killed after it, the next
/// start does what is left. So no message is lost, and none is there twice.
///
/// `ids` give new ids to messages that need them, and are above all those kept when this returns.
///
/// # Errors
///
/// See [`ImportError`]; the node must not start.
pub fn take_over(
    data_path: &DataPath,
    ids: &IdSource,
    limits: &ImportLimits,
) -> Result<(), ImportError> {
    let import = Import { data_path, staging: Staging::of(data_path), ids, limits };
    import.run(&mut || Ok(())).inspect_err(|_| {
        // The room is better given back; if the commit has happened, it is needed.
        if let Ok(None) = import.staging.committed() {
            drop(import.staging.remove());
        }
    })
}

/// What is left to do after the commit.
#[derive(Debug, Deserialize, Serialize)]
struct Commit {
    /// Topics that take their places.
    topics: Vec<String>,
    /// Files of nsqd that are moved.
    files: Vec<OldFile>,
    /// The directory in the data path they are moved to.
    old_files: String,
}

pub(super) struct Import<'a> {
    data_path: &'a DataPath,
    staging: Staging,
    ids: &'a IdSource,
    limits: &'a ImportLimits,
}

impl<'a> Import<'a> {
    #[cfg(test)]
    pub(super) fn new(
        data_path: &'a DataPath,
        ids: &'a IdSource,
        limits: &'a ImportLimits,
    ) -> Self {
        Self { data_path, staging: Staging::of(data_path), ids, limits }
    }

    /// `step` is called wherever a crash would leave something else behind; tests fail it there.
    pub(super) fn run(&self, step: Step<'_>) -> Result<(), ImportError> {
        let at_staging = || ImportError::at(self.staging.path());
        if let Some(note) = self.staging.committed().map_err(at_staging())? {
            let commit: Commit = serde_json::from_slice(&note).map_err(|error| {
                let staging = self.staging.path().to_owned();
                ImportError::Commit { staging, reason: error.to_string() }
            })?;
            info!("finishing an import of nsqd's data path that was interrupted");
            self.check_unchanged(&commit)?;
            return self.finish(&commit, step);
        }
        if self.staging.exists().map_err(at_staging())? {
            info!("import of nsqd's data path was interrupted; starting over");
            self.staging.remove().map_err(at_staging())?;
        }
        let mut found = scan(self.data_path.dir())?;
        if found.is_nothing() {
            return Ok(());
        }
        let commit = self.build(&mut found, step)?;
        self.finish(&commit, step)
    }

    /// Everything up to the commit.
    fn build(&self, found: &mut Found, step: Step<'_>) -> Result<Commit, ImportError> {
        let started = Instant::now();
        let plan = plan(found)?;
        self.check_places(&plan)?;
        let (topics, files) = (plan.len(), found.files.len());
        info!(topics, files, bytes = found.bytes(), "importing the data path of nsqd");
        let (mut messages, mut bytes, mut channels, mut highest_id) = (0, 0, 0, 0);
        for (name, topic) in &plan {
            let dir = self.staging.topic_dir(name);
            let imported = import_topic(name, topic, &dir, self.ids, self.limits)?;
            info!(
                topic = %name,
                channels = topic.channels.len(),
                messages = imported.messages,
                bytes = imported.bytes,
                "topic of nsqd written anew"
            );
            messages += imported.messages;
            bytes += imported.bytes;
            channels += topic.channels.len();
            highest_id = highest_id.max(imported.highest_id);
            step()?;
        }
        // Durably before the commit: after a crash nobody would look for the highest one again.
        self.ids.raise(highest_id);
        let dir = self.data_path.dir();
        let mark = self.ids.mark().to_string();
        let noted = self.data_path.replace_file(IDS_FILE, mark.as_bytes(), true);
        noted.map_err(ImportError::at(&dir.join(IDS_FILE)))?;
        step()?;
        let old_files = files::free_old_files_dir(dir)?;
        let topics = plan.keys().map(ToString::to_string).collect();
        let commit = Commit { topics, files: std::mem::take(&mut found.files), old_files };
        let note = serde_json::to_vec(&commit).expect("strings and numbers");
        self.staging.commit(&note).map_err(ImportError::at(self.staging.path()))?;
        step()?;
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(
            topics = commit.topics.len(),
            channels, messages, bytes, milliseconds, "data path of nsqd imported"
        );
        Ok(commit)
    }

    /// Everything after the commit. Each step can be repeated.
    fn finish(&self, commit: &Commit, step: Step<'_>) -> Result<(), ImportError> {
        let dir = self.data_path.dir();
        for topic in &commit.topics {
            let place = self.data_path.topic_dir(topic);
            self.staging.take_place(topic).map_err(ImportError::at(place.path()))?;
            step()?;
        }
        self.staging.sync_places().map_err(ImportError::at(dir))?;
        let old_files = dir.join(&commit.old_files);
        files::create_old_files_dir(&old_files)?;
        for file in &commit.files {
            files::move_aside(dir, &old_files, file)?;
            step()?;
        }
        files::sync_dir(&old_files)?;
        files::sync_dir(dir)?;
        self.staging.remove().map_err(ImportError::at(self.staging.path()))?;
        let files = commit.files.len();
        info!(files, directory = %old_files.display(), "files of nsqd moved aside");
        step()
    }

    /// No topic of nsqd may replace one that holds anything.
    fn check_places(&self, plan: &Plan) -> Result<(), ImportError> {
        for name in plan.keys() {
            let place = self.data_path.topic_dir(name);
            if !place.is_empty().map_err(ImportError::at(place.path()))? {
                let dir = place.path().to_owned();
                return Err(ImportError::TopicExists { topic: name.to_string(), dir });
            }
        }
        Ok(())
    }

    /// After the commit nsqd's files are still in place for a moment. An nsqd started just then
    /// would use them, and what it has done since must not be moved aside unread.
    fn check_unchanged(&self, commit: &Commit) -> Result<(), ImportError> {
        let now = scan(self.data_path.dir())?.files;
        let changed = now.iter().find(|file| !commit.files.contains(file));
        let Some(file) = changed else { return Ok(()) };
        warn!(file = file.name, "file of nsqd is not as it was imported");
        let file = self.data_path.dir().join(Path::new(&file.name));
        Err(ImportError::Changed { file, staging: self.staging.path().to_owned() })
    }
}

/// Called between steps; an error ends the import there.
pub(super) type Step<'a> = &'a mut dyn FnMut() -> Result<(), ImportError>;

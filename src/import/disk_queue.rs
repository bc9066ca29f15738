//! A queue of nsqd: where its reader and its writer are, and the messages in its files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use super::error::ImportError;
use super::queue_file::{Next, QueueFile, QueueRecord};

/// The files of one queue: a topic's own, or a channel's.
#[derive(Clone, Debug, Default)]
pub(super) struct DiskQueue {
    /// As in the names of its files: `topic` or `topic:channel`.
    pub(super) name: String,
    /// What its meta file says; `None`: it is missing or not what nsqd writes.
    pub(super) positions: Option<Positions>,
    /// The data files by their numbers.
    pub(super) files: BTreeMap<u64, DataFile>,
}

/// A file of messages.
#[derive(Clone, Debug)]
pub(super) struct DataFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// How long it is.
    pub(super) bytes: u64,
}

/// The meta file: `depth\nread_file,read_position\nwrite_file,write_position\n`.
///
/// Only where the reader is matters. The depth is too small after a crash, and what lies past the
/// write position was written and not yet noted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Positions {
    /// Number of the file being read.
    pub(super) read_file: u64,
    /// Where in it the next message begins.
    pub(super) read_position: u64,
    /// Number of the file being written.
    pub(super) write_file: u64,
}

/// A part of a queue that is not taken over, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Unread {
    /// The file.
    pub(super) path: PathBuf,
    /// From where on.
    pub(super) offset: u64,
    /// How much.
    pub(super) bytes: u64,
    /// Why.
    pub(super) reason: &'static str,
}

impl Positions {
    /// Reads the text of a meta file; `None` if it is not what nsqd writes.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut lines = text.lines();
        let depth = lines.next()?;
        depth.trim().parse::<i64>().ok()?;
        let mut pair = || {
            let (file, position) = lines.next()?.split_once(',')?;
            Some((file.trim().parse().ok()?, position.trim().parse().ok()?))
        };
        let (read_file, read_position) = pair()?;
        let (write_file, _): (u64, u64) = pair()?;
        Some(Self { read_file, read_position, write_file })
    }
}

impl DiskQueue {
    /// Whether there are bytes that nobody has read.
    pub(super) fn has_unread(&self) -> bool {
        self.to_read().any(|(from, file)| from < file.bytes)
    }

    /// Shows every message from the read position on to `visit`, to the end of the last file;
    /// returns what could not be read.
    ///
    /// # Errors
    ///
    /// What the device or `visit` said.
    pub(super) fn read(
        &self,
        message_bytes_max: u64,
        visit: &mut dyn FnMut(&QueueRecord<'_>) -> Result<(), ImportError>,
    ) -> Result<Vec<Unread>, ImportError> {
        let mut unread = self.passed_over();
        for (from, file) in self.to_read() {
            if from > file.bytes {
                unread.push(file.unread(file.bytes, "read position past the end"));
                continue;
            }
            let at = || ImportError::at(&file.path);
            let mut input = File::open(&file.path).map_err(at())?;
            input.seek(SeekFrom::Start(from)).map_err(at())?;
            let input = BufReader::with_capacity(READ_BYTES, input);
            let mut records = QueueFile::new(input, from, file.bytes, message_bytes_max);
            let reason = loop {
                match records.next().map_err(at())? {
                    Next::Record(record) => visit(&record)?,
                    Next::End => break None,
                    Next::Unreadable(reason) => break Some(reason),
                }
            };
            unread.extend(reason.map(|reason| file.unread(records.position(), reason)));
        }
        Ok(unread)
    }

    /// The files that hold messages nobody has read, and from where on.
    ///
    /// Without positions that is all of them. nsqd would write over them instead.
    fn to_read(&self) -> impl Iterator<Item = (u64, &DataFile)> {
        let (first, position) =
            self.positions.map_or((0, 0), |at| (at.read_file, at.read_position));
        self.files
            .range(first..)
            .map(move |(&number, file)| (if number == first { position } else { 0 }, file))
    }

    /// What is known to be missing without reading anything.
    fn passed_over(&self) -> Vec<Unread> {
        let Some(at) = self.positions else { return Vec::new() };
        let finished = self.files.range(..at.read_file).map(|(_, file)| file);
        let mut unread: Vec<Unread> =
            finished.map(|file| file.unread(0, "before the read position")).collect();
        // The file being written does not exist before the first message in it.
        let mut due = at.read_file;
        let there = self.files.range(at.read_file..).map(|(&number, _)| number);
        for number in there.chain([at.write_file]) {
            if number > due && due < at.write_file {
                unread.push(self.missing(due));
            }
            due = due.max(number.saturating_add(1));
        }
        unread
    }

    /// File `number`, and any between it and the next that is there, is missing.
    fn missing(&self, number: u64) -> Unread {
        let path = PathBuf::from(super::files::data_file_name(&self.name, number));
        Unread { path, offset: 0, bytes: 0, reason: "missing" }
    }
}

impl DataFile {
    fn unread(&self, offset: u64, reason: &'static str) -> Unread {
        let bytes = self.bytes.saturating_sub(offset);
        Unread { path: self.path.clone(), offset, bytes, reason }
    }
}

/// Read at a time, in bytes.
const READ_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::nsqd_files::{QueueMessage, write_data, write_meta};

    /// A queue in files of these messages each, with these positions.
    fn queue(dir: &std::path::Path, files: &[(u64, &[u64])], meta: Option<&str>) -> DiskQueue {
        for &(number, messages) in files {
            let messages: Vec<_> =
                messages.iter().map(|&n| QueueMessage::new(n, &format!("m{n}"))).collect();
            write_data(dir, "q", number, &messages);
        }
        if let Some(meta) = meta {
            write_meta(dir, "q", meta);
        }
        crate::import::files::scan(dir).unwrap().queues.remove("q").unwrap_or_default()
    }

    fn read(queue: &DiskQueue) -> (Vec<u64>, Vec<(String, &'static str)>) {
        let mut messages = Vec::new();
        let unread = queue
            .read(1_000, &mut |record| {
                messages.push(record.id.as_u64().unwrap());
                Ok(())
            })
            .unwrap();
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        (messages, unread.into_iter().map(|part| (name(part.path), part.reason)).collect())
    }

    #[test]
    fn reading_starts_at_the_read_position_and_goes_on_past_the_write_position() {
        let dir = tempfile::tempdir().unwrap();
        let record = QueueMessage::new(0, "m1").record().len();
        let files: &[(u64, &[u64])] = &[(3, &[1, 2]), (4, &[3, 4]), (5, &[5])];
        // nsqd was killed before it had noted messages 4 and 5: the depth is too small as well.
        let meta = format!("2\n3,{record}\n4,{record}\n");
        let queue = queue(dir.path(), files, Some(&meta));
        assert!(queue.has_unread());
        assert_eq!(read(&queue), (vec![2, 3, 4, 5], vec![]));
    }

    #[test]
    fn without_a_usable_meta_file_everything_is_read() {
        for meta in [None, Some(""), Some("5\n0,"), Some("x\n0,0\n0,0\n"), Some("1\n0,-3\n0,9\n")] {
            let dir = tempfile::tempdir().unwrap();
            let queue = queue(dir.path(), &[(0, &[1, 2]), (1, &[3])], meta);
            assert_eq!(read(&queue), (vec![1, 2, 3], vec![]), "{meta:?}");
        }
    }

    #[test]
    fn a_drained_queue_has_nothing_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let record = QueueMessage::new(0, "m1").record().len();
        let drained =
            queue(dir.path(), &[(0, &[1])], Some(&format!("0\n0,{record}\n0,{record}\n")));
        assert!(!drained.has_unread());
        assert_eq!(read(&drained), (vec![], vec![]));
        let dir = tempfile::tempdir().unwrap();
        let emptied = queue(dir.path(), &[], Some("0\n7,0\n7,0\n"));
        assert_eq!(read(&emptied), (vec![], vec![]), "its next file is not there yet");
    }

    #[test]
    fn what_is_finished_missing_or_unreadable_is_reported_and_the_rest_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let files: &[(u64, &[u64])] = &[(1, &[1]), (2, &[2]), (5, &[5, 6]), (7, &[7])];
        let queue = queue(dir.path(), files, Some("-4\n2,0\n8,0\n"));
        // The second record of file 5 claims to be negative.
        let path = dir.path().join("q.diskqueue.000005.dat");
        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        bytes[half] = 0xff;
        std::fs::write(&path, bytes).unwrap();

        let (messages, unread) = read(&queue);
        assert_eq!(messages, [2, 5, 7]);
        let want = [
            ("q.diskqueue.000001.dat", "before the read position"),
            ("q.diskqueue.000003.dat", "missing"),
            ("q.diskqueue.000006.dat", "missing"),
            ("q.diskqueue.000005.dat", "length out of bounds"),
        ];
        assert_eq!(unread, want.map(|(name, reason)| (name.to_owned(), reason)));
    }

    #[test]
    fn a_read_position_past_the_end_of_its_file_costs_that_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let queue = queue(dir.path(), &[(0, &[1]), (1, &[2])], Some("1\n0,5000\n1,0\n"));
        let (messages, unread) = read(&queue);
        assert_eq!(messages, [2]);
        let name = "q.diskqueue.000000.dat".to_owned();
        assert_eq!(unread, [(name, "read position past the end")]);
    }
}

//! What a node keeps on disk: who it is, in which epoch it last was, and whom it knew.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::StartError;
use crate::NodeId;
use crate::identity::next_epoch;

/// Most bytes read from a state file: a peers file has at most 64 lines of 50 bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Longest part of a file that is not what it should be in a line of the log: twice a valid id.
const EXCERPT_CHARS_MAX: usize = 32;

/// The state directory; without one nothing is kept.
#[derive(Clone, Debug)]
pub(super) struct State {
    dir: Option<PathBuf>,
}

impl State {
    pub(super) fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    /// The node's id, drawn now if it has none.
    pub(super) fn node(&self, drawn: u64) -> Result<NodeId, StartError> {
        let kept = self.read("node.id").map_err(|source| self.error("node.id", source))?;
        let read = |text: &String| u64::from_str_radix(text.trim(), 16).ok();
        if let Some(node) = kept.as_ref().and_then(read).filter(|&node| node != 0) {
            return Ok(NodeId(node));
        }
        if let Some(text) = kept {
            tracing::warn!(
                file = %self.path("node.id").display(), content = excerpt(&text),
                "the node's id is not a hexadecimal number above 0; it gets a new one and is \
                 another node to the cluster"
            );
        }
        let node = NodeId(drawn.max(1));
        self.write("node.id", &format!("{node}\n"))
            .map_err(|source| self.error("node.id", source))?;
        Ok(node)
    }

    /// A greater epoch than ever before, on disk when this returns. The wall clock only helps a
    /// node that lost its disk.
    pub(super) fn next_epoch(&self, wall_ms: u64, luck: u64) -> Result<u64, StartError> {
        let name = "gossip.epoch";
        let kept = self.read(name).map_err(|source| self.error(name, source))?;
        let read = |text: &String| text.trim().parse::<u64>().ok();
        let last = kept.as_ref().and_then(read);
        if let (Some(text), None) = (&kept, last) {
            tracing::warn!(
                file = %self.path(name).display(), content = excerpt(text),
                "the gossip epoch is not a number; the next one is taken from the clock, and \
                 others do not believe this node if they know a greater one"
            );
        }
        let epoch = next_epoch(last, wall_ms, luck);
        self.write_epoch(epoch).map_err(|source| self.error(name, source))?;
        Ok(epoch)
    }

    pub(super) fn write_epoch(&self, epoch: u64) -> io::Result<()> {
        self.write("gossip.epoch", &format!("{epoch}\n"))
    }

    /// Members of an earlier life; an unreadable list is an empty one.
    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        let text = self.read("gossip.peers").ok().flatten().unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    pub(super) fn write_peers(&self, peers: &[SocketAddr]) -> io::Result<()> {
        let lines: String = peers.iter().map(|peer| format!("{peer}\n")).collect();
        self.write("gossip.peers", &lines)
    }

    fn error(&self, name: &str, source: io::Error) -> StartError {
        StartError::State { path: self.path(name), source }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.clone().unwrap_or_default().join(name)
    }

    fn read(&self, name: &str) -> io::Result<Option<String>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let path = dir.join(name);
        match fs::metadata(&path) {
            Ok(meta) if meta.len() > FILE_BYTES_MAX => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "file is too large"))
            }
            Ok(_) => Ok(Some(String::from_utf8_lossy(&fs::read(&path)?).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file whole: it has the old or the new content, whatever happens.
    fn write(&self, name: &str, content: &str) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        fs::create_dir_all(dir)?;
        let temporary = dir.join(format!("{name}.tmp"));
        let replaced = write_new(&temporary, content).and_then(|()| {
            fs::rename(&temporary, dir.join(name))?;
            sync_dir(dir)
        });
        match replaced {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                drop(fs::remove_file(&temporary));
                // In place, which needs no room: a node must be able to start on a full disk, or
                // nobody could take its messages away.
                let mut file = File::options().write(true).open(dir.join(name))?;
                file.write_all(content.as_bytes())?;
                file.set_len(content.len() as u64)?;
                file.sync_all()
            }
            other => other,
        }
    }
}

/// The beginning of what a file holds, for the log.
fn excerpt(text: &str) -> String {
    text.trim().chars().take(EXCERPT_CHARS_MAX).collect()
}

fn write_new(path: &Path, content: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content.as_bytes())?;
    // N06, class "lost fsync".
    if mutant!(N06) { Ok(()) } else { file.sync_all() }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

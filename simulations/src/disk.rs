//! What a node keeps on disk, and what faults leave of it.
//!
//! A write takes a while. Until it is done a crash may leave the old content or the new one; what
//! is done survives lost power, unless fsync lied.

use std::net::SocketAddr;
use std::time::Duration;

use grapevine_gossip::{NodeId, mutant};

use crate::luck::Draw;
use crate::plan::{DiskFate, DiskTrouble};

/// What a write and its fsync usually take.
const LATENCY: Duration = Duration::from_millis(1);

/// Pause before a failed write is tried again, as the agent does.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// The files of the state directory; see `gossip/src/agent/state.rs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Files {
    /// `node.id`; `None`: not there, or unreadable.
    pub(crate) node: Option<NodeId>,
    /// `gossip.epoch`.
    pub(crate) epoch: Option<u64>,
    /// `gossip.peers`.
    pub(crate) peers: Vec<SocketAddr>,
}

/// One file's new content.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    Node(NodeId),
    Epoch(u64),
    Peers(Vec<SocketAddr>),
}

impl Files {
    fn put(&mut self, write: &Write) {
        match write {
            Write::Node(node) => self.node = Some(*node),
            Write::Epoch(epoch) => self.epoch = Some(*epoch),
            Write::Peers(peers) => self.peers.clone_from(peers),
        }
    }

    /// Half of a file is what it now holds.
    fn tear(&mut self, write: &Write) {
        match write {
            // Too short to be an id: a new one is drawn.
            Write::Node(_) => self.node = None,
            // The first digits are a smaller number.
            Write::Epoch(epoch) => {
                let digits = epoch.to_string();
                self.epoch = digits[..digits.len() / 2].parse().ok();
            }
            Write::Peers(peers) => self.peers = peers[..peers.len() / 2].to_vec(),
        }
    }
}

/// One node's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// What a process reads.
    seen: Files,
    /// What is left without power.
    durable: Files,
    /// Begun and not done.
    pending: Vec<Write>,
    /// Done, but fsync lied.
    unsynced: Vec<Write>,
    /// The content since these moments (ns), if somebody will want to know.
    history: Option<Vec<(u64, Files)>>,
    /// What is wrong with it now.
    troubles: Vec<DiskTrouble>,
}

impl Disk {
    /// An empty disk. `keeps_history`: it may be asked for what it held earlier.
    pub(crate) fn new(keeps_history: bool) -> Self {
        Self { history: keeps_history.then(Vec::new), ..Self::default() }
    }

    /// What a process that starts finds.
    pub(crate) fn files(&self) -> &Files {
        &self.seen
    }

    /// What is wrong with it from now on.
    pub(crate) fn set_troubles(&mut self, troubles: Vec<DiskTrouble>) {
        self.troubles = troubles;
    }

    /// How long a write takes now.
    pub(crate) fn latency(&self) -> Duration {
        let slow = self.troubles.iter().filter_map(|trouble| match trouble {
            DiskTrouble::Slow(latency) => Some(*latency),
            DiskTrouble::Full | DiskTrouble::Torn(_) | DiskTrouble::FsyncLies => None,
        });
        slow.max().unwrap_or(LATENCY)
    }

    /// Whether writes fail now.
    pub(crate) fn fails(&self) -> bool {
        self.troubles.contains(&DiskTrouble::Full)
    }

    /// A write begins.
    pub(crate) fn begin(&mut self, write: Write) {
        self.pending.push(write);
    }

    /// It ends. False if it failed; then nothing has changed.
    pub(crate) fn finish(&mut self, now: u64, write: &Write) -> bool {
        self.pending.retain(|pending| pending != write);
        if self.fails() {
            return false;
        }
        self.seen.put(write);
        // N06, class "lost fsync": as `agent::state` would leave it.
        if self.troubles.contains(&DiskTrouble::FsyncLies) || mutant!(N06) {
            self.unsynced.push(write.clone());
        } else {
            // An fsync that does not lie makes durable what earlier ones left out.
            self.unsynced.clear();
            self.durable.clone_from(&self.seen);
        }
        self.remember(now);
        true
    }

    /// The process ended in the middle of things.
    pub(crate) fn crash(&mut self, now: u64, draw: Draw) {
        let pending = std::mem::take(&mut self.pending);
        if self.fails() {
            return;
        }
        for (field, write) in (0..).zip(&pending) {
            if draw.chance(field, 0.5) {
                self.seen.put(write);
                self.durable.put(write);
            }
        }
        self.remember(now);
    }

    /// Power was lost in the middle of things.
    pub(crate) fn lose_power(&mut self, now: u64, draw: Draw) {
        let mut doubtful = std::mem::take(&mut self.unsynced);
        doubtful.append(&mut self.pending);
        let torn = self.troubles.iter().find_map(|trouble| match trouble {
            DiskTrouble::Torn(p) => Some(*p),
            DiskTrouble::Slow(_) | DiskTrouble::Full | DiskTrouble::FsyncLies => None,
        });
        for (field, write) in (0..).zip(&doubtful) {
            if torn.is_some_and(|p| draw.chance(1000 + field, p)) {
                self.durable.tear(write);
            } else if draw.chance(field, 0.5) {
                self.durable.put(write);
            }
        }
        self.seen = self.durable.clone();
        self.remember(now);
    }

    /// What a restart finds instead of what was there. `other`: the disk of the node that
    /// [`DiskFate::CloneOf`] names.
    pub(crate) fn befall(&mut self, now: u64, fate: DiskFate, other: Option<Files>) {
        let files = match fate {
            DiskFate::Keep | DiskFate::PowerLoss => return,
            DiskFate::Lose => Files::default(),
            DiskFate::Old(age) => self.at(now.saturating_sub(nanos(age))),
            DiskFate::CloneOf(_) => other.unwrap_or_default(),
        };
        self.seen = files.clone();
        self.durable = files;
        self.pending.clear();
        self.unsynced.clear();
        self.remember(now);
    }

    fn at(&self, then: u64) -> Files {
        let history = self.history.iter().flatten();
        let before = history.take_while(|(since, _)| *since <= then);
        before.last().map(|(_, files)| files.clone()).unwrap_or_default()
    }

    fn remember(&mut self, now: u64) {
        if let Some(history) = &mut self.history
            && history.last().is_none_or(|(_, files)| *files != self.seen)
        {
            history.push((now, self.seen.clone()));
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &mut Disk, now: u64, epoch: u64) -> bool {
        disk.begin(Write::Epoch(epoch));
        disk.finish(now, &Write::Epoch(epoch))
    }

    #[test]
    fn what_is_written_survives_lost_power_unless_fsync_lies() {
        let mut disk = Disk::new(false);
        assert!(write(&mut disk, 0, 1));
        disk.lose_power(1, Draw(0));
        assert_eq!(disk.files().epoch, Some(1));
        disk.set_troubles(vec![DiskTrouble::FsyncLies]);
        let lost = (0..100).filter(|&luck| {
            assert!(write(&mut disk, 2, 2));
            disk.lose_power(3, Draw(luck));
            let epoch = disk.files().epoch;
            disk.set_troubles(vec![]);
            write(&mut disk, 4, 1);
            disk.set_troubles(vec![DiskTrouble::FsyncLies]);
            epoch == Some(1)
        });
        assert!((30..70).contains(&lost.count()));
    }

    #[test]
    fn a_write_on_a_full_disk_fails_and_changes_nothing() {
        let mut disk = Disk::new(false);
        disk.set_troubles(vec![DiskTrouble::Full]);
        assert!(!write(&mut disk, 0, 1));
        disk.crash(1, Draw(0));
        assert_eq!(disk.files().epoch, None);
    }

    #[test]
    fn a_disk_from_a_backup_holds_what_it_held_then() {
        let mut disk = Disk::new(true);
        for second in 1..=5 {
            write(&mut disk, second * 1_000_000_000, second);
        }
        disk.befall(6_000_000_000, DiskFate::Old(Duration::from_secs(3)), None);
        assert_eq!(disk.files().epoch, Some(3));
        disk.befall(6_000_000_000, DiskFate::Lose, None);
        assert_eq!(*disk.files(), Files::default());
    }

    #[test]
    fn a_torn_epoch_is_a_smaller_number() {
        let mut disk = Disk::new(false);
        disk.set_troubles(vec![DiskTrouble::Torn(1.0)]);
        disk.begin(Write::Epoch(1234));
        disk.lose_power(0, Draw(0));
        assert_eq!(disk.files().epoch, Some(12));
    }
}

//! What owners wrote: one log for each life of each owner.

use grapevine_gossip::NodeId;
use grapevine_gossip::section::{Entry, Key, ProducerId, Value};
use rustc_hash::FxHashMap;

/// Number of an owner, in the order in which they were first seen.
pub(super) type Owner = u32;

/// Number of a log.
pub(super) type LogId = u32;

/// Every log there is.
#[derive(Debug, Default)]
pub(super) struct Truth {
    owners: FxHashMap<NodeId, Owner>,
    /// Nodes at which an owner ever ran, by owner; a copied disk makes them two.
    nodes: Vec<Vec<usize>>,
    logs: Vec<Log>,
    by_epoch: FxHashMap<(Owner, u64), LogId>,
}

/// The writes of one owner in one epoch.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// Index of the node that writes it.
    pub(super) node: usize,
    /// The epoch.
    pub(super) epoch: u64,
    /// More than one process wrote under this epoch, after a fault that nobody can guard against:
    /// nothing can be said about copies.
    pub(super) is_contested: bool,
    /// Hash of the owner's live keys after the last write.
    pub(super) live_hash: u64,
    /// By version, from 1.
    writes: Vec<Write>,
    histories: Vec<History>,
    by_key: FxHashMap<Key, u32>,
}

/// One write.
#[derive(Clone, Debug)]
pub(super) struct Write {
    history: u32,
    /// A later one has the same key.
    pub(super) is_overwritten: bool,
    /// What was written; `None`: deleted.
    pub(super) value: Option<Value>,
}

/// Versions of all writes of a key, rising.
#[derive(Clone, Debug)]
struct History {
    key: Key,
    versions: Vec<u64>,
}

impl Truth {
    /// The number of an owner that runs at `node`.
    pub(super) fn owner(&mut self, id: NodeId, node: usize) -> Owner {
        let next = self.owners.len() as Owner;
        let owner = *self.owners.entry(id).or_insert(next);
        if owner == next {
            self.nodes.push(Vec::new());
        }
        let nodes = &mut self.nodes[owner as usize];
        if !nodes.contains(&node) {
            nodes.push(node);
        }
        owner
    }

    /// The number of an owner, if it ever ran.
    pub(super) fn known(&self, id: NodeId) -> Option<Owner> {
        self.owners.get(&id).copied()
    }

    /// Nodes at which an owner ever ran.
    pub(super) fn nodes(&self, owner: Owner) -> &[usize] {
        &self.nodes[owner as usize]
    }

    /// How many owners there ever were.
    pub(super) fn owners(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn log(&self, id: LogId) -> &Log {
        &self.logs[id as usize]
    }

    pub(super) fn log_mut(&mut self, id: LogId) -> &mut Log {
        &mut self.logs[id as usize]
    }

    /// The log of an owner in an epoch, if there ever was one.
    pub(super) fn find(&self, owner: Owner, epoch: u64) -> Option<LogId> {
        self.by_epoch.get(&(owner, epoch)).copied()
    }

    /// A life of `owner` at `node` begins to write in `epoch`; with `before` it goes on from there.
    pub(super) fn begin(
        &mut self,
        owner: Owner,
        epoch: u64,
        node: usize,
        before: Option<LogId>,
    ) -> LogId {
        let log = match before {
            Some(before) => Log { node, epoch, ..self.log(before).clone() },
            None => Log::new(node, epoch),
        };
        let id = self.logs.len() as LogId;
        self.logs.push(log);
        self.by_epoch.insert((owner, epoch), id);
        id
    }
}

impl Log {
    fn new(node: usize, epoch: u64) -> Self {
        Self {
            node,
            epoch,
            is_contested: false,
            live_hash: 0,
            writes: Vec::new(),
            histories: Vec::new(),
            by_key: FxHashMap::default(),
        }
    }

    /// Version of the last write.
    pub(super) fn head(&self) -> u64 {
        self.writes.len() as u64
    }

    /// The owner wrote `key`. False if the version is not the next one.
    pub(super) fn push(&mut self, key: &Key, entry: &Entry) -> bool {
        if entry.ver != self.head() + 1 {
            return false;
        }
        let history = match self.by_key.get(key) {
            Some(&history) => history,
            None => {
                let next = self.histories.len() as u32;
                self.by_key.insert(key.clone(), next);
                self.histories.push(History { key: key.clone(), versions: Vec::new() });
                next
            }
        };
        let versions = &mut self.histories[history as usize].versions;
        let last = versions.last().copied();
        versions.push(entry.ver);
        if let Some(last) = last.and_then(|last| self.writes.get_mut(last as usize - 1)) {
            last.is_overwritten = true;
        }
        self.writes.push(Write { history, is_overwritten: false, value: entry.value.clone() });
        true
    }

    /// The write of that version.
    pub(super) fn write(&self, ver: u64) -> Option<&Write> {
        self.writes.get(usize::try_from(ver.checked_sub(1)?).ok()?)
    }

    /// Which key a write is of.
    pub(super) fn key_of(&self, write: &Write) -> &Key {
        &self.histories[write.history as usize].key
    }

    /// Version of the last write, at or below `ver`, of the key that `write` is of; 0 if there is
    /// none.
    pub(super) fn last_at(&self, write: &Write, ver: u64) -> u64 {
        let versions = &self.histories[write.history as usize].versions;
        let count = versions.partition_point(|&written| written <= ver);
        count.checked_sub(1).map_or(0, |at| versions[at])
    }

    /// Writes after version `from`, up to `to`, with their versions.
    pub(super) fn between(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Write)> {
        let len = self.writes.len();
        let end = usize::try_from(to).map_or(len, |to| to.min(len));
        let begin = usize::try_from(from).map_or(end, |from| from.min(end));
        (from + 1..).zip(&self.writes[begin..end])
    }
}

/// A key as violations name it: `t007`, `t007/c1`, `t007/c1@2` of a foreign producer, `producer`.
pub(super) fn name(key: &Key) -> String {
    let channel = if key.channel.is_empty() { "" } else { "/" };
    let topic = if key.topic.is_empty() { "producer" } else { &key.topic };
    let whose = match key.producer {
        ProducerId::NSQD => String::new(),
        ProducerId::NAMES => "@names".to_owned(),
        ProducerId(number) => format!("@{number}"),
    };
    format!("{topic}{channel}{}{whose}", key.channel)
}

/// A value as violations name it.
pub(super) fn state(value: Option<&Value>) -> &'static str {
    match value {
        None => "deleted",
        Some(Value::Registered { tombstoned_at_ns: None }) => "live",
        Some(Value::Registered { tombstoned_at_ns: Some(_) }) => "hidden",
        Some(Value::Producer(record)) if record.active => "live",
        Some(Value::Producer(_)) => "silent",
    }
}

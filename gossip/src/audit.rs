//! What an auditor sees of a section: every change of a key, in order, and a hash of all live keys.
//!
//! A simulation compares sections after every event. It cannot walk them all each time, so it asks
//! what was touched. Nobody else switches this on, and then it costs one branch for each change.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use crate::NodeId;
use crate::section::{Entry, Key, Value};

/// One change of a key in a section.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Touch {
    /// The key.
    pub key: Key,
    /// Version it had; `None`: it was not there.
    pub before: Option<u64>,
    /// What it is now; `None`: it is not there.
    pub after: Option<Entry>,
}

/// A section that may have changed: its keys, its version or its standing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Touched {
    /// Whose it is.
    pub owner: NodeId,
    /// Changes of its keys, in order; keys of an epoch that was replaced are not among them.
    pub touches: Vec<Touch>,
}

/// The part of an entry in the hash of a section's live keys; 0 for a deletion.
///
/// Not keyed: nobody who could prepare collisions takes part in a simulation.
pub fn entry_hash(key: &Key, entry: &Entry) -> u64 {
    let mut hasher = FxHasher::default();
    match &entry.value {
        None => return 0,
        Some(Value::Registered { tombstoned_at_ns }) => tombstoned_at_ns.hash(&mut hasher),
        Some(Value::Producer(record)) => {
            record.last_update_ns.hash(&mut hasher);
            record.active.hash(&mut hasher);
        }
    }
    entry.ver.hash(&mut hasher);
    key.producer.0.hash(&mut hasher);
    key.topic.hash(&mut hasher);
    key.channel.hash(&mut hasher);
    // Hashes are combined by XOR, for which the last steps of this one are too regular.
    let hash = hasher.finish();
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

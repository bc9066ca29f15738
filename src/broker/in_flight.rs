//! Messages handed to a consumer and not yet answered.

use bytes::Bytes;
use grapevine_protocol::Moment;
use grapevine_storage::Cursor;
use rustc_hash::FxHashMap;

use crate::ConsumerId;

/// Why a FIN, REQ or TOUCH did nothing. `Display` is the end of the error frame's text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unanswered {
    /// Unknown, finished, requeued, deferred or timed out, or of another channel.
    #[error("ID not in flight")]
    NotInFlight,
    /// In flight on this channel, but with another connection.
    #[error("client does not own message")]
    NotOwner,
}

/// Where a message that was handed out once lies, and how often it was handed out.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// Its place in the topic's log, or in the channel's side log.
    pub(crate) cursor: Cursor,
    /// Whether `cursor` means the side log.
    pub(crate) is_side: bool,
    /// Message id.
    pub(crate) id: u64,
    /// Deliveries so far; wraps like nsqd's.
    pub(crate) attempts: u16,
    /// Wall time of publication in nanoseconds.
    pub(crate) timestamp: i64,
    /// The body, only when the log cannot be read again (ephemeral topics).
    pub(crate) body: Option<Bytes>,
}

/// One message in flight.
#[derive(Clone, Debug)]
pub(crate) struct InFlightEntry {
    pub(crate) held: Held,
    pub(crate) consumer: ConsumerId,
    pub(crate) delivered_at: Moment,
    pub(crate) deadline: Moment,
}

/// The messages of one channel that consumers hold, by id.
///
/// Deadlines are kept per consumer, where they are in order (see `Consumer`).
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    entries: FxHashMap<u64, InFlightEntry>,
}

impl InFlight {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn insert(&mut self, entry: InFlightEntry) {
        let before = self.entries.insert(entry.held.id, entry);
        debug_assert!(before.is_none(), "a message was in flight twice");
    }

    /// Takes the message out, if `consumer` holds it.
    pub(crate) fn take(
        &mut self,
        id: u64,
        consumer: ConsumerId,
    ) -> Result<InFlightEntry, Unanswered> {
        self.owned(id, consumer)?;
        self.entries.remove(&id).ok_or(Unanswered::NotInFlight)
    }

    /// The message, if `consumer` holds it.
    pub(crate) fn owned(
        &mut self,
        id: u64,
        consumer: ConsumerId,
    ) -> Result<&mut InFlightEntry, Unanswered> {
        match self.entries.get_mut(&id) {
            None => Err(Unanswered::NotInFlight),
            Some(entry) if entry.consumer != consumer => Err(Unanswered::NotOwner),
            Some(entry) => Ok(entry),
        }
    }

    pub(crate) fn holds(&self, id: u64, consumer: ConsumerId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.consumer == consumer)
    }

    /// Takes the message out if its deadline is the one given: otherwise it was answered or
    /// touched.
    pub(crate) fn take_due(
        &mut self,
        id: u64,
        consumer: ConsumerId,
        deadline: Moment,
    ) -> Option<InFlightEntry> {
        let entry = self.entries.get(&id)?;
        if entry.consumer != consumer || entry.deadline != deadline {
            return None;
        }
        self.entries.remove(&id)
    }

    /// Every entry, ordered by id, so that nothing depends on the hash.
    pub(crate) fn sorted(&self) -> Vec<&InFlightEntry> {
        let mut all: Vec<_> = self.entries.values().collect();
        all.sort_unstable_by_key(|entry| entry.held.id);
        all
    }

    /// The smallest place in the topic's log that is still needed.
    pub(crate) fn floor(&self) -> Option<Cursor> {
        self.entries
            .values()
            .filter(|e| !e.held.is_side && e.held.body.is_none())
            .map(|e| e.held.cursor)
            .min()
    }

    pub(crate) fn held_mut(&mut self, id: u64) -> Option<&mut Held> {
        self.entries.get_mut(&id).map(|entry| &mut entry.held)
    }

    pub(crate) fn clear(&mut self) {
        self.entries = FxHashMap::default();
    }
}

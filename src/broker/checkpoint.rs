//! What must be remembered of a topic and its channels, and what may be forgotten after that.

use grapevine_protocol::ChannelName;
use grapevine_storage::{ChannelCheckpoint, CheckpointEntry, Cursor, Disk, TopicState};

use crate::Channel;
use crate::in_flight::Held;
use crate::topic::{Now, Topic};

/// A snapshot to be written; afterwards [`Topic::checkpointed`] is told how that went.
#[derive(Debug)]
pub struct Checkpoint {
    /// The topic's own state, if it changed.
    pub state: Option<TopicState>,
    /// The channels that changed; ephemeral ones are never remembered.
    pub channels: Vec<(ChannelName, ChannelCheckpoint)>,
    /// Everything in the log below this is finished for every channel.
    pub floor: Cursor,
    /// The same for the side log.
    pub side_floor: Option<Cursor>,
    /// A channel's only copy of a message is in the side log: sync that before this is written,
    /// durably, since the segment the message came from will be removed.
    pub has_side: bool,
}

/// Names of segments that may be removed.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// In the topic's directory.
    pub log: Vec<String>,
    /// In the side log's directory.
    pub side: Vec<String>,
}

impl<D: Disk> Topic<D> {
    /// What changed since the last call (or everything, with `all`).
    pub fn checkpoint(&mut self, now: Now, all: bool) -> Checkpoint {
        let (is_ephemeral, released) = (self.name.is_ephemeral(), self.released);
        let mut floor = released;
        let mut side_floor = self.side.as_ref().map(grapevine_storage::Log::end);
        let mut channels = Vec::new();
        for (name, channel) in &mut self.channels {
            floor = floor.min(channel.floor());
            side_floor =
                side_floor.map(|floor| channel.side_floor().map_or(floor, |c| c.min(floor)));
            let is_remembered = !is_ephemeral && !name.is_ephemeral();
            if is_remembered && (all || channel.is_dirty) {
                channels.push((name.clone(), channel.checkpoint(released, now)));
            }
            channel.is_dirty = false;
        }
        let is_dirty = std::mem::take(&mut self.is_dirty) || all;
        let state = TopicState { paused: self.is_paused, released };
        let state = (is_dirty && !is_ephemeral).then_some(state);
        let has_side =
            channels.iter().any(|(_, state)| state.entries.iter().any(|entry| entry.side));
        Checkpoint { state, channels, floor, side_floor, has_side }
    }

    /// Brings the side log to the device, without the topic's lock.
    pub fn side_sync_handle(&mut self) -> Option<D::Handle> {
        self.side.as_mut()?.sync_handle()
    }

    /// The disks of the log and of the side log, to remove segments from.
    pub fn disks(&self) -> (D, Option<D>) {
        (self.log.disk().clone(), self.side.as_ref().map(|side| side.disk().clone()))
    }

    /// The owner has tried to write `checkpoint`: drops what lies below its floors and names the
    /// segments that may be removed.
    ///
    /// One that could not be written is tried again, everything in it counts as changed. What
    /// everybody has finished goes all the same: the disk may be full of it, and no checkpoint
    /// could ever be written; an older one that names it is no worse for it. Not so if messages
    /// were moved to the side log, which only this checkpoint knows.
    pub fn checkpointed(&mut self, checkpoint: &Checkpoint, is_written: bool) -> Forgotten {
        if !is_written {
            self.is_dirty = true;
            for channel in self.channels.values_mut() {
                channel.is_dirty = true;
            }
            if checkpoint.has_side {
                return Forgotten::default();
            }
        }
        let log = self.log.release(checkpoint.floor);
        let side = match (&mut self.side, checkpoint.side_floor) {
            (Some(side), Some(floor)) => side.release(floor),
            (Some(_) | None, _) => Vec::new(),
        };
        Forgotten { log, side }
    }
}

impl Channel {
    /// The smallest place in the side log this channel still needs.
    pub(crate) fn side_floor(&self) -> Option<Cursor> {
        let held = self.requeued.iter().chain(self.deferred.values());
        let waiting = held.filter(|held| held.is_side).map(|held| held.cursor);
        let in_flight = self.in_flight.sorted().into_iter().map(|entry| &entry.held);
        waiting.chain(in_flight.filter(|held| held.is_side).map(|held| held.cursor)).min()
    }

    fn checkpoint(&self, known_end: Cursor, now: Now) -> ChannelCheckpoint {
        let in_flight = self.in_flight.sorted();
        let ready = in_flight.iter().map(|entry| &entry.held).chain(&self.requeued);
        let ready = ready.map(|held| remembered(held, 0));
        let deferred =
            self.deferred.iter().map(|(&(due, _), held)| remembered(held, now.wall_of(due)));
        ChannelCheckpoint {
            paused: self.is_paused,
            next: self.next,
            deferred_ahead: self.deferred_ahead,
            jumps: self.jumps.iter().copied().collect(),
            entries: ready.chain(deferred).collect(),
            known_end,
        }
    }
}

const fn remembered(held: &Held, deliver_at: i64) -> CheckpointEntry {
    CheckpointEntry {
        cursor: held.cursor,
        side: held.is_side,
        id: held.id,
        attempts: held.attempts,
        timestamp: held.timestamp,
        deliver_at,
    }
}

//! A topic as it was when the process ended.

use std::collections::VecDeque;
use std::sync::Arc;

use grapevine_protocol::{ChannelName, TopicName};
use grapevine_storage::{ChannelCheckpoint, CheckpointEntry, Cursor, Disk, Log, TopicState};

use crate::Channel;
use crate::in_flight::Held;
use crate::latency::Latency;
use crate::topic::{Now, Settings, Topic, deferred_between};

/// A channel found on disk, and what its checkpoint says.
#[derive(Debug)]
pub struct ChannelFile {
    /// Name.
    pub name: ChannelName,
    /// `None` if the checkpoint is damaged: the channel then gets all that is left of the log.
    pub checkpoint: Option<ChannelCheckpoint>,
}

impl<D: Disk> Topic<D> {
    /// Puts a topic together from its log and what was remembered of it.
    ///
    /// Messages that were finished after the last checkpoint come again; none is lost.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn recover(
        name: TopicName,
        mut log: Log<D>,
        side: Option<Log<D>>,
        state: Option<TopicState>,
        mut channels: Vec<ChannelFile>,
        settings: Arc<Settings>,
        now: Now,
    ) -> std::io::Result<Self> {
        let known = channels.iter().filter_map(|file| file.checkpoint.as_ref());
        let known = known.map(|checkpoint| checkpoint.known_end.max(checkpoint.next));
        let known = known.chain(state.as_ref().map(|state| state.released)).max();
        log.advance_to(known.unwrap_or_default());
        let mut topic = Self::new(name, log, settings);
        channels.sort_by(|a, b| a.name.cmp(&b.name));
        topic.side = side;
        let (start, end) = (topic.log.start(), topic.log.end());
        topic.is_paused = state.as_ref().is_some_and(|state| state.paused);
        topic.released = match &state {
            // Not `state.released`: a channel's checkpoint may be newer than the topic's.
            Some(_) if topic.is_paused || channels.is_empty() => {
                within(known.unwrap_or_default(), start, end)
            }
            None if channels.is_empty() => start,
            Some(_) | None => end,
        };
        let mut scan_from = end;
        let mut known_ends = Vec::new();
        for file in channels {
            let window = topic.settings.latency_window;
            let latency = window.map(|window| Latency::new(window, now.mono));
            let mut channel = Channel::new(start, latency);
            let known_end = match file.checkpoint {
                Some(checkpoint) => topic.restore(&mut channel, checkpoint, now),
                None => start,
            };
            scan_from = scan_from.min(known_end);
            known_ends.push(known_end);
            topic.channels.insert(file.name, channel);
        }
        scan_from = scan_from.min(topic.released);
        topic.restore_deferred(scan_from, &known_ends, now)?;
        Ok(topic)
    }

    /// The highest message id that a channel holds: it may be higher than any in the log, where
    /// lost power took a newer end and left what had been moved or noted before. New ids must be
    /// above it, or a consumer would finish one message by the id of another.
    pub fn highest_held_id(&self) -> u64 {
        let channels = self.channels.values();
        let waiting = channels.clone().flat_map(|c| c.requeued.iter().chain(c.deferred.values()));
        let in_flight = channels.flat_map(|c| c.in_flight.sorted()).map(|entry| &entry.held);
        waiting.chain(in_flight).map(|held| held.id).max().unwrap_or(0)
    }

    /// Fills `channel` from its checkpoint; returns up to where deferred publishes are in it.
    fn restore(&self, channel: &mut Channel, checkpoint: ChannelCheckpoint, now: Now) -> Cursor {
        let (start, end) = (self.log.start(), self.log.end());
        channel.is_paused = checkpoint.paused;
        channel.next = within(checkpoint.next, start, end);
        channel.deferred_ahead = checkpoint.deferred_ahead;
        let jumps = checkpoint.jumps.into_iter().filter(|jump| jump.to <= end);
        channel.jumps = jumps.collect::<VecDeque<_>>();
        channel.take_jumps();
        for entry in checkpoint.entries {
            let held = held(&entry);
            let log = if entry.side { self.side.as_ref() } else { Some(&self.log) };
            let is_there = log.is_some_and(|log| {
                log.start().offset <= held.cursor.offset && held.cursor.offset < log.end().offset
            });
            if !is_there {
                continue;
            }
            match entry.deliver_at {
                0 => channel.requeued.push_back(held),
                at => channel.defer(held, now.moment_of(at)),
            }
        }
        within(checkpoint.known_end, start, end)
    }

    /// Finds the deferred publishes that no checkpoint knows.
    ///
    /// `known_ends`: for each channel in order, from where on its deferred set is incomplete.
    fn restore_deferred(
        &mut self,
        from: Cursor,
        known_ends: &[Cursor],
        now: Now,
    ) -> std::io::Result<()> {
        let released = self.released;
        for publish in deferred_between(&mut self.log, from)? {
            let seq = publish.held.cursor.seq;
            if seq >= released.seq {
                self.deferred_unreleased.push(publish);
                continue;
            }
            for (channel, known_end) in self.channels.values_mut().zip(known_ends) {
                if seq >= known_end.seq {
                    channel.deferred_ahead += u64::from(seq >= channel.next.seq);
                    channel.defer(publish.held.clone(), now.moment_of(publish.deliver_at));
                }
            }
        }
        Ok(())
    }
}

fn within(cursor: Cursor, start: Cursor, end: Cursor) -> Cursor {
    cursor.clamp(start, end)
}

const fn held(entry: &CheckpointEntry) -> Held {
    Held {
        cursor: entry.cursor,
        is_side: entry.side,
        id: entry.id,
        attempts: entry.attempts,
        timestamp: entry.timestamp,
        body: None,
    }
}

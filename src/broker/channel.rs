//! A channel: a reader of the topic's log, and the messages it handed out and has not got back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use grapevine_protocol::Moment;
use grapevine_storage::{Cursor, Jump};

use crate::consumer::Consumer;
use crate::in_flight::{Held, InFlight, InFlightEntry};
use crate::latency::Latency;
use crate::topic::{Now, Wakes};
use crate::{ConsumerId, Locality, Unanswered};

/// A reader of the topic's log.
///
/// Every released message is in exactly one place: at or above `next` (not yet handed out),
/// `requeued`, `deferred`, `in_flight`, or finished. Deferred publishes are put into `deferred`
/// when they are released and passed over when `next` reaches them.
pub struct Channel {
    /// First message never handed out.
    pub(crate) next: Cursor,
    /// Deferred publishes at or above `next`, which are not counted as waiting.
    pub(crate) deferred_ahead: u64,
    /// Stretches above `next` that this channel does not get (emptied, or dropped when full).
    pub(crate) jumps: VecDeque<Jump>,
    /// Handed out before and waiting again.
    pub(crate) requeued: VecDeque<Held>,
    /// Whether the next pull begins with messages never handed out.
    pub(crate) is_turn_of_new: bool,
    /// Waiting for their time.
    pub(crate) deferred: BTreeMap<(Moment, u64), Held>,
    pub(crate) in_flight: InFlight,
    pub(crate) consumers: BTreeMap<ConsumerId, Consumer>,
    /// Consumers with room that found nothing, longest waiting first.
    pub(crate) waiting: VecDeque<ConsumerId>,
    /// Woken consumers that have not pulled yet.
    pub(crate) woken: u64,
    pub(crate) is_paused: bool,
    /// Changed since the last checkpoint.
    pub(crate) is_dirty: bool,
    /// Not later than the first deadline of `in_flight` and `deferred`.
    pub(crate) next_due: Moment,
    pub(crate) message_count: u64,
    pub(crate) requeue_count: u64,
    pub(crate) timeout_count: u64,
    pub(crate) zone_local_count: u64,
    pub(crate) region_local_count: u64,
    pub(crate) global_count: u64,
    pub(crate) latency: Option<Latency>,
}

impl Channel {
    pub(crate) fn new(next: Cursor, latency: Option<Latency>) -> Self {
        Self {
            next,
            deferred_ahead: 0,
            jumps: VecDeque::new(),
            requeued: VecDeque::new(),
            is_turn_of_new: false,
            deferred: BTreeMap::new(),
            in_flight: InFlight::default(),
            consumers: BTreeMap::new(),
            waiting: VecDeque::new(),
            woken: 0,
            is_paused: false,
            is_dirty: true,
            next_due: Moment::MAX,
            message_count: 0,
            requeue_count: 0,
            timeout_count: 0,
            zone_local_count: 0,
            region_local_count: 0,
            global_count: 0,
            latency,
        }
    }

    /// Messages waiting: not yet handed out, or ready again.
    pub(crate) fn depth(&self, released: Cursor) -> u64 {
        let skipped: u64 = self.jumps.iter().map(|jump| jump.to.seq - jump.at).sum();
        let ahead = released.seq.saturating_sub(self.next.seq);
        ahead.saturating_sub(skipped + self.deferred_ahead) + self.requeued.len() as u64
    }

    /// As [`depth`](Self::depth), but not 0 while there is anything left to read.
    ///
    /// Deferred publishes that were damaged, or lost with the power, are still counted as ahead:
    /// without this, as many other messages would wait until they have been passed over.
    pub(crate) fn waiting(&self, released: Cursor) -> u64 {
        self.depth(released).max(u64::from(self.next.seq < released.seq))
    }

    /// The smallest place in the topic's log this channel still needs.
    pub(crate) fn floor(&self) -> Cursor {
        let held = self.requeued.iter().chain(self.deferred.values());
        let held = held.filter(|held| !held.is_side && held.body.is_none());
        let lowest = held.map(|held| held.cursor).min();
        let in_flight = self.in_flight.floor();
        lowest.into_iter().chain(in_flight).fold(self.next, Cursor::min)
    }

    /// Puts a message into the deferred set.
    pub(crate) fn defer(&mut self, held: Held, due: Moment) {
        self.next_due = self.next_due.min(due);
        self.deferred.insert((due, held.id), held);
    }

    /// Skips stretches that begin at `next`.
    pub(crate) fn take_jumps(&mut self) {
        while let Some(jump) = self.jumps.front()
            && jump.at <= self.next.seq
        {
            self.next = self.next.max(jump.to);
            self.jumps.pop_front();
        }
    }

    /// Leaves out everything from `at` up to `to`.
    pub(crate) fn skip(&mut self, at: u64, to: Cursor) {
        match self.jumps.back_mut() {
            Some(last) if last.to.seq == at => last.to = to,
            Some(_) | None => self.jumps.push_back(Jump { at, to }),
        }
        self.take_jumps();
    }

    /// Takes an answered message out of flight; its consumer has room for another.
    fn answered(
        &mut self,
        consumer: ConsumerId,
        id: u64,
    ) -> Result<(InFlightEntry, Option<&mut Consumer>), Unanswered> {
        let entry = self.in_flight.take(id, consumer)?;
        self.is_dirty = true;
        let mut consumer = self.consumers.get_mut(&consumer);
        if let Some(consumer) = &mut consumer {
            consumer.in_flight -= 1;
            consumer.sweep(&self.in_flight);
        }
        Ok((entry, consumer))
    }

    /// FIN: the message is done.
    pub(crate) fn finish(
        &mut self,
        consumer: ConsumerId,
        id: u64,
        now: Now,
    ) -> Result<(), Unanswered> {
        let (entry, consumer) = self.answered(consumer, id)?;
        if let Some(consumer) = consumer {
            consumer.finish_count += 1;
        }
        if let Some(latency) = &mut self.latency {
            latency.record(now.wall - entry.held.timestamp, now.mono);
        }
        Ok(())
    }

    /// REQ: the message waits again, after `delay` if it is not zero.
    pub(crate) fn requeue(
        &mut self,
        consumer: ConsumerId,
        id: u64,
        delay: Duration,
        now: Now,
        wakes: &mut Wakes,
    ) -> Result<(), Unanswered> {
        let (entry, consumer) = self.answered(consumer, id)?;
        if let Some(consumer) = consumer {
            consumer.requeue_count += 1;
        }
        self.requeue_count += 1;
        if delay.is_zero() {
            self.requeued.push_back(entry.held);
            self.wake_for(1, wakes);
        } else {
            self.defer(entry.held, now.mono + delay);
        }
        Ok(())
    }

    /// TOUCH: the deadline becomes `now` + the consumer's timeout, at most `timeout_max` after
    /// delivery.
    pub(crate) fn touch(
        &mut self,
        consumer: ConsumerId,
        id: u64,
        now: Now,
        timeout_max: Duration,
    ) -> Result<(), Unanswered> {
        let entry = self.in_flight.owned(id, consumer)?;
        let Some(owner) = self.consumers.get_mut(&consumer) else {
            return Err(Unanswered::NotInFlight);
        };
        owner.untouched(id, entry.deadline);
        entry.deadline = (now.mono + owner.msg_timeout).min(entry.delivered_at + timeout_max);
        owner.touched(id, entry.deadline);
        self.next_due = self.next_due.min(entry.deadline);
        Ok(())
    }

    /// Takes back what timed out and makes ready what was deferred; cheap while nothing is due.
    pub(crate) fn expire(&mut self, now: Now, wakes: &mut Wakes) {
        if self.next_due > now.mono {
            return;
        }
        let mut ready = 0;
        let mut next_due = Moment::MAX;
        for consumer in self.consumers.values_mut() {
            let mut has_lost = false;
            while let Some((deadline, id)) = consumer.next_due(now.mono) {
                if let Some(entry) = self.in_flight.take_due(id, consumer.id, deadline) {
                    consumer.in_flight -= 1;
                    self.timeout_count += 1;
                    self.requeued.push_back(entry.held);
                    ready += 1;
                    has_lost = true;
                }
            }
            if has_lost && !consumer.is_waiting {
                // It was full and has room again; nobody else may be waiting for these messages.
                wakes.push(&consumer.signal);
            }
            if let Some(deadline) = consumer.earliest_deadline(&self.in_flight) {
                next_due = next_due.min(deadline);
            }
        }
        while let Some(first) = self.deferred.first_entry() {
            if first.key().0 > now.mono {
                next_due = next_due.min(first.key().0);
                break;
            }
            self.requeued.push_back(first.remove());
            ready += 1;
        }
        self.next_due = next_due;
        if ready > 0 {
            self.is_dirty = true;
            self.wake_for(ready, wakes);
        }
    }

    /// Puts `consumer`, which has room and found nothing, into the line of those to be woken.
    pub(crate) fn wait(&mut self, consumer: ConsumerId) {
        if let Some(consumer) = self.consumers.get_mut(&consumer)
            && !consumer.is_waiting
        {
            consumer.is_waiting = true;
            self.waiting.push_back(consumer.id);
        }
    }

    /// How many messages the consumers in the line can take.
    pub(crate) fn waiting_room(&self) -> u64 {
        let waiting = self.waiting.iter().filter_map(|id| self.consumers.get(id));
        let room = waiting.map(Consumer::room).fold(0, u64::saturating_add);
        if self.is_paused { 0 } else { room }
    }

    /// Takes `consumer` out of the line; if it was woken already, somebody else is instead.
    pub(crate) fn unwait(&mut self, consumer: ConsumerId, released: Cursor, wakes: &mut Wakes) {
        let Some(found) = self.consumers.get_mut(&consumer) else { return };
        if std::mem::take(&mut found.is_waiting) {
            self.waiting.retain(|&waiting| waiting != consumer);
        }
        if std::mem::take(&mut found.is_woken) {
            self.woken -= 1;
            self.wake_for(self.waiting(released), wakes);
        }
    }

    /// Wakes waiting consumers for `count` new messages: the nearest first, then the longest
    /// waiting.
    ///
    /// Near consumers are filled up before farther ones are woken. Among equally near ones each
    /// new message wakes one more, so that a burst is shared.
    pub(crate) fn wake_for(&mut self, count: u64, wakes: &mut Wakes) {
        if self.is_paused || count == 0 {
            return;
        }
        let mut left = count;
        for locality in [Locality::Zone, Locality::Region, Locality::Global] {
            let mut room = 0;
            let mut woken = 0;
            let mut index = 0;
            while index < self.waiting.len() && woken < left {
                let id = self.waiting[index];
                let Some(consumer) = self.consumers.get_mut(&id) else {
                    self.waiting.remove(index);
                    continue;
                };
                if consumer.locality != locality {
                    index += 1;
                    continue;
                }
                self.waiting.remove(index);
                consumer.is_waiting = false;
                if consumer.room() == 0 {
                    continue;
                }
                consumer.is_woken = true;
                self.woken += 1;
                woken += 1;
                room += consumer.room();
                wakes.push(&consumer.signal);
            }
            left = left.saturating_sub(room);
            if left == 0 {
                return;
            }
        }
    }

    /// Removes a consumer; what it held is ready again at once.
    ///
    /// nsqd lets those messages time out (tcp-protocol, section 15); nobody gains from the wait.
    pub(crate) fn remove_consumer(&mut self, id: ConsumerId, wakes: &mut Wakes) -> bool {
        let Some(mut consumer) = self.consumers.remove(&id) else {
            return false;
        };
        let mut returned = 0;
        for held in consumer.held_ids() {
            if let Ok(InFlightEntry { held, .. }) = self.in_flight.take(held, id) {
                self.requeued.push_back(held);
                returned += 1;
            }
        }
        debug_assert_eq!(returned, consumer.in_flight, "every message in flight has a deadline");
        if consumer.is_waiting {
            self.waiting.retain(|&waiting| waiting != id);
        }
        if consumer.is_woken {
            self.woken -= 1;
            returned += 1; // it may have been woken for a message somebody else must take now
        }
        self.is_dirty |= returned > 0;
        self.wake_for(returned, wakes);
        true
    }

    /// Drops everything that waits, is deferred or in flight.
    pub(crate) fn empty(&mut self, released: Cursor, wakes: &mut Wakes) {
        self.next = released;
        self.deferred_ahead = 0;
        self.jumps.clear();
        self.requeued.clear();
        self.deferred.clear();
        self.in_flight.clear();
        self.next_due = Moment::MAX;
        self.is_dirty = true;
        for consumer in self.consumers.values_mut() {
            consumer.forget_in_flight();
            wakes.push(&consumer.signal);
        }
    }
}

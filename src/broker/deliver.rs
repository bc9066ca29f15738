//! Handing messages to a consumer: one batch, one lock.

use std::ops::ControlFlow;

use bytes::Bytes;
use grapevine_storage::{Cursor, Disk, Log, Record};

use crate::consumer::Consumer;
use crate::in_flight::{Held, InFlightEntry};
use crate::topic::{Now, Topic, Wakes};
use crate::{Channel, ConsumerId, Locality};

/// A message on its way to a consumer.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Wall time of publication in nanoseconds.
    pub timestamp: i64,
    /// This delivery included.
    pub attempts: u16,
    /// Message id.
    pub id: u64,
    /// Body.
    pub body: &'a [u8],
}

/// How much one pull may take.
#[derive(Clone, Copy, Debug)]
pub struct PullLimits {
    /// Messages.
    pub messages_max: u64,
    /// Body bytes after which the pull ends; the message that crosses it is still delivered.
    pub bytes_max: usize,
}

/// What a pull did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pulled {
    /// Messages delivered.
    pub count: u64,
    /// Those of them that were delivered for the first time.
    pub fresh: u64,
    /// Whether the consumer has room and more is waiting: pull again after this turn.
    pub has_more: bool,
    /// Whether the consumer can take another message.
    pub is_ready: bool,
}

/// A consumer being filled: what a delivery needs besides the record itself.
struct Filling<'a> {
    consumer: &'a mut Consumer,
    now: Now,
    left: u64,
    bytes_left: usize,
    count: u64,
    fresh: u64,
    keeps_bodies: bool,
}

impl<D: Disk> Topic<D> {
    /// Takes what `consumer` may have now and hands each message to `deliver`.
    ///
    /// Unknown channels and consumers get nothing. A consumer that is ready and has nothing more to
    /// take calls [`park`](Self::park) once it has written what it got.
    ///
    /// # Errors
    ///
    /// When the log cannot be read; what was delivered before stays delivered.
    pub fn pull(
        &mut self,
        channel: &str,
        consumer: ConsumerId,
        limits: PullLimits,
        now: Now,
        wakes: &mut Wakes,
        deliver: &mut dyn FnMut(Delivery<'_>),
    ) -> std::io::Result<Pulled> {
        let released = self.released;
        let keeps_bodies = self.name.is_ephemeral();
        if self.is_exiting {
            // Its files may be another topic's by now.
            return Ok(Pulled::default());
        }
        let Some(channel) = self.channels.get_mut(channel) else {
            return Ok(Pulled::default());
        };
        channel.expire(now, wakes);
        let waiting = channel.waiting(released);
        let share = channel.share(waiting, consumer);
        let Some(mut taker) = channel.consumers.remove(&consumer) else {
            return Ok(Pulled::default());
        };
        let room = if channel.is_paused { 0 } else { taker.room() };
        let mut filling = Filling {
            now,
            left: room.min(share).min(limits.messages_max),
            bytes_left: limits.bytes_max,
            count: 0,
            fresh: 0,
            keeps_bodies,
            consumer: &mut taker,
        };
        let result = filling.fill(channel, &mut self.log, &mut self.side, released, deliver);
        let (count, fresh) = (filling.count, filling.fresh);
        let is_ready = !channel.is_paused && taker.room() > 0;
        channel.consumers.insert(consumer, taker);
        result?;
        let left = channel.waiting(released);
        if left > 0 && channel.woken == 0 {
            channel.wake_for(left, wakes);
        }
        Ok(Pulled { count, fresh, has_more: is_ready && left > 0, is_ready })
    }

    /// Has `consumer` woken by the next message; `false` if there is one to pull already.
    ///
    /// Only a connection whose output is written may park: one that is stuck behind a client that
    /// does not read would be woken in vain, and the message would wait with it.
    pub fn park(
        &mut self,
        channel: &str,
        consumer: ConsumerId,
        now: Now,
        wakes: &mut Wakes,
    ) -> bool {
        let released = self.released;
        let Some(channel) = self.channels.get_mut(channel) else {
            return true;
        };
        channel.expire(now, wakes);
        if channel.waiting(released) > 0 {
            return false;
        }
        channel.wait(consumer);
        true
    }

    /// `consumer` is stuck behind a client that does not read: others are woken in its place. It
    /// pulls again, or leaves, once it is no longer.
    pub fn unpark(&mut self, channel: &str, consumer: ConsumerId, wakes: &mut Wakes) {
        let released = self.released;
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.unwait(consumer, released, wakes);
        }
    }
}

impl Channel {
    /// The part of `waiting` messages that `consumer` may take, so that others woken get theirs.
    fn share(&mut self, waiting: u64, consumer: ConsumerId) -> u64 {
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            if consumer.is_woken {
                consumer.is_woken = false;
                self.woken -= 1;
            }
            if consumer.is_waiting {
                consumer.is_waiting = false;
                let id = consumer.id;
                self.waiting.retain(|&waiting| waiting != id);
            }
        }
        waiting.div_ceil(self.woken + 1)
    }

    fn count_locality(&mut self, locality: Locality) {
        match locality {
            Locality::Zone => self.zone_local_count += 1,
            Locality::Region => self.region_local_count += 1,
            Locality::Global => self.global_count += 1,
        }
    }

    /// Registers a delivery; the message is now in flight.
    fn start(&mut self, mut held: Held, consumer: &mut Consumer, now: Now) -> u16 {
        held.attempts = held.attempts.wrapping_add(1);
        let attempts = held.attempts;
        let deadline = now.mono + consumer.msg_timeout;
        consumer.delivered(held.id, deadline);
        self.next_due = self.next_due.min(deadline);
        self.in_flight.insert(InFlightEntry {
            held,
            consumer: consumer.id,
            delivered_at: now.mono,
            deadline,
        });
        attempts
    }
}

impl Filling<'_> {
    /// Requeued messages and new ones share the room, whoever begins taking turns: a message that
    /// is requeued again and again must not keep the others waiting.
    fn fill<D: Disk>(
        &mut self,
        channel: &mut Channel,
        log: &mut Log<D>,
        side: &mut Option<Log<D>>,
        released: Cursor,
        deliver: &mut dyn FnMut(Delivery<'_>),
    ) -> std::io::Result<()> {
        channel.is_turn_of_new = !channel.is_turn_of_new;
        let all = self.left;
        if !channel.requeued.is_empty() {
            let half = if channel.is_turn_of_new { all / 2 } else { all.div_ceil(2) };
            if channel.is_turn_of_new {
                self.fill_new(channel, log, released, all - half, deliver)?;
            }
            self.fill_requeued(channel, log, side, half, deliver)?;
        }
        let left = self.left;
        self.fill_new(channel, log, released, left, deliver)?;
        let left = self.left;
        self.fill_requeued(channel, log, side, left, deliver)
    }

    /// Hands out up to `count` messages that were handed out before.
    fn fill_requeued<D: Disk>(
        &mut self,
        channel: &mut Channel,
        log: &mut Log<D>,
        side: &mut Option<Log<D>>,
        count: u64,
        deliver: &mut dyn FnMut(Delivery<'_>),
    ) -> std::io::Result<()> {
        let stop_at = self.left.saturating_sub(count);
        while self.wants_more() && self.left > stop_at && !channel.requeued.is_empty() {
            self.redeliver(channel, log, side, deliver)?;
        }
        Ok(())
    }

    /// Hands out up to `count` messages that were never handed out.
    fn fill_new<D: Disk>(
        &mut self,
        channel: &mut Channel,
        log: &mut Log<D>,
        released: Cursor,
        count: u64,
        deliver: &mut dyn FnMut(Delivery<'_>),
    ) -> std::io::Result<()> {
        let stop_at = self.left.saturating_sub(count);
        let before = self.count;
        while self.wants_more() && self.left > stop_at {
            channel.take_jumps();
            let until = channel.jumps.front().map_or(released.seq, |jump| jump.at);
            if channel.next.seq >= until.min(released.seq) {
                break;
            }
            let from = channel.next;
            let mut visit = |record: Record<'_>| {
                self.visit(channel, &record, deliver);
                match self.wants_more() && self.left > stop_at {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            };
            let after = log.read(from, until, &mut visit)?;
            // Damaged records are behind us as well; they will never be readable.
            channel.next = channel.next.max(after);
            channel.is_dirty = true;
            if after == from {
                break;
            }
        }
        if channel.next.seq >= released.seq {
            // Those that were damaged or lost with the power have been passed over as well.
            channel.deferred_ahead = 0;
        }
        self.fresh += self.count - before;
        Ok(())
    }

    const fn wants_more(&self) -> bool {
        self.left > 0 && self.bytes_left > 0
    }

    fn visit(
        &mut self,
        channel: &mut Channel,
        record: &Record<'_>,
        deliver: &mut dyn FnMut(Delivery<'_>),
    ) {
        channel.next = record.next;
        if record.deliver_at != 0 {
            // It went to the deferred set when it was released.
            channel.deferred_ahead = channel.deferred_ahead.saturating_sub(1);
            return;
        }
        let held = Held {
            cursor: record.cursor,
            is_side: false,
            id: record.id,
            attempts: 0,
            timestamp: record.timestamp,
            body: self.keeps_bodies.then(|| Bytes::copy_from_slice(record.body)),
        };
        self.take(channel, held, record.body, deliver);
    }

    fn take(
        &mut self,
        channel: &mut Channel,
        held: Held,
        body: &[u8],
        deliver: &mut dyn FnMut(Delivery<'_>),
    ) {
        channel.count_locality(self.consumer.locality);
        if self.consumer.samples_out() {
            // It was read all the same: a pull that keeps nothing must come to its end as well.
            self.bytes_left = self.bytes_left.saturating_sub(body.len() + 1);
            return;
        }
        let (timestamp, id) = (held.timestamp, held.id);
        let attempts = channel.start(held, self.consumer, self.now);
        self.count += 1;
        self.left -= 1;
        self.bytes_left = self.bytes_left.saturating_sub(body.len() + 1);
        deliver(Delivery { timestamp, attempts, id, body });
    }

    fn redeliver<D: Disk>(
        &mut self,
        channel: &mut Channel,
        log: &mut Log<D>,
        side: &mut Option<Log<D>>,
        deliver: &mut dyn FnMut(Delivery<'_>),
    ) -> std::io::Result<()> {
        let Some(held) = channel.requeued.front().cloned() else {
            return Ok(());
        };
        if let Some(body) = held.body.clone() {
            channel.requeued.pop_front();
            self.take(channel, held, &body, deliver);
            return Ok(());
        }
        let mut is_there = false;
        let mut visit = |record: Record<'_>| {
            is_there = true;
            channel.requeued.pop_front();
            self.take(channel, held.clone(), record.body, deliver);
        };
        match (held.is_side, side) {
            (false, _) => log.read_one(held.cursor, &mut visit)?,
            (true, Some(side)) => side.read_one(held.cursor, &mut visit)?,
            (true, None) => false,
        };
        if !is_there {
            // Damaged on disk since it was handed out; it cannot be delivered again.
            channel.requeued.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use grapevine_protocol::{ChannelName, Moment, TopicName};
    use grapevine_storage::{Batch, CacheBudget, LogOptions, MemoryDisk, Mode};

    use super::*;
    use crate::{ConsumerSettings, IdSource, Settings, Signal};

    const BY: ConsumerId = ConsumerId(1);
    const NOW: Now = Now { mono: Moment(1), wall: 1_800_000_000_000_000_000 };

    struct Quiet;

    impl Signal for Quiet {
        fn wake(&self) {}
        fn close(&self) {}
    }

    fn topic_with_a_consumer(rdy: u64) -> Topic<MemoryDisk> {
        let options = LogOptions {
            mode: Mode::WriteThrough,
            segment_bytes_max: 1 << 20,
            cache: Arc::new(CacheBudget::new(1 << 20)),
        };
        let settings = Settings {
            mem_queue_size: 100,
            msg_timeout_max: Duration::from_secs(900),
            channel_consumers_max: 0,
            latency_window: None,
        };
        let log = Log::open(MemoryDisk::default(), options).expect("a memory disk opens").0;
        let name = TopicName::new("t").expect("valid");
        let mut topic = Topic::new(name, log, Arc::new(settings));
        let channel = ChannelName::new("c").expect("valid");
        topic.create_channel(&channel, NOW, &mut Wakes::default());
        let consumer = ConsumerSettings {
            id: BY,
            signal: Arc::new(Quiet),
            msg_timeout: Duration::from_secs(60),
            sample_rate: 0,
            locality: Locality::Global,
            seed: 1,
        };
        topic.subscribe("c", consumer).expect("subscribes");
        topic.set_ready("c", BY, rdy);
        topic
    }

    fn publish(topic: &mut Topic<MemoryDisk>, ids: &IdSource, bodies: &[&str]) {
        let mut batch = Batch::new();
        for body in bodies {
            batch.push(body.as_bytes(), 0);
        }
        topic.publish(&mut batch, ids, NOW, &mut Wakes::default()).expect("the disk is fine");
    }

    fn pull(topic: &mut Topic<MemoryDisk>) -> Vec<(u64, u16, String)> {
        let limits = PullLimits { messages_max: 100, bytes_max: 1 << 20 };
        let mut got = Vec::new();
        let mut deliver = |message: Delivery<'_>| {
            let body = String::from_utf8_lossy(message.body).into_owned();
            got.push((message.id, message.attempts, body));
        };
        topic.pull("c", BY, limits, NOW, &mut Wakes::default(), &mut deliver).expect("reads");
        got
    }

    #[test]
    fn a_message_requeued_again_and_again_does_not_keep_the_others_waiting() {
        let mut topic = topic_with_a_consumer(1);
        publish(&mut topic, &IdSource::new(1, 0), &["poison", "a", "b", "c"]);

        let mut good = Vec::new();
        for _ in 0..10 {
            for (id, _, body) in pull(&mut topic) {
                if body == "poison" {
                    topic
                        .requeue("c", BY, id, Duration::ZERO, NOW, &mut Wakes::default())
                        .expect("it is in flight");
                } else {
                    topic.finish("c", BY, id, NOW).expect("it is in flight");
                    good.push(body);
                }
            }
        }
        assert_eq!(good, ["a", "b", "c"], "one poisoned message and RDY 1");
    }

    #[test]
    fn a_consumer_gets_as_many_messages_as_it_has_room_for() {
        let mut topic = topic_with_a_consumer(2);
        publish(&mut topic, &IdSource::new(1, 0), &["a", "b", "c"]);

        let first = pull(&mut topic);
        assert_eq!(first.len(), 2);
        assert_eq!(pull(&mut topic), [], "RDY is a level");
        topic.finish("c", BY, first[0].0, NOW).expect("it is in flight");
        assert_eq!(pull(&mut topic).len(), 1);
    }
}

//! Consumers: they find nodes, connect, take messages and answer.

use std::time::Duration;

use super::{BrokerEvent, Result};
use crate::broker::clients::{Conn, Letter, Link};
use crate::broker::shell::{Answer, Delivered, Held};
use crate::broker::{ANSWER, Brokers, POLL, TURN, names};
use crate::world::World;

/// Longest pause between two polls of `/lookup`. Clients take a minute; runs are shorter.
const POLL_SECONDS: f64 = 4.0;

/// Pause before a node that was down is tried again, and how often that is done before the next
/// poll must name it.
const RECONNECT: Duration = Duration::from_secs(1);
const TRIES_MAX: u32 = 5;

/// What a network and a client's scheduler take, at most, in ns.
const TURN_NS_MAX: f64 = 400_000.0;

/// Time a consumer works on a message, on average.
const WORK_SECONDS: f64 = 0.03;

/// Of messages that are answered late or never, the share that is answered late.
const LATE_SHARE: f64 = 0.5;

/// Share of messages that are touched once before they are finished.
const TOUCH_SHARE: f64 = 0.05;

/// Share of requeued messages that are to come again at once.
const AT_ONCE_SHARE: f64 = 0.4;

/// Longest delay of the others, in ms.
const REQUEUE_MS_MAX: f64 = 800.0;

impl World<'_> {
    /// A consumer asks a random node for its topic and connects to those that are named.
    pub(super) fn poll(&mut self, b: &mut Brokers, number: u32, poll: u32) {
        let draw = b.luck.draw(&[POLL, u64::from(number), u64::from(poll)]);
        let pause = Duration::from_secs_f64(POLL_SECONDS * (0.25 + 0.75 * draw.unit(0)));
        self.broker_after(pause, BrokerEvent::Poll { consumer: number, number: poll + 1 });
        let asked = draw.pick(1, self.nodes.len());
        let node = &self.nodes[asked];
        let Some(cluster) = node.cluster.as_ref().filter(|_| node.is_up()) else { return };
        let consumer = &mut b.clients.consumers[number as usize];
        let Some(row) = cluster.catalogue().row(&names::topic(consumer.topic)) else { return };
        for producer in row.visible() {
            let digits = producer.broadcast_address.get(5..9);
            let named = digits.and_then(|digits| digits.parse::<usize>().ok());
            let Some(named) = named.filter(|named| *named < self.nodes.len()) else { continue };
            if consumer.links.contains_key(&named) {
                continue;
            }
            consumer.links.insert(named, Link::Trying(0));
            let event = BrokerEvent::Connect { consumer: number, node: named as u32 };
            self.after(Duration::from_millis(1), crate::world::queue::Event::Broker(event));
        }
    }

    /// A consumer tries to connect to a node.
    pub(super) fn connect_consumer(
        &mut self,
        b: &mut Brokers,
        number: u32,
        index: usize,
    ) -> Result {
        let consumer = &mut b.clients.consumers[number as usize];
        let Some(Link::Trying(tries)) = consumer.links.get_mut(&index) else { return Ok(()) };
        let accepts = b.hosts[index].shell.as_ref().is_some_and(|shell| !shell.is_exiting);
        if accepts && self.nodes[index].is_up() {
            return self.subscribe(b, number, index);
        }
        *tries += 1;
        if *tries >= TRIES_MAX {
            consumer.links.remove(&index);
            return Ok(());
        }
        let event = BrokerEvent::Connect { consumer: number, node: index as u32 };
        self.broker_after(RECONNECT, event);
        Ok(())
    }

    /// SUB and RDY: the topic and the channel are made if they are not there.
    pub(super) fn subscribe(&mut self, b: &mut Brokers, number: u32, index: usize) -> Result {
        let consumer = &mut b.clients.consumers[number as usize];
        let (topic, channel, rdy) = (consumer.topic, consumer.channel, consumer.rdy);
        let Some(shell) = &mut b.hosts[index].shell else { return Ok(()) };
        if !shell.has_topic(topic) {
            if !shell.may_create() {
                consumer.links.insert(index, Link::Held);
                shell.held.push(Held::Subscribe(number));
                return Ok(());
            }
            if !self.create_topic(b, index, topic)? {
                return self.refused(b, number, index);
            }
        }
        self.create_channel(b, index, topic, channel);
        let Some(shell) = &mut b.hosts[index].shell else { return Ok(()) };
        let Some(conn) = shell.subscribe(topic, channel, rdy) else {
            return self.refused(b, number, index);
        };
        b.figures.connections += 1;
        b.clients.consumers[number as usize].links.insert(index, Link::Open(conn));
        let state = Conn { consumer: number, topic, channel, has_turn: false };
        b.clients.conns.insert((index, conn), state);
        self.settle_broker(b, index);
        self.turn_soon(b, index, conn);
        Ok(())
    }

    fn refused(&mut self, b: &mut Brokers, number: u32, index: usize) -> Result {
        b.clients.consumers[number as usize].links.insert(index, Link::Trying(0));
        let event = BrokerEvent::Connect { consumer: number, node: index as u32 };
        self.broker_after(RECONNECT, event);
        Ok(())
    }

    /// A connection's task will run.
    pub(super) fn turn_soon(&mut self, b: &mut Brokers, index: usize, conn: u64) {
        let Some(state) = b.clients.conns.get_mut(&(index, conn)) else { return };
        if std::mem::replace(&mut state.has_turn, true) {
            return;
        }
        let draw = b.luck.draw(&[TURN, index as u64, conn, self.now]);
        let pause = Duration::from_nanos((draw.unit(0) * TURN_NS_MAX) as u64);
        let life = self.nodes[index].life;
        let event = BrokerEvent::Turn { node: index as u32, life, conn: conn as u32 };
        self.broker_after(pause, event);
    }

    /// A connection takes what it may have, or is woken by the next message.
    pub(super) fn consumer_turn(&mut self, b: &mut Brokers, index: usize, conn: u64) -> Result {
        let Some(state) = b.clients.conns.get_mut(&(index, conn)) else { return Ok(()) };
        state.has_turn = false;
        let Conn { topic, channel, .. } = *state;
        let now = self.broker_now(index);
        let Some(shell) = &mut b.hosts[index].shell else { return Ok(()) };
        let (got, pulled) = match shell.pull(topic, channel, conn, now) {
            Ok(pulled) => pulled,
            Err(error) => {
                let what = format!("topic=m{topic:03} cannot-read={:?}", error.kind());
                return Err(self.violation("M1", "nothing-lost", index, what));
            }
        };
        let is_parked = pulled.has_more
            || !pulled.is_ready
            || !got.is_empty()
            || shell.park(topic, channel, conn, now);
        if pulled.has_more || (pulled.is_ready && !got.is_empty()) || !is_parked {
            self.turn_soon(b, index, conn);
        }
        for message in got {
            b.figures.delivered += 1;
            self.record_broker(index, "deliver", message.number);
            let whose = (index, topic, channel, conn);
            b.ledger.delivered(whose, message, now, b.plan.msg_timeout)?;
            self.work_on(b, index, conn, channel, message);
        }
        self.settle_broker(b, index);
        Ok(())
    }

    /// A consumer works on a message and will answer, or not.
    fn work_on(
        &mut self,
        b: &mut Brokers,
        index: usize,
        conn: u64,
        channel: u32,
        message: Delivered,
    ) {
        let ids =
            [ANSWER, message.number, u64::from(channel), index as u64, u64::from(message.attempts)];
        let draw = b.luck.draw(&ids);
        let timeout = b.plan.msg_timeout;
        let work = Duration::from_secs_f64(draw.exponential(0, WORK_SECONDS)).min(timeout / 2);
        let mut answers = Vec::new();
        if draw.chance(1, b.plan.timeout) {
            if draw.chance(2, LATE_SHARE) {
                answers.push((timeout.mul_f64(1.3), Answer::Finish));
            }
        } else if draw.chance(3, b.plan.requeue) {
            let delay = (draw.unit(5) * REQUEUE_MS_MAX) as u64;
            let delay = if draw.chance(4, AT_ONCE_SHARE) { 0 } else { delay };
            answers.push((work, Answer::Requeue(Duration::from_millis(delay))));
        } else if draw.chance(6, TOUCH_SHARE) {
            answers.push((timeout.mul_f64(0.6), Answer::Touch));
            answers.push((timeout.mul_f64(1.2), Answer::Finish));
        } else {
            answers.push((work, Answer::Finish));
        }
        let life = self.nodes[index].life;
        for (after, answer) in answers {
            let (id, number) = (message.id, message.number);
            let letter = b.clients.send(Letter { node: index, life, conn, id, number, answer });
            self.broker_after(after, BrokerEvent::Answer { letter });
        }
    }

    /// An answer reaches its node; the connection's turn goes on with what it may take now.
    pub(super) fn consumer_answers(&mut self, b: &mut Brokers, number: u32) -> Result {
        let Some(letter) = b.clients.take(number) else { return Ok(()) };
        let Letter { node: index, life, conn, id, number, answer } = letter;
        let node = &self.nodes[index];
        if node.life != life {
            return Ok(());
        }
        if node.is_paused() {
            let letter = b.clients.send(letter);
            self.broker_after(super::STANDSTILL, BrokerEvent::Answer { letter });
            return Ok(());
        }
        let Some(&Conn { topic, channel, .. }) = b.clients.conns.get(&(index, conn)) else {
            return Ok(());
        };
        let now = self.broker_now(index);
        let Some(shell) = &mut b.hosts[index].shell else { return Ok(()) };
        let is_taken = shell.answer((topic, channel, conn), id, answer, now).is_ok();
        let op = match answer {
            _ if !is_taken => {
                b.figures.late_answers += 1;
                "late"
            }
            Answer::Finish => {
                b.figures.finished += 1;
                "finish"
            }
            Answer::Requeue(_) => {
                b.figures.requeued += 1;
                "requeue"
            }
            Answer::Touch => "touch",
        };
        self.record_broker(index, op, number);
        let whose = (index, topic, channel, conn);
        b.ledger.answered(whose, number, answer, is_taken, (now, b.plan.msg_timeout))?;
        self.settle_broker(b, index);
        self.turn_soon(b, index, conn);
        Ok(())
    }
}

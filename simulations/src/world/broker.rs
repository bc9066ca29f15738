//! Brokers in the world: what happens to them when, and what producers do.

use std::collections::BTreeSet;
use std::time::Duration;

use grapevine_broker::Now;
use grapevine_gossip::cluster::Cluster;
use grapevine_gossip::{ProducerId, mutant};
use grapevine_protocol::Moment;
use grapevine_storage::Batch;

use super::queue::Event;
use super::{Deed, World, nanos};
use crate::broker::shell::Held;
use crate::broker::{Brokers, KNOWN_AFTER, PUBLISH, names};
use crate::outcome::Violation;
use crate::trace::What;

mod delivery;
mod lives;

/// Time until what concerns a process that stands still is tried again.
const STANDSTILL: Duration = Duration::from_millis(50);

/// A publish brings up to this many messages.
const BATCH_MAX: u64 = 4;

/// Share of publishes that bring several.
const BATCH_SHARE: f64 = 0.2;

/// Something that happens to brokers.
#[derive(Clone, Copy, Debug)]
pub(super) enum BrokerEvent {
    /// A producer publishes.
    Publish { number: u32 },
    /// A consumer asks for producers.
    Poll { consumer: u32, number: u32 },
    /// A consumer connects to a node.
    Connect { consumer: u32, node: u32 },
    /// A connection takes what it may have.
    Turn { node: u32, life: u32, conn: u32 },
    /// An answer arrives.
    Answer { letter: u32 },
    /// Checkpoints.
    Round { node: u32, life: u32 },
    /// Background sync.
    Sync { node: u32, life: u32 },
    /// A sync that publishers wait for ends.
    Synced { node: u32, life: u32, topic: u32 },
    /// Deadlines pass.
    Due { node: u32, life: u32 },
    /// The cluster has answered a node.
    Heard { node: u32, life: u32 },
    /// `--init-grace` is over.
    Grace { node: u32, life: u32 },
}

impl BrokerEvent {
    /// The node and the life of it that the event is for; and numbers for hashes.
    pub(super) const fn subject(self) -> (Option<(u32, u32)>, u8, u32) {
        match self {
            Self::Publish { number } => (None, 64, number),
            Self::Poll { consumer, number } => (None, 65, consumer << 16 | (number & 0xffff)),
            Self::Connect { consumer, .. } => (None, 66, consumer),
            Self::Turn { node, life, conn } => (Some((node, life)), 67, conn),
            Self::Answer { letter } => (None, 68, letter),
            Self::Round { node, life } => (Some((node, life)), 69, 0),
            Self::Sync { node, life } => (Some((node, life)), 70, 0),
            Self::Synced { node, life, topic } => (Some((node, life)), 71, topic),
            Self::Due { node, life } => (Some((node, life)), 72, 0),
            Self::Heard { node, life } => (Some((node, life)), 73, 0),
            Self::Grace { node, life } => (Some((node, life)), 74, 0),
        }
    }
}

type Result<T = ()> = std::result::Result<T, Violation>;

impl World<'_> {
    pub(super) fn schedule_broker(&mut self) {
        let Some(brokers) = &self.brokers else { return };
        let consumers = brokers.clients.consumers.len() as u32;
        for consumer in 0..consumers {
            self.broker_after(Duration::ZERO, BrokerEvent::Poll { consumer, number: 0 });
        }
        self.broker_after(Duration::ZERO, BrokerEvent::Publish { number: 0 });
    }

    fn broker_after(&mut self, delay: Duration, event: BrokerEvent) {
        self.after(delay, Event::Broker(event));
    }

    /// Does something with the brokers; afterwards nodes tell the cluster what is new.
    fn with_brokers(&mut self, work: impl FnOnce(&mut Self, &mut Brokers) -> Result) -> Result {
        let Some(mut brokers) = self.brokers.take() else { return Ok(()) };
        let result = work(self, &mut brokers);
        let registrations = std::mem::take(&mut brokers.registrations);
        self.brokers = Some(brokers);
        result?;
        for (node, topic, channel) in registrations {
            let topic = names::topic(topic);
            let channel = channel.map(names::channel);
            let deed = Deed::Registers {
                producer: ProducerId::NSQD,
                topic: &topic,
                channel: channel.as_deref(),
            };
            self.did(node, deed);
            self.local(node, move |registrar, catalogue, time| {
                let channel = channel.as_deref();
                registrar.register(catalogue, ProducerId::NSQD, &topic, channel, time.at);
            })?;
        }
        Ok(())
    }

    pub(super) fn broker(&mut self, event: BrokerEvent) -> Result {
        let (subject, kind, payload) = event.subject();
        if let Some((index, life)) = subject {
            let node = &self.nodes[index as usize];
            if node.life != life {
                return Ok(());
            }
            if node.is_paused() {
                self.broker_after(STANDSTILL, event);
                return Ok(());
            }
        }
        let index = subject.map_or(0, |(node, _)| node as usize);
        self.link(kind, index, u64::from(payload));
        self.with_brokers(|world, b| match event {
            BrokerEvent::Publish { number } => world.publish_some(b, number),
            BrokerEvent::Poll { consumer, number } => {
                world.poll(b, consumer, number);
                Ok(())
            }
            BrokerEvent::Connect { consumer, node } => {
                world.connect_consumer(b, consumer, node as usize)
            }
            BrokerEvent::Turn { conn, .. } => world.consumer_turn(b, index, u64::from(conn)),
            BrokerEvent::Answer { letter } => world.consumer_answers(b, letter),
            BrokerEvent::Round { life, .. } => world.broker_round(b, index, life),
            BrokerEvent::Sync { life, .. } => {
                world.broker_sync(b, index, life);
                Ok(())
            }
            BrokerEvent::Synced { topic, .. } => {
                world.sync_ended(b, index, topic);
                Ok(())
            }
            BrokerEvent::Due { .. } => {
                let now = world.broker_now(index);
                if let Some(shell) = &mut b.hosts[index].shell {
                    shell.armed_at = u64::MAX;
                    shell.expire(now);
                }
                world.settle_broker(b, index);
                Ok(())
            }
            BrokerEvent::Heard { .. } | BrokerEvent::Grace { .. } => {
                let is_heard = matches!(event, BrokerEvent::Heard { .. });
                world.broker_may_create(b, index, is_heard)
            }
        })
    }

    /// A node's clocks as its broker reads them.
    fn broker_now(&self, index: usize) -> Now {
        let time = self.nodes[index].clock.read(self.now);
        Now { mono: time.at, wall: time.wall_ns }
    }

    fn record_broker(&mut self, index: usize, op: &'static str, message: u64) {
        if self.recorder.is_some() {
            self.record(Some(index), What::Broker { op, message });
        }
    }

    /// A producer publishes one message or a few, at a node where the topic has begun.
    fn publish_some(&mut self, b: &mut Brokers, number: u32) -> Result {
        if self.is_healed || b.plan.publish <= 0.0 {
            return Ok(());
        }
        let draw = b.luck.draw(&[PUBLISH, u64::from(number)]);
        let pause = draw.exponential(0, 1.0 / b.plan.publish);
        self.broker_after(super::pause(pause), BrokerEvent::Publish { number: number + 1 });
        let topic = draw.pick(1, b.topics as usize) as u32;
        let (first, count) = (draw.pick(2, self.nodes.len()), self.nodes.len());
        let mut candidates = (0..count).map(|step| (first + step) % count);
        let node = candidates
            .find(|&node| self.nodes[node].is_up() && b.opens_at(topic, node) <= self.now);
        match node {
            Some(node) => self.publish_at(b, node, u64::from(number)),
            None => Ok(()),
        }
    }

    /// A publish reaches a node.
    fn publish_at(&mut self, b: &mut Brokers, index: usize, number: u64) -> Result {
        let draw = b.luck.draw(&[PUBLISH, number]);
        let topic = draw.pick(1, b.topics as usize) as u32;
        let Some(shell) = &mut b.hosts[index].shell else { return Ok(()) };
        if shell.is_exiting {
            b.figures.refused += 1;
            return Ok(());
        }
        if !shell.has_topic(topic) {
            if !shell.may_create() {
                shell.held.push(Held::Publish(number));
                return Ok(());
            }
            if !self.create_topic(b, index, topic)? {
                b.figures.refused += 1;
                self.record_broker(index, "refused", number * BATCH_MAX);
                return Ok(());
            }
        }
        let now = self.broker_now(index);
        let is_deferred = draw.chance(3, b.plan.deferred);
        let delay = b.plan.defer_max.mul_f64(draw.unit(4)).as_millis().max(1) as i64 * 1_000_000;
        let (deliver_at, due) = match is_deferred {
            true => (now.wall + delay, Some(Moment(now.mono.as_nanos() + delay as u64))),
            false => (0, None),
        };
        let count = if draw.chance(5, BATCH_SHARE) { BATCH_MAX } else { 1 };
        let numbers: Vec<u64> = (0..count).map(|at| number * BATCH_MAX + at).collect();
        let mut batch = Batch::new();
        let mut body = vec![b'x'; b.plan.body_bytes.max(8)];
        for number in &numbers {
            body[..8].copy_from_slice(&number.to_le_bytes());
            batch.push(&body, if mutant!(Y07) { 0 } else { deliver_at });
        }
        let is_written = b.is_written();
        let is_fsync = b.is_fsync();
        b.figures.published += count;
        let Some(shell) = &mut b.hosts[index].shell else { return Ok(()) };
        match shell.publish(topic, &mut batch, now) {
            Err(_) => {
                b.figures.refused += count;
                self.record_broker(index, "refused", numbers[0]);
            }
            Ok(end) => {
                b.ledger.stored(index, topic, &numbers, (deliver_at, due), is_written);
                self.record_broker(index, "publish", numbers[0]);
                if !is_fsync || mutant!(Y10) {
                    self.acknowledge(b, &numbers);
                } else if shell.wait_for_device(topic, end, numbers) {
                    self.sync_began(index, topic);
                }
            }
        }
        self.settle_broker(b, index);
        Ok(())
    }

    fn acknowledge(&mut self, b: &mut Brokers, numbers: &[u64]) {
        for &number in numbers {
            b.figures.acknowledged += 1;
            b.ledger.acknowledged(number);
        }
    }

    fn sync_began(&mut self, index: usize, topic: u32) {
        let node = &self.nodes[index];
        let (latency, life) = (node.disk.latency(), node.life);
        let event = BrokerEvent::Synced { node: index as u32, life, topic };
        self.broker_after(latency, event);
    }

    fn sync_ended(&mut self, b: &mut Brokers, index: usize, topic: u32) {
        let Some(shell) = &mut b.hosts[index].shell else { return };
        let (done, refused, again) = shell.end_sync(topic);
        b.figures.refused += refused.len() as u64;
        self.acknowledge(b, &done);
        if again {
            self.sync_began(index, topic);
        }
    }

    /// A topic begins at a node, with every channel that the cluster knows. False: it could not.
    fn create_topic(&mut self, b: &mut Brokers, index: usize, topic: u32) -> Result<bool> {
        let now = self.broker_now(index);
        let host = &mut b.hosts[index];
        let Some(shell) = &mut host.shell else { return Ok(false) };
        if shell.create_topic(&mut host.store, topic, now).is_err() {
            return Ok(false);
        }
        b.ledger.topic_made(index, topic);
        b.registrations.push((index, topic, None));
        let Some(cluster) = self.nodes[index].cluster.as_ref() else { return Ok(false) };
        for channel in channels_for(cluster, topic) {
            self.create_channel(b, index, topic, channel);
        }
        let Some(shell) = &b.hosts[index].shell else { return Ok(false) };
        if shell.is_synced
            && let Some(cluster) = self.nodes[index].cluster.as_ref()
        {
            let mut known = channels_held(cluster, topic);
            let quiet = self.quiet_since.max(b.hosts[index].up_since);
            let then = self.now.saturating_sub(nanos(KNOWN_AFTER));
            if quiet < then && !self.nodes[index].is_stranger {
                known.extend(b.ledger.channels_between(topic, quiet, then));
            }
            b.ledger.topic_began(index, topic, &known)?;
        }
        Ok(true)
    }

    fn create_channel(&mut self, b: &mut Brokers, index: usize, topic: u32, channel: u32) {
        let now = self.broker_now(index);
        let Some(shell) = &mut b.hosts[index].shell else { return };
        if !shell.create_channel(topic, &names::channel(channel), now) {
            return;
        }
        b.ledger.channel_made(index, topic, channel, self.now);
        b.registrations.push((index, topic, Some(channel)));
        // It was saved after that, with everything about the topic; or nothing was.
        if shell.is_saved(topic) {
            b.ledger.saved(index, topic, now);
        }
    }

    /// The cluster has answered, or need not any more: what waited goes on.
    fn broker_may_create(&mut self, b: &mut Brokers, index: usize, is_heard: bool) -> Result {
        let Some(shell) = &mut b.hosts[index].shell else { return Ok(()) };
        shell.is_synced |= is_heard;
        shell.is_grace_over |= !is_heard;
        for held in std::mem::take(&mut shell.held) {
            match held {
                Held::Publish(number) => self.publish_at(b, index, number)?,
                Held::Subscribe(consumer) => self.subscribe(b, consumer, index)?,
            }
        }
        Ok(())
    }

    /// After a broker was called: who was woken gets a turn, the next deadline is watched.
    fn settle_broker(&mut self, b: &mut Brokers, index: usize) {
        let Some(shell) = &mut b.hosts[index].shell else { return };
        let woken = shell.take_woken();
        let node = &self.nodes[index];
        let due = shell.next_due().map(|moment| node.clock.when(moment).max(self.now));
        if let Some(at) = due.filter(|at| *at < shell.armed_at) {
            shell.armed_at = at;
            let event = BrokerEvent::Due { node: index as u32, life: node.life };
            self.queue.add(at, Event::Broker(event));
        }
        for conn in woken {
            self.turn_soon(b, index, conn);
        }
    }
}

/// The channels that a node makes before the first message of a topic, by the core's rule.
fn channels_for(cluster: &Cluster, topic: u32) -> Vec<u32> {
    if mutant!(Y05) {
        return Vec::new();
    }
    if mutant!(Y06) {
        return of_the_living(cluster, topic);
    }
    let row = cluster.catalogue().row(&names::topic(topic));
    let row = row.unwrap_or_default();
    row.lasting_channels().filter_map(names::channel_number).collect()
}

/// A planted bug: who is down has no say.
fn of_the_living(cluster: &Cluster, topic: u32) -> Vec<u32> {
    let name = names::topic(topic);
    let active = cluster.membership().active();
    let catalogue = cluster.catalogue();
    let alive = catalogue.replicas().filter(|(owner, _)| active.contains_key(owner));
    let keys = alive.flat_map(|(_, replica)| replica.section.topic(&name));
    let channels = keys.filter_map(|(key, _)| names::channel_number(&key.channel));
    BTreeSet::from_iter(channels).into_iter().collect()
}

/// The channels of a topic that are registered anywhere in what a node holds of the cluster.
fn channels_held(cluster: &Cluster, topic: u32) -> BTreeSet<u32> {
    let name = names::topic(topic);
    let catalogue = cluster.catalogue();
    let replicas = catalogue.replicas().map(|(_, replica)| &replica.section);
    let keys = replicas.chain([catalogue.own()]).flat_map(|section| section.topic(&name));
    let live = keys.filter(|(_, entry)| entry.value.is_some());
    live.filter_map(|(key, _)| names::channel_number(&key.channel)).collect()
}

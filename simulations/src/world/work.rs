//! What clients do: topics and channels come and go, producers are looked up.

use std::time::Duration;

use grapevine_gossip::ProducerId;
use grapevine_gossip::catalogue::Catalogue;
use grapevine_gossip::registrar::{Now, Registrar};

use super::node::{Made, Node};
use super::outputs::OUTSIDE;
use super::outputs::Parcel;
use super::queue::Event;
use super::{Cause, Deed, World, producer, topic_name};
use crate::luck::{Domain, Draw};
use crate::outcome::Violation;

/// How often a stock nsqd says PING to nsqlookupd: nsqd/lookup.go:34 (nsq 3103474b).
const PING_PERIOD: Duration = Duration::from_secs(15);

/// Share of changes that are about a channel.
const CHANNEL_SHARE: f64 = 0.6;

/// Share of a foreign producer's changes that are the end of its connection.
const HANGUP_SHARE: f64 = 0.1;

/// Which value of a change's [`Draw`] decides what.
mod field {
    pub(super) const PAUSE: u64 = 0;
    pub(super) const NODE: u64 = 1;
    pub(super) const TOPIC: u64 = 2;
    pub(super) const REGISTER: u64 = 3;
    pub(super) const BURST: u64 = 4;
    pub(super) const IS_CHANNEL: u64 = 5;
    pub(super) const CHANNEL: u64 = 6;
    pub(super) const ACTOR: u64 = 7;
    pub(super) const HANGUP: u64 = 8;
}

impl World<'_> {
    pub(super) fn schedule_work(&mut self) {
        self.churn_later(0);
        self.lookup_later(0);
    }

    fn work_draw(&self, kind: u64, number: u32) -> Draw {
        self.workload.draw(&[kind, u64::from(number)])
    }

    fn churn_later(&mut self, number: u32) {
        let rate = self.plan.workload.churn;
        if rate > 0.0 && self.plan.topics > 0 {
            let pause = self.work_draw(0, number).exponential(field::PAUSE, 1.0 / rate);
            self.after(super::pause(pause), Event::Churn { number });
        }
    }

    fn lookup_later(&mut self, number: u32) {
        let rate = self.plan.workload.lookups;
        if rate > 0.0 && self.plan.topics > 0 {
            let pause = self.work_draw(1, number).exponential(field::PAUSE, 1.0 / rate);
            self.after(super::pause(pause), Event::Lookup { number });
        }
    }

    /// Clients of one node change something. Nothing changes once everything is mended.
    pub(super) fn churn(&mut self, number: u32) -> Result<(), Violation> {
        if self.is_healed {
            return Ok(());
        }
        self.churn_later(number + 1);
        let draw = self.work_draw(0, number);
        let index = draw.pick(field::NODE, self.nodes.len());
        if !self.nodes[index].is_up() {
            return Ok(());
        }
        let workload = &self.plan.workload;
        let topic = draw.pick(field::TOPIC, self.plan.topics) as u32;
        let is_channel = workload.channels > 0 && draw.chance(field::IS_CHANNEL, CHANNEL_SHARE);
        let channel = is_channel.then(|| draw.pick(field::CHANNEL, workload.channels) as u32);
        let made = Made { topic, channel };
        let is_burst = draw.chance(field::BURST, workload.bursts);
        let registers = draw.chance(field::REGISTER, workload.register);
        let steps: &[bool] = match (is_burst, registers) {
            (false, true) => &[true],
            (false, false) => &[false],
            (true, true) => &[true, false, true],
            (true, false) => &[false, true, false],
        };
        let actor = draw.pick(field::ACTOR, 1 + self.nodes[index].foreign.len());
        match actor.checked_sub(1) {
            None => self.change(index, made, steps),
            Some(_) if draw.chance(field::HANGUP, HANGUP_SHARE) => self.hang_up(index, actor - 1),
            Some(foreign) => self.change_foreign(index, foreign, made, steps),
        }
    }

    /// A node's own nsqd makes or deletes a topic or a channel, one after the other in one instant.
    fn change(&mut self, index: usize, made: Made, steps: &[bool]) -> Result<(), Violation> {
        let now = self.now;
        for &is_made in steps {
            note(&mut self.nodes[index], now, made, is_made);
        }
        let (topic, channel) = (made.topic_name(), made.channel_name());
        let (topic, channel) = (&*topic, channel.as_deref());
        for &is_made in steps {
            self.did(index, nsqd_deed(topic, channel, is_made));
        }
        let steps = steps.to_vec();
        self.local(index, move |registrar, catalogue, time| {
            for is_made in steps {
                if is_made {
                    registrar.register(catalogue, ProducerId::NSQD, topic, channel, time.at);
                } else {
                    registrar.deleted(catalogue, topic, channel, time.at);
                }
            }
        })
    }

    fn change_foreign(
        &mut self,
        index: usize,
        number: usize,
        made: Made,
        steps: &[bool],
    ) -> Result<(), Violation> {
        let foreign = &mut self.nodes[index].foreign[number];
        let Some(producer) = foreign.producer else {
            self.connect_foreign(index);
            return self.after_local(index);
        };
        for &is_made in steps {
            note_foreign(&mut foreign.made, made, is_made);
        }
        let (topic, channel) = (made.topic_name(), made.channel_name());
        let (topic, channel) = (&*topic, channel.as_deref());
        for &is_made in steps {
            self.did(index, foreign_deed(producer, topic, channel, is_made));
        }
        let steps = steps.to_vec();
        self.local(index, move |registrar, catalogue, time| {
            for is_made in steps {
                if is_made {
                    registrar.register(catalogue, producer, topic, channel, time.at);
                } else {
                    registrar.unregister(catalogue, producer, topic, channel, time.at);
                }
            }
        })
    }

    /// The connection of a foreign producer ends.
    fn hang_up(&mut self, index: usize, number: usize) -> Result<(), Violation> {
        let Some(producer) = self.nodes[index].foreign[number].producer.take() else {
            return Ok(());
        };
        self.did(index, Deed::HangsUp { producer });
        self.local(index, move |registrar, catalogue, time| {
            registrar.gone(catalogue, producer, time.at);
        })
    }

    /// Foreign producers that are not connected connect and register what they have.
    pub(super) fn connect_foreign(&mut self, index: usize) {
        let Node { cluster, foreign, clock, life, .. } = &mut self.nodes[index];
        let Some(cluster) = cluster.as_mut() else { return };
        if foreign.is_empty() {
            return;
        }
        let (time, node, life) = (clock.read(self.now), index as u32, *life);
        let (oracle, now) = (&mut self.oracle, super::Moment(self.now));
        let is_first = foreign.iter().all(|foreign| foreign.producer.is_none());
        cluster.local(time, |registrar, catalogue| {
            for (number, foreign) in (1..).zip(foreign.iter_mut()) {
                if foreign.producer.is_some() {
                    continue;
                }
                let what = producer(index, number);
                let id = registrar.connected(catalogue, what.clone(), time);
                oracle.did(index, &Deed::Describes { producer: id, what: &what }, now);
                foreign.producer = Some(id);
                for made in &foreign.made {
                    let (topic, channel) = (made.topic_name(), made.channel_name());
                    let (topic, channel) = (&*topic, channel.as_deref());
                    oracle.did(index, &foreign_deed(id, topic, channel, true), now);
                    registrar.register(catalogue, id, topic, channel, time.at);
                }
            }
        });
        if is_first {
            self.after(PING_PERIOD, Event::Ping { node, life });
        }
    }

    pub(super) fn ping(&mut self, index: usize, life: u32) -> Result<(), Violation> {
        if self.nodes[index].life != life {
            return Ok(());
        }
        self.after(PING_PERIOD, Event::Ping { node: index as u32, life });
        if !self.nodes[index].is_up() {
            return Ok(());
        }
        let foreign = self.nodes[index].foreign.iter();
        let producers: Vec<ProducerId> = foreign.filter_map(|foreign| foreign.producer).collect();
        for &producer in &producers {
            self.did(index, Deed::Pings { producer });
        }
        self.local(index, move |registrar, catalogue, time| {
            for producer in producers {
                registrar.seen(catalogue, producer, time);
            }
        })
    }

    /// What a new node has from the beginning.
    pub(super) fn make_initial(&mut self, index: usize) {
        let (count, topics) = (self.plan.workload.initial, self.plan.topics);
        if topics == 0 || self.nodes[index].starts > 1 {
            return;
        }
        let draw = Domain::new(self.plan.seed, "initial").draw(&[index as u64]);
        let first = draw.pick(0, topics);
        for number in 0..count.min(topics) {
            let topic = ((first + number) % topics) as u32;
            self.nodes[index].note(self.now, Made { topic, channel: None }, true);
        }
    }

    /// The operator makes many topics at once, or deletes them again.
    pub(super) fn burst(
        &mut self,
        index: usize,
        topics: usize,
        channels: usize,
        is_made: bool,
    ) -> Result<(), Violation> {
        let topics = 0..u32::try_from(topics).unwrap_or(u32::MAX);
        let channels = 0..u32::try_from(channels).unwrap_or(u32::MAX);
        let all: Vec<Made> = topics
            .flat_map(|topic| {
                let topic = Made::BURST + topic;
                let whole = std::iter::once(Made { topic, channel: None });
                whole.chain(channels.clone().map(move |c| Made { topic, channel: Some(c) }))
            })
            .collect();
        let (now, node) = (self.now, &mut self.nodes[index]);
        if !node.is_up() {
            return Ok(());
        }
        for &made in &all {
            node.note(now, made, is_made);
        }
        for made in all.iter().filter(|made| is_made || made.channel.is_none()) {
            let (topic, channel) = (made.topic_name(), made.channel_name());
            self.did(index, nsqd_deed(&topic, channel.as_deref(), is_made));
        }
        self.local(index, move |registrar, catalogue, time| {
            for made in all {
                let (topic, channel) = (made.topic_name(), made.channel_name());
                let channel = channel.as_deref();
                if is_made {
                    registrar.register(catalogue, ProducerId::NSQD, &topic, channel, time.at);
                } else if channel.is_none() {
                    registrar.deleted(catalogue, &topic, None, time.at);
                }
            }
        })
    }

    /// Somebody asks node `at` to hide node `of`'s producer of a topic.
    pub(super) fn tombstone(
        &mut self,
        at: usize,
        of: usize,
        topic: usize,
    ) -> Result<(), Violation> {
        let (topic, node) = (topic_name(topic), producer(of, 0).node());
        self.did(of, Deed::Hides { topic: &topic });
        self.local(at, move |registrar, catalogue, time| {
            registrar.tombstone(catalogue, &topic, &node, time);
        })
    }

    /// Tells the oracle what somebody is about to do at a node.
    pub(super) fn did(&mut self, index: usize, deed: Deed<'_>) {
        let now = self.moment();
        self.oracle.did(index, &deed, now);
    }

    /// Local facts are written into a node's section, if its process can do anything.
    pub(super) fn local(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut Registrar, &mut Catalogue, Now),
    ) -> Result<(), Violation> {
        let outside = self.note_progress(Some(index as u32));
        let node = &mut self.nodes[index];
        if node.is_paused() {
            return Ok(());
        }
        let time = node.clock.read(self.now);
        let Some(cluster) = node.cluster.as_mut() else { return Ok(()) };
        cluster.local(time, |registrar, catalogue| what(registrar, catalogue, time));
        let done = self.after_local(index);
        self.note_progress(outside);
        done
    }

    fn after_local(&mut self, index: usize) -> Result<(), Violation> {
        let Some(cluster) = self.nodes[index].cluster.as_ref() else { return Ok(()) };
        let own = cluster.catalogue().own();
        let (epoch, ver) = (own.epoch, own.ver);
        self.link(Event::Churn { number: 0 }.kind(), index, epoch ^ ver);
        self.settle(index, Cause::Local)
    }

    /// A client asks one node for the producers of a topic.
    pub(super) fn lookup(&mut self, number: u32) -> Result<(), Violation> {
        self.lookup_later(number + 1);
        let draw = self.work_draw(1, number);
        let index = draw.pick(field::NODE, self.nodes.len());
        let node = &self.nodes[index];
        let Some(cluster) = node.cluster.as_ref().filter(|_| node.is_up()) else { return Ok(()) };
        let topic = topic_name(draw.pick(field::TOPIC, self.plan.topics));
        self.oracle.lookup(index, &topic, cluster, super::Moment(self.now))
    }

    /// A datagram from somebody who is no node.
    pub(super) fn send_from_outside(&mut self, to: usize, bytes: Vec<u8>) {
        self.messages += 1;
        let parcel = Parcel {
            id: self.messages,
            from: OUTSIDE,
            source: std::net::SocketAddr::from(([192, 0, 2, 7], 4162)),
            moves: self.nodes[to].moves,
            lamport: 0,
            copies: 1,
            bytes,
        };
        let parcel = self.parcels.add(parcel);
        self.queue.add(self.now, Event::Datagram { to: to as u32, parcel });
    }
}

/// A node's own nsqd makes or deletes a topic or a channel.
fn nsqd_deed<'a>(topic: &'a str, channel: Option<&'a str>, is_made: bool) -> Deed<'a> {
    if is_made {
        return Deed::Registers { producer: ProducerId::NSQD, topic, channel };
    }
    Deed::Deletes { topic, channel }
}

/// The same for a foreign producer.
fn foreign_deed<'a>(
    producer: ProducerId,
    topic: &'a str,
    channel: Option<&'a str>,
    is_made: bool,
) -> Deed<'a> {
    if is_made {
        return Deed::Registers { producer, topic, channel };
    }
    Deed::Unregisters { producer, topic, channel }
}

/// Notes what a node's nsqd then has: a channel has its topic, and goes with it.
fn note(node: &mut Node, now: u64, made: Made, is_made: bool) {
    if is_made {
        node.note(now, Made { channel: None, ..made }, true);
        node.note(now, made, true);
        return;
    }
    node.note(now, made, false);
    if made.channel.is_none() {
        let of_topic = |other: &&Made| other.topic == made.topic;
        let channels: Vec<Made> = node.made.iter().filter(of_topic).copied().collect();
        for channel in channels {
            node.note(now, channel, false);
        }
    }
}

fn note_foreign(had: &mut std::collections::BTreeSet<Made>, made: Made, is_made: bool) {
    if is_made {
        had.insert(Made { channel: None, ..made });
        had.insert(made);
    } else if made.channel.is_none() {
        had.retain(|other| other.topic != made.topic);
    } else {
        had.remove(&made);
    }
}

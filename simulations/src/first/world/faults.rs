//! What befalls nodes: faults, starts and ends of processes, and changes of topics.

use std::time::Duration;

use grapevine_gossip::cluster::{Boot, Cluster};
use grapevine_gossip::{Producer, ProducerId};
use rand::RngExt;
use std::hash::Hasher;

use super::{CHANNELS, Event, TOPICS, World};
use crate::first::oracle::Violation;
use crate::first::scenario::Fault;

impl World {
    pub(super) fn cause(&mut self, fault: Fault) -> Result<(), Violation> {
        self.hasher.write(format!("{fault:?}").as_bytes());
        match fault {
            Fault::Partition(sides) => {
                for (one, side) in sides.iter().enumerate() {
                    for other in (0..sides.len()).filter(|&other| sides[other] != *side) {
                        self.network.cut(one, other);
                    }
                }
            }
            Fault::OneWay(from, to) => self.network.cut(from, to),
            Fault::Heal => self.network.heal(),
            Fault::Crash(node) => self.end_process(node),
            Fault::Leave(node) => {
                let time = self.time(node);
                if let Some(cluster) = self.nodes[node].cluster.as_mut() {
                    cluster.leave(time);
                    self.nodes[node].is_leaving = true;
                    return self.after_input(node, false);
                }
            }
            Fault::Start(node) => return self.start(node),
            Fault::Stall(node, pause) => {
                if !self.nodes[node].stalled {
                    self.nodes[node].stalled = true;
                    self.after(pause, Event::Resume(node));
                }
            }
        }
        Ok(())
    }

    pub(super) fn start(&mut self, index: usize) -> Result<(), Violation> {
        if self.nodes[index].is_leaving && self.nodes[index].cluster.is_some() {
            self.end_process(index);
        }
        if self.nodes[index].cluster.is_some() {
            return Ok(());
        }
        let seed = self.rng.random();
        if self.nodes[index].life > 0 && self.rng.random_bool(self.scenario.rollbacks) {
            // The disk comes from a backup, and the clock is wrong: the epoch may be an old one.
            self.nodes[index].epoch /= 2;
            self.nodes[index].wall_offset_ms = self.rng.random_range(-7_200_000..3_600_000);
        }
        let time = self.time(index);
        let wall_ms = u64::try_from(time.wall_ns / 1_000_000).unwrap_or(0);
        let node = &mut self.nodes[index];
        node.life += 1;
        node.is_leaving = false;
        node.epoch = wall_ms.max(node.epoch + 1);
        let boot = Boot {
            node: node.id,
            epoch: node.epoch,
            addr: node.addr,
            seeds: 2.min(self.scenario.nodes),
            peers: node.peers.clone(),
            cluster_name: "simulated".to_owned(),
            timings: self.scenario.timings.clone(),
            inactive_producer_timeout: Duration::from_secs(300),
            tombstone_lifetime: Duration::from_secs(45),
            seed,
        };
        let mut cluster = Cluster::new(boot, time);
        let number = u16::try_from(index + 1).unwrap_or(u16::MAX);
        let producer = Producer { tcp_port: number, http_port: number, ..Producer::default() };
        let registered = node.registered.clone();
        cluster.local(time, |registrar, catalogue| {
            registrar.set_own_producer(catalogue, producer, time);
            for (topic, channel) in registered {
                let channel = channel.map(|channel| format!("c{channel}"));
                let topic = format!("t{topic}");
                let nsqd = ProducerId::NSQD;
                registrar.register(catalogue, nsqd, &topic, channel.as_deref(), time.at);
            }
        });
        node.cluster = Some(cluster);
        self.oracle.begin_life(node.id);
        self.after_input(index, true)
    }

    pub(super) fn end_process(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.cluster = None;
        node.wake_at = None;
        node.waiting.clear();
        node.life += 1;
        self.oracle.forget_beliefs(index);
        self.break_pipes(index);
    }

    /// A node's nsqd creates or deletes a topic or a channel.
    pub(super) fn change(&mut self) -> Result<(), Violation> {
        let index = self.rng.random_range(0..self.nodes.len());
        let topic = self.rng.random_range(0..TOPICS);
        let channel = self.rng.random_bool(0.6).then(|| self.rng.random_range(0..CHANNELS));
        let is_creation = self.rng.random_bool(0.55);
        let time = self.time(index);
        let node = &mut self.nodes[index];
        let Some(cluster) = node.cluster.as_mut().filter(|_| !node.stalled) else { return Ok(()) };
        if is_creation {
            node.registered.insert((topic, None));
            node.registered.insert((topic, channel));
        } else if channel.is_some() {
            node.registered.remove(&(topic, channel));
        } else {
            node.registered.retain(|(of, _)| *of != topic);
        }
        let (topic, channel) = (format!("t{topic}"), channel.map(|channel| format!("c{channel}")));
        cluster.local(time, |registrar, catalogue| {
            if is_creation {
                let nsqd = ProducerId::NSQD;
                registrar.register(catalogue, nsqd, &topic, channel.as_deref(), time.at);
            } else {
                registrar.deleted(catalogue, &topic, channel.as_deref(), time.at);
            }
        });
        self.after_input(index, true)
    }
}

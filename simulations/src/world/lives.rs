//! Starts and ends of processes.

use std::time::Duration;

use grapevine_gossip::cluster::{Boot, Cluster};
use grapevine_gossip::config::Timings;
use grapevine_gossip::identity::next_epoch;
use grapevine_gossip::{NodeId, ProducerId};

use super::node::{Made, Node, addr_of};
use super::queue::Event;
use super::{Cause, Deed, End, World, nanos, producer};
use crate::disk::{self, Write};
use crate::luck::Domain;
use crate::outcome::Violation;
use crate::plan::{DiskFate, Knobs};
use crate::trace::What;

/// Name of the simulated cluster, and of the one that strangers think they are in.
pub(super) const CLUSTER: &str = "simulated";
const OTHER_CLUSTER: &str = "another";

/// `--inactive-producer-timeout` and `--tombstone-lifetime`: nsqlookupd's defaults.
const INACTIVE_AFTER: Duration = Duration::from_secs(300);
const TOMBSTONE_LIFETIME: Duration = Duration::from_secs(45);

impl World<'_> {
    /// A node's process starts, if none runs: it reads its disk and writes a greater epoch.
    pub(super) fn start(&mut self, index: usize, fault: u32) -> Result<(), Violation> {
        if self.nodes[index].is_leaving && self.nodes[index].cluster.is_some() {
            self.end_process(index, End::Left);
        }
        self.link(Event::Start { node: 0, fault }.kind(), index, u64::from(fault));
        if let Some(active) = self.active.get_mut(fault as usize)
            && std::mem::take(active)
        {
            self.tell_fault(fault as usize, false);
        }
        let node = &self.nodes[index];
        if node.cluster.is_some() || node.is_booting {
            return Ok(());
        }
        self.befall_disk(index);
        let draw = Domain::new(self.plan.seed, "node")
            .draw(&[index as u64, u64::from(self.nodes[index].starts)]);
        let node = &mut self.nodes[index];
        node.starts += 1;
        node.life += 1;
        node.is_booting = true;
        node.is_leaving = false;
        node.has_left = false;
        node.is_dark = false;
        node.clock.begin(self.now);
        let mut latency = node.disk.latency();
        if node.disk.files().node.is_none() {
            node.disk.begin(Write::Node(NodeId(draw.word(0).max(1))));
            latency *= 2;
        }
        let wall_ms = u64::try_from(node.clock.wall_ns(self.now) / 1_000_000).unwrap_or(0);
        node.id = node.disk.files().node.unwrap_or(NodeId(draw.word(0).max(1)));
        self.oracle.found(index, node.id, node.disk.files().epoch);
        node.epoch = next_epoch(node.disk.files().epoch, wall_ms, draw.word(1));
        node.disk.begin(Write::Epoch(node.epoch));
        let event = Event::Booted { node: index as u32, life: node.life };
        self.after(latency, event);
        Ok(())
    }

    /// The epoch is on disk: the node begins to talk. On a disk that takes nothing the start
    /// fails, and whoever supervises the process tries again.
    pub(super) fn booted(&mut self, index: usize, life: u32) -> Result<(), Violation> {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.life != life || !node.is_booting {
            return Ok(());
        }
        let is_kept =
            node.disk.files().node == Some(node.id) || node.disk.finish(now, &Write::Node(node.id));
        if !is_kept || !node.disk.finish(now, &Write::Epoch(node.epoch)) {
            let again = Event::Booted { node: index as u32, life };
            self.after(disk::RETRY, again);
            return Ok(());
        }
        node.is_booting = false;
        let boot = self.boot(index);
        let node = &mut self.nodes[index];
        let time = node.clock.read(now);
        let epoch = node.epoch;
        node.cluster = Some(Cluster::new(boot, time));
        let (id, addr) = (node.id, node.addr);
        self.index_of_id.insert(id, index as u32);
        if let Some(cluster) = node.cluster.as_mut() {
            self.oracle.started(index, addr, cluster, super::Moment(now));
        }
        self.link(Event::Booted { node: 0, life }.kind(), index, id.0 ^ epoch);
        self.record(Some(index), What::Life { to: "up", epoch });
        self.record(Some(index), What::Persist { epoch });
        self.make_initial(index);
        self.describe_node(index);
        self.start_broker(index)?;
        self.settle(index, Cause::Start)
    }

    fn boot(&self, index: usize) -> Boot {
        let node = &self.nodes[index];
        let luck = Domain::new(self.plan.seed, "core");
        let name = if node.is_stranger { OTHER_CLUSTER } else { CLUSTER };
        Boot {
            node: node.id,
            epoch: node.epoch,
            addr: node.addr,
            seeds: self.plan.seeds.len(),
            peers: node.disk.files().peers.clone(),
            cluster_name: name.to_owned(),
            timings: timings(&self.plan.knobs),
            inactive_producer_timeout: INACTIVE_AFTER,
            tombstone_lifetime: TOMBSTONE_LIFETIME,
            seed: luck.draw(&[index as u64, u64::from(node.starts)]).word(0),
        }
    }

    /// What the node's nsqd and its foreign producers have is written into its section.
    fn describe_node(&mut self, index: usize) {
        let now = self.moment();
        let node = &mut self.nodes[index];
        let time = node.clock.read(self.now);
        let Node { cluster, made, foreign, addr, .. } = node;
        let Some(cluster) = cluster.as_mut() else { return };
        let oracle = &mut self.oracle;
        cluster.local(time, |registrar, catalogue| {
            let mut own = producer(index, 0);
            own.remote_address = addr.to_string();
            oracle.did(index, &Deed::Describes { producer: ProducerId::NSQD, what: &own }, now);
            registrar.set_own_producer(catalogue, own, time);
            // Ephemeral channels ended with the process that had them.
            made.retain(|made| made.topic < Made::BURST || made.channel.is_none());
            for made in made.iter() {
                let (topic, channel) = (made.topic_name(), made.channel_name());
                let (producer, topic, channel) = (ProducerId::NSQD, &*topic, channel.as_deref());
                oracle.did(index, &Deed::Registers { producer, topic, channel }, now);
                registrar.register(catalogue, producer, topic, channel, time.at);
            }
            for foreign in foreign.iter_mut() {
                foreign.producer = None;
            }
        });
        self.connect_foreign(index);
    }

    /// A process ends, and everything that was only in it.
    pub(super) fn end_process(&mut self, index: usize, how: End) {
        let now = self.moment();
        let node = &mut self.nodes[index];
        node.is_booting = false;
        node.life += 1;
        node.armed_at = u64::MAX;
        node.armed_for = None;
        node.busy_until = 0;
        node.turn_at = None;
        node.writes.clear();
        let is_dark = node.is_dark;
        let Some(cluster) = node.cluster.take() else { return };
        let parcels = node.inbox.clear();
        for (name, count) in cluster.counters() {
            *self.stats.counters.entry(name.to_owned()).or_default() += count;
        }
        for parcel in parcels {
            self.drop_parcel(index, parcel, "dead");
        }
        self.end_broker(index);
        self.end_streams(index, is_dark, how);
        self.oracle.ended(index, now, how);
        self.ledger_ended(index);
        let to = match how {
            End::Crashed => "crashed",
            End::Left => "left",
        };
        let epoch = self.nodes[index].epoch;
        self.record(Some(index), What::Life { to, epoch });
    }

    /// The process is killed; with [`DiskFate::PowerLoss`] the whole machine goes.
    pub(super) fn crash(&mut self, index: usize, fate: DiskFate, moves: bool) {
        let luck = Domain::new(self.plan.seed, "disk");
        let node = &mut self.nodes[index];
        let draw = luck.draw(&[index as u64, u64::from(node.starts)]);
        node.is_dark = fate == DiskFate::PowerLoss;
        match fate {
            DiskFate::PowerLoss => node.disk.lose_power(self.now, draw),
            _ => node.disk.crash(self.now, draw),
        }
        node.fate = Some(fate);
        self.end_process(index, End::Crashed);
        if fate == DiskFate::PowerLoss {
            self.broker_loses_power(index);
        }
        if moves {
            let node = &mut self.nodes[index];
            node.moves = node.moves.wrapping_add(1);
            node.addr = addr_of(index, node.moves);
        }
    }

    /// What was decided about the disk of a node that starts comes true.
    fn befall_disk(&mut self, index: usize) {
        let now = self.now;
        let Some(fate) = self.nodes[index].fate.take() else { return };
        self.befall_broker(index, fate);
        let (files, made) = match fate {
            DiskFate::CloneOf(of) => {
                let Some(other) = self.nodes.get(of) else { return };
                (Some(other.disk.files().clone()), Some(other.made.clone()))
            }
            DiskFate::Lose => (None, Some(std::collections::BTreeSet::new())),
            DiskFate::Old(age) => {
                let then = now.saturating_sub(nanos(age));
                (None, Some(self.nodes[index].made_at(then)))
            }
            DiskFate::Keep | DiskFate::PowerLoss => (None, None),
        };
        let node = &mut self.nodes[index];
        node.disk.befall(now, fate, files);
        if let Some(made) = made {
            let old: Vec<Made> = node.made.iter().copied().collect();
            for gone in old.into_iter().filter(|old| !made.contains(old)) {
                node.note(now, gone, false);
            }
            for found in made {
                node.note(now, found, true);
            }
        }
    }
}

/// The protocol's periods and bounds in a run with these knobs.
pub(crate) fn timings(knobs: &Knobs) -> Timings {
    let usual = Timings::default();
    Timings {
        probe_period: knobs.probe_period.unwrap_or(usual.probe_period),
        probe_rtt: knobs.probe_rtt.unwrap_or(usual.probe_rtt),
        suspicion: knobs.suspicion.unwrap_or(usual.suspicion),
        spread_period: knobs.spread_period.unwrap_or(usual.spread_period),
        digest_period: knobs.digest_period.unwrap_or(usual.digest_period),
        reconnect_period: knobs.reconnect_period.unwrap_or(usual.reconnect_period),
        deletions_kept: knobs.deletions_kept.unwrap_or(usual.deletions_kept),
        detached_kept: knobs.detached_kept.unwrap_or(usual.detached_kept),
        ..usual
    }
}

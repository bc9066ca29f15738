//! Brokers start, keep their files, stop, crash, and give account at the end.

use std::time::Duration;

use grapevine_broker::Now;
use grapevine_gossip::ProducerId;
use grapevine_protocol::Moment;

use super::{BrokerEvent, Result};
use crate::broker::ledger::{Left, Survival};
use crate::broker::shell::{Answer, Shell};
use crate::broker::{Brokers, POWER, ROOM, names};
use crate::luck::Domain;
use crate::plan::{DiskFate, DiskTrouble};
use crate::world::{Deed, World, nanos};

/// Time between checkpoints; see `src/node/storekeeper.rs`.
const ROUND: Duration = Duration::from_secs(1);

/// `--sync-timeout`: nsqd's default.
const SYNC_TIMEOUT: Duration = Duration::from_secs(2);

/// `--init-grace`: the default.
const INIT_GRACE: Duration = Duration::from_secs(5);

/// Time after the healing in which consumers find every node and take all that is there, beyond
/// deferrals and timeouts.
const CATCH_UP: Duration = Duration::from_secs(15);

/// A day, in ns: after it everything is due.
const DAY_NS: u64 = 86_400_000_000_000;

impl World<'_> {
    /// A node begins to talk: its broker loads what is there and registers it.
    pub(in crate::world) fn start_broker(&mut self, index: usize) -> Result {
        let now = self.broker_now(index);
        let Some(b) = self.brokers.as_deref_mut() else { return Ok(()) };
        let options = b.options(index);
        let host = &mut b.hosts[index];
        host.up_since = self.now;
        let shell = match Shell::start(&host.store, options, now) {
            Ok(shell) => shell,
            Err(error) => {
                let what = format!("cannot-load={:?}", error.kind());
                return Err(self.violation("M1", "nothing-lost", index, what));
            }
        };
        let topics = shell.topics();
        b.ledger.all_loaded(index, &topics)?;
        let mut found = Vec::new();
        for topic in topics {
            let channels = shell.channels(topic);
            b.ledger.loaded(index, topic, &channels, now)?;
            found.push((topic, channels));
        }
        host.shell = Some(shell);
        let node = &mut self.nodes[index];
        let (time, life) = (node.clock.read(self.now), node.life);
        if let Some(cluster) = node.cluster.as_mut() {
            let (oracle, producer) = (&mut self.oracle, ProducerId::NSQD);
            let now = Moment(self.now);
            cluster.local(time, |registrar, catalogue| {
                let mut register = |topic: &str, channel: Option<&str>| {
                    oracle.did(index, &Deed::Registers { producer, topic, channel }, now);
                    registrar.register(catalogue, producer, topic, channel, time.at);
                };
                for (topic, channels) in &found {
                    let topic = names::topic(*topic);
                    register(&topic, None);
                    for channel in channels {
                        register(&topic, Some(&names::channel(*channel)));
                    }
                }
            });
        }
        let node = index as u32;
        self.broker_after(ROUND, BrokerEvent::Round { node, life });
        self.broker_after(INIT_GRACE, BrokerEvent::Grace { node, life });
        if self.brokers.as_ref().is_some_and(|b| !b.is_fsync()) {
            self.broker_after(SYNC_TIMEOUT, BrokerEvent::Sync { node, life });
        }
        self.with_brokers(|world, b| {
            world.settle_broker(b, index);
            Ok(())
        })
    }

    /// A node has heard of the cluster, or will not.
    pub(in crate::world) fn broker_hears(&mut self, index: usize) {
        if self.brokers.is_some() {
            let life = self.nodes[index].life;
            self.broker_after(Duration::ZERO, BrokerEvent::Heard { node: index as u32, life });
        }
    }

    /// Checkpoints of everything that changed, and accounts.
    pub(super) fn broker_round(&mut self, b: &mut Brokers, index: usize, life: u32) -> Result {
        self.broker_after(ROUND, BrokerEvent::Round { node: index as u32, life });
        let now = self.broker_now(index);
        let host = &mut b.hosts[index];
        let Some(shell) = &mut host.shell else { return Ok(()) };
        shell.round_of_node(&host.store);
        for topic in shell.topics() {
            if shell.round(topic, now) == Some(true) {
                b.ledger.saved(index, topic, now);
            }
            let counts = shell.counts(topic, now);
            b.ledger.counted(index, topic, &counts)?;
        }
        host.store.remember(self.now);
        self.settle_broker(b, index);
        Ok(())
    }

    /// The background sync.
    pub(super) fn broker_sync(&mut self, b: &mut Brokers, index: usize, life: u32) {
        self.broker_after(SYNC_TIMEOUT, BrokerEvent::Sync { node: index as u32, life });
        let host = &mut b.hosts[index];
        let Some(shell) = &mut host.shell else { return };
        for topic in shell.topics() {
            if shell.sync_now(topic) && !host.has_lied {
                b.ledger.synced(index, topic);
            }
        }
    }

    /// A node is told to stop: clients go, everything is written.
    pub(in crate::world) fn stop_broker(&mut self, index: usize) {
        let now = self.broker_now(index);
        let Some(mut brokers) = self.brokers.take() else { return };
        let b = &mut *brokers;
        self.hang_up_all(b, index);
        let host = &mut b.hosts[index];
        if let Some(shell) = &mut host.shell {
            for (topic, is_saved) in shell.stop(&host.store, now) {
                b.ledger.written(index, topic);
                if is_saved {
                    b.ledger.saved(index, topic, now);
                }
            }
        }
        self.brokers = Some(brokers);
    }

    /// Every client of a node loses its connection; what it held is ready again.
    fn hang_up_all(&mut self, b: &mut Brokers, index: usize) {
        for (conn, state) in b.clients.hang_up(index) {
            if let Some(shell) = &mut b.hosts[index].shell {
                shell.unsubscribe(state.topic, state.channel, conn);
            }
            b.ledger.hung_up((index, state.topic, state.channel, conn));
            let event = BrokerEvent::Connect { consumer: state.consumer, node: index as u32 };
            self.broker_after(Duration::from_millis(500), event);
        }
    }

    /// A process ended.
    pub(in crate::world) fn end_broker(&mut self, index: usize) {
        let Some(mut brokers) = self.brokers.take() else { return };
        let b = &mut *brokers;
        if let Some(shell) = b.hosts[index].shell.take() {
            for consumer in shell.held_consumers() {
                b.clients.consumers[consumer as usize].links.remove(&index);
            }
            drop(shell);
            self.hang_up_all(b, index);
            b.ledger.crashed(index, Survival::Written);
        }
        self.brokers = Some(brokers);
    }

    /// A machine lost power.
    pub(in crate::world) fn broker_loses_power(&mut self, index: usize) {
        let starts = u64::from(self.nodes[index].starts);
        let Some(b) = self.brokers.as_deref_mut() else { return };
        let is_fsync = b.is_fsync();
        let host = &mut b.hosts[index];
        host.store.lose_power(b.luck.draw(&[POWER, index as u64, starts]), host.torn);
        let survival = match (is_fsync, host.has_lied) {
            (_, true) => Survival::Unknown,
            (true, false) => Survival::Synced,
            (false, false) => Survival::Power,
        };
        b.ledger.crashed(index, survival);
    }

    /// What was decided about the disk of a node that starts comes true.
    pub(in crate::world) fn befall_broker(&mut self, index: usize, fate: DiskFate) {
        let now = self.now;
        let Some(b) = self.brokers.as_deref_mut() else { return };
        match fate {
            DiskFate::Keep | DiskFate::PowerLoss => return,
            DiskFate::Lose => b.hosts[index].store.lose(),
            DiskFate::Old(age) => {
                b.hosts[index].store.go_back(now.saturating_sub(nanos(age)));
            }
            DiskFate::CloneOf(of) => {
                let Some(other) = b.hosts.get_mut(of).filter(|_| of != index) else { return };
                let other = std::mem::take(&mut other.store);
                b.hosts[index].store.become_like(&other);
                b.hosts[of].store = other;
            }
        }
        b.ledger.crashed(index, Survival::Unknown);
    }

    /// What is wrong with a node's disk changes.
    pub(in crate::world) fn trouble_broker(&mut self, index: usize, troubles: &[DiskTrouble]) {
        let Some(b) = self.brokers.as_deref_mut() else { return };
        let host = &mut b.hosts[index];
        let draw = Domain::new(self.plan.seed, "broker room").draw(&[ROOM, index as u64, self.now]);
        host.store.set_troubles(troubles, draw);
        host.has_lied |= troubles.contains(&DiskTrouble::FsyncLies);
        host.torn = troubles.iter().find_map(|trouble| match trouble {
            DiskTrouble::Torn(p) => Some(*p),
            DiskTrouble::Slow(_) | DiskTrouble::Full | DiskTrouble::FsyncLies => None,
        });
    }

    /// The run is over: everything that is left is taken out and compared with what is owed.
    pub(in crate::world) fn finish_broker(&mut self) -> Result {
        let healed = self.plan.heal_at.filter(|_| self.plan.core.is_none());
        self.with_brokers(|world, b| {
            let patience = CATCH_UP + b.plan.defer_max + 4 * b.plan.msg_timeout;
            let is_over = healed.is_some_and(|heal| nanos(heal + patience) <= world.now);
            let has_consumers = b.plan.consumers > 0 && b.plan.requeue < 0.9;
            for index in 0..world.nodes.len() {
                let node = &world.nodes[index];
                let is_found = node.is_up() && !node.is_stranger && !node.is_leaving;
                let is_due = is_over && has_consumers && is_found && !b.hosts[index].has_jumps;
                let now = world.broker_now(index);
                world.hang_up_all(b, index);
                let later = Now { mono: Moment(now.mono.as_nanos() + DAY_NS), ..now };
                let Some(shell) = &mut b.hosts[index].shell else { continue };
                if shell.is_exiting {
                    continue;
                }
                for topic in shell.topics() {
                    for channel in b.ledger.channels(index, topic) {
                        let left = drain(shell, topic, channel, later);
                        let left = left.map_err(|error| {
                            let what = format!("topic=m{topic:03} cannot-read={:?}", error.kind());
                            world.violation("M1", "nothing-lost", index, what)
                        })?;
                        b.ledger.settled(index, topic, channel, &left, is_due)?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Takes everything out of a channel.
fn drain(shell: &mut Shell, topic: u32, channel: u32, now: Now) -> std::io::Result<Left> {
    let mut left = Left::default();
    shell.expire(now);
    let Some(conn) = shell.subscribe(topic, channel, u64::MAX / 2) else { return Ok(left) };
    loop {
        let (got, _) = shell.pull(topic, channel, conn, now)?;
        if got.is_empty() && shell.park(topic, channel, conn, now) {
            return Ok(left);
        }
        for message in got {
            *left.0.entry(message.number).or_default() += 1;
            let whose = (topic, channel, conn);
            shell.answer(whose, message.id, Answer::Finish, now).ok();
        }
    }
}

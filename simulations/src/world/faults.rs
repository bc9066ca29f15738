//! Faults begin and end, and everything is mended.

use std::time::Duration;

use super::lives::CLUSTER;
use super::node::Node;
use super::outputs::LEAVE_NS_MAX;
use super::queue::Event;
use super::{Cause, World, nanos};
use crate::luck::Domain;
use crate::outcome::Violation;
use crate::plan::Fault;
use crate::trace::What;
use grapevine_gossip::NodeId;
use grapevine_gossip::coverage;
use grapevine_gossip::envelope::{Seal, Sender, WIRE_VERSION};

/// Longest random datagram, in bytes: more than any node sends.
const JUNK_BYTES_MAX: usize = 1500;

impl World<'_> {
    pub(super) fn begin_fault(&mut self, index: usize) -> Result<(), Violation> {
        let timed = self.plan.faults[index].clone();
        self.link(Event::Begin { fault: 0 }.kind(), 0, index as u64);
        let fault_number = index as u32;
        self.active[index] = true;
        self.tell_fault(index, true);
        if let Some(lasts) = timed.lasts {
            self.after(lasts, Event::End { fault: fault_number });
        }
        match timed.fault {
            Fault::Partition(_) | Fault::Link { .. } => self.update_network(),
            Fault::Crash { node, restart, disk, moves } => {
                self.crash(node, disk, moves);
                self.restart_later(node, restart, fault_number);
            }
            Fault::Start { node } => {
                self.queue.add(self.now, Event::Start { node: node as u32, fault: fault_number });
            }
            Fault::Leave { node, restart } => {
                self.restart_later(node, restart, fault_number);
                if restart.is_none() {
                    self.end_now(index);
                }
                return self.leave(node, restart.is_none());
            }
            Fault::Pause { node } => {
                self.nodes[node].pauses += 1;
                let epoch = self.nodes[node].epoch;
                self.record(Some(node), What::Life { to: "paused", epoch });
            }
            Fault::SlowCpu { .. } | Fault::Disk { .. } | Fault::Wire { .. } => {
                return self.update_nodes();
            }
            Fault::Clock { node, wall_jump_ms, rate } => {
                self.nodes[node].clock.jump(wall_jump_ms);
                if (rate - 1.0).abs() < f64::EPSILON {
                    self.end_now(index);
                }
                return self.update_clock(node);
            }
            Fault::Junk { .. } => {
                self.queue.add(self.now, Event::Junk { fault: fault_number, number: 0 });
            }
            Fault::Burst { node, topics, channels, delete_after } => {
                match delete_after {
                    Some(after) => self.after(after, Event::End { fault: fault_number }),
                    None => self.end_now(index),
                }
                return self.burst(node, topics, channels, true);
            }
            Fault::Tombstone { at, of, topic } => {
                self.end_now(index);
                return self.tombstone(at, of, topic);
            }
        }
        Ok(())
    }

    pub(super) fn end_fault(&mut self, index: usize) -> Result<(), Violation> {
        if !std::mem::take(&mut self.active[index]) {
            return Ok(());
        }
        self.link(Event::End { fault: 0 }.kind(), 0, index as u64);
        self.tell_fault(index, false);
        match self.plan.faults[index].fault.clone() {
            Fault::Partition(_) | Fault::Link { .. } => self.update_network(),
            Fault::Pause { node } => {
                self.nodes[node].pauses = self.nodes[node].pauses.saturating_sub(1);
                let epoch = self.nodes[node].epoch;
                self.record(Some(node), What::Life { to: "resumed", epoch });
                self.go_on(node)?;
                return self.arm(node);
            }
            Fault::SlowCpu { .. } | Fault::Disk { .. } | Fault::Wire { .. } => {
                return self.update_nodes();
            }
            Fault::Clock { node, .. } => return self.update_clock(node),
            Fault::Burst { node, topics, channels, .. } => {
                return self.burst(node, topics, channels, false);
            }
            Fault::Crash { .. }
            | Fault::Start { .. }
            | Fault::Leave { .. }
            | Fault::Junk { .. }
            | Fault::Tombstone { .. } => {}
        }
        Ok(())
    }

    /// Everything is mended, or among the plan's core only.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.link(Event::Heal.kind(), 0, 0);
        let core = self.plan.core.clone();
        let concerned = core.clone().unwrap_or_else(|| (0..self.nodes.len()).collect());
        self.is_healed = true;
        // What is promised from now on is promised without deviations.
        coverage::disarm();
        if core.is_some() {
            self.network.mend(&concerned);
        }
        for index in 0..self.active.len() {
            let fault = &self.plan.faults[index].fault;
            let ends = core.is_none() || node_of(fault).is_some_and(|of| concerned.contains(&of));
            if ends {
                self.end_fault(index)?;
            }
        }
        self.update_network();
        let now = self.moment();
        self.oracle.healed(now);
        self.record(None, What::Heal);
        for node in concerned {
            let Node { starts, has_left, .. } = self.nodes[node];
            if starts > 0 && !has_left {
                self.start(node, u32::MAX)?;
            }
        }
        Ok(())
    }

    /// Tells who wants to know that a fault begins or ends.
    pub(super) fn tell_fault(&mut self, index: usize, begins: bool) {
        let now = self.moment();
        self.oracle.fault(index, begins, now);
        let faults = self.plan.faults.iter().zip(&self.active);
        let in_force = faults.filter(|(_, active)| **active).map(|(timed, _)| &timed.fault);
        self.pairs.set_faults(in_force);
        let is_quiet = !self.active.contains(&true);
        self.quiet_since = if is_quiet { self.now } else { u64::MAX };
        self.record(None, What::Fault { index: index as u32, begins });
    }

    /// A fault that is an event rather than a state is over at once.
    fn end_now(&mut self, index: usize) {
        if std::mem::take(&mut self.active[index]) {
            self.tell_fault(index, false);
        }
    }

    fn restart_later(&mut self, node: usize, restart: Option<Duration>, fault: u32) {
        if let Some(pause) = restart {
            self.after(pause, Event::Start { node: node as u32, fault });
        }
    }

    fn leave(&mut self, index: usize, for_good: bool) -> Result<(), Violation> {
        let now = self.now;
        let node = &mut self.nodes[index];
        node.has_left = for_good;
        if node.cluster.is_none() {
            // What was about to start does not.
            node.is_booting = false;
            node.life += 1;
            return Ok(());
        }
        let gone = Event::Gone { node: index as u32, life: node.life };
        self.queue.add(now + LEAVE_NS_MAX, gone);
        if node.is_leaving || node.is_paused() {
            return Ok(());
        }
        node.is_leaving = true;
        self.stop_broker(index);
        let node = &mut self.nodes[index];
        let time = node.clock.read(now);
        if let Some(cluster) = node.cluster.as_mut() {
            cluster.leave(time);
        }
        self.settle(index, Cause::Leave)
    }

    fn update_network(&mut self) {
        let faults = self.plan.faults.iter().zip(&self.active);
        let faults = faults.filter(|(_, active)| **active).map(|(timed, _)| timed);
        self.network.update(&self.plan, faults);
    }

    /// Puts the states of nodes that several faults may have brought about right.
    fn update_nodes(&mut self) -> Result<(), Violation> {
        for index in 0..self.nodes.len() {
            let faults = self.plan.faults.iter().zip(&self.active);
            let (mut slow, mut wire, mut troubles) = (None, WIRE_VERSION, Vec::new());
            for (timed, _) in faults.filter(|(_, active)| **active) {
                match &timed.fault {
                    Fault::SlowCpu { node, per_input } if *node == index => {
                        slow = slow.max(Some(nanos(*per_input)));
                    }
                    Fault::Wire { node, version } if *node == index => wire = *version,
                    Fault::Disk { node, trouble } if *node == index => troubles.push(*trouble),
                    _ => {}
                }
            }
            let node = &mut self.nodes[index];
            node.wire = wire;
            node.disk.set_troubles(troubles.clone());
            let was_slow = std::mem::replace(&mut node.slow, slow).is_some();
            self.trouble_broker(index, &troubles);
            let node = &mut self.nodes[index];
            if was_slow && slow.is_none() {
                node.busy_until = 0;
                self.go_on(index)?;
                self.arm(index)?;
            }
        }
        Ok(())
    }

    fn update_clock(&mut self, index: usize) -> Result<(), Violation> {
        let faults = self.plan.faults.iter().zip(&self.active);
        let mut rates =
            faults.filter(|(_, active)| **active).filter_map(|(timed, _)| match timed.fault {
                Fault::Clock { node, rate, .. } if node == index => Some(rate),
                _ => None,
            });
        let rate = rates.next_back().unwrap_or(1.0);
        let node = &mut self.nodes[index];
        node.clock.set_rate(self.now, rate);
        node.armed_at = u64::MAX;
        node.armed_for = None;
        self.arm(index)
    }

    /// Somebody sends random bytes to a node, and sometimes opens a stream.
    pub(super) fn junk(&mut self, fault: usize, number: u32) -> Result<(), Violation> {
        let Fault::Junk { node, per_second } = self.plan.faults[fault].fault else {
            return Ok(());
        };
        if !self.active[fault] || per_second <= 0.0 {
            return Ok(());
        }
        let group = u64::from(self.plan.faults[fault].group);
        let at = nanos(self.plan.faults[fault].at);
        let draw = Domain::new(self.plan.seed, "junk").draw(&[group, at, u64::from(number)]);
        let pause = draw.exponential(0, 1.0 / per_second);
        let next = Event::Junk { fault: fault as u32, number: number + 1 };
        self.after(super::pause(pause), next);
        let len = (draw.unit(1) * JUNK_BYTES_MAX as f64) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|at| draw.word(100 + at as u64) as u8).collect();
        // Some get past the first checks, from somebody who knows the cluster's name.
        if draw.chance(2, 0.5) {
            let sender = Sender { node: NodeId(draw.word(5)), epoch: draw.word(6), counter: 0 };
            if let Some(kind) = bytes.first_mut() {
                *kind %= 2;
            }
            bytes = Seal::none(CLUSTER).seal(sender, &bytes);
        }
        self.link(Event::Junk { fault: 0, number: 0 }.kind(), node, draw.0);
        if draw.chance(3, 0.8) {
            self.send_from_outside(node, bytes);
        } else {
            self.intrude(node, vec![bytes], draw.chance(4, 0.5));
        }
        Ok(())
    }
}

/// The node that a fault is about, if it is about one.
fn node_of(fault: &Fault) -> Option<usize> {
    match fault {
        Fault::Partition(_) | Fault::Link { .. } => None,
        Fault::Crash { node, .. }
        | Fault::Start { node }
        | Fault::Leave { node, .. }
        | Fault::Pause { node }
        | Fault::SlowCpu { node, .. }
        | Fault::Clock { node, .. }
        | Fault::Disk { node, .. }
        | Fault::Wire { node, .. }
        | Fault::Junk { node, .. }
        | Fault::Burst { node, .. } => Some(*node),
        Fault::Tombstone { at, .. } => Some(*at),
    }
}

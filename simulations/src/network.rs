//! The network between the nodes: which links are cut, how good the others are, and what becomes
//! of each datagram.

mod cuts;
mod delay;

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::luck::{Domain, Draw};
use crate::plan::{Burst, Fault, Link, Plan, TimedFault};

use cuts::Cuts;

pub(crate) use delay::NORMAL_P99;
use delay::delay_ns;

/// Which value of a datagram's [`Draw`] decides what. Delays take two values each.
mod field {
    pub(super) const LOSS: u64 = 0;
    pub(super) const DELAY: u64 = 1;
    pub(super) const DUP: u64 = 3;
    pub(super) const DUP_DELAY: u64 = 4;
    pub(super) const REORDER: u64 = 6;
    pub(super) const REORDER_BY: u64 = 7;
    pub(super) const CORRUPT: u64 = 8;
    pub(super) const CORRUPT_AT: u64 = 9;
    pub(super) const TRUNCATE: u64 = 10;
    pub(super) const TRUNCATE_AT: u64 = 11;
    pub(super) const BURST: u64 = 12;
    pub(super) const BURST_STEP: u64 = 13;
    pub(super) const DUP_REORDER: u64 = 14;
    pub(super) const DUP_REORDER_BY: u64 = 15;
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    /// It does not arrive, for this reason.
    Lost(&'static str),
    /// It arrives after this many ns; `again`: a copy of it after so many, maybe before it.
    Arrives { after: u64, again: Option<u64>, damage: Damage },
}

/// What is done to a datagram's bytes on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Damage {
    /// The bit at this share of its length is flipped.
    pub(crate) flip: Option<f64>,
    /// Only this share of it is left.
    pub(crate) keep: Option<f64>,
}

impl Damage {
    /// Whether anything is done.
    pub(crate) fn is_none(&self) -> bool {
        self.flip.is_none() && self.keep.is_none()
    }

    /// Does it.
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>) {
        if let Some(share) = self.keep {
            bytes.truncate((bytes.len() as f64 * share) as usize);
        }
        if let Some(share) = self.flip {
            let bit = ((bytes.len() * 8) as f64 * share) as usize;
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

/// Links between nodes, each direction by itself.
#[derive(Debug)]
pub(crate) struct Network {
    nodes: usize,
    datagram_luck: Domain,
    stream_luck: Domain,
    /// Datagrams and stream items sent so far on each link, `from * nodes + to`.
    sent: Vec<u32>,
    streamed: FxHashMap<usize, u32>,
    cuts: Cuts,
    /// The plan's link, its rules', the faults'.
    /// Each with whether it does nothing but delay.
    qualities: Vec<(Link, bool)>,
    /// Which of them each link has; empty while all have the first.
    quality_of: Vec<u16>,
    /// Links in the bad time of [`Burst`].
    bad: FxHashMap<usize, bool>,
    /// When the datagrams that wait for a link with a rate will have left.
    departures: FxHashMap<usize, VecDeque<u64>>,
    /// Nodes whose links to each other stay mended whatever faults are left.
    mended: Option<Vec<usize>>,
}

impl Network {
    /// The network of `plan`, before any fault.
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut network = Self {
            nodes: plan.nodes,
            datagram_luck: Domain::new(plan.seed, "net"),
            stream_luck: Domain::new(plan.seed, "stream"),
            sent: vec![0; plan.nodes * plan.nodes],
            streamed: FxHashMap::default(),
            cuts: Cuts::new(plan.nodes),
            qualities: Vec::new(),
            quality_of: Vec::new(),
            bad: FxHashMap::default(),
            departures: FxHashMap::default(),
            mended: None,
        };
        network.update(plan, std::iter::empty());
        network
    }

    /// Puts `faults` into force, and no others.
    pub(crate) fn update<'a>(
        &mut self,
        plan: &'a Plan,
        faults: impl Iterator<Item = &'a TimedFault>,
    ) {
        self.cuts.clear();
        self.qualities.clear();
        self.add_quality(&plan.link);
        self.quality_of.clear();
        for rule in &plan.link_rules {
            let quality = self.add_quality(&rule.link);
            self.set(&rule.from, &rule.to, quality);
            if rule.both {
                self.set(&rule.to, &rule.from, quality);
            }
        }
        let usual = self.quality_of.clone();
        for fault in faults {
            match &fault.fault {
                Fault::Partition(partition) => self.cuts.add(partition),
                Fault::Link { from, to, link } => {
                    let quality = self.add_quality(link);
                    self.set(from, to, quality);
                }
                _ => {}
            }
        }
        if let Some(core) = &self.mended {
            self.cuts.mend(core);
            if !self.quality_of.is_empty() {
                for &from in core {
                    for &to in core {
                        let at = from * self.nodes + to;
                        self.quality_of[at] = usual.get(at).copied().unwrap_or(0);
                    }
                }
            }
        }
    }

    /// Links between these nodes are as planned from now on, whatever faults are left.
    pub(crate) fn mend(&mut self, nodes: &[usize]) {
        self.mended = Some(nodes.to_vec());
    }

    fn add_quality(&mut self, link: &Link) -> u16 {
        self.qualities.push((link.clone(), is_plain(link)));
        u16::try_from(self.qualities.len() - 1).unwrap_or(0)
    }

    fn set(&mut self, from: &[usize], to: &[usize], quality: u16) {
        if self.quality_of.is_empty() {
            self.quality_of = vec![0; self.nodes * self.nodes];
        }
        let all: Vec<usize> = (0..self.nodes).collect();
        let or_all = |some: &[usize]| if some.is_empty() { all.clone() } else { some.to_vec() };
        let to = or_all(to);
        for from in or_all(from) {
            for &to in &to {
                if let Some(place) = self.quality_of.get_mut(from * self.nodes + to) {
                    *place = quality;
                }
            }
        }
    }

    /// Whether what `from` sends reaches `to`.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        !self.cuts.contains(from, to)
    }

    /// Whether both directions work.
    pub(crate) fn connects(&self, one: usize, other: usize) -> bool {
        self.reaches(one, other) && self.reaches(other, one)
    }

    /// Whether the receiver sees another source address than the sender tells.
    pub(crate) fn translates(&self, from: usize, to: usize) -> bool {
        self.link(from * self.nodes + to).nat
    }

    fn link(&self, at: usize) -> &Link {
        &self.quality(at).0
    }

    fn quality(&self, at: usize) -> &(Link, bool) {
        let quality = self.quality_of.get(at).copied().unwrap_or(0);
        &self.qualities[usize::from(quality)]
    }

    /// Sends a datagram of `len` bytes at `now`. Its luck depends on the link and on how many went
    /// before it there.
    pub(crate) fn carry(&mut self, from: usize, to: usize, len: usize, now: u64) -> Fate {
        let at = from * self.nodes + to;
        let number = self.sent[at];
        self.sent[at] = number.wrapping_add(1);
        let draw = self.datagram_luck.draw(&[from as u64, to as u64, u64::from(number)]);
        if !self.reaches(from, to) {
            return Fate::Lost("cut");
        }
        let (link, is_plain) = self.quality(at);
        if *is_plain {
            let after = delay_ns(&link.delay, draw, field::DELAY);
            return Fate::Arrives { after, again: None, damage: Damage::default() };
        }
        self.carry_badly(at, draw, len, now)
    }

    /// The same on a link that does more than to delay.
    #[inline(never)]
    fn carry_badly(&mut self, at: usize, draw: Draw, len: usize, now: u64) -> Fate {
        let (loss, burst, mtu) = {
            let link = self.link(at);
            (link.loss, link.burst, link.mtu)
        };
        if mtu.is_some_and(|mtu| len > mtu) {
            return Fate::Lost("mtu");
        }
        if burst.is_some_and(|burst| self.is_lost_in_burst(at, &burst, draw))
            || draw.chance(field::LOSS, loss)
        {
            return Fate::Lost("loss");
        }
        let Some(waits) = self.queue(at, len, now) else { return Fate::Lost("queue") };
        let link = self.link(at);
        let takes = |delay, is_late, by| {
            let is_late = draw.chance(is_late, link.reorder);
            let late =
                if is_late { link.reorder_by.as_nanos() as f64 * draw.unit(by) } else { 0.0 };
            waits + delay_ns(&link.delay, draw, delay) + late as u64
        };
        let after = takes(field::DELAY, field::REORDER, field::REORDER_BY);
        // Each copy goes its own way: one may be there at once, and the other a minute later.
        let again = draw
            .chance(field::DUP, link.dup)
            .then(|| takes(field::DUP_DELAY, field::DUP_REORDER, field::DUP_REORDER_BY));
        let flip = draw.chance(field::CORRUPT, link.corrupt);
        let cut = draw.chance(field::TRUNCATE, link.truncate);
        let damage = Damage {
            flip: flip.then(|| draw.unit(field::CORRUPT_AT)),
            keep: cut.then(|| draw.unit(field::TRUNCATE_AT)),
        };
        Fate::Arrives { after, again, damage }
    }

    /// How long a link with a rate needs to send so many bytes, in ns.
    pub(crate) fn stream_sending(&self, from: usize, to: usize, len: usize) -> u64 {
        let link = self.link(from * self.nodes + to);
        link.rate.map_or(0, |rate| sending_ns(len, rate))
    }

    /// How long something on a stream takes, in ns: lost packets are sent again.
    pub(crate) fn stream_delay(&mut self, from: usize, to: usize) -> u64 {
        /// Least retransmission timeout of Linux TCP.
        const RETRY: u64 = 200_000_000;
        const RETRIES_MAX: u64 = 5;
        let at = from * self.nodes + to;
        let number = self.streamed.entry(at).or_default();
        let draw = self.stream_luck.draw(&[from as u64, to as u64, u64::from(*number)]);
        *number = number.wrapping_add(1);
        let link = self.link(at);
        let lost = (0..RETRIES_MAX)
            .take_while(|retry| draw.chance(field::BURST_STEP + 1 + retry, link.loss))
            .count() as u64;
        delay_ns(&link.delay, draw, field::DELAY) + lost * RETRY
    }

    fn is_lost_in_burst(&mut self, at: usize, burst: &Burst, draw: Draw) -> bool {
        let bad = self.bad.entry(at).or_default();
        let turns = if *bad { burst.exit } else { burst.enter };
        *bad ^= draw.chance(field::BURST_STEP, turns);
        *bad && draw.chance(field::BURST, burst.loss)
    }

    /// How long a datagram waits for a link with a rate and takes to leave; `None`: no room.
    fn queue(&mut self, at: usize, len: usize, now: u64) -> Option<u64> {
        let (rate, room) = {
            let link = self.link(at);
            (link.rate, link.queue)
        };
        let Some(rate) = rate else { return Some(0) };
        let waiting = self.departures.entry(at).or_default();
        while waiting.front().is_some_and(|&departs| departs <= now) {
            waiting.pop_front();
        }
        if waiting.len() >= room {
            return None;
        }
        let departs = waiting.back().copied().unwrap_or(now).max(now) + sending_ns(len, rate);
        waiting.push_back(departs);
        Some(departs - now)
    }
}

/// Whether a link does nothing to a datagram but delay it.
fn is_plain(link: &Link) -> bool {
    let chances = [link.loss, link.dup, link.reorder, link.corrupt, link.truncate];
    let is_bad = chances.iter().any(|chance| *chance > 0.0);
    !is_bad && link.burst.is_none() && link.mtu.is_none() && link.rate.is_none()
}

fn sending_ns(len: usize, bytes_per_second: u64) -> u64 {
    (len as u64).saturating_mul(1_000_000_000) / bytes_per_second.max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::experiment::partition;

    #[test]
    fn of_a_datagram_that_comes_twice_one_copy_may_be_there_at_once_and_the_other_much_later() {
        let mut plan = partition(2, 1, Duration::from_secs(1));
        plan.link.dup = 1.0;
        plan.link.reorder = 0.5;
        plan.link.reorder_by = Duration::from_secs(60);
        let mut network = Network::new(&plan);
        let (mut later, mut sooner) = (0, 0);
        let (at_once, late) = (50_000_000, 10_000_000_000);
        for _ in 0..1000 {
            let Fate::Arrives { after, again: Some(again), .. } = network.carry(0, 1, 100, 0)
            else {
                continue;
            };
            later += u32::from(after < at_once && again > late);
            sooner += u32::from(again < at_once && after > late);
        }
        // Half of each pair are late, five in six of those by more than ten seconds.
        for count in [later, sooner] {
            assert!((150..270).contains(&count), "{later} {sooner}");
        }
    }
}

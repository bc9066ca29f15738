//! The world: executes a [`Plan`] on the cores that ship.
//!
//! ```text
//! Queue --(time, Event)--> World --Input--> Cluster of a node
//!   ^                        |                  | Output
//!   +--- network, streams, disks, clocks <------+        after every input: oracle, hash, recorder
//! ```
//!
//! Time is in ns from the start of the run everywhere in here; a core sees only its own node's
//! clocks.

mod arrivals;
mod broker;
mod clock;
mod faults;
mod hooks;
mod lives;
mod node;
mod outputs;
mod progress;
mod queue;
mod record;
mod samples;
mod streams;
mod work;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::{Cluster, ConnId, Input};
use grapevine_gossip::coverage::watch;
use grapevine_gossip::mutant;
use grapevine_protocol::Moment;
use rustc_hash::FxHashMap;

use crate::broker::Brokers;
use crate::coverage::Pairs;
use crate::luck::Domain;
use crate::network::Network;
use crate::oracle::Oracle;
use crate::outcome::{Outcome, Stats, Violation};
use crate::plan::Plan;
use crate::trace::{Detail, Recorder, SAMPLE_PERIOD};

use node::{Arrival, Node};
use outputs::Parcel;
use queue::{Event, Queue, Slab};
use samples::Ledger;
use streams::Pipes;

pub use hooks::{Cause, Deed, End, NodeView, producer, topic_name};
pub(crate) use lives::timings;
pub(crate) use node::index_of;
pub(crate) use progress::Progress;
use progress::summary;

/// Pause between checks of rules about everyone.
pub const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// Wakes of one node at one instant; more would never end.
const WAKES_AT_ONCE_MAX: u32 = 10_000;

/// A run in progress.
pub struct World<'r> {
    plan: Plan,
    end: u64,
    now: u64,
    queue: Queue,
    nodes: Vec<Node>,
    network: Network,
    pipes: Pipes,
    parcels: Slab<Parcel>,
    /// Node by id, for records; of clones, the last.
    index_of_id: FxHashMap<NodeId, u32>,
    oracle: Oracle,
    recorder: Option<&'r mut dyn Recorder>,
    /// The recorder wants messages, timers and samples too.
    tells_all: bool,
    ledger: Ledger,
    stats: Stats,
    /// Bytes sent in the current second.
    second: (u64, u64),
    messages: u64,
    hash: u64,
    checkpoints: Vec<u64>,
    /// Which faults of the plan are in force.
    active: Vec<bool>,
    is_healed: bool,
    pairs: Pairs,
    workload: Domain,
    brokers: Option<Box<Brokers>>,
    /// Since when nothing is wrong (ns); `u64::MAX`: something is.
    quiet_since: u64,
    /// How often one node has been woken at this instant.
    wakes: (u64, u32, u32),
    /// What is carried out is because of a timer.
    is_waking: bool,
    progress: Rc<Cell<Progress>>,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("plan", &self.plan.name).field("now", &self.now).finish()
    }
}

impl<'r> World<'r> {
    /// The world of `plan`, before anything has happened.
    pub fn new(plan: &Plan) -> Self {
        let mut world = Self {
            end: nanos(plan.end),
            now: 0,
            queue: Queue::new(plan.nodes),
            nodes: (0..plan.nodes).map(|index| Node::new(plan, index)).collect(),
            network: Network::new(plan),
            pipes: Pipes::default(),
            parcels: Slab::default(),
            index_of_id: FxHashMap::default(),
            oracle: Oracle::new(plan),
            recorder: None,
            tells_all: false,
            ledger: Ledger::new(plan.nodes),
            stats: Stats::default(),
            second: (0, 0),
            messages: 0,
            hash: plan.seed,
            checkpoints: Vec::new(),
            active: vec![false; plan.faults.len()],
            is_healed: false,
            pairs: Pairs::default(),
            workload: Domain::new(plan.seed, "workload"),
            brokers: Brokers::new(plan),
            quiet_since: 0,
            wakes: (0, 0, 0),
            is_waking: false,
            progress: Rc::default(),
            plan: plan.clone(),
        };
        world.schedule();
        world
    }

    /// Stops after `end` instead of at the plan's end; what is only known at the end is not checked
    /// then.
    #[must_use]
    pub fn until(mut self, end: Duration) -> Self {
        self.end = self.end.min(nanos(end));
        self
    }

    /// Runs to the end, or to the first violation.
    pub fn run(self, recorder: Option<&'r mut dyn Recorder>) -> Outcome {
        let deviation = self.plan.knobs.buggify;
        let luck = Domain::new(self.plan.seed, "buggify").draw(&[]).word(0);
        let (mut outcome, reached) = watch(deviation, luck, || self.run_watched(recorder));
        outcome.stats.coverage.extend(reached.names().map(str::to_owned));
        outcome
    }

    fn run_watched(mut self, recorder: Option<&'r mut dyn Recorder>) -> Outcome {
        self.recorder = recorder;
        if let Some(recorder) = self.recorder.as_deref_mut() {
            recorder.begin(&self.plan);
            self.tells_all = recorder.detail() == Detail::Everything;
        }
        if self.tells_all {
            self.queue.add(0, Event::Sample);
        }
        let mut result = Ok(());
        while let Some((at, event)) = self.queue.next(self.end) {
            self.now = at;
            self.note_progress(event.node());
            result = self.happen(event);
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            self.now = self.end;
        }
        self.fill_seconds();
        if result.is_ok() {
            result = self.finish();
        }
        let violation = result.err().map(|violation| Violation {
            at: Duration::from_nanos(self.now),
            event: self.stats.events,
            ..violation
        });
        self.oracle.measured(self.moment(), &mut self.stats);
        self.close_stats();
        self.stats.coverage.extend(self.pairs.names());
        if let Some(recorder) = self.recorder {
            recorder.end(Duration::from_nanos(self.now), violation.as_ref());
        }
        Outcome { hash: self.hash, checkpoints: self.checkpoints, stats: self.stats, violation }
    }

    /// Puts what the plan says on the timeline.
    fn schedule(&mut self) {
        for (node, start) in (0..).zip(&self.plan.starts) {
            if let Some(at) = start {
                self.queue.add(nanos(*at), Event::Start { node, fault: u32::MAX });
            }
        }
        for (fault, timed) in (0..).zip(&self.plan.faults) {
            if self.plan.heal_at.is_none_or(|heal| timed.at < heal) {
                self.queue.add(nanos(timed.at), Event::Begin { fault });
            }
        }
        if let Some(heal) = self.plan.heal_at {
            self.queue.add(nanos(heal), Event::Heal);
        }
        self.queue.add(nanos(LOOK_PERIOD), Event::Look);
        self.schedule_work();
        self.schedule_broker();
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.queue.add(self.now.saturating_add(nanos(delay)), event);
    }

    fn moment(&self) -> Moment {
        Moment(self.now)
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Datagram { to, parcel } => self.datagram_arrives(to as usize, parcel),
            Event::Wake { node } => self.wake(node as usize),
            other => self.happen_rarely(other),
        }
    }

    /// Apart from datagrams and wake-ups, as in `perform`.
    #[inline(never)]
    fn happen_rarely(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            // `happen` sees to those.
            Event::Datagram { .. } | Event::Wake { .. } => Ok(()),
            Event::Turn { node } => {
                self.nodes[node as usize].turn_at = None;
                self.go_on(node as usize)
            }
            Event::Pipe { pipe, side } => self.deliver(pipe, side),
            Event::Resolved { node, life, seed } => {
                let index = node as usize;
                if self.nodes[index].life == life {
                    return self.give(index, Arrival::Resolved(seed as usize));
                }
                Ok(())
            }
            Event::Written { node, life, write } => self.written(node as usize, life, write),
            Event::Start { node, fault } => self.start(node as usize, fault),
            Event::Booted { node, life } => self.booted(node as usize, life),
            Event::Gone { node, life } => {
                if self.nodes[node as usize].life == life {
                    self.end_process(node as usize, End::Left);
                }
                Ok(())
            }
            Event::Begin { fault } => self.begin_fault(fault as usize),
            Event::End { fault } => self.end_fault(fault as usize),
            Event::Junk { fault, number } => self.junk(fault as usize, number),
            Event::Churn { number } => self.churn(number),
            Event::Lookup { number } => self.lookup(number),
            Event::Ping { node, life } => self.ping(node as usize, life),
            Event::Broker(event) => self.broker(event),
            Event::Heal => self.heal(),
            Event::Look => self.look(),
            Event::Sample => {
                self.sample();
                self.after(SAMPLE_PERIOD, Event::Sample);
                Ok(())
            }
        }
    }

    /// Hands something to a node's process; one that stands still or is busy gets it later.
    fn give(&mut self, index: usize, arrival: Arrival) -> Result<(), Violation> {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.cluster.is_none() {
            return Ok(());
        }
        if node.is_paused() || node.busy_until > now || !node.inbox.is_empty() {
            if let Some(dropped) = node.inbox.add(arrival) {
                self.drop_parcel(index, dropped, "buffer");
            }
            return self.go_on(index);
        }
        self.give_now(index, arrival)
    }

    /// Works off what waits: datagrams, then timers, then the rest, as the agent does.
    fn go_on(&mut self, index: usize) -> Result<(), Violation> {
        loop {
            let now = self.now;
            let node = &mut self.nodes[index];
            if node.cluster.is_none() || node.is_paused() {
                return Ok(());
            }
            if node.busy_until > now {
                if node.turn_at.is_none() {
                    node.turn_at = Some(node.busy_until);
                    self.queue.add(node.busy_until, Event::Turn { node: index as u32 });
                }
                return Ok(());
            }
            // N09, class "timers before packets".
            let is_rash = mutant!(N09) && node.is_wake_due(now);
            if !is_rash && let Some(parcel) = node.inbox.next_datagram() {
                self.give_now(index, Arrival::Datagram(parcel))?;
            } else if node.is_wake_due(now) {
                self.wake_now(index)?;
            } else if let Some(arrival) = node.inbox.next() {
                self.give_now(index, arrival)?;
            } else {
                return Ok(());
            }
        }
    }

    fn wake(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.armed_at != now {
            return Ok(());
        }
        node.armed_at = u64::MAX;
        node.armed_for = None;
        if node.is_paused() || node.busy_until > now || !node.inbox.is_empty() {
            return self.go_on(index);
        }
        if node.is_wake_due(now) { self.wake_now(index) } else { self.arm(index) }
    }

    fn wake_now(&mut self, index: usize) -> Result<(), Violation> {
        let at_once = if (self.wakes.0, self.wakes.1) == (self.now, index as u32) {
            self.wakes.2 + 1
        } else {
            0
        };
        self.wakes = (self.now, index as u32, at_once);
        if at_once > WAKES_AT_ONCE_MAX {
            let what = format!("wakes={at_once}");
            return Err(self.violation("V8", "no-storm", index, what));
        }
        let now = self.now;
        let outside = self.note_progress(Some(index as u32));
        let node = &mut self.nodes[index];
        let time = node.clock.read(now);
        let Some(cluster) = node.cluster.as_mut() else { return Ok(()) };
        cluster.handle(time, Input::Wake);
        self.link(1, index, 0);
        self.record_timer(index);
        self.is_waking = true;
        let settled = self.settle(index, Cause::Wake);
        self.is_waking = false;
        self.note_progress(outside);
        settled
    }

    fn give_now(&mut self, index: usize, arrival: Arrival) -> Result<(), Violation> {
        let now = self.now;
        let outside = self.note_progress(Some(index as u32));
        let node = &mut self.nodes[index];
        let time = node.clock.read(now);
        let Some(cluster) = node.cluster.as_mut() else { return Ok(()) };
        let (cause, payload) = match &arrival {
            Arrival::Datagram(parcel) => {
                let Some(parcel) = self.parcels.get_mut(*parcel) else { return Ok(()) };
                let bytes = &parcel.bytes;
                self.oracle.received(index, parcel.source, bytes.len());
                cluster.handle(time, Input::Datagram { from: parcel.source, bytes });
                (Cause::Datagram, summary(bytes))
            }
            other => self.give_other(index, time, other),
        };
        self.link(arrival.kind(), index, payload);
        self.record_arrival(index, &arrival);
        if let Arrival::Datagram(parcel) = arrival {
            self.release(parcel);
        }
        let settled = self.settle(index, cause);
        self.note_progress(outside);
        settled
    }

    /// After a node was told something: its beliefs are checked, its outputs are carried out, its
    /// next timer is set.
    fn settle(&mut self, index: usize, cause: Cause) -> Result<(), Violation> {
        let now = self.moment();
        let Some(cluster) = self.nodes[index].cluster.as_mut() else { return Ok(()) };
        let touched = cluster.take_touched();
        self.oracle.handled(index, cluster, &touched, now, cause)?;
        self.after_settle(index, &touched);
        while let Some(output) = self.nodes[index].cluster.as_mut().and_then(Cluster::poll) {
            self.perform(index, output)?;
        }
        let node = &mut self.nodes[index];
        if let Some(per_input) = node.slow {
            node.busy_until = self.now.saturating_add(per_input);
            return self.go_on(index);
        }
        self.arm(index)
    }

    /// Sees to it that a node is woken in time.
    fn arm(&mut self, index: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        let Some(cluster) = &node.cluster else { return Ok(()) };
        if let Some(moment) = cluster.next_wake() {
            // A later moment of its clock is no earlier one of the world's.
            if node.armed_for.is_some_and(|armed| armed <= moment) {
                return Ok(());
            }
            let at = node.clock.when(moment).max(self.now);
            if at < node.armed_at {
                node.armed_at = at;
                node.armed_for = Some(moment);
                self.queue.add(at, Event::Wake { node: index as u32 });
            }
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Violation> {
        self.after(LOOK_PERIOD, Event::Look);
        let now = self.moment();
        let views: Vec<NodeView<'_>> = self.nodes.iter().map(Node::view).collect();
        self.oracle.look(&views, &self.network, now)
    }

    fn finish(&mut self) -> Result<(), Violation> {
        let now = self.moment();
        if self.end < nanos(self.plan.end) {
            return Ok(());
        }
        let views: Vec<NodeView<'_>> = self.nodes.iter().map(Node::view).collect();
        self.oracle.finish(&views, now, &self.stats)?;
        self.finish_broker()
    }

    #[cold]
    fn violation(&self, rule: &str, name: &str, node: usize, what: String) -> Violation {
        Violation {
            rule: rule.to_owned(),
            name: name.to_owned(),
            node: Some(node),
            what,
            at: Duration::from_nanos(self.now),
            event: self.stats.events,
        }
    }

    /// The node that has this address now.
    fn index_of(&self, addr: SocketAddr) -> Option<usize> {
        let index = node::index_of(addr)?;
        (self.nodes.get(index)?.addr == addr).then_some(index)
    }
}

/// A pause; one that is too long to be written is never over.
fn pause(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// A duration in ns.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The number a core gives to a stream that was accepted as its `number`th.
fn accepted_conn(number: u64) -> ConnId {
    ConnId(ConnId::ACCEPTED + number)
}

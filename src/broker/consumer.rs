//! One subscribed connection as its channel sees it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use grapevine_protocol::Moment;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::in_flight::InFlight;

/// Names a connection within its node; never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConsumerId(pub u64);

/// How the core reaches a consumer's connection. Called after every lock is released.
pub trait Signal: Send + Sync {
    /// There may be something to pull.
    fn wake(&self);
    /// The channel is gone: close the connection.
    fn close(&self);
}

/// How near a consumer is, for topology-aware delivery. Nearer sorts first.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Locality {
    /// Same zone as the node.
    Zone,
    /// Same region as the node.
    Region,
    /// Anywhere, or the experiment is off.
    #[default]
    Global,
}

/// What a connection brings with it when it subscribes.
pub struct ConsumerSettings {
    /// The connection.
    pub id: ConsumerId,
    /// Wakes and closes it.
    pub signal: Arc<dyn Signal>,
    /// Time it has to answer a message.
    pub msg_timeout: Duration,
    /// Percentage of messages it wants; 0 means all (tcp-protocol, section 12).
    pub sample_rate: u8,
    /// How near it is.
    pub locality: Locality,
    /// Seed of the sampling draw.
    pub seed: u64,
}

/// Stale deadlines kept beyond twice the messages in flight before they are swept.
const STALE_DEADLINES_MAX: usize = 64;

/// A subscribed connection: its RDY, its deadlines, its counters.
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    pub(crate) signal: Arc<dyn Signal>,
    pub(crate) msg_timeout: Duration,
    pub(crate) locality: Locality,
    pub(crate) rdy: u64,
    pub(crate) in_flight: u64,
    /// In the channel's waiting line.
    pub(crate) is_waiting: bool,
    /// Woken, and has not pulled since.
    pub(crate) is_woken: bool,
    pub(crate) message_count: u64,
    pub(crate) finish_count: u64,
    pub(crate) requeue_count: u64,
    sample: Option<(u8, SmallRng)>,
    /// Deadlines of deliveries, in order because the timeout is fixed; answered ones stay until
    /// swept.
    deadlines: VecDeque<(Moment, u64)>,
    /// Deadlines moved by TOUCH, which are not in order.
    touched: BTreeSet<(Moment, u64)>,
}

impl Consumer {
    pub(crate) fn new(settings: ConsumerSettings) -> Self {
        let sample = (settings.sample_rate > 0)
            .then(|| (settings.sample_rate, SmallRng::seed_from_u64(settings.seed)));
        Self {
            id: settings.id,
            signal: settings.signal,
            msg_timeout: settings.msg_timeout,
            locality: settings.locality,
            rdy: 0,
            in_flight: 0,
            is_waiting: false,
            is_woken: false,
            message_count: 0,
            finish_count: 0,
            requeue_count: 0,
            sample,
            deadlines: VecDeque::new(),
            touched: BTreeSet::new(),
        }
    }

    /// How many more messages it may hold.
    pub(crate) const fn room(&self) -> u64 {
        self.rdy.saturating_sub(self.in_flight)
    }

    /// Whether the sampling draw throws the next message away.
    pub(crate) fn samples_out(&mut self) -> bool {
        match &mut self.sample {
            None => false,
            Some((rate, rng)) => rng.random_range(0..100_u8) > *rate,
        }
    }

    pub(crate) fn delivered(&mut self, id: u64, deadline: Moment) {
        self.in_flight += 1;
        self.message_count += 1;
        self.deadlines.push_back((deadline, id));
    }

    pub(crate) fn touched(&mut self, id: u64, deadline: Moment) {
        self.touched.insert((deadline, id));
    }

    /// Forgets the deadline of an earlier TOUCH: a client may send one every microsecond.
    pub(crate) fn untouched(&mut self, id: u64, deadline: Moment) {
        self.touched.remove(&(deadline, id));
    }

    /// Its next deadline that is at or before `now`, whether or not the message is still there.
    pub(crate) fn next_due(&mut self, now: Moment) -> Option<(Moment, u64)> {
        if let Some(&due) = self.touched.first()
            && due.0 <= now
        {
            self.touched.pop_first();
            return Some(due);
        }
        match self.deadlines.front() {
            Some(&due) if due.0 <= now => {
                self.deadlines.pop_front();
                Some(due)
            }
            Some(_) | None => None,
        }
    }

    /// When its next deadline may pass; drops answered messages from the front.
    pub(crate) fn earliest_deadline(&mut self, in_flight: &InFlight) -> Option<Moment> {
        while let Some(&(_, id)) = self.deadlines.front() {
            if in_flight.holds(id, self.id) {
                break;
            }
            self.deadlines.pop_front();
        }
        let touched = self.touched.first().map(|due| due.0);
        let delivered = self.deadlines.front().map(|due| due.0);
        touched.into_iter().chain(delivered).min()
    }

    /// Keeps the line of deadlines proportional to what is in flight.
    pub(crate) fn sweep(&mut self, in_flight: &InFlight) {
        while let Some(&(_, id)) = self.deadlines.front() {
            if in_flight.holds(id, self.id) {
                break;
            }
            self.deadlines.pop_front();
        }
        let live_max = 2 * self.in_flight as usize + STALE_DEADLINES_MAX;
        if self.deadlines.len() > live_max {
            self.deadlines.retain(|&(_, id)| in_flight.holds(id, self.id));
        }
        if self.touched.len() > live_max {
            self.touched.retain(|&(_, id)| in_flight.holds(id, self.id));
        }
    }

    /// Ids it may hold, in the order of delivery; some were answered long ago.
    pub(crate) fn held_ids(&mut self) -> impl Iterator<Item = u64> {
        let touched = std::mem::take(&mut self.touched).into_iter().map(|due| due.1);
        std::mem::take(&mut self.deadlines).into_iter().map(|due| due.1).chain(touched)
    }

    /// Forgets everything in flight (`/channel/empty`).
    pub(crate) fn forget_in_flight(&mut self) {
        self.in_flight = 0;
        self.deadlines.clear();
        self.touched.clear();
    }
}

#[cfg(test)]
impl Consumer {
    /// Deadlines kept, true or not.
    pub(crate) fn deadlines_noted(&self) -> usize {
        self.deadlines.len() + self.touched.len()
    }
}

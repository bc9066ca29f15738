//! End-to-end processing latency: publish to FIN, over a moving window.

use std::time::Duration;

use grapevine_protocol::Moment;
use hdrhistogram::Histogram;

/// Longest latency told apart: one day in microseconds.
const LATENCY_US_MAX: u64 = 86_400_000_000;

/// Two half-windows of latencies; the older one is dropped every half window (storage, section 10).
#[derive(Debug)]
pub(crate) struct Latency {
    halves: [Histogram<u64>; 2],
    turned_at: Moment,
    half_window: Duration,
}

impl Latency {
    pub(crate) fn new(window: Duration, now: Moment) -> Self {
        let empty =
            || Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("the bounds are constants");
        Self { halves: [empty(), empty()], turned_at: now, half_window: window / 2 }
    }

    pub(crate) fn record(&mut self, nanos: i64, now: Moment) {
        self.turn(now);
        self.halves[0].saturating_record(u64::try_from(nanos / 1_000).unwrap_or(0).max(1));
    }

    fn turn(&mut self, now: Moment) {
        if now.since(self.turned_at) < self.half_window {
            return;
        }
        let is_stale = now.since(self.turned_at) >= 2 * self.half_window;
        self.halves.swap(0, 1);
        self.halves[0].reset();
        if is_stale {
            self.halves[1].reset();
        }
        self.turned_at = now;
    }

    /// Both halves together, in microseconds.
    pub(crate) fn merged(&mut self, now: Moment) -> Histogram<u64> {
        self.turn(now);
        let mut all = self.halves[0].clone();
        all.add(&self.halves[1]).expect("both halves have the same bounds");
        all
    }
}

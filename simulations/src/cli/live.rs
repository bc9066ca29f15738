//! A run as it happens, slowed down so that a person can follow it.

use std::thread;
use std::time::{Duration, Instant};

use super::{terminal, window};
use crate::plan::Plan;
use crate::trace::{Record, Recorder, Sample, What};

/// Prints what matters, and waits so that the run is this many times faster than life.
pub(super) struct Live<'a> {
    plan: &'a Plan,
    speed: f64,
    started: Instant,
    /// Percent that were printed last, so that they are printed when they change.
    percent: Option<f64>,
}

impl<'a> Live<'a> {
    pub(super) fn new(plan: &'a Plan, speed: f64) -> Self {
        Self { plan, speed, started: Instant::now(), percent: None }
    }

    fn wait_until(&self, t: u64) {
        let due = Duration::try_from_secs_f64(t as f64 / 1e9 / self.speed);
        let due = due.unwrap_or(Duration::MAX);
        if let Some(rest) = due.checked_sub(self.started.elapsed()) {
            thread::sleep(rest);
        }
    }
}

impl Recorder for Live<'_> {
    fn record(&mut self, record: &Record) {
        let is_news = match &record.what {
            What::Member { .. } | What::Life { .. } | What::Fault { .. } | What::Heal => true,
            What::Send { .. }
            | What::Recv { .. }
            | What::Drop { .. }
            | What::Timer
            | What::Write { .. }
            | What::Apply { .. }
            | What::Persist { .. }
            | What::Broker { .. } => false,
        };
        if is_news {
            self.wait_until(record.t);
            terminal::out(&window::line(record, self.plan));
        }
    }

    fn sample(&mut self, sample: &Sample) {
        self.wait_until(sample.t);
        let percent = (sample.agreement * 100.0).round();
        if self.percent != Some(percent) {
            self.percent = Some(percent);
            let seconds = sample.t as f64 / 1e9;
            let text = format!(
                "{:>8}  {seconds:>11.6}s  {percent} % of what nodes believe of \
                 each other is right\n",
                ""
            );
            terminal::out(&text);
        }
    }
}

//! Several recorders of one run.

use std::time::Duration;

use crate::outcome::Violation;
use crate::plan::Plan;
use crate::trace::{Record, Recorder, Sample};

/// Tells all of them.
#[derive(Default)]
pub(super) struct Recorders<'a>(Vec<&'a mut dyn Recorder>);

impl<'a> Recorders<'a> {
    /// Adds one, if there is one.
    pub(super) fn add<R: Recorder>(&mut self, recorder: Option<&'a mut R>) {
        if let Some(recorder) = recorder {
            self.0.push(recorder);
        }
    }

    /// What a run is given: nothing, if there are none, since a run without is faster.
    pub(super) fn as_option(&mut self) -> Option<&mut dyn Recorder> {
        if self.0.is_empty() { None } else { Some(self) }
    }
}

impl Recorder for Recorders<'_> {
    fn begin(&mut self, plan: &Plan) {
        self.0.iter_mut().for_each(|recorder| recorder.begin(plan));
    }

    fn record(&mut self, record: &Record) {
        self.0.iter_mut().for_each(|recorder| recorder.record(record));
    }

    fn sample(&mut self, sample: &Sample) {
        self.0.iter_mut().for_each(|recorder| recorder.sample(sample));
    }

    fn end(&mut self, at: Duration, violation: Option<&Violation>) {
        self.0.iter_mut().for_each(|recorder| recorder.end(at, violation));
    }
}

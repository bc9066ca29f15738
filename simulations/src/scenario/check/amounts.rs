//! Numbers of a scenario file that nothing could be made of: too many to hold, too rare or too
//! often to tell when, shares that are none.

use std::time::Duration;

use super::Check;
use crate::scenario::drawn::{Drawn, Scalar};
use crate::scenario::fault_table::FaultTable;
use crate::scenario::link_table::DelayTable;
use crate::scenario::or_none::OrNone;
use crate::scenario::rates::Rate;

/// What happens more rarely than once in 30 years happens in no run: say 0.
const RATE_MIN: f64 = 1e-9;
/// More per second would keep a run at one instant for hours.
const RATE_MAX: f64 = 1e6;
/// Periods of the protocol are no shorter: a node that is woken more often does nothing else.
const KNOB_MIN: Duration = Duration::from_millis(1);
/// ... and no longer: a year is beyond every run.
const KNOB_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Topics of a run, and of a burst at one node.
const TOPICS_MAX: u64 = 100_000;
/// Channels of a topic.
const CHANNELS_MAX: u64 = 10_000;
/// Topics of a burst with all of their channels.
const BURST_MAX: u64 = 1_000_000;
/// Stock nsqds that register at one node.
const FOREIGN_MAX: u64 = 1_000;
/// Consumers of a channel.
const CONSUMERS_MAX: u64 = 1_000;
/// nsqd's `--max-msg-size`.
const BODY_BYTES_MAX: u64 = 1_048_576;
/// nsqd's `--max-req-timeout`: the longest deferral.
const DEFER_MAX: Duration = Duration::from_secs(3600);
/// nsqd's `--max-msg-timeout`.
const MSG_TIMEOUT_MAX: Duration = Duration::from_secs(15 * 60);

impl Check<'_> {
    /// Everything that is said once in a file.
    pub(super) fn amounts(&mut self) {
        self.knobs();
        self.workload();
        self.broker();
    }

    fn knobs(&mut self) {
        let knobs = &self.file.knobs;
        for (name, span) in [
            ("probe_period", &knobs.probe_period),
            ("probe_rtt", &knobs.probe_rtt),
            ("suspicion", &knobs.suspicion),
            ("spread_period", &knobs.spread_period),
            ("digest_period", &knobs.digest_period),
            ("reconnect_period", &knobs.reconnect_period),
        ] {
            self.within(span, KNOB_MIN, KNOB_MAX, &format!("knobs.{name}"));
        }
        for (name, span) in
            [("deletions_kept", &knobs.deletions_kept), ("detached_kept", &knobs.detached_kept)]
        {
            self.within(span, Duration::ZERO, KNOB_MAX, &format!("knobs.{name}"));
        }
        self.share(&knobs.buggify, "knobs.buggify");
    }

    fn workload(&mut self) {
        let file = self.file;
        self.at_most(&file.topics.count, TOPICS_MAX, "topics.count");
        self.at_most(&file.workload.foreign, FOREIGN_MAX, "workload.foreign");
        match &file.workload.churn {
            Some(Rate::Table(churn)) => {
                self.rate(Some(&churn.rate), "workload.churn.rate");
                self.share(&churn.register, "workload.churn.register");
                self.share(&churn.bursts, "workload.churn.bursts");
                self.at_most(&churn.channels, CHANNELS_MAX, "workload.churn.channels");
            }
            Some(Rate::Alone(rate)) => self.rate(Some(rate), "workload.churn"),
            None => {}
        }
        match &file.workload.lookups {
            Some(Rate::Table(table)) => self.rate(Some(&table.rate), "workload.lookups.rate"),
            Some(Rate::Alone(rate)) => self.rate(Some(rate), "workload.lookups"),
            None => {}
        }
    }

    fn broker(&mut self) {
        let Some(broker) = &self.file.broker else { return };
        self.rate(broker.publish.as_ref(), "broker.publish");
        self.share(&broker.deferred, "broker.deferred");
        self.share(&broker.requeue, "broker.requeue");
        self.share(&broker.timeout, "broker.timeout");
        self.not_zero(&broker.msg_timeout, "broker.msg_timeout");
        self.within(&broker.msg_timeout, Duration::ZERO, MSG_TIMEOUT_MAX, "broker.msg_timeout");
        self.within(&broker.defer_max, Duration::ZERO, DEFER_MAX, "broker.defer_max");
        self.at_most(&broker.consumers, CONSUMERS_MAX, "broker.consumers");
        self.at_most(&broker.channels, CHANNELS_MAX, "broker.channels");
        self.at_most(&broker.body_bytes, BODY_BYTES_MAX, "broker.body_bytes");
    }

    /// What a fault adds.
    pub(super) fn amounts_of(&mut self, fault: &FaultTable, path: &str) {
        if let Some(junk) = &fault.junk {
            self.rate(Some(&junk.per_second), &format!("{path}.junk.per_second"));
        }
        let Some(burst) = &fault.burst else { return };
        self.at_most(&Some(burst.topics.clone()), TOPICS_MAX, &format!("{path}.burst.topics"));
        self.at_most(&burst.channels, CHANNELS_MAX, &format!("{path}.burst.channels"));
        let channels = burst.channels.as_ref().map_or(0, Drawn::most);
        if burst.topics.most().saturating_mul(channels) > BURST_MAX {
            let message = format!("at most {BURST_MAX} channels in all topics together");
            self.say(format!("{path}.burst.channels"), message);
        }
    }

    fn rate(&mut self, rate: Option<&Drawn<f64>>, path: &str) {
        let Some(rate) = rate else { return };
        let (least, most) = (rate.least(), rate.most());
        if least < 0.0 {
            self.say(path, format!("{least} is less than nothing"));
        } else if most > RATE_MAX || (most > 0.0 && most < RATE_MIN) {
            let message =
                format!("{most:?} per second is not 0, nor from {RATE_MIN:?} to {RATE_MAX}");
            self.say(path, message);
        }
    }

    fn at_most(&mut self, count: &Option<Drawn<u64>>, limit: u64, path: &str) {
        if let Some(most) = count.as_ref().map(Drawn::most).filter(|most| *most > limit) {
            self.say(path, format!("{most} is more than {limit}, the most there may be"));
        }
    }

    fn within(
        &mut self,
        span: &Option<Drawn<Duration>>,
        low: Duration,
        high: Duration,
        path: &str,
    ) {
        let Some(span) = span else { return };
        let wrong = [span.least(), span.most()].into_iter().find(|at| *at < low || *at > high);
        if let Some(wrong) = wrong {
            let (low, high) = (low.to_text(), high.to_text());
            self.say(path, format!("{} is not from {low} to {high}", wrong.to_text()));
        }
    }
}

/// Why nothing can be sent over a link with these, by field.
pub(crate) fn size_problems(
    mtu: &Option<OrNone<Drawn<u64>>>,
    rate: &Option<OrNone<Drawn<u64>>>,
) -> Vec<(&'static str, &'static str)> {
    let is_zero = |field: &Option<OrNone<Drawn<u64>>>| match field {
        Some(OrNone::Some(count)) => count.least() == 0,
        Some(OrNone::None) | None => false,
    };
    let mut found = Vec::new();
    if is_zero(mtu) {
        found.push(("mtu", "no datagram is so small: cut the link, or say \"none\" for no limit"));
    }
    if is_zero(rate) {
        found.push(("rate", "nothing would ever pass: cut the link, or say \"none\" for no limit"));
    }
    found
}

/// What is wrong with how long a datagram takes.
pub(crate) fn delay_problem(delay: &DelayTable) -> Option<String> {
    let is_less = |low: &Drawn<Duration>, high: &Drawn<Duration>, what: &str| {
        (high.most() < low.least()).then(|| {
            format!("{} is less than {what}, {}", high.most().to_text(), low.least().to_text())
        })
    };
    match delay {
        DelayTable::Const(_) | DelayTable::Exp { .. } => None,
        DelayTable::Uniform(low, high) => is_less(low, high, "the first"),
        DelayTable::Lognormal { median, p99 } => is_less(median, p99, "the median"),
        DelayTable::Pareto { alpha, .. } => {
            (alpha.least() <= 0.0).then(|| format!("alpha {} is not above 0", alpha.least()))
        }
        DelayTable::Bimodal { p_slow, .. } => {
            crate::scenario::link_table::share_problem(p_slow).map(|what| format!("p_slow {what}"))
        }
    }
}

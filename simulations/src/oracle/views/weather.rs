//! Whether anything is wrong with the world just now: rules about time hold only if nothing is.

use std::time::Duration;

use grapevine_protocol::Moment;

use crate::network::NORMAL_P99;
use crate::plan::{Delay, Fault, Link, Plan};
use crate::world::timings;

/// More loss than this, or anything that counts as loss, is more than a LAN does.
const MILD_LOSS_MAX: f64 = 0.05;

/// A share of late datagrams up to this is none: one in a thousand.
const LATE_NONE_MAX: f64 = 1e-3;

/// Clocks that are off by more than this share no longer tell time.
const MILD_DRIFT_MAX: f64 = 0.25;

/// For so long a node that did not keep up judges others more slowly than usual, one step less each
/// second; see `cluster::periodic::SLOWNESS_MAX`.
const SLOW_AFTERWARDS: Duration = Duration::from_secs(8);

/// How bad something is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Severity {
    /// Nothing that any rule minds.
    None,
    /// A member must not be declared dead because of it.
    Mild,
    /// All bets are off.
    Heavy,
}

/// What is wrong, and since when nothing is.
#[derive(Debug)]
pub(super) struct Weather {
    severities: Vec<Severity>,
    /// Faults that make a node slow.
    slows: Vec<bool>,
    /// Of the links as planned.
    links: Severity,
    is_active: Vec<bool>,
    heavy: usize,
    mild: usize,
    slow: usize,
    calm_since: Option<Moment>,
    /// When the last node that was slow is as fast as any again.
    fast_at: Moment,
    is_core_healed: bool,
}

impl Weather {
    pub(super) fn new(plan: &Plan) -> Self {
        // An answer is late if it comes after the time that a probe of these nodes has.
        let late_after = timings(&plan.knobs).probe_rtt / 2;
        let rules = plan.link_rules.iter().map(|rule| of_link(&rule.link, late_after));
        let links = rules.fold(of_link(&plan.link, late_after), Ord::max);
        let faults = plan.faults.iter().map(|timed| of_fault(&timed.fault, late_after));
        Self {
            severities: faults.collect(),
            slows: plan.faults.iter().map(|timed| slows(&timed.fault)).collect(),
            links,
            is_active: vec![false; plan.faults.len()],
            heavy: 0,
            mild: 0,
            slow: 0,
            calm_since: Some(Moment(0)),
            fast_at: Moment(0),
            is_core_healed: false,
        }
    }

    /// A fault begins or ends.
    pub(super) fn fault(&mut self, index: usize, begins: bool, now: Moment) {
        let Some(is_active) = self.is_active.get_mut(index) else { return };
        if std::mem::replace(is_active, begins) == begins {
            return;
        }
        if self.slows[index] {
            self.slow = if begins { self.slow + 1 } else { self.slow.saturating_sub(1) };
            self.fast_at = now + SLOW_AFTERWARDS;
        }
        let count = match self.severities[index] {
            Severity::None => return,
            Severity::Mild => &mut self.mild,
            Severity::Heavy => &mut self.heavy,
        };
        *count = if begins { *count + 1 } else { count.saturating_sub(1) };
        if self.is_core_healed {
            return;
        }
        if self.severities[index] == Severity::Heavy {
            self.calm_since = (self.heavy == 0).then_some(now);
        }
    }

    /// Nothing is wrong beyond the links as planned, which are as good as those of a LAN.
    pub(super) fn is_undisturbed(&self) -> bool {
        self.has_good_links() && self.heavy == 0 && self.mild == 0
    }

    /// Everything is mended; with `is_core` among some nodes only, and only they count from now.
    pub(super) fn healed(&mut self, is_core: bool, now: Moment) {
        if is_core {
            self.is_core_healed = true;
            self.calm_since = Some(now);
        }
    }

    /// Since when nothing worse than a LAN's troubles has been active, links as planned aside.
    pub(super) fn calm_since(&self) -> Option<Moment> {
        self.calm_since
    }

    /// The same, and since when nobody is slow for having been disturbed.
    pub(super) fn steady_since(&self) -> Option<Moment> {
        self.calm_since.map(|at| at.max(self.fast_at))
    }

    /// Nobody was slow before this.
    pub(super) fn fast_at(&self) -> Moment {
        self.fast_at
    }

    /// Some node does not keep up.
    pub(super) fn is_slow(&self) -> bool {
        self.slow > 0
    }

    /// The links are as good as those of a LAN, when no fault says otherwise.
    pub(super) fn has_good_links(&self) -> bool {
        self.links < Severity::Heavy
    }

    /// Nothing at all is wrong.
    pub(super) fn is_clear(&self) -> bool {
        self.links == Severity::None && self.heavy == 0 && self.mild == 0
    }

    /// This fault is the only thing that is wrong.
    pub(super) fn is_alone(&self, index: usize) -> bool {
        let own = self.severities.get(index).copied();
        self.links == Severity::None
            && self.heavy == usize::from(own == Some(Severity::Heavy))
            && self.mild == usize::from(own == Some(Severity::Mild))
    }

    /// Faults are left that only some nodes are spared.
    pub(super) fn is_core_healed(&self) -> bool {
        self.is_core_healed
    }
}

fn of_fault(fault: &Fault, late_after: Duration) -> Severity {
    match fault {
        // Somebody who is not there, or clients who do something, are no weather.
        Fault::Crash { .. }
        | Fault::Start { .. }
        | Fault::Leave { .. }
        | Fault::Burst { .. }
        | Fault::Tombstone { .. } => Severity::None,
        Fault::Link { link, .. } => of_link(link, late_after),
        Fault::Clock { rate, .. } if (rate - 1.0).abs() < f64::EPSILON => Severity::None,
        Fault::Clock { rate, .. } if (rate - 1.0).abs() <= MILD_DRIFT_MAX => Severity::Mild,
        Fault::Junk { .. } => Severity::Mild,
        // A disk that takes nothing keeps a node out, since an epoch must be durable.
        Fault::Clock { .. }
        | Fault::Partition(_)
        | Fault::Pause { .. }
        | Fault::SlowCpu { .. }
        | Fault::Disk { .. }
        | Fault::Wire { .. } => Severity::Heavy,
    }
}

/// Whether the node does not keep up.
fn slows(fault: &Fault) -> bool {
    match fault {
        Fault::Pause { .. } | Fault::SlowCpu { .. } => true,
        Fault::Clock { rate, .. } => (rate - 1.0).abs() > f64::EPSILON,
        Fault::Partition(_)
        | Fault::Link { .. }
        | Fault::Crash { .. }
        | Fault::Start { .. }
        | Fault::Leave { .. }
        | Fault::Disk { .. }
        | Fault::Wire { .. }
        | Fault::Junk { .. }
        | Fault::Burst { .. }
        | Fault::Tombstone { .. } => false,
    }
}

/// How bad a link is for probes whose way there and way back may each take `late_after`: what comes
/// later counts as lost.
fn of_link(link: &Link, late_after: Duration) -> Severity {
    let overtaken = if link.reorder_by > late_after { link.reorder } else { 0.0 };
    let late = Some(later_than(&link.delay, late_after)).filter(|late| *late > LATE_NONE_MAX);
    let lost = link.loss + link.corrupt + link.truncate + overtaken + late.unwrap_or(0.0);
    let has_limit = link.burst.is_some() || link.rate.is_some() || link.mtu.is_some();
    let is_slow = later_than(&link.delay, late_after / 2) > LATE_NONE_MAX;
    if lost > MILD_LOSS_MAX || has_limit {
        Severity::Heavy
    } else if lost > 0.0 || link.dup > 0.0 || link.reorder > 0.0 || is_slow {
        Severity::Mild
    } else {
        Severity::None
    }
}

/// Share of datagrams that take longer than this.
fn later_than(delay: &Delay, most: Duration) -> f64 {
    let is_later = |delay: Duration| if delay > most { 1.0 } else { 0.0 };
    let most_s = most.as_secs_f64();
    match *delay {
        Delay::Const(delay) => is_later(delay),
        Delay::Uniform(least, most) if most <= least => is_later(least),
        Delay::Uniform(least, most) => {
            let (least, most) = (least.as_secs_f64(), most.as_secs_f64());
            ((most - most_s) / (most - least)).clamp(0.0, 1.0)
        }
        Delay::Exp { min, mean } => {
            let rest = most_s - min.as_secs_f64();
            if rest <= 0.0 { is_later(min) } else { libm::exp(-rest / mean.as_secs_f64()) }
        }
        Delay::Lognormal { median, p99 } => {
            let (median, p99) = (median.as_secs_f64(), p99.as_secs_f64());
            let sigma = libm::log((p99 / median).max(1.0)) / NORMAL_P99;
            0.5 * libm::erfc(libm::log(most_s / median) / (sigma * std::f64::consts::SQRT_2))
        }
        Delay::Pareto { min, alpha } => {
            libm::pow(min.as_secs_f64() / most_s, alpha.max(0.1)).min(1.0)
        }
        Delay::Bimodal { fast, slow, p_slow } => {
            is_later(slow) * p_slow + is_later(fast) * (1.0 - p_slow)
        }
    }
}

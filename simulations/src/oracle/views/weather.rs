//! Whether anything is wrong with the world just now: rules about time hold only if nothing is.

use std::time::Duration;

use grapevine_protocol::Moment;

use crate::plan::{Delay, Fault, Link, Plan};

/// More loss than this, or anything that counts as loss, is more than a LAN does.
const MILD_LOSS_MAX: f64 = 0.05;

/// Later answers than this come after a probe's time is half over.
const MILD_DELAY_MAX: Duration = Duration::from_millis(50);

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
        let rules = plan.link_rules.iter().map(|rule| of_link(&rule.link));
        let links = rules.fold(of_link(&plan.link), Ord::max);
        Self {
            severities: plan.faults.iter().map(|timed| of_fault(&timed.fault)).collect(),
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

fn of_fault(fault: &Fault) -> Severity {
    match fault {
        // Somebody who is not there, or clients who do something, are no weather.
        Fault::Crash { .. }
        | Fault::Start { .. }
        | Fault::Leave { .. }
        | Fault::Burst { .. }
        | Fault::Tombstone { .. } => Severity::None,
        Fault::Link { link, .. } => of_link(link),
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

fn of_link(link: &Link) -> Severity {
    let late = if link.reorder_by > MILD_DELAY_MAX { link.reorder } else { 0.0 };
    let lost = link.loss + link.corrupt + link.truncate + late;
    let has_limit = link.burst.is_some() || link.rate.is_some() || link.mtu.is_some();
    if lost > MILD_LOSS_MAX || has_limit || slowest(&link.delay) > MILD_DELAY_MAX {
        Severity::Heavy
    } else if lost > 0.0 || link.dup > 0.0 || link.reorder > 0.0 {
        Severity::Mild
    } else {
        Severity::None
    }
}

/// What hardly any datagram exceeds.
fn slowest(delay: &Delay) -> Duration {
    match *delay {
        Delay::Const(delay) => delay,
        Delay::Uniform(least, most) => least.max(most),
        // One in a thousand is later than 7 times the average.
        Delay::Exp { min, mean } => min + 7 * mean,
        Delay::Lognormal { p99, .. } => 2 * p99,
        Delay::Pareto { .. } => Duration::MAX,
        Delay::Bimodal { fast, slow, .. } => fast.max(slow),
    }
}

//! A node's two clocks.

use grapevine_gossip::cluster::ClusterTime;
use grapevine_protocol::Moment;

use crate::luck::Draw;

/// Wall clock of a run at its beginning, in ns since 1970.
const WALL_NS: i64 = 1_700_000_000_000_000_000;

/// Wall clocks are off by up to this much; nothing but what people are shown depends on them.
const WALL_OFF_MS_MAX: f64 = 3_600_000.0;

/// Quartz is off by up to this much.
const DRIFT_MAX: f64 = 50e-6;

/// A rate of 1 in the fixed-point numbers used here: 32 bits after the point.
const ONE: f64 = (1_u64 << 32) as f64;

/// The clocks of one node. The monotonic one begins anew with each process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// World time (ns) at which `local` was right, and the rate since.
    base: u64,
    local: u64,
    rate: u64,
    /// The rate when nothing is wrong.
    natural: f64,
    wall_offset_ms: i64,
}

impl Clock {
    pub(super) fn new(draw: Draw) -> Self {
        let natural = 1.0 + DRIFT_MAX * (2.0 * draw.unit(0) - 1.0);
        let off = WALL_OFF_MS_MAX * (2.0 * draw.unit(1) - 1.0);
        let rate = (natural * ONE) as u64;
        Self { base: 0, local: 0, rate, natural, wall_offset_ms: off as i64 }
    }

    /// A process starts: its monotonic clock is at zero.
    pub(super) fn begin(&mut self, now: u64) {
        self.base = now;
        self.local = 0;
    }

    /// What a process reads at world time `now`.
    pub(super) fn read(&self, now: u64) -> ClusterTime {
        ClusterTime { at: self.local(now), wall_ns: self.wall_ns(now) }
    }

    pub(super) fn wall_ns(&self, now: u64) -> i64 {
        let elapsed = i64::try_from(now).unwrap_or(i64::MAX);
        WALL_NS
            .saturating_add(self.wall_offset_ms.saturating_mul(1_000_000))
            .saturating_add(elapsed)
            .max(0)
    }

    pub(super) fn local(&self, now: u64) -> Moment {
        let elapsed = u128::from(now.saturating_sub(self.base));
        let local = (elapsed * u128::from(self.rate)) >> 32;
        Moment(self.local.saturating_add(u64::try_from(local).unwrap_or(u64::MAX)))
    }

    /// The world time at which the monotonic clock first shows `moment`.
    pub(super) fn when(&self, moment: Moment) -> u64 {
        let ahead = u128::from(moment.as_nanos().saturating_sub(self.local));
        let elapsed = (ahead << 32).div_ceil(u128::from(self.rate.max(1)));
        self.base.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// The monotonic clock runs at `rate` times its natural rate from now on.
    pub(super) fn set_rate(&mut self, now: u64, rate: f64) {
        self.local = self.local(now).as_nanos();
        self.base = now;
        self.rate = ((self.natural * rate.clamp(0.001, 1000.0)) * ONE) as u64;
    }

    /// The wall clock jumps.
    pub(super) fn jump(&mut self, wall_jump_ms: i64) {
        self.wall_offset_ms = self.wall_offset_ms.saturating_add(wall_jump_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_exactly_when_the_clock_shows_its_moment() {
        for luck in 0..200 {
            let mut clock = Clock::new(Draw(luck));
            clock.begin(77);
            clock.set_rate(5_000_000_123, 0.5 + Draw(luck).unit(9));
            for moment in [Moment(6_000_000_001), Moment(u64::from(u32::MAX) * 77)] {
                let at = clock.when(moment);
                assert!(clock.local(at) >= moment);
                assert!(clock.local(at - 1) < moment);
            }
        }
    }

    #[test]
    fn a_change_of_rate_does_not_make_the_clock_jump() {
        let mut clock = Clock::new(Draw(1));
        let before = clock.local(1_000_000_000);
        clock.set_rate(1_000_000_000, 2.0);
        assert_eq!(clock.local(1_000_000_000), before);
        let later = clock.local(2_000_000_000).since(before).as_secs_f64();
        assert!((1.999..2.001).contains(&later), "{later}");
    }
}

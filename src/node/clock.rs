//! The clocks of the node: the only place the broker's time comes from.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grapevine_broker::Now;
use grapevine_protocol::Moment;

/// The monotonic clock since the start of the process, and the wall clock beside it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts at zero now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Both clocks, read one after the other.
    pub fn now(&self) -> Now {
        Now { mono: self.moment(), wall: wall_ns() }
    }

    /// The monotonic clock alone.
    pub fn moment(&self) -> Moment {
        Moment::default() + self.started.elapsed()
    }

    /// `moment` for tokio's timers; a moment nobody reaches is a year from now.
    pub fn instant(&self, moment: Moment) -> tokio::time::Instant {
        /// tokio's timer wheel spans about two years; nothing here waits that long.
        const FAR: Duration = Duration::from_secs(365 * 24 * 3_600);
        let elapsed = self.started.elapsed();
        let ahead = moment.since(Moment::default()).saturating_sub(elapsed);
        (self.started + elapsed + ahead.min(FAR)).into()
    }
}

/// Unix time in nanoseconds.
pub fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_still_wait_when_the_node_has_been_up_for_years() {
        let years = Duration::from_secs(3 * 365 * 24 * 3_600);
        let Some(started) = Instant::now().checked_sub(years) else { return };
        let clock = Clock { started };
        let due = clock.instant(clock.moment() + Duration::from_secs(60));
        let left = due - tokio::time::Instant::now();
        assert!(left > Duration::from_secs(50), "{left:?}: the timekeeper would spin");
        assert!(clock.instant(Moment::MAX) > due);
    }
}

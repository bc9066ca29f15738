//! Message ids: unique across the cluster and across restarts, increasing within a topic.

use std::sync::atomic::{AtomicU64, Ordering};

/// Where ids start counting: 2026-01-01T00:00:00Z in Unix nanoseconds, so that 48 bits last longer.
const EPOCH_UNIX_NS: i64 = 1_767_225_600_000_000_000;

/// One tick of the counter is 2^12 ns (4.1 us): 48 bits of it last 36 years.
const TICK_SHIFT: u32 = 12;

/// Ids that a mark is ahead of what was given out: more than a node gives out between two marks,
/// which are written each second. A restart skips 17 s worth of ids for it.
const MARK_AHEAD: u64 = 1 << 22;

/// Low bits of an id that tell the node.
const NODE_BITS: u32 = 16;

/// Gives out message ids: `counter << 16 | node`.
///
/// The counter follows the wall clock in ticks of 4.1 us and never goes back; more messages than
/// ticks borrow from the future. [`mark`](Self::mark) is to be remembered by the owner each second,
/// so that a restart, or a clock set back, cannot give out an id twice.
#[derive(Debug)]
pub struct IdSource {
    next: AtomicU64,
    node: u64,
}

impl IdSource {
    /// What one id and the next of the same node differ by.
    pub const STEP: u64 = 1 << NODE_BITS;

    /// Ids of `node`, all above `floor` (an id, or a high-water mark of an earlier life).
    pub const fn new(node: u16, floor: u64) -> Self {
        Self { next: AtomicU64::new((floor >> NODE_BITS) + 1), node: node as u64 }
    }

    /// Reserves `count` ids; the first is returned, the others follow in steps of [`Self::STEP`].
    ///
    /// `wall_ns`: Unix nanoseconds.
    pub fn reserve(&self, count: u64, wall_ns: i64) -> u64 {
        let ticks = (wall_ns.saturating_sub(EPOCH_UNIX_NS).max(0) as u64) >> TICK_SHIFT;
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let first = next.max(ticks);
            match self.next.compare_exchange_weak(
                next,
                first + count,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return (first << NODE_BITS) | self.node,
                Err(seen) => next = seen,
            }
        }
    }

    /// Makes every id from now on greater than `floor`, an id found elsewhere.
    pub fn raise(&self, floor: u64) {
        self.next.fetch_max((floor >> NODE_BITS) + 1, Ordering::Relaxed);
    }

    /// What a restart must begin above: every id given out so far is below this, and so are those
    /// that will be given out until the next mark is written, even if the process is killed before.
    pub fn mark(&self) -> u64 {
        self.high_water().saturating_add(MARK_AHEAD * Self::STEP)
    }

    /// Every id given out so far is below this.
    pub fn high_water(&self) -> u64 {
        (self.next.load(Ordering::Relaxed) << NODE_BITS) | self.node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_even_when_the_clock_goes_back() {
        let ids = IdSource::new(7, 0);
        let late = ids.reserve(3, EPOCH_UNIX_NS + 1_000_000_000);
        let after = ids.reserve(1, EPOCH_UNIX_NS);
        assert_eq!(after, late + 3 * IdSource::STEP);
        assert_eq!(late & 0xffff, 7);
    }

    #[test]
    fn a_restart_starts_above_the_high_water_mark() {
        let ids = IdSource::new(1, 0);
        ids.reserve(1_000_000, EPOCH_UNIX_NS);
        let mark = ids.high_water();
        let again = IdSource::new(1, mark);
        assert!(again.reserve(1, EPOCH_UNIX_NS) > mark);
    }

    #[test]
    fn what_was_given_out_after_the_last_mark_does_not_come_again_after_a_kill() {
        let ids = IdSource::new(0x2a, 0);
        ids.reserve(1_000, EPOCH_UNIX_NS);
        let mark = ids.mark();
        let last = ids.reserve(1_000_000, EPOCH_UNIX_NS) + 999_999 * IdSource::STEP;
        // The clock shows an earlier time than the epoch of ids, as one without a battery does.
        assert!(IdSource::new(0x2a, mark).reserve(1, 0) > last);
        assert_eq!(mark & 0x3f, 0x2a, "the random bits of a node are kept in its mark");
    }
}

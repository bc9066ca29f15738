//! The node-wide bound on what logs keep in memory.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that all logs of a node may together hold in tail chunks and read-ahead blocks.
///
/// A log that is refused room reads and writes through small buffers instead: slower, never wrong.
#[derive(Debug)]
pub struct CacheBudget {
    bytes_max: u64,
    used: AtomicU64,
}

impl CacheBudget {
    /// A budget of `bytes_max` bytes.
    pub const fn new(bytes_max: u64) -> Self {
        Self { bytes_max, used: AtomicU64::new(0) }
    }

    /// Bytes in use now. May exceed the maximum: the last small buffer of a log, and messages that
    /// exist only in memory, are counted but not refused.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The bound this budget was made with, in bytes.
    pub const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Takes `bytes` if they fit.
    pub(crate) fn try_take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|&after| after <= self.bytes_max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Takes `bytes` whether they fit or not.
    pub(crate) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Default for CacheBudget {
    fn default() -> Self {
        Self::new(DEFAULT_BYTES)
    }
}

/// 32 MiB: a hundred busy topics with a full-sized chunk each, and small beside an nsqd's heap.
const DEFAULT_BYTES: u64 = 32 * 1024 * 1024;

//! How much goes wrong if a file does not say.

use std::time::Duration;

use super::ChaosClass;

/// What may go wrong if a file does not say: all but copied disks, which the cluster answers by
/// stopping a node for good, and a mended core.
pub(super) const USUAL: [ChaosClass; 32] = {
    use ChaosClass::*;
    [
        Partition, Oneway, Shapes, Flap, Swizzle, Loss, BurstLoss, Delay, Dup, Reorder, Corrupt,
        Truncate, Rate, Mtu, Link, Pause, SlowCpu, Crash, PowerLoss, DiskLoss, Rollback, Move,
        Leave, Clock, Disk, Wire, Junk, Burst, Tombstone, Foreign, Knobs, Buggify,
    ]
};

/// Groups of faults drawn by luck begin at this number, so that they are none of the file's.
pub(crate) const GROUPS: u32 = 1_000;
/// Group numbers per class.
pub(super) const GROUPS_PER_CLASS: u32 = 100;
/// Faults of one class in a run are at most so many.
pub(super) const FAULTS_MAX: f64 = 8.0;
/// One fault of a class in this time at the highest intensity.
pub(super) const FAULT_PAUSE_S: f64 = 8.0;
/// Faults last from this long ...
pub(super) const LASTS_MIN_S: f64 = 0.3;
/// ... to this long at the highest intensity.
pub(super) const LASTS_MAX_S: f64 = 20.0;
/// A fault of luck is over this long after chaos at the latest: the longest there is.
pub(crate) const LONGEST: Duration = Duration::from_secs(LASTS_MAX_S as u64);

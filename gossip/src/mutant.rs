//! Planted bugs, to measure how many of them the simulator finds.
//!
//! Every place of a bug asks [`mutant!`](crate::mutant!), which is plainly `false` without the
//! feature `mutants`, so that the program that ships has none of them. With it, the bug that
//! [`plant`] named is there, in this thread only: a search plants each in turn in one process.
//! The numbers are those of the table in the simulator's design.

macro_rules! mutants {
    ($($id:ident $shelf:ident $meaning:literal,)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Mutant {
            $(#[doc = $meaning] $id,)*
        }

        impl Mutant {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$id,)*];

            /// Its number: `M07`.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$id => stringify!($id),)* }
            }

            /// Where it belongs.
            pub const fn shelf(self) -> Shelf {
                match self { $(Self::$id => Shelf::$shelf,)* }
            }

            /// What is wrong with it.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$id => $meaning,)* }
            }
        }
    };
}

/// Which planted bugs are looked for together.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Shelf {
    /// For every change: all found within 30 s.
    First,
    /// For every night.
    Second,
    /// One for each rule that no bug of the other shelves breaks, so that every rule is proven.
    Rules,
    /// Of brokers: found by scenarios that have them.
    Brokers,
    /// Found by any run, or the search itself is broken.
    Canary,
}

mutants! {
    M01 First "a node whose members are all down no longer tries to reach them",
    M02 First "after renewing its identity a node waits for a packet before it probes again",
    M03 First "a suspicion that was refuted in time expels its member all the same",
    M04 First "a node that was declared down does not renew its identity and stays out",
    M05 First "of two identities at one address the older one wins",
    M06 First "an epoch is used again after a restart, because it was shown before it was durable",
    M07 First "the epoch is the wall clock's and nothing else: with the clock back it is too old",
    M08 First "a newer epoch does not begin a new copy",
    M09 First "news of an older epoch is applied",
    M10 First "a delta is applied although others before it are missing",
    M11 First "a delta that was cut claims to be whole",
    M12 First "deltas leave out deletions",
    M13 First "deletions are forgotten without saying up to which version",
    M14 First "a late delta brings back a key whose deletion has been forgotten",
    M15 First "a snapshot replaces the copy instead of being merged into it",
    M16 First "a member that is down loses its keys but keeps its version",
    M17 First "a producer is listed whether or not its node is a member",
    M18 First "who left is forgotten at once",
    M19 First "a tombstone hides the producer in all topics",
    M20 First "registering and unregistering in a row share one version",

    N01 Second "a version that is already known is passed on as news",
    N02 Second "a member that comes back stays hidden",
    N03 Second "once in sync, a node no longer compares digests",
    N04 Second "the copies of owners that are down are kept for ever",
    N05 Second "news of somebody who is not a member is taken, and kept for ever",
    N06 Second "the epoch is not synced to the disk, and used again after lost power",
    N07 Second "a node leaves without a word",
    N08 Second "members are probed every 60 ms",
    N09 Second "after a stall timers fire before the socket is read, as if no time was lost",
    N10 Second "everything is told once only",
    N11 Second "a goodbye is said once, to one member",
    N12 Second "a pull is answered with the range that was asked of another owner",
    N13 Second "the digest leaves in what has been replaced: later versions do not change it",
    N14 Second "a pull that is not answered is never tried again",
    N15 Second "identities are renewed without limit",
    N16 Second "packets of strangers are answered wherever they claim to come from",
    N17 Second "topics that are gone stay in the index",
    N18 Second "half of a snapshot is applied as if it were all",
    N19 Second "the queue of rumours has an entry for each change, not for each owner",
    N20 Second "silence is measured by the wall clock",

    X01 Rules "forgetting a node also deletes this node's own registrations of its topics",
    X02 Rules "datagrams are filled to twice their size",
    X03 Rules "order comes from a hash with a key of the process",
    X04 Rules "a copy goes back to an earlier version when its owner comes back",
    X05 Rules "a copy counts one version more than it has taken in",
    X06 Rules "who is suspected is never declared dead",
    X07 Rules "who was a member and went down is never let in again",
    X08 Rules "a timer that has fired is due again at once",
    X09 Rules "a rumour is told three times as often",
    X10 Rules "a node that renews its identity renews it once more",
    X11 Rules "digests are compared half as often",
    X12 Rules "a byte of a datagram is read before its length is looked at",
    X13 Rules "a node that is not alone tries neither seeds nor members that are down",
    X14 Rules "a node that renews its identity renews it once more, now and then",

    Y01 Brokers "what is acknowledged is not yet in the hands of the operating system",
    Y02 Brokers "a checkpoint leaves out what is in flight or waits again",
    Y03 Brokers "what is published is stored twice",
    Y04 Brokers "attempts are forgotten by a clean stop",
    Y05 Brokers "a new topic begins without the channels that the cluster knows",
    Y06 Brokers "a new topic begins without the channels of nodes that are down",
    Y07 Brokers "a deferred message is published as one that is not",
    Y08 Brokers "who waits is not woken by new messages",
    Y09 Brokers "a checkpoint that was not written counts as written",
    Y10 Brokers "with fsync, what is acknowledged is not yet on the device",

    Canary Canary "a write of this node's own is lost at once",
}

impl Mutant {
    /// The bug with this number, in any case.
    pub fn by_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.id().eq_ignore_ascii_case(id))
    }

    /// Those of one shelf, in order.
    pub fn on(shelf: Shelf) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |mutant| mutant.shelf() == shelf)
    }
}

impl std::fmt::Display for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}

/// Whether this build can plant bugs.
pub const IS_AVAILABLE: bool = cfg!(feature = "mutants");

#[cfg(feature = "mutants")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Runs `what` with a bug planted in this thread, or with none; afterwards it is as it was.
///
/// Without the feature `mutants` it plants nothing.
pub fn plant<T>(mutant: Option<Mutant>, what: impl FnOnce() -> T) -> T {
    #[cfg(feature = "mutants")]
    {
        /// Also after a panic, which is one way to find a bug.
        struct Before(Option<Mutant>);
        impl Drop for Before {
            fn drop(&mut self) {
                PLANTED.set(self.0);
            }
        }
        let _before = Before(PLANTED.replace(mutant));
        what()
    }
    #[cfg(not(feature = "mutants"))]
    {
        let _ = mutant;
        what()
    }
}

/// Whether this bug is planted in this thread. Ask by [`mutant!`](crate::mutant!).
#[cfg(feature = "mutants")]
#[inline]
pub fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// Whether this bug is planted in this thread: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is_planted(_mutant: Mutant) -> bool {
    false
}

/// `mutant!(M07)`: whether that bug is planted. A constant `false` without the feature `mutants`.
#[macro_export]
macro_rules! mutant {
    ($id:ident) => {
        $crate::mutant::is_planted($crate::mutant::Mutant::$id)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shelf_has_its_bugs() {
        assert_eq!(Mutant::on(Shelf::First).count(), 20);
        assert_eq!(Mutant::on(Shelf::Second).count(), 20);
        assert_eq!(Mutant::by_id("m07"), Some(Mutant::M07));
        assert_eq!(Mutant::by_id("M21"), None);
    }

    #[test]
    fn a_bug_is_there_only_while_it_is_planted_and_only_with_the_feature() {
        assert!(!mutant!(M01));
        plant(Some(Mutant::M01), || {
            assert_eq!(mutant!(M01), IS_AVAILABLE);
            assert!(!mutant!(M02));
            plant(None, || assert!(!mutant!(M01)));
            assert_eq!(mutant!(M01), IS_AVAILABLE);
        });
        assert!(!mutant!(M01));
    }
}

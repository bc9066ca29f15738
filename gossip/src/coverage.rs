//! What the simulator sees of the inside of a core: which points a run reached, and deviations
//! that are allowed at any time but rarely happen by themselves.
//!
//! - [`sometimes!`](crate::sometimes!) marks a point. Over many runs each must be reached, or the
//!   runs do not test what they are thought to test.
//! - [`buggify!`](crate::buggify!) asks whether to deviate here: to be late, to send less, to
//!   answer twice. Every deviation is one that peers have to bear anyway, from a busy node or a bad
//!   network; no rule may depend on its absence. A run arms some sites, and an armed site deviates
//!   now and then (FoundationDB's BUGGIFY).
//!
//! Both belong to the thread: they cost one look at a flag of the thread until somebody
//! [`watch`]es, and only a simulation does.

use std::cell::Cell;

macro_rules! names {
    ($(#[$doc:meta])* $list:ident: $($name:literal,)*) => {
        $(#[$doc])*
        pub const $list: &[&str] = &[$($name,)*];
    };
}

names! {
    /// Every point that [`sometimes!`](crate::sometimes!) marks, by what is so when it is reached.
    POINTS:
    // Joining, and who this node is.
    "join_by_seed",
    "join_by_peer",
    "join_alone",
    "join_retried",
    "seed_is_self",
    "epoch_taken_told",
    "epoch_bumped",
    "epoch_jump_refused",
    "own_id_elsewhere",
    "twin_detected",
    // Deltas, snapshots, pulls.
    "gap",
    "stale_epoch_dropped",
    "new_epoch_replaces",
    "owner_not_active_ignored",
    "snapshot_sent",
    "snapshot_applied",
    "snapshot_merged",
    "snapshot_below_floor",
    "snapshot_cut",
    "delta_cut",
    "pull_retry",
    "pull_by_stream",
    "pull_answered_by_another",
    "pull_given_up",
    // Rumours and digests.
    "rumour_by_head",
    "rumour_superseded",
    "budget_exhausted",
    "digest_mismatch",
    "bucket_heads_answered",
    "views_differ",
    "member_sync",
    "call_outdated",
    "exchange_cut",
    "call_not_waited_for",
    // Members.
    "suspicion_refuted",
    "stale_timer_dropped",
    "identity_renewed",
    "renewal_refused",
    "refusal_confirmed",
    "refusal_contradicted",
    "member_moved",
    "member_replaced",
    "member_left_unheard",
    "down_not_taught",
    "reply_curbed",
    "stranger_refused",
    "reconnect",
    // Streams and packets.
    "streams_full",
    "stream_silent",
    "stream_overdue",
    "frame_refused",
    "wire_version_refused",
    "other_cluster_refused",
    "damage_refused",
    "flood_refused",
    // Sections of the absent, deletions, wishes.
    "detached_section_kept",
    "detached_forgotten_by_age",
    "detached_forgotten_by_cap",
    "deletions_forgotten",
    "wish_sent",
    "wish_carried_out",
    "wish_fulfilled",
    "wish_expired",
    "tombstone_ended",
    "draining",
    // Oneself.
    "stall_noticed",
    "slowness_raised",
    "slowness_lowered",
    "peers_remembered",
    "leave_told",
}

names! {
    /// Every site that [`buggify!`](crate::buggify!) asks about, by what it does.
    SITES:
    "flush_late",
    "small_deltas",
    "snapshot_instead_of_delta",
    "pull_answered_twice",
    "pull_not_sent",
    "digest_left_out",
    "digest_twice",
    "heads_not_answered",
    "rumour_not_told",
    "views_compared_early",
    "few_save_streams",
    "exchange_ends_early",
    "wish_late",
    "deletions_forgotten_early",
    "detached_forgotten_early",
}

/// Points fit one word of flags.
const _: () = assert!(POINTS.len() <= 128, "more points than flags");

thread_local! {
    static WATCH: Watch = const {
        Watch {
            is_on: Cell::new(false),
            reached: Cell::new(0),
            luck: Cell::new(0),
            threshold: Cell::new(0),
        }
    };
}

/// What this thread watches.
struct Watch {
    is_on: Cell<bool>,
    reached: Cell<u128>,
    /// Number that luck depends on; differs between runs.
    luck: Cell<u64>,
    /// Below this a draw of 32 bits deviates; 0: never.
    threshold: Cell<u64>,
}

/// Points that were reached.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reached(u128);

impl Reached {
    /// Their names, in the order of [`POINTS`].
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        POINTS
            .iter()
            .enumerate()
            .filter(move |(at, _)| self.0 >> at & 1 == 1)
            .map(|(_, name)| *name)
    }
}

/// Runs `what` and notes in this thread which points it reaches.
///
/// `deviation` is how likely a site is armed in this run; an armed one then deviates with the same
/// probability. Equal `luck` gives equal deviations, whatever else differs; it lasts until
/// [`disarm`].
pub fn watch<T>(deviation: f64, luck: u64, what: impl FnOnce() -> T) -> (T, Reached) {
    /// Also after a panic.
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            WATCH.with(|watch| {
                watch.is_on.set(false);
                watch.threshold.set(0);
            });
        }
    }
    let off = Off;
    WATCH.with(|watch| {
        watch.is_on.set(true);
        watch.reached.set(0);
        watch.luck.set(luck);
        watch.threshold.set((deviation.clamp(0.0, 1.0) * (1_u64 << 32) as f64) as u64);
    });
    let result = what();
    drop(off);
    (result, Reached(WATCH.with(|watch| watch.reached.get())))
}

/// From now on nothing deviates in this run.
pub fn disarm() {
    WATCH.with(|watch| watch.threshold.set(0));
}

/// Number of a point, for [`sometimes!`](crate::sometimes!).
pub const fn point(name: &str) -> usize {
    place(POINTS, name)
}

/// Number of a site, for [`buggify!`](crate::buggify!): of its name, so that another site more or
/// less does not change its luck.
pub const fn site(name: &str) -> u64 {
    place(SITES, name);
    // FNV-1a.
    let (bytes, mut hash, mut at) = (name.as_bytes(), 0xcbf2_9ce4_8422_2325_u64, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x100_0000_01b3);
        at += 1;
    }
    hash
}

/// Where `name` is in `list`. At compile time, so that nobody marks what nobody can ask for.
const fn place(list: &[&str], name: &str) -> usize {
    let mut at = 0;
    while at < list.len() {
        if is_equal(list[at], name) {
            return at;
        }
        at += 1;
    }
    panic!("not in the list of coverage.rs")
}

const fn is_equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// Notes that a point was reached. Say it by [`sometimes!`](crate::sometimes!). Most points are
/// rarely reached: what they take is out of the way of what is done all the time.
#[cold]
#[inline(never)]
pub fn reach(point: usize) {
    WATCH.with(|watch| {
        if watch.is_on.get() {
            watch.reached.set(watch.reached.get() | 1 << point);
        }
    });
}

/// Whether to deviate. Ask by [`buggify!`](crate::buggify!).
#[inline]
pub fn deviates(site: u64, about: &[u64]) -> bool {
    WATCH.with(|watch| watch.threshold.get()) != 0 && draws_deviation(site, about)
}

#[cold]
#[inline(never)]
fn draws_deviation(site: u64, about: &[u64]) -> bool {
    WATCH.with(|watch| {
        let threshold = watch.threshold.get();
        is_armed(site) && draw(watch.luck.get(), site, about) < threshold
    })
}

/// Whether a site may deviate in this run. Ask by [`is_armed!`](crate::is_armed!).
#[inline]
pub fn is_armed(site: u64) -> bool {
    WATCH.with(|watch| {
        let threshold = watch.threshold.get();
        threshold != 0 && draw(watch.luck.get(), site, &[]) < threshold
    })
}

/// 32 bits that depend on all of it.
fn draw(luck: u64, site: u64, about: &[u64]) -> u64 {
    let mixed = about.iter().fold(mix(luck ^ mix(site)), |hash, word| mix(hash ^ word));
    mix(mixed ^ about.len() as u64) >> 32
}

/// SplitMix64's step.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `sometimes!("gap")`: this point was reached. Free in a thread that nobody watches, but for one
/// look at a flag.
#[macro_export]
macro_rules! sometimes {
    ($name:literal) => {{
        const POINT: usize = $crate::coverage::point($name);
        $crate::coverage::reach(POINT);
    }};
}

/// `buggify!("flush_late", seed, now)`: whether to deviate at this site about this. The words after
/// the site say what the choice is about, so that one choice more or less changes no other.
#[macro_export]
macro_rules! buggify {
    ($name:literal, $($about:expr),+ $(,)?) => {{
        const SITE: u64 = $crate::coverage::site($name);
        $crate::coverage::deviates(SITE, &[$($about),+])
    }};
}

/// `is_armed!("flush_late")`: whether that site may deviate in this run, so that a core that has
/// nothing to do need not ask about each thing it would do.
#[macro_export]
macro_rules! is_armed {
    ($name:literal) => {{
        const SITE: u64 = $crate::coverage::site($name);
        $crate::coverage::is_armed(SITE)
    }};
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_there_once() {
        for list in [POINTS, SITES] {
            assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len());
        }
    }

    #[test]
    fn a_point_counts_while_somebody_watches_and_in_that_run_only() {
        sometimes!("gap");
        let ((), first) = watch(0.0, 0, || sometimes!("pull_retry"));
        sometimes!("draining");
        let ((), second) = watch(0.0, 0, || ());
        assert_eq!(first.names().collect::<Vec<_>>(), ["pull_retry"]);
        assert_eq!(second, Reached::default());
    }

    /// How often two of the sites deviate in a run.
    fn deviations(share: f64, luck: u64) -> [Vec<u64>; 2] {
        let about = |site: fn(u64) -> bool| (0..1_000).filter(|&n| site(n)).collect();
        let both = || [about(|n| buggify!("flush_late", n)), about(|n| buggify!("wish_late", n))];
        watch(share, luck, both).0
    }

    #[test]
    fn nothing_deviates_unless_it_is_armed() {
        assert!(!buggify!("flush_late", 1));
        assert!(deviations(0.0, 1).iter().all(Vec::is_empty));
        assert_eq!(deviations(1.0, 1)[0].len(), 1_000);
        watch(1.0, 1, || {
            assert!(buggify!("flush_late", 1));
            disarm();
            assert!(!buggify!("flush_late", 1));
        });
        let panicked =
            std::panic::catch_unwind(|| watch(1.0, 1, || std::panic::resume_unwind(Box::new(()))));
        assert!(panicked.is_err() && !buggify!("flush_late", 1));
    }

    #[test]
    fn a_quarter_of_the_sites_is_armed_and_deviates_a_quarter_of_the_time() {
        let (mut armed, mut both) = (0, 0);
        for luck in 0..1_000 {
            let runs = deviations(0.25, luck);
            for deviations in &runs {
                let count = deviations.len();
                assert!(count == 0 || (180..320).contains(&count), "{count}");
                armed += usize::from(count > 0);
            }
            both += usize::from(runs.iter().all(|deviations| !deviations.is_empty()));
        }
        assert!((430..570).contains(&armed), "{armed}");
        assert!((30..100).contains(&both), "independent of each other: {both}");
        assert_eq!(deviations(0.25, 7), deviations(0.25, 7));
    }
}

//! One way to run a plan, so that swarms, replays and shrinking need not know who runs it.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::expect;
use crate::outcome::{Outcome, Stats, Violation};
use crate::plan::Plan;
use crate::trace::Recorder;
use crate::world::{Progress, World};

/// Runs a plan and tells the recorder, if there is one, what happens.
///
/// Must be a function of the plan: the same plan gives the same outcome, in any thread, with or
/// without a recorder. What runs it never panics.
pub type Execute<'a> = dyn Fn(&Plan, Option<&mut dyn Recorder>) -> Outcome + Sync + 'a;

/// The rule that a panic breaks: nothing that a network does may end a node.
pub const PANIC_RULE: &str = "X1";

thread_local! {
    /// The last panic of this thread, while [`execute`] waits for one.
    static PANIC: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// Runs a plan in a [`World`] and compares the outcome with what the scenario promises. A panic
/// anywhere below is a broken rule like any other, [`PANIC_RULE`].
pub fn execute(plan: &Plan, recorder: Option<&mut dyn Recorder>) -> Outcome {
    // What unwinds takes the world with it; how far it had come is kept here.
    let progress = Rc::new(Cell::new(Progress::default()));
    let told = Rc::clone(&progress);
    let run = || World::new(plan).telling(told).run(recorder);
    let mut outcome = caught(run).unwrap_or_else(|panic| panicked(progress.get(), panic));
    if let Some(violation) = expect::broken(plan, &outcome) {
        outcome.violation = Some(violation);
    }
    let measured: Vec<&str> = expect::measured(plan, &outcome).collect();
    outcome.stats.coverage.extend(measured.into_iter().map(str::to_owned));
    outcome
}

/// What `run` returns, or where it panicked and with which words.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    listen();
    PANIC.set(Some(None));
    let result = catch_unwind(AssertUnwindSafe(run));
    let panic = PANIC.take().flatten();
    result.map_err(|_| panic.unwrap_or_default())
}

/// Panics of [`execute`] are kept instead of printed; those of others are printed as before.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_ours = PANIC.with_borrow(Option::is_some);
            if !is_ours {
                return before(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let words = info.payload_as_str().unwrap_or("no text");
            let words = words.replace(char::is_control, " ");
            PANIC.set(Some(Some(format!("at={place} text={words:?}"))));
        }));
    });
}

/// The outcome of a run that came as far as `progress` and panicked there. All its figures but the
/// number of events are lost.
fn panicked(progress: Progress, what: String) -> Outcome {
    // Another panic, or the same after other events, is another run.
    let hash = xxh3_64_with_seed(what.as_bytes(), progress.hash);
    let violation = Violation {
        rule: PANIC_RULE.to_owned(),
        name: "panic".to_owned(),
        node: progress.node.map(|node| node as usize),
        what,
        at: Duration::from_nanos(progress.now),
        event: progress.events,
    };
    Outcome {
        hash,
        checkpoints: Vec::new(),
        stats: Stats { events: progress.events, ..Stats::default() },
        violation: Some(violation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Case, Exactness};
    use crate::scenario::builtin;
    use crate::trace::{Detail, Record};

    /// Panics once this much of the run is over, with these words.
    struct Clumsy(Duration, &'static str);

    impl Recorder for Clumsy {
        fn record(&mut self, record: &Record) {
            assert!(Duration::from_nanos(record.t) < self.0, "{}", self.1);
        }
    }

    fn clumsy(second: u64, words: &'static str) -> Outcome {
        let plan = builtin::find("partition-5").expect("it is built in").plan(3);
        let mut recorder = Clumsy(Duration::from_secs(second), words);
        assert_eq!(recorder.detail(), Detail::Everything);
        execute(&plan, Some(&mut recorder))
    }

    #[test]
    fn a_panic_says_how_far_the_run_had_come_and_where() {
        let outcome = clumsy(5, "oh dear");
        let panic = outcome.violation.expect("it panics");
        assert_eq!((panic.rule.as_str(), panic.event), (PANIC_RULE, outcome.stats.events));
        assert_eq!(panic.at.as_secs(), 5);
        assert!(panic.event > 100 && panic.node.is_some(), "{panic}");
        assert!(panic.what.contains("execute.rs") && panic.what.contains("oh dear"), "{panic}");
        let words = panic.to_string();
        assert!(words.ends_with(&format!("t={:.3}s", panic.at.as_secs_f64())), "{words}");
        let unknown = panicked(Progress::default(), "at=x text=\"y\"".to_owned());
        let unknown = unknown.violation.expect("it panics").to_string();
        assert_eq!(unknown, "X1 panic node=unknown at=x text=\"y\" t=0.000s");
    }

    #[test]
    fn a_replay_of_a_panic_is_exact_only_if_it_is_the_same_panic_after_the_same_events() {
        let plan = builtin::find("partition-5").expect("it is built in").plan(3);
        let mut case = Case::new("partition-5", "", &plan, &clumsy(5, "oh dear"));
        case.commit = "1a2b3c4".to_owned();
        let replay = |outcome: &Outcome| case.exactness(outcome, "1a2b3c4");
        assert_eq!(replay(&clumsy(5, "oh dear")), Exactness::Exact);
        assert_eq!(replay(&clumsy(5, "oh my")), Exactness::Broken);
        assert_eq!(replay(&clumsy(6, "oh dear")), Exactness::Broken);
        assert_eq!(replay(&execute(&plan, None)), Exactness::Broken);
    }
}

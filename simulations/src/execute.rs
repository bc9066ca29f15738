//! One way to run a plan, so that swarms, replays and shrinking need not know who runs it.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::expect;
use crate::outcome::{Outcome, Stats, Violation};
use crate::plan::Plan;
use crate::trace::Recorder;
use crate::world::World;

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
    listen();
    PANIC.set(Some(None));
    let run = AssertUnwindSafe(|| World::new(plan).run(recorder));
    let result = catch_unwind(run);
    let panic = PANIC.take().flatten();
    let mut outcome = result.unwrap_or_else(|_| panicked(plan, panic.unwrap_or_default()));
    if let Some(violation) = expect::broken(plan, &outcome) {
        outcome.violation = Some(violation);
    }
    outcome
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

fn panicked(plan: &Plan, what: String) -> Outcome {
    let violation = Violation {
        rule: PANIC_RULE.to_owned(),
        name: "panic".to_owned(),
        node: 0,
        what,
        at: plan.end,
        event: 0,
    };
    Outcome {
        hash: 0,
        checkpoints: Vec::new(),
        stats: Stats::default(),
        violation: Some(violation),
    }
}

//! One way to run a plan, so that swarms, replays and shrinking need not know who runs it.

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::trace::Recorder;

/// Runs a plan and tells the recorder, if there is one, what happens.
///
/// Must be a function of the plan: the same plan gives the same outcome, in any thread, with or
/// without a recorder. What runs it never panics.
pub type Execute<'a> = dyn Fn(&Plan, Option<&mut dyn Recorder>) -> Outcome + Sync + 'a;

//! `simulate diff`: where two cases part.

use super::args::DiffArgs;
use super::compare::Parting;
use super::{Ending, Refusal, Verdict, terminal};
use crate::case::Case;
use crate::execute::execute;

pub(super) fn run(args: &DiffArgs) -> Ending {
    let left = Case::read(&args.left).map_err(Refusal::new)?;
    let right = Case::read(&args.right).map_err(Refusal::new)?;
    let (a, b) = (execute(&left.plan, None), execute(&right.plan, None));
    let names = (args.left.display().to_string(), args.right.display().to_string());
    for (name, case, outcome) in [(&names.0, &left, &a), (&names.1, &right, &b)] {
        let end = outcome
            .violation
            .as_ref()
            .map_or_else(|| "all rules held".to_owned(), |violation| format!("FAIL {violation}"));
        terminal::out(&format!(
            "{name}: {} seed {:#x}, {} events, hash {:016x}: {end}\n",
            case.scenario, case.seed, outcome.stats.events, outcome.hash
        ));
    }
    let Some(parting) = Parting::find((&left.plan, &a), (&right.plan, &b), &execute) else {
        terminal::out("They are the same run, bit for bit.\n");
        return Ok(Verdict::Pass);
    };
    terminal::out(&parting.text((&names.0, &left.plan), (&names.1, &right.plan)));
    if left.plan == right.plan {
        terminal::err("The plans are equal, so the runs should be.\n");
        return Ok(Verdict::Nondeterminism);
    }
    Ok(Verdict::Violation)
}

//! `simulate diff`: where two cases part.

use serde_json::json;

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
    let parting = Parting::find((&left.plan, &a), (&right.plan, &b), &execute);
    let verdict = match &parting {
        None => Verdict::Pass,
        Some(_) if left.plan == right.plan => Verdict::Nondeterminism,
        Some(_) => Verdict::Violation,
    };
    if args.json {
        let text = parting.map(|it| it.text((&names.0, &left.plan), (&names.1, &right.plan)));
        let hashes = [&a, &b].map(|outcome| format!("{:016x}", outcome.hash));
        let value = json!({ "verdict": verdict.name(), "hashes": hashes, "differ": text });
        terminal::out(&format!("{value:#}\n"));
        return Ok(verdict);
    }
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
    let Some(parting) = parting else {
        terminal::out("They are the same run, bit for bit.\n");
        return Ok(verdict);
    };
    terminal::out(&parting.text((&names.0, &left.plan), (&names.1, &right.plan)));
    if verdict == Verdict::Nondeterminism {
        terminal::err("The plans are equal, so the runs should be.\n");
    }
    Ok(verdict)
}

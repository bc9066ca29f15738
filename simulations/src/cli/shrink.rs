//! `simulate shrink`: a case made small.

use serde_json::json;

use super::args::ShrinkArgs;
use super::failure::Small;
use super::{Ending, Refusal, Verdict, terminal};
use crate::case::Case;
use crate::execute::execute;
use crate::shrink::shrink;

pub(super) fn run(args: &ShrinkArgs) -> Ending {
    let case = Case::read(&args.case).map_err(Refusal::new)?;
    let Some(violation) = &case.violation else {
        return Err(Refusal::new(format!("{} broke no rule", args.case.display())));
    };
    let spinner = terminal::spinner("looking for a smaller run that fails in the same way");
    let found = shrink(&case.plan, &violation.rule, args.budget, &execute);
    spinner.finish_and_clear();
    let Some(shrunk) = found else {
        if args.json {
            let value = json!({ "verdict": Verdict::Pass.name(), "commit": case.commit });
            terminal::out(&format!("{value:#}\n"));
            return Ok(Verdict::Pass);
        }
        terminal::out(&format!(
            "{} does not break {} in this program (it was written by commit {})\n",
            args.case.display(),
            violation.rule,
            case.commit
        ));
        return Ok(Verdict::Pass);
    };
    let path = args.output.clone().unwrap_or_else(|| args.case.with_extension("min.toml"));
    let small = Small::write(&shrunk, &path)?;
    if args.json {
        let value = json!({
            "verdict": Verdict::Violation.name(),
            "fail": shrunk.outcome.violation,
            "shrunk": small,
        });
        terminal::out(&format!("{value:#}\n"));
        return Ok(Verdict::Violation);
    }
    let fail = shrunk.outcome.violation.as_ref().map(ToString::to_string).unwrap_or_default();
    let faults = case.plan.faults.len();
    terminal::out(&format!(
        "FAIL {fail}\nshrunk: {}\n{faults} faults and {} nodes before; {} runs{}\n",
        small.text(),
        case.plan.nodes,
        small.runs,
        if small.is_complete { "" } else { ", until time was over" }
    ));
    Ok(Verdict::Violation)
}

//! `simulate shrink`: a case made small.

use serde_json::json;

use super::args::ShrinkArgs;
use super::failure::{Small, counted};
use super::unwritten::Unwritten;
use super::{Ending, Refusal, Verdict, source, terminal};
use crate::execute::execute;
use crate::shrink::shrink;

pub(super) fn run(args: &ShrinkArgs) -> Ending {
    let case = source::case(&args.case, "shrink")?;
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
    let mut unwritten = Unwritten::default();
    let small = unwritten.take(Small::write(&shrunk, &path));
    if args.json {
        let value = json!({
            "verdict": Verdict::Violation.name(),
            "fail": shrunk.outcome.violation,
            "shrunk": small,
            "unwritten": unwritten.json(),
        });
        terminal::out(&format!("{value:#}\n"));
        return Ok(unwritten.tell(Verdict::Violation));
    }
    let fail = shrunk.outcome.violation.as_ref().map(ToString::to_string).unwrap_or_default();
    terminal::out(&format!(
        "FAIL {fail}\nshrunk: {}\n{} and {} before; {}\n",
        small.map_or_else(|| "no".to_owned(), |small| small.text()),
        counted(case.plan.faults.len(), "fault"),
        counted(case.plan.nodes, "node"),
        counted(shrunk.runs as usize, "run")
    ));
    Ok(unwritten.tell(Verdict::Violation))
}

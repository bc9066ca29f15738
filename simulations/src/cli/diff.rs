//! `simulate diff`: where two cases part.
//!
//! What is compared are the runs that the cases hold. Both are executed again to see their events;
//! where that is another run than the case's, it is said.

use std::path::Path;

use serde_json::json;

use super::args::DiffArgs;
use super::compare::{Parting, Track};
use super::{Ending, Refusal, Verdict, source, terminal};
use crate::case::{COMMIT, Case, Exactness, is_one_program};
use crate::execute::execute;
use crate::outcome::Outcome;

/// One of two cases.
struct Side {
    name: String,
    case: Case,
    /// The run, done again.
    again: Outcome,
    exactness: Exactness,
}

impl Side {
    fn read(path: &Path) -> Result<Self, Refusal> {
        let case = source::case(path, "diff")?;
        let again = execute(&case.plan, None);
        let exactness = case.exactness(&again, COMMIT);
        Ok(Self { name: path.display().to_string(), case, again, exactness })
    }

    /// The run in a line, and in another if it is not the case's any more.
    fn text(&self) -> String {
        let case = &self.case;
        let end = case
            .violation
            .as_ref()
            .map_or_else(|| "all rules held".to_owned(), |violation| format!("FAIL {violation}"));
        let mut text = format!(
            "{}: {} seed {:#x}, {} events, hash {:016x}: {end}\n",
            self.name,
            terminal::name(&case.scenario),
            case.seed,
            case.events,
            case.hash
        );
        if self.exactness != Exactness::Exact {
            text.push_str(&format!(
                "  executed here it has the hash {:016x} (case by commit {}, this is {COMMIT})\n",
                self.again.hash, case.commit
            ));
        }
        text
    }
}

pub(super) fn run(args: &DiffArgs) -> Ending {
    let (left, right) = (Side::read(&args.left)?, Side::read(&args.right)?);
    let verdict = verdict(&left, &right);
    let text = comparison(&left, &right);
    if args.json {
        let sides = [&left, &right];
        let value = json!({
            "verdict": if verdict == Verdict::Violation { "differ" } else { verdict.name() },
            "hashes": sides.map(|side| format!("{:016x}", side.case.hash)),
            "hashes_here": sides.map(|side| format!("{:016x}", side.again.hash)),
            "exact": sides.map(|side| side.exactness == Exactness::Exact),
            "differ": text,
        });
        terminal::out(&format!("{value:#}\n"));
        return Ok(verdict);
    }
    terminal::out(&format!("{}{}", left.text(), right.text()));
    terminal::out(text.as_deref().unwrap_or("They are the same run, bit for bit.\n"));
    if verdict == Verdict::Nondeterminism {
        terminal::err("The plans are equal and so is the program, so the runs should be.\n");
    }
    Ok(verdict)
}

fn verdict(left: &Side, right: &Side) -> Verdict {
    let is_one = Track::from(&left.case) == Track::from(&right.case);
    let is_broken = [left, right].iter().any(|side| side.exactness == Exactness::Broken);
    let is_one_plan = left.case.plan == right.case.plan;
    if is_broken
        || (is_one_plan && !is_one && is_one_program(&left.case.commit, &right.case.commit))
    {
        Verdict::Nondeterminism
    } else if is_one {
        Verdict::Pass
    } else {
        Verdict::Violation
    }
}

/// Where the runs of the cases part; `None`: nowhere.
fn comparison(left: &Side, right: &Side) -> Option<String> {
    let (a, b) = (Track::from(&left.case), Track::from(&right.case));
    let parting = Parting::find((&left.case.plan, a), (&right.case.plan, b), &execute)?;
    Some(parting.text((&left.name, &left.case.plan), (&right.name, &right.case.plan)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{failing_plan, outcome_of};

    fn side(commit: &str, change: impl FnOnce(&mut Case)) -> Side {
        let plan = failing_plan();
        let again = outcome_of(&plan, 9);
        let mut case = Case::new("storm", "", &plan, &again);
        case.commit = commit.to_owned();
        change(&mut case);
        let exactness = case.exactness(&again, "1a2b3c4");
        Side { name: "a.sim".to_owned(), case, again, exactness }
    }

    #[test]
    fn what_the_cases_say_of_their_runs_is_compared_and_not_what_they_are_today() {
        let same = || side("fffffff", |_| ());
        let other = |commit| side(commit, |case| case.hash ^= 1);
        assert_eq!(verdict(&same(), &same()), Verdict::Pass);
        assert_eq!(verdict(&same(), &other("eeeeeee")), Verdict::Violation, "two programs");
        assert_eq!(verdict(&same(), &other("fffffff")), Verdict::Nondeterminism);
        let today = other("1a2b3c4");
        assert_eq!(verdict(&today, &today), Verdict::Nondeterminism, "it was another run");
        assert!(today.text().contains("executed here it has the hash"), "{}", today.text());
        let elsewhere = side("fffffff", |case| (case.plan.seed, case.hash) = (7, 7));
        assert_eq!(verdict(&same(), &elsewhere), Verdict::Violation, "two plans");
    }
}

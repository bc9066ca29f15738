//! `simulate render`: pictures of a run that is in a file.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{Format, RenderArgs};
use super::recorders::Recorders;
use super::run::again;
use super::source::{self, Source};
use super::trace_file::{self, Head, LastHash};
use super::{Ending, Refusal, Verdict, terminal};
use crate::case::{COMMIT, Case, Exactness};
use crate::execute::execute;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::render::{self, Film};
use crate::trace::{Recorder, Trace};

pub(super) fn run(args: &RenderArgs) -> Ending {
    let drawn = Drawn::read(args)?;
    let plan = &drawn.plan;
    let path = args.output.clone().unwrap_or_else(|| default_path(&args.run, args.format));
    let spinner = terminal::spinner("running it again, with the camera on");
    let mut last = LastHash::default();
    let outcome = match args.format {
        Format::Html | Format::Svg => {
            let mut film = Film::new(plan).named(drawn.again.clone());
            let outcome = recorded(plan, &mut film, &mut last);
            let picture = if args.format == Format::Html { render::html } else { render::svg };
            write(&picture(&film, plan, &outcome), &path)?;
            outcome
        }
        Format::Shiviz | Format::Perfetto => {
            let mut trace = Trace::default();
            let outcome = recorded(plan, &mut trace, &mut last);
            let log = if args.format == Format::Shiviz { render::shiviz } else { render::perfetto };
            write(&log(plan, &trace), &path)?;
            outcome
        }
    };
    spinner.finish_and_clear();
    let exactness = drawn.exactness(&outcome, &last);
    let verdict = match exactness {
        Some(Exactness::Broken) => Verdict::Nondeterminism,
        Some(Exactness::Exact | Exactness::OtherProgram) | None => Verdict::Pass,
    };
    if args.json {
        let exact = exactness.map(|it| it == Exactness::Exact);
        let value = json!({ "file": path, "verdict": verdict.name(), "exact": exact });
        terminal::out(&format!("{value:#}\n"));
        return Ok(verdict);
    }
    terminal::out(&format!("{}\n", path.display()));
    let commit = drawn.recorded_by();
    match exactness {
        Some(Exactness::Broken) => terminal::err(&format!(
            "NONDETERMINISM the picture is of another run than {}, and both are of commit \
             {COMMIT}.\n",
            args.run
        )),
        Some(Exactness::OtherProgram) => terminal::err(&format!(
            "Not exact: {} was written by commit {commit}, this is {COMMIT}. The timeline is the \
             same, the events are not.\n",
            args.run
        )),
        Some(Exactness::Exact) | None => {}
    }
    Ok(verdict)
}

/// Runs the plan before both recorders.
fn recorded(plan: &Plan, picture: &mut impl Recorder, last: &mut LastHash) -> Outcome {
    let mut recorders = Recorders::default();
    recorders.add(Some(picture));
    recorders.add(Some(last));
    execute(plan, recorders.as_option())
}

/// What is drawn: a run is a function of its plan, so that is all that is needed of a file.
struct Drawn {
    plan: Plan,
    /// The command that draws it again.
    again: String,
    recorded: Recorded,
}

/// What a file says of the run that was, to compare with.
enum Recorded {
    /// A scenario: nothing was.
    Nothing,
    Case(Box<Case>),
    Trace(Box<Head>),
}

impl Drawn {
    fn read(args: &RenderArgs) -> Result<Self, Refusal> {
        let path = Path::new(&args.run);
        let is_case = source::is_case(path);
        if !is_case && !trace_file::is_name(path) {
            let source = Source::open(&args.run, &args.sets)?;
            let plan = source.plan(args.seed.unwrap_or(0));
            let again = again(&plan, &source);
            return Ok(Self { plan, again, recorded: Recorded::Nothing });
        }
        let kind = if is_case { "case" } else { "trace" };
        source::refuse_changes(&args.run, kind, args.seed, &args.sets)?;
        let again = format!("simulate render {}", source::quoted(&args.run));
        if is_case {
            let case = source::case(path, "render")?;
            let plan = case.plan.clone();
            return Ok(Self { plan, again, recorded: Recorded::Case(Box::new(case)) });
        }
        let head = trace_file::read(path)?;
        let plan = head.plan.clone();
        Ok(Self { plan, again, recorded: Recorded::Trace(Box::new(head)) })
    }

    /// Whether what was drawn is the run that the file is of.
    fn exactness(&self, outcome: &Outcome, last: &LastHash) -> Option<Exactness> {
        match &self.recorded {
            Recorded::Nothing => None,
            Recorded::Case(case) => Some(case.exactness(outcome, COMMIT)),
            Recorded::Trace(head) if head.last.is_none() => None,
            Recorded::Trace(head) => Some(Exactness::of(head.last == last.text(), &head.commit)),
        }
    }

    /// The commit of the program that wrote the file.
    fn recorded_by(&self) -> &str {
        match &self.recorded {
            Recorded::Nothing => COMMIT,
            Recorded::Case(case) => &case.commit,
            Recorded::Trace(head) => &head.commit,
        }
    }
}

/// Writes a picture of a run.
///
/// # Errors
///
/// The file cannot be written.
pub(super) fn write(text: &str, path: &Path) -> Result<(), Refusal> {
    std::fs::write(path, text).map_err(|error| Refusal::new(format!("{}: {error}", path.display())))
}

/// `case-a-2a.sim` becomes `case-a-2a.html`, `t.jsonl.zst` becomes `t.html`, `split-brain`
/// `split-brain.html`.
fn default_path(run: &str, format: Format) -> PathBuf {
    let name = [".sim", ".toml", ".zst"].iter().fold(run, |name, end| name.trim_end_matches(end));
    PathBuf::from(format!("{}.{}", name.trim_end_matches(".jsonl"), format.extension()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_called_like_its_run() {
        for (run, page) in [
            ("case-a-2a.sim", "case-a-2a.html"),
            ("t.jsonl.zst", "t.html"),
            ("dir/mine.toml", "dir/mine.html"),
            ("split-brain", "split-brain.html"),
        ] {
            assert_eq!(default_path(run, Format::Html), PathBuf::from(page));
        }
        assert_eq!(default_path("case-a-2a.sim", Format::Shiviz), PathBuf::from("case-a-2a.log"));
    }
}

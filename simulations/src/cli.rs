//! `grapevine simulate`: the simulator on the command line.

mod args;
mod bench;
mod compare;
mod diff;
mod failure;
mod knowledge;
mod live;
mod mutants;
mod recorders;
mod render;
mod replay;
mod report;
mod run;
mod selftest;
mod shrink;
mod source;
mod summary;
mod swarm;
mod terminal;
mod trace_file;
mod unwritten;
mod window;

use std::process::ExitCode;

use clap::Parser as _;

pub use self::args::{Command, SimulateArgs};
use self::unwritten::Unwritten;

/// How a command ended. The number is the exit code.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Verdict {
    /// All rules held.
    Pass = 0,
    /// A rule was broken.
    Violation = 1,
    /// The command line or a file makes no sense.
    Usage = 2,
    /// Two runs of one plan differed.
    Nondeterminism = 3,
    /// Time was over, or a point that must be reached was not.
    Undecided = 4,
}

impl Verdict {
    /// What machines read.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Violation => "violation",
            Self::Usage => "usage",
            Self::Nondeterminism => "nondeterminism",
            Self::Undecided => "undecided",
        }
    }
}

/// Why a command cannot do what it was asked; for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

impl Refusal {
    /// A refusal with these words.
    pub(crate) fn new(reason: impl ToString) -> Self {
        Self(reason.to_string())
    }
}

/// What every command returns.
pub(crate) type Ending = Result<Verdict, Refusal>;

/// Runs `simulate` with these words, without the program's name: the exit code is 0 if all rules
/// held, 1 if one was broken, 2 for a bad command line or file, 3 for nondeterminism, 4 if it is
/// undecided.
pub fn main(words: impl IntoIterator<Item = String>) -> ExitCode {
    match SimulateArgs::try_parse_from(words) {
        Ok(args) => run(args),
        Err(error) => {
            // Help is no mistake and goes to stdout.
            let text = error.render();
            if error.use_stderr() {
                terminal::err(&text.to_string());
                return ExitCode::from(Verdict::Usage as u8);
            }
            terminal::out(&text.to_string());
            ExitCode::SUCCESS
        }
    }
}

/// Does what the command says.
pub fn run(args: SimulateArgs) -> ExitCode {
    let ending = match args.command {
        Command::Run(args) => run::run(&args),
        Command::Swarm(args) => swarm::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Shrink(args) => shrink::run(&args),
        Command::Render(args) => render::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::List(args) => knowledge::list(&args),
        Command::Schema => knowledge::schema(),
        Command::Explain(args) => knowledge::explain(&args),
    };
    let verdict = ending.unwrap_or_else(|refusal| {
        terminal::err(&format!("simulate: {refusal}\n"));
        Verdict::Usage
    });
    ExitCode::from(after_output(verdict, terminal::take_error()) as u8)
}

/// The verdict after everything was printed: words that did not get out are no success.
fn after_output(verdict: Verdict, error: Option<std::io::Error>) -> Verdict {
    let mut unwritten = Unwritten::default();
    unwritten.add(error.map(|error| Refusal::new(format!("stdout: {error}"))));
    unwritten.tell(verdict)
}

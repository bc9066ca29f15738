//! The words of the command line.

mod measuring;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(super) use self::measuring::{BenchArgs, Item, ReportArgs};

/// Run a whole cluster in one process, break its network, and see what every node believes.
///
/// A scenario is the name of a built-in one (see `simulate list`) or a TOML file. The same scenario
/// and seed give the same run, bit for bit.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "simulate",
    bin_name = "grapevine simulate",
    no_binary_name = true,
    disable_version_flag = true
)]
#[command(after_help = "Exit codes: 0 all rules held, 1 a rule was broken, 2 bad command line or \
    file, or something could not\nbe written, 3 two runs of one plan differed, 4 undecided (time \
    over, or a point was never reached).\ndiff: 0 the same run, 1 two runs, 3 one plan and two \
    runs.")]
pub struct SimulateArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a scenario once and say how it went
    Run(RunArgs),
    /// Run scenarios with many seeds, in threads
    Swarm(SwarmArgs),
    /// Repeat a run exactly, from a case or a seed, and look at its events
    Replay(ReplayArgs),
    /// Make a failing case small: few faults, nodes and topics that still break the same rule
    Shrink(ShrinkArgs),
    /// Draw a run: one page that explains itself and works offline
    Render(RenderArgs),
    /// Show the first event in which two cases differ
    Diff(DiffArgs),
    /// Look for the bugs that are planted in a special build
    Mutants(MutantsArgs),
    /// Measure what the protocol promises, for clusters of several sizes, beside the targets
    Report(ReportArgs),
    /// How fast the simulator is, beside what it is to be
    Bench(BenchArgs),
    /// Check the simulator itself: a broken cluster is caught, repeated runs are equal
    Selftest(SelftestArgs),
    /// The built-in scenarios
    List(ListArgs),
    /// The JSON Schema of scenario files, for editors
    Schema,
    /// What a rule means
    Explain(ExplainArgs),
}

/// Which run.
#[derive(Clone, Debug, Args)]
pub struct Chosen {
    /// Name of a built-in scenario, or a TOML file
    pub scenario: String,
    /// Decides everything the scenario leaves open
    #[arg(long, value_parser = seed, default_value = "0")]
    pub seed: u64,
    /// Change a key of the scenario, e.g. net.loss=0.05; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// What happens to failures.
#[derive(Clone, Debug, Args)]
pub struct Failures {
    /// Folder for cases of failures
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub cases: PathBuf,
    /// Do not search for a smaller run that fails in the same way
    #[arg(long)]
    pub no_shrink: bool,
    /// Time for that search
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    pub shrink_budget: Duration,
}

/// Flags of `simulate run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Which run.
    #[command(flatten)]
    pub chosen: Chosen,
    /// Draw the run as one page that explains itself and works offline
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write every event to this file, one JSON object a line; `.zst` is compressed
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write the run as a case, whether it fails or not
    #[arg(long, value_name = "FILE")]
    pub case: Option<PathBuf>,
    /// Show what happens while it happens, this many times faster than life: 10x
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub speed: Option<f64>,
    /// What happens to failures.
    #[command(flatten)]
    pub failures: Failures,
    /// One JSON object instead of text
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Only failures
    #[arg(long, short)]
    pub quiet: bool,
}

/// Flags of `simulate swarm`.
#[derive(Clone, Debug, Args)]
pub struct SwarmArgs {
    /// Names of built-in scenarios, or TOML files; each seed is run with each
    #[arg(default_value = "swarm")]
    pub scenarios: Vec<String>,
    /// Seeds: 0..10000; without it as many as the budget allows, or 1000
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub seeds: Option<Range<u64>>,
    /// Change a key of every scenario, e.g. net.loss=0.05
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Threads; as many as there are cores
    #[arg(long, value_parser = jobs)]
    pub jobs: Option<usize>,
    /// Start no run after this time: 60s
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub budget: Option<Duration>,
    /// Stop after this many runs that reached nothing new
    #[arg(long, value_name = "RUNS")]
    pub until_coverage_stable: Option<u64>,
    /// Share of the runs that are done twice and compared event by event: twice=1.0
    #[arg(long = "check", value_name = "twice=SHARE", value_parser = twice)]
    #[arg(default_value = "twice=0")]
    pub twice: f64,
    /// Go on after a failure
    #[arg(long)]
    pub keep_going: bool,
    /// Compare the figures of all runs with those in this file; its seeds are run if none are given
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write the figures of all runs to this file, for later comparisons
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
    /// What happens to failures.
    #[command(flatten)]
    pub failures: Failures,
    /// One JSON object instead of text
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Only failures
    #[arg(long, short)]
    pub quiet: bool,
}

/// Flags of `simulate replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// A case (`.sim`), or with --seed a scenario
    pub case: String,
    /// The seed, for a scenario
    #[arg(long, value_parser = seed)]
    pub seed: Option<u64>,
    /// Change a key of the scenario
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "seed")]
    pub sets: Vec<String>,
    /// Show the events before this time of the run: 71.2s
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "stop_at")]
    pub until: Option<Duration>,
    /// Show the events around this: invariant, t=71.2s or event=812
    #[arg(long = "break", value_name = "WHERE", value_parser = stop)]
    pub stop_at: Option<Stop>,
    /// Only events of this node
    #[arg(long)]
    pub node: Option<u32>,
    /// How many events are shown
    #[arg(long, default_value = "40")]
    pub lines: usize,
    /// Write every event to this file, one JSON object a line; `.zst` is compressed
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Flags of `simulate shrink`.
#[derive(Clone, Debug, Args)]
pub struct ShrinkArgs {
    /// A failing case
    pub case: PathBuf,
    /// Time for the search
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    pub budget: Duration,
    /// The file to write; CASE.min.toml if not given
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Flags of `simulate render`.
#[derive(Clone, Debug, Args)]
pub struct RenderArgs {
    /// A case (`.sim`), a trace (`.jsonl`, `.jsonl.zst`), or a scenario
    pub run: String,
    /// The seed, for a scenario
    #[arg(long, value_parser = seed)]
    pub seed: Option<u64>,
    /// Change a key of the scenario
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// What to draw
    #[arg(long, value_enum, default_value = "html")]
    pub format: Format,
    /// The file to write; like the run's if not given
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What a run is drawn as.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// One page with everything
    Html,
    /// The space-time diagram and the heat map alone, for reports
    Svg,
    /// A log with vector clocks for ShiViz; for short runs of few nodes
    Shiviz,
    /// A trace for ui.perfetto.dev and Chrome
    Perfetto,
}

impl Format {
    /// How the names of such files end.
    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Svg => "svg",
            Self::Shiviz => "log",
            Self::Perfetto => "json",
        }
    }
}

/// Flags of `simulate diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// A case
    pub left: PathBuf,
    /// Another
    pub right: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Flags of `simulate mutants`.
#[derive(Clone, Debug, Args)]
pub struct MutantsArgs {
    /// The scenario to look in
    #[arg(default_value = "swarm")]
    pub scenario: String,
    /// Change a key of the scenario, e.g. net.loss=0.05
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Which bugs
    #[arg(long, value_enum, default_value = "first")]
    pub shelf: ShelfName,
    /// Only these, e.g. M07; may be given several times
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Time for all of them
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    pub budget: Duration,
    /// Seeds to try for each
    #[arg(long, default_value = "2000")]
    pub seeds: u64,
    /// Threads; as many as there are cores
    #[arg(long, value_parser = jobs)]
    pub jobs: Option<usize>,
    /// Go on after a find and show which rules notice which bugs
    #[arg(long)]
    pub matrix: bool,
    /// Seeds to go on with, for the matrix
    #[arg(long, default_value = "100")]
    pub more: u64,
    /// Compare the figures of this many seeds with and without the bug, if none of them finds it
    /// alone; 0: do not
    #[arg(long, default_value = "1000")]
    pub population: u64,
    /// Seeds that are run twice, for bugs that only make runs differ
    #[arg(long, default_value = "5")]
    pub twice: u64,
    /// Make each find small, and say how small and how fast
    #[arg(long)]
    pub shrink: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Which planted bugs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum ShelfName {
    /// Those that every change must find
    First,
    /// Those for the night
    Second,
    /// Those that prove a rule which finds none of the others
    Rules,
    /// Those of brokers, for a scenario that has some
    Brokers,
    /// All that need no brokers
    All,
}

/// Flags of `simulate selftest`.
#[derive(Clone, Debug, Args)]
pub struct SelftestArgs {
    /// Seeds that are run twice and in a second process
    #[arg(long, default_value = "20")]
    pub seeds: u64,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Flags of `simulate list`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Print the file of this scenario, as a start for your own
    pub scenario: Option<String>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Flags of `simulate explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Id of a rule, e.g. S4; all of them if not given
    pub rule: Option<String>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Where a replay is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stop {
    /// Where a rule was broken.
    Invariant,
    /// At this time.
    Time(Duration),
    /// At the event with this number.
    Event(u64),
}

/// A seed: `42` or `0x2a`.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(&hex.replace('_', ""), 16),
        None => text.replace('_', "").parse(),
    };
    parsed.map_err(|_| "a seed is a number such as 42 or 0x2a".to_owned())
}

/// Seeds: `0..10000`; `10000` means the same.
fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = match text.split_once("..") {
        Some((start, end)) => seed(start)?..seed(end)?,
        None => 0..seed(text)?,
    };
    if range.is_empty() { Err("there is no seed in it".to_owned()) } else { Ok(range) }
}

/// A time, as scenario files have it: `71.2s`, `500ms`, `40us`, `2m`, `1h`, `1d`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 7] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3_600.0),
        ("d", 86_400.0),
    ];
    UNITS
        .iter()
        .find_map(|(unit, seconds)| {
            let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
            Duration::try_from_secs_f64(number * seconds).ok()
        })
        .ok_or_else(|| "a time is a number with ns, us, ms, s, m, h or d: 71.2s".to_owned())
}

/// Slower than this, a second of a run takes a quarter of an hour; nobody watches that, and times
/// have to stay numbers.
const RATE_MIN: f64 = 0.001;

/// A rate: `10x` or `10`.
fn rate(text: &str) -> Result<f64, String> {
    let number: f64 =
        text.strip_suffix('x').unwrap_or(text).parse().map_err(|_| "a rate is like 10x")?;
    if number >= RATE_MIN && number.is_finite() {
        Ok(number)
    } else {
        Err(format!("a rate is {RATE_MIN}x or more, such as 10x"))
    }
}

/// Threads at most: more than any machine has cores, and few enough to start at once.
const JOBS_MAX: usize = 1_024;

/// A number of threads.
pub(super) fn jobs(text: &str) -> Result<usize, String> {
    let jobs = text.parse().ok().filter(|jobs| (1..=JOBS_MAX).contains(jobs));
    jobs.ok_or_else(|| format!("it is a number of threads from 1 to {JOBS_MAX}"))
}

/// `twice=0.5`.
fn twice(text: &str) -> Result<f64, String> {
    let share = text.strip_prefix("twice=").and_then(|share| share.parse().ok());
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "it is twice= and a share from 0 to 1, such as twice=0.1".to_owned())
}

/// `invariant`, `t=71.2s`, `event=812`.
fn stop(text: &str) -> Result<Stop, String> {
    match text.split_once('=') {
        None if text == "invariant" => Ok(Stop::Invariant),
        Some(("t", at)) => time(at).map(Stop::Time),
        Some(("event", number)) => seed(number).map(Stop::Event),
        Some(_) | None => Err("it is invariant, t=71.2s or event=812".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_times_and_shares_are_read_as_people_write_them() {
        assert_eq!(seed("0x2a"), Ok(42));
        assert_eq!(seeds("0..10_000"), Ok(0..10_000));
        assert_eq!(seeds("0x10..0x20"), Ok(16..32));
        assert!(seeds("7..7").is_err());
        assert_eq!(time("71.2s"), Ok(Duration::from_millis(71_200)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert!(time("5").is_err() && time("-1s").is_err());
        for (text, nanos) in [("7ns", 7), ("40us", 40_000), ("1d", 86_400_000_000_000)] {
            assert_eq!(time(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(rate("10x"), Ok(10.0));
        assert!(rate("1e-300x").is_err() && rate("0").is_err() && rate("inf").is_err());
        assert_eq!(jobs("64"), Ok(64));
        assert!(jobs("0").is_err() && jobs("100000").unwrap_err().contains("from 1 to 1024"));
        assert_eq!(twice("twice=0.25"), Ok(0.25));
        assert!(twice("twice=2").is_err() && twice("0.5").is_err());
        assert_eq!(stop("invariant"), Ok(Stop::Invariant));
        assert_eq!(stop("event=812"), Ok(Stop::Event(812)));
        assert!(stop("never").is_err());
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        SimulateArgs::command().debug_assert();
    }
}

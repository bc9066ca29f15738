//! The words of `simulate report` and `simulate bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{jobs, time};

/// Flags of `simulate report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// A scenario with [report]: its figures along an axis, instead of what the protocol promises
    pub scenario: Option<String>,
    /// Change a key of the scenario, e.g. net.loss=0.05
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "scenario")]
    pub sets: Vec<String>,
    /// Sizes of clusters; add 1000 and wait some minutes
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "10,100",
          value_parser = nodes)]
    pub nodes: Vec<usize>,
    /// Only these figures: change,kill,...
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Runs of each experiment; of a scenario, of each value (50)
    #[arg(long)]
    pub runs: Option<u64>,
    /// Start no run after this time: 5m
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub budget: Option<Duration>,
    /// Threads; as many as there are cores
    #[arg(long, value_parser = jobs)]
    pub jobs: Option<usize>,
    /// Show real processes beside it, as measured by the example `fidelity`
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    pub fidelity: Option<PathBuf>,
    /// Also write it as a page that works offline
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Folder for cases of runs that break a rule
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub cases: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Flags of `simulate bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Only these; may be given several times
    #[arg(long, value_enum, value_name = "NAME,..", value_delimiter = ',')]
    pub only: Vec<Item>,
    /// Time for the items that are counted in runs per second
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    pub time: Duration,
    /// Threads for those; as many as there are cores
    #[arg(long, value_parser = jobs)]
    pub jobs: Option<usize>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What is timed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub enum Item {
    /// 5 nodes for 60 s, with a partition
    Five,
    /// 5 nodes for 60 s, every kind of trouble
    Chaos,
    /// 100 nodes for 60 s, with a partition
    Hundred,
    /// 1000 nodes, a partition of halves for 60 s, and its healing
    Thousand,
}

fn nodes(text: &str) -> Result<usize, String> {
    let nodes: Option<usize> = text.trim().parse().ok();
    nodes
        .filter(|nodes| (3..=5_000).contains(nodes))
        .ok_or_else(|| "sizes are numbers from 3 to 5000, such as 10,100,1000".to_owned())
}

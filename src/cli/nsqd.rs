//! `grapevine nsqd`: a node.

use std::process::ExitCode;

use grapevine_protocol::VERSION;

use super::{EXIT_FAILURE, EXIT_USAGE, logging, terminal};
use crate::config::{Invocation, Options, OptionsError};

/// Runs a node until SIGINT or SIGTERM; `args` are the flags.
pub(super) fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    match Options::parse_like_go(args) {
        Ok(Invocation::Run(options)) => run(*options),
        Ok(Invocation::Help) => {
            terminal::err(&Options::usage());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Version) => {
            terminal::out(&format!("nsqd v{VERSION} (built w/rust)\n"));
            ExitCode::SUCCESS
        }
        Err(OptionsError::Usage(error)) => {
            terminal::err(&format!("{error}\n{}", Options::usage()));
            ExitCode::from(EXIT_USAGE)
        }
        Err(OptionsError::Fatal { log_prefix, reason }) => {
            logging::fatal(&log_prefix, &reason);
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn run(options: Options) -> ExitCode {
    logging::install(&options);
    let (id, cluster) = (options.node_id, &options.cluster_name);
    tracing::info!(version = VERSION, id, %cluster, "nsqd starting");
    for warning in options.warnings() {
        tracing::warn!("{warning}");
    }
    let prefix = options.log_prefix.clone();
    let failed = |reason: &dyn std::fmt::Display| {
        logging::fatal(&prefix, &format!("failed to instantiate nsqd - {reason}"));
        ExitCode::from(EXIT_FAILURE)
    };
    raise_file_limit();
    // One worker per core is tokio's default.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(crate::node::run(std::sync::Arc::new(options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Allows as many open files as the system lets us, as Go programs do: every client is one.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

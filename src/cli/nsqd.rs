//! `grapevine nsqd`: a node.

use std::process::ExitCode;

use grapevine_protocol::VERSION;

use super::{EXIT_FAILURE, EXIT_USAGE, logging};
use crate::config::{Invocation, Options, OptionsError};

/// Runs a node until SIGINT or SIGTERM; `args` are the flags.
pub(super) fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    match Options::parse_like_go(args) {
        Ok(Invocation::Run(options)) => run(*options),
        Ok(Invocation::Help) => {
            eprint!("{}", Options::usage());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Version) => {
            println!("nsqd v{VERSION} (built w/rust)");
            ExitCode::SUCCESS
        }
        Err(OptionsError::Usage(error)) => {
            eprint!("{error}\n{}", Options::usage());
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
    for warning in options.warnings() {
        tracing::warn!("{warning}");
    }
    let prefix = options.log_prefix.clone();
    let failed = |reason: &dyn std::fmt::Display| {
        logging::fatal(&prefix, &format!("failed to instantiate nsqd - {reason}"));
        ExitCode::from(EXIT_FAILURE)
    };
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

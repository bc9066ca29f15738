//! The `grapevine` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    grapevine::cli::main(std::env::args_os())
}

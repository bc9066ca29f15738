//! The `grapevine` program.

use std::process::ExitCode;

/// Half of what a message, or an event of a simulation, costs beside its own work is malloc.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    grapevine::cli::main(std::env::args_os())
}

//! `grapevine simulate` without the rest of the program, for work on the simulator:
//! `cargo run --profile quick -p grapevine-simulations --example simulate -- run split-brain`

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a program")]

use std::process::ExitCode;

/// Half of what a message, or an event of a simulation, costs beside its own work is malloc.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    grapevine_simulations::cli::main(std::env::args().skip(1))
}

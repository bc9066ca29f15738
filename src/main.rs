//! The `grapevine` program.

fn main() {}

//! Scenarios that ship in the program.

use crate::scenario::Scenario;

/// A scenario that ships in the program.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name, for `simulate run NAME`.
    pub name: &'static str,
    /// Its file.
    pub text: &'static str,
}

/// Declares the built-in scenarios by the names of their files.
macro_rules! builtins {
    ($($name:literal)*) => {
        const ALL: &[Builtin] = &[$(Builtin {
            name: $name,
            text: include_str!(concat!("../../scenarios/builtin/", $name, ".toml")),
        }),*];
    };
}

builtins! {
    "split-brain"
    "partition-5"
    "kill-9"
    "asymmetric-minority"
    "flapping-link"
    "rolling-restart"
    "cold-start"
    "gc-pause"
    "lossy-network"
    "wan-two-regions"
    "clock-skew"
    "cloned-disk"
    "hundred"
    "swarm"
    "broker"
}

/// All of them, in the order to show them in.
pub fn list() -> &'static [Builtin] {
    ALL
}

/// The one of this name.
pub fn find(name: &str) -> Option<Scenario> {
    let builtin = ALL.iter().find(|builtin| builtin.name == name)?;
    // A test reads each of them.
    Scenario::parse(builtin.text, builtin.name).ok()
}

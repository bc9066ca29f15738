//! A whole cluster in one thread, replayable from a seed.
//!
//! A scenario and a seed make a [`plan::Plan`]; the world executes it with the very cores that
//! ship, over a network, disks and clocks of its own. Nothing else has a say: the same plan gives
//! the same run, bit for bit, which [`outcome::Outcome::hash`] proves. After every event the oracle
//! compares what nodes believe with what was really done.

mod broker;
pub mod case;
// What surrounds runs may look at a clock: to bound a search, to say how long it took.
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "around runs, not in them")]
pub mod cli;
pub mod coverage;
mod disk;
pub mod execute;
pub mod expect;
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a search has a budget")]
pub mod hunt;
pub mod luck;
mod network;
mod oracle;
pub mod outcome;
pub mod plan;
pub mod render;
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a report has a budget")]
pub mod report;
pub mod rules;
pub mod scenario;
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a search has a budget")]
pub mod shrink;
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a search has a budget")]
pub mod swarm;
pub mod trace;
pub mod world;

pub use world::World;

#[cfg(test)]
mod testing;

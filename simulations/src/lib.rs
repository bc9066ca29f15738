//! A whole cluster in one thread, replayable from a seed.
//!
//! [`World`] runs the gossip cores of several nodes over a network, a disk and a clock that a
//! [`Scenario`] and a seed decide. Nothing else has a say: the same seed gives the same run, bit
//! for bit, which [`Report::hash`] proves. After every event the [`oracle`] compares what nodes
//! believe with what was really written.

pub mod network;
pub mod oracle;
pub mod scenario;
pub mod world;

pub use oracle::Violation;
pub use scenario::{Fault, Scenario};
pub use world::{Report, World};

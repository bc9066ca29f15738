//! The first simulation, until [`crate::plan`] is executed.

pub mod network;
pub mod oracle;
pub mod scenario;
pub mod world;

pub use oracle::Violation;
pub use scenario::{Fault, Scenario};
pub use world::{Report, World};

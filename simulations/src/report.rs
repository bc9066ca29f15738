//! Figures that are compared: with what the protocol promises, with real processes, along an axis.

pub mod convergence;
pub mod experiment;
pub mod fidelity;
mod observer;
pub mod page;
pub mod sweep;

//! Figures of many runs, beside what was promised and beside reality.

pub mod fidelity;

//! Pictures of a run.
//!
//! A [`Film`] records a run as a [`Recorder`](crate::trace::Recorder) and stays small. [`html`]
//! makes one file of it that explains what happened to somebody who has never seen the protocol: a
//! sentence, a space-time diagram, a heat map of what every node had wrong, and what each believed
//! at any moment. The file loads nothing from anywhere.

mod cone;
mod cuts;
mod film;
mod heat;
mod page;
mod past;
mod perfetto;
mod scene;
mod shiviz;
mod story;
mod svg;
mod traffic;
mod views;
mod words;

pub use film::Film;

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::trace::Trace;

/// The page of a run: one file of HTML with everything in it.
///
/// The same run gives the same bytes.
#[must_use]
pub fn html(film: &Film, plan: &Plan, outcome: &Outcome) -> String {
    page::page(film, plan, outcome)
}

/// The run in a sentence or two of plain words, as the page's headline says it.
#[must_use]
pub fn headline(film: &Film, plan: &Plan, outcome: &Outcome) -> String {
    story::headline(film, plan, outcome)
}

/// The space-time diagram and the heat map alone, as one SVG picture for reports. Clusters of more
/// than 60 nodes get the heat map only.
#[must_use]
pub fn svg(film: &Film, plan: &Plan, outcome: &Outcome) -> String {
    svg::svg(film, plan, outcome)
}

/// A log with vector clocks that [ShiViz](https://bestchai.bitbucket.io/shiviz/) reads as it is.
///
/// For short runs of few nodes: every event carries a clock with an entry for each node.
#[must_use]
pub fn shiviz(plan: &Plan, trace: &Trace) -> String {
    shiviz::log(plan, trace)
}

/// A trace in the JSON format that <https://ui.perfetto.dev> and Chrome open.
#[must_use]
pub fn perfetto(plan: &Plan, trace: &Trace) -> String {
    perfetto::trace(plan, trace)
}

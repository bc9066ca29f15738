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
mod scene;
mod story;
mod traffic;
mod views;
mod words;

pub use film::Film;

use crate::outcome::Outcome;
use crate::plan::Plan;

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

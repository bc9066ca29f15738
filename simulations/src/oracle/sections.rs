//! What owners wrote, and what copies may hold.

use grapevine_gossip::audit::Touched;
use grapevine_gossip::cluster::Cluster;
use grapevine_protocol::Moment;

use crate::outcome::Violation;
use crate::plan::Plan;
use crate::rules::Rule;
use crate::world::{Cause, End, NodeView};

/// The rules that this file watches.
pub(super) const RULES: &[Rule] = &[];

/// Every section as its owner wrote it, and what each node holds of it.
#[derive(Debug)]
pub(super) struct Sections {}

impl Sections {
    pub(super) fn new(_: &Plan) -> Self {
        Self {}
    }

    pub(super) fn started(&mut self, _: usize, _: &Cluster, _: Moment) {}

    pub(super) fn ended(&mut self, _: usize, _: End) {}

    pub(super) fn wrote(&mut self, _: usize, _: &mut Cluster, _: Moment) {}

    pub(super) fn handled(
        &mut self,
        _: usize,
        _: &Cluster,
        _: &[Touched],
        _: Moment,
        _: Cause,
    ) -> Result<(), Violation> {
        Ok(())
    }

    pub(super) fn finish(&mut self, _: &[NodeView<'_>]) -> Result<(), Violation> {
        Ok(())
    }
}

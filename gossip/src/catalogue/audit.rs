//! What an auditor of a catalogue is told; see [`crate::audit`].

use super::Catalogue;
use crate::NodeId;
use crate::audit::Touched;
use crate::codec::keep_decoded;
use crate::section::Section;

/// An auditor's part of a catalogue.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// Owners whose sections may have changed, in order.
    touched: Vec<NodeId>,
    /// Sections that are equal are held together.
    is_sharing: bool,
}

impl Audit {
    pub(super) fn touch(&mut self, owner: NodeId) {
        if let Err(at) = self.touched.binary_search(&owner) {
            self.touched.insert(at, owner);
        }
    }
}

impl Catalogue {
    /// From now on notes what changes, for [`take_touched`](Self::take_touched), and not what a
    /// view would have to show anew: where somebody audits, nobody publishes.
    pub fn begin_audit(&mut self) {
        self.audit.get_or_insert_default();
        self.own.begin_audit();
        for replica in self.replicas.values_mut() {
            replica.section.begin_audit();
        }
    }

    /// An audited catalogue is one of many in one process: from now on sections that are equal are
    /// held together. That takes time, and far less memory where there are hundreds of nodes.
    pub fn share_sections(&mut self) {
        if let Some(audit) = &mut self.audit {
            audit.is_sharing = true;
            keep_decoded();
        }
    }

    /// The sections that may have changed since the last call, in order of owner; nothing without
    /// [`begin_audit`](Self::begin_audit).
    pub fn take_touched(&mut self) -> Vec<Touched> {
        let Self { audit: Some(audit), me, own, replicas, .. } = self else { return Vec::new() };
        if audit.touched.is_empty() {
            return Vec::new();
        }
        let is_sharing = audit.is_sharing;
        let touched = audit.touched.drain(..).map(|owner| {
            let section = if owner == *me {
                Some(&mut *own)
            } else {
                replicas.get_mut(&owner).map(|replica| &mut replica.section)
            };
            let take = |section: &mut Section| section.take_touches(is_sharing);
            Touched { owner, touches: section.map(take).unwrap_or_default() }
        });
        touched.collect()
    }
}

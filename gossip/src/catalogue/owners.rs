//! Who has a topic: one owner, most of the time.

use crate::NodeId;

/// Owners of one topic, in order.
///
/// Every node has an entry for every topic of the cluster, and most topics have one owner, whose
/// set of its own would take seven times as much.
#[derive(Debug, Default)]
pub(super) enum Owners {
    #[default]
    None,
    One(NodeId),
    /// Boxed, so that the few that are several do not make all larger.
    #[allow(clippy::box_collection, reason = "16 bytes instead of 24, a million times")]
    Many(Box<Vec<NodeId>>),
}

impl Owners {
    pub(super) fn insert(&mut self, owner: NodeId) {
        match self {
            Self::None => *self = Self::One(owner),
            Self::One(one) if *one == owner => {}
            Self::One(one) => {
                *self = Self::Many(Box::new(vec![owner.min(*one), owner.max(*one)]));
            }
            Self::Many(many) => {
                if let Err(at) = many.binary_search(&owner) {
                    many.insert(at, owner);
                }
            }
        }
    }

    pub(super) fn remove(&mut self, owner: NodeId) {
        match self {
            Self::One(one) if *one == owner => *self = Self::None,
            Self::None | Self::One(_) => {}
            Self::Many(many) => {
                if let Ok(at) = many.binary_search(&owner) {
                    many.remove(at);
                }
                if let [one] = many[..] {
                    *self = Self::One(one);
                }
            }
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = NodeId> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(one) => (Some(*one), None),
            Self::Many(many) => (None, Some(many)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|many| many.iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn owners_are_a_set_in_order_whatever_the_number() {
        let mut owners = Owners::default();
        let mut model = BTreeSet::new();
        let steps = [(2, true), (2, true), (1, true), (3, true), (9, false), (2, false)];
        for (node, comes) in steps.into_iter().chain([(1, false), (3, true), (3, false)]) {
            if comes {
                owners.insert(NodeId(node));
                model.insert(NodeId(node));
            } else {
                owners.remove(NodeId(node));
                model.remove(&NodeId(node));
            }
            assert!(owners.iter().eq(model.iter().copied()));
            assert_eq!(owners.is_empty(), model.is_empty());
        }
        assert_eq!(size_of::<Owners>(), 16);
    }
}

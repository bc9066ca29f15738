//! Who has a topic: one owner, most of the time.

use std::collections::BTreeSet;

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
    Many(Box<BTreeSet<NodeId>>),
}

impl Owners {
    pub(super) fn insert(&mut self, owner: NodeId) {
        match self {
            Self::None => *self = Self::One(owner),
            Self::One(one) if *one == owner => {}
            Self::One(one) => *self = Self::Many(Box::new(BTreeSet::from([*one, owner]))),
            Self::Many(many) => {
                many.insert(owner);
            }
        }
    }

    pub(super) fn remove(&mut self, owner: NodeId) {
        match self {
            Self::One(one) if *one == owner => *self = Self::None,
            Self::None | Self::One(_) => {}
            Self::Many(many) => {
                many.remove(&owner);
                if let (Some(&one), 1) = (many.first(), many.len()) {
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

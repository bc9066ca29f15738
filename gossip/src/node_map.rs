//! Something for each node, in order of node.
//!
//! Every node holds one such map or two about every other, so that their size is what a simulation
//! of a thousand nodes is made of. Two sorted rows have no empty places inside, and a search looks
//! at ids only, which are random: it begins where one such id is to be expected. An insertion
//! moves what is behind it: at 10,000 nodes some 300 KB, which only a join does, and mostly in
//! order.

use std::cell::Cell;
use std::ops::Index;

use crate::NodeId;

/// A map from nodes to `V`; iterated in order of node.
#[derive(Clone, Debug)]
pub struct NodeMap<V> {
    nodes: Vec<NodeId>,
    values: Vec<V>,
    /// Where the last one was that was found: whoever sends a packet, or is told about in it, is
    /// looked for several times in a row.
    last: Cell<u32>,
}

impl<V> Default for NodeMap<V> {
    fn default() -> Self {
        Self { nodes: Vec::new(), values: Vec::new(), last: Cell::new(0) }
    }
}

impl<V: PartialEq> PartialEq for NodeMap<V> {
    fn eq(&self, other: &Self) -> bool {
        (&self.nodes, &self.values) == (&other.nodes, &other.values)
    }
}

impl<V: Eq> Eq for NodeMap<V> {}

impl<V> NodeMap<V> {
    /// Number of nodes in it.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether `node` is in it.
    pub fn contains_key(&self, node: &NodeId) -> bool {
        self.place(node).is_ok()
    }

    /// What is kept for `node`.
    pub fn get(&self, node: &NodeId) -> Option<&V> {
        self.place(node).ok().map(|at| &self.values[at])
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, node: &NodeId) -> Option<&mut V> {
        self.place(node).ok().map(|at| &mut self.values[at])
    }

    /// Keeps `value` for `node`; what was kept before.
    pub fn insert(&mut self, node: NodeId, value: V) -> Option<V> {
        match self.place(&node) {
            Ok(at) => Some(std::mem::replace(&mut self.values[at], value)),
            Err(at) => {
                self.insert_at(at, node, value);
                None
            }
        }
    }

    /// Keeps `value` for `node`, for which there is none: its [`place`](Self::place) is `at`.
    pub(crate) fn insert_at(&mut self, at: usize, node: NodeId, value: V) {
        self.nodes.insert(at, node);
        self.values.insert(at, value);
    }

    /// Takes out what is kept for `node`.
    pub fn remove(&mut self, node: &NodeId) -> Option<V> {
        let at = self.place(node).ok()?;
        self.nodes.remove(at);
        Some(self.values.remove(at))
    }

    /// The nodes.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &NodeId> {
        self.nodes.iter()
    }

    /// What is kept, in order of node.
    pub fn values(&self) -> std::slice::Iter<'_, V> {
        self.values.iter()
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> std::slice::IterMut<'_, V> {
        self.values.iter_mut()
    }

    /// Nodes with what is kept for them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (NodeId, &V)> {
        self.nodes.iter().copied().zip(&self.values)
    }

    /// Where `node` is in the order, or would be.
    ///
    /// Of many nodes in one process each search would find the row of ids far away in memory: from
    /// the middle on it would wait for one part of it after the other.
    pub(crate) fn place(&self, node: &NodeId) -> Result<usize, usize> {
        let nodes = self.nodes.as_slice();
        let last = self.last.get();
        if nodes.get(last as usize) == Some(node) {
            return Ok(last as usize);
        }
        let place = search(nodes, node);
        if let Ok(at) = place {
            self.last.set(at as u32);
        }
        place
    }

    /// What is kept for the node whose place is `at`.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn at_mut(&mut self, at: usize) -> &mut V {
        &mut self.values[at]
    }

    /// What is kept for the node that is `at` such a place in the order.
    pub(crate) fn at(&self, at: usize) -> Option<&V> {
        self.values.get(at)
    }
}

/// So many ids are looked at first: two lines of a cache. Where a random id is among them nothing
/// can foresee, so that a search one by one would wait for a branch that was guessed wrong; one
/// that halves them has none.
const WINDOW: usize = 16;

/// In so many windows, one beside the other, an id is looked for: at most four standard deviations
/// from where it is expected, of which one is half of the root of `count` in the middle.
const fn windows(count: usize) -> usize {
    2 + (4 << (count.ilog2() / 2)) / WINDOW
}

/// Where `node` is in `nodes`, or would be.
fn search(nodes: &[NodeId], node: &NodeId) -> Result<usize, usize> {
    let Some(last) = nodes.len().checked_sub(WINDOW) else { return nodes.binary_search(node) };
    // As many ids are below it as its share of all numbers says.
    let guess = ((u128::from(node.0) * nodes.len() as u128) >> 64) as usize;
    let mut first = guess.saturating_sub(WINDOW / 2).min(last);
    for _ in 0..windows(nodes.len()) {
        let Some(window) = nodes[first..].first_chunk::<WINDOW>() else { break };
        match window.binary_search(node) {
            Ok(at) => return Ok(first + at),
            Err(0) if first > 0 && nodes[first - 1] >= *node => {
                first = first.saturating_sub(WINDOW);
            }
            Err(WINDOW) if first < last && nodes[first + WINDOW] <= *node => {
                first = (first + WINDOW).min(last);
            }
            Err(at) => return Err(first + at),
        }
    }
    nodes.binary_search(node)
}

impl<V> Index<&NodeId> for NodeMap<V> {
    type Output = V;

    /// # Panics
    ///
    /// If `node` is not in it.
    fn index(&self, node: &NodeId) -> &V {
        self.get(node).expect("the node is in the map")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_found_wherever_it_is_and_so_is_the_place_of_one_that_is_not_there() {
        let even: Vec<u64> = (0..100).map(|n| n * (u64::MAX / 100)).collect();
        let low: Vec<u64> = (0..100).map(|n| 2 * n).collect();
        let high: Vec<u64> = (0..100).map(|n| u64::MAX - 2 * (100 - n)).collect();
        let uneven = [&low[..50], &[1 << 63][..], &high[60..]].concat();
        for ids in [even, low, high, uneven, vec![7], vec![]] {
            let mut map = NodeMap::default();
            for &id in &ids {
                map.insert(NodeId(id), id);
            }
            let near = ids.iter().flat_map(|&id| [id.saturating_sub(1), id, id.saturating_add(1)]);
            for id in near.chain([0, 1 << 62, 1 << 63, u64::MAX]) {
                assert_eq!(map.place(&NodeId(id)), ids.binary_search(&id), "{id}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_in_order_of_node(
            steps in prop::collection::vec((0..20_u64, 0..4_u8), 0..200),
        ) {
            let mut map = NodeMap::default();
            let mut model = BTreeMap::new();
            for (value, (node, step)) in (0_u32..).zip(steps) {
                let node = NodeId(node);
                match step {
                    0 => prop_assert_eq!(map.remove(&node), model.remove(&node)),
                    1 => {
                        let at = map.place(&node).unwrap_or_else(|at| {
                            map.insert_at(at, node, 0);
                            at
                        });
                        *map.at_mut(at) += 1;
                        *model.entry(node).or_default() += 1;
                    }
                    _ => prop_assert_eq!(map.insert(node, value), model.insert(node, value)),
                }
                prop_assert_eq!(map.get(&node), model.get(&node));
                prop_assert_eq!(map.contains_key(&node), model.contains_key(&node));
            }
            prop_assert_eq!(map.len(), model.len());
            prop_assert!(map.iter().eq(model.iter().map(|(&node, value)| (node, value))));
            prop_assert!(map.keys().eq(model.keys()) && map.values().eq(model.values()));
        }
    }
}

//! Which links are cut, one bit each.

use crate::plan::Partition;

/// A square of bits: row `from`, column `to`.
#[derive(Debug)]
pub(super) struct Cuts {
    nodes: usize,
    words: usize,
    bits: Vec<u64>,
    /// No bit is set.
    is_whole: bool,
}

impl Cuts {
    pub(super) fn new(nodes: usize) -> Self {
        let words = nodes.div_ceil(64);
        Self { nodes, words, bits: vec![0; nodes * words], is_whole: true }
    }

    pub(super) fn contains(&self, from: usize, to: usize) -> bool {
        !self.is_whole && self.bits[from * self.words + to / 64] >> (to % 64) & 1 == 1
    }

    pub(super) fn clear(&mut self) {
        self.bits.fill(0);
        self.is_whole = true;
    }

    /// Cuts what `partition` cuts.
    pub(super) fn add(&mut self, partition: &Partition) {
        self.is_whole = false;
        let nodes = self.nodes;
        match partition {
            Partition::Split(groups) => {
                let mut group_of = vec![groups.len(); nodes];
                for (group, members) in groups.iter().enumerate() {
                    for &node in members.iter().filter(|&&node| node < nodes) {
                        group_of[node] = group;
                    }
                }
                self.cut_where(|from, to| group_of[from] != group_of[to]);
            }
            Partition::Oneway { from, to } => {
                for &from in from {
                    for &to in to {
                        self.cut(from, to);
                    }
                }
            }
            Partition::Bridge { bridge, side } => {
                let mut is_in = vec![false; nodes];
                for &node in side.iter().filter(|&&node| node < nodes) {
                    is_in[node] = true;
                }
                self.cut_where(|from, to| {
                    from != *bridge && to != *bridge && is_in[from] != is_in[to]
                });
            }
            Partition::Ring { reach } => self.cut_where(|from, to| {
                let apart = from.abs_diff(to);
                apart.min(nodes - apart) > *reach
            }),
            Partition::Chain => self.cut_where(|from, to| from.abs_diff(to) > 1),
            Partition::Star { hub } => self.cut_where(|from, to| from != *hub && to != *hub),
            Partition::Links(links) => {
                for &(one, other) in links {
                    self.cut(one, other);
                    self.cut(other, one);
                }
            }
        }
    }

    /// Mends every link among `nodes`.
    pub(super) fn mend(&mut self, nodes: &[usize]) {
        for &from in nodes {
            for &to in nodes.iter().filter(|&&to| to < self.nodes) {
                if let Some(word) = self.bits.get_mut(from * self.words + to / 64) {
                    *word &= !(1 << (to % 64));
                }
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize) {
        if from != to && from < self.nodes && to < self.nodes {
            self.bits[from * self.words + to / 64] |= 1 << (to % 64);
        }
    }

    fn cut_where(&mut self, is_cut: impl Fn(usize, usize) -> bool) {
        for from in 0..self.nodes {
            for to in 0..self.nodes {
                if is_cut(from, to) {
                    self.cut(from, to);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_pairs(nodes: usize, partition: &Partition) -> Vec<(usize, usize)> {
        let mut cuts = Cuts::new(nodes);
        cuts.add(partition);
        let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        pairs.filter(|&(from, to)| cuts.contains(from, to)).collect()
    }

    #[test]
    fn each_partition_cuts_what_its_name_says() {
        let split = cut_pairs(3, &Partition::Split(vec![vec![0]]));
        assert_eq!(split, [(0, 1), (0, 2), (1, 0), (2, 0)]);
        let oneway = Partition::Oneway { from: vec![0], to: vec![0, 2] };
        assert_eq!(cut_pairs(3, &oneway), [(0, 2)]);
        let bridge = Partition::Bridge { bridge: 1, side: vec![0] };
        assert_eq!(cut_pairs(3, &bridge), [(0, 2), (2, 0)]);
        let ring = cut_pairs(5, &Partition::Ring { reach: 1 });
        assert!(ring.contains(&(0, 2)) && !ring.contains(&(0, 4)) && ring.len() == 10);
        assert_eq!(cut_pairs(3, &Partition::Chain), [(0, 2), (2, 0)]);
        assert_eq!(cut_pairs(3, &Partition::Star { hub: 0 }), [(1, 2), (2, 1)]);
        assert_eq!(cut_pairs(3, &Partition::Links(vec![(1, 2)])), [(1, 2), (2, 1)]);
    }

    #[test]
    fn mended_links_are_mended_in_any_partition() {
        let mut cuts = Cuts::new(70);
        cuts.add(&Partition::Split(vec![(0..35).collect()]));
        assert!(cuts.contains(0, 69) && cuts.contains(69, 0));
        cuts.mend(&[0, 69]);
        assert!(!cuts.contains(0, 69) && !cuts.contains(69, 0) && cuts.contains(0, 68));
    }
}

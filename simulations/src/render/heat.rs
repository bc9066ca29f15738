//! Samples, as columns of a picture: worst values of each slice of time.

use crate::trace::{SAMPLE_PERIOD, Sample};

/// Columns of the picture; more would be narrower than a dot of the screen.
const COLUMNS_MAX: usize = 960;

/// One column.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    /// Samples in it.
    pub samples: u32,
    /// For each node: pairs (topic, producer) listed that do not exist.
    pub phantom: Vec<u16>,
    /// ... that exist and are not listed.
    pub missing: Vec<u16>,
    /// ... members seen; 0: it does not run.
    pub members: Vec<u16>,
    /// Bytes sent, all nodes.
    pub bytes: u64,
    /// Least share of right beliefs.
    pub agreement: f64,
}

/// All columns.
#[derive(Debug)]
pub(super) struct Heat {
    /// Width of a column in ns.
    pub width: u64,
    /// Columns, in order, without gaps.
    pub columns: Vec<Column>,
}

impl Heat {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { width: SAMPLE_PERIOD.as_nanos() as u64, columns: Vec::new() }
    }

    /// Takes in a sample.
    pub(super) fn sample(&mut self, sample: &Sample) {
        let mut index = (sample.t / self.width) as usize;
        while index >= COLUMNS_MAX {
            let old = std::mem::take(&mut self.columns);
            let mut pairs = old.into_iter();
            while let Some(mut one) = pairs.next() {
                if let Some(two) = pairs.next() {
                    one.merge(two);
                }
                self.columns.push(one);
            }
            self.width *= 2;
            index = (sample.t / self.width) as usize;
        }
        let small = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let of = |pick: fn(&crate::trace::NodeSample) -> u32| {
            sample.nodes.iter().map(|node| if node.runs { small(pick(node)) } else { 0 }).collect()
        };
        let column = Column {
            samples: 1,
            phantom: of(|node| node.phantom),
            missing: of(|node| node.missing),
            members: of(|node| node.members),
            bytes: sample.bytes,
            agreement: sample.agreement,
        };
        while self.columns.len() < index {
            let gap = self.columns.last().cloned().unwrap_or_else(|| column.clone());
            self.columns.push(Column { samples: 0, bytes: 0, ..gap });
        }
        match self.columns.get_mut(index) {
            Some(there) => there.merge(column),
            None => self.columns.push(column),
        }
    }
}

impl Column {
    fn merge(&mut self, other: Self) {
        if self.samples == 0 {
            *self = other;
            return;
        }
        if other.samples == 0 {
            return;
        }
        self.samples += other.samples;
        worst(&mut self.phantom, &other.phantom);
        worst(&mut self.missing, &other.missing);
        self.members = other.members;
        self.bytes += other.bytes;
        self.agreement = self.agreement.min(other.agreement);
    }
}

fn worst(one: &mut [u16], other: &[u16]) {
    one.iter_mut().zip(other).for_each(|(one, other)| *one = (*one).max(*other));
}

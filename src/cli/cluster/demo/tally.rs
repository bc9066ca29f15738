//! Who has seen which message.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

/// Messages that the killed node takes with it, until it is back.
pub(super) const BATCH_LEN: u64 = 500;

/// Counts of one demo. Messages are numbered from 0.
#[derive(Debug, Default)]
pub(super) struct Tally {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    acknowledged: BTreeSet<u64>,
    consumed: BTreeSet<u64>,
    repeated_count: u64,
    /// Acknowledged since the last row, by node.
    row: BTreeMap<usize, u64>,
}

impl Tally {
    /// The number of the next message to publish.
    pub(super) fn next(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.next += 1;
        inner.next - 1
    }

    /// The numbers of the next [`BATCH_LEN`] messages.
    pub(super) fn next_batch(&self) -> Vec<u64> {
        let mut inner = self.inner.lock();
        let first = inner.next;
        inner.next += BATCH_LEN;
        (first..inner.next).collect()
    }

    /// `node` has said `OK` to these.
    pub(super) fn acknowledged(&self, node: usize, messages: &[u64]) {
        let mut inner = self.inner.lock();
        inner.acknowledged.extend(messages);
        *inner.row.entry(node).or_default() += messages.len() as u64;
    }

    /// The consumer has got this one.
    pub(super) fn consumed(&self, message: u64) {
        let mut inner = self.inner.lock();
        if !inner.consumed.insert(message) {
            inner.repeated_count += 1;
        }
    }

    /// Messages acknowledged since the last call, by node.
    pub(super) fn take_row(&self) -> BTreeMap<usize, u64> {
        std::mem::take(&mut self.inner.lock().row)
    }

    pub(super) fn acknowledged_count(&self) -> usize {
        self.inner.lock().acknowledged.len()
    }

    /// Different messages that the consumer has got.
    pub(super) fn consumed_count(&self) -> usize {
        self.inner.lock().consumed.len()
    }

    /// Messages that the consumer has got again.
    pub(super) fn repeated_count(&self) -> u64 {
        self.inner.lock().repeated_count
    }

    /// Messages acknowledged and not consumed.
    pub(super) fn missing(&self) -> usize {
        let inner = self.inner.lock();
        inner.acknowledged.difference(&inner.consumed).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_is_what_was_acknowledged_and_not_consumed() {
        let tally = Tally::default();
        let (first, second) = (tally.next(), tally.next());
        tally.acknowledged(0, &[first, second]);
        tally.consumed(first);
        tally.consumed(first);
        tally.consumed(99);

        assert_eq!(tally.missing(), 1);
        assert_eq!(tally.repeated_count(), 1);
        assert_eq!(tally.take_row(), BTreeMap::from([(0, 2)]));
        assert!(tally.take_row().is_empty());
    }
}

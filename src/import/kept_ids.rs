//! Which messages keep the ids nsqd gave them.

use grapevine_broker::IdSource;
use grapevine_protocol::MessageId;
use rustc_hash::FxHashSet;

/// Gives every message of a topic an id that is its own in every channel that will see it.
///
/// In nsqd's queues an id may come twice: a reader that was killed reads again what it had put
/// elsewhere. Here it must not, or a consumer would finish one message by the id of another; the
/// second one gets a new id. An id that several channels share is still one for each of them.
#[derive(Debug)]
pub(super) struct KeptIds<'a> {
    source: &'a IdSource,
    wall_ns: i64,
    /// Ids in the queue of the channel at hand.
    of_channel: FxHashSet<u64>,
    /// Ids in the queue of any channel, and in the topic's own.
    of_topic: FxHashSet<u64>,
    highest: u64,
    renamed: u64,
}

impl<'a> KeptIds<'a> {
    /// For one topic. New ids come from `source`; `wall_ns`: Unix nanoseconds.
    pub(super) fn new(source: &'a IdSource, wall_ns: i64) -> Self {
        Self {
            source,
            wall_ns,
            of_channel: FxHashSet::default(),
            of_topic: FxHashSet::default(),
            highest: 0,
            renamed: 0,
        }
    }

    /// The queue of another channel begins.
    pub(super) fn next_channel(&mut self) {
        self.of_channel.clear();
    }

    /// The id of a message in a channel's queue.
    pub(super) fn in_channel(&mut self, id: MessageId) -> u64 {
        let kept = self.fit(id).filter(|kept| !self.of_channel.contains(kept));
        let id = self.or_new(kept);
        if self.has_room() {
            self.of_channel.insert(id);
        }
        id
    }

    /// The id of a message in the topic's own queue, which every channel gets.
    pub(super) fn in_topic(&mut self, id: MessageId) -> u64 {
        let kept = self.fit(id).filter(|kept| !self.of_topic.contains(kept));
        self.or_new(kept)
    }

    /// The highest id given so far; new ids of the node must be above it.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Messages that could not keep their ids.
    pub(super) fn renamed(&self) -> u64 {
        self.renamed
    }

    /// The id as a number, if there is one to keep and room to remember that it is taken.
    fn fit(&self, id: MessageId) -> Option<u64> {
        id.as_u64().filter(|id| self.has_room() && (1..ID_MAX).contains(id))
    }

    fn has_room(&self) -> bool {
        self.of_channel.len() + self.of_topic.len() < IDS_MAX
    }

    fn or_new(&mut self, kept: Option<u64>) -> u64 {
        let id = kept.unwrap_or_else(|| {
            self.renamed += 1;
            loop {
                let id = self.source.reserve(1, self.wall_ns);
                if !self.of_topic.contains(&id) {
                    break id;
                }
            }
        });
        if self.has_room() {
            self.of_topic.insert(id);
        }
        self.highest = self.highest.max(id);
        id
    }
}

/// Ids remembered at once: 60 MB at most. Messages beyond get new ids, which is always right.
const IDS_MAX: usize = 3_500_000;
/// nsqd gives out no higher ids before the year 2047. One that is higher comes from a damaged
/// record, and the node's own ids have to go on above the highest.
const ID_MAX: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000_000_000;

    #[test]
    fn an_id_is_kept_once_in_each_channel_and_once_in_the_topic() {
        let source = IdSource::new(1, 0);
        let mut ids = KeptIds::new(&source, NOW);
        let [a, b, c] = [0x18a2, 0x18a3, 0x18a4].map(MessageId::from_u64);
        for _ in 0..2 {
            ids.next_channel();
            assert_eq!([ids.in_channel(a), ids.in_channel(b)], [0x18a2, 0x18a3]);
        }
        let again = ids.in_channel(a);
        assert!(again > 0x18a4, "the second one in the same channel is another message");
        let of_topic = [ids.in_topic(a), ids.in_topic(c), ids.in_topic(c)];
        assert_eq!(of_topic[1], 0x18a4);
        let all = FxHashSet::from_iter([0x18a2, 0x18a3, again].into_iter().chain(of_topic));
        assert_eq!(all.len(), 6, "every message the channel will see has an id of its own");
        assert_eq!((ids.renamed(), ids.highest()), (3, of_topic[2]));
    }

    #[test]
    fn ids_that_nsqd_does_not_give_are_replaced() {
        let source = IdSource::new(1, 0);
        let mut ids = KeptIds::new(&source, NOW);
        let strange = [*b"0123456789ABCDEF", *b"ffffffffffffffff", *b"0000000000000000"];
        for bytes in strange {
            let id = ids.in_channel(MessageId::from_bytes(&bytes).unwrap());
            assert!((1..ID_MAX).contains(&id), "{id:x}");
        }
        assert_eq!(ids.renamed(), 3);
    }
}

//! What this node's nsqlookupds are to know: its topics and channels, and how that changed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use grapevine_protocol::{ChannelName, TopicName};

/// Changes kept for connections that have not sent them yet. A connection that is further behind
/// starts over with the full list; that is cheaper than remembering a burst of any length.
pub(super) const CHANGES_MAX: usize = 4_096;

/// One line of nsqlookupd's protocol; `Display` is the line, without its newline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// The node has the topic, or the channel and its topic.
    Register(TopicName, Option<ChannelName>),
    /// It has it no more; without a channel, none of the topic's.
    Unregister(TopicName, Option<ChannelName>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, topic, channel) = match self {
            Self::Register(topic, channel) => ("REGISTER", topic, channel),
            Self::Unregister(topic, channel) => ("UNREGISTER", topic, channel),
        };
        write!(f, "{verb} {}", topic.as_str())?;
        channel.iter().try_for_each(|channel| write!(f, " {}", channel.as_str()))
    }
}

/// The node's topics and channels, and the last changes in their order.
///
/// A state machine without I/O. Each connection reads [`all`](Self::all) once and then
/// [`since`](Self::since) the position it has reached: none can hold up another.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    topics: BTreeMap<TopicName, BTreeSet<ChannelName>>,
    changes: VecDeque<Change>,
    /// Changes ever made; the position after the last one.
    end: u64,
}

impl Registrations {
    /// The node has a topic.
    pub(super) fn topic_created(&mut self, topic: &TopicName) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.clone(), BTreeSet::new());
            self.push(Change::Register(topic.clone(), None));
        }
    }

    /// The node has a topic no more, nor any channel of it.
    ///
    /// The order is nsqd's: the topic, then its channels. Source: `Topic.exit`, nsqd/topic.go
    /// (nsq 3103474b).
    pub(super) fn topic_deleted(&mut self, topic: &TopicName) {
        let Some(channels) = self.topics.remove(topic) else { return };
        self.push(Change::Unregister(topic.clone(), None));
        for channel in channels {
            self.push(Change::Unregister(topic.clone(), Some(channel)));
        }
    }

    /// The node has a channel, and its topic.
    pub(super) fn channel_created(&mut self, topic: &TopicName, channel: &ChannelName) {
        let is_new = self.topics.entry(topic.clone()).or_default().insert(channel.clone());
        if is_new {
            self.push(Change::Register(topic.clone(), Some(channel.clone())));
        }
    }

    /// The node has a channel no more.
    pub(super) fn channel_deleted(&mut self, topic: &TopicName, channel: &str) {
        let Some(channels) = self.topics.get_mut(topic) else { return };
        let channel = channels.get(channel).cloned();
        if let Some(channel) = channel.filter(|channel| channels.remove(channel)) {
            self.push(Change::Unregister(topic.clone(), Some(channel)));
        }
    }

    /// Everything there is, as a new connection says it, and the position that belongs to it.
    ///
    /// A topic with channels is not named by itself, as in nsqd. Source: `connectCallback`,
    /// nsqd/lookup.go (nsq 3103474b).
    pub(super) fn all(&self) -> (Vec<Change>, u64) {
        let mut list = Vec::with_capacity(self.topics.len());
        for (topic, channels) in &self.topics {
            if channels.is_empty() {
                list.push(Change::Register(topic.clone(), None));
            }
            let channels = channels.iter().cloned();
            list.extend(channels.map(|channel| Change::Register(topic.clone(), Some(channel))));
        }
        (list, self.end)
    }

    /// At most `max` changes after `position`, oldest first; `None` if they are no longer known.
    pub(super) fn since(&self, position: u64, max: usize) -> Option<Vec<Change>> {
        let behind = usize::try_from(self.end.checked_sub(position)?).ok()?;
        let first = self.changes.len().checked_sub(behind)?;
        Some(self.changes.range(first..).take(max).cloned().collect())
    }

    fn push(&mut self, change: Change) {
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        self.end += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    fn lines(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_connection_hears_of_channels_and_of_topics_without_any() {
        let mut held = Registrations::default();
        held.topic_created(&topic("t"));
        held.channel_created(&topic("t"), &channel("b"));
        held.channel_created(&topic("t"), &channel("a#ephemeral"));
        held.topic_created(&topic("alone"));
        let (all, position) = held.all();
        assert_eq!(
            lines(&all),
            ["REGISTER alone", "REGISTER t a#ephemeral", "REGISTER t b"],
            "one line each, in order of name"
        );
        assert_eq!(held.since(position, 9), Some(vec![]));
    }

    #[test]
    fn a_deleted_topic_is_named_before_its_channels() {
        let mut held = Registrations::default();
        held.channel_created(&topic("t"), &channel("a"));
        held.channel_created(&topic("t"), &channel("b"));
        let (_, position) = held.all();
        held.topic_deleted(&topic("t"));
        let changes = held.since(position, 9).unwrap();
        assert_eq!(lines(&changes), ["UNREGISTER t", "UNREGISTER t a", "UNREGISTER t b"]);
        assert_eq!(held.all().0, []);
    }

    #[test]
    fn what_changes_nothing_is_not_said() {
        let mut held = Registrations::default();
        held.topic_created(&topic("t"));
        held.topic_created(&topic("t"));
        held.channel_created(&topic("t"), &channel("c"));
        held.channel_created(&topic("t"), &channel("c"));
        held.channel_deleted(&topic("t"), "other");
        held.channel_deleted(&topic("none"), "c");
        held.topic_deleted(&topic("none"));
        assert_eq!(lines(&held.since(0, 9).unwrap()), ["REGISTER t", "REGISTER t c"]);
    }

    #[test]
    fn who_is_too_far_behind_has_to_start_over() {
        let mut held = Registrations::default();
        for number in 0..=CHANGES_MAX {
            held.topic_created(&topic(&number.to_string()));
        }
        assert_eq!(held.since(0, 1), None, "the first change is forgotten");
        assert_eq!(lines(&held.since(1, 1).unwrap()), ["REGISTER 1"]);
        assert_eq!(held.since(1, usize::MAX).unwrap().len(), CHANGES_MAX);
        assert_eq!(held.since(held.all().1 + 1, 1), None, "not a position of these");
    }

    /// A registration table that does what it is told, as nsqlookupd's.
    #[derive(Default)]
    struct Table(BTreeSet<(String, Option<String>)>);

    impl Table {
        fn hear(&mut self, change: &Change) {
            let text = |channel: &Option<ChannelName>| channel.as_ref().map(|c| c.to_string());
            match change {
                Change::Register(topic, channel) => {
                    self.0.insert((topic.to_string(), None));
                    self.0.insert((topic.to_string(), text(channel)));
                }
                Change::Unregister(topic, None) => {
                    self.0.retain(|(name, _)| *name != **topic);
                }
                Change::Unregister(topic, channel) => {
                    self.0.remove(&(topic.to_string(), text(channel)));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whoever_hears_all_and_then_every_change_knows_what_there_is(
            steps in proptest::collection::vec((0_u8..5, 0_u8..3, 0_u8..3), 0..60),
            portion in 1_usize..5,
        ) {
            let mut held = Registrations::default();
            let (mut table, mut position) = (Table::default(), None);
            for (what, t, c) in steps {
                let (t, c) = (topic(&t.to_string()), channel(&c.to_string()));
                match what {
                    0 => held.topic_created(&t),
                    1 => held.topic_deleted(&t),
                    2 => held.channel_created(&t, &c),
                    3 => held.channel_deleted(&t, &c),
                    _ => {
                        let (list, end) = held.all();
                        list.iter().for_each(|change| table.hear(change));
                        position.get_or_insert(end);
                    }
                }
                let Some(position) = &mut position else { continue };
                loop {
                    let changes = held.since(*position, portion).unwrap();
                    *position += changes.len() as u64;
                    changes.iter().for_each(|change| table.hear(change));
                    if changes.is_empty() {
                        break;
                    }
                }
                let mut other = Table::default();
                held.all().0.iter().for_each(|change| other.hear(change));
                prop_assert_eq!(&table.0, &other.0);
            }
        }
    }
}

//! Deletions of channels that this node was asked for a moment ago.
//!
//! A tool deletes a channel at every lookup address, one after the other, and gossip is faster: the
//! second may know of the deletion before it is asked. It was asked to delete something that was
//! there all the same, and says so, as each nsqlookupd does; but once, as an nsqlookupd does.

use std::collections::VecDeque;
use std::time::Duration;

use grapevine_protocol::Moment;

use crate::name::Name;

/// How long the same deletion is answered with "not there": who repeats itself does so at once.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// Deletions remembered at most; of more than these in ten seconds the oldest may be answered as
/// if it were the first.
const DELETIONS_MAX: usize = 256;

/// What was deleted here, oldest first.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    answered: VecDeque<(Moment, Name, Name)>,
}

impl Deletions {
    /// Notes that the channel was deleted here.
    pub(super) fn note(&mut self, topic: &str, channel: &str, now: Moment) {
        if self.answered.len() == DELETIONS_MAX {
            self.answered.pop_front();
        }
        self.answered.push_back((now, topic.into(), channel.into()));
    }

    /// Whether that was a moment ago.
    pub(super) fn has(&mut self, topic: &str, channel: &str, now: Moment) -> bool {
        while self.answered.front().is_some_and(|(at, ..)| now.since(*at) > REMEMBERED_FOR) {
            self.answered.pop_front();
        }
        self.answered.iter().any(|(_, t, c)| (&**t, &**c) == (topic, channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_remembered_for_ten_seconds_and_no_more_than_so_many() {
        let at = |seconds: u64| Moment(seconds * 1_000_000_000);
        let mut deletions = Deletions::default();
        deletions.note("t", "c", at(1));
        assert!(deletions.has("t", "c", at(11)));
        assert!(!deletions.has("t", "other", at(11)));
        assert!(!deletions.has("t", "c", at(12)));
        for number in 0..=DELETIONS_MAX {
            deletions.note("t", &number.to_string(), at(20));
        }
        assert!(!deletions.has("t", "0", at(20)), "the oldest made room");
        assert!(deletions.has("t", "1", at(20)));
    }
}

//! How much is heard of those who are no members.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use grapevine_protocol::Moment;

/// Datagrams in each [`PERIOD`] that are heard from one address while its sender is no member here.
/// One that is about to become one sends two or three in a second.
pub(super) const HEARD_MAX: u32 = 20;

/// Addresses that are heard in each [`PERIOD`]; no further ones are.
const SOURCES_MAX: usize = 4096;

const PERIOD: Duration = Duration::from_secs(1);

/// What was heard of strangers lately.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    since: Moment,
    heard: BTreeMap<SocketAddr, u32>,
}

impl Strangers {
    /// Whether one more datagram from there is heard.
    pub(super) fn hears(&mut self, from: SocketAddr, now: Moment) -> bool {
        if now.since(self.since) >= PERIOD {
            self.since = now;
            self.heard.clear();
        }
        if self.heard.len() >= SOURCES_MAX && !self.heard.contains_key(&from) {
            return false;
        }
        let heard = self.heard.entry(from).or_default();
        *heard += 1;
        *heard <= HEARD_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: usize) -> SocketAddr {
        let [.., high, low] = number.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 4162))
    }

    #[test]
    fn one_source_is_heard_twenty_times_a_second_and_others_all_the_same() {
        let mut strangers = Strangers::default();
        let hears = |strangers: &mut Strangers, from, ms: u64| {
            (0..50).filter(|_| strangers.hears(source(from), Moment(ms * 1_000_000))).count()
        };
        assert_eq!(hears(&mut strangers, 1, 0), 20);
        assert_eq!(hears(&mut strangers, 2, 500), 20);
        assert_eq!(hears(&mut strangers, 1, 999), 0);
        assert_eq!(hears(&mut strangers, 1, 1_000), 20);
    }

    #[test]
    fn sources_beyond_the_maximum_are_not_heard_until_the_second_is_over() {
        let mut strangers = Strangers::default();
        let heard = (0..5_000).filter(|&n| strangers.hears(source(n), Moment(1))).count();
        assert_eq!((heard, strangers.heard.len()), (SOURCES_MAX, SOURCES_MAX));
        assert!(strangers.hears(source(0), Moment(2)), "one that was heard before");
        assert!(strangers.hears(source(4_999), Moment(1_000_000_001)));
    }
}

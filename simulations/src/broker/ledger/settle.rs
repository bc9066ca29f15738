//! Accounts: how much a channel has, and whether in the end everything came.

use std::collections::BTreeMap;

use grapevine_broker::ChannelStats;

use super::{Copy, Ledger, Place};
use crate::broker::names;
use crate::oracle::violation;
use crate::outcome::Violation;

/// What a channel still had when the run was over: how often each message was in it.
#[derive(Debug, Default)]
pub(crate) struct Left(pub(crate) BTreeMap<u64, u32>);

impl Ledger {
    /// A channel has as many messages as it is owed, in all places together.
    pub(crate) fn counted(
        &self,
        node: usize,
        topic: u32,
        stats: &[ChannelStats],
    ) -> Result<(), Violation> {
        let Some(owner) = self.owners.get(&(node, topic)) else { return Ok(()) };
        if owner.is_blurred {
            // Of a log that lost its end a channel counts what it has not passed over yet: gaps,
            // and deferred messages that are gone. What is there is looked at in the end.
            return Ok(());
        }
        for stats in stats {
            let Some(channel) = names::channel_number(&stats.name) else { continue };
            let has = stats.depth + stats.deferred_count + stats.in_flight_count;
            let copies = owner.open.iter().filter_map(|number| owner.messages.get(number));
            let copies = copies.filter_map(|message| message.copies.get(&channel));
            let (mut least, mut most) = (0, 0);
            for copy in copies.filter(|copy| copy.place != Place::Finished) {
                least += u64::from(copy.must_be_there());
                most += 1;
            }
            let what = || {
                let (depth, deferred) = (stats.depth, stats.deferred_count);
                let in_flight = stats.in_flight_count;
                format!(
                    "topic=m{topic:03} channel=c{channel} depth={depth} deferred={deferred} \
                     in-flight={in_flight} owed={least}..{most}"
                )
            };
            if has < least {
                return Err(violation("M1", "nothing-lost", node, what()));
            }
            if has > most {
                return Err(violation("M2", "one-place", node, what()));
            }
        }
        Ok(())
    }

    /// The run is over, and this is what a channel still had. `is_due`: consumers have had time
    /// enough to take all of it.
    pub(crate) fn settled(
        &self,
        node: usize,
        topic: u32,
        channel: u32,
        left: &Left,
        is_due: bool,
    ) -> Result<(), Violation> {
        let Some(owner) = self.owners.get(&(node, topic)) else { return Ok(()) };
        let broken = |rule: &str, name: &str, number: u64, what: &str| {
            let what = format!("topic=m{topic:03} channel=c{channel} message={number} {what}");
            Err(violation(rule, name, node, what))
        };
        for (&number, message) in &owner.messages {
            let times = left.0.get(&number).copied().unwrap_or(0);
            let Some(copy) = message.copies.get(&channel) else { continue };
            if copy.must_be_there() && times == 0 {
                return broken("M1", "nothing-lost", number, "is-gone");
            }
            if times > 1 && copy.is_exact {
                return broken("M2", "one-place", number, &format!("times={times}"));
            }
            if is_due && copy.is_owed && !copy.is_delivered {
                return broken("M4", "at-least-once", number, "never-delivered");
            }
        }
        Ok(())
    }

    /// Channels of a topic at a node, in order.
    pub(crate) fn channels(&self, node: usize, topic: u32) -> Vec<u32> {
        let owner = self.owners.get(&(node, topic));
        owner.into_iter().flat_map(|owner| &owner.channels).copied().collect()
    }
}

impl Copy {
    const fn must_be_there(&self) -> bool {
        self.is_owed && !matches!(self.place, Place::Finished)
    }
}

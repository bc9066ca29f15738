//! What brokers owe, and the rules that what they do must keep.
//!
//! For each message and each channel there is one [`Copy`]. What a crash may have changed is
//! written down as what may be, not guessed: a copy is then no longer `exact`, or no longer `owed`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grapevine_broker::Now;
use grapevine_protocol::Moment;
use rustc_hash::FxHashMap;

use super::shell::{Answer, Delivered};
use crate::oracle::violation;
use crate::outcome::Violation;

mod faults;
mod settle;

pub(crate) use faults::Survival;
pub(crate) use settle::Left;

/// Where one channel has a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Not handed out, or to be handed out again; deferred, if there is a moment.
    Waiting(Option<Moment>),
    /// A consumer has it until the moment.
    InFlight { conn: u64, deadline: Moment },
    /// It is done.
    Finished,
}

/// What a checkpoint that was written says of a copy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Saved {
    pub(super) attempts: u16,
    pub(super) is_finished: bool,
    /// Wall time (ns) before which it is not delivered, if it was deferred.
    pub(super) due_wall: Option<i64>,
}

/// One message for one channel.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) place: Place,
    /// Deliveries so far, at least and at most.
    pub(super) attempts: (u16, u16),
    /// It must still be there.
    pub(super) is_owed: bool,
    /// Its place is known, no crash has blurred it.
    pub(super) is_exact: bool,
    /// Some consumer got it.
    pub(super) is_delivered: bool,
    pub(super) saved: Option<Saved>,
    /// Between a crash and the start after it: [`Saved::due_wall`], or that of the publish.
    pub(super) due_wall: Option<i64>,
}

/// A message that was stored.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Wall time (ns) before which it is not delivered; 0: none.
    pub(super) deliver_at: i64,
    pub(super) is_acknowledged: bool,
    /// It is in the hands of the operating system.
    pub(super) is_written: bool,
    /// It is on the device.
    pub(super) is_synced: bool,
    pub(super) copies: BTreeMap<u32, Copy>,
}

/// A topic at one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Owner {
    pub(super) channels: BTreeSet<u32>,
    /// Channels that a checkpoint has.
    pub(super) saved_channels: BTreeSet<u32>,
    /// A checkpoint has the topic.
    pub(super) is_saved: bool,
    pub(super) messages: BTreeMap<u64, Message>,
    /// Messages of which something may still happen without a crash.
    pub(super) open: BTreeSet<u64>,
    /// Stored while there was no channel: they go to the first one.
    pub(super) unassigned: Vec<u64>,
    /// A crash may have mixed everything up.
    pub(super) is_blurred: bool,
}

/// What all brokers owe.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(super) owners: BTreeMap<(usize, u32), Owner>,
    /// Where each message was published.
    pub(super) homes: FxHashMap<u64, (usize, u32)>,
    /// Which message has an id at a node. For look-ups only.
    pub(super) ids: FxHashMap<(usize, u64), u64>,
    /// When a channel was first made anywhere (ns of the run).
    pub(super) channels_since: BTreeMap<(u32, u32), u64>,
    /// Acknowledged copies that a fault was allowed to take.
    pub(crate) lost_allowed: u64,
    /// Deliveries after the first.
    pub(crate) redelivered: u64,
}

impl Ledger {
    /// A node's broker made a topic that it did not have.
    pub(crate) fn topic_made(&mut self, node: usize, topic: u32) {
        let owner = self.owners.entry((node, topic)).or_default();
        // A topic that a crash took, and that is now made anew.
        owner.is_blurred |= !owner.messages.is_empty();
    }

    /// A node's broker made a channel: the first one gets what the topic has.
    pub(crate) fn channel_made(&mut self, node: usize, topic: u32, channel: u32, at: u64) {
        self.channels_since.entry((topic, channel)).or_insert(at);
        let owner = self.owners.entry((node, topic)).or_default();
        owner.channels.insert(channel);
        for number in std::mem::take(&mut owner.unassigned) {
            if let Some(message) = owner.messages.get_mut(&number) {
                let copy = Copy::new(message.deliver_at, None);
                message.copies.insert(channel, copy);
            }
        }
    }

    /// A batch was stored. `deliver_at`: for each message, and the moment that it means now.
    pub(crate) fn stored(
        &mut self,
        node: usize,
        topic: u32,
        numbers: &[u64],
        (deliver_at, due): (i64, Option<Moment>),
        is_written: bool,
    ) {
        let owner = self.owners.entry((node, topic)).or_default();
        for &number in numbers {
            let copies = owner.channels.iter().map(|&channel| (channel, Copy::new(0, due)));
            let message = Message {
                deliver_at,
                is_acknowledged: false,
                is_written,
                is_synced: false,
                copies: copies.collect(),
            };
            owner.messages.insert(number, message);
            owner.open.insert(number);
            if owner.channels.is_empty() {
                owner.unassigned.push(number);
            }
            self.homes.insert(number, (node, topic));
        }
    }

    /// The publisher was told that its message is stored.
    pub(crate) fn acknowledged(&mut self, number: u64) {
        if let Some(message) = self.message(number) {
            message.is_acknowledged = true;
        }
    }

    fn message(&mut self, number: u64) -> Option<&mut Message> {
        let home = self.homes.get(&number)?;
        self.owners.get_mut(home)?.messages.get_mut(&number)
    }

    /// A consumer got a message.
    pub(crate) fn delivered(
        &mut self,
        (node, topic, channel, conn): (usize, u32, u32, u64),
        message: Delivered,
        now: Now,
        msg_timeout: Duration,
    ) -> Result<(), Violation> {
        let Delivered { id, attempts, number } = message;
        let broken = |rule: &str, name: &str, what: &str| {
            let what = format!("topic=m{topic:03} channel=c{channel} message={number} {what}");
            Err(violation(rule, name, node, what))
        };
        match self.homes.get(&number) {
            // From a copied disk, or from a publish that was refused and found after a crash.
            Some(home) if *home != (node, topic) => return Ok(()),
            None if self.owners.get(&(node, topic)).is_some_and(|owner| owner.is_blurred) => {
                return Ok(());
            }
            None => return broken("M2", "one-place", "was-never-stored"),
            Some(_) => {}
        }
        let other = *self.ids.entry((node, id)).or_insert(number);
        if other != number {
            return broken("M2", "one-place", &format!("id={id:016x} other={other}"));
        }
        let Some(owner) = self.owners.get_mut(&(node, topic)) else { return Ok(()) };
        let is_blurred = owner.is_blurred;
        let Some(message) = owner.messages.get_mut(&number) else { return Ok(()) };
        let Some(copy) = message.copies.get_mut(&channel) else {
            if !is_blurred {
                return broken("M2", "one-place", "is-from-before-the-channel");
            }
            message.copies.insert(channel, Copy::taken(attempts, conn, now.mono + msg_timeout));
            owner.open.insert(number);
            return Ok(());
        };
        if let Some((rule, name, what)) = copy.refusal(attempts, now.mono) {
            return broken(rule, name, &what);
        }
        self.redelivered += u64::from(copy.is_delivered);
        let saved = copy.saved;
        *copy = Copy::taken(attempts, conn, now.mono + msg_timeout);
        copy.saved = saved;
        owner.open.insert(number);
        Ok(())
    }

    /// A consumer answered; `is_taken`: the broker knew the message as that consumer's.
    pub(crate) fn answered(
        &mut self,
        (node, topic, channel, conn): (usize, u32, u32, u64),
        number: u64,
        answer: Answer,
        is_taken: bool,
        (now, msg_timeout): (Now, Duration),
    ) -> Result<(), Violation> {
        if self.homes.get(&number) != Some(&(node, topic)) {
            return Ok(());
        }
        let Some(owner) = self.owners.get_mut(&(node, topic)) else { return Ok(()) };
        let copy = owner.messages.get_mut(&number).and_then(|all| all.copies.get_mut(&channel));
        let Some(copy) = copy else { return Ok(()) };
        let Place::InFlight { conn: holder, deadline } = copy.place else { return Ok(()) };
        let is_wrong =
            if is_taken { holder != conn } else { holder == conn && deadline > now.mono };
        if is_wrong {
            let what = format!(
                "topic=m{topic:03} channel=c{channel} message={number} answer-taken={is_taken}"
            );
            return Err(violation("M2", "one-place", node, what));
        }
        if !is_taken {
            return Ok(());
        }
        copy.place = match answer {
            Answer::Finish => Place::Finished,
            Answer::Requeue(delay) if delay.is_zero() => Place::Waiting(None),
            Answer::Requeue(delay) => Place::Waiting(Some(now.mono + delay)),
            Answer::Touch => Place::InFlight { conn, deadline: now.mono + msg_timeout },
        };
        Ok(())
    }

    /// A connection ended: what it held waits again.
    pub(crate) fn hung_up(&mut self, (node, topic, channel, conn): (usize, u32, u32, u64)) {
        let Some(owner) = self.owners.get_mut(&(node, topic)) else { return };
        for number in &owner.open {
            let Some(message) = owner.messages.get_mut(number) else { continue };
            if let Some(copy) = message.copies.get_mut(&channel)
                && matches!(copy.place, Place::InFlight { conn: holder, .. } if holder == conn)
            {
                copy.place = Place::Waiting(None);
            }
        }
    }

    /// Everything about a topic was written in a checkpoint.
    pub(crate) fn saved(&mut self, node: usize, topic: u32, now: Now) {
        let Some(owner) = self.owners.get_mut(&(node, topic)) else { return };
        owner.is_saved = true;
        owner.saved_channels.clone_from(&owner.channels);
        let messages = &mut owner.messages;
        owner.open.retain(|number| {
            let Some(message) = messages.get_mut(number) else { return false };
            let mut is_open = message.copies.is_empty();
            for copy in message.copies.values_mut() {
                copy.save(now);
                is_open |= copy.place != Place::Finished;
            }
            is_open
        });
    }

    /// A topic is on the device as far as it was written.
    pub(crate) fn synced(&mut self, node: usize, topic: u32) {
        let Some(owner) = self.owners.get_mut(&(node, topic)) else { return };
        for message in owner.messages.values_mut() {
            message.is_synced |= message.is_written;
        }
    }

    /// A topic that was only in memory has been written.
    pub(crate) fn written(&mut self, node: usize, topic: u32) {
        let Some(owner) = self.owners.get_mut(&(node, topic)) else { return };
        for message in owner.messages.values_mut() {
            message.is_written = true;
        }
    }

    /// A node made a topic with these channels, although it could know of those.
    pub(crate) fn topic_began(
        &self,
        node: usize,
        topic: u32,
        known: &BTreeSet<u32>,
    ) -> Result<(), Violation> {
        let has = self.owners.get(&(node, topic)).map(|owner| &owner.channels);
        let missing = known.iter().find(|channel| !has.is_some_and(|has| has.contains(channel)));
        missing.map_or(Ok(()), |channel| {
            let what = format!("topic=m{topic:03} channel=c{channel} known-and-not-made");
            Err(violation("M6", "every-channel", node, what))
        })
    }

    /// Channels of a topic that were first made between these moments (ns of the run).
    pub(crate) fn channels_between(
        &self,
        topic: u32,
        from: u64,
        until: u64,
    ) -> impl Iterator<Item = u32> {
        let range = self.channels_since.range((topic, 0)..=(topic, u32::MAX));
        let is_within = move |since: u64| from < since && since < until;
        range.filter(move |(_, since)| is_within(**since)).map(|((_, channel), _)| *channel)
    }
}

impl Copy {
    /// One that was just stored.
    fn new(deliver_at: i64, due: Option<Moment>) -> Self {
        Self {
            place: Place::Waiting(due),
            attempts: (0, 0),
            is_owed: true,
            // When one is due that went to the topic first is not worth a clock.
            is_exact: deliver_at == 0,
            is_delivered: false,
            saved: None,
            due_wall: None,
        }
    }

    /// One that a consumer was just given.
    const fn taken(attempts: u16, conn: u64, deadline: Moment) -> Self {
        Self {
            place: Place::InFlight { conn, deadline },
            attempts: (attempts, attempts),
            is_owed: true,
            is_exact: true,
            is_delivered: true,
            saved: None,
            due_wall: None,
        }
    }

    /// The rule that is broken if it is delivered now.
    fn refusal(&self, attempts: u16, now: Moment) -> Option<(&'static str, &'static str, String)> {
        match self.place {
            Place::Finished if self.is_exact => {
                return Some(("M7", "finished-once", format!("finished attempts={attempts}")));
            }
            Place::InFlight { deadline, .. } if deadline > now && self.is_exact => {
                let left = deadline.since(now);
                let what = format!("in-flight-for={}ms", left.as_millis());
                return Some(("M2", "one-place", what));
            }
            Place::Waiting(Some(due)) if due > now => {
                let early = due.since(now);
                return Some(("M5", "not-early", format!("early={}ms", early.as_millis())));
            }
            Place::Finished | Place::InFlight { .. } | Place::Waiting(_) => {}
        }
        let (least, most) = self.attempts;
        let is_right = (least.saturating_add(1)..=most.saturating_add(1)).contains(&attempts);
        (!is_right).then(|| {
            let what = format!("attempts={attempts} before={least}..{most}");
            ("M3", "attempts", what)
        })
    }

    /// What a checkpoint taken now says of it.
    fn save(&mut self, now: Now) {
        let due_wall = match self.place {
            Place::Waiting(Some(due)) if due > now.mono => {
                let ahead = due.since(now.mono).as_nanos();
                Some(now.wall.saturating_add(i64::try_from(ahead).unwrap_or(i64::MAX)))
            }
            Place::Waiting(_) | Place::InFlight { .. } | Place::Finished => None,
        };
        self.saved = Some(Saved {
            attempts: self.attempts.0,
            is_finished: self.place == Place::Finished && self.is_exact,
            due_wall,
        });
    }
}

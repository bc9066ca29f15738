//! What crashes may do to what brokers owe.

use grapevine_broker::Now;
use grapevine_protocol::Moment;

use super::{Copy, Ledger, Message, Owner, Place};
use crate::oracle::violation;
use crate::outcome::Violation;

/// What is left of a broker whose process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Survival {
    /// Everything that was written.
    Written,
    /// Everything that was written, on a device that lost power: checkpoints and messages were
    /// synced before anybody relied on them.
    Synced,
    /// The same, where only the background sync was there to help.
    Power,
    /// An earlier state, somebody else's, or nothing.
    Unknown,
}

impl Ledger {
    /// A process ended, or its disk was changed while none ran.
    pub(crate) fn crashed(&mut self, node: usize, survival: Survival) {
        let all = (node, 0)..=(node, u32::MAX);
        let mut lost_allowed = 0;
        for (_, owner) in self.owners.range_mut(all) {
            lost_allowed += owner.crashed(survival);
        }
        self.lost_allowed += lost_allowed;
        if survival != Survival::Written {
            // The marks that keep ids apart may be gone as well.
            self.ids.retain(|(at, _), _| *at != node);
        }
    }

    /// A process found this topic with these channels. Everything else it had must be gone for a
    /// reason.
    pub(crate) fn loaded(
        &mut self,
        node: usize,
        topic: u32,
        channels: &[u32],
        now: Now,
    ) -> Result<(), Violation> {
        let owner = self.owners.entry((node, topic)).or_default();
        let is_missing = |channel: &&u32| !channels.contains(channel);
        if !owner.is_blurred
            && let Some(lost) = owner.saved_channels.iter().find(is_missing)
        {
            let what = format!("topic=m{topic:03} channel=c{lost} is-gone");
            return Err(violation("M1", "nothing-lost", node, what));
        }
        owner.is_blurred |= owner.channels.iter().any(|channel| !channels.contains(channel));
        owner.channels = channels.iter().copied().collect();
        for (number, message) in &mut owner.messages {
            message.copies.retain(|channel, _| channels.contains(channel));
            if message.copies.is_empty() && !owner.unassigned.contains(number) {
                owner.open.remove(number);
            }
            for copy in message.copies.values_mut() {
                copy.started(now);
            }
        }
        if owner.is_blurred {
            owner.unassigned.clear();
        }
        Ok(())
    }

    /// A process has loaded all that it found.
    pub(crate) fn all_loaded(&mut self, node: usize, topics: &[u32]) -> Result<(), Violation> {
        let all = (node, 0)..=(node, u32::MAX);
        for (&(_, topic), owner) in self.owners.range_mut(all) {
            if topics.contains(&topic) {
                continue;
            }
            if owner.is_saved && !owner.is_blurred {
                let what = format!("topic=m{topic:03} is-gone");
                return Err(violation("M1", "nothing-lost", node, what));
            }
            let (messages, is_blurred) = (std::mem::take(&mut owner.messages), true);
            *owner = Owner { messages, is_blurred, ..Owner::default() };
            owner.messages.values_mut().for_each(|message| message.copies.clear());
        }
        Ok(())
    }
}

impl Owner {
    /// Acknowledged copies that may now be gone.
    fn crashed(&mut self, survival: Survival) -> u64 {
        let is_sure = matches!(survival, Survival::Written | Survival::Synced);
        let mut lost_allowed = 0;
        for (number, message) in &mut self.messages {
            let is_kept = message.is_acknowledged
                && match survival {
                    Survival::Written | Survival::Synced => message.is_written,
                    Survival::Power => message.is_synced,
                    Survival::Unknown => false,
                };
            // A log that lost its end goes on after a gap.
            self.is_blurred |= !message.is_written || !is_sure;
            let deliver_at = message.deliver_at;
            let mut was_lost = 0;
            for copy in message.copies.values_mut() {
                let was_owed = copy.is_owed && message.is_acknowledged;
                copy.crashed(is_sure, is_kept, deliver_at);
                was_lost += u64::from(was_owed && !copy.is_owed && !copy.is_done());
                if copy.place != Place::Finished {
                    self.open.insert(*number);
                }
            }
            lost_allowed += was_lost;
            message.forget_unkept(is_kept);
        }
        if !is_sure {
            self.saved_channels.clear();
            self.is_saved = false;
            self.is_blurred = true;
        }
        lost_allowed
    }
}

impl Message {
    /// What an earlier process did not keep is not promised any more.
    fn forget_unkept(&mut self, is_kept: bool) {
        self.is_acknowledged &= is_kept;
    }
}

impl Copy {
    /// Whether somebody has been done with it.
    fn is_done(&self) -> bool {
        self.saved.is_some_and(|saved| saved.is_finished)
    }

    /// `is_sure`: the last checkpoint is what it was. `is_kept`: so is the message.
    fn crashed(&mut self, is_sure: bool, is_kept: bool, deliver_at: i64) {
        let saved = self.saved.filter(|_| is_sure);
        let was_finished = self.place == Place::Finished;
        if was_finished && saved.is_some_and(|saved| saved.is_finished) {
            return;
        }
        let published_due = (deliver_at != 0 && !self.is_delivered).then_some(deliver_at);
        let any_saved = self.saved;
        self.due_wall = match any_saved {
            // An older checkpoint may have brought it back as ready.
            _ if was_finished => None,
            None => published_due,
            Some(saved) => saved.due_wall.map(|due| published_due.map_or(due, |at| at.min(due))),
        };
        self.is_owed &= is_kept && !was_finished;
        self.attempts.0 = saved.map_or(0, |saved| saved.attempts.min(self.attempts.0));
        self.is_exact = is_sure && is_kept && !was_finished && self.is_exact;
        self.place = Place::Waiting(None);
        if !is_sure {
            self.saved = None;
        }
    }

    /// The next process has its own clock.
    fn started(&mut self, now: Now) {
        let Some(due) = self.due_wall.take() else { return };
        let ahead = u64::try_from(due.saturating_sub(now.wall)).unwrap_or(0);
        if ahead > 0 && self.is_exact {
            self.place = Place::Waiting(Some(Moment(now.mono.as_nanos().saturating_add(ahead))));
        }
    }
}

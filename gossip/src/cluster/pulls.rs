//! Asking for what is missing: one request at a time for each owner, first of whoever has it.

use grapevine_protocol::Moment;

use super::Cluster;
use crate::NodeId;
use crate::identity::Identity;
use crate::message::{Ask, Head, Message};

/// Pulls for one owner before a digest has to find the difference again.
const PULL_TRIES_MAX: u32 = 4;

/// Sections asked for in one datagram: half a datagram for each, and an answer has four.
const ASKS_AT_ONCE: usize = 8;

/// A request that has not been answered yet; at most one for each owner.
#[derive(Debug)]
pub(super) struct PullInFlight {
    pub(super) epoch: u64,
    pub(super) wanted: u64,
    pub(super) by_stream: bool,
    tries: u32,
    pub(super) retry_at: Moment,
}

impl PullInFlight {
    pub(super) fn was_retried(&self) -> bool {
        self.tries > 1
    }
}

impl Cluster {
    /// Asks `peer` for the section of `owner` up to `wanted`, unless somebody has been asked.
    pub(super) fn pull(
        &mut self,
        now: Moment,
        peer: NodeId,
        owner: NodeId,
        epoch: u64,
        wanted: u64,
        by_stream: bool,
    ) {
        if self.begins_pull(now, &Head { owner, epoch, ver: wanted, by_stream }) {
            self.send_pulls(now, peer, &[owner]);
        }
    }

    /// Whether nobody has been asked yet for what `head` tells of.
    pub(super) fn begins_pull(&mut self, now: Moment, head: &Head) -> bool {
        let &Head { owner, epoch, ver: wanted, by_stream } = head;
        let retry_at = now + self.boot.timings.pull_retry;
        if let Some(pull) = self.pulls.get_mut(&owner) {
            if (pull.epoch, pull.wanted) < (epoch, wanted) {
                (pull.epoch, pull.wanted) = (epoch, wanted);
            }
            if pull.by_stream || !by_stream {
                return false;
            }
            pull.by_stream = true;
        } else {
            let pull = PullInFlight { epoch, wanted, by_stream, tries: 1, retry_at };
            self.pulls.insert(owner, pull);
        }
        true
    }

    /// Asks `peer` for the sections of `owners` that have been begun to be pulled.
    pub(super) fn send_pulls(&mut self, now: Moment, peer: NodeId, owners: &[NodeId]) {
        let Some(peer) = self.membership.active().get(&peer).copied() else { return };
        let mut asks = Vec::new();
        for &owner in owners {
            asks.extend(self.ask(now, peer, owner));
            if asks.len() == ASKS_AT_ONCE {
                self.send(peer.addr.socket(), &Message::Pull(std::mem::take(&mut asks)));
            }
        }
        if !asks.is_empty() {
            self.send(peer.addr.socket(), &Message::Pull(asks));
        }
    }

    /// What to ask `peer` by datagram; `None`: a stream asks.
    fn ask(&mut self, now: Moment, peer: Identity, owner: NodeId) -> Option<Ask> {
        let (known_epoch, known_ver) = self.head_of(owner);
        let retry = self.boot.timings.pull_retry;
        let pull = self.pulls.get_mut(&owner)?;
        let have = if known_epoch == pull.epoch { known_ver } else { 0 };
        let ask = Ask { owner, epoch: pull.epoch, have };
        if pull.by_stream {
            // A stream takes longer than a datagram; the periodic retry must not race it.
            pull.retry_at = now + 10 * retry;
            sometimes!("pull_by_stream");
            self.open_pull(now, peer, ask);
            return None;
        }
        pull.retry_at = now + retry;
        (!buggify!("pull_not_sent", self.boot.seed, now.0, owner.0)).then_some(ask)
    }

    /// A stream brought what `peer` had of `owner`; if more has been heard of since, ask on.
    pub(super) fn pull_the_rest(&mut self, now: Moment, peer: NodeId, owner: NodeId) {
        if let Some(PullInFlight { epoch, wanted, by_stream: true, .. }) = self.pulls.get(&owner) {
            let (epoch, wanted) = (*epoch, *wanted);
            self.pulls.remove(&owner);
            self.pull(now, peer, owner, epoch, wanted, false);
        }
    }

    /// A stream for `owner` came to nothing: ask another at once.
    pub(super) fn pull_elsewhere(&mut self, now: Moment, owner: NodeId) {
        if let Some(pull) = self.pulls.get_mut(&owner) {
            pull.retry_at = now;
        }
    }

    /// Asks somebody else where an answer is overdue: first the owner, who has everything.
    #[inline(never)]
    pub(super) fn retry_pulls(&mut self, now: Moment) {
        let due = self.pulls.iter().filter(|(_, pull)| pull.retry_at <= now);
        let due: Vec<NodeId> = due.map(|(&owner, _)| owner).collect();
        for owner in due {
            let Some(pull) = self.pulls.get_mut(&owner) else { continue };
            // N14, class "waits for ever".
            if mutant!(N14) {
                pull.retry_at = now + std::time::Duration::from_secs(86_400);
                continue;
            }
            pull.tries += 1;
            let tries = pull.tries;
            let peer = if tries == 2 {
                Some(owner)
            } else {
                self.some_members(1).first().map(|id| id.node)
            };
            match peer {
                Some(peer) if tries <= PULL_TRIES_MAX => {
                    self.count("pull_retry");
                    sometimes!("pull_retry");
                    self.send_pulls(now, peer, &[owner]);
                }
                Some(_) | None => {
                    sometimes!("pull_given_up");
                    self.pulls.remove(&owner);
                }
            }
        }
    }
}

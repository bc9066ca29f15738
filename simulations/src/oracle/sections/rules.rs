//! The rules about sections, in words.

use crate::outcome::Violation;
use crate::rules::Rule;

/// Where single-writer sections with versions come from.
const SCUTTLEBUTT: &str = "van Renesse et al., Efficient Reconciliation and Flow Control for \
    Anti-Entropy Protocols, LADIS 2008; gossip/src/section.rs";

/// The rules that sections must keep, in the order to show them in.
pub(in crate::oracle) const RULES: &[Rule] =
    &[AHEAD, BACK, FOREIGN, LOST, OLDER, UNLIKE, OUTSIDER, EPOCH, UNDEAD, ROWS, BOUNDS];

pub(super) const AHEAD: Rule = Rule {
    id: "S1",
    name: "ahead-of-owner",
    meaning: "No copy of a section is of an epoch or a version that its owner has not written. If \
        one is, its holder refuses what the owner writes next, because it takes it for old. \
        Usually a version was raised without the writes that belong to it, or one owner's news was \
        applied to another's copy.",
    source: SCUTTLEBUTT,
};

pub(super) const BACK: Rule = Rule {
    id: "S2",
    name: "copy-went-back",
    meaning: "While a node holds a copy its version never becomes smaller; it may only be dropped \
        whole. A copy that goes back shows what was undone already. Usually something writes to \
        the copy besides the rules for deltas and snapshots.",
    source: SCUTTLEBUTT,
};

pub(super) const FOREIGN: Rule = Rule {
    id: "S3",
    name: "not-written",
    meaning: "Every entry of a copy is a write of the owner in that epoch: same key, same version, \
        same value; and each write has a version of its own. An entry that is not was made up, \
        damaged on its way, or is left of an earlier epoch.",
    source: SCUTTLEBUTT,
};

pub(super) const LOST: Rule = Rule {
    id: "S4",
    name: "lost-key",
    meaning: "A copy at version v holds the owner's last write of each key, if that is at or below \
        v. Only a deletion may be missing, at or below the floor, and a key that was written again \
        after v. If another write is missing the topic is missing in answers, or a deleted one \
        stays, and nothing repairs it: the version says that all is there. Usually a delta was \
        applied over a gap, was cut without saying so, or left something out.",
    source: "quickwit-oss/chitchat issues #110, #121 and #178; gossip/src/section.rs",
};

pub(super) const OLDER: Rule = Rule {
    id: "S5",
    name: "older-again",
    meaning: "Within an epoch a key in a copy never goes to an older write, what a copy has by its \
        version is not put there again, and a node never shows an epoch below one that it has \
        shown. Usually a late datagram was taken for news, or a snapshot of somebody who is \
        behind replaced what it should be merged into.",
    source: SCUTTLEBUTT,
};

pub(super) const UNLIKE: Rule = Rule {
    id: "S7",
    name: "unlike-owner",
    meaning: "A copy of the epoch and version that its owner has now has the same live keys. If \
        not digests say that all is well, so nothing will repair the difference.",
    source: SCUTTLEBUTT,
};

pub(super) const OUTSIDER: Rule = Rule {
    id: "S8",
    name: "written-from-outside",
    meaning: "A node's own section changes only because of its own clients, by its own timers (a \
        tombstone ends, a silent producer is hidden) and where somebody asked it to hide a \
        producer. Nothing else that others say changes it.",
    source: "gossip/src/catalogue.rs: only an owner writes its section",
};

pub(super) const EPOCH: Rule = Rule {
    id: "S9",
    name: "epoch-used-twice",
    meaning: "No two lives of a process write under one node id and epoch, no packet carries an \
        epoch that is not on the disk yet, and a node that found its id in use elsewhere is \
        silent. Otherwise two histories have the same versions, and copies mix them. Nothing \
        on a node can prevent it if its disk is put back, copied, or lies about fsync; then it \
        counts how soon it is found out.",
    source: "quickwit-oss/chitchat issue #94; gossip/src/identity.rs",
};

pub(super) const UNDEAD: Rule = Rule {
    id: "V3",
    name: "resurrection",
    meaning: "What a node knows to be over does not come back: a key whose deletion its copy has \
        taken in is not shown at an older version, and an owner that left is not shown again \
        in the epoch in which it left. Usually a late delta, a peer that is behind, or forgotten \
        tombstones.",
    source: "andydunstall/piko issue #314; quickwit-oss/chitchat issue #155",
};

pub(super) const ROWS: Rule = Rule {
    id: "V4",
    name: "own-rows",
    meaning: "A node's own section lists exactly what its nsqd has and what foreign producers have \
        registered with it, by the rules of nsqlookupd's registration table; and it hides from a \
        topic only a producer that somebody asked to hide there. Everyone else learns it from \
        there, so what is wrong here is wrong everywhere.",
    source: "nsqlookupd/registration_db.go and lookup_protocol_v1.go (nsq 3103474b)",
};

pub(super) const BOUNDS: Rule = Rule {
    id: "B2",
    name: "too-many",
    meaning: "Everything that a node holds about others has a bound, and what is held once for \
        each owner is at most as many as there ever were owners. More means that something is \
        never forgotten, and that the node's memory grows with time.",
    source: "gossip/src/cluster/sizes.rs",
};

/// A rule that does not hold, before it is known where and when.
#[derive(Debug)]
pub(super) struct Broken {
    rule: &'static Rule,
    what: String,
}

impl Broken {
    #[cold]
    pub(super) fn new(rule: &'static Rule, what: String) -> Self {
        Self { rule, what }
    }

    /// It shows at this node.
    pub(super) fn at(self, node: usize) -> Violation {
        super::super::violation(self.rule.id, self.rule.name, node, self.what)
    }
}

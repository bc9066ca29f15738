//! What `/lookup` answers, against the members and sections that the answer must come from.

use std::sync::Arc;

use grapevine_gossip::cluster::Cluster;
use grapevine_gossip::section::{Key, Section};
use grapevine_gossip::{NodeId, Producer};
use grapevine_protocol::Moment;

use crate::oracle::violation;
use crate::outcome::Violation;

/// Topics whose answers are remembered; clients ask for no more, but for those of bursts.
const ANSWERED_MAX: usize = 64;

/// Topics that a node was asked for since anything changed that an answer comes from: the same
/// question has the same answer, for the same reasons.
#[derive(Debug, Default)]
pub(super) struct Answered {
    topics: Vec<String>,
    /// When its members changed last, and how many there are.
    members: (Moment, usize),
}

impl Answered {
    /// Sections at the node changed, or whether they may be shown.
    pub(super) fn clear(&mut self) {
        self.topics.clear();
    }

    /// As [`check`], unless that was done.
    pub(super) fn check(
        &mut self,
        node: usize,
        topic: &str,
        cluster: &Cluster,
    ) -> Result<(), Violation> {
        let membership = cluster.membership();
        let members = (membership.changed_at(), membership.active().len());
        // A wish hides what is listed again when it ends.
        let has_wishes = !cluster.catalogue().wishes_ref().is_empty();
        if members != self.members || has_wishes || self.topics.len() >= ANSWERED_MAX {
            self.members = members;
            self.clear();
        }
        if self.topics.iter().any(|answered| answered == topic) {
            return Ok(());
        }
        check(node, topic, cluster)?;
        if !has_wishes {
            self.topics.push(topic.to_owned());
        }
        Ok(())
    }
}

/// Where a producer that is listed is said to be registered.
struct Listed<'a> {
    owner: NodeId,
    key: &'a Key,
    producer: &'a Producer,
}

impl Listed<'_> {
    /// Whether the owner is a member in the life that its section is of, and the key, which it has,
    /// is of the topic and of that producer.
    fn has_cause(&self, topic: &str, cluster: &Cluster) -> bool {
        let Self { owner, key, producer } = *self;
        let (catalogue, active) = (cluster.catalogue(), cluster.membership().active());
        let Some(section) = catalogue.section(owner) else { return false };
        let epoch = active.get(&owner).map(|id| id.epoch);
        (owner == catalogue.me() || epoch == Some(section.epoch))
            && (&*key.topic, &*key.channel) == (topic, "")
            && section
                .record(key.producer)
                .is_some_and(|record| std::ptr::eq(&*record.producer, producer))
    }
}

/// Every producer that `/lookup?topic=` lists at `node` was registered by somebody who is a member
/// in the very life that registered it.
fn check(node: usize, topic: &str, cluster: &Cluster) -> Result<(), Violation> {
    let catalogue = cluster.catalogue();
    let mut listed: Vec<Listed<'_>> = Vec::new();
    let row = catalogue.producers_of(topic, |owner, key, record| {
        listed.push(Listed { owner, key, producer: &record.producer });
    });
    listed.retain(|listed| listed.has_cause(topic, cluster));
    for producer in row.visible() {
        let producer: &Producer = producer;
        // As a rule it is the very same.
        let mut others = listed.iter().map(|listed| listed.producer);
        let is_allowed = others.clone().any(|other| std::ptr::eq(producer, other))
            || others.any(|other| address(producer) == address(other));
        if !is_allowed {
            let what = format!("topic={topic} producer={}", producer.address());
            return Err(violation("S6", "listed-without-cause", node, what));
        }
    }
    Ok(())
}

/// Members up to which every death has a lookup: one costs as much as there are members, and in a
/// partition everyone sees half of them die: at 100 nodes they were a twentieth of all work.
const MEMBERS_ASKED_MAX: usize = 16;

/// A member is down: one of its topics is asked for at once; in a large cluster at some nodes.
pub(super) fn check_one_of(node: usize, owner: NodeId, cluster: &Cluster) -> Result<(), Violation> {
    let every = 1 + cluster.membership().active().len() / MEMBERS_ASKED_MAX;
    if !(owner.0 as usize).wrapping_add(node).is_multiple_of(every) {
        return Ok(());
    }
    let section = cluster.catalogue().section(owner);
    let topic = section.and_then(|section| {
        section.live().map(|(key, _)| &key.topic).find(|topic| !topic.is_empty()).map(Arc::clone)
    });
    topic.map_or(Ok(()), |topic| check(node, &topic, cluster))
}

fn address(producer: &Producer) -> (&str, u16) {
    (&producer.broadcast_address, producer.tcp_port)
}

/// A topic that `held` lists and its owner does not, or the other way round: whether it is the
/// first, and which.
pub(super) fn difference(held: &Section, own: &Section) -> Option<(bool, String)> {
    let only_in = |one: &Section, other: &Section| {
        one.live().map(|(key, _)| key).find(|key| other.get(key).is_none()).map(name)
    };
    let phantom = only_in(held, own).map(|key| (true, key));
    phantom.or_else(|| only_in(own, held).map(|key| (false, key)))
}

fn name(key: &Key) -> String {
    match (&*key.topic, &*key.channel) {
        ("", _) => "producer".to_owned(),
        (topic, "") => topic.to_owned(),
        (topic, channel) => format!("{topic}/{channel}"),
    }
}

//! What follows from the sections: the rows of the lookup view.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::owners::Owners;
use super::{Catalogue, Replica};
use crate::NodeId;
use crate::producer::ProducerRecord;
use crate::section::{Key, ProducerId, Section, Value};
use crate::view::{LookupView, TopicRow};

/// A registration as this node shows it.
struct Seen<'a> {
    /// In whose section it is.
    owner: NodeId,
    key: &'a Key,
    /// Its producer's record, if that is to be listed.
    record: Option<&'a Arc<ProducerRecord>>,
    tombstoned_at_ns: Option<i64>,
}

impl Catalogue {
    /// Brings `view` up to date with what has changed since the last call.
    pub fn publish(&mut self, view: &LookupView) {
        for topic in std::mem::take(&mut self.dirty_topics) {
            view.set_topic(&topic, self.row(&topic));
        }
        if std::mem::take(&mut self.dirty_producers) {
            view.set_producers(self.producers());
        }
    }

    /// What `/lookup?topic=` shows; `None` if nobody has the topic or its name.
    pub fn row(&self, topic: &str) -> Option<TopicRow> {
        let mut row = TopicRow::default();
        let any = self.registrations(topic, |seen| {
            let Seen { key, record, tombstoned_at_ns, .. } = seen;
            if !key.channel.is_empty() {
                row.add_channel(&key.channel, record);
            } else if let Some(record) = record {
                row.add_producer(record, tombstoned_at_ns);
            }
        });
        any.then_some(row)
    }

    /// The producers in it, without channels; `listed` is told in whose section each of them is,
    /// and by which key.
    pub fn producers_of<'a>(
        &'a self,
        topic: &str,
        mut listed: impl FnMut(NodeId, &'a Key, &'a ProducerRecord),
    ) -> TopicRow {
        let mut row = TopicRow::default();
        self.registrations(topic, |seen| {
            let Seen { owner, key, record, tombstoned_at_ns } = seen;
            if let Some(record) = record.filter(|_| key.channel.is_empty()) {
                listed(owner, key, record);
                row.add_producer(record, tombstoned_at_ns);
            }
        });
        row
    }

    /// Shows every registration of `topic` that counts. False if there is none.
    fn registrations<'a>(&'a self, topic: &str, mut show: impl FnMut(Seen<'a>)) -> bool {
        let owners = self.owners_of.get(topic).into_iter().flat_map(Owners::iter);
        let mut any = false;
        for owner in owners {
            let Some(section) = self.section(owner) else { continue };
            let shown = self.shows(owner);
            // Its keys come producer by producer.
            let mut last: Option<(ProducerId, Option<&Arc<ProducerRecord>>)> = None;
            for (key, entry) in section.topic(topic) {
                let Some(value) = entry.value.as_ref() else { continue };
                let Some(Value::Registered { tombstoned_at_ns }) =
                    self.wishes.seen_through(owner, section.epoch, key, entry.ver, value)
                else {
                    continue;
                };
                let known = last.filter(|(producer, _)| shown && *producer == key.producer);
                let record = match known {
                    Some((_, record)) => record,
                    None if shown => record_of(section, key.producer),
                    None => None,
                };
                last = Some((key.producer, record));
                if !shown && (is_ephemeral(&key.topic) || is_ephemeral(&key.channel)) {
                    continue;
                }
                any = true;
                show(Seen { owner, key, record, tombstoned_at_ns });
            }
        }
        any
    }

    /// Every producer that may be shown, each address once, in order of address.
    pub fn producers(&self) -> Vec<Arc<ProducerRecord>> {
        let mut by_address: BTreeMap<String, Arc<ProducerRecord>> = BTreeMap::new();
        let shown =
            self.replicas.values().filter(|r| r.is_shown() || mutant!(M17)).map(|r| &r.section);
        for section in std::iter::once(&self.own).chain(shown) {
            for (_, entry) in section.topic("") {
                let Some(Value::Producer(record)) = &entry.value else { continue };
                if !is_listed(record) {
                    continue;
                }
                let known = by_address.entry(record.producer.address());
                let known = known.or_insert_with(|| Arc::clone(record));
                if record.active && !known.active {
                    *known = Arc::clone(record);
                }
            }
        }
        by_address.into_values().collect()
    }

    fn shows(&self, owner: NodeId) -> bool {
        // M17, class "phantom producers".
        owner == self.me || self.replicas.get(&owner).is_some_and(Replica::is_shown) || mutant!(M17)
    }
}

fn record_of(section: &Section, producer: ProducerId) -> Option<&Arc<ProducerRecord>> {
    section.record(producer).filter(|record| is_listed(record))
}

/// A node that does not serve clients yet has no ports and is not listed.
fn is_listed(record: &ProducerRecord) -> bool {
    record.producer.tcp_port != 0 || record.producer.http_port != 0
}

fn is_ephemeral(name: &str) -> bool {
    name.ends_with("#ephemeral")
}

//! What follows from the sections: the rows of the lookup view.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Catalogue, Replica};
use crate::NodeId;
use crate::producer::ProducerRecord;
use crate::section::{Key, ProducerId, Section, Value};
use crate::view::{LookupView, TopicRow};

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
        self.row_of(topic, |_, _, _| {})
    }

    /// The same; `listed` is told in whose section each of its producers is, and by which key.
    pub fn row_of<'a>(
        &'a self,
        topic: &str,
        mut listed: impl FnMut(NodeId, &'a Key, &'a ProducerRecord),
    ) -> Option<TopicRow> {
        let owners = self.owners_of.get(topic)?;
        let mut row = TopicRow::default();
        let mut any = false;
        for owner in owners.iter() {
            let section = self.section(owner)?;
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
                if !key.channel.is_empty() {
                    row.add_channel(&key.channel, record);
                } else if let Some(record) = record {
                    listed(owner, key, record);
                    row.add_producer(record, tombstoned_at_ns);
                }
            }
        }
        any.then_some(row)
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

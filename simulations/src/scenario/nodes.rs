//! Which nodes: a number, a list, a region, or some that the seed chooses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scenario::drawn::Dice;

/// Which nodes are meant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Nodes {
    /// This one.
    One(usize),
    /// These.
    List(Vec<usize>),
    /// Every one.
    All,
    /// So many, chosen by the seed.
    Any(usize),
    /// Some, chosen by the seed, and how many too.
    Random,
    /// This share of them, chosen by the seed; at least one.
    Percent(u64),
    /// Those of a region.
    Region(String),
}

/// What is known of a cluster when nodes are chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roster<'a> {
    /// Nodes.
    pub nodes: usize,
    /// Regions.
    pub regions: &'a BTreeMap<String, Vec<usize>>,
    /// Luck.
    pub dice: Dice,
}

impl Roster<'_> {
    /// Every node.
    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.nodes).collect()
    }

    /// So many nodes, in order.
    pub(crate) fn some(&self, count: usize, place: &str, ids: &[u64]) -> Vec<usize> {
        let mut some = self.dice.shuffled(&self.all(), place, ids);
        some.truncate(count.clamp(1, self.nodes));
        some.sort_unstable();
        some
    }
}

impl Nodes {
    /// The nodes that are meant, in order.
    pub(crate) fn resolve(&self, roster: &Roster<'_>, place: &str, ids: &[u64]) -> Vec<usize> {
        match self {
            Self::One(node) => vec![*node],
            Self::List(nodes) => nodes.clone(),
            Self::All => roster.all(),
            Self::Any(count) => roster.some(*count, place, ids),
            Self::Random => {
                let count = 1 + roster.dice.index(roster.nodes, &format!("{place}.count"), ids);
                roster.some(count, place, ids)
            }
            Self::Percent(percent) => {
                let count = (roster.nodes as u64 * percent).div_ceil(100);
                roster.some(count as usize, place, ids)
            }
            Self::Region(name) => roster.regions.get(name).cloned().unwrap_or_default(),
        }
    }

    /// What is wrong with it in a cluster of at least this many nodes.
    pub(crate) fn problem(
        &self,
        nodes: usize,
        regions: &BTreeMap<String, Vec<usize>>,
    ) -> Option<String> {
        let beyond = |node: &usize| {
            (*node >= nodes).then(|| {
                format!("there is no node {node}: nodes are 0 to {}", nodes.saturating_sub(1))
            })
        };
        match self {
            Self::One(node) => beyond(node),
            Self::List(list) => list.iter().find_map(beyond).or_else(|| {
                let twice = list.iter().enumerate().find(|(i, n)| list[..*i].contains(n));
                twice.map(|(_, n)| format!("node {n} is named twice"))
            }),
            Self::Any(count) if *count == 0 || *count > nodes => {
                Some(format!("any({count}) of {nodes} nodes cannot be chosen"))
            }
            Self::Percent(percent) if *percent == 0 || *percent > 100 => {
                Some(format!("{percent}% is not a share of the nodes"))
            }
            Self::Region(name) if !regions.contains_key(name) => {
                let known: Vec<&str> = regions.keys().map(String::as_str).collect();
                Some(format!(
                    "there is no region \"{name}\"; regions are [{}]. Nodes are a number, a list, \
                     a region, \"all\", \"any\", \"any(2)\", \"random\" or \"10%\"",
                    known.join(", ")
                ))
            }
            Self::All | Self::Random | Self::Any(_) | Self::Percent(_) | Self::Region(_) => None,
        }
    }

    fn from_text(text: &str) -> Self {
        let any = text.strip_prefix("any(").and_then(|rest| rest.strip_suffix(')'));
        if let Some(count) = any.and_then(|count| count.trim().parse().ok()) {
            return Self::Any(count);
        }
        if let Some(percent) = text.strip_suffix('%').and_then(|p| p.trim().parse().ok()) {
            return Self::Percent(percent);
        }
        match text {
            "all" => Self::All,
            "any" => Self::Any(1),
            "random" => Self::Random,
            name => Self::Region(name.to_owned()),
        }
    }
}

impl Serialize for Nodes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(node) => serializer.serialize_u64(*node as u64),
            Self::List(nodes) => nodes.serialize(serializer),
            Self::All => serializer.serialize_str("all"),
            Self::Random => serializer.serialize_str("random"),
            Self::Any(1) => serializer.serialize_str("any"),
            Self::Any(count) => serializer.serialize_str(&format!("any({count})")),
            Self::Percent(percent) => serializer.serialize_str(&format!("{percent}%")),
            Self::Region(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodesVisitor)
    }
}

struct NodesVisitor;

impl<'de> Visitor<'de> for NodesVisitor {
    type Value = Nodes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "nodes: a number, a list, a region, \"all\", \"any\", \"any(2)\", \"random\" or \
             \"10%\"",
        )
    }

    fn visit_i64<E: de::Error>(self, node: i64) -> Result<Nodes, E> {
        usize::try_from(node).map(Nodes::One).map_err(|_| E::custom("nodes count from 0"))
    }

    fn visit_u64<E: de::Error>(self, node: u64) -> Result<Nodes, E> {
        usize::try_from(node).map(Nodes::One).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Nodes, E> {
        Ok(Nodes::from_text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Nodes, A::Error> {
        let mut all = Vec::new();
        while let Some(node) = seq.next_element::<usize>()? {
            all.push(node);
        }
        Ok(Nodes::List(all))
    }
}

impl JsonSchema for Nodes {
    fn schema_name() -> Cow<'static, str> {
        "Nodes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a node's number, a list of them, the name of a region, \"all\", \
                            \"any\", \"any(2)\" or \"10%\"",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "array", "items": { "type": "integer", "minimum": 0 } },
                { "type": "string" },
            ],
        })
    }
}

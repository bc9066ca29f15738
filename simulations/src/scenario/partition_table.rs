//! `partition = ...` in a scenario file.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scenario::drawn::Drawn;
use crate::scenario::nodes::Nodes;

/// Who does not reach whom: a word, or a table with one of the shapes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PartitionTable {
    /// Two halves, drawn; of an odd number one has a node more.
    Halves,
    /// Each node reaches only so many neighbours to each side that it sees a majority.
    Ring,
    /// Each node reaches its predecessor and its successor only.
    Chain,
    /// Two sides that only one node reaches both of; drawn.
    Bridge,
    /// All reach one node, drawn, and nobody else.
    Star,
    /// Each link is cut with this probability, in both directions.
    Random(f64),
    /// Said exactly.
    Shape(Box<Shape>),
}

/// A partition said exactly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Shape {
    /// Groups that do not reach each other; nodes in none of them form one more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Vec<Vec<usize>>>,
    /// So many groups of about equal size, drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Drawn<u64>>,
    /// With `split` or `groups`: it heals one group at a time, with this pause, after `for`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged: Option<Drawn<Duration>>,
    /// So many nodes, drawn, against the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minority: Option<Drawn<u64>>,
    /// These nodes, each alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolate: Option<Nodes>,
    /// With `minority` or `isolate`: only what is sent to them (`in`) or by them (`out`) is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oneway: Option<Direction>,
    /// With `to`: what these send does not reach the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Nodes>,
    /// With `from`: who does not hear them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Nodes>,
    /// The node that reaches both sides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<usize>,
    /// With `bridge`: one side; left out: drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Vec<usize>>,
    /// A ring in which each node reaches so many neighbours to each side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring: Option<usize>,
    /// All reach this node and nobody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub star: Option<usize>,
    /// Each link is cut with this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random: Option<Drawn<f64>>,
    /// These links are cut, in both directions.
    #[serde(deserialize_with = "links", skip_serializing_if = "Option::is_none")]
    pub links: Option<Vec<(usize, usize)>>,
}

fn links<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<(usize, usize)>>, D::Error> {
    let all = Vec::<Vec<usize>>::deserialize(from)?;
    let links = all.into_iter().map(|link| {
        let two: Result<[usize; 2], _> = link.try_into();
        two.map(|[a, b]| (a, b)).map_err(|link: Vec<usize>| {
            de::Error::custom(format!("a link has two ends, not {}: [[0, 1], [0, 2]]", link.len()))
        })
    });
    links.collect::<Result<_, _>>().map(Some)
}

/// Which way is cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    /// They hear nothing.
    In,
    /// They are not heard.
    Out,
}

/// Words that are partitions.
const WORDS: &str = "halves, ring, chain, bridge, star, random(0.3)";

impl Shape {
    /// The keys that decide what it is; one is right.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        [
            ("split", self.split.is_some()),
            ("groups", self.groups.is_some()),
            ("minority", self.minority.is_some()),
            ("isolate", self.isolate.is_some()),
            ("from", self.from.is_some() || self.to.is_some()),
            ("bridge", self.bridge.is_some()),
            ("ring", self.ring.is_some()),
            ("star", self.star.is_some()),
            ("random", self.random.is_some()),
            ("links", self.links.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, is_there)| is_there.then_some(key))
        .collect()
    }
}

impl PartitionTable {
    /// What people call it.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Halves => "halves",
            Self::Ring => "ring",
            Self::Chain => "chain",
            Self::Bridge => "bridge",
            Self::Star => "star",
            Self::Random(_) => "random cuts",
            Self::Shape(shape) => match shape.kinds().first().copied() {
                Some("split" | "groups") => "split",
                Some("minority") => "minority",
                Some("isolate") => "isolated",
                Some("from") => "one way",
                Some("bridge") => "bridge",
                Some("ring") => "ring",
                Some("star") => "star",
                Some("random") => "random cuts",
                Some(_) | None => "cut links",
            },
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        let random = text.strip_prefix("random(").and_then(|rest| rest.strip_suffix(')'));
        if let Some(p) = random {
            return p.trim().parse().ok().filter(|p| (0.0..=1.0).contains(p)).map(Self::Random);
        }
        Some(match text {
            "halves" => Self::Halves,
            "ring" => Self::Ring,
            "chain" => Self::Chain,
            "bridge" => Self::Bridge,
            "star" => Self::Star,
            _ => return None,
        })
    }
}

impl Serialize for PartitionTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Random(p) => serializer.serialize_str(&format!("random({p:?})")),
            Self::Shape(shape) => shape.serialize(serializer),
            Self::Halves | Self::Ring | Self::Chain | Self::Bridge | Self::Star => {
                serializer.serialize_str(self.label())
            }
        }
    }
}

impl<'de> Deserialize<'de> for PartitionTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartitionVisitor)
    }
}

struct PartitionVisitor;

impl<'de> Visitor<'de> for PartitionVisitor {
    type Value = PartitionTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a partition: one of {WORDS}, or a table such as {{ minority = 2 }}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PartitionTable, E> {
        PartitionTable::from_text(text).ok_or_else(|| {
            E::custom(format!("\"{text}\" is not a partition: they are {WORDS}, or a table"))
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PartitionTable, A::Error> {
        let shape = Shape::deserialize(MapAccessDeserializer::new(map))?;
        Ok(PartitionTable::Shape(Box::new(shape)))
    }
}

impl JsonSchema for PartitionTable {
    fn schema_name() -> Cow<'static, str> {
        "Partition".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let shape = generator.subschema_for::<Shape>();
        json_schema!({
            "description": format!("who does not reach whom: {WORDS}, or a table"),
            "anyOf": [
                { "enum": ["halves", "ring", "chain", "bridge", "star"] },
                { "type": "string", "pattern": r"^random\(0?\.?[0-9]+\)$" },
                shape,
            ],
        })
    }
}

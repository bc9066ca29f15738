//! Rates in a scenario file that may be a number or a table.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scenario::drawn::Drawn;

/// A rate alone, or with more about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rate<T> {
    /// Per second.
    Alone(Drawn<f64>),
    /// With more.
    Table(T),
}

/// `churn` of `[workload]`.
pub(crate) type Churn = Rate<ChurnTable>;
/// `lookups` of `[workload]`.
pub(crate) type Lookups = Rate<LookupsTable>;

/// Registrations and deletions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChurnTable {
    /// Per second, all nodes together.
    pub rate: Drawn<f64>,
    /// Share of them that are registrations; 0.6 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<Drawn<f64>>,
    /// Share that come as several in one instant: register, unregister, register again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bursts: Option<Drawn<f64>>,
    /// Channels per topic to draw from; 3 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Drawn<u64>>,
}

/// `/lookup`s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookupsTable {
    /// Per second, all nodes together.
    pub rate: Drawn<f64>,
    /// At which nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<AnyNode>,
}

/// At which nodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AnyNode {
    /// Each time another.
    Any,
}

impl<T: Serialize> Serialize for Rate<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Alone(rate) => rate.serialize(serializer),
            Self::Table(table) => table.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Rate<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RateVisitor(PhantomData))
    }
}

struct RateVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for RateVisitor<T> {
    type Value = Rate<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate per second, or a table with { rate = ... }")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Rate<T>, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Rate<T>, E> {
        Drawn::deserialize(de::value::F64Deserializer::new(number)).map(Rate::Alone)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate<T>, E> {
        Drawn::deserialize(de::value::StrDeserializer::new(text)).map(Rate::Alone)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Rate<T>, A::Error> {
        Drawn::deserialize(SeqAccessDeserializer::new(seq)).map(Rate::Alone)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rate<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Rate::Table)
    }
}

impl<T: JsonSchema> JsonSchema for Rate<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrRate", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rate = generator.subschema_for::<Drawn<f64>>();
        let table = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [rate, table] })
    }
}

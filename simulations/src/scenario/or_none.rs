//! A limit of a link in a scenario file, or the word "none".

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scenario::drawn::Drawn;

/// Something, or the word "none".
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OrNone<T> {
    /// "none".
    None,
    /// Something.
    Some(T),
}

impl<T: Serialize> Serialize for OrNone<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Some(value) => value.serialize(serializer),
        }
    }
}

/// Whether a list is a choice of such values.
pub(crate) trait Choice {
    /// A list means one of several.
    const IS_LIST: bool;
}

impl<T> Choice for Drawn<T> {
    const IS_LIST: bool = true;
}

impl<'de, T: Deserialize<'de> + Choice> Deserialize<'de> for OrNone<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrNoneVisitor(PhantomData))
    }
}

struct OrNoneVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Choice> Visitor<'de> for OrNoneVisitor<T> {
    type Value = OrNone<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, or \"none\"")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<OrNone<T>, E> {
        T::deserialize(de::value::I64Deserializer::new(number)).map(OrNone::Some)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OrNone<T>, E> {
        if text == "none" {
            return Ok(OrNone::None);
        }
        T::deserialize(de::value::StrDeserializer::new(text)).map(OrNone::Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OrNone<T>, A::Error> {
        if !T::IS_LIST {
            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
        }
        T::deserialize(SeqAccessDeserializer::new(seq)).map(OrNone::Some)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OrNone<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(OrNone::Some)
    }
}

impl<T: JsonSchema> JsonSchema for OrNone<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrNone", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let some = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [some, { "const": "none" }] })
    }
}

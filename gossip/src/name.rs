//! Names of topics and channels, as sections hold them.

use std::sync::Arc;

use serde::Deserializer;

/// A topic or channel name; empty where a key has none.
pub type Name = Arc<str>;

/// Decodes a name straight from the bytes it is in: serde's own way makes a box of it first.
pub(crate) fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = Name;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a name")
        }

        fn visit_str<E>(self, name: &str) -> Result<Name, E> {
            Ok(if name.is_empty() { Name::default() } else { Name::from(name) })
        }
    }
    from.deserialize_str(Visitor)
}

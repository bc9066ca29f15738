//! JSON as Go's encoding/json writes and reads it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Serialize, Serializer};

/// `document` as Go writes it: compact, with `&`, `<`, `>`, U+2028 and U+2029 escaped in strings.
///
/// A document that cannot be written (a map with keys that are no strings) comes out empty; the
/// documents of this package always can.
pub fn go_json(document: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_vec(document).unwrap_or_default();
    // Outside of strings none of these bytes occurs, so the whole text can be treated alike. E2
    // begins the two separators; it is rare enough not to matter when it is something else.
    if !json.iter().any(|byte| matches!(byte, b'&' | b'<' | b'>' | 0xe2)) {
        return json;
    }
    let mut escaped = Vec::with_capacity(json.len() + 32);
    let mut rest = &json[..];
    while let Some((&byte, after)) = rest.split_first() {
        let (text, len): (&[u8], usize) = match byte {
            b'&' => (b"\\u0026", 1),
            b'<' => (b"\\u003c", 1),
            b'>' => (b"\\u003e", 1),
            0xe2 if after.starts_with(b"\x80\xa8") => (b"\\u2028", 3),
            0xe2 if after.starts_with(b"\x80\xa9") => (b"\\u2029", 3),
            _ => (&rest[..1], 1),
        };
        escaped.extend_from_slice(text);
        rest = &rest[len..];
    }
    escaped
}

/// Writes a float as Go does: without a fraction if it has none (`1`, where serde writes `1.0`).
pub(crate) fn go_float<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    /// Up to here every integer is a float of its own.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT_MAX {
        // In range by the line above.
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}

/// A Go struct that is filled from a JSON object.
pub(crate) trait GoStruct: Default {
    /// Takes the value of `key`, given in lower case, with [`set`] or [`skip`].
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads `json` as Go's `json.Unmarshal` fills a struct; `None` if Go would return an error.
///
/// Keys match in any case, unknown ones are skipped, of duplicates the last wins, `null` (for a
/// field or for everything) changes nothing, and bytes that are not UTF-8 become U+FFFD.
pub(crate) fn from_go_json<T: GoStruct>(json: &[u8]) -> Option<T> {
    try_from_go_json(json).ok()
}

/// As [`from_go_json`], with what is wrong and where.
pub(crate) fn try_from_go_json<T: GoStruct>(json: &[u8]) -> serde_json::Result<T> {
    let text = String::from_utf8_lossy(json);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let document = go_struct(&mut deserializer)?;
    deserializer.end()?;
    Ok(document)
}

/// Reads a Go struct that is part of another: what its `Deserialize` does.
pub(crate) fn go_struct<'de, D: Deserializer<'de>, T: GoStruct>(input: D) -> Result<T, D::Error> {
    input.deserialize_any(StructVisitor(PhantomData))
}

/// Fills `field` with the next value of `map`, unless that is `null`.
pub(crate) fn set<'de, A, T>(field: &mut T, map: &mut A) -> Result<(), A::Error>
where
    A: MapAccess<'de>,
    T: Deserialize<'de>,
{
    if let Some(value) = map.next_value::<Option<T>>()? {
        *field = value;
    }
    Ok(())
}

/// Passes over the next value of `map`.
pub(crate) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// A Go struct within another, as an element of a list.
pub(crate) struct Nested<T>(pub(crate) T);

impl<'de, T: GoStruct> Deserialize<'de> for Nested<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StructVisitor(PhantomData)).map(Self)
    }
}

struct StructVisitor<T>(PhantomData<T>);

impl<'de, T: GoStruct> Visitor<'de> for StructVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object or null")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut document = T::default();
        while let Some(key) = map.next_key::<String>()? {
            document.field(&fold(&key), &mut map)?;
        }
        Ok(document)
    }
}

/// `key` in lower case; Go also folds the two letters beyond ASCII that have an ASCII partner.
fn fold(key: &str) -> String {
    key.chars()
        .map(|character| match character {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            _ => character.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_for_html_as_go_does() {
        let json = go_json(&"a<b>&c \u{2028}\u{2029} \u{20ac}\"\\ \n");
        let want = "\"a\\u003cb\\u003e\\u0026c \\u2028\\u2029 \u{20ac}\\\"\\\\ \\n\"";
        assert_eq!(String::from_utf8_lossy(&json), want);
    }

    #[test]
    fn whole_floats_have_no_fraction() {
        #[derive(Serialize)]
        struct Row(#[serde(serialize_with = "go_float")] f64);

        for (value, text) in
            [(1.0, "1"), (0.99, "0.99"), (-3.0, "-3"), (259_800_000.0, "259800000")]
        {
            assert_eq!(go_json(&Row(value)), text.as_bytes());
        }
    }
}

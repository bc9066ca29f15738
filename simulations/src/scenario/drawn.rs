//! Values that a scenario may leave open, for the seed to decide.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::luck;
use crate::scenario::span;

/// A value, a range (`"a..b"`) or a choice (`[a, b, c]`).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Drawn<T> {
    /// Nothing is open.
    Is(T),
    /// Anything from the first to the second.
    Range(T, T),
    /// One of these.
    OneOf(Vec<T>),
}

/// What can be drawn.
pub(crate) trait Scalar: Copy + PartialOrd + fmt::Debug {
    /// What it is, for messages.
    const WHAT: &'static str;
    /// Name of its schema.
    const NAME: &'static str;
    /// Reads it.
    fn from_text(text: &str) -> Option<Self>;
    /// Takes a number, if it is one without a unit.
    fn from_number(number: f64) -> Option<Self>;
    /// Writes it.
    fn to_text(self) -> String;
    /// Itself, if it is a number.
    fn to_number(self) -> Option<f64>;
    /// At this share of the way from one to another.
    fn between(low: Self, high: Self, share: f64) -> Self;
    /// Schema of one value.
    fn one() -> Schema;
}

/// Draws what a scenario leaves open: each place has its own luck.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice {
    /// Of the run.
    pub seed: u64,
}

impl Dice {
    /// The key of a place in the scenario; `ids` tell repetitions apart.
    pub(crate) fn key(self, place: &str, ids: &[u64]) -> u64 {
        let mut all = vec![luck::key(0, place, &[])];
        all.extend_from_slice(ids);
        luck::key(self.seed, "plan", &all)
    }

    /// From 0 to below 1.
    pub(crate) fn share(self, place: &str, ids: &[u64]) -> f64 {
        luck::share(self.key(place, ids))
    }

    /// From 0 to below `count`; 0 if there is nothing to choose from.
    pub(crate) fn index(self, count: usize, place: &str, ids: &[u64]) -> usize {
        ((self.share(place, ids) * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// Evenly on a logarithmic scale: as often from 1 to 2 as from 10 to 20.
    pub(crate) fn log(self, low: f64, high: f64, place: &str, ids: &[u64]) -> f64 {
        let (low, high) = (low.max(1e-9), high.max(1e-9));
        let share = self.share(place, ids);
        rounded(libm::exp(libm::log(low) + (libm::log(high) - libm::log(low)) * share))
    }

    /// The items in an order of luck.
    pub(crate) fn shuffled(self, items: &[usize], place: &str, ids: &[u64]) -> Vec<usize> {
        let mut ids = ids.to_vec();
        ids.push(0);
        let mut keyed: Vec<(u64, usize)> = items
            .iter()
            .map(|&item| {
                *ids.last_mut().expect("just pushed") = item as u64;
                (self.key(place, &ids), item)
            })
            .collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, item)| item).collect()
    }
}

impl<T: Scalar> Drawn<T> {
    /// What the seed makes of it.
    pub(crate) fn draw(&self, dice: Dice, place: &str, ids: &[u64]) -> T {
        match self {
            Self::Is(value) => *value,
            Self::Range(low, high) => T::between(*low, *high, dice.share(place, ids)),
            Self::OneOf(all) => all[dice.index(all.len(), place, ids)],
        }
    }

    /// The least it can be.
    pub(crate) fn least(&self) -> T {
        match self {
            Self::Is(value) | Self::Range(value, _) => *value,
            Self::OneOf(all) => all.iter().copied().fold(all[0], |a, b| if b < a { b } else { a }),
        }
    }

    /// The most it can be.
    pub(crate) fn most(&self) -> T {
        match self {
            Self::Is(value) | Self::Range(_, value) => *value,
            Self::OneOf(all) => all.iter().copied().fold(all[0], |a, b| if b > a { b } else { a }),
        }
    }
}

/// Four digits are enough for a drawn number, and people can read them.
pub(crate) fn rounded(number: f64) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return number;
    }
    format!("{number:.3e}").parse().unwrap_or(number)
}

impl Scalar for Duration {
    const WHAT: &'static str = "a span of time such as \"250ms\", \"8s\", \"10m\"";
    const NAME: &'static str = "Span";

    fn from_text(text: &str) -> Option<Self> {
        span::parse(text)
    }

    fn from_number(_: f64) -> Option<Self> {
        None
    }

    fn to_text(self) -> String {
        span::format(self)
    }

    fn to_number(self) -> Option<f64> {
        None
    }

    /// Spans of seconds are drawn in whole ms, shorter ones in whole us.
    fn between(low: Self, high: Self, share: f64) -> Self {
        let us = (high.saturating_sub(low).as_micros() as f64 * share) as u64;
        let drawn = low + Self::from_micros(us);
        if drawn < Self::from_secs(1) {
            return drawn;
        }
        Self::from_millis(drawn.as_millis() as u64).max(low)
    }

    fn one() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[0-9.]+(d|h|m|s|ms|us|ns)$" })
    }
}

impl Scalar for f64 {
    const WHAT: &'static str = "a number";
    const NAME: &'static str = "Number";

    fn from_text(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|n: &Self| n.is_finite())
    }

    fn from_number(number: f64) -> Option<Self> {
        Some(number).filter(|n| n.is_finite())
    }

    fn to_text(self) -> String {
        format!("{self:?}")
    }

    fn to_number(self) -> Option<f64> {
        Some(self)
    }

    fn between(low: Self, high: Self, share: f64) -> Self {
        rounded(low + (high - low) * share)
    }

    fn one() -> Schema {
        json_schema!({ "type": "number" })
    }
}

impl Scalar for u64 {
    const WHAT: &'static str = "a whole number";
    const NAME: &'static str = "Count";

    fn from_text(text: &str) -> Option<Self> {
        text.trim().replace('_', "").parse().ok()
    }

    fn from_number(number: f64) -> Option<Self> {
        (number >= 0.0 && number.fract() == 0.0 && number < 1e15).then_some(number as Self)
    }

    fn to_text(self) -> String {
        self.to_string()
    }

    fn to_number(self) -> Option<f64> {
        Some(self as f64)
    }

    fn between(low: Self, high: Self, share: f64) -> Self {
        low + ((high.saturating_sub(low) + 1) as f64 * share) as Self
    }

    fn one() -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

/// How far a clock jumps, in ms: `"-1h"`, `"3650d"`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Jump(pub i64);

impl Scalar for Jump {
    const WHAT: &'static str = "a jump such as \"-1h\" or \"10s\", in whole ms";
    const NAME: &'static str = "Jump";

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let span = span::parse(rest)?;
        let ms = i64::try_from(span.as_millis()).ok()?;
        span.subsec_nanos().is_multiple_of(1_000_000).then_some(Self(sign * ms))
    }

    fn from_number(_: f64) -> Option<Self> {
        None
    }

    fn to_text(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        format!("{sign}{}", span::format(Duration::from_millis(self.0.unsigned_abs())))
    }

    fn to_number(self) -> Option<f64> {
        None
    }

    fn between(low: Self, high: Self, share: f64) -> Self {
        Self(low.0 + ((high.0 - low.0) as f64 * share) as i64)
    }

    fn one() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[-+]?[0-9.]+(d|h|m|s|ms)$" })
    }
}

impl<T: Scalar> Serialize for Drawn<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Is(value) => One(*value).serialize(serializer),
            Self::Range(low, high) => {
                serializer.serialize_str(&format!("{}..{}", low.to_text(), high.to_text()))
            }
            Self::OneOf(all) => serializer.collect_seq(all.iter().map(|value| One(*value))),
        }
    }
}

/// One value, written as itself.
struct One<T>(T);

impl<T: Scalar> Serialize for One<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_number() {
            Some(n) if T::NAME == u64::NAME => serializer.serialize_i64(n as i64),
            Some(n) => serializer.serialize_f64(n),
            None => serializer.serialize_str(&self.0.to_text()),
        }
    }
}

impl<'de, T: Scalar> Deserialize<'de> for Drawn<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DrawnVisitor(PhantomData))
    }
}

struct DrawnVisitor<T>(PhantomData<T>);

impl<T: Scalar> DrawnVisitor<T> {
    fn number<E: de::Error>(number: f64) -> Result<Drawn<T>, E> {
        T::from_number(number)
            .map(Drawn::Is)
            .ok_or_else(|| E::custom(format!("{number} is not {}", T::WHAT)))
    }
}

impl<'de, T: Scalar> Visitor<'de> for DrawnVisitor<T> {
    type Value = Drawn<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, a range \"a..b\", or a list to choose from", T::WHAT)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Self::number(number as f64)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Self::number(number as f64)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Self::number(number)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let read = |part: &str| {
            T::from_text(part).ok_or_else(|| E::custom(format!("\"{part}\" is not {}", T::WHAT)))
        };
        let Some((low, high)) = text.split_once("..") else { return read(text).map(Drawn::Is) };
        let (low, high) = (read(low)?, read(high)?);
        if high < low {
            return Err(E::custom(format!("\"{text}\" ends before it begins")));
        }
        Ok(Drawn::Range(low, high))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element::<Drawn<T>>()? {
            let Drawn::Is(value) = one else {
                return Err(de::Error::custom("a list to choose from holds single values only"));
            };
            all.push(value);
        }
        if all.is_empty() {
            return Err(de::Error::custom("there is nothing to choose from"));
        }
        Ok(Drawn::OneOf(all))
    }
}

/// Two values, not one and not three: serde reads the first two of a longer list.
pub(crate) fn pair<'de, D, T>(deserializer: D) -> Result<(T, T), D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let all = Vec::<T>::deserialize(deserializer)?;
    let count = all.len();
    let both: Result<[T; 2], _> = all.try_into();
    let [first, second] =
        both.map_err(|_| de::Error::custom(format!("two values belong here, not {count}")))?;
    Ok((first, second))
}

impl<T: Scalar> JsonSchema for Drawn<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": format!("{}, a range \"a..b\", or a list to choose from", T::WHAT),
            "anyOf": [
                T::one(),
                { "type": "string", "pattern": r"^.+\.\..+$" },
                { "type": "array", "items": T::one(), "minItems": 1 },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        nodes: Drawn<u64>,
        rest: Drawn<Duration>,
        loss: Drawn<f64>,
        jump: Drawn<Jump>,
    }

    const TEXT: &str =
        "nodes = \"3..9\"\nrest = [\"5s\", \"15s\"]\nloss = \"0.0..0.2\"\njump = \"-1h\"\n";

    #[test]
    fn ranges_and_choices_are_drawn_within_their_bounds_and_reach_them() {
        let file: File = toml::from_str(TEXT).unwrap();
        let all: Vec<u64> =
            (0..500).map(|seed| file.nodes.draw(Dice { seed }, "cluster.nodes", &[])).collect();
        assert_eq!((all.iter().min(), all.iter().max()), (Some(&3), Some(&9)));
        for seed in 0..100 {
            let rest = file.rest.draw(Dice { seed }, "x", &[]);
            assert!([5, 15].contains(&rest.as_secs()));
            assert!((0.0..=0.2).contains(&file.loss.draw(Dice { seed }, "x", &[])));
        }
        assert_eq!(file.jump, Drawn::Is(Jump(-3_600_000)));
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let file: File = toml::from_str(TEXT).unwrap();
        assert_eq!(toml::from_str::<File>(&toml::to_string(&file).unwrap()).unwrap(), file);
        assert_eq!(toml::to_string(&file).unwrap(), TEXT);
    }

    #[test]
    fn a_wrong_value_says_what_is_right() {
        let error = toml::from_str::<File>(&TEXT.replace("5s", "5 s")).unwrap_err();
        assert!(error.message().contains("is not a span of time such as"), "{error}");
        let error = toml::from_str::<File>(&TEXT.replace("3..9", "9..3")).unwrap_err();
        assert!(error.message().contains("ends before it begins"), "{error}");
    }
}

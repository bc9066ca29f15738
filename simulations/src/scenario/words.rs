//! Small words of scenario files: what a disk holds, and times after the healing.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::coverage;
use crate::plan::DiskFate;
use crate::scenario::drawn::{Dice, Drawn, Scalar};
use crate::scenario::span;

/// Declares how a type that is one string in a file is read and written.
macro_rules! as_text {
    ($name:ident, $what:expr, $pattern:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(|()| {
                    serde::de::Error::custom(format!("\"{text}\" is not {}", $what))
                })
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $what, "pattern": $pattern })
            }
        }
    };
}

/// What a restarted process finds on its disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DiskWord(pub DiskFate);

as_text!(
    DiskWord,
    "what a disk can hold: \"keep\", \"power_loss\", \"lose\", \"old(2s)\" or \"clone(3)\"",
    r"^(keep|power_loss|lose|old\(.+\)|clone\([0-9]+\))$"
);

impl FromStr for DiskWord {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let inner = |word: &str| {
            text.strip_prefix(word)?.strip_prefix('(')?.strip_suffix(')').map(str::trim)
        };
        if let Some(age) = inner("old") {
            return span::parse(age).map(|age| Self(DiskFate::Old(age))).ok_or(());
        }
        if let Some(node) = inner("clone") {
            return node.parse().map(|node| Self(DiskFate::CloneOf(node))).map_err(|_| ());
        }
        match text {
            "keep" => Ok(Self(DiskFate::Keep)),
            "power_loss" => Ok(Self(DiskFate::PowerLoss)),
            "lose" => Ok(Self(DiskFate::Lose)),
            _ => Err(()),
        }
    }
}

impl fmt::Display for DiskWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DiskFate::Keep => f.write_str("keep"),
            DiskFate::PowerLoss => f.write_str("power_loss"),
            DiskFate::Lose => f.write_str("lose"),
            DiskFate::Old(age) => write!(f, "old({})", span::format(age)),
            DiskFate::CloneOf(node) => write!(f, "clone({node})"),
        }
    }
}

/// A time of the run: from its start (`"90s"`), after the healing (`"heal + 60s"`), or `"never"`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum When {
    /// From the start of the run.
    At(Drawn<Duration>),
    /// After everything was mended.
    Heal(Drawn<Duration>),
    /// Never.
    Never,
}

as_text!(When, "a time: \"90s\", \"heal + 60s\" or \"never\"", r"^(never|heal|.*[a-z])$");

impl When {
    /// The time, given that of the healing.
    pub(crate) fn draw(&self, heal: Option<Duration>, dice: Dice, place: &str) -> Option<Duration> {
        match self {
            Self::At(at) => Some(at.draw(dice, place, &[])),
            Self::Heal(after) => Some(heal.unwrap_or_default() + after.draw(dice, place, &[])),
            Self::Never => None,
        }
    }
}

impl FromStr for When {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        if text == "never" {
            return Ok(Self::Never);
        }
        let Some(rest) = text.strip_prefix("heal") else { return drawn(text).map(Self::At) };
        let rest = rest.trim();
        if rest.is_empty() {
            return Ok(Self::Heal(Drawn::Is(Duration::ZERO)));
        }
        drawn(rest.strip_prefix('+').ok_or(())?).map(Self::Heal)
    }
}

fn drawn(text: &str) -> Result<Drawn<Duration>, ()> {
    let one = |text: &str| Duration::from_text(text).ok_or(());
    match text.split_once("..") {
        None => one(text).map(Drawn::Is),
        Some((low, high)) => {
            let (low, high) = (one(low)?, one(high)?);
            if low <= high { Ok(Drawn::Range(low, high)) } else { Err(()) }
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, span) = match self {
            Self::At(span) => ("", span),
            Self::Heal(span) => ("heal + ", span),
            Self::Never => return f.write_str("never"),
        };
        match span {
            Drawn::Is(span) => write!(f, "{prefix}{}", span.to_text()),
            Drawn::Range(low, high) => write!(f, "{prefix}{}..{}", low.to_text(), high.to_text()),
            Drawn::OneOf(all) => write!(f, "{prefix}{}", all[0].to_text()),
        }
    }
}

/// A point that a run may reach.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Point(pub String);

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = coverage::points();
        if known.contains(&name) {
            return Ok(Self(name));
        }
        let known: Vec<String> = known.iter().map(|point| format!("`{point}`")).collect();
        // As serde says it of a list that is known when it is compiled.
        let message = format!("unknown variant `{name}`, expected one of {}", known.join(", "));
        Err(serde::de::Error::custom(message))
    }
}

impl JsonSchema for Point {
    fn schema_name() -> Cow<'static, str> {
        "Point".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "a point of the code, or a fault and what happened in it",
            "enum": coverage::points(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written_alike() {
        for text in ["keep", "power_loss", "lose", "old(2s)", "clone(3)"] {
            assert_eq!(text.parse::<DiskWord>().unwrap().to_string(), text);
        }
        for text in ["90s", "heal + 60s", "never", "5s..10s", "heal + 1s..2s"] {
            assert_eq!(text.parse::<When>().unwrap().to_string(), text);
        }
        for text in ["old", "old(2)", "clone(x)", "kept"] {
            assert!(text.parse::<DiskWord>().is_err(), "{text}");
        }
        for text in ["", "heal - 5s", "heal 5s", "healed", "5"] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
    }
}

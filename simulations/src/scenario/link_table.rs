//! Links in a scenario file: `[net]`, its `between`, and the fault `link`.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::plan;
use crate::scenario::check::{delay_problem, size_problems};
use crate::scenario::drawn::{Dice, Drawn, pair};
use crate::scenario::nodes::Nodes;
use crate::scenario::or_none::{Choice, OrNone};

/// Declares a table that holds the properties of links beside fields of its own.
macro_rules! link_table {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $(
                $(#[$field_doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$kind>,
            )*
            /// What is not said here: as in `[net]`, or of a quiet LAN or WAN.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub base: Option<Base>,
            /// How long a datagram takes, one way.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub delay: Option<DelayTable>,
            /// Share of datagrams that are lost, from 0 to 1.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub loss: Option<Drawn<f64>>,
            /// Loss in bursts, beside `loss`; or "none".
            #[serde(skip_serializing_if = "Option::is_none")]
            pub burst: Option<OrNone<BurstTable>>,
            /// Share of datagrams that arrive twice.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub dup: Option<Drawn<f64>>,
            /// Share of datagrams that arrive later than what was sent after them.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub reorder: Option<Drawn<f64>>,
            /// By up to this much; minutes are allowed.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub reorder_by: Option<Drawn<Duration>>,
            /// Share of datagrams of which a bit is flipped.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub corrupt: Option<Drawn<f64>>,
            /// Share of datagrams of which the end is missing.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub truncate: Option<Drawn<f64>>,
            /// Bytes per second; or "none".
            #[serde(skip_serializing_if = "Option::is_none")]
            pub rate: Option<OrNone<Drawn<u64>>>,
            /// Datagrams that may wait where `rate` is set; more are lost.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub queue: Option<Drawn<u64>>,
            /// Datagrams with a larger payload are lost, in bytes; or "none".
            #[serde(skip_serializing_if = "Option::is_none")]
            pub mtu: Option<OrNone<Drawn<u64>>>,
            /// Datagrams come from another address than the sender tells: it is translated.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub nat: Option<bool>,
        }

        impl $name {
            /// The link it describes.
            pub(crate) fn draw(
                &self,
                from: &plan::Link,
                dice: Dice,
                at: &str,
                ids: &[u64],
            ) -> plan::Link {
                let base = match self.base {
                    None | Some(Base::Net) => from.clone(),
                    Some(Base::Lan) => plan::Link::LAN,
                    Some(Base::Wan) => wan(),
                };
                let number = |field: &Option<Drawn<f64>>, name: &str, base: f64| {
                    field.as_ref().map_or(base, |d| d.draw(dice, &format!("{at}.{name}"), ids))
                };
                type Count = Option<OrNone<Drawn<u64>>>;
                let count = |field: &Count, name: &str, base: Option<u64>| match field {
                    None => base,
                    Some(OrNone::None) => None,
                    Some(OrNone::Some(d)) => Some(d.draw(dice, &format!("{at}.{name}"), ids)),
                };
                plan::Link {
                    loss: number(&self.loss, "loss", base.loss),
                    burst: match &self.burst {
                        None => base.burst,
                        Some(OrNone::None) => None,
                        Some(OrNone::Some(burst)) => Some(burst.draw(dice, at, ids)),
                    },
                    delay: self.delay.as_ref().map_or(base.delay, |d| d.draw(dice, at, ids)),
                    dup: number(&self.dup, "dup", base.dup),
                    reorder: number(&self.reorder, "reorder", base.reorder),
                    reorder_by: self.reorder_by.as_ref().map_or(base.reorder_by, |d| {
                        d.draw(dice, &format!("{at}.reorder_by"), ids)
                    }),
                    corrupt: number(&self.corrupt, "corrupt", base.corrupt),
                    truncate: number(&self.truncate, "truncate", base.truncate),
                    rate: count(&self.rate, "rate", base.rate),
                    queue: self.queue.as_ref().map_or(base.queue, |d| {
                        d.draw(dice, &format!("{at}.queue"), ids) as usize
                    }),
                    mtu: count(&self.mtu, "mtu", base.mtu.map(|mtu| mtu as u64))
                        .map(|mtu| mtu as usize),
                    nat: self.nat.unwrap_or(base.nat),
                }
            }

            /// Writes what differs from a quiet LAN, so that nothing depends on what is around.
            pub(crate) fn from_link(link: &plan::Link) -> Self {
                let lan = plan::Link::LAN;
                let number = |now: f64, lan: f64| (now != lan).then_some(Drawn::Is(now));
                let count = |now: Option<u64>| now.map(|n| OrNone::Some(Drawn::Is(n)));
                Self {
                    base: Some(Base::Lan),
                    delay: (link.delay != lan.delay).then(|| DelayTable::from(&link.delay)),
                    loss: number(link.loss, lan.loss),
                    burst: link.burst.map(|burst| OrNone::Some(BurstTable::from(burst))),
                    dup: number(link.dup, lan.dup),
                    reorder: number(link.reorder, lan.reorder),
                    reorder_by: (link.reorder_by != lan.reorder_by)
                        .then_some(Drawn::Is(link.reorder_by)),
                    corrupt: number(link.corrupt, lan.corrupt),
                    truncate: number(link.truncate, lan.truncate),
                    rate: count(link.rate),
                    queue: (link.queue != lan.queue).then_some(Drawn::Is(link.queue as u64)),
                    mtu: count(link.mtu.map(|mtu| mtu as u64)),
                    nat: link.nat.then_some(true),
                    ..Self::default()
                }
            }

            /// What cannot be, by field.
            pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
                let mut found = Vec::new();
                for (name, field) in [
                    ("loss", &self.loss),
                    ("dup", &self.dup),
                    ("reorder", &self.reorder),
                    ("corrupt", &self.corrupt),
                    ("truncate", &self.truncate),
                ] {
                    if let Some(problem) = field.as_ref().and_then(share_problem) {
                        found.push((name, problem));
                    }
                }
                let burst = match &self.burst {
                    Some(OrNone::Some(burst)) => {
                        [&burst.enter, &burst.exit, &burst.loss].into_iter().find_map(share_problem)
                    }
                    Some(OrNone::None) | None => None,
                };
                found.extend(burst.map(|problem| ("burst", problem)));
                let sizes = size_problems(&self.mtu, &self.rate);
                found.extend(sizes.into_iter().map(|(name, what)| (name, what.to_owned())));
                found.extend(self.delay.as_ref().and_then(delay_problem).map(|p| ("delay", p)));
                found
            }
        }
    };
}

link_table! {
    /// Every link, unless something else is said.
    Net {
        /// Links between some nodes.
        between: Vec<Between>,
    }
}

link_table! {
    /// Links between some nodes and others.
    Between {
        /// Senders; all if left out.
        from: Nodes,
        /// Receivers; all if left out.
        to: Nodes,
        /// In both directions, which is the default.
        both: bool,
    }
}

link_table! {
    /// Links become like this for a while.
    LinkFault {
        /// Senders; all if left out.
        from: Nodes,
        /// Receivers; all if left out.
        to: Nodes,
        /// In both directions; the default is no.
        both: bool,
    }
}

/// A WAN: 40 ms one way as a rule, one datagram in a hundred takes 120 ms.
pub(crate) fn wan() -> plan::Link {
    plan::Link {
        delay: plan::Delay::Lognormal {
            median: Duration::from_millis(40),
            p99: Duration::from_millis(120),
        },
        ..plan::Link::LAN
    }
}

/// Why a number is no share, if so.
pub(crate) fn share_problem(share: &Drawn<f64>) -> Option<String> {
    let wrong = [share.least(), share.most()].into_iter().find(|p| !(0.0..=1.0).contains(p));
    wrong.map(|p| format!("{p} is not from 0 to 1"))
}

/// What links are like where nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Base {
    /// As in `[net]`.
    Net,
    /// A quiet LAN: 0.1 ms and an exponential rest of 0.3 ms on average.
    Lan,
    /// A quiet WAN: 40 ms, one in a hundred 120 ms.
    Wan,
}

/// A link that is bad for a while now and then (Gilbert-Elliott).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BurstTable {
    /// Probability, for each datagram, that the bad time begins.
    #[serde(alias = "p_enter")]
    pub enter: Drawn<f64>,
    /// Probability, for each datagram, that it ends.
    #[serde(alias = "p_exit")]
    pub exit: Drawn<f64>,
    /// Share that is lost meanwhile.
    pub loss: Drawn<f64>,
}

impl BurstTable {
    fn draw(&self, dice: Dice, at: &str, ids: &[u64]) -> plan::Burst {
        let number = |d: &Drawn<f64>, name: &str| d.draw(dice, &format!("{at}.burst.{name}"), ids);
        plan::Burst {
            enter: number(&self.enter, "enter"),
            exit: number(&self.exit, "exit"),
            loss: number(&self.loss, "loss"),
        }
    }
}

impl Choice for BurstTable {
    const IS_LIST: bool = false;
}

impl From<plan::Burst> for BurstTable {
    fn from(burst: plan::Burst) -> Self {
        Self {
            enter: Drawn::Is(burst.enter),
            exit: Drawn::Is(burst.exit),
            loss: Drawn::Is(burst.loss),
        }
    }
}

/// How long a datagram takes; a span alone means always this long.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(transform = allow_span)]
pub(crate) enum DelayTable {
    /// Always this long.
    Const(Drawn<Duration>),
    /// Between these two.
    Uniform(Drawn<Duration>, Drawn<Duration>),
    /// At least `min`, and an exponential rest.
    Exp {
        /// Least.
        min: Drawn<Duration>,
        /// Average of the rest.
        mean: Drawn<Duration>,
    },
    /// Lognormal.
    Lognormal {
        /// Half are faster.
        median: Drawn<Duration>,
        /// One in a hundred is slower.
        p99: Drawn<Duration>,
    },
    /// Heavy tail, cut at 10 s.
    Pareto {
        /// Least.
        min: Drawn<Duration>,
        /// Shape; the smaller, the heavier the tail.
        alpha: Drawn<f64>,
    },
    /// Mostly one, sometimes the other.
    Bimodal {
        /// The usual one.
        fast: Drawn<Duration>,
        /// The other.
        slow: Drawn<Duration>,
        /// Share of the other.
        p_slow: Drawn<f64>,
    },
}

/// The same, as serde reads a table.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum DelayForm {
    Const(Drawn<Duration>),
    Uniform(#[serde(deserialize_with = "pair")] (Drawn<Duration>, Drawn<Duration>)),
    Exp { min: Drawn<Duration>, mean: Drawn<Duration> },
    Lognormal { median: Drawn<Duration>, p99: Drawn<Duration> },
    Pareto { min: Drawn<Duration>, alpha: Drawn<f64> },
    Bimodal { fast: Drawn<Duration>, slow: Drawn<Duration>, p_slow: Drawn<f64> },
}

impl From<DelayForm> for DelayTable {
    fn from(form: DelayForm) -> Self {
        match form {
            DelayForm::Const(span) => Self::Const(span),
            DelayForm::Uniform((low, high)) => Self::Uniform(low, high),
            DelayForm::Exp { min, mean } => Self::Exp { min, mean },
            DelayForm::Lognormal { median, p99 } => Self::Lognormal { median, p99 },
            DelayForm::Pareto { min, alpha } => Self::Pareto { min, alpha },
            DelayForm::Bimodal { fast, slow, p_slow } => Self::Bimodal { fast, slow, p_slow },
        }
    }
}

impl<'de> Deserialize<'de> for DelayTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DelayVisitor)
    }
}

struct DelayVisitor;

impl<'de> Visitor<'de> for DelayVisitor {
    type Value = DelayTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a span of time, a list of them, or { const, uniform, exp, lognormal, pareto or \
             bimodal = ... }",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<DelayTable, E> {
        Drawn::deserialize(de::value::StrDeserializer::new(text)).map(DelayTable::Const)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<DelayTable, A::Error> {
        Drawn::deserialize(SeqAccessDeserializer::new(seq)).map(DelayTable::Const)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DelayTable, A::Error> {
        DelayForm::deserialize(MapAccessDeserializer::new(map)).map(DelayTable::from)
    }
}

/// A delay may be a span alone, or one of several.
fn allow_span(schema: &mut Schema) {
    if let Some(forms) = schema.get_mut("oneOf").and_then(serde_json::Value::as_array_mut) {
        let items = serde_json::json!({ "type": "string" });
        forms.push(items.clone());
        forms.push(serde_json::json!({ "type": "array", "items": items, "minItems": 1 }));
    }
}

impl DelayTable {
    fn draw(&self, dice: Dice, at: &str, ids: &[u64]) -> plan::Delay {
        let span =
            |d: &Drawn<Duration>, name: &str| d.draw(dice, &format!("{at}.delay.{name}"), ids);
        let number = |d: &Drawn<f64>, name: &str| d.draw(dice, &format!("{at}.delay.{name}"), ids);
        match self {
            Self::Const(d) => plan::Delay::Const(span(d, "const")),
            Self::Uniform(low, high) => {
                let low = span(low, "low");
                plan::Delay::Uniform(low, span(high, "high").max(low))
            }
            Self::Exp { min, mean } => {
                plan::Delay::Exp { min: span(min, "min"), mean: span(mean, "mean") }
            }
            Self::Lognormal { median, p99 } => {
                let median = span(median, "median");
                plan::Delay::Lognormal { median, p99: span(p99, "p99").max(median) }
            }
            Self::Pareto { min, alpha } => {
                plan::Delay::Pareto { min: span(min, "min"), alpha: number(alpha, "alpha") }
            }
            Self::Bimodal { fast, slow, p_slow } => plan::Delay::Bimodal {
                fast: span(fast, "fast"),
                slow: span(slow, "slow"),
                p_slow: number(p_slow, "p_slow"),
            },
        }
    }
}

impl From<&plan::Delay> for DelayTable {
    fn from(delay: &plan::Delay) -> Self {
        match *delay {
            plan::Delay::Const(span) => Self::Const(Drawn::Is(span)),
            plan::Delay::Uniform(low, high) => Self::Uniform(Drawn::Is(low), Drawn::Is(high)),
            plan::Delay::Exp { min, mean } => {
                Self::Exp { min: Drawn::Is(min), mean: Drawn::Is(mean) }
            }
            plan::Delay::Lognormal { median, p99 } => {
                Self::Lognormal { median: Drawn::Is(median), p99: Drawn::Is(p99) }
            }
            plan::Delay::Pareto { min, alpha } => {
                Self::Pareto { min: Drawn::Is(min), alpha: Drawn::Is(alpha) }
            }
            plan::Delay::Bimodal { fast, slow, p_slow } => Self::Bimodal {
                fast: Drawn::Is(fast),
                slow: Drawn::Is(slow),
                p_slow: Drawn::Is(p_slow),
            },
        }
    }
}

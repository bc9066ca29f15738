//! Numbers, nodes and times as people say them.

use std::fmt::Write as _;

use crate::plan::{DiskFate, DiskTrouble, Fault, Link, Partition, Plan, TimedFault};

/// What kind of fault: decides its colour and is its first word in the legend.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Class {
    /// Nodes do not reach each other.
    Cut,
    /// Links lose, delay, repeat or damage datagrams.
    Link,
    /// A process is killed.
    Crash,
    /// A process stands still or is slow.
    Pause,
    /// Processes come and go as intended.
    Move,
    /// Clocks and disks.
    Machine,
    /// Other versions, junk, operators in a hurry.
    Other,
}

impl Class {
    /// All, in the order of the legend.
    pub(super) const ALL: [Self; 7] =
        [Self::Cut, Self::Link, Self::Crash, Self::Pause, Self::Move, Self::Machine, Self::Other];

    /// Of a fault.
    pub(super) const fn of(fault: &Fault) -> Self {
        match fault {
            Fault::Partition(_) => Self::Cut,
            Fault::Link { .. } => Self::Link,
            Fault::Crash { .. } => Self::Crash,
            Fault::Pause { .. } | Fault::SlowCpu { .. } => Self::Pause,
            Fault::Start { .. } | Fault::Leave { .. } => Self::Move,
            Fault::Clock { .. } | Fault::Disk { .. } => Self::Machine,
            Fault::Wire { .. }
            | Fault::Junk { .. }
            | Fault::Burst { .. }
            | Fault::Tombstone { .. } => Self::Other,
        }
    }

    /// Name in style sheets and data.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Link => "link",
            Self::Crash => "crash",
            Self::Pause => "pause",
            Self::Move => "move",
            Self::Machine => "machine",
            Self::Other => "other",
        }
    }

    /// Name for people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cut => "partition",
            Self::Link => "bad links",
            Self::Crash => "crash",
            Self::Pause => "pause",
            Self::Move => "join or leave",
            Self::Machine => "clock or disk",
            Self::Other => "other trouble",
        }
    }
}

/// Lists with more runs than this are cut short: nobody reads fifty numbers in a sentence.
const RUNS_MAX: usize = 6;
/// ... to so many runs.
const RUNS_SHOWN: usize = 3;

/// `0-2, 5 and 7-9`, or `0-2, 5, 7-9 and 31 more`.
pub(super) fn nodes(list: &[usize]) -> String {
    let (mut parts, sizes) = runs(list);
    if parts.len() > RUNS_MAX {
        let more: usize = sizes[RUNS_SHOWN..].iter().sum();
        parts.truncate(RUNS_SHOWN);
        parts.push(format!("{more} more"));
    }
    join(&parts)
}

/// The same for programs: all of them.
pub(super) fn all_nodes(list: &[usize]) -> String {
    runs(list).0.join(", ")
}

/// Runs of neighbours, as words, and how many nodes are in each.
fn runs(list: &[usize]) -> (Vec<String>, Vec<usize>) {
    let mut sorted = list.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut parts: Vec<String> = Vec::new();
    let mut sizes = Vec::new();
    let mut at = 0;
    while at < sorted.len() {
        let mut last = at;
        while last + 1 < sorted.len() && sorted[last + 1] == sorted[last] + 1 {
            last += 1;
        }
        if last > at {
            parts.push(format!("{}\u{2013}{}", sorted[at], sorted[last]));
        } else {
            parts.push(sorted[at].to_string());
        }
        sizes.push(last + 1 - at);
        at = last + 1;
    }
    (parts, sizes)
}

/// `node 3` or `nodes 0-2`.
pub(super) fn the_nodes(list: &[usize]) -> String {
    format!("node{} {}", if list.len() == 1 { "" } else { "s" }, nodes(list))
}

/// `a, b and c`.
pub(super) fn join(parts: &[String]) -> String {
    match parts {
        [] => "none".into(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A duration in ns, as short as is useful: `0.4 ms`, `120 ms`, `5.1 s`, `30 s`, `2 min 10 s`.
pub(super) fn time(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    if ns == 0 {
        return "0 s".into();
    }
    if seconds < 0.001 {
        return format!("{} µs", ns / 1_000);
    }
    if seconds < 0.01 {
        return format!("{} ms", trimmed(seconds * 1e3));
    }
    if seconds < 0.1 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    if seconds < 0.995 {
        return format!("{seconds:.2} s").replace("0 s", " s");
    }
    if seconds < 100.0 {
        return format!("{} s", trimmed(seconds));
    }
    let whole = seconds.round() as u64;
    match (whole / 60, whole % 60) {
        (minutes, 0) => format!("{minutes} min"),
        (minutes, rest) => format!("{minutes} min {rest} s"),
    }
}

/// One decimal unless it is zero.
fn trimmed(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Up to twelve as a word.
pub(super) fn number(count: usize) -> String {
    const WORDS: [&str; 13] = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve",
    ];
    WORDS.get(count).map_or_else(|| self::count(count as u64), |word| (*word).to_owned())
}

/// First letter in upper case.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// What a fault does, in the present tense: `the link between nodes 0-2 and nodes 3-4 is cut`.
pub(super) fn fault(timed: &TimedFault, plan: &Plan) -> String {
    match &timed.fault {
        Fault::Partition(partition) => self::partition(partition, plan.nodes),
        Fault::Link { from, to, link } => bad_link(from, to, link),
        Fault::Crash { node, restart, disk, moves } => {
            let mut text = format!("node {node} is killed");
            match restart {
                Some(after) => {
                    let after = time(after.as_nanos() as u64);
                    let _ = write!(text, " and starts again {after} later");
                }
                None => text.push_str(" and stays away"),
            }
            text.push_str(&self::disk(*disk));
            if *moves {
                text.push_str(", at another address");
            }
            text
        }
        Fault::Start { node } => format!("node {node} joins"),
        Fault::Leave { node, .. } => format!("node {node} says goodbye and leaves"),
        Fault::Pause { node } => format!("node {node} stands still"),
        Fault::SlowCpu { node, per_input } => {
            let each = time(per_input.as_nanos() as u64);
            format!("node {node} is slow: {each} for every input")
        }
        Fault::Clock { node, wall_jump_ms, rate } => {
            if *wall_jump_ms == 0 {
                format!("the clock of node {node} runs at {rate} times its speed")
            } else {
                format!("the clock of node {node} jumps by {wall_jump_ms} ms")
            }
        }
        Fault::Disk { node, trouble } => format!("the disk of node {node} {}", broken(*trouble)),
        Fault::Wire { node, version } => format!("node {node} speaks wire version {version}"),
        Fault::Junk { node, .. } => format!("somebody sends junk to node {node}"),
        Fault::Burst { node, topics, .. } => {
            format!("node {node} creates {} topics at once", count(*topics as u64))
        }
        Fault::Tombstone { at, of, topic } => {
            format!("node {at} is asked to hide node {of} as a producer of topic {topic}")
        }
    }
}

fn partition(partition: &Partition, count: usize) -> String {
    let sides = super::cuts::sides(partition, count);
    match partition {
        Partition::Split(_) => {
            let sides: Vec<String> = sides.iter().map(|side| the_nodes(side)).collect();
            format!("the links between {} are cut", join(&sides))
        }
        Partition::Oneway { from, to } => {
            format!("what {} send no longer reaches {}", the_nodes(from), the_nodes(to))
        }
        Partition::Bridge { bridge, side } => {
            let other: Vec<usize> =
                (0..count).filter(|node| node != bridge && !side.contains(node)).collect();
            let (one, other) = (the_nodes(side), the_nodes(&other));
            format!("{one} and {other} are cut apart; only node {bridge} still reaches both")
        }
        Partition::Ring { reach } => {
            format!("every node reaches only its {} nearest neighbours in a ring", reach * 2)
        }
        Partition::Chain => "every node reaches only the one before and the one after it".into(),
        Partition::Star { hub } => format!("all nodes reach node {hub} and nobody else"),
        Partition::Links(links) => {
            let links: Vec<String> = links.iter().map(|(a, b)| format!("{a}\u{2013}{b}")).collect();
            let plural = if links.len() == 1 { " is" } else { "s are" };
            format!("{} single link{plural} cut: {}", number(links.len()), join(&links))
        }
    }
}

fn bad_link(from: &[usize], to: &[usize], link: &Link) -> String {
    let mut traits = Vec::new();
    if link.loss > 0.0 {
        traits.push(format!("lose {} % of datagrams", trimmed(link.loss * 100.0)));
    }
    if link.burst.is_some() {
        traits.push("lose datagrams in bursts".into());
    }
    if link.dup > 0.0 {
        traits.push("repeat datagrams".into());
    }
    if link.reorder > 0.0 {
        traits.push("mix up their order".into());
    }
    if link.corrupt > 0.0 || link.truncate > 0.0 {
        traits.push("damage datagrams".into());
    }
    if link.rate.is_some() {
        traits.push("are narrow".into());
    }
    if link.nat {
        traits.push("translate addresses".into());
    }
    if link.mtu.is_some() {
        traits.push("swallow large datagrams".into());
    }
    if traits.is_empty() {
        traits.push("are slower".into());
    }
    let which = match (from, to) {
        ([], []) => "all links".to_owned(),
        (from, []) => format!("links from {}", the_nodes(from)),
        ([], to) => format!("links to {}", the_nodes(to)),
        (from, to) => format!("links from {} to {}", the_nodes(from), the_nodes(to)),
    };
    format!("{which} {}", join(&traits))
}

fn disk(fate: DiskFate) -> String {
    match fate {
        DiskFate::Keep => String::new(),
        DiskFate::PowerLoss => ", as after a power cut".into(),
        DiskFate::Lose => ", with an empty disk".into(),
        DiskFate::Old(age) => format!(", with its disk of {} before", time(age.as_nanos() as u64)),
        DiskFate::CloneOf(node) => format!(", with a copy of node {node}'s disk"),
    }
}

fn broken(trouble: DiskTrouble) -> String {
    match trouble {
        DiskTrouble::Slow(each) => {
            format!("is slow: {} for every write", time(each.as_nanos() as u64))
        }
        DiskTrouble::Full => "is full".into(),
        DiskTrouble::Torn(_) => "may tear writes".into(),
        DiskTrouble::FsyncLies => "lies about fsync".into(),
    }
}

/// Nodes that a fault is about; empty: all.
pub(super) fn touched(fault: &Fault) -> Vec<usize> {
    match fault {
        Fault::Partition(_) => Vec::new(),
        Fault::Link { from, to, .. } => from.iter().chain(to).copied().collect(),
        Fault::Crash { node, .. }
        | Fault::Start { node }
        | Fault::Leave { node, .. }
        | Fault::Pause { node }
        | Fault::SlowCpu { node, .. }
        | Fault::Clock { node, .. }
        | Fault::Disk { node, .. }
        | Fault::Wire { node, .. }
        | Fault::Junk { node, .. }
        | Fault::Burst { node, .. } => vec![*node],
        Fault::Tombstone { at, of, .. } => vec![*at, *of],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_in_runs() {
        assert_eq!(nodes(&[0, 1, 2]), "0\u{2013}2");
        assert_eq!(nodes(&[3, 4]), "3\u{2013}4");
        assert_eq!(nodes(&[7, 0, 1, 2, 5]), "0\u{2013}2, 5 and 7");
        assert_eq!(the_nodes(&[3]), "node 3");
        let odd: Vec<usize> = (0..100).filter(|node| node % 3 > 0).collect();
        assert_eq!(nodes(&odd), "1\u{2013}2, 4\u{2013}5, 7\u{2013}8 and 60 more");
        assert!(all_nodes(&odd).ends_with("97\u{2013}98"));
    }

    #[test]
    fn times_have_no_more_digits_than_people_use() {
        let cases = [
            (0, "0 s"),
            (400_000, "400 µs"),
            (2_400_000, "2.4 ms"),
            (48_000_000, "48 ms"),
            (120_000_000, "0.12 s"),
            (400_000_000, "0.4 s"),
            (5_130_000_000, "5.1 s"),
            (30_000_000_000, "30 s"),
            (130_000_000_000, "2 min 10 s"),
        ];
        for (ns, text) in cases {
            assert_eq!(time(ns), text);
        }
        assert_eq!(count(1_234_567), "1,234,567");
    }
}

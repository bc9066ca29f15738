//! What is wrong with a scenario file, and where.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// What is wrong with a scenario file, where, and what would be right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScenarioError {
    /// Name of the file, or of what else the text came from.
    pub file: String,
    /// Line, from 1; 0: it is no text with lines.
    pub line: usize,
    /// Column in characters, from 1; 0 if the line is.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right, one a line; may be empty.
    pub notes: Vec<String>,
}

impl std::error::Error for ScenarioError {}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, notes } = self;
        if *line == 0 {
            write!(f, "{file}: {message}")?;
        } else {
            write!(f, "{file}:{line}:{column}: {message}")?;
        }
        notes.iter().try_for_each(|note| write!(f, "\n  {note}"))
    }
}

impl ScenarioError {
    /// What TOML or serde found.
    pub(crate) fn from_toml(error: &toml::de::Error, text: &str, file: &str) -> Self {
        let (line, column) = place(text, error.span().map_or(0, |span| span.start));
        let (message, notes) = in_words(error.message());
        Self { file: file.to_owned(), line, column, message, notes }
    }

    /// What a check found at a path such as `fault.2.crash.node`.
    pub(crate) fn at(path: &str, message: String, text: &str, file: &str) -> Self {
        let start = DeTable::parse(text).ok().and_then(|table| locate(table.get_ref(), path));
        let (line, column) = place(text, start.map_or(0, |span| span.start));
        Self { file: file.to_owned(), line, column, message, notes: Vec::new() }
    }
}

/// Line and column, from 1, of a byte.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let mut end = byte.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// Where the deepest part of a path that exists is written.
fn locate(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let mut found = None;
    let mut parts = path.split('.');
    let (key, value) = entry(table, parts.next()?)?;
    let mut at = value;
    found = Some(if is_header(at) { key } else { span_of(at) }).or(found);
    for part in parts {
        let next = match at.get_ref() {
            DeValue::Table(table) => entry(table, part).map(|(key, value)| {
                found = Some(if is_header(value) { key } else { span_of(value) });
                value
            }),
            DeValue::Array(array) => {
                part.parse::<usize>().ok().and_then(|index| array.get(index)).inspect(|value| {
                    found = Some(span_of(value));
                })
            }
            _ => None,
        };
        let Some(next) = next else { break };
        at = next;
    }
    found
}

type Value<'t, 'a> = &'t toml::Spanned<DeValue<'a>>;

fn entry<'t, 'a>(table: &'t DeTable<'a>, key: &str) -> Option<(Range<usize>, Value<'t, 'a>)> {
    let (key, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    Some((key.span(), value))
}

/// Tables are shown at their name: their own span begins anywhere.
fn is_header(value: Value<'_, '_>) -> bool {
    matches!(value.get_ref(), DeValue::Table(_))
}

fn span_of(value: Value<'_, '_>) -> Range<usize> {
    value.span()
}

/// serde's message as people would say it, and what would have been right.
fn in_words(message: &str) -> (String, Vec<String>) {
    let Some((what, key, accepted)) = unknown(message) else {
        return known(message.trim());
    };
    let mut notes = Vec::new();
    let nearest = accepted
        .iter()
        .map(|name| (strsim::jaro_winkler(key, name), *name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((_, name)) = nearest.filter(|(likeness, _)| *likeness > NEAR) {
        notes.push(format!("did you mean \"{name}\"?"));
    }
    if !accepted.is_empty() {
        notes.push(format!("accepted here: {}", accepted.join(", ")));
    }
    (format!("unknown {what} \"{key}\""), notes)
}

/// What serde says of Rust's types, as it is in a file.
fn known(message: &str) -> (String, Vec<String>) {
    if message == "missing field `schema`" {
        let note = "say schema = 1 in the first line";
        return ("it does not say which version of the format it has".into(), vec![note.into()]);
    }
    if let Some(key) = message.strip_prefix("missing field `").and_then(|m| m.strip_suffix('`')) {
        return (format!("the key \"{key}\" is missing"), Vec::new());
    }
    if message.starts_with("invalid type: map, expected a sequence") {
        let note = "a list of tables has two brackets: [[fault]], [[net.between]]";
        return ("one table is no list of them".into(), vec![note.into()]);
    }
    let Some((what, name)) = message.split_once("expected struct ") else {
        return (message.to_owned(), Vec::new());
    };
    let example = TABLES.iter().find(|(names, _)| names.contains(&name)).map(|(_, table)| table);
    let table = example.map_or_else(String::new, |table| format!(" such as {table}"));
    (format!("{what}expected a table{table}"), Vec::new())
}

/// Tables of files by the types that read them, and what one may look like.
const TABLES: [(&[&str], &str); 6] = [
    (&["AtNode", "Crash", "Restart", "Leave"], "{ node = 1 }"),
    (&["Clock"], "{ node = 1, jump = \"-1h\" }"),
    (&["Disk"], "{ node = 1, full = true }"),
    (&["SlowCpu"], "{ node = 1, per_input = \"10ms\" }"),
    (&["RollingRestart", "Swizzle"], "{ gap = \"5s\" }"),
    (&["Flap"], "{ period = \"8s\", duty = 0.5 }"),
];

/// Names less alike than this (Jaro-Winkler, 0 to 1) are not suggested.
const NEAR: f64 = 0.75;

/// Takes ``unknown field `x`, expected one of `a`, `b` `` apart.
fn unknown(message: &str) -> Option<(&'static str, &str, Vec<&str>)> {
    let (what, rest) = if let Some(rest) = message.strip_prefix("unknown field `") {
        ("key", rest)
    } else {
        ("word", message.strip_prefix("unknown variant `")?)
    };
    let (key, rest) = rest.split_once('`')?;
    Some((what, key, rest.split('`').skip(1).step_by(2).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_where_it_is_written() {
        let text = "schema = 1\n[[fault]]\nat = \"1s\"\n[[fault]]\ncrash = { node = 7 }\n";
        let at = |path: &str| {
            let error = ScenarioError::at(path, String::new(), text, "x.toml");
            (error.line, error.column)
        };
        assert_eq!(at("schema"), (1, 10));
        assert_eq!(at("fault.1.crash.node"), (5, 18));
        assert_eq!(at("fault.1.crash"), (5, 1));
        assert_eq!(at("fault.1.absent").0, 4);
    }

    #[test]
    fn an_unknown_key_comes_with_the_nearest_and_all_accepted_ones() {
        let (message, notes) =
            in_words("unknown field `parttion`, expected one of `at`, `for`, `partition`");
        assert_eq!(message, "unknown key \"parttion\"");
        assert_eq!(notes, ["did you mean \"partition\"?", "accepted here: at, for, partition"]);
        assert!(in_words("unknown field `zzz`, expected `at`").1[0].starts_with("accepted"));
    }
}

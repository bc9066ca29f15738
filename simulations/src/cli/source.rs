//! Scenarios as they are named on the command line.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::{Refusal, trace_file};
use crate::case::Case;
use crate::plan::Plan;
use crate::scenario::{Scenario, builtin};

/// A scenario and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// As it was given: a built-in name or a path.
    pub(super) name: String,
    /// The file, after `--set`.
    pub(super) text: String,
    /// `--set`s, as they were given.
    pub(super) sets: Vec<String>,
    scenario: Scenario,
}

impl Source {
    /// Reads a scenario.
    ///
    /// # Errors
    ///
    /// There is none of that name, or something is wrong with it or with a `--set`.
    pub(super) fn open(name: &str, sets: &[String]) -> Result<Self, Refusal> {
        let text = match builtin::list().iter().find(|builtin| builtin.name == name) {
            Some(builtin) => builtin.text.to_owned(),
            None => read(name)?,
        };
        let scenario = Scenario::parse(&text, name).map_err(Refusal::new)?;
        let values = sets.iter().map(|set| {
            let (key, value) = set
                .split_once('=')
                .ok_or_else(|| Refusal::new(format!("--set {set}: it is KEY=VALUE")))?;
            Ok((key.trim(), value.trim()))
        });
        let values: Vec<(&str, &str)> = values.collect::<Result<_, Refusal>>()?;
        let scenario = scenario.set_all(values).map_err(Refusal::new)?;
        let text = if sets.is_empty() { text } else { scenario.to_toml() };
        Ok(Self { name: name.to_owned(), text, sets: sets.to_vec(), scenario })
    }

    /// The scenario itself, after `--set`.
    pub(super) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What one seed makes of it.
    pub(super) fn plan(&self, seed: u64) -> Plan {
        self.scenario.plan(seed)
    }

    /// The words that name this scenario and its changes again.
    pub(super) fn words(&self) -> String {
        let mut words = String::new();
        for set in &self.sets {
            words.push_str(&format!("--set {} ", quoted(set)));
        }
        words + &quoted(&self.name)
    }
}

/// What the bytes of a case begin with: those of zstd.
const CASE_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Whether a file is a case: by its name, or by its first bytes.
pub(super) fn is_case(path: &Path) -> bool {
    let begins = || {
        let mut bytes = [0; CASE_MAGIC.len()];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
        read.is_ok() && bytes == CASE_MAGIC
    };
    path.extension().is_some_and(|extension| extension == "sim")
        || (!trace_file::is_name(path) && begins())
}

/// Reads a case for a command that takes nothing else.
///
/// # Errors
///
/// It cannot be read; what it is instead.
pub(super) fn case(path: &Path, command: &str) -> Result<Case, Refusal> {
    let name = path.display().to_string();
    let is_builtin = builtin::list().iter().any(|builtin| builtin.name == name);
    if is_builtin || path.extension().is_some_and(|extension| extension == "toml") {
        let words = quoted(&name);
        let hint = match command {
            "replay" => format!("say which run of it: simulate replay --seed 0 {words}"),
            _ => format!("a case of it is written by: simulate run {words} --case FILE"),
        };
        return Err(Refusal::new(format!("{name} is a scenario, no case; {hint}")));
    }
    if trace_file::is_name(path) {
        let words = quoted(&name);
        let hint = format!("{name} is a trace, no case; simulate render {words} draws it");
        return Err(Refusal::new(hint));
    }
    if !path.exists() {
        return Err(nothing(&name));
    }
    Case::read(path).map_err(Refusal::new)
}

/// A case or a trace is one run, which no flag changes.
///
/// # Errors
///
/// A flag that would.
pub(super) fn refuse_changes(
    name: &str,
    kind: &str,
    seed: Option<u64>,
    sets: &[String],
) -> Result<(), Refusal> {
    let flag = match sets.first() {
        _ if seed.is_some() => "--seed".to_owned(),
        Some(set) => format!("--set {set}"),
        None => return Ok(()),
    };
    Err(Refusal::new(format!("{name} is a {kind}, which is one run: leave out {flag}")))
}

fn read(name: &str) -> Result<String, Refusal> {
    let path = Path::new(name);
    if !path.exists() {
        return Err(nothing(name));
    }
    if is_case(path) {
        return Err(Refusal::new(format!(
            "{name} is a case, no scenario; simulate replay {} repeats it",
            quoted(name)
        )));
    }
    std::fs::read_to_string(path).map_err(|error| Refusal::new(format!("{name}: {error}")))
}

/// There is neither a file nor a scenario of this name.
fn nothing(name: &str) -> Refusal {
    let names: Vec<&str> = builtin::list().iter().map(|builtin| builtin.name).collect();
    let near = names
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = near.map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"));
    Refusal::new(format!(
        "there is no file {name:?}, neither a case nor a scenario{hint}\nbuilt-in: {}",
        names.join(", ")
    ))
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_from_a_shell_as_they_were() {
        assert_eq!(quoted("split-brain"), "split-brain");
        assert_eq!(quoted("net.delay={ const = \"1ms\" }"), "'net.delay={ const = \"1ms\" }'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_file_of_another_kind_is_refused_with_what_it_is_and_what_to_do() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let plan = crate::testing::failing_plan();
        let outcome = crate::testing::outcome_of(&plan, 9);
        let written = Case::new("storm", "", &plan, &outcome);
        for name in ["a.sim", "renamed"] {
            written.write(&path(name)).unwrap();
            let refusal = Source::open(&path(name).display().to_string(), &[]).unwrap_err();
            assert!(refusal.to_string().contains("is a case, no scenario"), "{refusal}");
            assert_eq!(case(&path(name), "replay").unwrap(), written);
        }
        for (name, said) in [
            (
                "split-brain",
                "is a scenario, no case; say which run of it: simulate replay --seed 0",
            ),
            ("x.toml", "is a scenario, no case"),
            ("t.jsonl", "is a trace, no case; simulate render"),
            ("t.jsonl.zst", "is a trace"),
            ("split-brian", "neither a case nor a scenario; did you mean split-brain?"),
            ("gone.sim", "there is no file"),
        ] {
            let refusal = case(Path::new(name), "replay").unwrap_err().to_string();
            assert!(refusal.contains(said), "{name}: {refusal}");
        }
    }
}

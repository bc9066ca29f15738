//! Scenarios as they are named on the command line.

use std::path::Path;

use super::Refusal;
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

fn read(name: &str) -> Result<String, Refusal> {
    if Path::new(name).exists() {
        return std::fs::read_to_string(name)
            .map_err(|error| Refusal::new(format!("{name}: {error}")));
    }
    let names: Vec<&str> = builtin::list().iter().map(|builtin| builtin.name).collect();
    let near = names
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = near.map_or_else(String::new, |(_, known)| format!("; did you mean {known}?"));
    Err(Refusal::new(format!(
        "there is no scenario and no file {name:?}{hint}\nbuilt-in: {}",
        names.join(", ")
    )))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
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
}

//! Scenario files: what happens to a cluster, for people to write.
//!
//! A [`Scenario`] may leave things open ("3 to 9 nodes", "some faults"); with a seed it becomes a
//! [`Plan`] in which nothing is. The format is described in `docs/simulation.md`; the types that
//! read it are its definition, and [`schema`] is made from them.

pub mod axis;
pub mod builtin;
mod chaos;
mod check;
mod drawn;
mod emit;
mod error;
mod expand;
mod fault_expand;
mod fault_table;
mod file;
mod link_table;
mod lives;
mod nodes;
mod or_none;
mod partition_table;
mod rates;
mod span;
mod words;
mod write;

use crate::plan::Plan;
pub use crate::scenario::error::ScenarioError;
use crate::scenario::file::File;

/// A scenario: read, checked, and ready to be planned with any seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows; empty if it does not say.
    pub description: String,
    file: File,
}

impl Scenario {
    /// Reads a scenario; `file` names the text in errors, and the scenario if it has no name.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its line and column, and what would be right.
    pub fn parse(text: &str, file: &str) -> Result<Self, ScenarioError> {
        let read: File =
            toml::from_str(text).map_err(|error| ScenarioError::from_toml(&error, text, file))?;
        if let Some((path, message)) = check::problems(&read).into_iter().next() {
            return Err(ScenarioError::at(&path, message, text, file));
        }
        Ok(Self::from_file(read, file))
    }

    fn from_file(file: File, name: &str) -> Self {
        let stem = name.rsplit(['/', '\\']).next().unwrap_or(name);
        let stem = stem.strip_suffix(".toml").unwrap_or(stem);
        Self {
            name: file.name.clone().unwrap_or_else(|| stem.to_owned()),
            description: file.description.clone().unwrap_or_default(),
            file,
        }
    }

    /// The scenario with one value changed: `set("net.loss", "0.05")`, `set("fault.0.for", "9s")`.
    ///
    /// The value is read as TOML, and as a string if it is not.
    ///
    /// # Errors
    ///
    /// The key does not exist, or does not take this value.
    pub fn set(&self, path: &str, value: &str) -> Result<Self, ScenarioError> {
        self.set_all([(path, value)])
    }

    /// The same with several values, which need to make sense only all together: a run may become
    /// shorter than its faults before they are moved.
    ///
    /// # Errors
    ///
    /// See [`Self::set`].
    pub fn set_all<'a>(
        &self,
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ScenarioError> {
        let mut file = self.file.clone();
        let mut words = String::new();
        for (path, value) in values {
            let flag = format!("--set {path}");
            file = changed(&file, path, value, &flag)?;
            words = if words.is_empty() { flag } else { format!("{words} {flag}") };
        }
        if let Some((_, message)) = check::problems(&file).into_iter().next() {
            return Err(refused(&words, message));
        }
        Ok(Self::from_file(file, &self.name))
    }

    /// What a seed makes of it: nothing is left open.
    pub fn plan(&self, seed: u64) -> Plan {
        expand::plan(&self.file, &self.name, seed)
    }

    /// The scenario that makes exactly this plan, with the plan's seed: an explicit timeline.
    pub fn from_plan(plan: &Plan) -> Self {
        Self::from_file(write::file(plan), &plan.name)
    }

    /// Its file.
    pub fn to_toml(&self) -> String {
        emit::text(&self.file)
    }

    /// What `simulate report` is to draw: the key along the x axis, and the figures.
    pub fn report(&self) -> Option<(Option<&str>, &[String])> {
        self.file.report.as_ref().map(|report| (report.x.as_deref(), report.y.as_slice()))
    }
}

/// The file with one value changed, whether it then makes sense or not.
fn changed(file: &File, path: &str, value: &str, flag: &str) -> Result<File, ScenarioError> {
    let refused = |message: String| refused(flag, message);
    let mut table = toml::Value::try_from(file).map_err(|error| refused(error.to_string()))?;
    let value = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut at = &mut table;
    let mut above = "";
    for part in path.split('.') {
        at = match at {
            toml::Value::Array(all) => {
                let len = all.len();
                part.parse::<usize>()
                    .ok()
                    .and_then(|index| all.get_mut(index))
                    .ok_or_else(|| refused(not_in_list(part, above, len)))?
            }
            toml::Value::Table(inner) => {
                inner.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()))
            }
            _ => return Err(refused(format!("there is nothing below \"{above}\""))),
        };
        above = part;
    }
    *at = value;
    table.try_into().map_err(|error: toml::de::Error| {
        let error = ScenarioError::from_toml(&error, "", "");
        ScenarioError { notes: error.notes, ..refused(error.message) }
    })
}

/// Why a part of a key names nothing in a list of this length.
fn not_in_list(part: &str, list: &str, len: usize) -> String {
    match len {
        0 => format!("\"{part}\": there is no \"{list}\" in the scenario"),
        1 => format!("\"{part}\": there is one \"{list}\", and its number is 0"),
        _ => format!("\"{part}\" is no \"{list}\": they are numbered from 0 to {}", len - 1),
    }
}

/// What is wrong with a flag.
fn refused(flag: &str, message: String) -> ScenarioError {
    ScenarioError { file: flag.to_owned(), line: 0, column: 0, message, notes: Vec::new() }
}

/// The JSON Schema of the format, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}

#[cfg(test)]
mod tests;

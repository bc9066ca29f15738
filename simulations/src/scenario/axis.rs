//! A key of a scenario that is left open, value by value: the x axis of a report.

use std::time::Duration;

use super::file::File;
use super::{Scenario, drawn, span};

/// Values along a range.
const STEPS: usize = 8;

/// A range whose ends differ by at least this factor is walked in equal ratios, others in equal
/// differences.
const LOGARITHMIC: f64 = 20.0;

/// A key and the values to give it.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The key, as [`Scenario::set`] takes it: `fault.0.for`.
    pub path: String,
    /// Values, as [`Scenario::set`] takes them, in order.
    pub values: Vec<String>,
}

impl Scenario {
    /// The values of a key that is a range, `"1s..60s"`, or a list of choices. Where a table occurs
    /// several times, as `[[fault]]`, and no number says which, the first that has it is meant.
    ///
    /// # Errors
    ///
    /// The key is not in the file, or has one value only; in words for people.
    pub fn axis(&self, key: &str) -> Result<Axis, String> {
        let file = toml::Value::try_from(&self.file).map_err(|error| error.to_string())?;
        let (path, value) = find(&file, key).ok_or_else(|| format!("there is no key {key:?}"))?;
        let values = match value {
            toml::Value::Array(choices) => choices.iter().map(text_of).collect(),
            toml::Value::String(range) => steps(range),
            _ => None,
        };
        let values = values.filter(|values: &Vec<String>| values.len() > 1);
        let values = values.ok_or_else(|| {
            format!("{key} has one value; give it a range, \"1s..60s\", or choices, [1, 5, 20]")
        })?;
        Ok(Axis { path, values })
    }
}

/// Whether a key is written in a file.
pub(super) fn is_key(file: &File, key: &str) -> bool {
    toml::Value::try_from(file).is_ok_and(|file| find(&file, key).is_some())
}

/// The value at a path, and the path with every number written out.
fn find<'a>(mut at: &'a toml::Value, key: &str) -> Option<(String, &'a toml::Value)> {
    let mut path = Vec::new();
    let parts: Vec<&str> = key.split('.').collect();
    for (number, part) in parts.iter().enumerate() {
        if let toml::Value::Array(all) = at
            && part.parse::<usize>().is_err()
        {
            let rest = parts[number..].join(".");
            let index = all.iter().position(|item| find(item, &rest).is_some())?;
            path.push(index.to_string());
            at = &all[index];
        }
        at = match at {
            toml::Value::Array(all) => all.get(part.parse::<usize>().ok()?)?,
            other => other.get(part)?,
        };
        path.push((*part).to_owned());
    }
    Some((path.join("."), at))
}

/// A choice as it is written after `--set`.
fn text_of(choice: &toml::Value) -> Option<String> {
    match choice {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
            Some(choice.to_string())
        }
        _ => None,
    }
}

fn steps(range: &str) -> Option<Vec<String>> {
    let (low, high) = range.split_once("..")?;
    let texts: Vec<String> = if let (Some(low), Some(high)) = (span::parse(low), span::parse(high))
    {
        let walk = walk(low.as_secs_f64(), high.as_secs_f64());
        walk.map(|seconds| span::format(Duration::from_millis((seconds * 1e3).round() as u64)))
            .collect()
    } else {
        let is_whole = !low.contains('.') && !high.contains('.');
        let walk = walk(low.trim().parse().ok()?, high.trim().parse().ok()?);
        walk.map(|number| match is_whole {
            true => format!("{number:.0}"),
            false => drawn::rounded(number).to_string(),
        })
        .collect()
    };
    let mut texts = texts;
    texts.dedup();
    Some(texts)
}

/// [`STEPS`] numbers from one to another.
fn walk(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let is_logarithmic = low > 0.0 && high / low >= LOGARITHMIC;
    (0..STEPS).map(move |step| {
        let share = step as f64 / (STEPS - 1) as f64;
        match is_logarithmic {
            true => low * libm::pow(high / low, share),
            false => low + (high - low) * share,
        }
    })
}

/// A value as a number, in seconds if it is a time; `None`: it is a word.
pub fn number_of(value: &str) -> Option<f64> {
    span::parse(value).map(|time| time.as_secs_f64()).or_else(|| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(key: &str) -> Result<Axis, String> {
        let text = "schema = 1\n[net]\nloss = [0.0, 0.05]\n[topics]\ncount = \"1..100\"\n\
                    [workload]\nchurn = 5.0\n[[fault]]\nat = \"9s\"\ncrash = { node = 1 }\n\
                    [[fault]]\nat = \"10s\"\nfor = \"5s..40s\"\npartition = \"halves\"\n";
        Scenario::parse(text, "mine.toml").unwrap().axis(key)
    }

    #[test]
    fn a_range_is_walked_and_choices_are_taken_one_by_one() {
        let lasts = axis("fault.for").unwrap();
        assert_eq!(lasts.path, "fault.1.for", "the first fault that has it");
        assert_eq!(lasts.values, ["5s", "10s", "15s", "20s", "25s", "30s", "35s", "40s"]);
        assert_eq!(axis("fault.1.for").unwrap(), lasts);
        assert_eq!(axis("topics.count").unwrap().values[..4], ["1", "2", "4", "7"]);
        assert_eq!(axis("net.loss").unwrap().values.len(), 2);
        assert_eq!(number_of("1500ms"), Some(1.5));
        assert_eq!(number_of("0.05"), Some(0.05));
    }

    #[test]
    fn what_is_no_axis_is_refused_in_words() {
        assert!(axis("workload.churn").unwrap_err().contains("has one value"));
        assert!(axis("net.los").unwrap_err().contains("no key \"net.los\""));
    }
}

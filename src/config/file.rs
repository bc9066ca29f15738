//! nsqd's TOML configuration file.

use clap::{Arg, Command};
use toml::Value;

use super::go_flags::{is_list, kind};
use super::values;

/// A file larger than this is a mistake, such as a log or a queue file: 1 MiB.
pub(crate) const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;

/// Flags that are not options, and so cannot be set in a file.
const NOT_OPTIONS: [&str; 4] = ["config", "verbose", "version", "worker-id"];

/// Options whose key is not the flag's name with underscores.
///
/// Source: the `cfg` tags of apps/nsqd/options.go.
const KEYS: [(&str, &str); 5] = [
    ("node-id", "id"),
    ("lookupd-tcp-address", "nsqlookupd_tcp_addresses"),
    ("auth-http-address", "auth_http_addresses"),
    ("e2e-processing-latency-percentile", "e2e_processing_latency_percentiles"),
    ("gossip-seed-address", "gossip_seed_addresses"),
];

/// The flags that the file sets, in the order clap knows them.
///
/// Keys it does not know are ignored, as nsqd does; so are tables.
///
/// # Errors
///
/// The text is no TOML, or a value cannot become its option's type; the message names the option.
pub(crate) fn flags(command: &Command, text: &str) -> Result<Vec<(String, String)>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| one_line(&error))?;
    let mut flags = Vec::new();
    for arg in command.get_arguments() {
        let name = arg.get_long().unwrap_or_default();
        let Some(key) = key(name) else { continue };
        let Some(value) = table.get(&key) else { continue };
        let texts = texts(arg, value)
            .map_err(|reason| format!("failed to coerce value of {key}: {reason}"))?;
        flags.extend(texts.into_iter().map(|text| (name.to_owned(), text)));
    }
    Ok(flags)
}

/// The key of a flag in the file, which is also its name in `GET /config/<option>`.
pub(crate) fn key(flag: &str) -> Option<String> {
    if NOT_OPTIONS.contains(&flag) {
        return None;
    }
    let special = KEYS.iter().find(|(name, _)| *name == flag);
    Some(special.map_or_else(|| flag.replace('-', "_"), |(_, key)| (*key).to_owned()))
}

/// A value of the file as the command line would give it.
fn texts(arg: &Arg, value: &Value) -> Result<Vec<String>, String> {
    if is_list(arg) {
        let is_float = arg.get_long() == Some("e2e-processing-latency-percentile");
        return list(value, is_float);
    }
    let unfit = || Err(format!("{} where {} belongs", value.type_str(), kind(arg)));
    let text = match (kind(arg), value) {
        // nsqd reads numbers as switches the wrong way round (0 = true), so they are refused.
        (_, Value::Array(_) | Value::Table(_)) | ("bool" | "bool-like", Value::Integer(_)) => {
            return unfit();
        }
        ("duration", Value::Integer(millis)) => {
            let duration = values::milliseconds(*millis)?;
            format!("{}ns", duration.as_nanos())
        }
        (_, Value::String(text)) => text.clone(),
        ("bool" | "bool-like" | "string", Value::Boolean(is_on)) => is_on.to_string(),
        ("int" | "string", Value::Integer(number)) => number.to_string(),
        ("string", Value::Float(number)) => number.to_string(),
        ("string", Value::Datetime(time)) => time.to_string(),
        (_, Value::Boolean(_) | Value::Integer(_) | Value::Float(_) | Value::Datetime(_)) => {
            return unfit();
        }
    };
    Ok(vec![text])
}

/// A list, which may also be one text with commas.
fn list(value: &Value, is_float: bool) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(text.split(',').map(ToOwned::to_owned).collect()),
        Value::Array(values) => values
            .iter()
            .map(|value| match value {
                Value::Float(number) if is_float => Ok(number.to_string()),
                Value::String(text) if !is_float => Ok(text.clone()),
                other if is_float => Err(format!("{} where a float belongs", other.type_str())),
                other => Err(format!("{} where a string belongs", other.type_str())),
            })
            .collect(),
        other => Err(format!("{} where a list belongs", other.type_str())),
    }
}

/// The first line of a TOML error says what, the place is in its span.
fn one_line(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(" ")
}

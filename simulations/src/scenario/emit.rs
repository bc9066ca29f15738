//! Writes a scenario as TOML that people like to read: a header per table, one line per key, in the
//! order of the format's own description.

use serde_json::{Map, Value};

use crate::scenario::file::File;

/// The text of a file.
pub(crate) fn text(file: &File) -> String {
    // Through JSON values, because those keep the order of fields and TOML's do not.
    let Ok(Value::Object(table)) = serde_json::to_value(file) else { return String::new() };
    let mut out = String::new();
    for (key, value) in table.iter().filter(|(_, value)| !is_section(value)) {
        line(&mut out, key, value);
    }
    for (key, value) in table.iter().filter(|(_, value)| is_section(value)) {
        match value {
            Value::Object(section) => body(&mut out, &format!("[{key}]"), section),
            Value::Array(sections) => {
                for section in sections.iter().filter_map(Value::as_object) {
                    body(&mut out, &format!("[[{key}]]"), section);
                }
            }
            _ => {}
        }
    }
    out
}

fn is_section(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(all) => all.iter().any(Value::is_object),
        _ => false,
    }
}

fn body(out: &mut String, header: &str, section: &Map<String, Value>) {
    if section.values().all(Value::is_null) {
        return;
    }
    out.push_str(&format!("\n{header}\n"));
    for (key, value) in section {
        line(out, key, value);
    }
}

fn line(out: &mut String, key: &str, value: &Value) {
    let is_empty_array = value.as_array().is_some_and(|all| all.is_empty() && key == "fault");
    if !value.is_null() && !is_empty_array {
        out.push_str(&format!("{key} = {}\n", inline(value)));
    }
}

/// One value in one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(inline).collect();
            format!("[{}]", all.join(", "))
        }
        Value::Object(table) => {
            let pairs = table.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<String> =
                pairs.map(|(key, value)| format!("{} = {}", name(key), inline(value))).collect();
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
        // JSON's numbers, strings and booleans are TOML's.
        other => other.to_string(),
    }
}

/// A key; quoted if it is more than letters, digits, `-` and `_`.
fn name(key: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !key.is_empty() && key.bytes().all(is_bare) {
        return key.to_owned();
    }
    Value::from(key).to_string()
}

//! `simulate list`, `schema` and `explain`: what there is to know.

use comfy_table::{ContentArrangement, Table, presets};

use serde_json::json;

use super::args::{ExplainArgs, ListArgs};
use super::{Ending, Refusal, Verdict, terminal};
use crate::rules;
use crate::scenario::{builtin, schema as scenario_schema};

pub(super) fn list(args: &ListArgs) -> Ending {
    if let Some(name) = &args.scenario {
        let builtin = builtin::list().iter().find(|builtin| builtin.name == name);
        let builtin = builtin.ok_or_else(|| {
            Refusal::new(format!("there is no built-in scenario {name:?}; see simulate list"))
        })?;
        if args.json {
            let value = json!({ "name": builtin.name, "text": builtin.text });
            terminal::out(&format!("{value:#}\n"));
        } else {
            terminal::out(builtin.text);
        }
        return Ok(Verdict::Pass);
    }
    let described = builtin::list().iter().map(|builtin| {
        let scenario = builtin::find(builtin.name);
        (builtin.name, scenario.map(|scenario| scenario.description).unwrap_or_default())
    });
    if args.json {
        let all: Vec<_> = described
            .map(|(name, description)| json!({ "name": name, "description": description }))
            .collect();
        terminal::out(&format!("{:#}\n", json!({ "scenarios": all })));
        return Ok(Verdict::Pass);
    }
    let mut table = table();
    for (name, description) in described {
        table.add_row([name, &description]);
    }
    terminal::out(&format!(
        "{table}\n\nsimulate run NAME runs one; simulate list NAME prints its file, as a start for \
         your own.\n"
    ));
    Ok(Verdict::Pass)
}

pub(super) fn schema() -> Ending {
    let text = serde_json::to_string_pretty(&scenario_schema()).map_err(Refusal::new)?;
    terminal::out(&format!("{text}\n"));
    Ok(Verdict::Pass)
}

pub(super) fn explain(args: &ExplainArgs) -> Ending {
    let as_json = |rule: &rules::Rule| {
        json!({
            "id": rule.id, "name": rule.name, "meaning": rule.meaning, "source": rule.source,
        })
    };
    let Some(wanted) = &args.rule else {
        if args.json {
            let all: Vec<_> = rules::explained().map(as_json).collect();
            terminal::out(&format!("{:#}\n", json!({ "rules": all })));
            return Ok(Verdict::Pass);
        }
        let mut table = table();
        for rule in rules::explained() {
            table.add_row([rule.id, rule.name, rule.meaning]);
        }
        terminal::out(&format!("{table}\n"));
        return Ok(Verdict::Pass);
    };
    let found =
        rules::explained().find(|rule| rule.id.eq_ignore_ascii_case(wanted) || rule.name == wanted);
    let rule = found.ok_or_else(|| {
        let ids: Vec<&str> = rules::explained().map(|rule| rule.id).collect();
        Refusal::new(format!("there is no rule {wanted:?}; there are {}", ids.join(", ")))
    })?;
    if args.json {
        terminal::out(&format!("{:#}\n", as_json(rule)));
        return Ok(Verdict::Pass);
    }
    terminal::out(&format!(
        "{} {}\n\n{}\n\nSource: {}\n",
        rule.id, rule.name, rule.meaning, rule.source
    ));
    Ok(Verdict::Pass)
}

/// A table that fits the terminal.
pub(super) fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !terminal::is_watched() {
        table.set_width(100);
    }
    table
}

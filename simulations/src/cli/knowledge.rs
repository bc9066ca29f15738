//! `simulate list`, `schema` and `explain`: what there is to know.

use comfy_table::{ContentArrangement, Table, presets};

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
        terminal::out(builtin.text);
        return Ok(Verdict::Pass);
    }
    let mut table = table();
    for builtin in builtin::list() {
        let scenario = builtin::find(builtin.name);
        let description = scenario.map(|scenario| scenario.description).unwrap_or_default();
        table.add_row([builtin.name, &description]);
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
    let Some(wanted) = &args.rule else {
        let mut table = table();
        for rule in rules::all() {
            table.add_row([rule.id, rule.name, rule.meaning]);
        }
        terminal::out(&format!("{table}\n"));
        return Ok(Verdict::Pass);
    };
    let found =
        rules::all().find(|rule| rule.id.eq_ignore_ascii_case(wanted) || rule.name == wanted);
    let rule = found.ok_or_else(|| {
        let ids: Vec<&str> = rules::all().map(|rule| rule.id).collect();
        Refusal::new(format!("there is no rule {wanted:?}; there are {}", ids.join(", ")))
    })?;
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

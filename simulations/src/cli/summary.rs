//! Figures of runs, as tables that a person can read and as JSON.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent, presets};
use serde_json::{Value, json};

use super::terminal::{grouped, spoken, spoken_time};
use crate::case::COMMIT;
use crate::execute::PANIC_RULE;
use crate::expect::{self, Amount, quantile_of};
use crate::oracle::rules_off;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::swarm::{Population, Quantiles, Swarm};

/// Columns of a table; tables are for people, whose terminals are at least that wide.
const WIDTH: u16 = 96;

/// What is shown where nothing was measured.
const NOTHING: &str = "-";

/// An empty table in the house style.
pub(super) fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for line in [
        TableComponent::TopBorder,
        TableComponent::TopBorderIntersections,
        TableComponent::HeaderLines,
        TableComponent::MiddleHeaderIntersections,
        TableComponent::BottomBorder,
        TableComponent::BottomBorderIntersections,
    ] {
        table.set_style(line, '─');
    }
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// The table of one run.
pub(super) fn of_run(plan: &Plan, outcome: &Outcome) -> Table {
    let stats = &outcome.stats;
    let mut table = table();
    table.set_header(["", "measured", "promised"]);
    let promises = expect::promises(plan, outcome);
    // Of a run that panicked, nothing is left but how far it came.
    let is_lost = outcome.violation.as_ref().is_some_and(|it| it.rule == PANIC_RULE);
    let or_nothing =
        |text: String, is_measured: bool| if is_measured { text } else { NOTHING.to_owned() };
    let promised = |rules: &[&str]| {
        let texts: Vec<String> = promises
            .iter()
            .filter(|promise| rules.contains(&promise.rule))
            .map(|promise| format!("<= {}", amount(promise.promised)))
            .collect();
        texts.join(", ")
    };
    let mut row = |what: &str, measured: String, rules: &[&str]| {
        table.add_row([Cell::new(what), right(measured), right(promised(rules))]);
    };
    row("faults", faults(plan), &[]);
    let datagrams = or_nothing(grouped(stats.datagrams), !is_lost);
    row("events", format!("{}, {datagrams} datagrams", grouped(stats.events)), &[]);
    if plan.heal_at.is_some() {
        // Who was stopped by a broken rule might have agreed later.
        let never = or_nothing("never".to_owned(), expect::had_time_to_agree(plan, outcome));
        let took = |time: Option<_>| time.map_or_else(|| never.clone(), spoken_time);
        row("all agree on the members, after the healing", took(stats.members_agreed), &["E1"]);
        row("all agree on every topic, after the healing", took(stats.lookups_agreed), &["E2"]);
    }
    let mut staleness = stats.staleness_ms.clone();
    staleness.sort_by(f32::total_cmp);
    let staleness = three(&staleness, spoken);
    row("a change is known everywhere (p50, p99, max)", staleness, &["E3", "E4", "E5"]);
    let mut gone: Vec<f32> = stats.gone_ms.iter().map(|&(_, ms)| ms).collect();
    gone.sort_by(f32::total_cmp);
    row("a node that ended is in no view (p50, p99, max)", three(&gone, spoken), &[]);
    let mut seconds: Vec<f32> = stats.bytes_by_second.iter().map(|&bytes| bytes as f32).collect();
    seconds.sort_by(f32::total_cmp);
    let idle = amount(Amount::Bytes(stats.idle_bytes));
    let idle = or_nothing(idle, stats.idle_bytes > 0.0);
    row("bytes per node and second, while nothing happens", idle, &["E7"]);
    let bytes = three(&seconds, |bytes| amount(Amount::Bytes(bytes)));
    row("... in all seconds (p50, p99, max)", bytes, &["E8"]);
    let renewals = or_nothing(grouped(stats.renewals), !is_lost);
    row("nodes that took a new identity", renewals, &[]);
    let is_watched = stats.false_downs > 0 || stats.watched.contains("V5");
    let false_downs = or_nothing(grouped(stats.false_downs), is_watched);
    row("live nodes declared dead without cause", false_downs, &["E6"]);
    let off = rules_off(plan);
    if !off.is_empty() {
        row("rules that were off: the network itself is bad", off.join(", "), &[]);
    }
    for (name, count) in &stats.messages {
        row(&format!("messages {name}"), grouped(*count), &[]);
    }
    table
}

/// Three quantiles of values in order.
fn three(sorted: &[f32], text: impl Fn(f64) -> String) -> String {
    let at = |quantile| quantile_of(sorted, quantile).map(|value| text(f64::from(value)));
    match (at(0.5), at(0.99), at(1.0)) {
        (Some(p50), Some(p99), Some(max)) => format!("{p50}, {p99}, {max}"),
        _ => NOTHING.to_owned(),
    }
}

fn amount(amount: Amount) -> String {
    match amount {
        Amount::Ms(ms) => spoken(ms),
        Amount::Bytes(bytes) if bytes >= 10_000.0 => format!("{:.1} KB", bytes / 1e3),
        Amount::Bytes(bytes) => format!("{bytes:.0} B"),
        Amount::Count(count) => grouped(count),
    }
}

/// `2 crash, 1 partition`; faults of one cause count once.
pub(super) fn faults(plan: &Plan) -> String {
    let mut groups = BTreeMap::new();
    for fault in &plan.faults {
        groups.entry(fault.group).or_insert_with(|| fault.fault.class());
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for class in groups.into_values() {
        *counts.entry(class).or_default() += 1;
    }
    if counts.is_empty() {
        return "none".to_owned();
    }
    let texts: Vec<String> =
        counts.iter().map(|(class, count)| format!("{count} {class}")).collect();
    texts.join(", ")
}

/// How a run without a broken rule went, in a sentence or three.
pub(super) fn sentence(plan: &Plan, outcome: &Outcome) -> String {
    let mut text = held(plan, outcome);
    let off = rules_off(plan);
    if !off.is_empty() {
        text.push_str(&format!(
            " {} were off: the network itself is worse than they allow for.",
            off.join(", ")
        ));
    }
    let unmeasured: Vec<&str> = expect::never_measured(plan, outcome).collect();
    if !unmeasured.is_empty() {
        text.push_str(&format!(" Nothing was measured for {}.", unmeasured.join(", ")));
    }
    text
}

fn held(plan: &Plan, outcome: &Outcome) -> String {
    let stats = &outcome.stats;
    let nodes = plan.core.as_ref().map_or(plan.nodes, Vec::len);
    match (stats.members_agreed, stats.lookups_agreed) {
        (Some(members), Some(lookups)) if plan.faults.is_empty() => format!(
            "All rules held. All {nodes} nodes agreed on each other after {} and on every topic \
             after {}.",
            spoken_time(members),
            spoken_time(lookups)
        ),
        (Some(members), Some(lookups)) => format!(
            "All rules held. Once everything was mended, all {nodes} nodes agreed on each other \
             after {} and on every topic after {}.",
            spoken_time(members),
            spoken_time(lookups)
        ),
        _ if plan.heal_at.is_none() => {
            "All rules held. Nothing was mended in this run, so nothing had to agree at its end."
                .to_owned()
        }
        _ => "All rules held.".to_owned(),
    }
}

/// One run for machines.
pub(super) fn json_of_run(plan: &Plan, outcome: &Outcome) -> Value {
    let stats = &outcome.stats;
    let mut population = Population::default();
    population.add(plan, outcome);
    let mut value = json!({
        "scenario": plan.name,
        "seed": format!("{:#x}", plan.seed),
        "commit": COMMIT,
        "hash": format!("{:016x}", outcome.hash),
        "nodes": plan.nodes,
        "faults": plan.faults.len(),
        "simulated_s": plan.end.as_secs_f64(),
        "violation": outcome.violation,
        "promises": expect::promises(plan, outcome),
        "rules_off": rules_off(plan),
        "counters": stats.counters,
        "messages": stats.messages,
    });
    merge(&mut value, figures(&population));
    value
}

/// A swarm for machines.
pub(super) fn json_of_swarm(swarm: &Swarm) -> Value {
    let mut value = json!({
        "commit": COMMIT,
        "runs": swarm.population.runs,
        "wanted": swarm.wanted,
        "failed": swarm.failed,
        "repeated": swarm.repeated,
        "mismatches": swarm.mismatches.len(),
        "took_s": swarm.took.as_secs_f64(),
        "simulated_s": swarm.population.simulated.as_secs_f64(),
        "digest": format!("{:016x}", swarm.population.digest),
        "faults": swarm.population.faults,
        "rules_off": swarm.population.rules_off,
        "never_agreed": swarm.population.never_agreed,
        "news": swarm.population.news,
    });
    merge(&mut value, figures(&swarm.population));
    value
}

fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(value), Value::Object(more)) = (value, more) {
        value.extend(more);
    }
}

fn figures(population: &Population) -> Value {
    json!({
        "events": population.events,
        "members_agreed_ms": population.members_agreed_ms.summary(),
        "lookups_agreed_ms": population.lookups_agreed_ms.summary(),
        "staleness_ms": population.staleness_ms.summary(),
        "gone_ms": population.gone_ms.summary(),
        "idle_bytes": population.idle_bytes.summary(),
        "bytes": population.bytes.summary(),
        "renewals": population.renewals,
        "false_downs": population.false_downs,
        "coverage": population.coverage,
    })
}

/// The table of many runs.
pub(super) fn of_swarm(swarm: &Swarm) -> Table {
    let population = &swarm.population;
    let mut table = table();
    table.set_header(["", "p50", "p95", "p99", "max"]);
    let mut row = |what: &str, quantiles: &Quantiles, text: &dyn Fn(f64) -> String| {
        let cells = match quantiles.summary() {
            Some(q) => [q.p50, q.p95, q.p99, q.max].map(text),
            None => [NOTHING; 4].map(str::to_owned),
        };
        let mut row = vec![Cell::new(what)];
        row.extend(cells.map(right));
        table.add_row(row);
    };
    let bytes = |bytes: f64| amount(Amount::Bytes(bytes));
    row("all agree on the members, after the healing", &population.members_agreed_ms, &spoken);
    row("all agree on every topic, after the healing", &population.lookups_agreed_ms, &spoken);
    row("a change is known everywhere", &population.staleness_ms, &spoken);
    row("a node that ended is in no view", &population.gone_ms, &spoken);
    row("bytes per node and second, while nothing happens", &population.idle_bytes, &bytes);
    row("... in all seconds", &population.bytes, &bytes);
    table
}

/// Lines about many runs that are no distributions.
pub(super) fn lines_of_swarm(swarm: &Swarm) -> String {
    let population = &swarm.population;
    let wall = swarm.took.as_secs_f64().max(1e-9);
    let faults: Vec<String> =
        population.faults.iter().map(|(class, runs)| format!("{class} {runs}")).collect();
    let news: Vec<String> = population.news.iter().map(ToString::to_string).collect();
    // The first steps say how fast it grows, the last whether it still does.
    let news = match news.as_slice() {
        [first @ .., last] if first.len() > 12 => format!("{} ... {last}", first[..12].join(" ")),
        all => all.join(" "),
    };
    let faults = if faults.is_empty() { "none".to_owned() } else { faults.join(", ") };
    let off: Vec<String> = population
        .rules_off
        .iter()
        .map(|(rule, runs)| format!("{rule} {}", grouped(*runs)))
        .collect();
    let off = if off.is_empty() {
        String::new()
    } else {
        format!(
            "rules that were off as the network itself is bad, in how many runs: {}\n",
            off.join(", ")
        )
    };
    format!(
        "{} runs in {} ({:.0} runs/s), {} simulated ({:.0} times life), {} events\n\
         faults, in how many runs: {faults}\n\
         points of the code reached: {}; new in each 100 runs: {news}\n\
         new identities: {}; live nodes declared dead without cause: {}; digest {:016x}\n{off}",
        grouped(population.runs),
        spoken_time(swarm.took),
        population.runs as f64 / wall,
        spoken_time(population.simulated),
        population.simulated.as_secs_f64() / wall,
        grouped(population.events),
        population.coverage.len(),
        grouped(population.renewals),
        grouped(population.false_downs),
        population.digest
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{failing_plan, outcome_of, violation};

    #[test]
    fn a_run_is_told_in_a_table_and_a_sentence() {
        let mut plan = failing_plan();
        plan.expect.membership_agree = Some(Duration::from_secs(5));
        let mut outcome = outcome_of(&plan, 12_345);
        outcome.stats.members_agreed = Some(Duration::from_millis(1_240));
        outcome.stats.lookups_agreed = Some(Duration::from_millis(1_300));
        outcome.stats.staleness_ms = vec![3.0, 80.0];
        let table = of_run(&plan, &outcome).to_string();
        for part in ["12,345", "1.2 s", "<= 5.0 s", "3.0 ms, 80 ms, 80 ms", "2 partition"] {
            assert!(table.contains(part), "{part}\n{table}");
        }
        assert!(table.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{table}");
        assert!(sentence(&plan, &outcome).contains("after 1.2 s and on every topic after 1.3 s"));
        let json = json_of_run(&plan, &outcome);
        assert_eq!(json["seed"], "0x2a");
        assert_eq!(json["staleness_ms"]["count"], 2);
    }

    /// What the table says was measured in the row that begins like this.
    fn measured(table: &Table, row: &str) -> String {
        let text = table.to_string();
        let line = text.lines().find(|line| line.trim_start().starts_with(row)).expect(row);
        let cells = line.trim_start().trim_start_matches(row).split("<=").next();
        cells.unwrap_or_default().trim().to_owned()
    }

    #[test]
    fn what_was_not_measured_until_the_run_broke_off_is_no_zero() {
        let plan = Plan { faults: Vec::new(), ..failing_plan() };
        let rows = [
            "all agree on the members, after the healing",
            "bytes per node and second, while nothing happens",
            "nodes that took a new identity",
            "live nodes declared dead without cause",
        ];
        let cells = |outcome: &Outcome| {
            let table = of_run(&plan, outcome);
            rows.map(|row| measured(&table, row))
        };
        let mut whole = outcome_of(&plan, 9);
        whole.stats.watched.insert("V5".to_owned());
        assert_eq!(cells(&whole), ["never", "-", "0", "0"]);
        let mut broken = outcome_of(&plan, 9);
        broken.stats.false_downs = 1;
        broken.violation = Some(violation("V5", Duration::from_secs(30)));
        assert_eq!(cells(&broken), ["-", "-", "0", "1"]);
        let mut lost = outcome_of(&plan, 9);
        lost.violation = Some(violation(PANIC_RULE, Duration::from_secs(30)));
        assert_eq!(cells(&lost), ["-", "-", "-", "-"]);
    }

    #[test]
    fn rules_that_were_off_and_promises_that_nothing_was_measured_for_are_named() {
        let mut plan = Plan { faults: Vec::new(), ..failing_plan() };
        plan.link.loss = 0.2;
        plan.expect.false_down = Some(0);
        let outcome = outcome_of(&plan, 9);
        let table = of_run(&plan, &outcome);
        assert_eq!(measured(&table, "rules that were off: the network itself is bad"), {
            "L2, L3, V1, V2, V5, V7"
        });
        let text = sentence(&plan, &outcome);
        for part in ["V5, V7 were off", "Nothing was measured for false_down."] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

use std::time::Duration;

use super::*;
use crate::plan::{Fault, Partition};

const SMALL: &str = "schema = 1\n[[fault]]\nat = \"1s\"\nfor = \"2s\"\npartition = \"halves\"\n";

fn error(text: &str) -> ScenarioError {
    Scenario::parse(text, "x.toml").expect_err("it is wrong")
}

#[test]
fn a_partition_into_halves_is_planned() {
    let plan = Scenario::parse(SMALL, "dir/small.toml").unwrap().plan(7);
    assert_eq!(plan.name, "small");
    assert_eq!(plan.nodes, 5);
    assert_eq!(plan.heal_at, Some(Duration::from_secs(3)));
    assert_eq!(plan.end, Duration::from_secs(33));
    let Fault::Partition(Partition::Split(groups)) = &plan.faults[0].fault else {
        panic!("{:?}", plan.faults)
    };
    assert_eq!((groups.len(), groups[0].len()), (1, 2));
}

#[test]
fn a_misspelt_key_is_shown_where_it_is_with_the_right_one() {
    let error = error(&SMALL.replace("partition =", "parttion ="));
    let shown = error.to_string();
    assert!(
        shown.starts_with(
            "x.toml:5:1: unknown key \"parttion\"\n  did you mean \"partition\"?\n  accepted here: "
        ),
        "{shown}"
    );
}

#[test]
fn what_cannot_be_is_shown_where_it_is() {
    for (wrong, line, column, what) in [
        ("[[fault]]\nat = \"1s\"\ncrash = { node = 7 }", 4, 18, "there is no node 7"),
        ("[net]\nloss = 1.5", 3, 8, "1.5 is not from 0 to 1"),
        ("[net]\nloss = \"much\"", 3, 8, "is not a number"),
        ("[run]\nheal = \"9s\"\nend = \"5s\"", 4, 7, "before everything is mended"),
        ("[[fault]]\nat = \"1s\"\nfor = \"1s\"\nleave = { node = 1 }", 4, 7, "happens at once"),
        ("[[fault]]\nat = \"1s\"\npause = { node = 1 }\nstart = { node = 1 }", 5, 1, "two faults"),
        ("[cluster]\nnodes = \"3..9\"\nseeds = [3]", 4, 9, "there is no node 3"),
        ("[expect]\nlookups_agree = \"5s\"", 3, 17, "heal + 5s"),
        (
            "[[fault]]\nat = \"9m\"\npause = { node = 1 }\n[run]\nend = \"1m\"",
            3,
            6,
            "end of the run",
        ),
    ] {
        let text = format!("schema = 1\n{wrong}\n");
        let error = error(&text);
        assert!(error.message.contains(what), "{error}");
        assert_eq!((error.line, error.column), (line, column), "{error}\n{text}");
    }
}

#[test]
fn every_builtin_scenario_parses_and_plans() {
    for builtin in builtin::list() {
        let scenario =
            Scenario::parse(builtin.text, builtin.name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scenario.name, builtin.name);
        assert!(!scenario.description.is_empty(), "{}", builtin.name);
        for seed in 0..20 {
            let plan = scenario.plan(seed);
            assert_eq!(plan, scenario.plan(seed), "{}", builtin.name);
            assert!(plan.end > plan.heal_at.unwrap_or_default());
        }
    }
}

#[test]
fn the_file_written_from_a_plan_makes_the_same_plan() {
    for builtin in builtin::list() {
        let scenario = Scenario::parse(builtin.text, builtin.name).unwrap();
        for seed in 0..200 {
            let plan = scenario.plan(seed);
            let text = Scenario::from_plan(&plan).to_toml();
            let again = Scenario::parse(&text, "again.toml")
                .unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(again.plan(seed), plan, "{text}");
        }
    }
}

#[test]
fn a_value_can_be_set_from_outside() {
    let scenario = Scenario::parse(SMALL, "small.toml").unwrap();
    let plan = scenario.set("net.loss", "0.05").unwrap().set("fault.0.for", "9s").unwrap().plan(1);
    assert_eq!(plan.link.loss, 0.05);
    assert_eq!(plan.faults[0].lasts, Some(Duration::from_secs(9)));
    let wrong = scenario.set("net.lss", "0.05").unwrap_err();
    assert!(wrong.to_string().contains("unknown key \"lss\""), "{wrong}");
    assert!(scenario.set("net.loss", "2").unwrap_err().message.contains("not from 0 to 1"));
}

#[test]
fn a_point_that_no_code_marks_is_refused_with_those_that_there_are() {
    let text = "schema = 1\nname = \"x\"\n[expect]\nsometimes = [\"gap\", \"pull_retri\"]\n";
    let error = Scenario::parse(text, "x.toml").unwrap_err();
    assert_eq!(error.line, 4, "{error}");
    assert_eq!(error.message, "unknown word \"pull_retri\"");
    assert_eq!(error.notes[0], "did you mean \"pull_retry\"?");
    assert!(error.notes[1].contains("gap, ") && error.notes[1].contains("partition*member_down"));
}

#[test]
fn values_that_are_set_need_to_make_sense_only_together() {
    let scenario = Scenario::parse(SMALL, "small.toml").unwrap();
    let early = scenario.set("run.end", "900ms").unwrap_err();
    assert!(early.message.contains("after the end of the run"), "{early}");
    let values = [("run.end", "900ms"), ("fault.0.at", "100ms"), ("run.heal", "500ms")];
    let plan = scenario.set_all(values).unwrap().plan(1);
    assert_eq!((plan.faults[0].at, plan.end), {
        (Duration::from_millis(100), Duration::from_millis(900))
    });
}

#[test]
fn groups_are_drawn_of_about_equal_size_and_heal_one_after_the_other() {
    let text = "schema = 1\n[cluster]\nnodes = 8\n[[fault]]\nat = \"1s\"\nfor = \"4s\"\n\
                partition = { groups = 3, staged = \"2s\" }\n";
    let plan = Scenario::parse(text, "x.toml").unwrap().plan(3);
    let groups: Vec<Vec<Vec<usize>>> = plan
        .faults
        .iter()
        .map(|timed| match &timed.fault {
            Fault::Partition(Partition::Split(groups)) => groups.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(groups[0].iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2]);
    assert_eq!(groups[1].len(), 2, "the first two have found each other");
    let mut all = groups[0].concat();
    all.sort_unstable();
    assert_eq!(all, (0..8).collect::<Vec<_>>());
    assert_eq!(plan.heal_at, Some(Duration::from_secs(7)));
    let many = error(&text.replace("groups = 3", "groups = 9"));
    assert!(many.message.contains("from 2 to 8 groups"), "{many}");
}

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
        ("[run]\nheal = \"9s\"\nend = \"5s\"", 4, 7, "not after everything is mended, at 9s"),
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
    assert!(early.message.contains("not before the end of the run"), "{early}");
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

fn plan(text: &str) -> Plan {
    Scenario::parse(&format!("schema = 1\n{text}"), "x.toml")
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .plan(1)
}

#[test]
fn what_does_not_say_when_it_is_over_happens_and_counts_as_half_a_minute() {
    for action in [
        "crash = { node = 1 }",
        "crash = { node = 1, restart = \"0s\" }",
        "leave = { node = 1 }",
        "start = { node = 1 }",
        "partition = \"halves\"",
        "pause = { node = 1 }",
        "burst = { node = 1, topics = 3 }",
        "tombstone = { at = 0, of = 1, topic = 2 }",
        "clock = { node = 1, jump = \"-1h\" }",
    ] {
        let plan = plan(&format!("[[fault]]\nat = \"10s\"\n{action}\n"));
        assert_eq!(plan.heal_at, Some(Duration::from_secs(40)), "{action}");
        let seen = seen(&plan);
        assert_eq!(seen.first(), Some(&(Duration::from_secs(10), true)), "{action}: {seen:?}");
    }
}

/// When faults began and ended in a run.
fn seen(plan: &Plan) -> Vec<(Duration, bool)> {
    let mut trace = crate::trace::Trace::default();
    crate::World::new(plan).run(Some(&mut trace));
    let faults = trace.records.iter().filter_map(|record| match record.what {
        crate::trace::What::Fault { begins, .. } => Some((record.t, begins)),
        _ => None,
    });
    faults.map(|(t, begins)| (Duration::from_nanos(t), begins)).collect()
}

#[test]
fn what_would_begin_after_everything_is_mended_is_refused() {
    for (wrong, what) in [
        (
            "[[fault]]\nat = \"10s\"\nrolling_restart = { gap = \"3s\" }\n[run]\nheal = \"15s\"",
            "the last of it may be at 22s, which is not before everything is mended, at 15s",
        ),
        (
            "[[fault]]\nat = \"1s..100s\"\npause = { node = 1 }\n[run]\nheal = \"5s\"",
            "100s is not before everything is mended, at 5s",
        ),
        (
            "[[fault]]\nat = \"5s\"\npause = { node = 1 }\n[run]\nheal = \"5s\"",
            "5s is not before everything is mended, at 5s",
        ),
        (
            "[[fault]]\nat = \"5s\"\nevery = \"1s\"\nuntil = \"30s\"\npause = { node = 1 }\n\
             [run]\nheal = \"20s\"",
            "30s is not before everything is mended, at 20s",
        ),
        (
            "[[fault]]\nat = \"9s\"\nupgrade = { version = 9 }\n[run]\nheal = \"never\"\n\
             end = \"20s\"",
            "the last of it may be at 29s",
        ),
        (
            "[[fault]]\nat = \"9s\"\nswizzle = { nodes = 4, gap = \"2s\" }\n[run]\nheal = \"15s\"",
            "the last of it may be at 15s",
        ),
        (
            "[chaos]\n[run]\nheal = \"4s\"",
            "it begins at 5s, and everything is mended at 4s: say chaos.window",
        ),
        ("[chaos]\nwindow = [\"9s..12s\", \"10s..20s\"]", "10s is not after 12s"),
        ("[chaos]\n[run]\nheal = \"never\"\nend = \"20s\"", "it ends at 35s, after the end"),
    ] {
        let error = error(&format!("schema = 1\n{wrong}\n"));
        assert!(error.message.contains(what), "{error}\n{wrong}");
    }
    for right in [
        "[[fault]]\nat = \"5s\"\nevery = \"1s\"\nuntil = \"20s\"\npause = { node = 1 }\n\
         [run]\nheal = \"20s\"",
        "[[fault]]\nat = \"10s\"\nrolling_restart = { gap = \"3s\" }\n[run]\nheal = \"23s\"",
        "[chaos]\n[run]\nheal = \"20s\"",
    ] {
        let plan = plan(right);
        let heal = plan.heal_at.unwrap();
        assert!(plan.faults.iter().all(|fault| fault.at < heal), "{right}");
    }
}

#[test]
fn what_comes_and_goes_is_over_with_the_rest_and_no_piece_is_counted_that_never_was() {
    let plan = plan(
        "[[fault]]\nat = \"10s\"\nfor = \"60s\"\nflap = { period = \"4s\" }\n\
         partition = \"halves\"\n[run]\nheal = \"20s\"\n",
    );
    assert_eq!(plan.faults.len(), 3);
    assert_eq!(seen(&plan).iter().filter(|(_, begins)| *begins).count(), 3);
}

#[test]
fn a_run_that_ends_before_everything_is_mended_is_refused() {
    let cut = "[[fault]]\nat = \"10s\"\nfor = \"60s\"\npartition = \"halves\"\n";
    for (wrong, what) in [
        (
            format!("{cut}[run]\nend = \"20s\""),
            "20s is not after everything is mended, maybe only at 70s",
        ),
        ("[chaos]\n[run]\nend = \"20s\"".to_owned(), "20s is not after everything is mended"),
        ("[run]\nend = \"0s\"".to_owned(), "0s is not after everything is mended"),
        ("[run]\nheal = \"never\"\nend = \"0s\"".to_owned(), "longer than nothing"),
        ("[run]\nend = \"heal\"".to_owned(), "goes on after everything is mended"),
        ("[cluster]\nabsent = \"all\"".to_owned(), "no node ever starts"),
        ("[cluster]\nnodes = 2\nstarts = [\"never\", \"never\"]".to_owned(), "no node ever starts"),
    ] {
        let error = error(&format!("schema = 1\n{wrong}\n"));
        assert!(error.message.contains(what), "{error}\n{wrong}");
    }
}

#[test]
fn the_latest_healing_that_is_reckoned_with_is_never_before_the_one_that_is_drawn() {
    let actions = [
        "crash = { node = \"any\", restart = \"0s..2s\" }",
        "restart = { node = \"any\" }",
        "leave = { node = 1, restart = \"1s..9s\" }",
        "rolling_restart = { batch = [1, 2], gap = \"1s..4s\", down = \"0s..1s\" }",
        "for = \"1s..40s\"\nupgrade = { version = 9, gap = \"1s..3s\" }",
        "upgrade = { version = 9 }",
        "swizzle = { gap = \"1s..3s\" }",
        "for = \"1s..30s\"\nswizzle = { nodes = 2 }",
        "for = \"1s..30s\"\npartition = { groups = \"2..4\", staged = \"1s..9s\" }",
        "for = \"9s\"\nflap = { period = \"1s..3s\" }\npartition = \"halves\"",
        "every = \"1s..9s\"\nuntil = \"21s..50s\"\npause = { node = 1 }",
        "every = \"1s..9s\"\nfor = \"1s..3s\"\npause = { node = 1 }",
    ];
    let chaos = ["", "[chaos]\n", "[chaos]\nwindow = [\"1s\", \"10s..20s\"]\n"];
    for text in actions.iter().flat_map(|action| {
        chaos.map(|chaos| {
            format!("schema = 1\n[[fault]]\nat = \"5s..20s\"\n{action}\n{chaos}[run]\nend = ")
        })
    }) {
        // The error names the latest healing; one step later is enough.
        let file: File = toml::from_str(&format!("{text}\"6s\"\n")).unwrap();
        let early: Vec<String> = check::problems(&file).into_iter().map(|(_, what)| what).collect();
        let latest = early.iter().find_map(|what| what.split("only at ").nth(1)?.split(';').next());
        let latest = span::parse(latest.unwrap_or_else(|| panic!("{early:?}\n{text}"))).unwrap();
        let end = span::format(latest + Duration::from_secs(1));
        let scenario = Scenario::parse(&format!("{text}\"{end}\"\n"), "x.toml");
        let scenario = scenario.unwrap_or_else(|error| panic!("{error}\n{text}"));
        for seed in 0..200 {
            let plan = scenario.plan(seed);
            assert!(plan.heal_at.is_some_and(|heal| heal < plan.end), "{text} {seed}");
            let heal = plan.heal_at.unwrap();
            assert!(plan.faults.iter().all(|fault| fault.at < heal), "{text} {seed}");
        }
    }
}

#[test]
fn without_faults_clients_change_things_until_half_a_minute_before_the_end() {
    let times = |text: &str| {
        let plan = plan(text);
        (plan.heal_at.unwrap().as_secs(), plan.end.as_secs())
    };
    assert_eq!(times(""), (30, 60));
    assert_eq!(times("[run]\nend = \"5m\""), (270, 300));
    assert_eq!(times("[run]\nend = \"20s\""), (10, 20));
    assert_eq!(times("[run]\nend = \"heal + 10s\""), (30, 40));
}

#[test]
fn what_repeats_goes_on_until_half_a_minute_before_the_end() {
    let plan = plan(
        "[[fault]]\nat = \"10s\"\nevery = \"10s\"\nfor = \"2s\"\npause = { node = 1 }\n\
         [run]\nend = \"300s\"\n",
    );
    assert_eq!(plan.faults.len(), 26);
    assert_eq!(plan.heal_at, Some(Duration::from_secs(262)));
}

#[test]
fn more_repetitions_than_there_may_be_are_refused() {
    for (wrong, what) in [
        ("every = \"1ms\"\nuntil = \"30s\"\npause = { node = 1 }", "10000 repetitions"),
        (
            "for = \"30s\"\nflap = { period = \"1ms\" }\npartition = \"halves\"",
            "at most 10000 times",
        ),
        ("every = \"1s\"\nuntil = \"1s\"\npause = { node = 1 }", "1s is not after 5s"),
    ] {
        let error = error(&format!("schema = 1\n[[fault]]\nat = \"5s\"\n{wrong}\n"));
        assert!(error.message.contains(what), "{error}\n{wrong}");
    }
}

#[test]
fn a_choice_is_taken_wherever_a_value_may_be_left_open() {
    let text = "schema = 1\n[net]\ndelay = [\"1ms\", \"2ms\"]\nmtu = [500, 600]\n\
                rate = [9000, 9001]\n\
                [workload]\nchurn = [1.0, 5.0]\nlookups = [2.0, 3.0]\n";
    let scenario = Scenario::parse(text, "x.toml").unwrap_or_else(|error| panic!("{error}"));
    let ms = Duration::from_millis;
    let drawn: Vec<Plan> = (0..50).map(|seed| scenario.plan(seed)).collect();
    for delay in [ms(1), ms(2)] {
        let delay = crate::plan::Delay::Const(delay);
        assert!(drawn.iter().any(|plan| plan.link.delay == delay));
    }
    assert!(drawn.iter().any(|plan| plan.link.mtu == Some(600)));
    assert!(drawn.iter().any(|plan| plan.link.rate == Some(9001)));
    assert!(drawn.iter().any(|plan| plan.workload.churn == 5.0));
    assert!(drawn.iter().any(|plan| plan.workload.lookups == 3.0));
    let list = error("schema = 1\n[net]\nburst = [0.1, 0.2, 0.3]\n");
    assert!(list.message.contains("invalid type: sequence"), "{list}");
}

#[test]
fn numbers_that_nothing_could_be_made_of_are_refused() {
    for (wrong, what) in [
        ("[knobs]\nprobe_period = \"0s\"", "0s is not from 1ms to 8760h"),
        ("[knobs]\nspread_period = \"1ns\"", "1ns is not from 1ms"),
        ("[knobs]\ndigest_period = \"0s..1s\"", "0s is not from 1ms"),
        ("[workload]\nforeign = 100000000000", "more than 1000"),
        ("[broker]\nbody_bytes = 100000000000", "more than 1048576"),
        ("[broker]\nmsg_timeout = \"3d\"", "72h is not from 0s to 15m"),
        ("[topics]\ncount = 1000000", "more than 100000"),
        ("[net]\nmtu = 0", "no datagram is so small"),
        ("[net]\nrate = 0", "nothing would ever pass"),
        ("[[net.between]]\nmtu = 0", "no datagram is so small"),
        (
            "[net]\ndelay = { bimodal = { fast = \"1ms\", slow = \"2ms\", p_slow = 7.0 } }",
            "p_slow 7 is not from 0 to 1",
        ),
        ("[net]\ndelay = { pareto = { min = \"1ms\", alpha = -1.0 } }", "alpha -1 is not above 0"),
        ("[net]\ndelay = { uniform = [\"5ms\", \"1ms\"] }", "1ms is less than the first, 5ms"),
        (
            "[net]\ndelay = { uniform = [\"1ms\", \"5ms\", \"9ms\"] }",
            "two values belong here, not 3",
        ),
        (
            "[net]\ndelay = { lognormal = { median = \"9ms\", p99 = \"1ms\" } }",
            "1ms is less than the median, 9ms",
        ),
        ("[workload]\nchurn = 1e-300", "1e-300 per second is not 0, nor from 1e-9"),
        ("[workload]\nlookups = 1e300", "per second is not 0, nor from"),
        ("[broker]\npublish = 1e-300", "per second is not 0, nor from"),
        (
            "[[fault]]\nat = \"1s\"\njunk = { node = 1, per_second = 1e-300 }",
            "per second is not 0, nor from",
        ),
        (
            "[[fault]]\nat = \"1s\"\nburst = { node = 1, topics = 90000, channels = 9000 }",
            "at most 1000000 channels",
        ),
    ] {
        let error = error(&format!("schema = 1\n{wrong}\n"));
        assert!(error.message.contains(what), "{error}\n{wrong}");
    }
}

#[test]
fn what_would_have_no_effect_or_another_than_it_says_is_refused() {
    let fault = |what: &str| format!("[[fault]]\nat = \"1s\"\n{what}");
    for (wrong, what) in [
        (fault("partition = { links = [[0, 1, 2]] }"), "a link has two ends, not 3"),
        (fault("partition = { links = [[1, 1]] }"), "node 1 has no link to itself"),
        (fault("partition = { split = [] }"), "a group has at least one node"),
        (fault("partition = { split = [[0, 1, 2, 3, 4]] }"), "all are in one group"),
        (fault("pause = { node = [] }"), "there is no node in it"),
        (fault("link = { from = [], loss = 0.5 }"), "there is no node in it"),
        (fault("crash = { node = 1, disk = \"clone(1)\" }"), "a copy of itself"),
        ("[chaos]\nwindow = [\"1s\", \"2s\", \"3s\"]".to_owned(), "two values belong here, not 3"),
        ("[cluster]\nregions = { a = [] }".to_owned(), "there is no node in it"),
        ("[report]\nx = \"net.loss\"\ny = []".to_owned(), "there is no key \"net.loss\""),
        ("[report]\ny = [\"beauty.p50\"]".to_owned(), "there is no figure \"beauty.p50\""),
    ] {
        let error = error(&format!("schema = 1\n{wrong}\n"));
        assert!(error.message.contains(what), "{error}\n{wrong}");
    }
}

#[test]
fn a_mistake_is_told_in_words_of_the_file_and_not_of_the_program() {
    for (text, what) in [
        ("", "it does not say which version of the format it has\n  say schema = 1"),
        ("schema = 1\n[fault]\nat = \"1s\"\n", "a list of tables has two brackets: [[fault]]"),
        (
            "schema = 1\n[[fault]]\nat = \"1s\"\npause = 1\n",
            "invalid type: integer `1`, expected a table such as { node = 1 }",
        ),
        (
            "schema = 1\n[[fault]]\nat = \"1s\"\njunk = { node = 1 }\n",
            "the key \"per_second\" is missing",
        ),
        (
            "schema = 1\n[cluster]\nnodes = 1\n[[fault]]\nat = \"1s\"\n\
             partition = { groups = 2 }\n",
            "one node alone is no two groups: it takes 2 nodes",
        ),
        (
            "schema = 1\n[cluster]\nnodes = 1\n[[fault]]\nat = \"1s\"\n\
             partition = { minority = 1 }\n",
            "one node alone has no minority: it takes 2 nodes",
        ),
    ] {
        let error = error(text).to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_flag_that_sets_nothing_says_which_part_of_its_key_is_wrong() {
    let scenario = Scenario::parse(SMALL, "small.toml").unwrap();
    let calm = Scenario::parse("schema = 1\n", "calm.toml").unwrap();
    let wrong = |scenario: &Scenario, key: &str| scenario.set(key, "1s").unwrap_err().to_string();
    assert_eq!(
        wrong(&scenario, "fault.5.at"),
        "--set fault.5.at: \"5\": there is one \"fault\", and its number is 0"
    );
    assert!(wrong(&calm, "fault.0.at").contains("there is no \"fault\" in the scenario"));
    assert!(wrong(&scenario, "fault.0.at.b").contains("there is nothing below \"at\""));
    assert_eq!(scenario.set("name", "x").unwrap().plan(1).name, "x");
    assert_eq!(scenario.set("net.loss", "0.1").unwrap().plan(1).name, "small");
}

#[test]
fn a_restart_that_something_else_forestalled_starts_no_later_process() {
    let plan = plan(
        "[[fault]]\nat = \"10s\"\ncrash = { node = 1, restart = \"20s\" }\n\
         [[fault]]\nat = \"12s\"\nstart = { node = 1 }\n\
         [[fault]]\nat = \"28s\"\ncrash = { node = 1, restart = \"60s\" }\n",
    );
    assert_eq!(ups(&plan, 1), [0, 12, 88]);
}

#[test]
fn a_process_that_is_killed_while_it_stands_still_is_followed_by_one_that_runs() {
    let plan = plan(
        "[[fault]]\nat = \"10s\"\nfor = \"60s\"\npause = { node = 1 }\n\
         [[fault]]\nat = \"20s\"\ncrash = { node = 1, restart = \"5s\" }\n",
    );
    assert_eq!(plan.faults[0].lasts, Some(Duration::from_secs(10)));
    assert_eq!(ups(&plan, 1), [0, 25]);
    assert_eq!(plan.heal_at, Some(Duration::from_secs(25)));
}

/// The seconds at which processes of a node began to talk.
fn ups(plan: &Plan, node: u32) -> Vec<u64> {
    let mut trace = crate::trace::Trace::default();
    crate::World::new(plan).run(Some(&mut trace));
    let ups = trace.records.iter().filter(|record| {
        record.n == Some(node) && matches!(record.what, crate::trace::What::Life { to: "up", .. })
    });
    ups.map(|record| Duration::from_nanos(record.t).as_secs()).collect()
}

#[test]
fn a_plan_in_which_all_are_in_one_group_can_be_written_as_a_file() {
    let mut plan = Scenario::parse(SMALL, "small.toml").unwrap().plan(1);
    plan.faults[0].fault = Fault::Partition(Partition::Split(vec![(0..5).collect()]));
    let text = Scenario::from_plan(&plan).to_toml();
    let again = Scenario::parse(&text, "again.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.plan(1).faults[0].fault, Fault::Partition(Partition::Links(Vec::new())));
}

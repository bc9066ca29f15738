//! `grapevine simulate` from outside: exit codes, the three lines of a failure, files.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Outcome, run_to_exit};

/// A promise that no network keeps: everybody agrees in the instant of the healing.
const TOO_MUCH: &[&str] =
    &["--set", "expect.membership_agree=heal + 1ms", "--set", "expect.lookups_agree=heal + 1ms"];

/// Runs `grapevine simulate` in a folder.
#[track_caller]
fn simulate(dir: &Path, words: &[&str]) -> Outcome {
    simulate_with(dir, words, &[])
}

#[track_caller]
fn simulate_with(dir: &Path, words: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grapevine"));
    command.arg("simulate").args(words).current_dir(dir).envs(environment.iter().copied());
    run_to_exit(command)
}

#[track_caller]
fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
}

/// `run split-brain` with a promise that it breaks.
#[track_caller]
fn failing(dir: &Path) -> Outcome {
    let mut words = vec!["run", "split-brain", "--seed", "0x2a", "--quiet"];
    words.extend(TOO_MUCH);
    let outcome = simulate(dir, &words);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    outcome
}

#[test]
fn a_scenario_runs_and_is_told_in_a_table_and_a_sentence() {
    let dir = TempDir::new().unwrap();
    let outcome = simulate(dir.path(), &["run", "split-brain", "--html", "out.html"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for part in ["split-brain, seed 0x0: ", "all agree on the members", "PASS All rules held."] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }
    let page = std::fs::read_to_string(dir.path().join("out.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>"), "{}", &page[..100.min(page.len())]);
    assert!(outcome.stderr.is_empty(), "a progress line is for terminals: {}", outcome.stderr);
}

#[test]
fn a_failure_is_three_lines_that_can_be_used() {
    let dir = TempDir::new().unwrap();
    let outcome = failing(dir.path());
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let [fail, repro, shrunk] = lines[..] else { panic!("three lines: {}", outcome.stdout) };
    assert!(fail.starts_with("FAIL E1 membership-agree promised=1ms measured="), "{fail}");
    assert!(fail.ends_with("ms"), "it is about the whole run, not a node or a moment: {fail}");
    assert!(repro.starts_with("repro: simulate replay --seed 0x2a "), "{repro}");
    let commit = repro.rsplit_once("split-brain (commit ").expect("the scenario and the commit");
    assert!(commit.1.ends_with(')'), "{repro}");
    assert!(shrunk.starts_with("shrunk: case-split-brain-2a.min.toml ("), "{shrunk}");

    // The repro line repeats it.
    let mut words = vec!["replay", "--seed", "0x2a"];
    words.extend(TOO_MUCH);
    words.push("split-brain");
    let again = simulate(dir.path(), &words);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert_eq!(again.stdout.lines().next(), Some(fail));

    // The smaller file breaks the same rule.
    let small = ["run", "--seed", "0x2a", "case-split-brain-2a.min.toml", "--no-shrink"];
    let small = simulate(dir.path(), &small);
    assert_eq!(small.code, Some(1), "{small:?}");
    assert!(small.stdout.contains("\nFAIL E1 "), "{small:?}");
    assert!(small.stdout.ends_with("\nshrunk: not tried (--no-shrink)\n"), "{small:?}");
}

#[test]
fn a_failure_is_told_though_nothing_can_be_written() {
    let dir = TempDir::new().unwrap();
    let nowhere = dir.path().join("file");
    std::fs::write(&nowhere, "").unwrap();
    let nowhere = nowhere.join("x").display().to_string();
    let fail = [&["run", "split-brain", "--seed", "0x2a", "--no-shrink"][..], TOO_MUCH].concat();
    let many = [&["swarm", "split-brain", "--seeds", "42..43", "--no-shrink"][..], TOO_MUCH];
    let many = many.concat();
    for (words, flag) in [
        (&fail, "--html"),
        (&fail, "--cases"),
        (&fail, "--case"),
        (&many, "--cases"),
        (&many, "--write-baseline"),
    ] {
        let words = [&words[..], &[flag, &nowhere]].concat();
        let text = simulate(dir.path(), &words);
        assert_eq!(text.code, Some(1), "{flag}: {text:?}");
        assert!(
            text.stdout.contains("\nFAIL E1 ") && text.stdout.contains("\nrepro: "),
            "{text:?}"
        );
        assert!(text.stderr.starts_with("simulate: "), "{flag}: {text:?}");
        let machine = json(&simulate(dir.path(), &[&words[..], &["--json"]].concat()));
        assert_eq!(machine["failure"]["fail"]["rule"], "E1", "{flag}: {machine}");
        assert!(machine["unwritten"][0].as_str().is_some(), "{flag}: {machine}");
    }
    let pass = simulate(dir.path(), &["run", "partition-5", "--html", &nowhere]);
    assert_eq!(pass.code, Some(2), "{pass:?}");
    assert!(pass.stdout.contains("\nPASS "), "{pass:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn words_that_did_not_get_out_are_no_success() {
    for (words, code) in [(&["list"][..], 2), (&["run", "partition-5", "--json"], 2)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grapevine"));
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = command.arg("simulate").args(words).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("simulate: stdout: "), "{words:?}: {said}");
    }
}

#[test]
fn a_case_is_replayed_bit_for_bit_and_looked_into() {
    let dir = TempDir::new().unwrap();
    failing(dir.path());
    let replay = simulate(dir.path(), &["replay", "case-split-brain-2a.sim"]);
    assert_eq!(replay.code, Some(1), "{replay:?}");
    assert!(replay.stdout.contains("Exact: "), "{replay:?}");

    let around =
        ["replay", "case-split-brain-2a.sim", "--break", "t=12s", "--node", "3", "--lines", "8"];
    let around = simulate(dir.path(), &around);
    let shown: Vec<&str> =
        around.stdout.lines().take_while(|line| !line.starts_with("FAIL")).collect();
    assert_eq!(shown.len(), 8 + 1, "eight events and the mark: {}", around.stdout);
    assert!(shown.iter().all(|line| line.contains("node  3") || line.contains("here")));

    let shrunk = simulate(dir.path(), &["shrink", "case-split-brain-2a.sim", "-o", "small.toml"]);
    assert_eq!(shrunk.code, Some(1), "{shrunk:?}");
    assert!(dir.path().join("small.toml").exists());

    std::fs::write(dir.path().join("broken.sim"), "no case").unwrap();
    let broken = simulate(dir.path(), &["replay", "broken.sim"]);
    assert_eq!(broken.code, Some(2), "{broken:?}");
    assert!(broken.stderr.contains("broken.sim: not a case"), "{broken:?}");
}

#[test]
fn a_page_of_a_case_says_the_command_that_makes_it_again() {
    let dir = TempDir::new().unwrap();
    failing(dir.path());
    let page = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let draw = simulate(dir.path(), &["render", "case-split-brain-2a.sim"]);
    assert_eq!((draw.code, draw.stderr.as_str()), (Some(0), ""), "{draw:?}");
    let again = "<pre>grapevine simulate render case-split-brain-2a.sim</pre>";
    assert!(page("case-split-brain-2a.html").contains(again));
    let set = ["render", "partition-5", "--set", "net.loss=0.01", "--seed", "3"];
    assert_eq!(simulate(dir.path(), &set).code, Some(0));
    let again = "simulate run --set net.loss=0.01 partition-5 --seed 0x3 --html run.html</pre>";
    assert!(page("partition-5.html").contains(again));
}

#[test]
fn what_is_not_in_a_run_is_not_looked_for_in_silence() {
    let dir = TempDir::new().unwrap();
    failing(dir.path());
    let case = "case-split-brain-2a.sim";
    for (words, code, said) in [
        (&["replay", case, "--node", "99"][..], 2, "there is no node 99: they are 0 to 9"),
        (&["replay", case, "--break", "event=99999999"], 1, "there is no event 99999999"),
        (&["replay", case, "--break", "t=2h"], 2, "after the end of the run"),
        (&["replay", case, "--seed", "7"], 2, "leave out --seed"),
        (&["render", case, "--seed", "7"], 2, "leave out --seed"),
        (&["render", case, "--set", "net.loss=zzz"], 2, "leave out --set net.loss=zzz"),
        (&["run", case], 2, "is a case, no scenario; simulate replay"),
        (&["shrink", "split-brain"], 2, "is a scenario, no case"),
        (&["replay", "split-brain"], 2, "simulate replay --seed 0 split-brain"),
        (&["replay", "nothing.sim"], 2, "neither a case nor a scenario"),
        (&["swarm", "--jobs", "100000"], 2, "from 1 to 1024"),
    ] {
        let outcome = simulate(dir.path(), words);
        assert_eq!(outcome.code, Some(code), "{words:?}: {outcome:?}");
        assert!(outcome.stderr.contains(said), "{words:?}: {outcome:?}");
    }
    let shown = ["replay", case, "--break", "event=99", "--lines", "4", "--json"];
    let shown = json(&simulate(dir.path(), &shown));
    assert_eq!(shown["shown"]["after"][0]["i"], 100, "{shown}");
}

#[test]
fn a_trace_is_one_object_a_line_and_can_be_drawn() {
    let dir = TempDir::new().unwrap();
    let run = simulate(dir.path(), &["run", "partition-5", "--trace", "t.jsonl", "--quiet"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let text = std::fs::read_to_string(dir.path().join("t.jsonl")).unwrap();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.len() > 100);
    assert_eq!(lines[0]["k"], "run");
    assert!(lines[1..].iter().all(|line| line["t"].is_number() && line["h"].is_string()));
    let draw = simulate(dir.path(), &["render", "t.jsonl"]);
    assert_eq!((draw.code, draw.stdout.as_str()), (Some(0), "t.html\n"), "{draw:?}");
}

#[test]
fn mistakes_end_with_two_and_say_what_would_be_right() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("mine.toml"), "schema = 1\n[net]\nlos = 0.1\n").unwrap();
    for (words, said) in [
        (&["run", "mine.toml"][..], &["mine.toml:3:1", "los", "loss"][..]),
        (&["run", "split-brian"], &["split-brian", "did you mean split-brain?"]),
        (&["run", "split-brain", "--set", "net.los=1"], &["los", "loss"]),
        (&["run", "split-brain", "--seed", "x"], &["seed"]),
        (&["run"], &["SCENARIO"]),
        (&["nothing"], &["nothing"]),
        (&["explain", "Z9"], &["Z9", "E1"]),
        (&["mutants"], &["--features mutants"]),
    ] {
        let outcome = simulate(dir.path(), words);
        assert_eq!(outcome.code, Some(2), "{words:?}: {outcome:?}");
        for part in said {
            assert!(outcome.stderr.contains(part), "{words:?}: {part}: {}", outcome.stderr);
        }
    }
}

#[test]
fn a_swarm_comes_to_the_same_digest_whatever_the_threads_and_the_surroundings() {
    let dir = TempDir::new().unwrap();
    let words = ["swarm", "partition-5", "--seeds", "0..12", "--check", "twice=1.0", "--json"];
    let one = [&words[..], &["--jobs", "1"]].concat();
    let many = [&words[..], &["--jobs", "4"]].concat();
    let first = simulate_with(dir.path(), &one, &[("TZ", "Asia/Kathmandu"), ("LANG", "C")]);
    let second = simulate_with(dir.path(), &many, &[("TZ", "UTC"), ("LC_ALL", "tr_TR.UTF-8")]);
    let (first, second) = (json(&first), json(&second));
    assert_eq!(first["digest"], second["digest"]);
    assert_eq!(first["repeated"], 12);
    assert_eq!(first["mismatches"], 0);
    assert_eq!(first["verdict"], "pass");
}

#[test]
fn what_is_undecided_ends_with_four() {
    let dir = TempDir::new().unwrap();
    let late = ["swarm", "partition-5", "--seeds", "0..1000000", "--budget", "1ms"];
    let late = simulate(dir.path(), &late);
    assert_eq!(late.code, Some(4), "{late:?}");
    assert!(late.stdout.contains("UNDECIDED"), "{late:?}");

    let never = ["run", "partition-5", "--set", "expect.sometimes=[\"draining\"]"];
    let never = simulate(dir.path(), &never);
    assert_eq!(never.code, Some(4), "{never:?}");
    assert!(never.stdout.contains("never reached: draining"), "{never:?}");
}

#[test]
fn two_cases_are_compared_event_by_event() {
    let dir = TempDir::new().unwrap();
    for (seed, case) in [("1", "a.sim"), ("2", "b.sim")] {
        let run = ["run", "partition-5", "--seed", seed, "--case", case, "--quiet"];
        assert_eq!(simulate(dir.path(), &run).code, Some(0));
    }
    let same = simulate(dir.path(), &["diff", "a.sim", "a.sim"]);
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(same.stdout.contains("the same run, bit for bit"), "{same:?}");
    let other = simulate(dir.path(), &["diff", "a.sim", "b.sim"]);
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.stdout.contains("differ first in event"), "{other:?}");
}

#[test]
fn what_there_is_to_know_is_printed() {
    let dir = TempDir::new().unwrap();
    let list = simulate(dir.path(), &["list"]);
    for name in ["split-brain", "partition-5", "swarm"] {
        assert!(list.stdout.contains(name), "{name}: {}", list.stdout);
    }
    let file = simulate(dir.path(), &["list", "partition-5"]).stdout;
    std::fs::write(dir.path().join("mine.toml"), file).unwrap();
    assert_eq!(simulate(dir.path(), &["run", "mine.toml"]).code, Some(0), "it is a whole file");

    let schema = json(&simulate(dir.path(), &["schema"]));
    assert!(schema["properties"]["fault"].is_object(), "{schema}");
    let rule = simulate(dir.path(), &["explain", "e1"]);
    assert!(rule.stdout.starts_with("E1 membership-agree\n"), "{rule:?}");
    let kept = simulate(dir.path(), &["explain", "d2"]);
    assert!(kept.stdout.contains("clippy refuses such code"), "{kept:?}");
    let help = simulate(dir.path(), &["--help"]);
    assert_eq!(help.code, Some(0), "{help:?}");
    assert!(help.stdout.contains("Exit codes"), "{help:?}");
}

#[test]
fn the_simulator_tests_itself() {
    let dir = TempDir::new().unwrap();
    let outcome = simulate(dir.path(), &["selftest"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.stdout.matches("ok   ").count(), 5, "{outcome:?}");
}

#[test]
fn a_run_is_drawn_in_every_format_there_is() {
    let dir = TempDir::new().unwrap();
    for (format, file, begins) in [
        ("html", "partition-5.html", "<!DOCTYPE html>"),
        ("svg", "partition-5.svg", "<svg"),
        ("shiviz", "partition-5.log", "0."),
        ("perfetto", "partition-5.json", "{"),
    ] {
        let draw = simulate(dir.path(), &["render", "partition-5", "--format", format]);
        assert_eq!((draw.code, draw.stdout.trim_end()), (Some(0), file), "{draw:?}");
        let picture = std::fs::read_to_string(dir.path().join(file)).unwrap();
        assert!(picture.starts_with(begins), "{format}: {}", &picture[..80]);
    }
    let trace = std::fs::read_to_string(dir.path().join("partition-5.json")).unwrap();
    let trace: Value = serde_json::from_str(&trace).expect("JSON");
    assert!(trace["traceEvents"].as_array().is_some_and(|events| events.len() > 100));
}

#[test]
fn what_the_protocol_promises_is_measured_beside_its_targets() {
    let dir = TempDir::new().unwrap();
    let words = ["report", "--nodes", "5", "--runs", "2", "--only", "change,hang,idle"];
    let page = ["--html", "report.html"];
    let text = simulate(dir.path(), &[&words[..], &page[..]].concat());
    assert!(matches!(text.code, Some(0 | 1)), "{text:?}");
    for part in ["5 nodes", "a change is known everywhere, p50", "traffic per node"] {
        assert!(text.stdout.contains(part), "{part}: {}", text.stdout);
    }
    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("a hang or a cut"));

    let json = json(&simulate(dir.path(), &[&words[..], &["--json"]].concat()));
    let lines = json["lines"].as_array().expect("lines");
    assert_eq!(lines.len(), 4, "{json}");
    let all_met = lines.iter().all(|line| line["cells"][0]["is_met"] == true);
    assert_eq!(json["verdict"] == "pass", all_met && json["broken"] == serde_json::json!([]));

    let late = simulate(dir.path(), &[&words[..], &["--budget", "0s"]].concat());
    assert_eq!(late.code, Some(4), "nothing was measured: {late:?}");
    let typo = simulate(dir.path(), &["report", "--only", "kil"]);
    assert_eq!(typo.code, Some(2), "{typo:?}");
    assert!(typo.stderr.contains("kill"), "{typo:?}");
}

#[test]
fn real_processes_that_differ_too_much_from_simulated_ones_fail_a_report() {
    let dir = TempDir::new().unwrap();
    let measured = r#"{ "nodes": 4, "delay_us": 50,
        "series": [{ "what": "freeze", "place": "loopback", "seconds": [11.0] }] }"#;
    std::fs::write(dir.path().join("real.json"), measured).unwrap();
    let words = ["report", "--nodes", "4", "--runs", "2", "--only", "idle"];
    let report = simulate(dir.path(), &[&words[..], &["--fidelity", "real.json"]].concat());
    assert_eq!(report.code, Some(1), "{report:?}");
    assert!(report.stdout.contains("TOO FAR"), "{report:?}");
}

#[test]
fn a_scenario_is_reported_along_the_axis_it_names() {
    let dir = TempDir::new().unwrap();
    let file = "schema = 1\n[cluster]\nnodes = 4\n[[fault]]\nat = \"5s\"\n\
                for = [\"1s\", \"9s\"]\npartition = \"halves\"\n\
                [report]\nx = \"fault.for\"\ny = [\"bytes.p99\"]\n";
    std::fs::write(dir.path().join("mine.toml"), file).unwrap();
    let words = ["report", "mine.toml", "--runs", "3", "--html", "sweep.html"];
    let sweep = simulate(dir.path(), &words);
    assert_eq!(sweep.code, Some(0), "{sweep:?}");
    assert!(sweep.stdout.contains("fault.0.for") && sweep.stdout.contains("bytes.p99"));
    assert!(std::fs::read_to_string(dir.path().join("sweep.html")).unwrap().contains("<svg"));

    let none = simulate(dir.path(), &["report", "partition-5"]);
    assert_eq!(none.code, Some(2), "{none:?}");
    assert!(none.stderr.contains("[report]"), "{none:?}");
}

#[test]
fn a_swarm_is_compared_with_an_earlier_one() {
    let dir = TempDir::new().unwrap();
    let write = ["swarm", "partition-5", "--seeds", "0..10", "--write-baseline", "b.json", "-q"];
    assert_eq!(simulate(dir.path(), &write).code, Some(0));
    let compare = ["swarm", "partition-5", "--baseline", "b.json"];
    let same = simulate(dir.path(), &compare);
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(same.stdout.contains("figures of all runs are at most 20 % above"), "{same:?}");

    let path = dir.path().join("b.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut better: Value = serde_json::from_str(&text).unwrap();
    better["figures"]["bytes_per_node_s"] = 10.0.into();
    std::fs::write(&path, better.to_string()).unwrap();
    let worse = simulate(dir.path(), &compare);
    assert_eq!(worse.code, Some(1), "{worse:?}");
    assert!(worse.stdout.contains("FAIL P3 traffic bytes_per_node_s="), "{worse:?}");

    let other = simulate(dir.path(), &["swarm", "swarm", "--baseline", "b.json"]);
    assert_eq!(other.code, Some(2), "{other:?}");
    assert!(other.stderr.contains("is of partition-5, this swarm of swarm"), "{other:?}");
}

#[test]
fn what_is_for_people_is_there_for_machines_too() {
    let dir = TempDir::new().unwrap();
    let list = json(&simulate(dir.path(), &["list", "--json"]));
    assert!(list["scenarios"].as_array().is_some_and(|all| all.len() >= 4), "{list}");
    let rule = json(&simulate(dir.path(), &["explain", "p1", "--json"]));
    assert_eq!(rule["name"], "convergence");
    let test = json(&simulate(dir.path(), &["selftest", "--seeds", "3", "--json"]));
    assert_eq!(test["verdict"], "pass", "{test}");
    let bench = ["bench", "--only", "five", "--time", "200ms", "--json"];
    let bench = json(&simulate(dir.path(), &bench));
    assert!(bench["readings"][0]["value"].as_f64().is_some_and(|rate| rate > 0.0), "{bench}");
}

use super::*;
use crate::plan::{Expect, Fault, Partition};
use crate::scenario::Scenario;
use crate::testing::{failing_plan, outcome_of, violation};

/// Fails like a cluster would whose bug needs those conditions.
fn run_if(rule: &'static str, needs: impl Fn(&Plan) -> bool + Sync) -> impl Fn(&Plan) -> Outcome {
    move |plan| {
        let mut outcome = outcome_of(plan, 1_000);
        if needs(plan) {
            outcome.violation = Some(violation(rule, plan.end / 2));
        }
        outcome
    }
}

fn shrunk(run: impl Fn(&Plan) -> Outcome + Sync, rule: &str) -> Shrunk {
    let execute = |plan: &Plan, _: Option<&mut dyn crate::trace::Recorder>| run(plan);
    shrink(&failing_plan(), rule, BUDGET, &execute).expect("it fails")
}

fn is_pause(fault: &Fault, of: usize) -> bool {
    matches!(fault, Fault::Pause { node } if *node == of)
}

#[test]
fn what_the_failure_does_not_need_is_gone() {
    // A pause of node 2 during a split that takes at least a second, three nodes, one topic.
    let small = shrunk(
        run_if("S4", |plan| {
            let pause = plan.faults.iter().any(|fault| is_pause(&fault.fault, 2));
            let split = plan.faults.iter().any(|fault| {
                matches!(fault.fault, Fault::Partition(_))
                    && fault.lasts >= Some(Duration::from_secs(1))
            });
            pause && split && plan.nodes >= 3 && plan.topics >= 1
        }),
        "S4",
    );
    assert_eq!(small.plan.faults.len(), 2, "{:#?}", small.plan.faults);
    assert_eq!((small.plan.nodes, small.plan.topics), (3, 1));
    assert_eq!(small.plan.workload.churn, 0.0);
    assert!(small.plan.faults.iter().all(|fault| fault.lasts < Some(Duration::from_secs(3))));
    assert!(small.plan.end < Duration::from_secs(50), "{:?}", small.plan.end);
    assert!(small.is_complete && small.runs < 120, "{}", small.runs);
    let Some(Fault::Partition(Partition::Split(groups))) =
        small.plan.faults.iter().map(|fault| fault.fault.clone()).find(|f| !is_pause(f, 2))
    else {
        panic!("the split is there");
    };
    assert!(groups.iter().flatten().all(|&node| node < 3), "{groups:?}");
}

#[test]
fn a_smaller_run_that_breaks_another_rule_does_not_count() {
    let small = shrunk(
        |plan: &Plan| {
            let mut outcome = outcome_of(plan, 1_000);
            // Less than the four pauses is another failure.
            let pauses = plan.faults.iter().filter(|fault| is_pause(&fault.fault, 2)).count();
            let rule = if pauses == 4 { "L1" } else { "V4" };
            outcome.violation = Some(violation(rule, Duration::from_secs(30)));
            outcome
        },
        "L1",
    );
    assert_eq!(small.plan.faults.len(), 4);
    assert_eq!(small.outcome.violation.unwrap().rule, "L1");
}

#[test]
fn a_run_that_fails_without_any_fault_loses_them_all_in_a_few_runs() {
    let small = shrunk(run_if("V9", |_| true), "V9");
    assert!(small.plan.faults.is_empty());
    assert_eq!(small.plan.nodes, 1);
    assert_eq!(small.plan.strangers, Vec::<usize>::new());
    assert_eq!(small.plan.seeds, [0]);
    assert!(small.runs < 40, "{}", small.runs);
}

#[test]
fn a_node_in_the_middle_goes_and_the_faults_of_those_behind_it_follow() {
    // Node 8 alone is needed, by its pause.
    let small = shrunk(
        run_if("L3", |plan| {
            plan.faults
                .iter()
                .any(|fault| matches!(fault.fault, Fault::Pause { node } if node + 1 == plan.nodes))
        }),
        "L3",
    );
    assert_eq!(small.plan.nodes, 1, "{:?}", small.plan.faults);
    assert_eq!(small.plan.faults.len(), 1);
    assert!(is_pause(&small.plan.faults[0].fault, 0));
}

#[test]
fn a_run_that_does_not_fail_is_not_shrunk() {
    let execute = |plan: &Plan, _: Option<&mut dyn crate::trace::Recorder>| outcome_of(plan, 10);
    assert!(shrink(&failing_plan(), "S4", BUDGET, &execute).is_none());
}

#[test]
fn when_time_is_over_the_best_so_far_is_given() {
    let run = run_if("S4", |_| true);
    let execute = |plan: &Plan, _: Option<&mut dyn crate::trace::Recorder>| run(plan);
    let small = shrink(&failing_plan(), "S4", Duration::ZERO, &execute).unwrap();
    assert_eq!(small.plan, failing_plan());
    assert!(!small.is_complete);
    assert_eq!(small.runs, 1);
}

/// A run with promises for after the healing, which fails long before it if `needs` says so.
fn shrunk_early(needs: impl Fn(&Plan) -> bool + Sync) -> Plan {
    let promised = Some(Duration::from_secs(5));
    let plan = Plan {
        core: Some(vec![0, 1, 2]),
        expect: Expect { membership_agree: promised, lookups_agree: promised, ..Expect::default() },
        ..failing_plan()
    };
    let execute = |plan: &Plan, _: Option<&mut dyn crate::trace::Recorder>| {
        let mut outcome = outcome_of(plan, 1_000);
        if needs(plan) {
            outcome.violation = Some(violation("S4", Duration::from_millis(6_500)));
        }
        outcome
    };
    let small = shrink(&plan, "S4", BUDGET, &execute).expect("it fails").plan;
    let text = Scenario::from_plan(&small).to_toml();
    let read = Scenario::parse(&text, "case.min.toml").expect("what is left can be run");
    assert_eq!(read.plan(small.seed), small, "{text}");
    small
}

#[test]
fn what_is_left_of_a_run_that_fails_before_it_is_mended_can_be_run() {
    let seconds = Duration::from_secs;
    // A fault that must last keeps the healing behind the failure.
    let lasts = |plan: &Plan, group, least| {
        plan.faults.iter().any(|fault| fault.group == group && fault.lasts >= Some(seconds(least)))
    };
    let small = shrunk_early(|plan| lasts(plan, 0, 10));
    assert_eq!((small.heal_at, small.end), (None, seconds(8)));
    // The healing itself is needed.
    let small = shrunk_early(|plan| lasts(plan, 0, 10) && plan.heal_at.is_some());
    assert_eq!((small.heal_at, small.end), (Some(seconds(16)), seconds(17)));
    // What comes after the failure is needed.
    let small = shrunk_early(|plan| lasts(plan, 6, 10));
    assert_eq!((small.heal_at, small.end), (Some(seconds(41)), seconds(42)));
}

#[test]
fn a_run_that_was_cut_short_is_left_as_one_that_a_file_can_say_even_without_time() {
    let seconds = Duration::from_secs;
    let run = run_if("S4", |_| true);
    let execute = |plan: &Plan, _: Option<&mut dyn crate::trace::Recorder>| run(plan);
    // It ends before it is mended.
    let short = Plan { end: seconds(20), ..failing_plan() };
    // Some of its faults come when everything is mended, and so never.
    let late = Plan { heal_at: Some(seconds(15)), ..failing_plan() };
    for plan in [short, late] {
        assert!(text_of(&plan).is_err(), "{:?}", plan.end);
        for budget in [Duration::ZERO, BUDGET, Duration::MAX] {
            let small = shrink(&plan, "S4", budget, &execute).unwrap();
            assert_eq!(text_of(&small.plan).err(), None);
        }
    }
}

#[test]
fn what_no_file_can_say_is_not_what_is_left() {
    // Two nodes apart, whatever is taken away: with one node there is nobody to be apart from.
    let small = shrunk(
        run_if("S4", |plan| plan.faults.iter().any(|it| matches!(it.fault, Fault::Partition(_)))),
        "S4",
    );
    assert_eq!(text_of(&small.plan).err(), None, "{:?}", small.plan);
}

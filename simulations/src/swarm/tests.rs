use super::*;
use crate::testing::{failing_plan, outcome_of, violation};
use crate::trace::Recorder;

fn order(seeds: Range<u64>) -> Order {
    Order {
        scenarios: 1,
        seeds,
        jobs: 3,
        budget: None,
        until_coverage_stable: None,
        twice: 0.0,
        keep_going: false,
    }
}

fn plan(item: Item) -> Plan {
    Plan { seed: item.seed, name: format!("s{}", item.scenario), ..failing_plan() }
}

fn swarm(order: &Order, run: impl Fn(&Plan) -> Outcome + Sync) -> Swarm {
    let execute = |plan: &Plan, _: Option<&mut dyn Recorder>| run(plan);
    Swarm::run(order, &plan, &execute, &|_| ())
}

fn passes(plan: &Plan) -> Outcome {
    let mut outcome = outcome_of(plan, 1_000);
    outcome.stats.coverage.insert(format!("point {}", plan.seed.min(7)));
    outcome.stats.staleness_ms = vec![1.0, plan.seed as f32];
    outcome
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let one = swarm(&Order { jobs: 1, ..order(0..40) }, passes);
    let many = swarm(&Order { jobs: 4, ..order(0..40) }, passes);
    assert_eq!((one.population.runs, one.wanted, one.stopped), (40, 40, Stopped::Done));
    assert_eq!(one.population.digest, many.population.digest);
    assert_eq!(one.population.coverage, many.population.coverage);
    assert_eq!(one.population.staleness_ms.summary(), many.population.staleness_ms.summary());
    assert_eq!(one.population.coverage.len(), 8);
    assert_eq!(one.population.news, [8]);
}

#[test]
fn every_seed_is_run_with_every_scenario() {
    let seen = Mutex::new(std::collections::BTreeSet::new());
    let all = swarm(&Order { scenarios: 2, ..order(10..15) }, |plan| {
        seen.lock().unwrap().insert((plan.name.clone(), plan.seed));
        passes(plan)
    });
    assert_eq!(all.population.runs, 10);
    assert_eq!(seen.into_inner().unwrap().len(), 10);
}

#[test]
fn the_failure_that_is_reported_is_the_one_with_the_lowest_seed() {
    let fails = |plan: &Plan| {
        let mut outcome = passes(plan);
        if plan.seed >= 11 {
            outcome.violation = Some(violation("S4", Duration::from_secs(2)));
        } else {
            // The lower ones take longer, so that others overtake them.
            std::hint::black_box((0..100_000).map(|x| x ^ plan.seed).sum::<u64>());
        }
        outcome
    };
    let first = swarm(&Order { jobs: 4, ..order(0..1_000) }, fails);
    assert_eq!(first.stopped, Stopped::Failed);
    assert_eq!(first.failures.len(), 1);
    assert_eq!(first.failures[0].item, Item { scenario: 0, seed: 11 });
    assert_eq!(first.population.runs, 12, "what comes after it is not counted");

    let all = swarm(&Order { keep_going: true, ..order(0..1_000) }, fails);
    assert_eq!((all.failed, all.failures.len()), (989, FAILURES_MAX));
    assert_eq!(all.stopped, Stopped::Done);
}

#[test]
fn a_run_that_differs_when_repeated_is_found() {
    let calls = AtomicU64::new(0);
    let moody = |plan: &Plan| {
        let mut outcome = passes(plan);
        if plan.seed == 5 {
            outcome.hash ^= calls.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    };
    let twice = swarm(&Order { twice: 1.0, ..order(0..10) }, moody);
    assert_eq!(twice.mismatches.len(), 1);
    assert_eq!(twice.mismatches[0].item.seed, 5);
    assert_eq!(twice.stopped, Stopped::Failed);
    assert_eq!(twice.repeated, 6);

    let some = swarm(&Order { twice: 0.2, ..order(0..1_000) }, passes);
    assert!((150..250).contains(&some.repeated), "{}", some.repeated);
}

#[test]
fn it_ends_when_time_is_over_or_nothing_new_is_reached() {
    let none = swarm(&Order { budget: Some(Duration::ZERO), ..order(0..10) }, passes);
    assert_eq!((none.population.runs, none.stopped), (0, Stopped::Budget));

    let stable = swarm(&Order { until_coverage_stable: Some(20), ..order(0..1_000) }, passes);
    assert_eq!(stable.stopped, Stopped::Stable);
    assert_eq!(stable.population.runs, 8 + 20);
}

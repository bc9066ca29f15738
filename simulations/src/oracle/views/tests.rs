//! Each rule is broken by hand, and what looks like it but is allowed breaks none.

use grapevine_gossip::NodeId;
use grapevine_gossip::cluster::{Boot, ClusterEvent, ClusterTime};
use grapevine_gossip::config::Timings;
use grapevine_gossip::identity::Identity;
use grapevine_gossip::section::ProducerId;

use super::*;
use crate::luck::{Domain, Draw};
use crate::plan::{Delay, DiskFate, Expect, Knobs, Link, TimedFault, Workload};
use crate::world::producer;

fn at(seconds: f64) -> Moment {
    Moment((seconds * 1e9) as u64)
}

fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8], 4162))
}

fn id(node: usize) -> NodeId {
    NodeId(100 + node as u64)
}

fn identity(node: usize) -> Identity {
    Identity { addr: addr(node).into(), node: id(node), epoch: 7, renew: 0 }
}

/// Three nodes; heals at 40 s.
fn plan(faults: Vec<Fault>) -> Plan {
    let timed = |fault| TimedFault {
        at: Duration::from_secs(10),
        lasts: Some(Duration::from_secs(10)),
        fault,
        group: 0,
        label: String::new(),
    };
    Plan {
        name: "by hand".to_owned(),
        seed: 1,
        nodes: 3,
        seeds: vec![0],
        starts: vec![Some(Duration::ZERO); 3],
        strangers: vec![],
        regions: vec![],
        knobs: Knobs::default(),
        link: Link::LAN,
        link_rules: vec![],
        topics: 1,
        workload: Workload::default(),
        faults: faults.into_iter().map(timed).collect(),
        heal_at: Some(Duration::from_secs(40)),
        core: None,
        end: Duration::from_secs(100),
        broker: None,
        expect: Expect::default(),
    }
}

/// Views of three nodes that run, and their cores, which know nothing of each other.
struct Stage {
    views: Views,
    clusters: Vec<Cluster>,
}

impl Stage {
    fn new(plan: &Plan) -> Self {
        let mut views = Views::new(plan);
        let clusters: Vec<Cluster> = (0..3).map(cluster).collect();
        for (node, cluster) in clusters.iter().enumerate() {
            views.started(node, addr(node), cluster, at(1.0));
            views.handled(node, cluster, &[], at(1.0), Cause::Start).unwrap();
        }
        Self { views, clusters }
    }

    /// All have been told of all, and show what each wrote.
    fn agreed(plan: &Plan) -> Self {
        let mut stage = Self::new(plan);
        for viewer in 0..3 {
            for owner in (0..3).filter(|owner| *owner != viewer) {
                stage.up(viewer, owner, at(2.0)).unwrap();
                let own = stage.clusters[owner].catalogue().own().clone();
                let replica = replica(own);
                let owner = stage.views.table.owner(id(owner), at(2.0));
                stage.views.table.holds(viewer, owner, Some(&replica), at(2.0));
            }
        }
        stage.views.note_agreement(at(2.0));
        assert!(stage.views.table.is_current());
        stage
    }

    fn up(&mut self, viewer: usize, owner: usize, now: Moment) -> Result<(), Violation> {
        self.views.event(viewer, &ClusterEvent::MemberUp(identity(owner)), None, now)
    }

    fn down(&mut self, viewer: usize, owner: usize, now: Moment) -> Result<(), Violation> {
        self.views.event(viewer, &ClusterEvent::MemberDown(identity(owner)), None, now)
    }

    fn nodes(&self) -> Vec<NodeView<'_>> {
        let views = self.clusters.iter().enumerate().map(|(node, cluster)| NodeView {
            id: id(node),
            addr: addr(node),
            cluster: Some(cluster),
            is_paused: false,
            has_left: false,
            is_stranger: false,
        });
        views.collect()
    }

    /// The rules about everyone that look at times.
    fn look(&mut self, now: Moment) -> Result<(), Violation> {
        let late = self.views.figures.overdue(now).next();
        if let Some((owner, age)) = late {
            return Err(self.views.slow_goodbye(0, owner, age));
        }
        let nodes = self.nodes();
        self.views.check_agreement(&nodes, now)?;
        self.views.check_overdue(&nodes, now)
    }
}

fn replica(section: grapevine_gossip::section::Section) -> grapevine_gossip::catalogue::Replica {
    let mut replica = grapevine_gossip::catalogue::Replica::default();
    replica.activate(section.epoch);
    replica.section = section;
    replica
}

fn cluster(node: usize) -> Cluster {
    let boot = Boot {
        node: id(node),
        epoch: 7,
        addr: addr(node),
        seeds: 1,
        peers: vec![],
        cluster_name: "by hand".to_owned(),
        timings: Timings::default(),
        inactive_producer_timeout: Duration::from_secs(300),
        tombstone_lifetime: Duration::from_secs(45),
        seed: node as u64,
    };
    let mut cluster = Cluster::new(boot, ClusterTime::default());
    cluster.begin_audit();
    register(&mut cluster, node, "t000");
    cluster
}

fn register(cluster: &mut Cluster, node: usize, topic: &str) {
    let time = ClusterTime::default();
    cluster.local(time, |registrar, catalogue| {
        registrar.set_own_producer(catalogue, producer(node, 0), time);
        registrar.register(catalogue, ProducerId::NSQD, topic, None, time.at);
    });
}

fn rule(result: Result<(), Violation>) -> String {
    result.err().map_or_else(|| "none".to_owned(), |broken| broken.rule)
}

fn cut() -> Fault {
    Fault::Partition(Partition::Split(vec![vec![0]]))
}

#[test]
fn nodes_that_never_meet_after_the_healing_disagree() {
    let mut stage = Stage::new(&plan(vec![cut()]));
    stage.views.fault(0, true, at(1.5));
    assert_eq!(rule(stage.look(at(39.0))), "none", "while they are cut off they may");
    stage.views.fault(0, false, at(40.0));
    stage.views.healed(at(40.0));
    assert_eq!(rule(stage.look(at(42.0))), "none");
    let broken = (42..80).map(|second| stage.look(at(f64::from(second)))).find(Result::is_err);
    assert!(["L1", "L3"].contains(&rule(broken.unwrap()).as_str()));
}

#[test]
fn agreement_is_known_at_the_very_moment() {
    let mut stage = Stage::agreed(&plan(vec![]));
    stage.views.healed(at(40.0));
    stage.down(0, 1, at(41.0)).unwrap_err();
    stage.views.table.lists(0, id(1), None, at(41.0));
    stage.views.note_agreement(at(41.0));
    assert_eq!(stage.views.members_agreed, None);
    stage.up(0, 1, at(43.25)).unwrap();
    assert_eq!(stage.views.members_agreed, Some(at(43.25)));
    assert_eq!(stage.views.lookups_agreed, Some(at(43.25)));
}

#[test]
fn a_start_that_nobody_notices_is_exile_and_one_that_some_notice_is_a_lost_member() {
    let mut stage = Stage::new(&plan(vec![]));
    assert_eq!(rule(stage.look(at(60.0))), "L3");
    let mut stage = Stage::agreed(&plan(vec![]));
    stage.views.table.lists(0, id(1), None, at(3.0));
    assert_eq!(rule(stage.look(at(4.0))), "none");
    assert_eq!(rule(stage.look(at(60.0))), "L2");
}

#[test]
fn who_is_gone_may_be_listed_for_a_while_and_no_longer() {
    let mut stage = Stage::agreed(&plan(vec![]));
    stage.views.ended(2, at(20.0), End::Crashed);
    assert_eq!(rule(stage.look(at(26.0))), "none");
    let broken = stage.look(at(50.0)).unwrap_err();
    assert_eq!((broken.rule.as_str(), broken.node), ("L2", Some(0)));
    assert!(broken.what.starts_with("peer=2 since=30"), "{}", broken.what);
}

#[test]
fn what_was_written_must_be_shown_soon() {
    let mut stage = Stage::agreed(&plan(vec![]));
    register(&mut stage.clusters[1], 1, "t001");
    stage.views.handled(1, &stage.clusters[1], &[], at(20.0), Cause::Local).unwrap();
    assert!(stage.views.table.is_agreed() && !stage.views.table.is_current());
    assert_eq!(rule(stage.look(at(21.0))), "none");
    let broken = stage.look(at(40.0)).unwrap_err();
    assert_eq!(broken.rule, "V2");
    assert!(broken.what.contains("owner=1"), "{}", broken.what);
}

#[test]
fn a_change_is_stale_until_the_last_node_has_it() {
    let mut stage = Stage::agreed(&plan(vec![]));
    register(&mut stage.clusters[1], 1, "t001");
    stage.views.handled(1, &stage.clusters[1], &[], at(20.0), Cause::Local).unwrap();
    for (viewer, now) in [(0, 20.1), (2, 20.3)] {
        assert!(stage.views.figures.staleness_ms.is_empty());
        let copy = replica(stage.clusters[1].catalogue().own().clone());
        let owner = stage.views.table.owner(id(1), at(now));
        let step = stage.views.table.holds(viewer, owner, Some(&copy), at(now)).unwrap();
        stage.views.step(viewer, &step, at(now)).unwrap();
    }
    let [staleness] = stage.views.figures.staleness_ms[..] else { panic!("one change") };
    assert!((299.0..301.0).contains(&staleness), "{staleness}");
    assert!(stage.views.table.is_current());
}

#[test]
fn a_live_member_is_declared_dead_only_if_something_was_wrong() {
    let mut stage = Stage::agreed(&plan(vec![]));
    assert_eq!(rule(stage.down(0, 1, at(30.0))), "V5");
    let mut stage = Stage::agreed(&plan(vec![cut()]));
    stage.views.fault(0, true, at(10.0));
    assert_eq!(rule(stage.down(0, 1, at(16.0))), "none");
    let mut stage = Stage::agreed(&plan(vec![]));
    stage.views.ended(1, at(20.0), End::Crashed);
    assert_eq!(rule(stage.down(0, 1, at(30.0))), "none", "it is dead");
}

#[test]
fn so_many_false_deaths_as_a_scenario_allows_for_are_counted_and_the_first_too_many_is_its_own() {
    let mut plan = plan(vec![]);
    plan.expect.false_down = Some(1);
    let mut stage = Stage::agreed(&plan);
    for (second, count) in [(30.0, 1), (31.0, 2)] {
        assert_eq!(rule(stage.down(0, 1, at(second))), "none");
        stage.up(0, 1, at(second + 0.5)).unwrap();
        let mut stats = Stats::default();
        stage.views.measured(at(second + 0.5), &mut stats);
        assert_eq!(stats.false_downs, count);
    }
    plan.expect.false_down = Some(0);
    assert_eq!(rule(Stage::agreed(&plan).down(0, 1, at(30.0))), "V5");
}

#[test]
fn on_links_that_are_bad_without_any_fault_rules_are_off_and_nothing_is_measured() {
    let mut stats = Stats::default();
    for (loss, is_watched) in [(0.05, true), (0.06, false)] {
        let mut plan = plan(vec![]);
        plan.link.loss = loss;
        assert_eq!(rules_off(&plan).is_empty(), is_watched);
        let mut stage = Stage::agreed(&plan);
        for second in [20.0, 21.0] {
            let nodes = stage.clusters.iter().enumerate().map(|(node, cluster)| NodeView {
                id: id(node),
                addr: addr(node),
                cluster: Some(cluster),
                is_paused: true,
                has_left: false,
                is_stranger: false,
            });
            let nodes: Vec<NodeView<'_>> = nodes.collect();
            stage.views.look_at_times(&nodes, at(second)).unwrap();
        }
        stage.views.measured(at(21.0), &mut stats);
        assert_eq!(stats.watched.contains("V5"), is_watched);
        assert_eq!(stats.watched.contains("V1"), is_watched);
        assert_eq!(rule(stage.down(0, 1, at(30.0))) == "V5", is_watched);
    }
}

#[test]
fn a_goodbye_reaches_everyone_at_once_or_is_too_slow() {
    let leaves = |last: f64| {
        let mut stage = Stage::agreed(&plan(vec![]));
        let leaver = &stage.clusters[2];
        stage.views.handled(2, leaver, &[], at(20.0), Cause::Leave).unwrap();
        stage.down(0, 2, at(20.1)).unwrap();
        let result = stage.down(1, 2, at(last));
        (rule(result), stage.views.figures.gone_ms.len())
    };
    assert_eq!(leaves(20.2), ("none".to_owned(), 1));
    assert_eq!(leaves(20.9).0, "V7");
    let mut stage = Stage::agreed(&plan(vec![]));
    stage.views.handled(2, &stage.clusters[2], &[], at(20.0), Cause::Leave).unwrap();
    assert_eq!(rule(stage.look(at(21.0))), "V7");
}

#[test]
fn those_who_leave_together_need_not_hear_of_each_other() {
    let mut stage = Stage::agreed(&plan(vec![]));
    for node in 0..3 {
        stage.views.handled(node, &stage.clusters[node], &[], at(20.0), Cause::Leave).unwrap();
    }
    assert_eq!(rule(stage.look(at(21.0))), "none");
}

#[test]
fn who_has_left_does_not_come_back_in_the_same_life() {
    let mut stage = Stage::agreed(&plan(vec![]));
    stage.views.handled(2, &stage.clusters[2], &[], at(20.0), Cause::Leave).unwrap();
    stage.down(0, 2, at(20.1)).unwrap();
    stage.views.event(0, &ClusterEvent::MemberLeft(id(2)), None, at(20.1)).unwrap();
    assert_eq!(rule(stage.up(1, 2, at(20.2))), "none", "this one has not heard of it");
    assert_eq!(rule(stage.up(0, 2, at(20.2))), "S6");
}

#[test]
fn a_node_that_stops_for_a_twin_that_never_was_is_exiled() {
    let mut stage = Stage::agreed(&plan(vec![]));
    let conflict = ClusterEvent::NodeIdConflict;
    assert_eq!(rule(stage.views.event(0, &conflict, None, at(20.0))), "L3");
    let clone = Fault::Crash { node: 0, restart: None, disk: DiskFate::CloneOf(1), moves: false };
    let mut stage = Stage::agreed(&plan(vec![clone]));
    assert_eq!(rule(stage.views.event(0, &conflict, None, at(20.0))), "none");
}

#[test]
fn datagrams_are_bounded_in_size_number_and_whom_they_go_to() {
    let sends = |bytes: usize, times: usize, to: SocketAddr| {
        let mut stage = Stage::agreed(&plan(vec![]));
        // Of no kind that is known.
        let bytes = vec![9; bytes];
        let sent = |_| stage.views.sent(0, to, &bytes, false, None, at(20.0));
        rule((0..times).map(sent).find(Result::is_err).unwrap_or(Ok(())))
    };
    assert_eq!(sends(1232, 10, addr(1)), "none");
    assert_eq!(sends(1233, 1, addr(1)), "B1");
    assert_eq!(sends(100, 2000, addr(1)), "L4");
    let victim = SocketAddr::from(([203, 0, 113, 9], 4162));
    assert_eq!(sends(50, 1, victim), "B4");
    let mut stage = Stage::agreed(&plan(vec![]));
    stage.views.received(0, victim, 60);
    assert_eq!(rule(stage.views.sent(0, victim, &[0; 60], false, None, at(20.0))), "none");
    assert_eq!(rule(stage.views.sent(0, victim, &[0; 1], false, None, at(20.0))), "B4");
    let frame = vec![0; 64 * 1024 + 1];
    assert_eq!(rule(stage.views.sent(0, addr(1), &frame, true, None, at(20.0))), "B1");
}

#[test]
fn a_loop_that_feeds_itself_is_a_storm() {
    let mut stage = Stage::agreed(&plan(vec![]));
    let broken =
        (0..10_000).find_map(|_| stage.views.called(0, &stage.clusters[0], at(20.0)).err());
    assert_eq!(broken.unwrap().rule, "V8");
}

#[test]
fn an_idle_cluster_that_talks_too_much_breaks_a_rule() {
    for (bytes, expected) in [(890, "none"), (1_500, "B3")] {
        let mut stage = Stage::agreed(&plan(vec![]));
        stage.views.healed(at(40.0));
        let mut stats = Stats { bytes_by_second: vec![bytes; 60], ..Stats::default() };
        let nodes = stage.clusters.iter().enumerate().map(|(node, cluster)| NodeView {
            id: id(node),
            addr: addr(node),
            cluster: Some(cluster),
            is_paused: false,
            has_left: false,
            is_stranger: false,
        });
        let nodes: Vec<NodeView<'_>> = nodes.collect();
        assert_eq!(rule(stage.views.finish(&nodes, at(60.0), &stats)), expected);
        stage.views.measured(at(60.0), &mut stats);
        assert!((stats.idle_bytes - f64::from(bytes)).abs() < 1.0);
    }
    let most = traffic::idle_bytes_max;
    assert_eq!([5, 10, 100, 1000].map(|nodes| most(nodes) as u64), [901, 901, 1126, 1689]);
}

#[test]
fn weather_is_calm_while_links_are_as_on_a_lan() {
    let link = |loss: f64, dup: f64| Fault::Link {
        from: vec![],
        to: vec![],
        link: Link { loss, dup, ..Link::LAN },
    };
    for (fault, is_calm, is_clear) in [
        (link(0.0, 0.0), true, true),
        (link(0.05, 0.1), true, false),
        (link(0.06, 0.0), false, false),
        (cut(), false, false),
        (Fault::Leave { node: 0, restart: None }, true, true),
        (Fault::Clock { node: 0, wall_jump_ms: 5, rate: 1.0 }, true, true),
        (Fault::Clock { node: 0, wall_jump_ms: 0, rate: 3.0 }, false, false),
        (Fault::Pause { node: 0 }, false, false),
    ] {
        let mut weather = Weather::new(&plan(vec![fault.clone()]));
        weather.fault(0, true, at(10.0));
        assert_eq!(weather.calm_since().is_some(), is_calm, "{fault:?}");
        assert_eq!(weather.is_clear(), is_clear, "{fault:?}");
        weather.fault(0, false, at(20.0));
        let since = if is_calm { at(0.0) } else { at(20.0) };
        assert_eq!(weather.calm_since(), Some(since), "{fault:?}");
    }
}

#[test]
fn an_answer_is_late_after_the_time_that_a_probe_of_these_nodes_has() {
    let ms = Duration::from_millis;
    let line = Delay::Lognormal { median: ms(35), p99: ms(60) };
    let far = Delay::Lognormal { median: ms(40), p99: ms(400) };
    for (delay, reorder_by, probe_rtt, is_calm, is_clear) in [
        (Link::LAN.delay, 0, 200, true, true),
        (Link::LAN.delay, 90, 200, true, false),
        (Link::LAN.delay, 110, 200, false, false),
        (Link::LAN.delay, 110, 300, true, false),
        (Link::LAN.delay, 0, 1, false, false),
        (line, 0, 200, true, false),
        (line, 0, 60, false, false),
        (line, 0, 600, true, true),
        (far, 0, 200, false, false),
        (Delay::Const(ms(100)), 0, 200, true, false),
        (Delay::Const(ms(101)), 0, 200, false, false),
        (Delay::Uniform(ms(20), ms(102)), 0, 200, true, false),
        (Delay::Uniform(ms(20), ms(120)), 0, 200, false, false),
        (Delay::Pareto { min: ms(1), alpha: 1.0 }, 0, 200, true, false),
        (Delay::Pareto { min: ms(10), alpha: 1.0 }, 0, 200, false, false),
        (Delay::Bimodal { fast: ms(1), slow: ms(900), p_slow: 0.04 }, 0, 200, true, false),
        (Delay::Bimodal { fast: ms(1), slow: ms(900), p_slow: 0.06 }, 0, 200, false, false),
    ] {
        let reorder = if reorder_by > 0 { 0.06 } else { 0.0 };
        let mut plan = plan(vec![]);
        plan.link = Link { delay, reorder, reorder_by: ms(reorder_by), ..Link::LAN };
        plan.knobs.probe_rtt = Some(ms(probe_rtt));
        let weather = Weather::new(&plan);
        let is = (weather.has_good_links(), weather.is_clear());
        assert_eq!(is, (is_calm, is_clear), "{delay:?} {reorder_by} ms, probes {probe_rtt} ms");
        assert_eq!(weather.is_undisturbed(), is_calm);
    }
}

/// What the table says must be what counting every cell anew says.
#[test]
fn counters_are_what_counting_would_give() {
    for seed in 0..50 {
        let luck = Domain::new(seed, "table");
        let mut table = Table::new(4);
        for number in 0..300 {
            random_step(&mut table, luck.draw(&[number]), Moment(number + 1));
            assert_eq!(
                (table.is_agreed(), table.is_current()),
                counted(&table),
                "seed {seed} step {number}"
            );
        }
    }
}

fn random_step(table: &mut Table, draw: Draw, now: Moment) {
    let (node, other) = (draw.pick(0, 4), draw.pick(1, 4));
    let runs = table.viewers[node].runs;
    match draw.pick(2, 12) {
        0 if !runs => {
            // Now and then with the id of another.
            let of = if draw.chance(3, 0.05) { other } else { node };
            table.started(node, id(of), now.as_nanos(), true, now);
        }
        1 if runs => table.ended(node, now),
        2 if runs => table.dismiss(table.viewers[node].owner, now),
        3 if draw.chance(3, 0.02) => table.restrict(&[0, 1, 2], now),
        4 | 5 if runs => {
            let own = table.viewers[node].owner;
            let mut section = grapevine_gossip::section::Section::new(table.owners[own].epoch());
            section.ver = now.as_nanos();
            table.wrote(node, &section, now);
        }
        6 if runs => {
            table.lists(node, id(other), None, now);
        }
        7..12 if runs => {
            let Some(owner) = table.find(id(other)) else { return };
            let (epoch, ver) = (table.owners[owner].epoch(), table.owners[owner].ver);
            table.lists(node, id(other), Some(epoch), now);
            let mut section = grapevine_gossip::section::Section::new(epoch);
            section.ver = if draw.chance(4, 0.8) { ver } else { ver / 2 };
            table.holds(node, owner, Some(&replica(section)), now);
        }
        _ => {}
    }
}

fn counted(table: &Table) -> (bool, bool) {
    let judged: Vec<usize> = (0..table.viewers.len()).filter(|&at| table.is_judged(at)).collect();
    let (mut agreed, mut current) = (!judged.is_empty(), true);
    for &at in &judged {
        for (index, owner) in table.owners.iter().enumerate() {
            let Some(cell) = table.cell(at, index) else { continue };
            match owner.standing {
                Standing::Member => {
                    agreed &= cell.life == owner.life;
                    current &= cell.shown == owner.head;
                }
                Standing::Gone => agreed &= cell.life == 0,
                Standing::Any => {}
            }
        }
    }
    (agreed, agreed && current)
}

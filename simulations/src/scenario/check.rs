//! What a scenario file says that cannot be, though each value by itself could.

mod amounts;
mod times;

pub(crate) use amounts::{delay_problem, size_problems};

use std::time::Duration;

use crate::plan::DiskFate;
use crate::report::sweep::Figure;
use crate::scenario::axis;
use crate::scenario::drawn::Drawn;
use crate::scenario::expand::NODES;
use crate::scenario::fault_table::FaultTable;
use crate::scenario::file::File;
use crate::scenario::link_table::share_problem;
use crate::scenario::nodes::Nodes;
use crate::scenario::partition_table::{PartitionTable, Shape};
use crate::scenario::words::When;

/// Nodes of a run are at most so many; a run of more would not end in a day.
const NODES_MAX: u64 = 10_000;

/// The only version of the format.
const SCHEMA: u32 = 1;

/// What was found, each with its path in the file.
struct Check<'a> {
    file: &'a File,
    /// The least number of nodes there may be.
    nodes: usize,
    found: Vec<(String, String)>,
}

/// All that is wrong, with the path of each.
pub(crate) fn problems(file: &File) -> Vec<(String, String)> {
    let nodes = file.cluster.nodes.as_ref().map_or(NODES, Drawn::least);
    let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
    let mut check = Check { file, nodes, found: Vec::new() };
    check.head();
    check.links();
    check.amounts();
    for (i, fault) in file.fault.iter().enumerate() {
        check.fault(fault, &format!("fault.{i}"));
    }
    check.chaos();
    check.run();
    check.expect();
    check.report();
    check.found
}

/// The span, if nothing is left open.
fn fixed(span: &Option<Drawn<Duration>>) -> Option<Duration> {
    span.as_ref().map(Drawn::least)
}

impl Check<'_> {
    fn say(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.found.push((path.into(), message.into()));
    }

    fn nodes(&mut self, nodes: &Option<Nodes>, path: &str) {
        let problem =
            nodes.as_ref().and_then(|n| n.problem(self.nodes, &self.file.cluster.regions));
        if let Some(problem) = problem {
            self.say(path, problem);
        }
    }

    /// The same where no node at all would mean all of them, or that nothing happens.
    fn some(&mut self, nodes: &Option<Nodes>, path: &str) {
        if matches!(nodes, Some(Nodes::List(list)) if list.is_empty()) {
            self.say(path, "there is no node in it: leave it out, or name one");
        }
        self.nodes(nodes, path);
    }

    fn list(&mut self, list: &[usize], path: &str) {
        self.nodes(&Some(Nodes::List(list.to_vec())), path);
    }

    fn share(&mut self, share: &Option<Drawn<f64>>, path: &str) {
        if let Some(problem) = share.as_ref().and_then(share_problem) {
            self.say(path, problem);
        }
    }

    fn not_zero(&mut self, span: &Option<Drawn<Duration>>, path: &str) {
        if fixed(span).is_some_and(|span| span.is_zero()) {
            self.say(path, "it must be longer than nothing");
        }
    }

    fn head(&mut self) {
        let file = self.file;
        if file.schema != SCHEMA {
            let message = format!("there is no version {}; say schema = {SCHEMA}", file.schema);
            self.say("schema", message);
        }
        let cluster = &file.cluster;
        if self.nodes == 0 {
            self.say("cluster.nodes", "a cluster has at least one node");
        }
        if cluster.nodes.as_ref().is_some_and(|nodes| nodes.most() > NODES_MAX) {
            self.say("cluster.nodes", format!("at most {NODES_MAX} nodes"));
        }
        for (name, list) in &cluster.regions {
            self.some(&Some(Nodes::List(list.clone())), &format!("cluster.regions.{name}"));
        }
        self.nodes(&cluster.seeds, "cluster.seeds");
        self.nodes(&cluster.absent, "cluster.absent");
        self.nodes(&cluster.strangers, "cluster.strangers");
        self.starts();
        let Some(starts) = &cluster.starts else { return };
        if !matches!(cluster.nodes, Some(Drawn::Is(n)) if n == starts.len() as u64) {
            let len = starts.len();
            self.say("cluster.starts", format!("it has {len} times; say nodes = {len}"));
        }
        if starts.iter().any(|start| matches!(start, When::Heal(_))) {
            self.say("cluster.starts", "a node starts at a time, or never");
        }
        if cluster.start.is_some() || cluster.absent.is_some() {
            self.say("cluster.starts", "it says all: leave out start and absent");
        }
    }

    fn links(&mut self) {
        let file = self.file;
        for (field, problem) in file.net.problems() {
            self.say(format!("net.{field}"), problem);
        }
        for (i, between) in file.net.between.iter().flatten().enumerate() {
            let path = format!("net.between.{i}");
            for (field, problem) in between.problems() {
                self.say(format!("{path}.{field}"), problem);
            }
            self.some(&between.from, &format!("{path}.from"));
            self.some(&between.to, &format!("{path}.to"));
        }
    }

    fn fault(&mut self, fault: &FaultTable, path: &str) {
        let actions = fault.actions();
        let action = match actions.as_slice() {
            [] => return self.say(path, "nothing happens: say partition, crash, pause, ..."),
            [action] => *action,
            [first, second, ..] => {
                let message = format!("{first} and {second} are two faults: write each by itself");
                return self.say(format!("{path}.{second}"), message);
            }
        };
        if fault.at.is_none() && fault.every.is_none() {
            self.say(path, "it does not say when: at = \"20s\", or every = \"10s\"");
        }
        self.times(fault, action, path);
        self.place(fault, action, path);
        self.action(fault, path);
    }

    fn times(&mut self, fault: &FaultTable, action: &str, path: &str) {
        self.not_zero(&fault.lasts, &format!("{path}.for"));
        self.not_zero(&fault.every, &format!("{path}.every"));
        let is_event =
            ["crash", "restart", "leave", "start", "rolling_restart", "burst", "tombstone"]
                .contains(&action);
        if is_event && fault.lasts.is_some() {
            let message = match action {
                "crash" => "a crash happens at once: say crash.restart for the time it is down",
                "leave" => "a leave happens at once: say leave.restart for the time it is gone",
                _ => "it happens at once and has no \"for\"",
            };
            self.say(format!("{path}.for"), message);
        }
        if let Some(flap) = &fault.flap {
            self.share(&flap.duty, &format!("{path}.flap.duty"));
            if flap.period.least().is_zero() {
                self.say(format!("{path}.flap.period"), "it must be longer than nothing");
            }
            if fault.lasts.is_none() {
                self.say(format!("{path}.flap"), "say \"for\": how long it comes and goes");
            }
        }
        if fault.until.is_some() && fault.every.is_none() {
            self.say(format!("{path}.until"), "only what happens \"every\" so often has an end");
        }
        self.begins(fault, path);
    }

    fn place(&mut self, fault: &FaultTable, action: &str, path: &str) {
        self.some(&fault.place, &format!("{path}.where"));
        let inner = fault.node().cloned();
        if inner.is_some() && fault.place.is_some() {
            self.say(format!("{path}.where"), format!("{action} already says which node"));
        }
        self.some(&inner, &format!("{path}.{action}.node"));
        if fault.needs_node() && inner.is_none() && fault.place.is_none() {
            let message = format!("it does not say at which node: {action} = {{ node = 1 }}");
            self.say(format!("{path}.{action}"), message);
        }
        if fault.place.is_some()
            && ["partition", "swizzle", "upgrade", "tombstone"].contains(&action)
        {
            self.say(format!("{path}.where"), format!("{action} says itself where it is"));
        }
    }

    fn action(&mut self, fault: &FaultTable, path: &str) {
        if let Some(PartitionTable::Shape(shape)) = &fault.partition {
            self.shape(shape, fault, &format!("{path}.partition"));
        }
        if let Some(link) = &fault.link {
            for (field, problem) in link.problems() {
                self.say(format!("{path}.link.{field}"), problem);
            }
            self.some(&link.from, &format!("{path}.link.from"));
            self.some(&link.to, &format!("{path}.link.to"));
            if fault.place.is_some() && (link.from.is_some() || link.to.is_some()) {
                self.say(format!("{path}.where"), "the link says itself where it is");
            }
        }
        if let Some(clock) = &fault.clock {
            if clock.jump.is_none() && clock.rate.is_none() {
                self.say(format!("{path}.clock"), "say jump or rate");
            }
            if clock.rate.as_ref().is_some_and(|r| r.least() < 0.01 || r.most() > 100.0) {
                self.say(format!("{path}.clock.rate"), "a clock's rate is from 0.01 to 100");
            }
        }
        for (disk, path) in [
            (fault.crash.as_ref().and_then(|c| c.disk), format!("{path}.crash.disk")),
            (fault.restart.as_ref().and_then(|c| c.disk), format!("{path}.restart.disk")),
        ] {
            if let Some(DiskFate::CloneOf(node)) = disk.map(|disk| disk.0) {
                self.nodes(&Some(Nodes::One(node)), &path);
                let is_itself = match fault.node().or(fault.place.as_ref()) {
                    Some(Nodes::One(of)) => *of == node,
                    Some(Nodes::List(of)) => of.contains(&node),
                    _ => false,
                };
                if is_itself {
                    self.say(path, format!("node {node}'s disk would be a copy of itself"));
                }
            }
        }
        if let Some(disk) = &fault.disk {
            let said = [
                disk.latency.is_some(),
                disk.full == Some(true),
                disk.torn.is_some(),
                disk.fsync_lies == Some(true),
            ];
            if said.iter().filter(|said| **said).count() != 1 {
                let message = "say one of latency, full = true, torn, fsync_lies = true";
                self.say(format!("{path}.disk"), message);
            }
            self.share(&disk.torn, &format!("{path}.disk.torn"));
        }
        self.amounts_of(fault, path);
        self.counts(fault, path);
    }

    fn counts(&mut self, fault: &FaultTable, path: &str) {
        let nodes = self.nodes as u64;
        if let Some(count) = fault.swizzle.as_ref().and_then(|s| s.nodes.as_ref())
            && (count.least() == 0 || count.most() > nodes)
        {
            self.say(format!("{path}.swizzle.nodes"), format!("from 1 to {nodes} nodes"));
        }
        if let Some(batch) = fault.rolling_restart.as_ref().and_then(|r| r.batch.as_ref())
            && batch.least() == 0
        {
            self.say(format!("{path}.rolling_restart.batch"), "at least one node at a time");
        }
        if let Some(tombstone) = &fault.tombstone {
            self.some(&Some(tombstone.at.clone()), &format!("{path}.tombstone.at"));
            self.some(&Some(tombstone.of.clone()), &format!("{path}.tombstone.of"));
            let topics = self.file.topics.count.as_ref().map_or(10, Drawn::least);
            if tombstone.topic.most() >= topics {
                let message = format!("topics are numbered from 0 to {}", topics.saturating_sub(1));
                self.say(format!("{path}.tombstone.topic"), message);
            }
        }
    }

    fn shape(&mut self, shape: &Shape, fault: &FaultTable, path: &str) {
        match shape.kinds().as_slice() {
            [] => self.say(path, "it does not say who is cut off: minority = 2, split = ..."),
            [_] => {}
            [first, second, ..] => {
                let message = format!("{first} and {second} are two partitions: choose one");
                self.say(format!("{path}.{second}"), message);
            }
        }
        if let Some(split) = &shape.split {
            self.list(&split.concat(), &format!("{path}.split"));
            if split.is_empty() || split.iter().any(Vec::is_empty) {
                self.say(format!("{path}.split"), "a group has at least one node: [[0, 1], [2]]");
            }
            if matches!(split.as_slice(), [all] if all.len() > 1 && all.len() >= self.nodes) {
                let message = "all are in one group, and nobody is cut off: leave some out";
                self.say(format!("{path}.split"), message);
            }
        }
        if let Some(count) = &shape.minority
            && (count.least() == 0 || count.most() >= self.nodes as u64)
        {
            let message = match self.nodes.saturating_sub(1) {
                0 => "one node alone has no minority: it takes 2 nodes".to_owned(),
                most => format!("from 1 to {most} nodes"),
            };
            self.say(format!("{path}.minority"), message);
        }
        self.some(&shape.isolate, &format!("{path}.isolate"));
        self.nodes(&shape.from, &format!("{path}.from"));
        self.nodes(&shape.to, &format!("{path}.to"));
        self.share(&shape.random, &format!("{path}.random"));
        let links = shape.links.iter().flatten().flat_map(|&(a, b)| [a, b]);
        for node in links.chain(shape.bridge).chain(shape.star) {
            let key = shape.kinds().first().copied().unwrap_or("links");
            self.nodes(&Some(Nodes::One(node)), &format!("{path}.{key}"));
        }
        if let Some((node, _)) = shape.links.iter().flatten().find(|(a, b)| a == b) {
            self.say(format!("{path}.links"), format!("node {node} has no link to itself"));
        }
        self.list(shape.side.as_deref().unwrap_or_default(), &format!("{path}.side"));
        if shape.side.is_some() && shape.bridge.is_none() {
            self.say(format!("{path}.side"), "a side belongs to a bridge");
        }
        if shape.oneway.is_some() && shape.minority.is_none() && shape.isolate.is_none() {
            self.say(format!("{path}.oneway"), "it goes with minority or isolate; or say from, to");
        }
        if let Some(count) = &shape.groups
            && (count.least() < 2 || count.most() > self.nodes as u64)
        {
            let message = match self.nodes {
                0 | 1 => "one node alone is no two groups: it takes 2 nodes".to_owned(),
                most => format!("from 2 to {most} groups"),
            };
            self.say(format!("{path}.groups"), message);
        }
        let has_groups = shape.split.is_some() || shape.groups.is_some();
        if shape.staged.is_some() && (!has_groups || fault.lasts.is_none()) {
            self.say(format!("{path}.staged"), "it goes with split or groups, and with \"for\"");
        }
        if shape.staged.is_some() && fault.flap.is_some() {
            self.say(format!("{path}.staged"), "what flaps does not heal in steps");
        }
    }

    fn chaos(&mut self) {
        let Some(chaos) = &self.file.chaos else { return };
        self.share(&chaos.intensity, "chaos.intensity");
        if chaos.classes.as_ref().is_some_and(Vec::is_empty) {
            self.say("chaos.classes", "name a class, or leave it out for all");
        }
        self.window(chaos);
    }

    fn run(&mut self) {
        let run = &self.file.run;
        if matches!(run.heal, Some(When::Heal(_))) {
            self.say("run.heal", "say when: \"60s\", or \"never\"");
        }
        self.end();
        if let Some(liveness) = &run.liveness {
            self.some(&Some(liveness.core.clone()), "run.liveness.core");
            if run.heal == Some(When::Never) {
                self.say("run.liveness", "the core is mended: say when in run.heal");
            }
        }
    }

    fn expect(&mut self) {
        let expect = &self.file.expect;
        for (when, path) in [
            (&expect.membership_agree, "expect.membership_agree"),
            (&expect.lookups_agree, "expect.lookups_agree"),
        ] {
            match when {
                Some(When::At(_) | When::Never) => self.say(path, "say \"heal + 5s\""),
                Some(When::Heal(_)) if self.file.run.heal == Some(When::Never) => {
                    self.say(path, "nothing is mended in this run");
                }
                Some(When::Heal(_)) | None => {}
            }
        }
    }

    fn report(&mut self) {
        let Some(report) = &self.file.report else { return };
        if let Some(x) = &report.x
            && !axis::is_key(self.file, x)
        {
            self.say("report.x", format!("there is no key \"{x}\" in this file"));
        }
        for name in &report.y {
            if let Err(problem) = Figure::parse(name) {
                self.say("report.y", problem);
            }
        }
    }
}

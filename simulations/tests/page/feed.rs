//! A made-up run, so that the page can be tested without a world: a cluster is cut in two, both
//! sides notice, the cut heals, everyone agrees. Shapes and rates are those of real runs.

use std::time::Duration;

use grapevine_simulations::outcome::{Outcome, Stats, Violation};
use grapevine_simulations::plan::{
    Expect, Fault, Knobs, Link, Partition, Plan, TimedFault, Workload,
};
use grapevine_simulations::trace::{NodeSample, Record, Recorder, SAMPLE_PERIOD, Sample, What};

const MS: u64 = 1_000_000;

/// What to play.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub plan: Plan,
    pub side: usize,
    pub cut: (u64, u64),
    pub violation: Option<Violation>,
    /// Messages per node and second.
    pub rate: u64,
}

struct Stage<'a> {
    feed: &'a Feed,
    recorder: &'a mut dyn Recorder,
    event: u64,
    message: u64,
    luck: u64,
    believes: Vec<bool>,
    bytes: u64,
}

pub(crate) fn split_brain(nodes: usize, side: usize, seconds: u64, cut: (u64, u64)) -> Feed {
    let lasts = Duration::from_secs(cut.1 - cut.0);
    let plan = Plan {
        name: "split-brain".into(),
        seed: 0x2a,
        nodes,
        seeds: vec![0],
        starts: vec![Some(Duration::ZERO); nodes],
        strangers: Vec::new(),
        regions: Vec::new(),
        knobs: Knobs::default(),
        link: Link::LAN,
        link_rules: Vec::new(),
        topics: 20,
        workload: Workload::default(),
        faults: vec![TimedFault {
            at: Duration::from_secs(cut.0),
            lasts: Some(lasts),
            fault: Fault::Partition(Partition::Split(vec![(0..side).collect()])),
            group: 0,
            label: "split".into(),
        }],
        heal_at: Some(Duration::from_secs(cut.1)),
        core: None,
        end: Duration::from_secs(seconds),
        broker: None,
        expect: Expect::default(),
    };
    let cut = (cut.0 * 1_000 * MS, cut.1 * 1_000 * MS);
    Feed { plan, side, cut, violation: None, rate: 12 }
}

impl Feed {
    /// Plays the run.
    pub(crate) fn play(&self, recorder: &mut dyn Recorder) -> Outcome {
        let nodes = self.plan.nodes;
        let mut stage = Stage {
            feed: self,
            recorder,
            event: 0,
            message: 0,
            luck: 1,
            believes: vec![false; nodes * nodes],
            bytes: 0,
        };
        stage.run();
        Outcome {
            hash: 0x1234_5678_9abc_def0,
            checkpoints: Vec::new(),
            stats: Stats {
                events: stage.event,
                idle_bytes: 612.0,
                members_agreed: Some(Duration::from_millis(1_210)),
                ..Stats::default()
            },
            violation: self.violation.clone(),
        }
    }
}

impl Stage<'_> {
    fn run(&mut self) {
        let plan = &self.feed.plan;
        let (end, nodes) = (plan.end.as_nanos() as u64, plan.nodes);
        let (cut, healed) = self.feed.cut;
        self.recorder.begin(plan);
        for node in 0..nodes {
            self.tell(0, Some(node), What::Life { to: "up", epoch: 1 });
            self.believes[node * nodes + node] = true;
        }
        let step = 50 * MS;
        let mut next_sample = 0;
        for t in (0..end).step_by(step as usize) {
            if t == cut || t == healed {
                self.tell(t, None, What::Fault { index: 0, begins: t == cut });
            }
            if t == healed {
                self.tell(t, None, What::Heal);
            }
            self.change_minds(t);
            let count = (nodes as u64 * self.feed.rate * step / (1_000 * MS)).max(1);
            for index in 0..count {
                self.send(t + index * step / count);
            }
            if t >= next_sample {
                self.sample(t);
                next_sample += SAMPLE_PERIOD.as_nanos() as u64;
            }
        }
        let violation = self.feed.violation.as_ref();
        self.recorder.end(plan.end, violation);
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.luck = self.luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.luck >> 33) % below
    }

    fn apart(&self, t: u64, one: usize, other: usize) -> bool {
        let (cut, healed) = self.feed.cut;
        t >= cut && t < healed && (one < self.feed.side) != (other < self.feed.side)
    }

    fn tell(&mut self, t: u64, node: Option<usize>, what: What) {
        let record = Record {
            i: self.event,
            t,
            n: node.map(|node| node as u32),
            lamport: self.event,
            what,
            h: self.event,
        };
        self.event += 1;
        self.recorder.record(&record);
    }

    fn change_minds(&mut self, t: u64) {
        let (nodes, (cut, healed)) = (self.feed.plan.nodes, self.feed.cut);
        for node in 0..nodes {
            for about in (0..nodes).filter(|about| *about != node) {
                let at = node * nodes + about;
                let lag = ((node * 7 + about * 3) % 11) as u64 * 45 * MS;
                let crosses = self.apart(cut, node, about);
                let should = if t < 100 * MS + lag {
                    self.believes[at]
                } else {
                    !(crosses && t >= cut + 4_700 * MS + lag && t < healed + 750 * MS + lag)
                };
                if self.believes[at] != should {
                    self.believes[at] = should;
                    let to = if should { "up" } else { "down" };
                    self.tell(t, Some(node), What::Member { about: about as u32, to });
                }
            }
        }
    }

    fn send(&mut self, t: u64) {
        let nodes = self.feed.plan.nodes as u64;
        let from = self.draw(nodes) as usize;
        let to = (from + 1 + self.draw(nodes - 1) as usize) % nodes as usize;
        if self.apart(t, from, to) && !self.believes[from * nodes as usize + to] && self.draw(6) > 0
        {
            return;
        }
        let (id, delay) = (self.message, 100_000 + self.draw(900_000));
        let msg = ["ping", "ack", "gossip", "digest"][self.draw(4) as usize];
        let sz = 60 + self.draw(300) as u32;
        self.message += 1;
        self.bytes += u64::from(sz);
        self.tell(t, Some(from), What::Send { id, to: to as u32, msg, sz, stream: false });
        let from = from as u32;
        if self.apart(t, from as usize, to) {
            self.tell(t + delay, Some(to), What::Drop { id, from, msg, reason: "cut" });
        } else {
            self.tell(t + delay, Some(to), What::Recv { id, from, msg, sz, stream: false });
        }
    }

    fn sample(&mut self, t: u64) {
        let nodes = self.feed.plan.nodes;
        let (cut, healed) = self.feed.cut;
        let mut right = 0;
        let states = (0..nodes)
            .map(|node| {
                let sees = |about: &usize| self.believes[node * nodes + about];
                let members = (0..nodes).filter(sees).count();
                right += members;
                let age = (t.clamp(cut, healed) - cut) / (1_000 * MS);
                let gone = if t > healed + 1_200 * MS { 0 } else { age };
                NodeSample {
                    runs: true,
                    members: members as u32,
                    phantom: if gone > 0 && gone < 5 { gone as u32 } else { 0 },
                    missing: (gone * 2) as u32 + (nodes - members) as u32 * 4,
                    oldest_ms: 0,
                    bytes: 0,
                }
            })
            .collect();
        let sample = Sample {
            t,
            nodes: states,
            bytes: std::mem::take(&mut self.bytes),
            agreement: right as f64 / (nodes * nodes) as f64,
        };
        self.recorder.sample(&sample);
    }
}

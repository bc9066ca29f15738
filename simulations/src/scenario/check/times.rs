//! Times of a scenario file that cannot be, whatever the seed draws: what begins after everything
//! is mended never happens, and a run that ends before that shows nothing.

use std::time::Duration;

use super::Check;
use crate::scenario::chaos::LONGEST;
use crate::scenario::drawn::{Drawn, Scalar};
use crate::scenario::expand::{AFTER_HEAL, CHAOS_BEGINS, CHAOS_ENDS, FAULT_LASTS, NODES, STARTS};
use crate::scenario::fault_expand::{
    DOWN, PAUSE_MIN, REPEATS_FOR, REPETITIONS_MAX, RESTART_DOWN, RESTART_GAP, SWIZZLE_GAP,
    UPGRADE_GAP,
};
use crate::scenario::fault_table::FaultTable;
use crate::scenario::file::Chaos;
use crate::scenario::nodes::Nodes;
use crate::scenario::partition_table::{PartitionTable, Shape};
use crate::scenario::words::When;

/// The least step of time: what begins before a moment begins at least this long before it.
const STEP: Duration = Duration::from_nanos(1);

/// What the faults of a run may not go beyond.
struct Limit {
    what: &'static str,
    /// The earliest that it may be.
    at: Duration,
    /// What begins at that very moment is too late.
    is_sharp: bool,
}

fn most(span: &Option<Drawn<Duration>>, otherwise: Duration) -> Duration {
    span.as_ref().map_or(otherwise, Drawn::most)
}

/// The longest that a fault may be in force or count as being in force.
fn longest(span: &Option<Drawn<Duration>>) -> Duration {
    match span {
        Some(span) if span.least().is_zero() => span.most().max(FAULT_LASTS),
        Some(span) => span.most(),
        None => FAULT_LASTS,
    }
}

/// `count` pauses of `gap`.
fn pauses(gap: Duration, count: u64) -> Duration {
    gap.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

impl Check<'_> {
    /// A fault begins before everything is mended, and within the run.
    pub(super) fn begins(&mut self, fault: &FaultTable, path: &str) {
        if self.repeats_too_often(fault, path) {
            return;
        }
        let (at, until) = (most(&fault.at, Duration::ZERO), &fault.until);
        if let (Some(least), Some(_)) = (until.as_ref().map(Drawn::least), &fault.every)
            && least <= at
        {
            let (least, at) = (least.to_text(), at.to_text());
            self.say(
                format!("{path}.until"),
                format!("{least} is not after {at}, where it begins"),
            );
            return;
        }
        let Some(Limit { what, at: limit, is_sharp }) = self.limit() else { return };
        let series = self.series(fault);
        let until = self.repeats_until(fault).min(until.as_ref().map_or(limit, Drawn::most));
        let (begins, key) = match (&fault.every, &fault.until) {
            (Some(_), Some(_)) if until > at => (until.saturating_sub(STEP), "until"),
            (Some(_), None) if until > at => (until.saturating_sub(STEP), "every"),
            _ => (at, "at"),
        };
        let last = begins.saturating_add(series);
        if last < limit || (last == limit && !is_sharp) {
            return;
        }
        let shown = if key == "at" { begins } else { until };
        let (shown, last, limit) = (shown.to_text(), last.to_text(), limit.to_text());
        let message = if series.is_zero() {
            format!("{shown} is not before {what}, at {limit}")
        } else {
            format!("the last of it may be at {last}, which is not before {what}, at {limit}")
        };
        self.say(format!("{path}.{key}"), message);
    }

    /// Repetitions beyond the most that there may be would be missing without a word.
    fn repeats_too_often(&mut self, fault: &FaultTable, path: &str) -> bool {
        let most_often = |span: Duration, pause: Duration| {
            span.as_nanos() / pause.max(PAUSE_MIN).as_nanos() > REPETITIONS_MAX as u128
        };
        if let Some(every) = &fault.every {
            let at = fault.at.as_ref().map_or(Duration::ZERO, Drawn::least);
            let until = self.repeats_until(fault);
            if most_often(until.saturating_sub(at), every.least()) {
                let message =
                    format!("at most {REPETITIONS_MAX} repetitions: say \"until\" earlier");
                self.say(format!("{path}.every"), message);
                return true;
            }
        }
        if let (Some(flap), Some(lasts)) = (&fault.flap, &fault.lasts)
            && most_often(lasts.most(), flap.period.least())
        {
            let message = format!("it comes and goes at most {REPETITIONS_MAX} times: say more");
            self.say(format!("{path}.flap.period"), message);
            return true;
        }
        false
    }

    /// The latest end of a repetition.
    fn repeats_until(&self, fault: &FaultTable) -> Duration {
        let run = &self.file.run;
        match (&fault.until, &run.heal, &self.file.chaos, &run.end) {
            (Some(until), ..) => until.most(),
            (None, Some(When::At(heal)), ..) => heal.most(),
            (None, Some(When::Never), _, Some(When::At(end))) => end.most(),
            (None, _, Some(chaos), _) => window_of(chaos).1,
            (None, _, None, Some(When::At(end))) => end.most().saturating_sub(AFTER_HEAL),
            (None, _, None, _) => most(&fault.at, Duration::ZERO).saturating_add(REPEATS_FOR),
        }
    }

    /// What faults may not go beyond, if the file says when it is.
    fn limit(&self) -> Option<Limit> {
        let run = &self.file.run;
        if let Some(When::At(heal)) = &run.heal {
            return Some(Limit { what: "everything is mended", at: heal.least(), is_sharp: true });
        }
        let Some(When::At(end)) = &run.end else { return None };
        Some(Limit { what: "the end of the run", at: end.least(), is_sharp: false })
    }

    /// From the first piece to the last of what happens to nodes one after the other, at most.
    fn series(&self, fault: &FaultTable) -> Duration {
        let nodes = self.file.cluster.nodes.as_ref().map_or(NODES, Drawn::most);
        if let Some(rolling) = &fault.rolling_restart {
            let nodes = fault.place.as_ref().map_or(nodes, |place| self.most_of(place));
            let batch = rolling.batch.as_ref().map_or(1, Drawn::least).max(1);
            let batches = nodes.div_ceil(batch);
            return pauses(most(&rolling.gap, RESTART_GAP), batches.saturating_sub(1));
        }
        if let Some(upgrade) = &fault.upgrade {
            return pauses(most(&upgrade.gap, UPGRADE_GAP), nodes.saturating_sub(1));
        }
        let Some(swizzle) = &fault.swizzle else { return Duration::ZERO };
        let count = swizzle.nodes.as_ref().map_or(nodes.div_ceil(2), Drawn::most);
        pauses(most(&swizzle.gap, SWIZZLE_GAP), count.saturating_sub(1))
    }

    /// So many nodes at most.
    fn most_of(&self, nodes: &Nodes) -> u64 {
        let all = self.file.cluster.nodes.as_ref().map_or(NODES, Drawn::most);
        match nodes {
            Nodes::One(_) => 1,
            Nodes::List(list) => list.len() as u64,
            Nodes::All | Nodes::Random => all,
            Nodes::Any(count) => *count as u64,
            Nodes::Percent(percent) => (all * percent).div_ceil(100),
            Nodes::Region(name) => {
                self.file.cluster.regions.get(name).map_or(0, |list| list.len() as u64)
            }
        }
    }

    /// The latest that a fault may be over, or count as over.
    fn over(&self, fault: &FaultTable) -> Duration {
        let at = most(&fault.at, Duration::ZERO);
        let last = match &fault.every {
            Some(_) => at.max(self.repeats_until(fault)),
            None => at,
        };
        let series = self.series(fault);
        let rest = match (&fault.swizzle, &fault.upgrade, &fault.lasts) {
            // As long as it took to go, and a little more.
            (Some(swizzle), _, None) => {
                series.saturating_mul(2).saturating_add(pauses(most(&swizzle.gap, SWIZZLE_GAP), 4))
            }
            (Some(_), _, Some(lasts)) | (_, Some(_), Some(lasts)) => {
                lasts.most().max(series.saturating_add(PAUSE_MIN))
            }
            _ => series.saturating_add(length(fault)),
        };
        last.saturating_add(rest)
    }

    /// The latest that everything may be mended; `None`: never.
    fn healed(&self) -> Option<Duration> {
        let file = self.file;
        match &file.run.heal {
            Some(When::Never) => return None,
            Some(When::At(heal)) => return Some(heal.most()),
            Some(When::Heal(_)) | None => {}
        }
        let cluster = &file.cluster;
        let one_by_one = cluster.starts.iter().flatten().filter_map(|start| match start {
            When::At(at) => Some(at.most()),
            When::Heal(_) | When::Never => None,
        });
        let started = match &cluster.starts {
            Some(_) => one_by_one.max().unwrap_or_default(),
            None => most(&cluster.start, STARTS),
        };
        let over = file.fault.iter().map(|fault| self.over(fault)).max().unwrap_or_default();
        let chaos = file.chaos.as_ref().map(|chaos| window_of(chaos).1.saturating_add(LONGEST));
        Some(started.max(over).max(chaos.unwrap_or_default()))
    }

    /// A run goes on after everything is mended.
    pub(super) fn end(&mut self) {
        let run = &self.file.run;
        let healed = self.healed();
        match (&run.end, healed) {
            (Some(When::Never), _) => self.say("run.end", "a run has an end"),
            (Some(When::Heal(_)), None) => {
                self.say("run.end", "nothing is mended in this run: say \"90s\"");
            }
            (Some(When::Heal(after)), Some(_)) if after.least().is_zero() => {
                self.say("run.end", "a run goes on after everything is mended: \"heal + 30s\"");
            }
            (Some(When::At(end)), None) if end.least().is_zero() => {
                self.say("run.end", "it must be longer than nothing");
            }
            (Some(When::At(end)), Some(heal)) if end.least() <= heal => {
                let may =
                    if matches!(run.heal, Some(When::At(_))) { "at" } else { "maybe only at" };
                let (end, heal) = (end.least().to_text(), heal.to_text());
                let message = format!(
                    "{end} is not after everything is mended, {may} {heal}; \
                     say \"heal + 30s\", or when in run.heal"
                );
                self.say("run.end", message);
            }
            _ => {}
        }
    }

    /// Chaos has a time, and ends before everything is mended.
    pub(super) fn window(&mut self, chaos: &Chaos) {
        let (from, to) = window_of(chaos);
        let run = &self.file.run;
        if let Some((_, to)) = &chaos.window
            && to.least() <= from
        {
            let (to, from) = (to.least().to_text(), from.to_text());
            self.say(
                "chaos.window",
                format!("it may end before it begins: {to} is not after {from}"),
            );
            return;
        }
        let limit = match (&run.heal, &run.end) {
            (Some(When::At(heal)), _) => Some(("everything is mended", heal)),
            (Some(When::Never), Some(When::At(end))) => Some(("the end of the run", end)),
            _ => None,
        };
        let Some((what, limit)) = limit else { return };
        let limit = limit.least();
        if chaos.window.is_none() && matches!(run.heal, Some(When::At(_))) {
            if limit <= from {
                let (limit, from) = (limit.to_text(), from.to_text());
                let message =
                    format!("it begins at {from}, and {what} at {limit}: say chaos.window");
                self.say("chaos", message);
            }
        } else if to > limit {
            let (to, limit) = (to.to_text(), limit.to_text());
            self.say("chaos.window", format!("it ends at {to}, after {what}, at {limit}"));
        }
    }

    /// Some node starts.
    pub(super) fn starts(&mut self) {
        let cluster = &self.file.cluster;
        if self.file.fault.iter().any(|fault| fault.start.is_some()) {
            return;
        }
        if cluster.starts.as_ref().is_some_and(|all| all.iter().all(|at| *at == When::Never)) {
            self.say("cluster.starts", "no node ever starts: say when, or a fault start");
        }
        let absent = cluster.absent.as_ref().map_or(0, |absent| match absent {
            Nodes::Random => 0,
            absent => self.most_of(absent),
        });
        if absent > 0 && absent >= self.nodes as u64 {
            self.say("cluster.absent", "no node ever starts: leave one out, or say a fault start");
        }
    }
}

/// The latest beginning and the latest end of chaos.
fn window_of(chaos: &Chaos) -> (Duration, Duration) {
    let window = chaos.window.as_ref();
    window.map_or((CHAOS_BEGINS, CHAOS_ENDS), |(from, to)| (from.most(), to.most()))
}

/// The longest that one piece of a fault may last, or count as lasting.
fn length(fault: &FaultTable) -> Duration {
    if let Some(restart) = &fault.restart {
        return restart.down.as_ref().map_or(DOWN, |_| longest(&restart.down));
    }
    if let Some(rolling) = &fault.rolling_restart {
        return rolling.down.as_ref().map_or(RESTART_DOWN, |_| longest(&rolling.down));
    }
    let stages = match &fault.partition {
        Some(PartitionTable::Shape(shape)) => stages(shape),
        _ => Duration::ZERO,
    };
    let said = match (&fault.crash, &fault.leave, &fault.burst) {
        (Some(crash), ..) => &crash.restart,
        (_, Some(leave), _) => &leave.restart,
        (_, _, Some(burst)) => &burst.delete_after,
        _ => &fault.lasts,
    };
    longest(said).saturating_add(stages)
}

/// How long a partition goes on to heal in steps, at most.
fn stages(shape: &Shape) -> Duration {
    let Some(gap) = &shape.staged else { return Duration::ZERO };
    let split = shape.split.as_ref().map_or(0, |groups| groups.len() as u64 + 1);
    let groups = shape.groups.as_ref().map_or(split, Drawn::most);
    pauses(gap.most(), groups.saturating_sub(2))
}

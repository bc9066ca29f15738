//! Faults told afterwards.

use crate::outcome::Outcome;
use crate::plan::{Fault, Partition, Plan};
use crate::render::cuts;
use crate::render::film::Film;
use crate::render::story::{Deed, noticed_after};
use crate::render::words::{self, Class, sentence, the_nodes, time};

/// One cause and what came of it, in two or three sentences.
pub(super) fn deed(film: &Film, plan: &Plan, outcome: &Outcome, deed: &Deed) -> String {
    let first = &plan.faults[deed.faults[0]];
    let lasted = time(deed.to - deed.from);
    if deed.faults.len() > 1 {
        let times = words::number(deed.faults.len());
        let end = film.healed.unwrap_or(deed.to);
        let ending = ending(film, plan, outcome, end, "it was over");
        if let Some(nodes) = killed(plan, deed).filter(|_| deed.is_at_once(plan)) {
            let nodes = if nodes.len() == plan.nodes {
                format!("All {}", some_nodes(&nodes))
            } else {
                sentence(&some_nodes(&nodes))
            };
            return format!("{nodes} were killed at {}. {ending}", time(deed.from));
        }
        if let Fault::Partition(partition) = &first.fault
            && deed.faults.iter().all(|&index| plan.faults[index].fault == first.fault)
        {
            let cut = cut(partition, plan.nodes);
            return format!("{} times within {lasted} {cut}. {ending}", sentence(&times));
        }
        return format!("{}, {times} times within {lasted}. {ending}", sentence(&deed.label));
    }
    match &first.fault {
        Fault::Partition(partition) => {
            let cut = sentence(&format!("for {lasted} {}", cut(partition, plan.nodes)));
            let noticed = film
                .noticed
                .iter()
                .find(|notice| notice.fault == deed.faults[0])
                .and_then(|notice| noticed_after(film, notice));
            let noticed = noticed.map_or_else(String::new, |after| {
                format!(" Each side noticed within {} and went on answering.", time(after))
            });
            let ending = ending(film, plan, outcome, deed.to, "the links healed");
            format!("{cut}.{noticed} {ending}")
        }
        Fault::Crash { node, .. } => {
            let gone = verdict(film, *node, deed.from, false).map_or_else(String::new, |after| {
                format!(" {} later nobody listed it any more.", sentence(&time(after)))
            });
            let back = verdict(film, *node, deed.to, true).map_or_else(String::new, |after| {
                format!(" It came back after {lasted} and {} later everyone knew it.", time(after))
            });
            format!("Node {node} was killed.{gone}{back}")
        }
        Fault::Pause { node } => {
            let gone = verdict(film, *node, deed.from, false).map_or_else(
                || " That was too short for the others to give it up.".to_owned(),
                |after| format!(" After {} the others had taken it off their lists.", time(after)),
            );
            let ending = ending(film, plan, outcome, deed.to, "it went on");
            format!("Node {node} stood still for {lasted}.{gone} {ending}")
        }
        Fault::Leave { node, .. } => {
            let gone = verdict(film, *node, deed.from, false).map_or_else(String::new, |after| {
                format!(" {} later nobody listed it any more.", sentence(&time(after)))
            });
            format!("Node {node} said goodbye.{gone}")
        }
        Fault::Start { node } => {
            let known = verdict(film, *node, deed.from, true).map_or_else(String::new, |after| {
                format!(" {} later everyone knew it.", sentence(&time(after)))
            });
            format!("Node {node} joined.{known}")
        }
        fault => {
            let what = words::fault(first, plan);
            let verdict = match (fault, film.mistaken) {
                (Fault::Link { .. }, 0) => " Nobody was taken for dead by mistake.".to_owned(),
                (Fault::Link { .. }, 1) => " Once a node that ran was taken for dead.".to_owned(),
                (Fault::Link { .. }, times) => {
                    let times = sentence(&words::number(times as usize));
                    format!(" {times} times a node that ran was taken for dead.")
                }
                _ => String::new(),
            };
            let ending = ending(film, plan, outcome, deed.to, "it was over");
            if deed.to > deed.from {
                format!("For {lasted}: {what}.{verdict} {ending}")
            } else {
                format!("{}.{verdict} {ending}", sentence(&what))
            }
        }
    }
}

/// How long after an instant all agreed about a node.
fn verdict(film: &Film, about: usize, from: u64, there: bool) -> Option<u64> {
    let verdicts = &film.views.verdicts;
    let mut after = verdicts.iter().filter(|it| it.about == about && it.t >= from);
    after.next().filter(|it| it.there == there).map(|it| it.t - from)
}

/// How long after `from` all agreed, or all of the core if the rest stays broken.
pub(super) fn agreed_after(film: &Film, plan: &Plan, outcome: &Outcome, from: u64) -> Option<u64> {
    match (&plan.core, outcome.stats.members_agreed) {
        (Some(_), agreed) => agreed.map(|after| after.as_nanos() as u64),
        (None, _) => film.views.agreed_from(from, film.end).map(|at| at - from),
    }
}

/// Whether and when all agreed after `from`.
pub(super) fn ending(
    film: &Film,
    plan: &Plan,
    outcome: &Outcome,
    from: u64,
    since: &str,
) -> String {
    let who = match &plan.core {
        Some(core) => format!("{} of the healthy part", the_nodes(core)),
        None => format!("all {}", words::number(plan.nodes)),
    };
    match agreed_after(film, plan, outcome, from) {
        Some(0) => format!("When {since}, {who} agreed."),
        Some(after) => format!("{} after {since}, {who} agreed again.", sentence(&time(after))),
        None if film.end <= from => "The run ended before it was over.".into(),
        None => "At the end of the run they did not agree yet.".into(),
    }
}

/// A cause in a few words, for "Besides, ...".
pub(super) fn short(plan: &Plan, deed: &Deed) -> String {
    let first = &plan.faults[deed.faults[0]];
    let at = time(deed.from);
    if deed.faults.len() > 1 {
        return match killed(plan, deed) {
            Some(nodes) if deed.is_at_once(plan) => {
                format!("{} were killed at {at}", some_nodes(&nodes))
            }
            Some(nodes) => format!("{} were killed from {at} on", some_nodes(&nodes)),
            None => format!("{} from {at} to {}", deed.label, time(deed.to)),
        };
    }
    match &first.fault {
        Fault::Partition(partition) => {
            format!("for {} {}", time(deed.to - deed.from), cut(partition, plan.nodes))
        }
        Fault::Crash { node, .. } => format!("node {node} was killed at {at}"),
        Fault::Pause { node } => {
            format!("node {node} stood still for {}", time(deed.to - deed.from))
        }
        Fault::Leave { node, .. } => format!("node {node} left at {at}"),
        Fault::Start { node } => format!("node {node} joined at {at}"),
        _ => format!("from {at} on {}", words::fault(first, plan)),
    }
}

/// `nodes 3 and 7`, or `ten nodes` if there are many.
fn some_nodes(nodes: &[usize]) -> String {
    if nodes.len() > 4 { format!("{} nodes", words::number(nodes.len())) } else { the_nodes(nodes) }
}

/// The nodes that a cause kills, if it does nothing else.
fn killed(plan: &Plan, deed: &Deed) -> Option<Vec<usize>> {
    let nodes = deed.faults.iter().map(|&index| match plan.faults[index].fault {
        Fault::Crash { node, .. } => Some(node),
        _ => None,
    });
    let mut nodes: Vec<usize> = nodes.collect::<Option<_>>()?;
    nodes.sort_unstable();
    nodes.dedup();
    (nodes.len() > 1).then_some(nodes)
}

/// The beginning of a cause, as it happens.
pub(super) fn begin(plan: &Plan, deed: &Deed) -> String {
    let first = &plan.faults[deed.faults[0]];
    if deed.faults.len() > 1 {
        return match killed(plan, deed) {
            Some(nodes) if deed.is_at_once(plan) => format!("{} are killed.", some_nodes(&nodes)),
            _ => {
                format!("{} begins, {} times in all.", deed.label, words::number(deed.faults.len()))
            }
        };
    }
    let text = words::fault(first, plan);
    if deed.class == Class::Cut {
        return format!("{text}. Nobody is told; every node has to find out.");
    }
    format!("{text}.")
}

fn cut(partition: &Partition, nodes: usize) -> String {
    let sides = cuts::sides(partition, nodes);
    match partition {
        Partition::Split(_) if sides.len() == 2 => two_sides(&sides[0], &sides[1]),
        Partition::Split(_) => {
            let sides: Vec<String> = sides.iter().map(|side| words::nodes(side)).collect();
            format!(
                "the cluster was in {} pieces: {}",
                words::number(sides.len()),
                sides.join("; ")
            )
        }
        Partition::Oneway { from, to } => {
            format!("{} did not hear {}", the_nodes(to), the_nodes(from))
        }
        Partition::Bridge { bridge, .. } => {
            format!("only node {bridge} reached both sides of the cluster")
        }
        Partition::Ring { reach } => {
            format!("every node reached only its {} nearest neighbours", reach * 2)
        }
        Partition::Chain => "every node reached only its two neighbours in a row".into(),
        Partition::Star { hub } => format!("all nodes reached node {hub} and nobody else"),
        Partition::Links(links) if links.len() == 1 => {
            format!("nodes {} and {} could not reach each other", links[0].0, links[0].1)
        }
        Partition::Links(links) => format!("{} links were cut", words::number(links.len())),
    }
}

fn two_sides(one: &[usize], other: &[usize]) -> String {
    let (first, second) = (words::nodes(one), words::nodes(other));
    if first.contains("more") || second.contains("more") {
        return if one.len() == other.len() {
            format!("two halves of {} nodes could not reach each other", words::number(one.len()))
        } else {
            let (few, rest) = if one.len() < other.len() { (one, other) } else { (other, one) };
            let (few, rest) = (words::number(few.len()), words::number(rest.len()));
            format!("{few} nodes could not reach the other {rest}")
        };
    }
    if !first.contains(' ') && !second.contains(' ') {
        return format!("{} and {second} could not reach each other", the_nodes(one));
    }
    let side = |nodes: &[usize], list: &str, before: &str, after: &str| {
        if nodes.len() == 1 {
            return the_nodes(nodes);
        }
        let (count, list) = (words::number(nodes.len()), list.replace(" and ", ", "));
        format!("{before}{count}{after} ({list})")
    };
    let (one, other) = (side(one, &first, "", " nodes"), side(other, &second, "the other ", ""));
    format!("{one} could not reach {other}")
}

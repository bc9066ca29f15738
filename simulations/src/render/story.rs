//! What the run did, in sentences: a headline, figures, and chapters to jump to.

use crate::outcome::Outcome;
use crate::plan::{Fault, Plan};
use crate::render::film::{Film, Notice, class_of};
use crate::render::past;
use crate::render::words::{self, Class, sentence, time};

/// Chapters beyond this make a wall of text; those of least weight are left out.
const CHAPTERS_MAX: usize = 20;

/// A point of the run that is worth looking at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chapter {
    /// When, in ns.
    pub t: u64,
    /// Its colour: a class of faults, `agree`, `notice` or `broken`.
    pub class: &'static str,
    /// What happened.
    pub text: String,
    /// Small: leave it out first.
    is_minor: bool,
}

/// Faults with one cause.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Deed {
    /// What people call it.
    pub label: String,
    /// Of its first fault.
    pub class: Class,
    /// Indices into the plan's faults.
    pub faults: Vec<usize>,
    /// First beginning in ns.
    pub from: u64,
    /// Last end in ns.
    pub to: u64,
}

impl Deed {
    /// Whether all of it begins in one instant.
    pub(super) fn is_at_once(&self, plan: &Plan) -> bool {
        self.faults.iter().all(|&index| plan.faults[index].at == plan.faults[self.faults[0]].at)
    }
}

/// Faults that happened, by cause, in order of time.
pub(super) fn deeds(film: &Film, plan: &Plan) -> Vec<Deed> {
    let mut deeds: Vec<(u32, Deed)> = Vec::new();
    for (index, timed) in plan.faults.iter().enumerate() {
        let Some((from, to)) = film.span(plan, index) else { continue };
        let class = class_of(plan, index);
        match deeds.iter_mut().find(|(group, deed)| *group == timed.group && deed.class == class) {
            Some((_, deed)) => {
                deed.faults.push(index);
                deed.from = deed.from.min(from);
                deed.to = deed.to.max(to);
            }
            None => deeds.push((
                timed.group,
                Deed { label: timed.label.clone(), class, faults: vec![index], from, to },
            )),
        }
    }
    let mut deeds: Vec<Deed> = deeds.into_iter().map(|(_, deed)| deed).collect();
    deeds.sort_by_key(|deed| (deed.from, deed.faults[0]));
    deeds
}

/// The run in one or two sentences.
pub(super) fn headline(film: &Film, plan: &Plan, outcome: &Outcome) -> String {
    if let Some(violation) = &outcome.violation {
        let name = violation.name.replace('-', " ");
        if violation.is_promise() {
            let field = |key: &str| {
                let mut fields = violation.what.split_whitespace();
                fields.find_map(|field| field.strip_prefix(key)?.strip_prefix('=')).unwrap_or("?")
            };
            let promised = field("promised");
            let measured = match field("measured") {
                "never" => "That never happened.".to_owned(),
                measured => format!("It was {measured}."),
            };
            return format!(
                "The run did not keep what its scenario promises: {name}, at most {promised}. \
                 {measured}"
            );
        }
        let at = time(violation.at.as_nanos() as u64);
        return violation.node.map_or_else(
            || format!("After {at} a rule was broken: {name}."),
            |node| format!("After {at} node {node} broke a rule: {name}."),
        );
    }
    let deeds = deeds(film, plan);
    let length = time(film.end);
    match &deeds[..] {
        [] => {
            let agreed = film.views.agreed_from(0, film.end).map_or_else(
                || "They never agreed on who is there.".to_owned(),
                |at| format!("After {} each knew all the others, and it stayed so.", time(at)),
            );
            format!("{} nodes ran for {length} in peace. {agreed}", many(plan.nodes))
        }
        [deed] => past::deed(film, plan, outcome, deed),
        [..] if deeds.len() <= 3 => few(film, plan, outcome, &deeds),
        [..] => {
            let mut classes: Vec<Class> = deeds.iter().map(|deed| deed.class).collect();
            classes.sort_unstable();
            classes.dedup();
            let names: Vec<String> = classes.iter().map(|class| class.name().to_owned()).collect();
            format!(
                "{} faults hit {} nodes within {length}: {}. {}",
                many(deeds.len()),
                words::number(plan.nodes),
                words::join(&names),
                past::ending(film, plan, outcome, last_end(film, &deeds), "the last one was over")
            )
        }
    }
}

/// Two or three causes: a partition and what else happened, or one after the other.
fn few(film: &Film, plan: &Plan, outcome: &Outcome, deeds: &[Deed]) -> String {
    let main = main_deed(deeds);
    let is_cut = main.class == Class::Cut;
    let others = deeds.iter().filter(|deed| !is_cut || *deed != main);
    let short: Vec<String> = others.map(|deed| past::short(plan, deed)).collect();
    if is_cut {
        let main = past::deed(film, plan, outcome, main);
        return format!("{main} Besides, {}.", words::join(&short));
    }
    let gone = film
        .views
        .verdicts
        .iter()
        .filter(|verdict| !verdict.there)
        .filter_map(|verdict| Some(verdict.t - since(film, verdict.about, verdict.t)?))
        .max()
        .map_or_else(String::new, |slowest| {
            format!(" After {} at most nobody listed a node that was gone.", time(slowest))
        });
    let since =
        if film.healed.is_some() { "everything was mended" } else { "the last of it was over" };
    let ending = past::ending(film, plan, outcome, last_end(film, deeds), since);
    format!("{}.{gone} {ending}", sentence(&words::join(&short)))
}

/// When a node came or went the last time before `t`.
fn since(film: &Film, about: usize, t: u64) -> Option<u64> {
    let before = film.lives.get(about)?.iter().take_while(|(at, _, _)| *at <= t).last();
    before.map(|(at, _, _)| *at)
}

/// A number at the beginning of a sentence.
fn many(count: usize) -> String {
    sentence(&words::number(count))
}

fn last_end(film: &Film, deeds: &[Deed]) -> u64 {
    film.healed.unwrap_or_else(|| deeds.iter().map(|deed| deed.to).max().unwrap_or(0))
}

/// The cause that lasts longest; a partition before all others.
fn main_deed(deeds: &[Deed]) -> &Deed {
    deeds
        .iter()
        .max_by_key(|deed| (deed.class == Class::Cut, deed.to - deed.from))
        .unwrap_or(&deeds[0])
}

/// Label, value and what it means.
pub(super) fn figures(
    film: &Film,
    plan: &Plan,
    outcome: &Outcome,
) -> Vec<(&'static str, String, &'static str)> {
    let mut figures = Vec::new();
    let stats = &outcome.stats;
    if let Some(slowest) =
        film.noticed.iter().filter_map(|notice| noticed_after(film, notice)).max()
    {
        figures.push((
            "until a cut was noticed",
            time(slowest),
            "From the cut until the last node had given up the last node it could not reach.",
        ));
    }
    let deeds = deeds(film, plan);
    if !deeds.is_empty() && outcome.violation.is_none() {
        let from = last_end(film, &deeds);
        let after = past::agreed_after(film, plan, outcome, from);
        figures.push((
            "from repair to agreement",
            after.map_or_else(|| "never".to_owned(), time),
            "From the end of the last fault until every node saw exactly the nodes that run.",
        ));
    }
    figures.push((
        "live nodes taken for dead",
        words::count(film.mistaken),
        "How often a node gave up one that ran, whatever was wrong: cuts and bad links count too.",
    ));
    if stats.false_downs > 0 || stats.watched.contains("V5") {
        figures.push((
            "... without cause",
            words::count(stats.false_downs),
            "While nothing worse than 5 % loss was going on. It should be 0.",
        ));
    }
    if stats.idle_bytes > 0.0 {
        figures.push((
            "per node while idle",
            if stats.idle_bytes < 999.5 {
                format!("{:.0} B/s", stats.idle_bytes)
            } else {
                format!("{:.1} kB/s", stats.idle_bytes / 1e3)
            },
            "What the gossip costs when nothing happens, with headers and encryption counted.",
        ));
    }
    let sent: u64 = film.traffic.kinds.values().map(|(messages, _)| messages).sum();
    let lost: u64 = film.traffic.reasons.values().sum();
    if sent > 0 {
        figures.push((
            "messages",
            words::count(sent),
            "Datagrams and frames that nodes sent to each other.",
        ));
        if lost > 0 {
            figures.push(("lost", words::count(lost), "Messages that did not arrive."));
        }
    }
    figures
}

/// How long a partition was there before all sides had noticed.
pub(super) fn noticed_after(film: &Film, notice: &Notice) -> Option<u64> {
    if notice.is_spoiled {
        return None;
    }
    let from = film.spans[notice.fault].from?;
    let slowest = notice.at.iter().copied().collect::<Option<Vec<u64>>>()?.into_iter().max()?;
    Some(slowest - from).filter(|after| *after > 0)
}

/// Points worth looking at, in order.
pub(super) fn chapters(film: &Film, plan: &Plan, outcome: &Outcome) -> Vec<Chapter> {
    let mut chapters = Vec::new();
    let mut add = |t: u64, class: &'static str, text: String, is_minor: bool| {
        chapters.push(Chapter { t, class, text: sentence(&text), is_minor });
    };
    let deeds = deeds(film, plan);
    if let Some(at) = film.views.agreed_from(0, film.end)
        && deeds.first().is_none_or(|deed| at <= deed.from)
    {
        add(
            at,
            "agree",
            format!("All {} nodes know each other.", words::number(plan.nodes)),
            false,
        );
    }
    for deed in &deeds {
        let class = deed.class.id();
        let text = past::begin(plan, deed);
        let lasts = deed.to > deed.from;
        add(deed.from, class, text, deeds.len() > 8 && deed.class == Class::Other);
        if lasts && deed.to < film.end && deed.class != Class::Crash && deed.class != Class::Move {
            let text = if deed.class == Class::Cut {
                "The links work again.".to_owned()
            } else {
                format!("Over: {}.", deed.label)
            };
            add(deed.to, class, text, deeds.len() > 5 || film.healed == Some(deed.to));
        }
    }
    notices(film, &mut add);
    let begun = deeds.first().map_or(0, |deed| deed.from);
    verdicts(film, plan, begun, &mut add);
    if let Some(violation) = &outcome.violation {
        let t = violation.at.as_nanos() as u64;
        let text = if violation.is_promise() {
            format!("The run ends, and promise {} is not kept.", violation.rule)
        } else {
            let node = violation.node.map(|node| format!(" at node {node}"));
            format!("Rule {} breaks{}.", violation.rule, node.unwrap_or_default())
        };
        add(t, "broken", text, false);
    } else if let Some(last) = deeds.iter().map(|deed| deed.to).max() {
        let from = film.healed.unwrap_or(last);
        if let Some(at) = film.views.agreed_from(from, film.end) {
            let again = match at - from {
                0 => "Everything is mended, and everyone sees everyone who runs.".to_owned(),
                after => {
                    format!("Everyone sees everyone who runs, {} after the repair.", time(after))
                }
            };
            add(at, "agree", again, false);
        }
    }
    chapters.sort_by_key(|chapter| chapter.t);
    if chapters.len() > CHAPTERS_MAX {
        chapters.retain(|chapter| !chapter.is_minor);
    }
    while chapters.len() > CHAPTERS_MAX {
        // The middle of a long story says least.
        chapters.remove(chapters.len() / 2);
    }
    chapters
}

/// When each side of a partition knew of it.
fn notices(film: &Film, add: &mut impl FnMut(u64, &'static str, String, bool)) {
    for notice in film.noticed.iter().filter(|notice| !notice.is_spoiled) {
        let Some(from) = film.spans[notice.fault].from else { continue };
        for (side, at) in notice.sides.iter().zip(&notice.at) {
            let Some(at) = at.filter(|at| *at > from) else { continue };
            let text = format!(
                "{} gave up whom they cannot reach, {} after the cut. They answer for themselves.",
                words::the_nodes(side),
                time(at - from)
            );
            add(at, "notice", text, false);
        }
    }
}

/// When a node that ended, or came, was known to all. Before anything was done, at `begun`, nodes
/// only find each other.
fn verdicts(
    film: &Film,
    plan: &Plan,
    begun: u64,
    add: &mut impl FnMut(u64, &'static str, String, bool),
) {
    let touched: Vec<usize> = plan
        .faults
        .iter()
        .filter_map(|timed| match timed.fault {
            Fault::Crash { node, .. }
            | Fault::Leave { node, .. }
            | Fault::Start { node }
            | Fault::Pause { node } => Some(node),
            _ => None,
        })
        .collect();
    let is_minor = touched.len() > 3;
    for verdict in film.views.verdicts.iter().filter(|verdict| touched.contains(&verdict.about)) {
        let Some(since) = since(film, verdict.about, verdict.t) else { continue };
        if since < begun || since == verdict.t {
            continue;
        }
        let text = if verdict.there {
            format!("All know node {} again, after {}.", verdict.about, time(verdict.t - since))
        } else {
            format!(
                "Nobody lists node {} any more, after {}.",
                verdict.about,
                time(verdict.t - since)
            )
        };
        add(verdict.t, if verdict.there { "agree" } else { "notice" }, text, is_minor);
    }
}

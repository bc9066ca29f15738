//! The page around the picture.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::outcome::{Outcome, Violation};
use crate::plan::Plan;
use crate::render::film::Film;
use crate::render::scene::Scene;
use crate::render::story;
use crate::render::words::{self, Class, time};
use crate::rules;
use crate::trace::{Record, What};

const STYLE: &str = include_str!("assets/page.css");
const SCRIPTS: [&str; 5] = [
    include_str!("assets/data.js"),
    include_str!("assets/draw.js"),
    include_str!("assets/heat.js"),
    include_str!("assets/now.js"),
    include_str!("assets/control.js"),
];
/// Nothing may be loaded from anywhere; pictures made on the page itself are fine.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      img-src data: blob:";

/// Terms of the legend: word, swatch, what it means.
const TERMS: [(&str, &str, &str); 8] = [
    (
        "lists everyone who runs",
        "right",
        "A bar is a node's life. In this colour, its list of members \
      is exactly the nodes that run. Bars of one colour have the same list.",
    ),
    ("changing its mind", "changing", "The list of members changes several times within a moment."),
    (
        "does not run",
        "dark",
        "The process was killed, has left, or has not started yet. A circle is \
      a start, a cross a kill.",
    ),
    (
        "link is cut",
        "cut",
        "Between lanes that are hatched nothing gets through, in the direction \
      of the arrowheads, or in both.",
    ),
    (
        "messages",
        "thread",
        "What nodes send to each other. Zoom in to see each message as an arrow \
      from its sender to its receiver.",
    ),
    ("lost message", "lost", "A message that did not arrive ends soon after its sender."),
    (
        "missing",
        "missing",
        "A producer of a topic exists, and the node does not list it: consumers \
      that ask this node do not find it.",
    ),
    (
        "phantom",
        "phantom",
        "The node lists a producer of a topic that is gone: consumers that ask \
      this node try to connect in vain.",
    ),
];

/// The whole page.
pub(super) fn page(film: &Film, plan: &Plan, outcome: &Outcome) -> String {
    let scene = Scene::new(film, plan, outcome);
    let headline = story::headline(film, plan, outcome);
    let script = format!("(() => {{\n'use strict';\n{}\n}})();", SCRIPTS.concat());
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="description" content=(headline);
                title { (plan.name) " \u{b7} seed " (seed(plan)) " \u{b7} Grapevine simulation" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                div class="page" {
                    (head(film, plan, outcome, &headline))
                    main {
                        (stage(&scene))
                        div class="below" {
                            @if let Some(violation) = &outcome.violation {
                                (broken(film, violation))
                            }
                            (chapters(film, plan, outcome))
                            (how())
                            (traffic(film))
                            (again(film, plan, outcome))
                        }
                    }
                    footer {
                        "Made by " code { "grapevine simulate" } ". This file needs nothing \
                         else: no network, no server. Its colours can be told apart by \
                         colour-blind people."
                    }
                }
                script type="application/json" id="run" { (PreEscaped(scene.json())) }
                script { (PreEscaped(script)) }
            }
        }
    }
    .into_string()
}

fn seed(plan: &Plan) -> String {
    format!("{:#x}", plan.seed)
}

fn head(film: &Film, plan: &Plan, outcome: &Outcome, headline: &str) -> Markup {
    html! {
        header {
            p class="eyebrow" {
                @match &outcome.violation {
                    None => span class="verdict" { "All rules held" },
                    Some(violation) => {
                        @let what = if violation.is_promise() { "Promise" } else { "Rule" };
                        span class="verdict broken" { (what) " " (violation.rule) " broke" }
                    }
                }
                b { (plan.name) }
                span { "seed " (seed(plan)) }
                span { (words::count(plan.nodes as u64)) " nodes" }
                span { (time(film.end)) " simulated" }
                span { (words::count(outcome.stats.events)) " events" }
            }
            h1 { (headline) }
            dl class="figures" {
                @for (label, value, meaning) in story::figures(film, plan, outcome) {
                    div { dt { (term(label, meaning)) } dd { (value) } }
                }
            }
        }
    }
}

/// A word that explains itself when pointed at, tapped or focused.
fn term(word: &str, meaning: &str) -> Markup {
    html! { span class="term" tabindex="0" { (word) span role="tooltip" { (meaning) } } }
}

fn stage(scene: &Scene) -> Markup {
    let mut classes: Vec<&str> = scene.faults.iter().map(|fault| fault.c).collect();
    classes.sort_unstable();
    classes.dedup();
    html! {
        section aria-label="The run" {
            div class="bar-of-hands" {
                button id="play" type="button" aria-pressed="false" { "Play" }
                input id="scrub" type="range" min="0" max="1" step="any" value="0"
                    aria-label="Time";
                div class="zooms" {
                    button id="out" type="button" aria-label="Zoom out" { "\u{2212}" }
                    button id="in" type="button" aria-label="Zoom in" { "+" }
                    button id="near" type="button" { "2 s here" }
                    button id="whole" type="button" { "Whole run" }
                    button id="export" type="button" { "Save SVG" }
                }
            }
            div class="stage" {
                figure {
                    div id="plots" tabindex="0" role="group"
                        aria-label="The run. Arrow keys move the time, plus and minus zoom." {
                        canvas id="heat" aria-hidden="true" {}
                        svg id="picture" class="picture" xmlns="http://www.w3.org/2000/svg" {}
                        div id="hint" class="hint" hidden {}
                    }
                    (legend(scene, &classes))
                    p class="help" {
                        "Click or drag to choose a time. Zoom with a double click, a pinch or "
                        kbd { "Ctrl" } " + wheel, or with " kbd { "+" } " " kbd { "\u{2212}" }
                        "; when zoomed, drag to move. "
                        kbd { "\u{2190}" } " " kbd { "\u{2192}" } " move the time, "
                        kbd { "0" } " shows all, " kbd { "Space" } " plays."
                    }
                    noscript { p { "The diagram needs JavaScript. The story below does not." } }
                }
                aside class="now" aria-label="At the chosen time" {
                    p class="big" {
                        span id="clock" {}
                        span class="small" { span id="share" {} " agreement" }
                    }
                    ul id="active" {}
                    div id="ring" {}
                    ul id="words" aria-live="polite" {}
                }
            }
        }
    }
}

fn legend(scene: &Scene, classes: &[&str]) -> Markup {
    html! {
        ul class="legend" {
            @for (word, swatch, meaning) in TERMS {
                @if swatch != "cut" || classes.contains(&"cut") {
                    li { i class={ "swatch " (swatch) } {} (term(word, meaning)) }
                }
                @if swatch == "right" {
                    @for (index, view) in scene.views.iter().enumerate() {
                        li { i class={ "swatch view" (index) } {} "lists " (view.text) }
                    }
                }
            }
            @for class in Class::ALL {
                @if class != Class::Cut && classes.contains(&class.id()) {
                    li { i class={ "swatch " (class.id()) } {} (class.name()) }
                }
            }
        }
    }
}

fn chapters(film: &Film, plan: &Plan, outcome: &Outcome) -> Markup {
    html! {
        section {
            h2 { "What happened" }
            ol id="story" {
                @for chapter in story::chapters(film, plan, outcome) {
                    li class=(chapter.class) {
                        button type="button" data-t=(chapter.t / 1_000_000) { (time(chapter.t)) }
                        span { (chapter.text) }
                    }
                }
            }
        }
    }
}

fn how() -> Markup {
    html! {
        section {
            h2 { "How nodes find out" }
            ol class="how" {
                li {
                    b { "Ask." } " Nobody is in charge. About twice a second each node asks one \
                    other: are you there? If no answer comes, it has some others ask as well, in \
                    case only its own link is bad."
                }
                li {
                    b { "Suspect." } " Still no answer, and the node tells everyone it suspects \
                    the silent one, which has some seconds to object. Then it counts as down. \
                    That is why a cut is noticed only after about five seconds; a process that \
                    was killed is noticed faster, since its machine refuses the question."
                }
                li {
                    b { "Tell." } " News travels like a rumour, from node to node, and reaches \
                    everyone in a fraction of a second. Nodes also compare what they know, so what \
                    a lost message took away is found again."
                }
                li {
                    b { "Come back." } " The lost are asked again every few seconds, for ever. So \
                    both sides of a healed cut find each other without help."
                }
            }
        }
    }
}

/// Kinds of messages listed by name; the rest is small.
const KINDS_MAX: usize = 7;

fn traffic(film: &Film) -> Markup {
    let mut kinds: Vec<_> = film.traffic.kinds.iter().collect();
    kinds.sort_by_key(|(name, (_, bytes))| (std::cmp::Reverse(*bytes), **name));
    let rest: Vec<_> = kinds.drain(KINDS_MAX.min(kinds.len())..).collect();
    let sum = |pick: fn(&(u64, u64)) -> u64| rest.iter().map(|(_, sums)| pick(sums)).sum::<u64>();
    let (rest_number, rest_bytes) = (sum(|it| it.0), sum(|it| it.1));
    html! {
        @if !kinds.is_empty() {
            section {
                h2 { "What was sent" }
                div class="scroll" { table {
                    thead { tr {
                        th { "Message" } th class="n" { "Number" } th class="n" { "Bytes" }
                    } }
                    tbody {
                        @for (name, (number, bytes)) in kinds {
                            tr {
                                td { (name) }
                                td class="n" { (words::count(*number)) }
                                td class="n" { (words::count(*bytes)) }
                            }
                        }
                        @if rest_number > 0 {
                            tr {
                                td { "others" }
                                td class="n" { (words::count(rest_number)) }
                                td class="n" { (words::count(rest_bytes)) }
                            }
                        }
                        @for (reason, number) in &film.traffic.reasons {
                            tr {
                                td class="bad" { "lost: " (reason) }
                                td class="n" { (words::count(*number)) }
                                td {}
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn again(film: &Film, plan: &Plan, outcome: &Outcome) -> Markup {
    html! {
        section {
            h2 { "See it again" }
            p { "A run depends on its scenario and its seed alone. The same two give the same run, \
                 message by message; the fingerprint proves it." }
            @match film.words.as_deref() {
                Some(command) => pre { "grapevine " (command) },
                None => pre {
                    "grapevine simulate run " (plan.name) " --seed " (seed(plan)) " --html run.html"
                },
            }
            p class="small" { "Fingerprint " code { (format!("{:016x}", outcome.hash)) } }
        }
    }
}

fn broken(film: &Film, violation: &Violation) -> Markup {
    let fields: Vec<(&str, &str)> =
        violation.what.split_whitespace().filter_map(|field| field.split_once('=')).collect();
    html! {
        section class="wide broken-box" {
            h2 {
                (if violation.is_promise() { "Promise " } else { "Rule " })
                (violation.rule) ": " (violation.name.replace('-', " "))
            }
            @if let Some(rule) = rules::all().find(|rule| rule.id == violation.rule) {
                p { (rule.meaning) }
            }
            p { code { (violation.what) } }
            @if !violation.is_promise() {
                p {
                    @match violation.node {
                        Some(node) => { "At node " (node) ", after " }
                        None => { "At no node that is known, after " }
                    }
                    (time(violation.at.as_nanos() as u64)) ". "
                    button type="button" id="close" { "Show the moment" }
                }
                @if let Some(node) = violation.node {
                    (two_views(film, node, &fields))
                }
                (why(film))
            }
        }
    }
}

/// What the node held, where it differs from what its owners had written.
fn two_views(film: &Film, node: usize, fields: &[(&str, &str)]) -> Markup {
    if film.applied.is_empty() || node >= film.nodes {
        return html! {};
    }
    let owner = |name: &str| fields.iter().any(|(key, value)| *key == "owner" && *value == name);
    let is_right = |other: usize| {
        film.views.believes(node, other) == film.views.runs(other)
            && film.applied[node * film.nodes + other].1 == film.written[other]
    };
    let others = (0..film.nodes).filter(|other| *other != node);
    let (rows, right): (Vec<usize>, Vec<usize>) =
        others.partition(|other| !is_right(*other) || owner(&other.to_string()));
    let more = rows.len().saturating_sub(ROWS_MAX);
    html! {
        h2 { "What node " (node) " held, and what was so" }
        div class="scroll" { table {
            thead { tr {
                th { "Node" } th { "Node " (node) " held it for" } th { "It was" }
                th class="n" { "Version held" } th class="n" { "Version written" }
            } }
            tbody {
                @for other in rows.into_iter().take(ROWS_MAX) {
                    @let held = film.views.believes(node, other);
                    @let runs = film.views.runs(other);
                    @let version = film.applied[node * film.nodes + other].1;
                    tr {
                        td class=[owner(&other.to_string()).then_some("bad")] { (other) }
                        td class=[(held != runs).then_some("bad")] {
                            (if held { "a member" } else { "no member" })
                        }
                        td { (if runs { "running" } else { "not running" }) }
                        td class=(if version == film.written[other] { "n" } else { "n bad" }) {
                            (version)
                        }
                        td class="n" { (film.written[other]) }
                    }
                }
            }
        } }
        p class="small" {
            @if more > 0 { (words::count(more as u64)) " more differ. " }
            @if !right.is_empty() {
                "About " (words::the_nodes(&right)) " it was right in every respect."
            }
        }
    }
}

/// Rows of the table of two views; more are only counted.
const ROWS_MAX: usize = 40;

fn why(film: &Film) -> Markup {
    let Some(cone) = film.cone.as_ref().filter(|cone| !cone.why.is_empty()) else {
        return html! {};
    };
    html! {
        h2 { "What led to it" }
        p class="small" {
            "The last events that could have had a part in it, oldest first. Their messages are \
             thick in the diagram."
        }
        div class="scroll" { table {
            thead { tr { th { "Time" } th { "Node" } th { "Event" } } }
            tbody {
                @for record in &cone.why {
                    tr {
                        td {
                            button type="button" class="jump" data-t=(record.t as f64 / 1e6) {
                                (format!("{:.3} s", record.t as f64 / 1e9))
                            }
                        }
                        td { @if let Some(node) = record.n { (node) } }
                        td { (event(record)) }
                    }
                }
            }
        } }
    }
}

/// An event in words.
pub(super) fn event(record: &Record) -> String {
    match &record.what {
        What::Send { to, msg, sz, .. } => format!("sends {msg} to node {to} ({sz} B)"),
        What::Recv { from, msg, sz, .. } => format!("receives {msg} from node {from} ({sz} B)"),
        What::Drop { from, msg, reason, .. } => format!("{msg} from node {from} is lost: {reason}"),
        What::Timer => "timers fire".into(),
        What::Member { about, to } => format!("takes node {about} for {to}"),
        What::Write { key, live, ver } => {
            format!("{} {key} (version {ver})", if *live { "creates" } else { "deletes" })
        }
        What::Apply { owner, epoch, ver } => {
            format!("holds node {owner}'s section at version {ver} of epoch {epoch}")
        }
        What::Life { to, epoch } => format!("{to} (epoch {epoch})"),
        What::Fault { index, begins } => {
            format!("fault {index} {}", if *begins { "begins" } else { "ends" })
        }
        What::Heal => "everything is mended".into(),
        What::Persist { epoch } => format!("epoch {epoch} is on its disk"),
        What::Broker { op, message } => format!("{op} message {message}"),
    }
}

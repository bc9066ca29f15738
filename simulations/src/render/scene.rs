//! A film as the data that the page draws: columns of whole numbers, since those are short in JSON.
//!
//! Times are ms from the start, those of messages µs; lists of times hold differences.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::outcome::Outcome;
use crate::plan::{Fault, Plan};
use crate::render::cuts::{self, LANES_MAX};
use crate::render::film::{Film, class_of};
use crate::render::story;
use crate::render::traffic::{Fate, Traffic};
use crate::render::views::Sight;
use crate::render::words;

/// Views that get a colour of their own; the palette has no more that everyone can tell apart.
const VIEWS_SHOWN: usize = 5;
/// Codes of sights in the page: dark, right, changing, some other view; from here on coloured ones.
const SIGHT_FIRST: i64 = 3;

/// Everything the page draws.
#[derive(Debug, Serialize)]
pub(super) struct Scene {
    name: String,
    n: usize,
    end: u64,
    heal: Option<u64>,
    /// Nodes in the order of lanes.
    order: Vec<usize>,
    groups: Vec<Group>,
    /// Lanes are groups.
    pub grouped: bool,
    pub faults: Vec<FaultBand>,
    /// For each node: time, what (see [`life_code`]), epoch, time, ...
    lives: Vec<Vec<u64>>,
    /// For each node: time, sight, time, sight, ...
    pub sights: Vec<Vec<i64>>,
    pub views: Vec<ViewName>,
    changes: Option<Changes>,
    heat: HeatPlanes,
    bundles: Bundles,
    msgs: Messages,
    /// From, to, from, to: where single messages are complete; `None`: everywhere.
    windows: Option<Vec<u64>>,
    chapters: Vec<ChapterPoint>,
    broken: Option<Broken>,
}

#[derive(Debug, Serialize)]
struct Group {
    label: String,
    nodes: Vec<usize>,
}

/// A fault as a band.
#[derive(Debug, Serialize)]
pub(super) struct FaultBand {
    /// Class.
    pub c: &'static str,
    /// Name.
    pub label: String,
    /// What it does.
    pub text: String,
    /// Cause; faults of one share a row.
    pub g: u32,
    /// From.
    pub a: u64,
    /// To.
    pub b: u64,
    /// Nodes; empty: all.
    pub nodes: Vec<usize>,
    /// Between lanes: 0 open, 1 cut, 2 cut downwards, 3 cut upwards.
    pub gaps: Vec<u8>,
    /// For each node: whom its messages do not reach.
    pub blocked: Vec<String>,
}

/// A set of members with a colour.
#[derive(Debug, Serialize)]
pub(super) struct ViewName {
    /// Which, in words.
    pub text: String,
    members: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Changes {
    t: Vec<u64>,
    node: Vec<u32>,
    about: Vec<u32>,
    to: Vec<u8>,
    cut_short: bool,
}

/// Planes are, for each node, value, run length, value, run length, ...
#[derive(Debug, Serialize)]
struct HeatPlanes {
    dt: f64,
    cols: usize,
    phantom: Vec<Vec<u32>>,
    missing: Vec<Vec<u32>>,
    members: Vec<Vec<u32>>,
    /// In thousandths.
    agreement: Vec<u32>,
    /// Per node and second.
    bytes: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Bundles {
    dt: f64,
    width: usize,
    ends: Vec<u32>,
    /// From, to, arrived, lost; the last two in runs.
    pairs: Vec<(usize, usize, Vec<u32>, Vec<u32>)>,
}

#[derive(Debug, Serialize)]
struct Messages {
    kinds: Vec<String>,
    reasons: Vec<&'static str>,
    sent: Vec<u64>,
    took: Vec<u64>,
    from: Vec<u32>,
    to: Vec<u32>,
    kind: Vec<usize>,
    size: Vec<u32>,
    /// 0 arrived, -1 on its way at the end, otherwise 1 + reason.
    fate: Vec<i64>,
    /// Indices of those in the causal cone.
    cone: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct ChapterPoint {
    t: u64,
    c: &'static str,
    text: String,
}

#[derive(Debug, Serialize)]
struct Broken {
    t: u64,
    /// `None`: no node in particular broke it, or which one is not known.
    node: Option<usize>,
    rule: String,
}

/// ns to ms.
const fn ms(ns: u64) -> u64 {
    ns / 1_000_000
}

impl Scene {
    /// Of a film.
    pub(super) fn new(film: &Film, plan: &Plan, outcome: &Outcome) -> Self {
        let grouped = film.nodes > LANES_MAX;
        let (views, codes) = coloured_views(film);
        let lanes: Vec<usize> = if grouped {
            film.groups.iter().filter_map(|(_, nodes)| nodes.first().copied()).collect()
        } else {
            film.order()
        };
        Self {
            name: plan.name.clone(),
            n: film.nodes,
            end: ms(film.end).max(1),
            heal: film.healed.map(ms),
            order: film.order(),
            groups: film
                .groups
                .iter()
                .map(|(label, nodes)| Group { label: label.clone(), nodes: nodes.clone() })
                .collect(),
            grouped,
            faults: bands(film, plan, &lanes),
            lives: film
                .lives
                .iter()
                .map(|life| {
                    life.iter().flat_map(|(t, to, epoch)| [ms(*t), life_code(to), *epoch]).collect()
                })
                .collect(),
            sights: film.views.sights.iter().map(|sights| coded(sights, &codes)).collect(),
            views,
            changes: changes(film),
            heat: heat(film),
            bundles: bundles(&film.traffic),
            msgs: messages(film, grouped),
            windows: film.traffic.is_windowed.then(|| {
                film.traffic.windows.iter().flat_map(|(from, to)| [ms(*from), ms(*to)]).collect()
            }),
            chapters: story::chapters(film, plan, outcome)
                .into_iter()
                .map(|chapter| ChapterPoint {
                    t: ms(chapter.t),
                    c: chapter.class,
                    text: chapter.text,
                })
                .collect(),
            broken: outcome.violation.as_ref().map(|violation| Broken {
                t: violation.at.as_millis() as u64,
                node: violation.node,
                rule: violation.rule.clone(),
            }),
        }
    }

    /// As JSON that may stand inside a `script` element.
    pub(super) fn json(&self) -> String {
        // Only strings of the plan can contain it, and they can be escaped like this.
        serde_json::to_string(self).unwrap_or_default().replace('<', "\\u003c")
    }
}

const fn life_code(to: &str) -> u64 {
    match to.as_bytes() {
        b"up" => 1,
        b"left" => 2,
        b"paused" => 3,
        b"resumed" => 4,
        _ => 0,
    }
}

/// The views that were held longest by most, and the code of each.
fn coloured_views(film: &Film) -> (Vec<ViewName>, BTreeMap<u64, i64>) {
    let mut held: BTreeMap<u64, u64> = BTreeMap::new();
    for sights in &film.views.sights {
        for (index, (since, sight)) in sights.iter().enumerate() {
            if let Sight::Other(print) = sight {
                let until = sights.get(index + 1).map_or(film.end, |(until, _)| *until);
                *held.entry(*print).or_default() += until.saturating_sub(*since);
            }
        }
    }
    let least = film.end * film.nodes as u64 / 200;
    let mut most: Vec<(u64, u64)> = held
        .into_iter()
        .filter(|(print, time)| *time > least && film.views.members.contains_key(print))
        .map(|(print, time)| (time, print))
        .collect();
    most.sort_unstable_by(|one, other| other.cmp(one));
    most.truncate(VIEWS_SHOWN);
    let mut views = Vec::new();
    let mut codes = BTreeMap::new();
    for (_, print) in most {
        codes.insert(print, SIGHT_FIRST + views.len() as i64);
        let members = film.views.members[&print].clone();
        let list: Vec<usize> = members.iter().map(|member| *member as usize).collect();
        views.push(ViewName { text: words::nodes(&list).replace(" and ", ", "), members });
    }
    (views, codes)
}

fn coded(sights: &[(u64, Sight)], codes: &BTreeMap<u64, i64>) -> Vec<i64> {
    let mut flat: Vec<i64> = Vec::with_capacity(sights.len() * 2);
    for (t, sight) in sights {
        let code = match sight {
            Sight::Dark => -1,
            Sight::Right => 0,
            Sight::Changing => 1,
            Sight::Other(print) => codes.get(print).copied().unwrap_or(2),
        };
        if flat.last() != Some(&code) {
            flat.extend([ms(*t) as i64, code]);
        }
    }
    flat
}

fn bands(film: &Film, plan: &Plan, lanes: &[usize]) -> Vec<FaultBand> {
    let mut bands = Vec::new();
    for (index, timed) in plan.faults.iter().enumerate() {
        let Some((from, to)) = film.span(plan, index) else { continue };
        let (mut gaps, mut blocked) = (Vec::new(), Vec::new());
        if let Fault::Partition(partition) = &timed.fault {
            let blocks = |from, to| cuts::blocks(partition, plan.nodes, from, to);
            gaps = lanes
                .windows(2)
                .map(|pair| match (blocks(pair[0], pair[1]), blocks(pair[1], pair[0])) {
                    (false, false) => 0,
                    (true, true) => 1,
                    (true, false) => 2,
                    (false, true) => 3,
                })
                .collect();
            if plan.nodes <= LANES_MAX {
                blocked = (0..plan.nodes)
                    .map(|node| (0..plan.nodes).filter(|to| blocks(node, *to)).collect::<Vec<_>>())
                    .map(|far| if far.is_empty() { String::new() } else { words::all_nodes(&far) })
                    .collect();
            }
        }
        bands.push(FaultBand {
            c: class_of(plan, index).id(),
            label: if gaps.is_empty() || timed.label.contains("partition") {
                timed.label.clone()
            } else {
                format!("partition: {}", timed.label)
            },
            text: words::sentence(&words::fault(timed, plan)),
            g: timed.group,
            a: ms(from),
            b: ms(to),
            nodes: words::touched(&timed.fault),
            gaps,
            blocked,
        });
    }
    bands
}

/// Differences of a growing list.
fn steps(times: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut last = 0;
    times
        .map(|time| {
            let step = time - last;
            last = time;
            step
        })
        .collect()
}

fn changes(film: &Film) -> Option<Changes> {
    let all = &film.views.changes;
    (!all.is_empty()).then(|| Changes {
        t: steps(all.iter().map(|change| ms(change.t))),
        node: all.iter().map(|change| change.node).collect(),
        about: all.iter().map(|change| change.about).collect(),
        to: all.iter().map(|change| change.to).collect(),
        cut_short: film.views.is_cut_short,
    })
}

/// Value and how often it follows itself.
fn runs(values: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut flat: Vec<u32> = Vec::new();
    for value in values {
        match flat.last_chunk_mut::<2>() {
            Some([last, count]) if *last == value => *count += 1,
            _ => flat.extend([value, 1]),
        }
    }
    flat
}

/// Beyond this many nodes numbers keep their first two bits only: nobody reads single cells there,
/// and runs get long.
const EXACT_NODES_MAX: usize = 60;

fn heat(film: &Film) -> HeatPlanes {
    let heat = &film.heat;
    let rough = |value: u16| {
        let value = u32::from(value);
        if film.nodes <= EXACT_NODES_MAX || value < 4 {
            return value;
        }
        let shift = 30 - value.leading_zeros();
        (value >> shift) << shift
    };
    let plane = |pick: fn(&crate::render::heat::Column) -> &Vec<u16>| -> Vec<Vec<u32>> {
        (0..film.nodes)
            .map(|node| {
                let value = |column| pick(column).get(node).copied().unwrap_or(0);
                runs(heat.columns.iter().map(|column| rough(value(column))))
            })
            .collect()
    };
    let seconds = heat.width as f64 / 1e9;
    HeatPlanes {
        dt: heat.width as f64 / 1e6,
        cols: heat.columns.len(),
        phantom: plane(|column| &column.phantom),
        missing: plane(|column| &column.missing),
        members: if film.nodes <= super::views::DETAIL_NODES_MAX {
            plane(|column| &column.members)
        } else {
            spread(film)
        },
        agreement: heat.columns.iter().map(|it| (it.agreement * 1e3).floor() as u32).collect(),
        bytes: heat
            .columns
            .iter()
            .map(|column| (column.bytes as f64 / film.nodes as f64 / seconds).round() as u32)
            .collect(),
    }
}

/// Of many nodes, only who sees least, the one in the middle, and who sees most.
fn spread(film: &Film) -> Vec<Vec<u32>> {
    let mut least = Vec::new();
    let mut middle = Vec::new();
    let mut most = Vec::new();
    for column in &film.heat.columns {
        let mut seen: Vec<u16> = column.members.iter().copied().filter(|seen| *seen > 0).collect();
        seen.sort_unstable();
        let at = |index: usize| u32::from(seen.get(index).copied().unwrap_or(0));
        least.push(at(0));
        middle.push(at(seen.len() / 2));
        most.push(at(seen.len().saturating_sub(1)));
    }
    [least, middle, most].into_iter().map(|line| runs(line.into_iter())).collect()
}

fn bundles(traffic: &Traffic) -> Bundles {
    let width = traffic.width;
    let slices = traffic.arrived.len().max(traffic.lost.len());
    let mut pairs = Vec::new();
    for pair in 0..width * width {
        let line = |rows: &[Vec<u32>]| {
            runs((0..slices).map(|slice| rows.get(slice).map_or(0, |row| row[pair])))
        };
        let (arrived, lost) = (line(&traffic.arrived), line(&traffic.lost));
        let is_empty = |line: &[u32]| line.len() <= 2 && line.first().is_none_or(|it| *it == 0);
        if pair / width != pair % width && !(is_empty(&arrived) && is_empty(&lost)) {
            pairs.push((pair / width, pair % width, arrived, lost));
        }
    }
    Bundles { dt: traffic.slice as f64 / 1e6, width, ends: traffic.ends.clone(), pairs }
}

/// Single messages; where lanes are groups nobody sees them, except what led to a broken rule.
fn messages(film: &Film, grouped: bool) -> Messages {
    let is_cause = |id: u64| film.cone.as_ref().is_some_and(|cone| cone.messages.contains(&id));
    let kept = film.traffic.kept.iter().filter(|message| !grouped || is_cause(message.id));
    let kept: Vec<_> = kept.collect();
    let mut kinds: Vec<String> = Vec::new();
    let mut reasons: Vec<&'static str> = Vec::new();
    let mut kind = Vec::with_capacity(kept.len());
    let mut fate = Vec::with_capacity(kept.len());
    for message in &kept {
        let name = format!("{}{}", message.kind, if message.stream { " (stream)" } else { "" });
        kind.push(index_of(&mut kinds, name));
        fate.push(match message.fate {
            Fate::Flying => -1,
            Fate::Arrived => 0,
            Fate::Lost(reason) => 1 + index_of(&mut reasons, reason) as i64,
        });
    }
    Messages {
        kinds,
        reasons,
        sent: steps(kept.iter().map(|message| message.sent / 1_000)),
        took: kept.iter().map(|message| (message.done - message.sent) / 1_000).collect(),
        from: kept.iter().map(|message| message.from).collect(),
        to: kept.iter().map(|message| message.to).collect(),
        kind,
        size: kept.iter().map(|message| message.size).collect(),
        fate,
        cone: (0..kept.len()).filter(|at| is_cause(kept[*at].id)).collect(),
    }
}

fn index_of<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|there| *there == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

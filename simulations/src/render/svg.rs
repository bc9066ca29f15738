//! The diagram and the heat map alone, as one picture for reports.

use std::fmt::Write as _;

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::render::cuts::LANES_MAX;
use crate::render::film::Film;
use crate::render::heat::Column;
use crate::render::scene::{FaultBand, Scene};
use crate::render::{story, words};

/// Width of the picture, in points of the screen.
const WIDTH: f64 = 1_100.0;
/// Where time begins and ends.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 16.0;
/// Rows of the heat map that still can be seen.
const HEAT_ROWS_MAX: usize = 264;
/// Letters of a line of the headline.
const HEADLINE_CHARS: usize = 104;

const STYLE: &str = "
text{font:12px Inter,'Segoe UI',system-ui,sans-serif;fill:#16202a}.h{font-size:17px;font-weight:600}
.s{font-size:11.5px;fill:#5a6875}.b{font-weight:600}
.w{fill:#fff;font-weight:600;font-size:11.5px}.d{fill:#2b1d00}
.g{stroke:#eceff2}.e{stroke-dasharray:2 3;opacity:.7}.n{stroke:#dfe4e9;stroke-dasharray:1 4}
.k0{fill:#3d86c6}.k1{fill:#c2cad2}.k2{fill:#6c7783}.k3{fill:#e9a21b}.k4{fill:#1d7a5f}
.k5{fill:#8b3f8f}.k6{fill:#d2667c}.k7{fill:#7a5c3e}
.cut{fill:#d33f49;stroke:#d33f49}.link{fill:#b7791f;stroke:#b7791f}
.crash{fill:#1f2933;stroke:#1f2933}
.pause{fill:#64748b;stroke:#64748b}.move{fill:#0f8b8d;stroke:#0f8b8d}
.machine{fill:#8a5a44;stroke:#8a5a44}.other{fill:#7b8794;stroke:#7b8794}
.f{stroke:none}.band{stroke:none;fill-opacity:.09}.miss{fill:#542788}.ghost{fill:#e66101}";

/// One of the planes of the heat map.
type Plane = fn(&Column) -> &Vec<u16>;

/// Draws from top to bottom.
struct Sheet<'a> {
    film: &'a Film,
    scene: &'a Scene,
    /// ms of the run.
    end: f64,
    y: f64,
    out: String,
}

/// The picture.
pub(super) fn svg(film: &Film, plan: &Plan, outcome: &Outcome) -> String {
    let scene = Scene::new(film, plan, outcome);
    let end = (film.end as f64 / 1e6).max(1.0);
    let mut sheet = Sheet { film, scene: &scene, end, y: 30.0, out: String::new() };
    for line in wrapped(&story::headline(film, plan, outcome)) {
        sheet.text(LEFT, sheet.y, "h", "start", &line);
        sheet.y += 23.0;
    }
    let facts = format!(
        "{}, seed {:#x}, {} nodes, {}",
        plan.name,
        plan.seed,
        plan.nodes,
        words::time(film.end)
    );
    sheet.text(LEFT, sheet.y, "s", "start", &facts);
    sheet.y += 20.0;
    let top = sheet.y;
    sheet.faults();
    sheet.axis();
    if film.nodes <= LANES_MAX {
        sheet.lanes();
    }
    sheet.heat();
    let bottom = sheet.y;
    let grid = sheet.grid(top, bottom);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{title}</title>\
         <style>{STYLE}</style><defs><pattern id=\"x\" width=\"6\" height=\"6\" \
         patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <path d=\"M0 0V6\" stroke=\"#d33f49\" stroke-width=\"2\" opacity=\".7\"/></pattern></defs>\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>{grid}{}</svg>\n",
        sheet.out,
        height = bottom + 16.0,
        title = escaped(&plan.name),
    )
}

impl Sheet<'_> {
    fn x(&self, ms: f64) -> f64 {
        LEFT + ms / self.end * (WIDTH - LEFT - RIGHT)
    }

    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
        let text = escaped(text);
        let _ = write!(
            self.out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" \
             text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    fn rect(&mut self, class: &str, (from, to): (f64, f64), y: f64, height: f64, more: &str) {
        let (x, width) = (self.x(from), (self.x(to) - self.x(from)).max(1.0));
        let _ = write!(
            self.out,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"{more}/>"
        );
    }

    /// A row for each cause, such that none covers another; the last of its faults is named.
    fn faults(&mut self) {
        let scene = self.scene;
        let mut causes: Vec<Vec<&FaultBand>> = Vec::new();
        for fault in &scene.faults {
            match causes.iter_mut().find(|of| (of[0].g, of[0].c) == (fault.g, fault.c)) {
                Some(cause) => cause.push(fault),
                None => causes.push(vec![fault]),
            }
        }
        let mut ends: Vec<f64> = Vec::new();
        let base = self.y;
        for cause in &causes {
            let (from, to) = cause.iter().fold((f64::MAX, 0.0_f64), |(from, to), fault| {
                (from.min(fault.a as f64), to.max(fault.b as f64))
            });
            let row = ends.iter().position(|end| *end <= from).unwrap_or(ends.len());
            let label = match cause.len() {
                1 => cause[0].label.clone(),
                times => format!("{} \u{d7} {times}", cause[0].label),
            };
            let room = label.chars().count() as f64 * 7.0 + 12.0;
            let is_inside = cause.len() == 1 && self.x(to) - self.x(from) > room;
            let stop = if is_inside { to } else { to + room / (WIDTH - LEFT) * self.end };
            if row == ends.len() {
                ends.push(stop);
            } else {
                ends[row] = stop;
            }
            let y = base + row as f64 * 20.0;
            for fault in cause {
                let span = (fault.a as f64, fault.b as f64);
                self.rect(&format!("f {}", fault.c), span, y, 16.0, " rx=\"3\"");
            }
            if is_inside {
                self.text(self.x(from) + 6.0, y + 12.0, "w", "start", &label);
            } else {
                self.text(self.x(to) + 5.0, y + 12.0, "s", "start", &label);
            }
        }
        self.y += ends.len() as f64 * 20.0 + 6.0;
    }

    /// Round times for marks.
    fn marks(&self) -> Vec<f64> {
        let steps = [100.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 6e4, 12e4, 3e5, 6e5, 36e5];
        let step = steps.into_iter().find(|step| self.end / step <= 12.0).unwrap_or(36e5);
        (0..=(self.end / step) as usize).map(|mark| mark as f64 * step).collect()
    }

    fn axis(&mut self) {
        for mark in self.marks() {
            let anchor = if self.x(mark) > WIDTH - 40.0 { "end" } else { "middle" };
            let text = words::time((mark * 1e6) as u64);
            self.text(self.x(mark), self.y + 10.0, "s", anchor, &text);
        }
        self.y += 18.0;
    }

    fn grid(&self, top: f64, bottom: f64) -> String {
        let mut path = String::new();
        for mark in self.marks() {
            let _ = write!(path, "M{:.1} {top:.1}V{bottom:.1}", self.x(mark));
        }
        format!("<path class=\"g\" fill=\"none\" d=\"{path}\"/>")
    }

    fn lanes(&mut self) {
        let scene = self.scene;
        let order = self.film.order();
        let pitch = if order.len() <= 12 { 36.0 } else { 16.0 };
        let bar = if order.len() <= 12 { 14.0 } else { 8.0 };
        let top = self.y;
        for fault in &scene.faults {
            let span = (fault.a as f64, fault.b as f64);
            let class = format!("band {}", fault.c);
            if fault.nodes.is_empty() {
                self.rect(&class, span, top, pitch * order.len() as f64, "");
            }
            for (row, _) in order.iter().enumerate().filter(|(_, it)| fault.nodes.contains(it)) {
                self.rect(&class, span, top + pitch * row as f64, pitch, "");
            }
            for (row, _) in fault.gaps.iter().enumerate().filter(|(_, gap)| **gap > 0) {
                let y = top + pitch * (row as f64 + 0.5) + bar / 2.0 + 1.0;
                self.rect("", span, y, pitch - bar - 2.0, " fill=\"url(#x)\"");
            }
        }
        for (row, node) in order.iter().enumerate() {
            let y = top + pitch * (row as f64 + 0.5);
            self.text(LEFT - 10.0, y + 4.0, "b", "end", &format!("node {node}"));
            let _ = write!(self.out, "<path class=\"n\" d=\"M{LEFT} {y}H{:.1}\"/>", WIDTH - RIGHT);
            self.life(&scene.sights[*node], y - bar / 2.0, bar);
        }
        let y = top + pitch * order.len() as f64 + 14.0;
        let meaning = "Blue: the node lists everyone who runs. Other colours: it lists those that \
                       are written. Grey: it is changing its mind. Hatched: the link is cut.";
        self.text(LEFT, y, "s", "start", meaning);
        self.y = y + 34.0;
    }

    fn life(&mut self, sights: &[i64], y: f64, bar: f64) {
        let mut segments = sights.chunks_exact(2).peekable();
        while let Some(segment) = segments.next() {
            let until = segments.peek().map_or(self.end, |next| next[0] as f64);
            let from = segment[0] as f64;
            if segment[1] < 0 || until <= from {
                continue;
            }
            self.rect(&format!("k{}", segment[1]), (from, until), y, bar, "");
            let view = usize::try_from(segment[1] - 3).ok().and_then(|it| self.scene.views.get(it));
            let label = view.map(|view| format!("lists {}", view.text)).unwrap_or_default();
            let room = label.chars().count() as f64 * 6.6 + 12.0;
            if !label.is_empty() && bar > 10.0 && self.x(until) - self.x(from) > room {
                let class = if segment[1] == 3 { "w d" } else { "w" };
                self.text(self.x(from) + 6.0, y + 11.0, class, "start", &label);
            }
        }
    }

    fn heat(&mut self) {
        let title = "What each node has wrong: producers it misses (violet), and lists although \
                     they are gone (orange)";
        self.text(LEFT, self.y, "b", "start", title);
        self.y += 10.0;
        let order = self.film.order();
        let rows = order.len().min(HEAT_ROWS_MAX);
        let height = if order.len() <= 24 { 12.0 } else { (260.0 / rows as f64).max(1.0) };
        let columns = &self.film.heat.columns;
        let most = |pick: Plane| columns.iter().flat_map(pick).copied().max().unwrap_or(0).max(1);
        let planes: [(&str, Plane, f64); 2] =
            [("miss", |column| &column.missing, 0.0), ("ghost", |column| &column.phantom, 0.5)];
        for (class, pick, shift) in planes {
            let most = f64::from(most(pick));
            for row in 0..rows {
                let shared = row * order.len() / rows..((row + 1) * order.len() / rows);
                let y = self.y + height * (row as f64 + shift);
                let values: Vec<u8> = columns
                    .iter()
                    .map(|column| {
                        let worst = shared.clone().map(|at| pick(column)[order[at]]).max();
                        depth(worst.unwrap_or(0), most)
                    })
                    .collect();
                self.heat_row(class, &values, y, (height - 0.5) * (1.0 - shift));
            }
        }
        if order.len() <= 24 {
            for (row, node) in order.iter().enumerate() {
                let y = self.y + height * (row as f64 + 0.5) + 4.0;
                self.text(LEFT - 10.0, y, "s", "end", &node.to_string());
            }
        }
        self.y += height * rows as f64;
    }

    fn heat_row(&mut self, class: &str, values: &[u8], y: f64, height: f64) {
        let width = self.film.heat.width as f64 / 1e6;
        let mut from = 0;
        while from < values.len() {
            let value = values[from];
            let same = values[from..].iter().take_while(|it| **it == value).count();
            if value > 0 {
                let span = (from as f64 * width, ((from + same) as f64 * width).min(self.end));
                let more = format!(" opacity=\"{:.2}\"", f64::from(value) / 10.0);
                self.rect(class, span, y, height, &more);
            }
            from += same;
        }
    }
}

/// How dark, in tenths: nothing, or from three tenths on.
fn depth(value: u16, most: f64) -> u8 {
    if value == 0 {
        return 0;
    }
    (3.0 + 7.0 * libm::log1p(f64::from(value)) / libm::log1p(most)).min(10.0) as u8
}

/// Lines of a headline.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if lines[last].is_empty() {
            lines[last].push_str(word);
        } else if lines[last].chars().count() + word.chars().count() < HEADLINE_CHARS {
            lines[last].push(' ');
            lines[last].push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

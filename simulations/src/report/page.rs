//! Reports as one page that needs nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::convergence::{Cell, Report, Unit};
use super::fidelity::{self, Row};
use super::sweep::{Figure, Sweep};
use crate::case::COMMIT;

const STYLE: &str = include_str!("page.css");

/// Nothing may be loaded from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Size of a strip, in pixels.
const STRIP: (f64, f64) = (230.0, 22.0);

/// Shortest and longest time on a strip, in seconds; its scale is logarithmic.
const STRIP_SECONDS: (f64, f64) = (0.005, 20.0);

/// Size of a chart, in pixels, and what is left free at its left and below.
const CHART: (f64, f64) = (720.0, 220.0);
const CHART_FREE: (f64, f64) = (64.0, 28.0);

/// Colours of lines in a chart; more lines begin again.
const COLOURS: usize = 4;

/// The table of what is promised, with a picture of each distribution; below it real processes, if
/// there are any.
#[must_use]
pub fn convergence(report: &Report, real: &[Row]) -> String {
    let sizes: Vec<usize> = report
        .lines
        .first()
        .map_or(Vec::new(), |(_, cells)| cells.iter().map(|c| c.nodes).collect());
    let missed = report.missed();
    let title = match missed {
        0 => "Every measured figure is within its target".to_owned(),
        1 => "One figure misses its target".to_owned(),
        _ => format!("{missed} figures miss their targets"),
    };
    let body = html! {
        p {
            "Simulated clusters on a quiet LAN (0.1 ms and an exponential 0.3 ms more each way), "
            (format!("{:.1}", report.node_days)) " node-days in " (report.runs.0) " runs. "
            "Each time is that of the event at which the last node knew. "
            "Traffic counts IP, UDP and room for encryption. Every node has 10 topics, of more "
            "than 300 nodes each has one."
        }
        p class="soft" {
            "In each picture: the bar is the middle 80 % of all readings, the gap in it their "
            "median, the thin line ends at the longest, dashes are the target. Times go from "
            "5 ms to 20 s, each step to the right by the same factor."
        }
        div class="wide" { table {
            tr { th { } @for size in &sizes { th { (size) " nodes" } } }
            @for (line, cells) in &report.lines {
                tr {
                    td class="what" { (line.what) }
                    @for cell in cells { td { (cell_markup(cell, line.unit)) } }
                }
            }
        } }
        @if !report.broken.is_empty() {
            h2 { "Rules that were broken" }
            @for broken in &report.broken {
                p { code {
                    (broken.plan.name) " seed " (broken.plan.seed) ": " (broken.violation)
                } }
            }
        }
        @if !real.is_empty() { (beside(real)) }
    };
    page(&title, &body)
}

fn cell_markup(cell: &Cell, unit: Unit) -> Markup {
    let class = match cell.is_met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "soft",
    };
    html! {
        span class=(format!("value {class}")) {
            (cell.value.map_or_else(|| "not measured".to_owned(), |value| amount(value, unit)))
        }
        @if let Some(target) = cell.target {
            span class="soft" {
                @if cell.is_met == Some(false) { " misses " } @else { " of " }
                (amount(target, unit))
            }
        }
        @if unit == Unit::PerNodeDay {
            div class="soft" { (format!("in {:.1} node-days", cell.count)) }
        }
        @if let (Unit::Seconds, Some(spread)) = (unit, cell.spread) {
            (strip(spread, cell.target))
            span class="soft" { (cell.count) " readings" }
        }
    }
}

/// A figure with its unit, for people.
pub fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value < 0.0995 => format!("{:.0} ms", value * 1e3),
        Unit::Seconds if value < 10.0 => format!("{value:.2} s"),
        Unit::Seconds => format!("{value:.1} s"),
        Unit::Bytes if value >= 999.5 => format!("{:.2} KB/s", value / 1e3),
        Unit::Bytes => format!("{value:.0} B/s"),
        Unit::PerNodeDay if value == 0.0 => "0".to_owned(),
        Unit::PerNodeDay => format!("{value:.2}"),
    }
}

/// Where a time is on a strip.
fn along(seconds: f64) -> f64 {
    let (low, high) = STRIP_SECONDS;
    let share = libm::log(seconds.clamp(low, high) / low) / libm::log(high / low);
    (1.0 + share * (STRIP.0 - 2.0) * 10.0).round() / 10.0
}

fn strip(spread: [f64; 5], target: Option<f64>) -> Markup {
    let [p10, p50, p90, _, most] = spread.map(along);
    let (width, height) = STRIP;
    let middle = height / 2.0;
    html! {
        svg class="strip" width=(width) height=(height) viewBox=(format!("0 0 {width} {height}"))
            role="img" aria-label="distribution" {
            line class="rail" x1="0" x2=(width) y1=(middle) y2=(middle) {}
            line class="most" x1=(p90) x2=(most) y1=(middle) y2=(middle) {}
            rect class="box" x=(p10) y="5" width=((p90 - p10).max(2.0)) height="12" {}
            line class="median" x1=(p50) x2=(p50) y1="5" y2="17" {}
            @if let Some(target) = target.map(along) {
                line class="target" x1=(target) x2=(target) y1="1" y2="21" {}
            }
        }
    }
}

fn beside(rows: &[Row]) -> Markup {
    let spread = |s: &fidelity::Spread| format!("{:.3} / {:.3} / {:.3} s", s.p10, s.p50, s.p90);
    html! {
        h2 { "Beside real processes" }
        p {
            "The same was done to real nodes and to simulated ones with links as fast as that "
            "machine's. Medians may differ by 25 %."
        }
        div class="wide" { table {
            tr {
                th { "what" } th { "where" } th { "real p10 / p50 / p90" } th { "simulated" }
                th { "p50 differs by" }
            }
            @for row in rows {
                tr {
                    td { (fidelity::meaning(&row.what)) " (" (row.real.count) " times)" }
                    td { (row.place) }
                    td { (spread(&row.real)) }
                    td { (spread(&row.simulated)) }
                    td class=(if row.is_within { "met" } else { "missed" }) {
                        (format!("{:+.0} %", 100.0 * row.difference))
                    }
                }
            }
        } }
    }
}

/// A scenario along its axis: a chart for each kind of figure, and the numbers.
#[must_use]
pub fn sweep(sweep: &Sweep) -> String {
    let kinds = [("seconds", true), ("bytes, or a number per run", false)];
    let failed: u64 = sweep.points.iter().map(|point| point.failed).sum();
    let body = html! {
        p {
            "Scenario " code { (sweep.scenario) } ", "
            (sweep.points.iter().map(|point| point.runs).sum::<u64>()) " runs. " (failed)
            " of them broke a rule."
        }
        @for (unit, is_time) in kinds {
            @if sweep.y.iter().any(|figure| figure.is_time() == is_time) {
                h2 { (unit) }
                (chart(sweep, is_time))
            }
        }
        h2 { "Numbers" }
        div class="wide" { table {
            tr {
                th { (sweep.x) }
                @for figure in &sweep.y { th class="number" { (figure.name) } }
                th class="number" { "runs" } th class="number" { "failed" }
            }
            @for point in &sweep.points {
                tr {
                    td { (point.value) }
                    @for (figure, value) in sweep.y.iter().zip(&point.figures) {
                        td class="number" { (figure_text(figure, *value)) }
                    }
                    td class="number" { (point.runs) } td class="number" { (point.failed) }
                }
            }
        } }
    };
    page(&format!("{} along {}", sweep.scenario, sweep.x), &body)
}

/// A figure of a sweep with its unit, for people.
pub fn figure_text(figure: &Figure, value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(seconds) if figure.is_time() => amount(seconds, Unit::Seconds),
        Some(number) if number >= 10.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.2}"),
    }
}

fn chart(sweep: &Sweep, is_time: bool) -> Markup {
    let lines: Vec<(usize, &Figure)> =
        sweep.y.iter().enumerate().filter(|(_, figure)| figure.is_time() == is_time).collect();
    let values = lines.iter().flat_map(|(at, _)| sweep.points.iter().map(|p| p.figures[*at]));
    let top = values.flatten().fold(0.0_f64, f64::max).max(1e-9) * 1.05;
    let ((width, height), (left, below)) = (CHART, CHART_FREE);
    let numbers: Option<Vec<f64>> = sweep.points.iter().map(|point| point.number).collect();
    let places = numbers.unwrap_or_else(|| (0..sweep.points.len()).map(|at| at as f64).collect());
    let low = places.iter().copied().fold(f64::INFINITY, f64::min);
    let span = (places.iter().copied().fold(f64::NEG_INFINITY, f64::max) - low).max(1e-9);
    let x = |place: f64| left + 8.0 + (place - low) / span * (width - left - 150.0);
    let y = |value: f64| (height - below) * (1.0 - value / top);
    html! {
        svg width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) role="img"
            aria-label=(format!("figures along {}", sweep.x)) {
            @for share in [0.0, 0.5, 0.95] {
                line class="grid" x1=(left) x2=(width - 140.0)
                    y1=(px(y(top * share))) y2=(px(y(top * share))) {}
                text x=(left - 6.0) y=(px(y(top * share) + 4.0)) text-anchor="end" {
                    (figure_text(lines[0].1, Some(top * share)))
                }
            }
            @for (place, point) in places.iter().zip(&sweep.points) {
                text x=(px(x(*place))) y=(height - 8.0) text-anchor="middle" { (point.value) }
            }
            @for (number, (at, figure)) in lines.iter().enumerate() {
                @let class = format!("y{}", number % COLOURS);
                @let dots: Vec<(f64, f64)> = places.iter().zip(&sweep.points)
                    .filter_map(|(place, point)| Some((x(*place), y(point.figures[*at]?))))
                    .collect();
                path class=(class) d=(path(&dots)) {}
                @for (x, y) in &dots { circle class=(class) cx=(px(*x)) cy=(px(*y)) r="3" {} }
                @if let Some((_, y)) = dots.last() {
                    text x=(width - 132.0) y=(px(y + 4.0)) { (figure.name) }
                }
            }
        }
    }
}

fn px(place: f64) -> f64 {
    (place * 10.0).round() / 10.0
}

fn path(dots: &[(f64, f64)]) -> String {
    let step = |(at, (x, y)): (usize, &(f64, f64))| {
        format!("{}{} {}", if at == 0 { 'M' } else { 'L' }, px(*x), px(*y))
    };
    dots.iter().enumerate().map(step).collect()
}

fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) " \u{b7} Grapevine simulation" }
                style { (PreEscaped(STYLE)) }
            }
            body { div class="page" {
                h1 { (title) }
                (body)
                footer {
                    "Made by " code { "grapevine simulate report" } ", commit " code { (COMMIT) }
                    ". This file needs nothing else: no network, no server."
                }
            } }
        }
    }
    .into_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::convergence::Order;
    use crate::scenario::Scenario;

    #[test]
    fn the_page_of_a_report_shows_each_figure_beside_its_target_and_loads_nothing() {
        let only = vec!["kill".to_owned(), "idle".to_owned()];
        let order = Order { nodes: vec![5], only, runs: Some(1), budget: None, jobs: 1 };
        let report = Report::make(&order, &|_, _| ());
        let page = convergence(&report, &[]);
        for part in ["5 nodes", "kill -9, until it is in no view, p50", "1.00 s", "<svg", "</svg>"]
        {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("src="));
    }

    #[test]
    fn the_page_of_a_sweep_has_a_chart_and_the_numbers() {
        let text = "schema = 1\n[cluster]\nnodes = [3, 4]\n[run]\nend = \"15s\"\n\
                    [report]\nx = \"cluster.nodes\"\ny = [\"bytes.p99\", \"bytes.mean\"]\n";
        let scenario = Scenario::parse(text, "<mine>.toml").unwrap();
        let page = sweep(&Sweep::make(&scenario, 2, 1, None, &|| ()).unwrap());
        assert!(page.contains("&lt;mine&gt; along cluster.nodes"), "names are text: {page}");
        assert!(page.contains("bytes.mean") && page.matches("<circle").count() == 4, "{page}");
    }

    #[test]
    fn figures_are_written_with_their_units() {
        assert_eq!(amount(0.0042, Unit::Seconds), "4 ms");
        assert_eq!(amount(1.234, Unit::Seconds), "1.23 s");
        assert_eq!(amount(1_234.0, Unit::Bytes), "1.23 KB/s");
        assert_eq!(amount(0.0, Unit::PerNodeDay), "0");
    }
}

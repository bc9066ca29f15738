//! The page of a run explains itself, stays small, and loads nothing.

mod browser;
mod feed;

use std::time::Duration;

use feed::{Feed, split_brain};
use grapevine_simulations::outcome::Violation;
use grapevine_simulations::render::{Film, headline, html, perfetto, shiviz, svg};
use grapevine_simulations::scenario::Scenario;
use grapevine_simulations::trace::Trace;
use grapevine_simulations::world::World;

fn page(feed: &Feed) -> String {
    let mut film = Film::new(&feed.plan);
    let outcome = feed.play(&mut film);
    html(&film, &feed.plan, &outcome)
}

/// Writes pages for a look with the eye, where `GRAPEVINE_PAGES` says.
fn show(name: &str, page: &str) {
    if let Some(folder) = std::env::var_os("GRAPEVINE_PAGES") {
        std::fs::write(std::path::Path::new(&folder).join(name), page).expect("a folder");
    }
}

#[test]
fn a_split_brain_is_told_in_plain_words() {
    let feed = split_brain(5, 3, 60, (20, 50));
    let mut film = Film::new(&feed.plan);
    let outcome = feed.play(&mut film);
    assert_eq!(
        headline(&film, &feed.plan, &outcome),
        "For 30 s nodes 0\u{2013}2 and 3\u{2013}4 could not reach each other. Each side noticed \
         within 5.2 s and went on answering. 1.2 s after the links healed, all five agreed again."
    );
    let page = html(&film, &feed.plan, &outcome);
    show("split.html", &page);
    assert!(page.contains("Nodes 3\u{2013}4 gave up whom they cannot reach"), "a chapter per side");
}

#[test]
fn a_broken_rule_is_shown_with_what_led_to_it() {
    let mut feed = split_brain(5, 3, 22, (20, 50));
    feed.violation = Some(Violation {
        rule: "S4".into(),
        name: "lost-key".into(),
        node: Some(3),
        what: "owner=1 key=t007".into(),
        at: Duration::from_secs(22),
        event: 4_711,
    });
    let page = page(&feed);
    show("broken.html", &page);
    for text in ["After 22 s node 3 broke a rule: lost key.", "What led to it", "receives "] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn the_page_loads_nothing_and_forbids_itself_to() {
    let page = page(&split_brain(5, 3, 60, (20, 50)));
    let without_names = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "src=", "@import", "url(h", "<link", "import("] {
        assert!(!without_names.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn names_are_text_whatever_is_in_them() {
    let mut feed = split_brain(3, 1, 10, (2, 5));
    feed.plan.name = "</script><script>alert(1)</script>\"&".into();
    feed.plan.faults[0].label = "<img src=x onerror=alert(2)>".into();
    let page = page(&feed);
    assert!(!page.contains("<script>alert"), "the name opens no element");
    assert!(!page.contains("<img"), "nor does a label");
    assert_eq!(page.matches("</script>").count(), 2, "data and code");
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let feed = split_brain(9, 4, 30, (5, 20));
    assert_eq!(page(&feed), page(&feed));
}

#[test]
fn a_hundred_nodes_for_ten_minutes_fit_into_two_megabytes() {
    let mut feed = split_brain(100, 50, 600, (120, 300));
    feed.rate = 9;
    let page = page(&feed);
    show("hundred.html", &page);
    assert!(page.len() <= 2 << 20, "{} bytes", page.len());
}

#[test]
fn a_thousand_nodes_fit_as_well() {
    let mut feed = split_brain(1_000, 500, 60, (10, 40));
    feed.rate = 4;
    let page = page(&feed);
    show("thousand.html", &page);
    assert!(page.len() <= 2 << 20, "{} bytes", page.len());
}

#[test]
fn the_data_of_the_page_are_json() {
    let page = page(&split_brain(5, 3, 60, (20, 50)));
    let (_, data) = page.split_once("id=\"run\">").expect("the data");
    let (data, _) = data.split_once("</script>").expect("their end");
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["n"], 5);
    assert_eq!(data["faults"][0]["gaps"], serde_json::json!([0, 0, 1, 0]));
}

#[test]
fn every_scenario_that_comes_with_the_program_has_a_page() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/builtin");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the scenarios")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a text");
        let scenario = Scenario::parse(&text, "scenario").expect("a scenario");
        let plan = scenario.plan(1);
        if plan.nodes > 100 {
            continue;
        }
        let mut film = Film::new(&plan);
        let outcome = World::new(&plan).run(Some(&mut film));
        let page = html(&film, &plan, &outcome);
        show(&format!("{}.html", plan.name), &page);
        println!("{}: {} bytes: {}", plan.name, page.len(), headline(&film, &plan, &outcome));
        assert!(page.len() <= 2 << 20, "{}: {} bytes", plan.name, page.len());
    }
}

#[test]
fn the_picture_alone_is_an_svg_in_which_names_are_text() {
    let mut feed = split_brain(5, 3, 60, (20, 50));
    feed.plan.faults[0].label = "a<b & c".into();
    let mut film = Film::new(&feed.plan);
    let outcome = feed.play(&mut film);
    let picture = svg(&film, &feed.plan, &outcome);
    show("split.svg", &picture);
    assert!(picture.contains("a&lt;b &amp; c") && !picture.contains("a<b"));
    assert!(picture.contains(">lists 0\u{2013}2<") && picture.contains(">lists 3\u{2013}4<"));
    let open = picture.matches("<rect").count() + picture.matches("<path").count();
    assert_eq!(picture.matches("/>").count(), open, "every shape is closed");
    assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
}

#[test]
fn other_programs_get_every_message_that_arrived() {
    let feed = split_brain(3, 1, 5, (2, 4));
    let mut trace = Trace::default();
    feed.play(&mut trace);
    let arrived = |kind: &str| -> usize {
        let has = |record: &&grapevine_simulations::trace::Record| {
            serde_json::to_value(record).expect("JSON")["k"] == kind
        };
        trace.records.iter().filter(has).count()
    };
    let opened: serde_json::Value =
        serde_json::from_str(&perfetto(&feed.plan, &trace)).expect("JSON");
    let events = opened["traceEvents"].as_array().expect("a list");
    let of = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
    assert!(arrived("recv") > 50);
    assert_eq!((of("s"), of("f")), (arrived("recv"), arrived("recv")));

    let log = shiviz(&feed.plan, &trace);
    let received = log.lines().filter(|line| line.contains(" receives ")).count();
    assert_eq!(received, arrived("recv"));
    let mut own = [0_u64; 3];
    for line in log.lines().filter(|line| line.starts_with("node-")) {
        let (host, clock) = line.split_once(' ').expect("host and clock");
        let clock: serde_json::Value = serde_json::from_str(clock).expect("a clock");
        let node: usize = host["node-".len()..].parse().expect("a number");
        own[node] += 1;
        assert_eq!(clock[host], own[node], "clocks of a node have no gaps");
    }
}

/// Lets the page press its own buttons once it has loaded, as a reader would. A browser without a
/// screen paints no frames once it is idle, so frames are made of timers.
fn with_hands(page: &str, script: &str) -> String {
    let frames = "<script>requestAnimationFrame = draw => setTimeout(draw, 0, 0);</script></head>";
    let hands = format!("<script>setTimeout(() => {{{script}}}, 500);</script></body>");
    page.replace("</head>", frames).replace("</body>", &hands)
}

#[test]
fn a_browser_draws_the_run_and_has_nothing_to_complain_about() {
    let page = page(&split_brain(5, 3, 60, (20, 50)));
    let Some(opened) = browser::open(&page) else { return };
    assert_eq!(opened.complaints, Vec::<String>::new());
    for part in [
        "class=\"lane\"",
        "What was done to them",
        "What each node has wrong",
        "class=\"fault cut\"",
        "class=\"ring\"",
        "lists 0\u{2013}2",
        "Cannot reach",
        "5 nodes",
    ] {
        assert!(opened.dom.contains(part), "{part}");
    }
}

#[test]
fn single_messages_are_arrows_when_a_reader_zooms_in() {
    let page = page(&split_brain(5, 3, 60, (20, 50)));
    let page = with_hands(&page, "document.getElementById('near').click();");
    let Some(opened) = browser::open(&page) else { return };
    assert_eq!(opened.complaints, Vec::<String>::new());
    assert!(opened.dom.contains("class=\"head\" d=\"M"), "heads of arrows");
}

#[test]
fn large_clusters_and_broken_runs_open_without_complaint() {
    let mut broken = split_brain(5, 3, 22, (20, 50));
    broken.violation = Some(Violation {
        rule: "S4".into(),
        name: "lost-key".into(),
        node: Some(3),
        what: "owner=1 key=t007".into(),
        at: Duration::from_secs(22),
        event: 4_711,
    });
    let broken = with_hands(&page(&broken), "document.getElementById('close').click();");
    let Some(opened) = browser::open(&broken) else { return };
    assert_eq!(opened.complaints, Vec::<String>::new());
    assert!(opened.dom.contains("S4 breaks here"));

    let mut many = split_brain(1_000, 500, 60, (10, 40));
    many.rate = 4;
    let opened = browser::open(&page(&many)).expect("it was there a moment ago");
    assert_eq!(opened.complaints, Vec::<String>::new());
    assert!(opened.dom.contains("500 nodes"));
}

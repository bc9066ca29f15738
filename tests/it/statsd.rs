//! Figures pushed to a statsd: what arrives, when, and what happens when nobody listens.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::support::{Nsqd, eventually, is_reference};

/// How long a line may take beyond its interval on a busy machine.
const LINE_MAX: Duration = Duration::from_secs(15);

/// The last line of every report.
const LAST: &str = "mem.gc_runs:0|c";

/// A socket in the place of statsd.
struct Statsd {
    socket: UdpSocket,
    /// Lines that came, in order.
    lines: Vec<String>,
    /// When each datagram came.
    arrivals: Vec<Instant>,
}

impl Statsd {
    fn listen(address: &str) -> Self {
        let socket = UdpSocket::bind(address).expect("a UDP port");
        socket.set_read_timeout(Some(LINE_MAX)).expect("read timeout");
        Self { socket, lines: Vec::new(), arrivals: Vec::new() }
    }

    fn address(&self) -> String {
        self.socket.local_addr().expect("bound").to_string()
    }

    /// A node that pushes here; names have no prefix.
    fn node(&self, interval: &str, flags: &[&str]) -> Nsqd {
        let address = format!("-statsd-address={}", self.address());
        let interval = format!("-statsd-interval={interval}");
        Nsqd::start(&[&[address.as_str(), &interval, "-statsd-prefix="], flags].concat())
    }

    #[track_caller]
    fn datagram(&mut self) {
        let mut bytes = [0; 65_536];
        let len = self.socket.recv(&mut bytes).expect("a datagram comes");
        self.arrivals.push(Instant::now());
        let text = std::str::from_utf8(&bytes[..len]).expect("text");
        assert!(text.ends_with('\n'), "lines are whole: {text:?}");
        self.lines.extend(text.lines().map(str::to_owned));
    }

    /// Takes datagrams until this line has come.
    #[track_caller]
    fn wait_for(&mut self, line: &str) {
        let end = Instant::now() + LINE_MAX;
        while !self.lines.iter().any(|have| have == line) {
            assert!(Instant::now() < end, "no {line} among {:?}", self.lines);
            self.datagram();
        }
    }

    /// The value of the gauge that came last under this name.
    #[track_caller]
    fn gauge(&self, name: &str) -> u64 {
        let values = self.lines.iter().rev().filter_map(|line| line.strip_prefix(name));
        let value = values.filter_map(|rest| rest.strip_prefix(':')?.strip_suffix("|g")).next();
        let value = value.unwrap_or_else(|| panic!("no {name} among {:?}", self.lines));
        value.parse().expect("a whole number")
    }
}

#[test]
fn the_first_report_comes_an_interval_after_the_start_with_latencies_in_nanoseconds() {
    let start = Instant::now();
    let mut statsd = Statsd::listen("127.0.0.1:0");
    let percentiles = "-e2e-processing-latency-percentile=1.0,0.95";
    let node = statsd.node("1500ms", &[percentiles]);
    let mut consumer = node.consumer("t", "c", 1);
    node.client().publish("t", b"measured");
    consumer.take();
    statsd.datagram();
    assert!(start.elapsed() >= Duration::from_millis(1_500), "{:?}", start.elapsed());
    statsd.wait_for("topic.t.channel.c.clients:1|g");
    statsd.wait_for(LAST);
    for of in ["topic.t", "topic.t.channel.c"] {
        // Two reports at most: the message may be finished between them.
        let name = format!("{of}.e2e_processing_latency_100");
        while statsd.gauge(&name) == 0 {
            statsd.datagram();
            assert!(start.elapsed() < LINE_MAX, "{:?}", statsd.lines);
        }
        assert!(statsd.gauge(&name) < 10_000_000_000, "not in microseconds, nor too large");
        statsd.gauge(&format!("{of}.e2e_processing_latency_95"));
    }
    assert!(statsd.gauge("mem.heap_in_use_bytes") > 1_000_000);
}

#[test]
fn a_topic_that_was_deleted_and_made_again_is_reported_from_zero() {
    let mut statsd = Statsd::listen("127.0.0.1:0");
    let node = statsd.node("1100ms", &["-statsd-mem-stats=false"]);
    let mut producer = node.client();
    for _ in 0..5 {
        producer.publish("t", b"x");
    }
    statsd.wait_for("topic.t.message_count:5|c");
    node.post_ok("/topic/delete?topic=t", b"");
    for _ in 0..7 {
        producer.publish("t", b"x");
    }
    statsd.wait_for("topic.t.message_count:7|c");
    let is_memory = |line: &String| line.starts_with("mem.");
    assert!(!statsd.lines.iter().any(is_memory), "switched off: {:?}", statsd.lines);
}

#[test]
fn what_is_ephemeral_can_be_left_out() {
    let mut statsd = Statsd::listen("127.0.0.1:0");
    let node = statsd.node("1100ms", &["-statsd-exclude-ephemeral"]);
    node.create_channel("e%23ephemeral", "c");
    node.create_channel("t", "tail%23ephemeral");
    node.create_channel("t", "c");
    statsd.wait_for("topic.t.channel.c.depth:0|g");
    let is_ephemeral = |line: &String| line.contains("ephemeral");
    assert!(!statsd.lines.iter().any(is_ephemeral), "{:?}", statsd.lines);
}

#[test]
fn the_datagrams_of_a_report_are_spread_over_its_interval_but_not_when_the_node_stops() {
    if is_reference() {
        return;
    }
    let mut statsd = Statsd::listen("127.0.0.1:0");
    let mut node = statsd.node("4s", &["-statsd-udp-packet-size=60"]);
    node.create_channel("t", "c");
    statsd.wait_for(LAST);
    let of_first = &statsd.arrivals;
    let spread = of_first[of_first.len() - 1] - of_first[0];
    assert!(of_first.len() >= 10, "{} datagrams", of_first.len());
    assert!(spread > Duration::from_millis(1_500), "{spread:?}, and 3 s are to be filled");
    assert!(spread < Duration::from_secs(4), "{spread:?}");

    statsd.lines.clear();
    statsd.datagram();
    let stopped = Instant::now();
    assert!(node.terminate().success());
    statsd.wait_for(LAST);
    assert!(stopped.elapsed() < Duration::from_millis(1_500), "{:?}", stopped.elapsed());
}

#[test]
fn statsd_that_is_not_there_is_one_warning_and_is_found_when_it_comes() {
    if is_reference() {
        return;
    }
    let address = Statsd::listen("127.0.0.1:0").address();
    let node = Nsqd::start(&[
        &format!("-statsd-address={address}"),
        "-statsd-interval=1100ms",
        "-statsd-udp-packet-size=60",
        "-statsd-prefix=",
    ]);
    let warned = |node: &Nsqd| node.log().matches("cannot push to statsd").count();
    eventually(LINE_MAX, "a warning", || warned(&node) > 0);
    let since = Instant::now();
    eventually(LINE_MAX, "two more rounds", || since.elapsed() > Duration::from_millis(2_500));
    assert_eq!(warned(&node), 1, "once, not each round");

    let mut statsd = Statsd::listen(&address);
    statsd.wait_for(LAST);
    eventually(LINE_MAX, "the end of it", || node.log().contains("statsd can be reached again"));
}

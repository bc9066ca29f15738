//! Promises about the command line and the file.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::CommandFactory;

use super::*;

/// Every flag of nsqd 1.3.0, from its own help text.
const NSQD_FLAGS: &str = include_str!("nsqd_flags.txt");

/// Ours.
const OUR_FLAGS: [&str; 11] = [
    "auth-file",
    "cluster-name",
    "durability",
    "gossip-address",
    "gossip-advertise-address",
    "gossip-seed-address",
    "inactive-producer-timeout",
    "init-grace",
    "lookup-http-address",
    "lookup-tcp-address",
    "tombstone-lifetime",
];

fn parse(line: &str) -> Result<Invocation, OptionsError> {
    Options::parse_like_go(line.split_whitespace().map(ToOwned::to_owned))
}

fn options(line: &str) -> Options {
    match parse(line) {
        Ok(Invocation::Run(options)) => *options,
        other => panic!("{line}: {other:?}"),
    }
}

/// The reason a node does not start, which is one line.
fn fatal(line: &str) -> String {
    match parse(line) {
        Err(OptionsError::Fatal { reason, .. }) if !reason.contains('\n') => reason,
        other => panic!("{line}: {other:?}"),
    }
}

fn with_file(text: &str, line: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nsqd.cfg");
    std::fs::write(&path, text).unwrap();
    let line = format!("-config={} {line}", path.display());
    (dir, line)
}

fn options_with_file(text: &str, line: &str) -> Options {
    let (_dir, line) = with_file(text, line);
    options(&line)
}

fn number(options: &Options, name: &str) -> i64 {
    match options.config_value(name) {
        Some(ConfigValue::Number(number)) => number,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn the_flags_are_those_of_nsqd_and_ours() {
    let command = Options::command();
    let known: BTreeSet<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    let expected: BTreeSet<_> = NSQD_FLAGS.lines().chain(OUR_FLAGS).collect();
    assert_eq!(known, expected);
}

#[test]
fn the_usage_text_names_every_flag() {
    let usage = Options::usage();
    for flag in NSQD_FLAGS.lines().chain(OUR_FLAGS) {
        assert!(usage.contains(&format!("  -{flag}")), "{flag}");
    }
    assert!(
        usage.contains("  -max-rdy-count int\n    \tmaximum RDY count for a client (default 2500)")
    );
}

#[test]
fn every_option_can_be_read_by_its_key_and_by_no_other_name() {
    let options = options("");
    for flag in NSQD_FLAGS.lines().chain(OUR_FLAGS) {
        let Some(key) = file::key(flag) else { continue };
        assert!(options.config_value(&key).is_some(), "{key}");
        assert!(key == flag || options.config_value(flag).is_none(), "{flag}");
    }
    for name in ["config", "version", "verbose", "worker_id", "node_id", "lookupd_tcp_address"] {
        assert_eq!(options.config_value(name), None, "{name}");
    }
}

#[test]
fn an_nsqd_command_line_works_unchanged() {
    let options = options("-tcp-address=127.0.0.1:0 --msg-timeout 1m30s --deflate=false word -x");

    assert_eq!(options.tcp_address, Address::Tcp("127.0.0.1:0".to_owned()));
    assert_eq!(options.msg_timeout, Duration::from_secs(90));
    assert!(!options.deflate);
}

#[test]
fn the_defaults_are_those_of_nsqd() {
    let options = options("");
    assert_eq!(options.max_msg_timeout, Duration::from_secs(900));
    assert_eq!(options.mem_queue_size, 10_000);
    assert_eq!(options.tls_min_version, TlsVersion::Tls10);
    assert_eq!(options.durability, Durability::Os);
    assert_eq!(options.data_path, std::path::Path::new("."), "the working directory");
    assert_eq!(options.gossip_address, Address::Tcp("0.0.0.0:4162".to_owned()));
    assert_eq!(number(&options, "max_heartbeat_interval"), 60_000_000_000);
    assert_eq!(number(&options, "log_level"), 2);
    assert_eq!(number(&options, "tls_min_version"), 769);
    assert!(options.warnings().is_empty());
}

#[test]
fn bad_flags_are_a_matter_of_usage() {
    let lines = [
        "-no-such-flag",
        "-mem-queue-size=many",
        "-mem-queue-size=-1",
        "-msg-timeout=5",
        "-snappy=maybe",
        "-max-rdy-count",
        "-worker-id=5",
        "-log-level=loud",
        "-tls-min-version=ssl3.0",
        "-broadcast-tcp-port=70000",
        "-durability=hope",
        "-gossip-advertise-address=here",
    ];
    for line in lines {
        assert!(matches!(parse(line), Err(OptionsError::Usage(_))), "{line}");
    }
}

#[test]
fn help_and_version_win_over_what_a_node_could_not_start_with() {
    assert!(matches!(parse("-node-id=-1 -h -no-such"), Ok(Invocation::Help)));
    assert!(matches!(parse("-version -node-id=-1"), Ok(Invocation::Version)));
    assert!(matches!(parse("-node-id=x -h"), Err(OptionsError::Usage(_))), "Go reads in order");
}

#[test]
fn what_a_node_cannot_start_with_is_one_line_that_names_the_flag() {
    let lines = [
        ("-max-deflate-level=0", "--max-deflate-level"),
        ("-max-deflate-level=10", "--max-deflate-level"),
        ("-node-id=1024", "--node-id"),
        ("-node-id=-1", "--node-id"),
        ("-auth-http-request-method=PUT", "--auth-http-request-method"),
        ("-tls-required=true", "TLS"),
        ("-tls-required", "TLS"),
        ("-tls-client-auth-policy=require", "TLS"),
        ("-tls-cert=/nothing.pem -tls-key=/nothing.key", "--tls-cert"),
        ("-tls-cert=/dev/null", "--tls-key"),
        ("-e2e-processing-latency-percentile=1.5", "percentile: 1.5"),
        ("-e2e-processing-latency-percentile=0", "percentile: 0"),
        ("-e2e-processing-latency-percentile=NaN", "percentile: NaN"),
        ("-statsd-address=127.0.0.1:8125 -statsd-interval=1s", "--statsd-interval"),
        ("-max-bytes-per-file=0", "--max-bytes-per-file"),
        ("-tcp-address=localhost:http:1", "--tcp-address"),
        ("-gossip-address=nowhere", "--gossip-address"),
        ("-lookup-http-address=/run/lookup.sock", "--lookup-http-address"),
        ("-gossip-seed-address=example.org", "--gossip-seed-address"),
        ("-gossip-seed-address=:4162", "--gossip-seed-address"),
    ];
    for (line, flag) in lines {
        assert!(fatal(line).contains(flag), "{line}: {}", fatal(line));
    }
}

/// What the log says at the start about flags that mean nothing.
#[track_caller]
fn warning(options: &Options) -> &'static str {
    match options.warnings()[..] {
        [warning] => warning,
        ref other => panic!("wanted one warning, got {other:?}"),
    }
}

#[test]
fn a_flag_that_means_nothing_is_one_warning_that_names_it() {
    let lines = [
        ("-verbose", "-verbose"),
        ("-worker-id", "-worker-id"),
        ("-queue-scan-selection-count=20", "-queue-scan-"),
        ("-queue-scan-worker-pool-max=8 -queue-scan-selection-count=8", "-queue-scan-"),
        ("-https-address=127.0.0.1:4152", "-https-address"),
        ("-max-deflate-level=3 -deflate=false", "-max-deflate-level"),
        ("-sync-every=1 -durability=fsync", "-sync-every"),
        ("-auth-http-request-method=post", "-auth-http-request-method"),
        ("-statsd-interval=1m -statsd-mem-stats=false", "-statsd-"),
        ("-e2e-processing-latency-window-time=1m", "-e2e-processing-latency-window-time"),
        ("-topology-zone=z", "-topology-zone"),
        ("-enable-experiment=topology-aware-consumption", "-topology-zone"),
        ("-enable-experiment=time-travel", "-enable-experiment"),
        ("-gossip-address= -gossip-seed-address=a:1", "seed"),
        ("-gossip-address= -cluster-name=x", "-cluster-name"),
    ];
    for (line, named) in lines {
        assert!(warning(&options(line)).contains(named), "{line}");
    }
}

#[test]
fn a_flag_that_means_something_or_was_not_given_is_no_warning() {
    let lines = [
        "-worker-id=false -verbose=false",
        "-https-address=",
        "-statsd-address=127.0.0.1:8125 -statsd-interval=10s",
        "-e2e-processing-latency-percentile=0.9 -e2e-processing-latency-window-time=1m",
        "-topology-zone=z -enable-experiment=topology-aware-consumption",
        "-durability=fsync",
        "-gossip-address=",
    ];
    for line in lines {
        assert_eq!(options(line).warnings(), [""; 0], "{line}");
    }
}

#[test]
fn a_key_of_the_file_that_means_nothing_is_a_warning_too() {
    let options = options_with_file("queue_scan_selection_count = 5", "");
    assert!(warning(&options).contains("-queue-scan-"));
}

#[test]
fn the_documented_example_file_loads() {
    let text = include_str!("../../docs/nsqd.cfg.example");
    let options = options_with_file(text, "");
    assert_eq!(options.cluster_name, "default");
    assert_eq!(options.tcp_address, Address::Tcp("0.0.0.0:4150".to_owned()));
    assert_eq!(options.warnings(), [""; 0]);
}

#[test]
fn a_file_sets_options_by_their_keys() {
    let text = r#"
        mem_queue_size = 42
        max_msg_size = "2048"
        msg_timeout = "7s"
        max_req_timeout = 90000
        snappy = false
        deflate = "false"
        id = 7
        broadcast_address = "from.file"
        log_level = "WARN"
        enable_experiment = "one,two"
        e2e_processing_latency_percentiles = [0.5, 1.0]
        gossip_seed_addresses = ["a:1", "b:2"]
        no_such_option = 1
        max-rdy-count = 5
        node_id = 8
        lookupd_tcp_address = ["127.0.0.1:1"]
        version = true

        [section]
        max_rdy_count = 6
    "#;
    let options = options_with_file(text, "");
    assert_eq!(options.mem_queue_size, 42);
    assert_eq!(options.max_msg_size, 2_048);
    assert_eq!(options.msg_timeout, Duration::from_secs(7));
    assert_eq!(options.max_req_timeout, Duration::from_secs(90), "bare numbers are milliseconds");
    assert!(!options.snappy && !options.deflate);
    assert_eq!(options.node_id, 7);
    assert_eq!(options.broadcast_address, "from.file");
    assert_eq!(options.live.log_level(), LogLevel::Warn);
    assert_eq!(options.enable_experiment, ["one", "two"]);
    assert_eq!(options.e2e_processing_latency_percentiles, [1.0, 0.5]);
    assert_eq!(options.gossip_seed_addresses, ["a:1", "b:2"]);
    assert_eq!(options.max_rdy_count, 2_500, "dashes and tables are ignored");
    assert!(options.nsqlookupd_tcp_addresses.is_empty(), "flag spellings are ignored");
}

#[test]
fn a_flag_wins_over_the_file_and_a_list_replaces_its_list() {
    let text = "max_rdy_count = 99\nmem_queue_size = 42\nnsqlookupd_tcp_addresses = [\"a:1\"]\n";
    let options = options_with_file(text, "-max-rdy-count=2500 -lookupd-tcp-address=b:2");
    assert_eq!(options.max_rdy_count, 2_500, "also when the flag repeats the default");
    assert_eq!(options.mem_queue_size, 42);
    assert_eq!(options.nsqlookupd_tcp_addresses, ["b:2"]);
    assert_eq!(**options.live.nsqlookupd_tcp_addresses(), ["b:2"]);
}

#[test]
fn a_bad_file_is_one_line_that_names_file_and_key() {
    let texts = [
        ("max_rdy_count = [", ""),
        ("= 5", ""),
        ("msg_timeout = \"soon\"", "msg-timeout"),
        ("msg_timeout = 1.5", "msg_timeout"),
        ("tls_required = \"perhaps\"", "tls-required"),
        ("log_level = \"loud\"", "log-level"),
        ("max_rdy_count = \"many\"", "max-rdy-count"),
        ("max_rdy_count = 1.0", "max_rdy_count"),
        ("snappy = 1", "snappy"),
        ("gossip_seed_addresses = [1]", "gossip_seed_addresses"),
        ("e2e_processing_latency_percentiles = [1]", "e2e_processing_latency_percentiles"),
        ("id = 1024", "--node-id"),
    ];
    for (text, key) in texts {
        let (_dir, line) = with_file(text, "");
        assert!(fatal(&line).contains(key), "{text}: {}", fatal(&line));
    }
    assert!(fatal("-config=/no/such/file").contains("/no/such/file"));
}

#[test]
fn an_oversized_file_is_refused() {
    let text = "#".repeat(usize::try_from(file::CONFIG_FILE_BYTES_MAX).unwrap() + 1);
    let (_dir, line) = with_file(&text, "");
    assert!(fatal(&line).contains("larger than"));
}

#[test]
fn the_log_level_and_the_nsqlookupds_can_change_while_the_node_runs() {
    let options = options("");
    let clone = options.clone();
    assert_eq!(options.set("log_level", b"WARN"), Ok(()));
    assert_eq!(number(&clone, "log_level"), 3, "clones share what changes");

    assert_eq!(options.set("nsqlookupd_tcp_addresses", br#"["a:1"]"#), Ok(()));
    let expected = ConfigValue::Texts(vec!["a:1".to_owned()]);
    assert_eq!(clone.config_value("nsqlookupd_tcp_addresses"), Some(expected));
    assert_eq!(options.set("nsqlookupd_tcp_addresses", b"null"), Ok(()));
    assert!(options.live.nsqlookupd_tcp_addresses().is_empty());

    for body in [&b"loud"[..], b"warning", b"\"info\"", b"\xff"] {
        assert_eq!(options.set("log_level", body), Err(SetError::InvalidValue));
    }
    assert_eq!(options.set("nsqlookupd_tcp_addresses", b"[1]"), Err(SetError::InvalidValue));
    let many = serde_json::to_vec(&vec!["a:1"; live::NSQLOOKUPDS_MAX + 1]).unwrap();
    assert_eq!(options.set("nsqlookupd_tcp_addresses", &many), Err(SetError::InvalidValue));
    let many = "-lookupd-tcp-address=a:1 ".repeat(live::NSQLOOKUPDS_MAX + 1);
    assert!(fatal(many.trim()).contains("--lookupd-tcp-address"), "{}", fatal(many.trim()));
    for name in ["mem_queue_size", "nothing"] {
        assert_eq!(options.set(name, b"5"), Err(SetError::InvalidOption));
    }
}

#[test]
fn ports_told_to_others_are_the_bound_ones_unless_configured() {
    let options = options("-broadcast-http-port=80 -broadcast-address=10.0.0.1");
    options.live.set_ports(1_234, 5_678);
    assert_eq!(options.advertised_tcp_port(), 1_234);
    assert_eq!(options.advertised_http_port(), 80);
    assert_eq!(options.statsd_prefix_with_host(), "nsq.10_0_0_1_80.");
}

#[test]
fn an_advertised_address_may_leave_its_port_to_the_listener() {
    let advertised = |line| options(line).gossip_advertise_address;
    assert_eq!(advertised("").0, None);
    let without_port = advertised("-gossip-advertise-address=10.0.0.1");
    assert_eq!(without_port.0, "10.0.0.1:0".parse().ok());
    assert_eq!(without_port.to_string(), "10.0.0.1");
    let with_port = advertised("-gossip-advertise-address=10.0.0.1:7");
    assert_eq!(with_port.0, "10.0.0.1:7".parse().ok());
}

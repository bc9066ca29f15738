//! The command line: Go's syntax, nsqd's exit codes, one clear line for each refusal.

use tempfile::TempDir;

use crate::support::{Nsqd, Outcome, is_reference, run_to_exit, server_command};

/// Runs the server with these flags until it ends.
#[track_caller]
fn run(flags: &[&str]) -> Outcome {
    let mut command = server_command();
    command.args(flags);
    run_to_exit(command)
}

/// The one line that says why the server did not start.
#[track_caller]
fn fatal_line(outcome: &Outcome) -> &str {
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let lines: Vec<&str> = outcome
        .stderr
        .lines()
        .filter(|line| line.contains("FATAL") || line.contains("ERROR"))
        .collect();
    assert_eq!(lines.len(), 1, "one line says why: {}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    lines[0]
}

#[test]
fn help_and_version_are_answers_and_not_errors() {
    let help = run(&["-help"]);
    assert_eq!(help.code, Some(0), "{help:?}");
    for flag in ["-tcp-address", "-mem-queue-size", "-max-rdy-count", "-lookupd-tcp-address"] {
        assert!(help.stderr.contains(flag), "{flag} is in the usage");
    }
    let version = run(&["--version"]);
    assert_eq!(version.code, Some(0), "{version:?}");
    assert!(version.stdout.starts_with("nsqd v1.3.0"), "{version:?}");
}

#[test]
fn an_unknown_flag_or_a_bad_value_ends_with_two() {
    for flags in [
        &["-no-such-flag"][..],
        &["-msg-timeout=5"],
        &["--max-rdy-count", "many"],
        &["-deflate=perhaps"],
    ] {
        let outcome = run(flags);
        assert_eq!(outcome.code, Some(2), "{flags:?}: {outcome:?}");
        let name = flags[0].trim_start_matches('-').split('=').next().unwrap();
        assert!(outcome.stderr.lines().next().unwrap().contains(name), "{outcome:?}");
    }
}

#[test]
fn a_negative_mem_queue_size_is_a_bad_value() {
    if is_reference() {
        return; // it starts, and every topic fails to be made
    }
    let outcome = run(&["-mem-queue-size=-1"]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.lines().next().unwrap().contains("mem-queue-size"), "{outcome:?}");
}

#[test]
fn a_flag_that_means_nothing_is_one_line_in_the_log_and_the_node_starts() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&["-verbose", "-queue-scan-worker-pool-max=8", "-worker-id"]);
    let log = node.log();
    for flag in ["-verbose", "-queue-scan-", "-worker-id"] {
        let about = |line: &&str| line.contains(&format!("WARNING: {flag}"));
        assert_eq!(log.lines().filter(about).count(), 1, "{flag}: {log}");
    }
}

#[test]
fn all_of_go_s_spellings_mean_the_same() {
    for flags in [
        &["-max-rdy-count=7"][..],
        &["--max-rdy-count=7"],
        &["-max-rdy-count", "7"],
        &["--max-rdy-count", "7"],
    ] {
        let node = Nsqd::start(flags);
        assert_eq!(node.get("/config/max_rdy_count").text(), "7", "{flags:?}");
    }
}

#[test]
fn the_command_line_wins_over_the_config_file() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("nsqd.cfg");
    std::fs::write(&config, "max_rdy_count = 11\nmsg_timeout = \"90s\"\nunknown = 1\n").unwrap();
    let node = Nsqd::start(&[&format!("-config={}", config.display()), "-max-rdy-count=12"]);
    assert_eq!(node.get("/config/max_rdy_count").text(), "12");
    assert_eq!(node.get("/config/msg_timeout").text(), "90000000000");
}

#[test]
fn a_config_file_that_cannot_be_read_is_named_in_one_line() {
    let outcome = run(&["-config=/nonexistent/nsqd.cfg"]);
    assert!(fatal_line(&outcome).contains("/nonexistent/nsqd.cfg"), "{outcome:?}");
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("broken.cfg");
    std::fs::write(&config, "this is = = not toml").unwrap();
    let outcome = run(&[&format!("-config={}", config.display())]);
    assert!(fatal_line(&outcome).contains("broken.cfg"), "{outcome:?}");
}

#[test]
fn a_data_path_that_is_missing_is_named_in_one_line() {
    let mut node = Nsqd::prepare(&[]);
    std::fs::remove_dir(node.data_path()).unwrap();
    let outcome = run_to_exit(node.command());
    let path = node.data_path().display().to_string();
    assert!(fatal_line(&outcome).contains(&path), "{outcome:?}");
    assert!(!node.is_running());
}

#[test]
fn a_data_path_in_use_is_refused_in_one_line() {
    let first = Nsqd::start(&[]);
    let second = Nsqd::prepare(&[&format!("-data-path={}", first.data_path().display())]);
    let outcome = run_to_exit(second.command());
    let line = fatal_line(&outcome);
    assert!(line.contains("failed to lock data-path: cannot flock directory"), "{line}");
    assert!(line.contains("possibly in use by another instance of nsqd"), "{line}");
    assert_eq!(first.get("/ping").text(), "OK", "the first one is unharmed");
}

#[test]
fn an_address_in_use_is_named_in_one_line() {
    let first = Nsqd::start(&[]);
    let mut addresses = vec![("-tcp-address", first.tcp()), ("-http-address", first.http())];
    if !is_reference() {
        addresses.push(("-gossip-address", first.gossip()));
        addresses.push(("-lookup-http-address", first.lookup_http()));
    }
    for (flag, address) in addresses {
        let second = Nsqd::prepare(&[&format!("{flag}={address}")]);
        let outcome = run_to_exit(second.command());
        let line = fatal_line(&outcome);
        assert!(line.contains(&address), "{flag}: {line}");
        assert!(line.contains("in use"), "{flag}: {line}");
    }
}

#[test]
fn values_out_of_range_are_refused_in_one_line() {
    for flag in ["-max-deflate-level=10", "-node-id=1024", "-auth-http-request-method=put"] {
        let node = Nsqd::prepare(&[flag]);
        let outcome = run_to_exit(node.command());
        fatal_line(&outcome);
    }
}

#[test]
fn an_empty_address_turns_a_listener_off() {
    if is_reference() {
        return;
    }
    let node = Nsqd::start(&["-lookup-http-address=", "-lookup-tcp-address="]);
    assert!(std::net::TcpStream::connect(node.lookup_http()).is_err());
    assert_eq!(node.get("/nodes").status, 200, "the same answers are on the HTTP address");
}

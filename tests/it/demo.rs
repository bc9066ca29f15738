//! `grapevine cluster`: it forms, shows what it promises, and leaves nothing behind.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::eventually;

/// A cluster of 3 that keeps its files in `folder`.
fn cluster(folder: &tempfile::TempDir, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grapevine"));
    command.arg("cluster").args(flags).env("TMPDIR", folder.path()).stdin(Stdio::null());
    command
}

fn is_empty(folder: &tempfile::TempDir) -> bool {
    folder.path().read_dir().expect("the folder is there").next().is_none()
}

/// Starts a cluster and waits until it is formed; answers the HTTP addresses of its nodes.
fn formed(mut command: Command) -> (Child, Vec<String>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut addresses = Vec::new();
    let stdout = child.stdout.take().expect("it is piped");
    for line in BufReader::new(stdout).lines() {
        let line = line.expect("it writes text");
        let mut words = line.split_whitespace();
        if words.next().is_some_and(|word| word.starts_with("node1") || word.starts_with("node2")) {
            addresses.extend(words.nth(1).map(ToOwned::to_owned));
        }
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    assert_eq!(addresses.len(), 2, "the table names the nodes");
    (child, addresses)
}

fn answers(address: &str) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

#[test]
fn the_demo_loses_nothing_ends_by_itself_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = cluster(&folder, &["--nodes", "3", "--demo", "--duration=3s"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.ends_with("Nothing was lost.\n"), "{text}\n{errors}");
    assert!(is_empty(&folder));
}

#[test]
fn a_cluster_ends_with_ctrl_c_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, addresses) = formed(cluster(&folder, &["-nodes=2"]));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(is_empty(&folder));
    assert!(!addresses.iter().any(|address| answers(address)));
}

#[cfg(target_os = "linux")]
#[test]
fn the_nodes_of_a_cluster_do_not_outlive_it_even_if_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, addresses) = formed(cluster(&folder, &["-nodes=2"]));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually(Duration::from_secs(10), "the nodes end", || {
        !addresses.iter().any(|address| answers(address))
    });
}

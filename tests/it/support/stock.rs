//! NSQ's own programs, where `NSQ_BIN_DIR` names a folder with them. No test depends on them: one
//! that has none says so and passes.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::http::{get, post};
use super::node::command_of;
use super::ports::free_port;
use super::wait::eventually;

/// They start in well under a second.
const START_MAX: Duration = Duration::from_secs(20);

/// The path of one of NSQ's programs; without it, says that `test` is left out.
pub(crate) fn stock_program(program: &str, test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("NSQ_BIN_DIR").map(|folder| PathBuf::from(folder).join(program));
    let found = found.filter(|path| path.is_file());
    if found.is_none() {
        // Past the capturing of test output.
        let reason = format!("no stock {program}: NSQ_BIN_DIR names no folder with it");
        let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}");
    }
    found
}

/// One of NSQ's programs, running.
pub(crate) struct Stock {
    child: Child,
    http: String,
    tcp_port: u16,
    dir: TempDir,
}

impl Stock {
    /// An nsqd that registers at these addresses.
    #[track_caller]
    pub(crate) fn nsqd(program: &PathBuf, lookupds: &[String]) -> Self {
        let tcp_port = free_port();
        let lookupds = lookupds.iter().map(|address| format!("-lookupd-tcp-address={address}"));
        let flags = [
            format!("-tcp-address=127.0.0.1:{tcp_port}"),
            "-broadcast-address=127.0.0.1".to_owned(),
        ];
        Self::start(program, tcp_port, |dir| {
            let data = format!("-data-path={}", dir.path().display());
            flags.into_iter().chain(lookupds).chain([data]).collect()
        })
    }

    /// An nsqadmin over these lookup HTTP addresses.
    #[track_caller]
    pub(crate) fn nsqadmin(program: &PathBuf, lookupds: &[String]) -> Self {
        let lookupds = lookupds.iter().map(|address| format!("-lookupd-http-address={address}"));
        Self::start(program, 0, |_| lookupds.collect())
    }

    #[track_caller]
    fn start(
        program: &PathBuf,
        tcp_port: u16,
        flags: impl FnOnce(&TempDir) -> Vec<String>,
    ) -> Self {
        let dir = TempDir::new().expect("temporary folder");
        let http = format!("127.0.0.1:{}", free_port());
        let log = File::create(dir.path().join("log")).expect("log file");
        let child = command_of(program)
            .arg(format!("-http-address={http}"))
            .args(flags(&dir))
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let stock = Self { child, http, tcp_port, dir };
        eventually(START_MAX, "the stock program answers", || {
            get(&stock.http, "/ping").is_ok_and(|answer| answer.status == 200)
        });
        stock
    }

    /// Its HTTP API.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// The port by which answers of `/lookup` name it.
    pub(crate) fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    /// GET of JSON.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = get(&self.http, path).unwrap_or_else(|error| panic!("GET {path}: {error}"));
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// POST that must succeed.
    #[track_caller]
    pub(crate) fn post_ok(&self, path: &str, body: &[u8]) {
        let answer = post(&self.http, path, body);
        let answer = answer.unwrap_or_else(|error| panic!("POST {path}: {error}"));
        assert_eq!(answer.status, 200, "POST {path}: {}", answer.text());
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("SIGSTOP sent");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("SIGCONT sent");
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("---- log of the stock program on {}:\n{log}", self.http);
        }
    }
}

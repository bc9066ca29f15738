//! One server process: started, watched, killed, started again.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::RawClient;
use super::http::{Response, get, post};
use super::ports::free_port;
use super::wait::eventually_ok;

/// Starting takes milliseconds; the rest is for a machine that is busy with other things.
const START_MAX: Duration = Duration::from_secs(20);
/// A clean stop takes well under two seconds, gossip's goodbye included.
const STOP_MAX: Duration = Duration::from_secs(15);

/// Whether `GRAPEVINE_TEST_SERVER` puts another program in the place of grapevine.
pub(crate) fn is_reference() -> bool {
    std::env::var_os("GRAPEVINE_TEST_SERVER").is_some()
}

/// The command that starts a server; see [`command_of`].
pub(crate) fn server_command() -> Command {
    let words: Vec<String> = match std::env::var("GRAPEVINE_TEST_SERVER") {
        Ok(words) => words.split_whitespace().map(str::to_owned).collect(),
        Err(_) => vec![env!("CARGO_BIN_EXE_grapevine").to_owned(), "nsqd".to_owned()],
    };
    let mut command = command_of(&words[0]);
    command.args(&words[1..]);
    command
}

/// A command that dies with the thread that starts it where the system has `setpriv`: an
/// interrupted test run leaves nothing behind.
pub(crate) fn command_of(program: impl AsRef<OsStr>) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    let mut command = if setpriv.exists() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.stdin(Stdio::null());
    command
}

/// What a program that ended by itself left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Everything it wrote to standard error.
    pub(crate) stderr: String,
    /// Everything it wrote to standard output.
    pub(crate) stdout: String,
}

/// Runs `command` to its end; panics if it is still running after a while.
#[track_caller]
pub(crate) fn run_to_exit(mut command: Command) -> Outcome {
    let dir = TempDir::new().expect("temporary folder");
    let (out, err) = (dir.path().join("stdout"), dir.path().join("stderr"));
    let mut child = command
        .stdout(File::create(&out).expect("stdout file"))
        .stderr(File::create(&err).expect("stderr file"))
        .spawn()
        .expect("the program starts");
    let text = |path: &Path| {
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    };
    let Some(status) = wait_for_exit(&mut child, STOP_MAX) else {
        child.kill().expect("killed");
        child.wait().expect("reaped");
        panic!("still running; it said:\n{}{}", text(&out), text(&err));
    };
    Outcome { code: status.code(), stderr: text(&err), stdout: text(&out) }
}

/// The last line of a node that must not start.
#[track_caller]
pub(crate) fn refusal(flags: &[&str]) -> String {
    let outcome = run_to_exit(Nsqd::prepare(flags).command());
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    outcome.stderr.lines().last().unwrap_or_default().to_owned()
}

fn wait_for_exit(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + bound;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A node with its own folder and its own ports, which it keeps over restarts.
pub(crate) struct Nsqd {
    dir: TempDir,
    flags: Vec<String>,
    seeds: Vec<String>,
    child: Option<Child>,
    tcp_port: u16,
    http_port: u16,
    gossip_port: u16,
    lookup_http_port: u16,
    lookup_tcp_port: u16,
}

impl Nsqd {
    /// A running node with nsqd's own defaults and these flags.
    #[track_caller]
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut node = Self::prepare(flags);
        node.launch();
        node
    }

    /// A node that is not running yet.
    pub(crate) fn prepare(flags: &[&str]) -> Self {
        let dir = TempDir::new().expect("temporary folder");
        std::fs::create_dir(dir.path().join("data")).expect("data path");
        Self {
            dir,
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            seeds: Vec::new(),
            child: None,
            tcp_port: free_port(),
            http_port: free_port(),
            gossip_port: free_port(),
            lookup_http_port: free_port(),
            lookup_tcp_port: free_port(),
        }
    }

    /// Nodes to join through, from the next launch on.
    pub(crate) fn set_seeds(&mut self, seeds: Vec<String>) {
        self.seeds = seeds;
    }

    /// The full command line of this node.
    pub(crate) fn command(&self) -> Command {
        let mut command = server_command();
        command
            .arg(format!("-tcp-address={}", self.tcp()))
            .arg(format!("-http-address={}", self.http()))
            .arg("-broadcast-address=127.0.0.1")
            .arg(format!("-data-path={}", self.data_path().display()));
        if !is_reference() {
            command
                .arg(format!("-gossip-address={}", self.gossip()))
                .arg(format!("-lookup-http-address={}", self.lookup_http()))
                .arg(format!("-lookup-tcp-address={}", self.lookup_tcp()));
            command.args(self.seeds.iter().map(|seed| format!("-gossip-seed-address={seed}")));
        }
        command.args(&self.flags);
        command
    }

    /// Starts the process and waits until it answers `/ping`.
    #[track_caller]
    pub(crate) fn launch(&mut self) {
        self.launch_without_waiting();
        let http = self.http();
        let child = self.child.as_mut().expect("just started");
        let mut ended = None;
        let mut ready = false;
        let end = Instant::now() + START_MAX;
        while !ready && ended.is_none() && Instant::now() < end {
            ended = child.try_wait().expect("a child can be waited for");
            ready = get(&http, "/ping").is_ok_and(|answer| answer.status == 200);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(ready, "the node did not start ({ended:?}); its log:\n{}", self.log());
    }

    /// Starts the process only.
    #[track_caller]
    pub(crate) fn launch_without_waiting(&mut self) {
        assert!(self.child.is_none(), "it is running already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.expect("log file");
        let mut command = self.command();
        command.stdout(log.try_clone().expect("log file")).stderr(log);
        self.child = Some(command.spawn().expect("the program starts"));
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// SIGSTOP: the process is there and does nothing, as on a host that hangs.
    #[track_caller]
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends a [`freeze`](Self::freeze).
    #[track_caller]
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, and waits for the end; panics if the node hangs.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it is running");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("SIGTERM sent");
        let Some(status) = wait_for_exit(&mut child, STOP_MAX) else {
            child.kill().expect("killed");
            child.wait().expect("reaped");
            panic!("the node ignores SIGTERM; its log:\n{}", self.log());
        };
        status
    }

    /// SIGTERM, then a new start on the same ports and data path.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        let status = self.terminate();
        assert!(status.success(), "a clean stop exits with 0: {status}\n{}", self.log());
        self.launch();
    }

    /// Sends the process a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it is running");
        kill_process(Pid::from_child(child), signal).expect("signal sent");
    }

    /// The id of the running process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// Whether the process is there.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|end| end.is_none()))
    }

    /// Waits for a process that ends by itself; panics if it does not.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it was started");
        let Some(status) = wait_for_exit(&mut child, STOP_MAX) else {
            child.kill().expect("killed");
            child.wait().expect("reaped");
            panic!("the node does not end; its log:\n{}", self.log());
        };
        status
    }

    /// Everything the node has written to its log, over all its starts.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The folder given as `-data-path`.
    pub(crate) fn data_path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where TCP clients connect.
    pub(crate) fn tcp(&self) -> String {
        format!("127.0.0.1:{}", self.tcp_port)
    }

    /// The port of [`tcp`](Self::tcp), which identifies the node in `/lookup` answers.
    pub(crate) fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    /// nsqd's HTTP API.
    pub(crate) fn http(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    /// nsqlookupd's HTTP API.
    pub(crate) fn lookup_http(&self) -> String {
        format!("127.0.0.1:{}", self.lookup_http_port)
    }

    /// nsqlookupd's TCP protocol.
    pub(crate) fn lookup_tcp(&self) -> String {
        format!("127.0.0.1:{}", self.lookup_tcp_port)
    }

    /// Where other nodes gossip with this one.
    pub(crate) fn gossip(&self) -> String {
        format!("127.0.0.1:{}", self.gossip_port)
    }

    /// A V2 client that has sent the magic and nothing else.
    #[track_caller]
    pub(crate) fn client(&self) -> RawClient {
        RawClient::v2(&self.tcp())
    }

    /// A V2 client that is subscribed and ready for `rdy` messages.
    #[track_caller]
    pub(crate) fn consumer(&self, topic: &str, channel: &str, rdy: u32) -> RawClient {
        let mut client = self.client();
        client.command(&format!("SUB {topic} {channel}"), None);
        client.expect_ok();
        client.command(&format!("RDY {rdy}"), None);
        client
    }

    /// GET from nsqd's HTTP API.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        get(&self.http(), path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// POST to nsqd's HTTP API.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Response {
        post(&self.http(), path, body).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// POST that must succeed.
    #[track_caller]
    pub(crate) fn post_ok(&self, path: &str, body: &[u8]) {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 200, "POST {path}: {}", answer.text());
    }

    /// Makes the topic and the channel.
    #[track_caller]
    pub(crate) fn create_channel(&self, topic: &str, channel: &str) {
        self.post_ok(&format!("/topic/create?topic={topic}"), b"");
        self.post_ok(&format!("/channel/create?topic={topic}&channel={channel}"), b"");
    }

    /// The `/stats` object of one channel; `null` if there is no such channel.
    #[track_caller]
    pub(crate) fn channel_stats(&self, topic: &str, channel: &str) -> Value {
        let path = format!("/stats?format=json&include_mem=false&topic={topic}&channel={channel}");
        let mut stats = self.get(&path).json();
        stats["topics"][0]["channels"][0].take()
    }

    /// Waits until a counter of a channel has this value.
    #[track_caller]
    pub(crate) fn wait_for_stat(&self, topic: &str, channel: &str, counter: &str, want: u64) {
        eventually_ok(Duration::from_secs(10), &format!("{counter} of {topic}/{channel}"), || {
            let stats = self.channel_stats(topic, channel);
            if stats[counter] == want { Ok(()) } else { Err(format!("{stats}, want {want}")) }
        });
    }
}

impl Drop for Nsqd {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- log of the node on {}:\n{}", self.tcp(), self.log());
        }
    }
}

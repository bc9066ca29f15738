//! One node process of a throw-away cluster.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};

use super::ports;
use crate::cli::{parent, terminal};

/// A node that has not stopped by then is killed.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Lines of a node's log that are shown when something went wrong.
const LOG_LINES_SHOWN: usize = 10;

/// The ports of one node, all on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) tcp: u16,
    pub(super) http: u16,
    pub(super) lookup_http: u16,
    pub(super) lookup_tcp: u16,
    pub(super) gossip: u16,
}

/// A node, running or not; it keeps its ports and files from one start to the next.
#[derive(Debug)]
pub(super) struct LocalNode {
    /// `node1` and so on.
    pub(super) name: String,
    pub(super) ports: Ports,
    folder: PathBuf,
    /// Gossip port of the first node; the first node itself needs none.
    seed: Option<u16>,
    child: Option<Child>,
}

impl LocalNode {
    /// `count` nodes that are not running yet, with folders in `folder`.
    ///
    /// # Errors
    ///
    /// No free ports, or no room for the folders.
    pub(super) fn reserve(folder: &Path, count: usize) -> io::Result<Vec<Self>> {
        let ports = ports::free(count * 5)?;
        let mut nodes: Vec<Self> = Vec::with_capacity(count);
        for (index, ports) in ports.chunks_exact(5).enumerate() {
            let &[tcp, http, lookup_http, lookup_tcp, gossip] = ports else { continue };
            let name = format!("node{}", index + 1);
            let folder = folder.join(&name);
            std::fs::create_dir(&folder)?;
            let seed = nodes.first().map(|node| node.ports.gossip);
            let ports = Ports { tcp, http, lookup_http, lookup_tcp, gossip };
            nodes.push(Self { name, ports, folder, seed, child: None });
        }
        Ok(nodes)
    }

    /// Where clients connect.
    pub(super) fn tcp(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.tcp))
    }

    /// Where HTTP is answered.
    pub(super) fn http(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.http))
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// The program or its log file cannot be opened.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("nsqd")
            .args(self.flags())
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            // Its own group: Ctrl-C is for us, and we stop the nodes in order.
            .process_group(0)
            .kill_on_drop(true);
        parent::bind(&mut command);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Ends the process as a crash would, without a chance to write anything.
    ///
    /// # Errors
    ///
    /// It cannot be ended.
    pub(super) async fn kill(&mut self) -> io::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill().await,
            None => Ok(()),
        }
    }

    /// Sends SIGTERM, if the process is running.
    pub(super) fn ask_to_stop(&self) {
        let pid = self.child.as_ref().and_then(Child::id);
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // An error means it has ended by itself, which `stopped` finds out.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }

    /// Waits for the process to end; whether it did so cleanly and in time.
    pub(super) async fn stopped(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return true };
        let ended = tokio::time::timeout(STOP_MAX, child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => true,
            Ok(Ok(status)) => {
                terminal::err(&format!("{} ended with {status}\n", self.name));
                self.show_log();
                false
            }
            Ok(Err(error)) => {
                terminal::err(&format!("{}: {error}\n", self.name));
                false
            }
            Err(_) => {
                terminal::err(&format!(
                    "{} did not stop within {STOP_MAX:?} and is killed\n",
                    self.name
                ));
                self.show_log();
                // Dropping the child kills it.
                false
            }
        }
    }

    /// # Errors
    ///
    /// The process has ended by itself.
    pub(super) fn check_running(&mut self) -> io::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("{} ended with {status}", self.name))),
        }
    }

    /// Writes the last lines of the log to stderr.
    pub(super) fn show_log(&self) {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        terminal::err(&format!("last lines of {}:\n", self.log_path().display()));
        for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
            terminal::err(&format!("  {line}\n"));
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn flags(&self) -> Vec<String> {
        let Ports { tcp, http, lookup_http, lookup_tcp, gossip } = self.ports;
        let mut flags = vec![
            format!("-log-prefix=[{}] ", self.name),
            format!("-data-path={}", self.folder.display()),
            "-broadcast-address=127.0.0.1".to_owned(),
            format!("-tcp-address=127.0.0.1:{tcp}"),
            format!("-http-address=127.0.0.1:{http}"),
            "-https-address=".to_owned(),
            format!("-lookup-http-address=127.0.0.1:{lookup_http}"),
            format!("-lookup-tcp-address=127.0.0.1:{lookup_tcp}"),
            format!("-gossip-address=127.0.0.1:{gossip}"),
        ];
        flags.extend(self.seed.map(|seed| format!("-gossip-seed-address=127.0.0.1:{seed}")));
        flags
    }
}

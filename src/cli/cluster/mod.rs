//! `grapevine cluster`: a throw-away cluster of real node processes on this machine.

mod demo;
mod http;
mod local_node;
mod ports;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{ArgAction, CommandFactory, Parser};
use tokio::signal::unix::{SignalKind, signal};

use self::local_node::LocalNode;
use super::{EXIT_FAILURE, EXIT_USAGE, terminal};
use crate::config::go_flags::{self, Words};
use crate::config::values::{boolean, count, duration};

/// More nodes than this on one machine show nothing new.
const NODES_MAX: u64 = 16;

/// A cluster that has not formed by then never will.
const FORMING_MAX: Duration = Duration::from_secs(30);

/// Flags of `grapevine cluster`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "grapevine cluster",
    no_binary_name = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
struct Flags {
    /// number of nodes, 1 to 16
    #[arg(long, value_name = "int", default_value = "3", value_parser = count)]
    nodes: u64,
    /// publish and consume a stream while one node is killed and comes back, then end
    #[arg(long, value_name = "bool", default_value = "false", action = ArgAction::Set)]
    #[arg(value_parser = boolean)]
    demo: bool,
    /// how long the demo publishes with all nodes up
    #[arg(long, value_name = "duration", default_value = "9s", value_parser = duration)]
    duration: Duration,
}

impl Flags {
    /// The flags, or the exit code of a command line that starts nothing.
    fn read(args: impl IntoIterator<Item = String>) -> Result<Self, ExitCode> {
        let usage = || go_flags::usage(&Self::command());
        let mistake = |message: &str| {
            terminal::err(&format!("{message}\n{}", usage()));
            ExitCode::from(EXIT_USAGE)
        };
        let words = Words::split(&Self::command(), args).map_err(|e| mistake(&e.to_string()))?;
        let flags: Self = go_flags::values(&words.flags).map_err(|e| mistake(&e.to_string()))?;
        if words.is_help {
            terminal::err(&usage());
            return Err(ExitCode::SUCCESS);
        }
        if let Some(word) = words.rest.first() {
            return Err(mistake(&format!("{word:?} is no flag")));
        }
        if !(1..=NODES_MAX).contains(&flags.nodes) {
            return Err(mistake(&format!("-nodes must be 1 to {NODES_MAX}")));
        }
        if flags.demo && flags.nodes < 2 {
            return Err(mistake("-demo kills a node, so it needs at least 2"));
        }
        Ok(flags)
    }
}

/// Runs a cluster until Ctrl-C, or the demo until its end. The exit code is 0 after a clean stop,
/// 1 if the cluster did not form or the demo lost a message.
pub(super) fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let flags = match Flags::read(args) {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    // The nodes end with the thread that starts them, so it must be this one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(run(&flags))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILURE),
        Err(error) => {
            terminal::err(&format!("grapevine cluster: {error}\n"));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Whether all went well.
async fn run(flags: &Flags) -> io::Result<bool> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let folder = tempfile::Builder::new().prefix("grapevine-cluster-").tempdir()?;
    let node_count = usize::try_from(flags.nodes).expect("at most NODES_MAX");
    let mut nodes = LocalNode::reserve(folder.path(), node_count)?;

    let work = async {
        for node in &mut nodes {
            node.start()?;
        }
        let formed_after = wait_until_formed(&mut nodes).await?;
        terminal::out(&format!(
            "{node_count} nodes are up; each knew all others after {:.1} s. \
             Their files are in {}\n",
            formed_after.as_secs_f64(),
            folder.path().display()
        ));
        terminal::out(&format!("\n{}", table(&nodes)));
        if flags.demo {
            return demo::run(&mut nodes, flags.duration).await;
        }
        terminal::out(&hints(&nodes));
        std::future::pending().await
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = interrupted.recv() => Ok(!flags.demo),
        _ = terminated.recv() => Ok(!flags.demo),
    };

    for node in &nodes {
        node.ask_to_stop();
    }
    let mut is_clean = true;
    for node in &mut nodes {
        is_clean &= node.stopped().await;
    }
    if outcome.is_err() {
        nodes.iter().for_each(LocalNode::show_log);
    }
    Ok(outcome? && is_clean)
}

/// Waits until every node lists all of them.
///
/// # Errors
///
/// A node ended, or they did not find each other in time.
async fn wait_until_formed(nodes: &mut [LocalNode]) -> io::Result<Duration> {
    let started = Instant::now();
    let expected = nodes.len();
    for index in 0..expected {
        loop {
            let known = http::get_json(nodes[index].http(), "/nodes").await;
            let known = known.ok().and_then(|body| body["producers"].as_array().map(Vec::len));
            if known == Some(expected) {
                break;
            }
            for node in nodes.iter_mut() {
                node.check_running()?;
            }
            if started.elapsed() > FORMING_MAX {
                let name = &nodes[index].name;
                let known = known.unwrap_or_default();
                let what =
                    format!("{name} knows {known} of {expected} nodes after {FORMING_MAX:?}");
                return Err(io::Error::other(what));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(started.elapsed())
}

fn table(nodes: &[LocalNode]) -> String {
    let mut text = format!(
        "  {:<7} {:<17} {:<17} {:<17} {:<17} {}\n",
        "node", "clients (TCP)", "HTTP", "lookupd HTTP", "lookupd TCP", "gossip"
    );
    for node in nodes {
        let ports = &node.ports;
        let columns = [ports.tcp, ports.http, ports.lookup_http, ports.lookup_tcp, ports.gossip];
        let columns = columns.map(|port| format!("{:<17}", format!("127.0.0.1:{port}")));
        text.push_str(format!("  {:<7} {}", node.name, columns.join(" ")).trim_end());
        text.push('\n');
    }
    text
}

fn hints(nodes: &[LocalNode]) -> String {
    let first = nodes.first().map_or(0, |node| node.ports.http);
    let last = nodes.last().map_or(0, |node| node.ports.http);
    format!(
        "
Try, in another terminal:
  curl -d 'hello' 'http://127.0.0.1:{first}/pub?topic=demo'   publish on the first node
  curl 'http://127.0.0.1:{last}/lookup?topic=demo'           ask any node who has the topic
  curl 'http://127.0.0.1:{last}/nodes'                       ask any node who is alive
  curl 'http://127.0.0.1:{first}/stats'                       one node's topics and channels

Ctrl-C stops the nodes and removes their files.
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Flags, ExitCode> {
        Flags::read(line.split_whitespace().map(ToOwned::to_owned))
    }

    #[test]
    fn the_flags_are_written_as_those_of_nsqd() {
        let flags = read("--nodes 5 -demo -duration=3s").expect("a good line");
        assert_eq!((flags.nodes, flags.demo), (5, true));
        assert_eq!(flags.duration, Duration::from_secs(3));
    }

    #[test]
    fn a_command_line_that_makes_no_sense_ends_with_the_usage_text() {
        for line in ["-nodes=0", "-nodes=17", "-nodes=1 -demo", "-nodes=x", "3", "-no-such"] {
            assert_eq!(read(line).err(), Some(ExitCode::from(EXIT_USAGE)), "{line}");
        }
        assert_eq!(read("-help").err(), Some(ExitCode::SUCCESS));
    }
}

//! Stock NSQ clients against a cluster while one of its nodes is killed and comes back.
//!
//! The clients are installed from their registries into the target folder. A missing runtime or
//! registry is said aloud and passes: the rest of the suite needs nothing but Rust.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{Cluster, is_reference};

/// Messages each client publishes, at most one every 5 ms.
const COUNT: usize = 600;
/// Downloading and building a client library.
const INSTALL_MAX: Duration = Duration::from_secs(240);
/// Publishing takes about 5 s, finding the lost node again a few more; the rest is for a busy
/// machine.
const RUN_MAX: Duration = Duration::from_secs(120);

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients")
}

/// Where the libraries of one client are installed; kept between runs.
fn installation(client: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-clients").join(client);
    std::fs::create_dir_all(&folder).expect("a folder below target/");
    folder
}

/// Says, past the capturing of test output, that a client was not tested.
fn skip(client: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {client}: {reason}");
}

/// Runs one step of an installation; the error is the reason to skip.
fn step(folder: &Path, program: &str, args: &[&str]) -> Result<(), String> {
    let log = folder.join("install.log");
    let output = File::create(&log).map_err(|error| error.to_string())?;
    let mut child = Command::new(program)
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(|error| error.to_string())?)
        .stderr(output)
        .spawn()
        .map_err(|error| format!("no {program} ({error})"))?;
    let end = Instant::now() + INSTALL_MAX;
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("");
                return Err(format!("{program} {}: {status}: {last}", args[0]));
            }
            None if Instant::now() > end => {
                child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
                return Err(format!("{program} {} took longer than {INSTALL_MAX:?}", args[0]));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A client in Python, whose library `package` is imported as `module`; `None`: it is not here.
fn python_client(client: &str, package: &str, module: &str) -> Option<Command> {
    let folder = installation(client);
    let python = folder.join("venv/bin/python");
    let install = || {
        let imports = format!("import {module}");
        if python.exists()
            && step(&folder, &python.display().to_string(), &["-c", &imports]).is_ok()
        {
            return Ok(());
        }
        step(&folder, "python3", &["-m", "venv", "venv"])?;
        let python = python.display().to_string();
        step(&folder, &python, &["-m", "pip", "install", "-q", package])
    };
    if let Err(reason) = install() {
        skip(client, &reason);
        return None;
    }
    let mut command = Command::new(&python);
    command.arg(clients().join(client).with_extension("py"));
    Some(command)
}

#[test]
fn pynsq_loses_nothing_while_a_node_dies_and_returns() {
    if let Some(command) = python_client("pynsq", "pynsq==0.9.1", "nsq") {
        survives_the_death_of_a_node(command);
    }
}

/// Its reader does not get over a connection that was reset.
#[test]
fn ansq_loses_nothing_at_three_nodes() {
    if let Some(command) = python_client("ansq_client", "ansq==0.3.0", "ansq") {
        loses_nothing(command, false);
    }
}

/// Its subscriber waits longer for a node that is gone than a test may.
#[test]
fn nsq_j_loses_nothing_at_three_nodes() {
    let folder = installation("nsq-j");
    let source = clients().join("nsq-j");
    let libraries = folder.join("lib");
    let install = || {
        step(&folder, "java", &["-version"]).map_err(|_| "no java".to_owned())?;
        if libraries.exists() {
            return Ok(());
        }
        let pom = format!("--file={}", source.join("pom.xml").display());
        let output = format!("-DoutputDirectory={}", libraries.display());
        step(&folder, "mvn", &["-q", "-B", &pom, "dependency:copy-dependencies", &output])
    };
    if let Err(reason) = install() {
        return skip("nsq-j", &reason);
    }
    let mut command = Command::new("java");
    command.arg("-cp").arg(libraries.join("*")).arg(source.join("Client.java"));
    loses_nothing(command, false);
}

#[test]
fn tokio_nsq_loses_nothing_while_a_node_dies_and_returns() {
    let folder = installation("tokio-nsq");
    let source = clients().join("tokio-nsq");
    let copy = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder.join("src"))?;
        for file in ["Cargo.toml", "src/main.rs"] {
            std::fs::copy(source.join(file), folder.join(file))?;
        }
        Ok(())
    };
    // Not in the source tree: cargo leaves a lock file beside the manifest.
    copy().expect("a folder below target/");
    let target = format!("--target-dir={}", folder.join("target").display());
    if let Err(reason) = step(&folder, "cargo", &["build", "-q", &target]) {
        return skip("tokio-nsq", &reason);
    }
    survives_the_death_of_a_node(Command::new(folder.join("target/debug/client")));
}

#[test]
fn nsqjs_loses_nothing_while_a_node_dies_and_returns() {
    let folder = installation("nsqjs");
    let install = || {
        step(&folder, "node", &["--version"])?;
        if folder.join("node_modules/nsqjs/package.json").exists() {
            return Ok(());
        }
        let prefix = format!("--prefix={}", folder.display());
        step(&folder, "npm", &["install", &prefix, "--no-audit", "--no-fund", "nsqjs@0.13.0"])
    };
    if let Err(reason) = install() {
        return skip("nsqjs", &reason);
    }
    let mut command = Command::new("node");
    command.env("NODE_PATH", folder.join("node_modules")).arg(clients().join("nsqjs.cjs"));
    survives_the_death_of_a_node(command);
}

#[test]
fn go_nsq_loses_nothing_while_a_node_dies_and_returns() {
    let folder = installation("go-nsq");
    let program = folder.join("client");
    let source = clients().join("go-nsq").display().to_string();
    let output = program.display().to_string();
    let install = || {
        step(&folder, "go", &["version"]).map_err(|_| "no go toolchain".to_owned())?;
        step(&folder, "go", &["-C", &source, "build", "-o", &output, "."])
    };
    if let Err(reason) = install() {
        return skip("go-nsq", &reason);
    }
    survives_the_death_of_a_node(Command::new(&program));
}

/// A foreign program that is killed when the test ends early.
struct Foreign(Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn survives_the_death_of_a_node(command: Command) {
    loses_nothing(command, true);
}

/// Runs a client against three nodes, kills node 1 after a quarter of the messages if `one_dies`,
/// brings it back after two thirds, and checks that all that was acknowledged has been consumed.
#[track_caller]
fn loses_nothing(mut command: Command, one_dies: bool) {
    if is_reference() {
        return;
    }
    let mut cluster = Cluster::of(3);
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.tcp()).collect();
    let lookups: Vec<String> = cluster.nodes.iter().map(|node| node.lookup_http()).collect();
    command.args([addresses.join(","), lookups.join(","), "numbers".into(), COUNT.to_string()]);
    let mut client = Foreign(command.stdout(Stdio::piped()).spawn().expect("the client starts"));
    let output = BufReader::new(client.0.stdout.take().expect("its output"));
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });

    let end = Instant::now() + RUN_MAX;
    let (mut published, mut consumed) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = match lines.recv_timeout(left) {
            Ok(line) => line,
            Err(reason) => {
                let missing: Vec<&String> = published.difference(&consumed).collect();
                let counts = (published.len(), consumed.len());
                panic!("{reason}: (published, consumed) = {counts:?}, missing {missing:?}");
            }
        };
        match line.split_once(' ') {
            Some(("published", body)) => {
                published.insert(body.to_owned());
                if one_dies && published.len() == COUNT / 4 {
                    cluster.nodes[1].kill();
                } else if one_dies && published.len() == COUNT * 2 / 3 {
                    cluster.nodes[1].launch();
                }
            }
            Some(("consumed", body)) => {
                consumed.insert(body.to_owned());
            }
            _ if line == "done" => break,
            _ => {}
        }
    }
    assert_eq!(published.len(), COUNT);
    assert!(published.is_subset(&consumed));
    cluster.wait_until_known(Duration::from_secs(15), &[0, 1, 2]);
}

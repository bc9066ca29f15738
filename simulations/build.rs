//! Writes down which commit the program is built from, for cases and reports of failures.
//!
//! `GRAPEVINE_COMMIT` is seven digits of the commit, with a `+` when files that have a say in a run
//! differ from it, or `unknown` where there is no git. Nothing here fails the build.

use std::path::Path;
use std::process::Command;

/// What has a say in a run, from the root of the repository.
const SOURCES: [&str; 6] =
    ["simulations/src", "gossip/src", "protocol/src", "src/broker", "src/storage", "Cargo.lock"];

fn main() {
    let commit = git(&["rev-parse", "--short=7", "HEAD"]);
    let mut status = vec!["status", "--porcelain", "--"];
    status.extend(SOURCES);
    let changed = git(&status).is_some_and(|changes| !changes.is_empty());
    let mark = if changed { "+" } else { "" };
    let commit = commit.map_or_else(|| "unknown".to_owned(), |commit| format!("{commit}{mark}"));
    println!("cargo::rustc-env=GRAPEVINE_COMMIT={commit}");

    println!("cargo::rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed=../{source}");
    }
    let branch = git(&["symbolic-ref", "-q", "HEAD"]).unwrap_or_default();
    for name in ["HEAD", branch.as_str()] {
        let Some(path) = git(&["rev-parse", "--git-path", name]) else { continue };
        let path = Path::new("..").join(path);
        // A file that is not there would make every build run this again.
        if !name.is_empty() && path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}

/// What git says in the root of the repository, if it says anything.
fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(words)
        .current_dir("..")
        // Without it `git status` writes to the index, and other builds would start again.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

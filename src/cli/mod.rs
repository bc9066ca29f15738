//! The command line: one program, subcommands, and links named like NSQ's tools.

mod cluster;
mod logging;
mod nsqd;
mod parent;
mod terminal;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use grapevine_protocol::VERSION;

/// A bad command line, as Go's `flag` package ends it.
const EXIT_USAGE: u8 = 2;

/// What cannot start, or was not kept.
const EXIT_FAILURE: u8 = 1;

const USAGE: &str = "\
Grapevine: NSQ without the lookup tier. Every node is an nsqd, and any node answers /lookup.

Usage: grapevine <command> [flags]

  nsqd       run a node; also when the program is called nsqd
  cluster    run a throw-away cluster on this machine (--nodes 3, --demo)
  simulate   run a whole cluster in one process and break its network (run split-brain)
  help       this text; `grapevine <command> -help` lists the flags of a command
  version    the version

First steps: grapevine cluster --nodes 3 --demo
";

/// Runs the command that `args` (program name first) ask for.
///
/// Called through a link named `nsqd`, the program is `grapevine nsqd`. The exit code is 0 after a
/// clean stop, 1 for what could not start, 2 for a bad command line.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    parent::watch();
    let mut words = Vec::new();
    for arg in args {
        match arg.into_string() {
            Ok(word) => words.push(word),
            Err(arg) => {
                terminal::err(&format!("{} is not UTF-8\n", arg.to_string_lossy()));
                return ExitCode::from(EXIT_USAGE);
            }
        }
    }
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    if program_name(&program) == Some("nsqd") {
        return nsqd::main(words);
    }
    match words.next().as_deref() {
        Some("nsqd") => nsqd::main(words),
        Some("cluster") => cluster::main(words),
        Some("simulate") => grapevine_simulations::cli::main(words),
        Some("help" | "-h" | "-help" | "--help") => {
            terminal::out(USAGE);
            ExitCode::SUCCESS
        }
        Some("version" | "-version" | "--version" | "-V") => {
            let own = env!("CARGO_PKG_VERSION");
            terminal::out(&format!("grapevine v{own} (nsqd v{VERSION})\n"));
            ExitCode::SUCCESS
        }
        Some(unknown) => {
            terminal::err(&format!("grapevine: there is no command {unknown:?}\n\n{USAGE}"));
            ExitCode::from(EXIT_USAGE)
        }
        None => {
            terminal::err(USAGE);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// The last part of the program's path.
fn program_name(program: &str) -> Option<&str> {
    Path::new(program).file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> ExitCode {
        main(words.iter().map(OsString::from))
    }

    #[test]
    fn help_and_version_are_no_mistakes() {
        for word in ["help", "-h", "--help", "version", "--version", "-version"] {
            assert_eq!(run(&["grapevine", word]), ExitCode::SUCCESS, "{word}");
        }
    }

    #[test]
    fn an_unknown_command_or_none_ends_with_the_usage_text() {
        assert_eq!(run(&["grapevine", "nsqdd"]), ExitCode::from(EXIT_USAGE));
        assert_eq!(run(&["grapevine"]), ExitCode::from(EXIT_USAGE));
    }

    #[test]
    fn a_link_called_nsqd_takes_the_flags_of_nsqd() {
        for words in [&["/usr/bin/nsqd", "-version"][..], &["grapevine", "nsqd", "--version"]] {
            assert_eq!(run(words), ExitCode::SUCCESS);
        }
        assert_eq!(run(&["nsqd", "-no-such-flag"]), ExitCode::from(EXIT_USAGE));
        assert_eq!(run(&["nsqd", "-node-id=-1"]), ExitCode::from(EXIT_FAILURE));
    }
}

//! Nodes of a throw-away cluster end with the program that started them.

use super::terminal;

/// Holds the process id of the program that started this one and that it must not outlive.
const PARENT_VARIABLE: &str = "GRAPEVINE_PARENT_PID";

/// Sets up `command` so that the process ends when this one does, even by SIGKILL.
///
/// The death is that of the calling *thread*, so call this from one that lives as long as the
/// program.
pub(super) fn bind(command: &mut tokio::process::Command) {
    command.env(PARENT_VARIABLE, std::process::id().to_string());
}

/// Called first in every process: honours [`bind`].
pub(super) fn watch() {
    let Ok(parent) = std::env::var(PARENT_VARIABLE) else { return };
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
    {
        terminal::err(&format!("cannot ask to end with the parent: {error}\n"));
    }
    // The parent may have ended before we asked.
    let current = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    if current.map(|pid| pid.to_string()) != Some(parent) {
        terminal::err("the program that started this node is gone\n");
        std::process::exit(1);
    }
}

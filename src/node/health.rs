//! Whether the node can store messages: what `/ping` and `/stats` tell.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The last failure to write, until a write succeeds again (storage, section 1).
#[derive(Debug, Default)]
pub struct Health {
    is_failing: AtomicBool,
    /// A write failed since [`may_be_over`](Self::may_be_over) was last asked.
    is_recent: AtomicBool,
    error: Mutex<String>,
}

impl Health {
    /// Notes a failure; `true` if it is the first since the last success, and worth a log line.
    pub fn write_failed(&self, error: &std::io::Error) -> bool {
        *self.error.lock() = error.to_string();
        self.is_recent.store(true, Ordering::Relaxed);
        !self.is_failing.swap(true, Ordering::AcqRel)
    }

    /// Notes that storing works.
    pub fn write_succeeded(&self) {
        if self.is_failing.load(Ordering::Relaxed) && self.is_failing.swap(false, Ordering::AcqRel)
        {
            tracing::info!("messages can be stored again");
        }
    }

    /// Whether storing failed, but not since the last call: somebody must try, since a node that is
    /// not well may be sent no messages to try it with.
    pub fn may_be_over(&self) -> bool {
        !self.is_recent.swap(false, Ordering::Relaxed) && !self.is_ok()
    }

    /// `OK`, or `NOK - ` and the reason.
    pub fn text(&self) -> String {
        match self.is_failing.load(Ordering::Acquire) {
            false => "OK".to_owned(),
            true => format!("NOK - {}", self.error.lock()),
        }
    }

    /// Whether storing works.
    pub fn is_ok(&self) -> bool {
        !self.is_failing.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_may_be_over_once_a_round_has_passed_without_another() {
        let health = Health::default();
        assert!(!health.may_be_over(), "nothing has failed");
        health.write_failed(&std::io::Error::other("disk full"));
        assert!(!health.may_be_over());
        assert!(health.may_be_over());
        health.write_failed(&std::io::Error::other("disk full"));
        assert!(!health.may_be_over(), "it failed again");
        health.write_succeeded();
        assert!(!health.may_be_over());
    }
}

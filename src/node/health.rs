//! Whether the node can store messages: what `/ping` and `/stats` tell.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The last failure to write, until a write succeeds again (storage, section 1).
#[derive(Debug, Default)]
pub struct Health {
    is_failing: AtomicBool,
    error: Mutex<String>,
}

impl Health {
    /// Notes a failure; `true` if it is the first since the last success, and worth a log line.
    pub fn write_failed(&self, error: &std::io::Error) -> bool {
        *self.error.lock() = error.to_string();
        !self.is_failing.swap(true, Ordering::AcqRel)
    }

    /// Notes that storing works.
    pub fn write_succeeded(&self) {
        if self.is_failing.load(Ordering::Relaxed) && self.is_failing.swap(false, Ordering::AcqRel)
        {
            tracing::info!("messages can be stored again");
        }
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

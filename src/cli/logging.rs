//! The log on stderr, in nsqd's format:
//! `<log-prefix>YYYY/MM/DD HH:MM:SS.uuuuuu LEVEL: phrase key=value ...`, in local time.

use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::terminal;
use crate::config::{Live, LogLevel, Options};

/// Our own crates start with this; those of others speak only when something is wrong.
const OWN_TARGET: &str = "grapevine";

/// Sends everything logged from now on to stderr. The level follows [`Live::set_log_level`].
pub(super) fn install(options: &Options) {
    log_panics(options.log_prefix.clone());
    let log = Log { prefix: options.log_prefix.clone(), live: Arc::clone(&options.live) };
    let subscriber = tracing_subscriber::registry().with(log);
    // An error means somebody else has installed a log before: tests in one process do.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Panics are defects; they are logged in the same format as everything else, on one line.
fn log_panics(prefix: String) {
    std::panic::set_hook(Box::new(move |panic| {
        let what = panic.payload_as_str().unwrap_or("no text").replace(char::is_control, " ");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        write_line(&format!("{} ERROR: panic at {place}: {what}", head(&prefix)));
    }));
}

/// Writes why the program ends. Shown at every log level.
pub(super) fn fatal(prefix: &str, reason: &str) {
    write_line(&format!("{} FATAL: {reason}", head(prefix)));
}

struct Log {
    prefix: String,
    live: Arc<Live>,
}

impl Log {
    fn shows(&self, metadata: &Metadata<'_>) -> bool {
        let filter = level_filter(self.live.log_level());
        let is_own = metadata.target().starts_with(OWN_TARGET);
        let limit = if is_own { filter } else { filter.min(LevelFilter::WARN) };
        *metadata.level() <= limit
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.shows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.shows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(level_filter(self.live.log_level()))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = level_name(*event.metadata().level());
        let mut line = format!("{} {level}: {}{}", head(&self.prefix), fields.phrase, fields.rest);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.push_str(&fields.rest);
            }
        }
        write_line(&line);
    }
}

/// The fields of one event or span as text.
#[derive(Default)]
struct Fields {
    phrase: String,
    /// ` key=value` for each, in the order they were written.
    rest: String,
}

impl Fields {
    fn push(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.phrase = value.replace(char::is_control, " ");
            return;
        }
        // Writing to a text cannot fail.
        let _ = write!(self.rest, " {}=", field.name());
        let is_plain = !value.is_empty()
            && !value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
        let _ = if is_plain { self.rest.write_str(value) } else { write!(self.rest, "{value:?}") };
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field, &format!("{value:?}"));
    }
}

fn head(prefix: &str) -> String {
    format!("{prefix}{}", Zoned::now().strftime("%Y/%m/%d %H:%M:%S.%6f"))
}

fn write_line(line: &str) {
    // One write, so that lines of several processes on one terminal do not mix. A closed stderr
    // must not end the node.
    terminal::err(&format!("{line}\n"));
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Fatal => LevelFilter::OFF,
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_starts_with_prefix_date_and_time_to_the_microsecond() {
        let line = head("[nsqd] ");
        let shape: String =
            line.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        assert_eq!(shape, "[nsqd] 9999/99/99 99:99:99.999999");
    }

    #[test]
    fn the_level_can_change_while_the_program_runs() {
        let live = Arc::new(Live::default());
        let log = Log { prefix: String::new(), live: Arc::clone(&live) };
        let subscriber = tracing_subscriber::registry().with(log);
        tracing::subscriber::with_default(subscriber, || {
            let is_debug = || tracing::enabled!(target: "grapevine", Level::DEBUG);
            assert!(!is_debug());
            live.set_log_level(LogLevel::Debug);
            assert!(is_debug());
            assert!(!tracing::enabled!(target: "foca", Level::INFO), "others stay quiet");
            live.set_log_level(LogLevel::Fatal);
            assert!(!tracing::enabled!(target: "grapevine", Level::ERROR));
        });
    }
}

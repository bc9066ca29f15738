//! From a command line to [`Options`].

use std::io::Read;
use std::sync::Arc;

use clap::CommandFactory;

use super::file::CONFIG_FILE_BYTES_MAX;
use super::go_flags::{self, FlagError, Words};
use super::{Live, Options, file};

/// What a good command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// A node.
    Run(Box<Options>),
    /// The text of [`Options::usage`].
    Help,
    /// The version.
    Version,
}

/// Why a command line starts nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OptionsError {
    /// Not a command line of this program: the message, then the usage text. Exit code 2.
    #[error(transparent)]
    Usage(#[from] FlagError),
    /// A node cannot start like this: one line in the log. Exit code 1.
    #[error("{reason}")]
    Fatal {
        /// `-log-prefix`, as far as it was read.
        log_prefix: String,
        /// Names the flag, file or key and what is wrong with it.
        reason: String,
    },
}

impl Options {
    /// Reads a command line, without the program's name, and the file named by `-config`.
    ///
    /// A flag wins over the file, the file over the default. A list given by flag replaces the
    /// file's. Words after the flags are ignored, as by nsqd.
    ///
    /// # Errors
    ///
    /// Bad flags, an unreadable or bad file, and options a node cannot start with.
    pub fn parse_like_go(
        args: impl IntoIterator<Item = String>,
    ) -> Result<Invocation, OptionsError> {
        let command = Self::command();
        let words = Words::split(&command, args)?;
        let mut options = Self::of_flags(&words.flags)?;
        if words.is_help {
            return Ok(Invocation::Help);
        }
        if options.version {
            return Ok(Invocation::Version);
        }
        if !options.config.is_empty() {
            let log_prefix = options.log_prefix.clone();
            options = options.with_file(&words).map_err(|reason| {
                let reason = format!("failed to load config file {:?} - {reason}", options.config);
                OptionsError::Fatal { log_prefix, reason }
            })?;
        }
        options.validate().map_err(|reason| OptionsError::Fatal {
            log_prefix: options.log_prefix.clone(),
            reason: format!("failed to instantiate nsqd - {reason}"),
        })?;
        options.live = Arc::new(Live::new(&options));
        Ok(Invocation::Run(Box::new(options)))
    }

    /// The text of `-help`: every flag, its type, its meaning and its default.
    pub fn usage() -> String {
        go_flags::usage(&Self::command())
    }

    /// The options of the same command line together with those of its file.
    fn with_file(&self, words: &Words) -> Result<Self, String> {
        let mut text = String::new();
        std::fs::File::open(&self.config)
            .and_then(|file| file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_string(&mut text))
            .map_err(|error| error.to_string())?;
        if text.len() as u64 > CONFIG_FILE_BYTES_MAX {
            return Err(format!("larger than {CONFIG_FILE_BYTES_MAX} bytes"));
        }
        let mut flags = file::flags(&Self::command(), &text)?;
        flags.retain(|(name, _)| !words.has(name));
        flags.extend(words.flags.iter().cloned());
        Self::of_flags(&flags).map_err(|error| error.to_string())
    }

    fn of_flags(flags: &[(String, String)]) -> Result<Self, FlagError> {
        let mut options: Self = go_flags::values(flags)?;
        options.given = flags.iter().map(|(name, _)| name.clone()).collect();
        Ok(options)
    }
}

//! Command lines in the syntax of Go's `flag` package, for options declared with clap.
//!
//! clap knows the flags, their types, defaults and help; the words are split here, because Go
//! wants `-name value`, `--name=value`, `-bool=false`, an end at the first word that is no flag,
//! and its own messages. The type shown in the usage text is clap's `value_name`; `bool` and
//! `bool-like` flags take no separate argument.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, Parser};

/// A command line that means nothing: the message of Go's `flag` package. Exit code 2.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct FlagError(pub String);

/// A command line split into flags, in the order they were given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Words {
    /// Name without dashes, and value.
    pub(crate) flags: Vec<(String, String)>,
    /// What follows the flags.
    pub(crate) rest: Vec<String>,
    /// `-h` or `-help` was met; nothing after it was read.
    pub(crate) is_help: bool,
}

impl Words {
    /// Splits `args`, which do not include the program's name.
    ///
    /// # Errors
    ///
    /// Unknown flags, missing values and bad syntax, in Go's words.
    pub(crate) fn split(
        command: &Command,
        args: impl IntoIterator<Item = String>,
    ) -> Result<Self, FlagError> {
        let mut words = Self::default();
        let mut args = args.into_iter();
        while let Some(word) = args.next() {
            let Some(dashed) = word.strip_prefix('-').filter(|name| !name.is_empty()) else {
                words.rest.push(word);
                break;
            };
            let flag = dashed.strip_prefix('-').unwrap_or(dashed);
            if word == "--" {
                break;
            }
            if flag.is_empty() || flag.starts_with(['-', '=']) {
                return Err(FlagError(format!("bad flag syntax: {word}")));
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(name)) else {
                if matches!(name, "h" | "help") {
                    words.is_help = true;
                    return Ok(words);
                }
                return Err(FlagError(format!("flag provided but not defined: -{name}")));
            };
            let value = match value {
                Some(value) => value,
                None if is_switch(arg) => "true".to_owned(),
                None => args
                    .next()
                    .ok_or_else(|| FlagError(format!("flag needs an argument: -{name}")))?,
            };
            words.flags.push((name.to_owned(), value));
        }
        words.rest.extend(args);
        Ok(words)
    }

    /// Whether the flag was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|(given, _)| given == name)
    }
}

/// Reads the flags into `T`; those not given have their defaults.
///
/// # Errors
///
/// A value its flag does not accept, in Go's words.
pub(crate) fn values<T: Parser>(flags: &[(String, String)]) -> Result<T, FlagError> {
    let words = flags.iter().map(|(name, value)| format!("--{name}={value}"));
    T::try_parse_from(words).map_err(|error| FlagError(go_message::<T>(&error, flags)))
}

/// The text Go's `flag` package prints for `-help`, after one line with the program's name.
pub(crate) fn usage(command: &Command) -> String {
    let mut flags: Vec<&Arg> = command.get_arguments().collect();
    flags.sort_by_key(|arg| arg.get_long());
    let mut text = format!("Usage of {}:\n", command.get_name());
    for arg in flags {
        let kind = if is_switch(arg) { "" } else { kind(arg) };
        let name = format!("  -{} {kind}", arg.get_long().unwrap_or_default());
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("{}\n    \t{help}{}\n", name.trim_end(), default(arg)));
    }
    text
}

/// The type of a flag's value, as the usage text shows it.
pub(crate) fn kind(arg: &Arg) -> &str {
    arg.get_value_names().and_then(|names| names.first()).map_or("value", |name| name.as_str())
}

/// Whether the flag may be repeated, each time adding one element.
pub(crate) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

fn is_switch(arg: &Arg) -> bool {
    kind(arg).starts_with("bool")
}

/// ` (default ...)`, except for zero values, which Go does not show.
fn default(arg: &Arg) -> String {
    let texts: Vec<_> =
        arg.get_default_values().iter().map(|text| text.to_string_lossy()).collect();
    match texts.first().map(AsRef::as_ref) {
        None | Some("" | "0" | "false") => String::new(),
        Some(text) if kind(arg) == "string" => format!(" (default {text:?})"),
        Some(text) => format!(" (default {text})"),
    }
}

/// What Go says where clap said `error`.
fn go_message<T: CommandFactory>(error: &clap::Error, flags: &[(String, String)]) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    // clap shows the argument as `--name <TYPE>`.
    let name = context(ContextKind::InvalidArg)
        .and_then(|arg| arg.trim_start_matches('-').split([' ', '=']).next())
        .unwrap_or_default();
    let command = T::command();
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
    let (Some(arg), ErrorKind::ValueValidation | ErrorKind::InvalidValue) = (arg, error.kind())
    else {
        return error.to_string().lines().next().unwrap_or_default().to_owned();
    };
    let given = flags.iter().rev().find(|(flag, _)| flag == name).map(|(_, value)| value.as_str());
    let value = context(ContextKind::InvalidValue).filter(|text| !text.is_empty()).or(given);
    let value = value.unwrap_or_default();
    let reason = std::error::Error::source(error).map(ToString::to_string);
    let reason = reason.unwrap_or_else(|| "parse error".to_owned());
    if kind(arg) == "bool" {
        format!("invalid boolean value {value:?} for -{name}: {reason}")
    } else {
        format!("invalid value {value:?} for flag -{name}: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser, PartialEq)]
    #[command(name = "tool", no_binary_name = true, args_override_self = true)]
    #[command(disable_help_flag = true, disable_version_flag = true)]
    struct Flags {
        /// how many
        #[arg(long, value_name = "int", default_value = "3")]
        count: u32,
        /// talk
        #[arg(long, value_name = "bool", default_value = "true", action = ArgAction::Set)]
        #[arg(value_parser = crate::config::values::boolean)]
        talk: bool,
        /// what it is called
        #[arg(long, value_name = "string", default_value = "x")]
        name: String,
        /// where
        #[arg(long, value_name = "value", action = ArgAction::Append)]
        place: Vec<String>,
    }

    fn split(line: &str) -> Result<Words, FlagError> {
        Words::split(&Flags::command(), line.split_whitespace().map(ToOwned::to_owned))
    }

    fn read(line: &str) -> Result<Flags, FlagError> {
        values(&split(line)?.flags)
    }

    #[test]
    fn one_dash_or_two_a_blank_or_an_equals_sign_mean_the_same() {
        for line in ["-count=7", "--count=7", "-count 7", "--count 7", "-count 5 -count 7"] {
            assert_eq!(read(line).map(|flags| flags.count), Ok(7), "{line}");
        }
    }

    #[test]
    fn a_switch_takes_no_separate_argument() {
        assert_eq!(read("-talk=false").map(|flags| flags.talk), Ok(false));
        let words = split("-talk false -count 7").expect("a word ends the flags");
        assert_eq!(words.flags, [("talk".to_owned(), "true".to_owned())]);
        assert_eq!(words.rest, ["false", "-count", "7"]);
    }

    #[test]
    fn flags_end_at_two_dashes_and_at_the_first_other_word() {
        assert_eq!(split("-count 1 -- -count 2").map(|words| words.rest.len()), Ok(2));
        assert_eq!(split("- -count 2").map(|words| words.rest.len()), Ok(3));
    }

    #[test]
    fn lists_grow_by_one_and_commas_stay() {
        let flags = read("-place a,b -place c").expect("a good line");
        assert_eq!(flags.place, ["a,b", "c"]);
    }

    #[test]
    fn values_may_be_empty_or_start_with_a_dash() {
        assert_eq!(read("-name=").map(|flags| flags.name), Ok(String::new()));
        assert_eq!(read("-name -x").map(|flags| flags.name), Ok("-x".to_owned()));
    }

    #[test]
    fn mistakes_are_named_in_the_words_of_go() {
        let mistakes = [
            ("-no-such", "flag provided but not defined: -no-such"),
            ("--no-such=1", "flag provided but not defined: -no-such"),
            ("-count", "flag needs an argument: -count"),
            ("---count=1", "bad flag syntax: ---count=1"),
            ("-=1", "bad flag syntax: -=1"),
            ("-talk=maybe", "invalid boolean value \"maybe\" for -talk: parse error"),
            ("-count=x", "invalid value \"x\" for flag -count: invalid digit found in string"),
            (
                "-count=",
                "invalid value \"\" for flag -count: cannot parse integer from empty string",
            ),
        ];
        for (line, message) in mistakes {
            assert_eq!(read(line), Err(FlagError(message.to_owned())), "{line}");
        }
    }

    #[test]
    fn help_ends_the_reading() {
        for line in ["-h", "--help", "-count=7 -help -no-such"] {
            assert_eq!(split(line).map(|words| words.is_help), Ok(true), "{line}");
        }
    }

    #[test]
    fn the_usage_text_looks_like_that_of_go() {
        let expected = [
            "Usage of tool:",
            "  -count int\n    \thow many (default 3)",
            "  -name string\n    \twhat it is called (default \"x\")",
            "  -place value\n    \twhere",
            "  -talk\n    \ttalk (default true)\n",
        ]
        .join("\n");
        assert_eq!(usage(&Flags::command()), expected);
    }
}

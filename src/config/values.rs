//! Texts to values, by the rules of Go's `flag`, `strconv` and `time` packages.

use std::time::Duration;

/// Reads a boolean as Go's `strconv.ParseBool` does.
///
/// # Errors
///
/// Anything but `1 t T TRUE true True 0 f F FALSE false False`.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("parse error".to_owned()),
    }
}

/// Reads a whole number as Go's `strconv.ParseInt(text, 0, 64)` does: a sign, then decimal, or
/// `0x`, `0o`, `0b`, a leading `0` for octal; single underscores may separate digits.
///
/// # Errors
///
/// Not a number, or outside of 64 bits.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    let (digits, radix) = match lower.as_str() {
        prefixed if prefixed.starts_with("0x") => (&prefixed[2..], 16),
        prefixed if prefixed.starts_with("0b") => (&prefixed[2..], 2),
        prefixed if prefixed.starts_with("0o") => (&prefixed[2..], 8),
        octal if octal.len() > 1 && octal.starts_with('0') => (&octal[1..], 8),
        decimal => (decimal, 10),
    };
    let is_misplaced = unsigned.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    if digits.starts_with(['+', '-']) || is_misplaced {
        return Err("parse error".to_owned());
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    let digits = format!("{sign}{}", digits.replace('_', ""));
    i64::from_str_radix(&digits, radix).map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
            "value out of range".to_owned()
        }
        _ => "parse error".to_owned(),
    })
}

/// Reads a count: a whole number that is not negative.
///
/// # Errors
///
/// As [`integer`], and negative numbers.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    u64::try_from(integer(text)?).map_err(|_| "must not be negative".to_owned())
}

/// Reads a port number, 0 to 65535.
///
/// # Errors
///
/// As [`integer`], and numbers no port has.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    u16::try_from(integer(text)?).map_err(|_| "not a port number".to_owned())
}

/// Reads a duration as Go's `time.ParseDuration` does (`300ms`, `1.5s`, `1h30m`, `0`).
///
/// # Errors
///
/// No unit, an unknown unit, a negative duration, or more than 290 years.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "parse error".to_owned();
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.starts_with('-') {
        return Err("must not be negative".to_owned());
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut nanos_total: u128 = 0;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .ok_or_else(|| "missing unit in duration".to_owned())?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let unit_nanos = unit_nanos(unit).ok_or_else(bad)?;
        nanos_total = nanos_total.saturating_add(scale(number, unit_nanos).ok_or_else(bad)?);
        rest = after;
    }
    // Go keeps durations in an int64 of nanoseconds.
    let nanos = i64::try_from(nanos_total).map_err(|_| "value out of range".to_owned())?;
    Ok(Duration::from_nanos(nanos.unsigned_abs()))
}

/// A duration from a bare number of milliseconds, as a config file may give it.
pub(crate) fn milliseconds(millis: i64) -> Result<Duration, String> {
    let millis = u64::try_from(millis).map_err(|_| "must not be negative".to_owned())?;
    Ok(Duration::from_millis(millis))
}

/// `12.5` of a unit in nanoseconds; `None` unless there is a digit and at most one point.
fn scale(number: &str, unit_nanos: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole_value = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut nanos = u128::from(whole_value) * unit_nanos;
    let mut place = unit_nanos;
    for digit in fraction.bytes() {
        place /= 10;
        nanos += u128::from(digit - b'0') * place;
    }
    Some(nanos)
}

fn unit_nanos(unit: &str) -> Option<u128> {
    match unit {
        "ns" => Some(1),
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        "m" => Some(60_000_000_000),
        "h" => Some(3_600_000_000_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let good = [
            ("300ms", 300_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("90s500ms", 90_500_000_000),
            (".5s", 500_000_000),
            ("+1us", 1_000),
            ("7\u{b5}s", 7_000),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, nanos) in good {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "5", "fast", "1.2.3s", ".s", "s", "1x", "-1s", "3000000h", "1s2"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_those_of_go() {
        let good = [("7", 7), ("-1", -1), ("+7", 7), ("0x10", 16), ("010", 8), ("0b11", 3)];
        for (text, value) in good {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
        assert_eq!(integer("1_000"), Ok(1_000));
        assert_eq!(integer("0x_1_0"), Ok(16));
        for text in
            ["", "many", "1.0", "--1", "0x", "9223372036854775808", "0x-1", "_1", "1_", "1__0"]
        {
            assert!(integer(text).is_err(), "{text}");
        }
        assert_eq!(count("-1"), Err("must not be negative".to_owned()));
        assert!(port("65536").is_err());
    }

    #[test]
    fn booleans_are_those_of_go() {
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("FALSE"), Ok(false));
        for text in ["", "maybe", "yes", "tRuE"] {
            assert!(boolean(text).is_err(), "{text}");
        }
    }
}

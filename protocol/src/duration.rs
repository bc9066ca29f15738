//! Durations as Go prints and reads them: `1m30s`.

use std::fmt::Write as _;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A text that Go's `time.ParseDuration` does not take, in its words.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DurationError {
    /// Not numbers with units, or out of range.
    #[error("time: invalid duration {0}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0}")]
    MissingUnit(String),
    /// A unit that is none of ns, us, µs, ms, s, m, h.
    #[error("time: unknown unit {unit} in duration {text}")]
    UnknownUnit {
        /// The unit, quoted.
        unit: String,
        /// The whole text, quoted.
        text: String,
    },
}

/// `nanos` as Go's `Duration.String` prints it: `1h2m3.5s`, `250ms`, `0s`.
pub fn go_duration(nanos: i64) -> String {
    let total = nanos.unsigned_abs();
    let mut out = String::with_capacity(16);
    if nanos < 0 {
        out.push('-');
    }
    // Writing to a string cannot fail.
    let _ = match total {
        0 => write!(out, "0s"),
        1..1_000 => write!(out, "{total}ns"),
        1_000..1_000_000 => write!(out, "{}µs", Decimal(total, 1_000)),
        1_000_000..NANOS_PER_SEC => write!(out, "{}ms", Decimal(total, 1_000_000)),
        _ => {
            let (minutes, rest) = (
                total / (60 * NANOS_PER_SEC),
                Decimal(total % (60 * NANOS_PER_SEC), NANOS_PER_SEC),
            );
            match (minutes / 60, minutes % 60) {
                (0, 0) => write!(out, "{rest}s"),
                (0, minutes) => write!(out, "{minutes}m{rest}s"),
                (hours, minutes) => write!(out, "{hours}h{minutes}m{rest}s"),
            }
        }
    };
    out
}

/// Nanoseconds of `text` by the rules of Go's `time.ParseDuration`: `300ms`, `-1.5h`, `2h45m`, `0`.
///
/// # Errors
///
/// [`DurationError`], in Go's words.
pub fn parse_go_duration(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(crate::go_quote(text.as_bytes()));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (term, after) = parse_term(text, rest)?;
        total = total.checked_add(term).filter(|&sum| sum <= NANOS_MAX).ok_or_else(invalid)?;
        rest = after;
    }
    match (negative, i64::try_from(total)) {
        (false, Ok(nanos)) => Ok(nanos),
        (true, Ok(nanos)) => Ok(-nanos),
        (true, Err(_)) => Ok(i64::MIN),
        (false, Err(_)) => Err(invalid()),
    }
}

/// The least duration, without its sign.
const NANOS_MAX: u64 = 1 << 63;

/// The nanoseconds of the number and unit at the start of `rest`, and what follows.
fn parse_term<'a>(text: &str, rest: &'a str) -> Result<(u64, &'a str), DurationError> {
    let invalid = || DurationError::Invalid(crate::go_quote(text.as_bytes()));
    let (whole, after) = split_while(rest, |byte| byte.is_ascii_digit());
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => split_while(after, |byte| byte.is_ascii_digit()),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let (unit, after) = split_while(after, |byte| byte != b'.' && !byte.is_ascii_digit());
    let unit_ns = match unit {
        "" => return Err(DurationError::MissingUnit(crate::go_quote(text.as_bytes()))),
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SEC,
        "m" => 60 * NANOS_PER_SEC,
        "h" => 3_600 * NANOS_PER_SEC,
        _ => {
            let (unit, text) = (crate::go_quote(unit.as_bytes()), crate::go_quote(text.as_bytes()));
            return Err(DurationError::UnknownUnit { unit, text });
        }
    };
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let nanos = whole.checked_mul(unit_ns).ok_or_else(invalid)?;
    nanos.checked_add(fraction_nanos(fraction, unit_ns)).map(|sum| (sum, after)).ok_or_else(invalid)
}

/// Nanoseconds of `0.digits` units, rounded down. Digits that cannot matter are ignored, as in Go.
fn fraction_nanos(digits: &str, unit_ns: u64) -> u64 {
    /// Eighteen digits of the largest unit still fit 128 bits, and one more is below a nanosecond.
    const DIGITS_MAX: usize = 18;
    let (mut value, mut scale) = (0_u128, 1_u128);
    for digit in digits.bytes().take(DIGITS_MAX) {
        value = value * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    // Below `unit_ns`, since the value is below its scale.
    u64::try_from(value * u128::from(unit_ns) / scale).unwrap_or(unit_ns)
}

fn split_while(text: &str, wanted: impl Fn(u8) -> bool) -> (&str, &str) {
    // Cuts at ASCII bytes or at the end only, or right at the start: always between characters.
    let end = text.bytes().position(|byte| !wanted(byte)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The first number divided by the second, a power of ten, without trailing zeros.
struct Decimal(u64, u64);

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(value, unit) = *self;
        write!(f, "{}", value / unit)?;
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", value % unit);
        match fraction.trim_end_matches('0') {
            "" => Ok(()),
            fraction => write!(f, ".{fraction}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (250_000_000, "250ms"),
            (3_300_000_000, "3.3s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (-90_000_000_000, "-1m30s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(go_duration(nanos), text);
            assert_eq!(parse_go_duration(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_in_go() {
        for (text, nanos) in [
            ("0", 0),
            ("+5s", 5_000_000_000),
            ("-0", 0),
            ("5.6s", 5_600_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("3h30m", 12_600_000_000_000),
            ("10.5s4m", 250_500_000_000),
            ("12µs", 12_000),
            ("12\u{3bc}s", 12_000),
            ("0.100000000000000000000h", 360_000_000_000),
            ("0.830103483285477580700h", 2_988_372_539_827),
        ] {
            assert_eq!(parse_go_duration(text), Ok(nanos), "{text}");
        }
        for (text, error) in [
            ("", r#"time: invalid duration """#),
            ("3", r#"time: missing unit in duration "3""#),
            ("-", r#"time: invalid duration "-""#),
            ("s", r#"time: invalid duration "s""#),
            (".", r#"time: invalid duration ".""#),
            ("-.s", r#"time: invalid duration "-.s""#),
            ("3000000h", r#"time: invalid duration "3000000h""#),
            ("9223372036854775808ns", r#"time: invalid duration "9223372036854775808ns""#),
            ("1d", r#"time: unknown unit "d" in duration "1d""#),
            ("1é", "time: unknown unit \"é\" in duration \"1é\""),
        ] {
            assert_eq!(
                parse_go_duration(text).map_err(|error| error.to_string()),
                Err(error.into())
            );
        }
    }
}

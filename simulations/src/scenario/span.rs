//! Spans of time as people write them: `0.4ms`, `35ms`, `8s`, `10m`, `2h`.

use std::time::Duration;

/// Units and their length in ns, the longest first.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads `1.5s`; `None` if it is not a span, or longer than 500 years, or finer than 1 ns.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 14 || (fraction.is_empty() && number.contains('.')) {
        return None;
    }
    let mut ns = digits_of(whole)?.checked_mul(unit)?;
    if !fraction.is_empty() {
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        let parts = digits_of(fraction)? * unit;
        if parts % scale != 0 {
            return None;
        }
        ns += parts / scale;
    }
    u64::try_from(ns).ok().map(Duration::from_nanos)
}

/// Writes a span so that [`parse`] reads the same.
pub(crate) fn format(span: Duration) -> String {
    let ns = span.as_nanos();
    if ns == 0 {
        return "0s".to_owned();
    }
    // Whole minutes and hours only where people would say so: 90 s stay 90 s.
    for ((name, unit), least) in [(UNITS[1], 1), (UNITS[2], 2)] {
        if ns.is_multiple_of(unit) && ns / unit >= least {
            return format!("{}{name}", ns / unit);
        }
    }
    let &(name, unit) =
        UNITS[3..].iter().find(|(_, unit)| ns >= *unit).unwrap_or(&UNITS[UNITS.len() - 1]);
    let width = unit.ilog10() as usize;
    if width == 0 {
        return format!("{ns}{name}");
    }
    let text = format!("{}.{:0width$}", ns / unit, ns % unit);
    format!("{}{name}", text.trim_end_matches('0').trim_end_matches('.'))
}

fn digits_of(text: &str) -> Option<u128> {
    let are_digits = text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
    if are_digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_exactly() {
        for (text, ns) in [
            ("0.4ms", 400_000),
            ("35ms", 35_000_000),
            ("8s", 8_000_000_000),
            ("1.234567891s", 1_234_567_891),
            ("10m", 600_000_000_000),
            ("2h", 7_200_000_000_000),
            ("3650d", 315_360_000_000_000_000),
            ("7ns", 7),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(ns)), "{text}");
        }
        for text in ["", "8", "s", "-1s", "1.s", "1e3s", "8 parsecs", "0.1ns", "1..2s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for ns in [0, 1, 999, 1_000, 123_456, 400_000, 1_000_000_007, 90_000_000_000, 1 << 60] {
            let span = Duration::from_nanos(ns);
            assert_eq!(parse(&format(span)), Some(span), "{}", format(span));
        }
        assert_eq!(format(Duration::from_micros(400)), "400us");
        assert_eq!(format(Duration::from_millis(1_500)), "1.5s");
        assert_eq!(format(Duration::from_secs(600)), "10m");
        assert_eq!(format(Duration::from_secs(60)), "60s");
    }
}

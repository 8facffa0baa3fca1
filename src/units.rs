//! Sizes, durations and rates as people write and read them.
//!
//! Sizes: `1000`, `64KiB`, `10GiB`, and decimal `10GB`. Durations: `500ms`, `10s`, `15m`, `12h`, `7d`, and sums such
//! as `1h30m`. Pure functions; a value that is not understood is never guessed at.

use std::time::Duration;

const SIZES: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Why a size or duration was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a size.
    #[error("write a size as 1000, 64KiB, 10GiB or 10GB")]
    Size,
    /// Not a duration.
    #[error("write a duration as 500ms, 10s, 15m, 12h, 7d or 1h30m")]
    Duration,
    /// Not a rate.
    #[error("write a rate as 1000 or 1000/s")]
    Rate,
    /// More than 64 bits hold.
    #[error("the number is too large")]
    TooLarge,
}

/// A number of bytes.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(text.trim());
    let number: u64 = number.parse().map_err(|_| UnitError::Size)?;
    let unit = unit.trim_start();
    let factor = match unit {
        "" | "B" => 1,
        _ => SIZES.iter().find(|(name, _)| *name == unit).ok_or(UnitError::Size)?.1,
    };
    number.checked_mul(factor).ok_or(UnitError::TooLarge)
}

/// A number of bytes that fits 32 bits.
pub fn parse_bytes_u32(text: &str) -> Result<u32, UnitError> {
    u32::try_from(parse_bytes(text)?).map_err(|_| UnitError::TooLarge)
}

/// A duration in milliseconds. A number without a unit is refused, except 0: nobody can know what was meant.
pub fn parse_duration_ms(text: &str) -> Result<u64, UnitError> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(UnitError::Duration);
    }
    let mut total_ms = 0_u64;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let number: u64 = number.parse().map_err(|_| UnitError::Duration)?;
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let factor = DURATIONS.iter().find(|(name, _)| *name == unit).ok_or(UnitError::Duration)?.1;
        let part_ms = number.checked_mul(factor).ok_or(UnitError::TooLarge)?;
        total_ms = total_ms.checked_add(part_ms).ok_or(UnitError::TooLarge)?;
        rest = after;
    }
    Ok(total_ms)
}

/// A duration.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    parse_duration_ms(text).map(Duration::from_millis)
}

/// A retention time in milliseconds; `forever` and 0 mean no limit.
pub fn parse_retention_ms(text: &str) -> Result<u64, UnitError> {
    if text == "forever" { Ok(0) } else { parse_duration_ms(text) }
}

/// Events per second, above 0.
pub fn parse_rate(text: &str) -> Result<u64, UnitError> {
    let number = text.trim().trim_end_matches("/s");
    number.parse().ok().filter(|rate| *rate > 0).ok_or(UnitError::Rate)
}

/// A size for people: at most one digit after the point, exact when it can be.
pub fn format_bytes(bytes: u64) -> String {
    let Some((name, factor)) = SIZES[..4].iter().rev().find(|(_, factor)| bytes >= *factor) else {
        return format!("{bytes} B");
    };
    let tenths = u128::from(bytes) * 10 / u128::from(*factor);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {name}"),
        (whole, tenth) => format!("{whole}.{tenth} {name}"),
    }
}

/// A size that is read back as it is, to the byte: `128MiB`, `1500B`.
pub fn format_bytes_exact(bytes: u64) -> String {
    let exact = SIZES[..4].iter().rev().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match exact {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// A duration for people: exact, in the largest unit that divides it.
pub fn format_duration_ms(ms: u64) -> String {
    let exact = DURATIONS.iter().rev().find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor));
    match exact {
        Some((name, factor)) => format!("{}{name}", ms / factor),
        None => format!("{ms}ms"),
    }
}

/// A number with its thousands apart.
pub fn format_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How many a second; 0 elapsed counts as a millisecond.
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(count) * 1000 / elapsed.as_millis().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_understood_or_refused() {
        for (text, bytes) in [("1000", 1000), ("64KiB", 65536), ("10GiB", 10 << 30), ("5 MB", 5_000_000), ("7B", 7)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "1.5GiB", "-1", "10gib", "10 Gb", "99999999999TiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_understood_or_refused() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("7d", 604_800_000), ("1h30m", 5_400_000), ("0", 0)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "10", "s", "1.5h", "-1s", "1h30", "99999999999999999d"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
        assert_eq!(parse_retention_ms("forever"), Ok(0));
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        for (ms, text) in [(604_800_000, "7d"), (5_400_000, "90m"), (1, "1ms"), (1500, "1500ms")] {
            assert_eq!(format_duration_ms(ms), text);
            assert_eq!(parse_duration_ms(text), Ok(ms));
        }
        for bytes in [0, 1, 1000, 1500, 128 << 20, u64::MAX] {
            assert_eq!(parse_bytes(&format_bytes_exact(bytes)), Ok(bytes));
        }
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1 MiB"), (1536, "1.5 KiB")] {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    fn thousands_are_kept_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(format_count(count), text);
        }
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!((parse_rate("1000"), parse_rate("5/s")), (Ok(1000), Ok(5)));
        assert!(parse_rate("0").is_err());
        assert_eq!(per_second(10, Duration::ZERO), 10_000);
        assert_eq!(per_second(10, Duration::from_secs(5)), 2);
    }
}

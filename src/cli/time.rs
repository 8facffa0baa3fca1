//! Points in time as people write and read them: RFC 3339, milliseconds since 1970, or an age such as `-15m`.
//!
//! Knows no clock: the present is passed in.

use crate::types::TimestampMs;
use crate::units::parse_duration_ms;

/// A time was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a time as 2026-01-31T12:00:00Z, milliseconds since 1970, or -15m")]
pub(super) struct TimeError;

/// The time that `text` means at `now`.
pub(super) fn parse_time(text: &str, now: TimestampMs) -> Result<TimestampMs, TimeError> {
    if let Ok(ms) = text.parse::<u64>() {
        return i64::try_from(ms).map_err(|_| TimeError);
    }
    if let Some(age) = text.strip_prefix('-') {
        let age_ms = parse_duration_ms(age).map_err(|_| TimeError)?;
        return i64::try_from(age_ms).ok().and_then(|age_ms| now.checked_sub(age_ms)).ok_or(TimeError);
    }
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| TimeError)
}

/// RFC 3339 in UTC, to the millisecond.
pub(super) fn format_time(time: TimestampMs) -> String {
    match jiff::Timestamp::from_millisecond(time) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{time} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood_or_refused() {
        let now = 1_000_000;
        for (text, ms) in
            [("1970-01-01T00:00:01Z", 1000), ("1970-01-01T02:00:01+02:00", 1000), ("1234", 1234), ("-10s", 990_000)]
        {
            assert_eq!(parse_time(text, now), Ok(ms), "{text}");
        }
        for text in ["", "-", "yesterday", "2026-01-31", "--5s", "-5"] {
            assert!(parse_time(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        assert_eq!(format_time(1500), "1970-01-01T00:00:01.500Z");
        assert_eq!(parse_time(&format_time(1500), 0), Ok(1500));
    }
}

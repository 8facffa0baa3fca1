//! The `-o` grammar: one place, or a range of two.
//!
//! ```text
//! place: beginning | end | stored | N | -N | @TIME          TIME: RFC 3339, milliseconds, or -15m
//! range: [place]:[place]                                    from the beginning, up to the end of now
//! ```
//!
//! A time may hold colons too, so a text is first read as one place, then cut at each colon until both sides are one.

use crate::cli::time::parse_time;
use crate::types::{Offset, Position, TimestampMs};

/// Where to begin, and where to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Where the group is.
    Stored,
    /// Here, and on.
    At(Position),
    /// From here until there, which is not included.
    Range(Position, Position),
}

/// A text that is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no place in a log; write beginning, end, stored, OFFSET, -N (the last N), @TIME (2026-01-31T12:00:00Z, \
     milliseconds, -15m) or a range FROM:UNTIL"
)]
pub(in crate::cli) struct StartError(String);

/// The start that `text` means at `now`.
pub(super) fn parse_start(text: &str, now: TimestampMs) -> Result<Start, StartError> {
    if text == "stored" {
        return Ok(Start::Stored);
    }
    if let Some(position) = position_of(text, now) {
        return Ok(Start::At(position));
    }
    let side = |text: &str, empty| if text.is_empty() { Some(empty) } else { position_of(text, now) };
    let cut = |(at, _): (usize, &str)| {
        let (from, until) = (side(&text[..at], Position::Earliest)?, side(&text[at + 1..], Position::Latest)?);
        Some(Start::Range(from, until))
    };
    text.match_indices(':').find_map(cut).ok_or_else(|| StartError(text.to_owned()))
}

/// A single place that needs no group.
pub(in crate::cli) fn parse_position(text: &str, now: TimestampMs) -> Result<Position, StartError> {
    position_of(text, now).ok_or_else(|| StartError(text.to_owned()))
}

fn position_of(text: &str, now: TimestampMs) -> Option<Position> {
    match text {
        "beginning" | "earliest" => Some(Position::Earliest),
        "end" | "latest" => Some(Position::Latest),
        _ => match text.strip_prefix('@') {
            Some(time) => parse_time(time, now).ok().map(Position::Time),
            None => match text.strip_prefix('-') {
                Some(records) => records.parse().ok().map(Position::BeforeEnd),
                None => text.parse().ok().map(|offset| Position::Offset(Offset(offset))),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_ranges_are_understood() {
        use Position::{BeforeEnd, Earliest, Latest, Time};
        let at = |offset| Position::Offset(Offset(offset));
        for (text, start) in [
            ("beginning", Start::At(Earliest)),
            ("end", Start::At(Latest)),
            ("stored", Start::Stored),
            ("42", Start::At(at(42))),
            ("-5", Start::At(BeforeEnd(5))),
            ("@1000", Start::At(Time(1000))),
            ("@-10s", Start::At(Time(90_000))),
            ("@1970-01-01T00:00:01Z", Start::At(Time(1000))),
            ("10:20", Start::Range(at(10), at(20))),
            (":20", Start::Range(Earliest, at(20))),
            ("-5:", Start::Range(BeforeEnd(5), Latest)),
            ("@1970-01-01T00:00:01Z:@1970-01-01T00:00:02Z", Start::Range(Time(1000), Time(2000))),
            ("@1970-01-01T00:00:01Z:", Start::Range(Time(1000), Latest)),
            ("beginning:end", Start::Range(Earliest, Latest)),
        ] {
            assert_eq!(parse_start(text, 100_000), Ok(start), "{text}");
        }
        for text in ["", "x", "1:x", "@", "1:2:3", "stored:5", "--5"] {
            assert!(parse_start(text, 0).is_err(), "{text}");
        }
    }
}

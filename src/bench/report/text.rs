//! Numbers as people read them, and text that is safe inside HTML.

use crate::types::TimestampMs;

/// Text as it may stand in HTML, in an attribute too.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// Three digits that count: `12.3`, `0.456`.
pub(super) fn short(number: f64) -> String {
    match number.abs() {
        n if n >= 100.0 || n == 0.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        n if n >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

/// Thousands and millions: `1.25M`.
pub(super) fn rate(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{}G", short(n / 1e9)),
        n if n >= 1e6 => format!("{}M", short(n / 1e6)),
        n if n >= 1e3 => format!("{}k", short(n / 1e3)),
        n => short(n),
    }
}

/// Microseconds in the unit that people read best.
pub(super) fn time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{} &#181;s", short(us)),
        us if us < 1e6 => format!("{} ms", short(us / 1e3)),
        us => format!("{} s", short(us / 1e6)),
    }
}

/// A size.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn bytes(bytes: u64) -> String {
    match bytes as f64 / f64::from(1 << 20) {
        mib if mib >= 1024.0 => format!("{} GiB", short(mib / 1024.0)),
        mib => format!("{} MiB", short(mib)),
    }
}

/// A moment, to the second.
pub(super) fn moment(time: TimestampMs) -> String {
    match jiff::Timestamp::from_millisecond(time) {
        Ok(time) => format!("{time:.0}").replace('T', " ").replace('Z', " UTC"),
        Err(_) => format!("{time} ms"),
    }
}

/// One day, or from one to another.
pub(super) fn days(from: TimestampMs, to: TimestampMs) -> String {
    let day = |time| moment(time).chars().take(10).collect::<String>();
    let (from, to) = (day(from), day(to));
    if from == to { from } else { format!("{from} to {to}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!([0.0, 0.1234, 1.234, 12.34, 123.4].map(short), ["0", "0.123", "1.23", "12.3", "123"]);
        assert_eq!([12.0, 1_500.0, 2_340_000.0, 7e9].map(rate), ["12.0", "1.50k", "2.34M", "7.00G"]);
        assert_eq!([12.0, 1_500.0, 2_340_000.0].map(time), ["12.0 &#181;s", "1.50 ms", "2.34 s"]);
        assert_eq!([64 << 20, 3 << 30].map(bytes), ["64.0 MiB", "3.00 GiB"]);
        assert_eq!(moment(1_700_000_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(days(1_700_000_000_000, 1_700_000_000_001), "2023-11-14");
    }
}

//! Bytes and durations as people write them: `128MiB`, `7d`.
//!
//! One number and one unit; a plain number is in the base unit (bytes, milliseconds). Decimal units are decimal
//! (`1kB` = 1000 bytes) and binary ones binary (`1KiB` = 1024), so that no one has to guess.

/// Units of [`parse_bytes`], in the spelling that is shown.
const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Units of [`parse_duration_ms`].
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// How many bytes `text` says: `1048576`, `1MiB`, `512 kB`. `None` if it says nothing of the kind or more than 2^64.
pub fn parse_bytes(text: &str) -> Option<u64> {
    parse(text, &BYTE_UNITS)
}

/// How many milliseconds `text` says: `500`, `500ms`, `30s`, `15m`, `12h`, `7d`. `None` as in [`parse_bytes`].
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    parse(text, &DURATION_UNITS)
}

/// The shortest exact form: `128MiB`, `1500B`.
pub fn format_bytes(bytes: u64) -> String {
    // The decimal units are for input only: what is shown uses one family.
    let binary = BYTE_UNITS.iter().filter(|(name, _)| name.ends_with("iB") || *name == "B");
    format(bytes, binary)
}

/// The shortest exact form: `7d`, `1500ms`.
pub fn format_duration_ms(duration_ms: u64) -> String {
    format(duration_ms, DURATION_UNITS.iter())
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let scale = match unit {
        "" => 1,
        _ => units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

fn format<'u>(value: u64, units: impl Iterator<Item = &'u (&'u str, u64)>) -> String {
    let mut last = "";
    for (name, scale) in units {
        if value >= *scale && value.is_multiple_of(*scale) {
            return format!("{}{name}", value / scale);
        }
        last = name;
    }
    format!("{value}{last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back_the_same() {
        for value in [0, 1, 999, 1000, 1024, 1500, 60_000, 86_400_000, 128 << 20, u64::MAX] {
            assert_eq!(parse_bytes(&format_bytes(value)), Some(value));
            assert_eq!(parse_duration_ms(&format_duration_ms(value)), Some(value));
        }
        assert_eq!((format_bytes(128 << 20).as_str(), format_duration_ms(604_800_000).as_str()), ("128MiB", "7d"));
    }

    #[test]
    fn text_that_is_not_one_number_and_one_unit_is_refused() {
        for text in ["", "MiB", "-1", "1.5GiB", "1 MiB 2", "99999999999TiB", "7 days"] {
            assert_eq!(parse_bytes(text), None, "{text:?}");
            assert_eq!(parse_duration_ms(text), None, "{text:?}");
        }
        assert_eq!(parse_bytes("1 kB"), Some(1000));
        assert_eq!(parse_duration_ms("15M"), Some(900_000));
    }
}

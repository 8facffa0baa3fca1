//! Every key of the configuration, once: its name, the field it sets, its unit and its bounds.
//!
//! Everything else about keys (file, environment variables, flags, printing, advice on misspelt names) is derived
//! from this table, so a new key is one line here, one field in `mod.rs`, and its paragraph in
//! `config/millstream.toml`.

use super::{Config, LogFormat, LogLevel};
use crate::limits;
use crate::types::{Cleanup, Durability};
use crate::units;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One key.
pub(super) struct Key {
    /// `section.name`.
    pub(super) name: &'static str,
    /// The field it sets.
    pub(super) slot: for<'c> fn(&'c mut Config) -> Slot<'c>,
}

/// A field of [`Config`], open to be set.
pub(super) enum Slot<'c> {
    Flag(&'c mut bool),
    Path(&'c mut PathBuf),
    Address(&'c mut SocketAddr),
    Small(&'c mut u32, Unit, Bounds),
    Large(&'c mut u64, Unit, Bounds),
    Level(&'c mut LogLevel),
    Format(&'c mut LogFormat),
    Durability(&'c mut Durability),
    Cleanup(&'c mut Cleanup),
}

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Things,
    Bytes,
    Milliseconds,
}

/// Least and most, both allowed.
type Bounds = (u64, u64);

/// A value as some source gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RawValue {
    /// From a variable or a flag: it has no type of its own.
    Untyped(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(i128),
    /// A TOML boolean.
    Boolean(bool),
    /// Any other TOML value, by the name of its type.
    Strange(&'static str),
}

/// Bounds that [`crate::topic::TopicOptions::check`] knows better; it is asked once all sources are read.
const CHECKED_LATER: Bounds = (0, u64::MAX);
const BATCH_BYTES: Bounds = (limits::BATCH_BYTES_LIMIT_MIN as u64, limits::BATCH_BYTES_LIMIT_MAX as u64);
const PARTITIONS: Bounds = (1, limits::PARTITIONS_MAX as u64);
const DAY_MS: u64 = 86_400_000;

macro_rules! key {
    ($section:ident . $($field:ident).+ as $name:literal, $variant:ident $(, $unit:ident, $bounds:expr)?) => {
        Key {
            name: concat!(stringify!($section), ".", $name),
            slot: |config| Slot::$variant(&mut config.$section.$($field).+ $(, Unit::$unit, $bounds)?),
        }
    };
}

/// Every key, in the order of `config/millstream.toml`.
pub(super) const KEYS: &[Key] = &[
    key!(broker.data_dir as "data_dir", Path),
    key!(broker.listen as "listen", Address),
    key!(broker.admin as "admin", Address),
    key!(broker.insecure_listen as "insecure_listen", Flag),
    key!(broker.ephemeral as "ephemeral", Flag),
    key!(broker.manual_clock as "manual_clock", Flag),
    key!(broker.auto_create_topics as "auto_create_topics", Flag),
    key!(broker.network_threads as "network_threads", Small, Things, (0, 1024)),
    key!(broker.storage_threads as "storage_threads", Small, Things, (0, 16)),
    key!(broker.drain_timeout_ms as "drain_timeout_ms", Large, Milliseconds, (0, DAY_MS)),
    key!(broker.retention_check_ms as "retention_check_ms", Large, Milliseconds, (100, DAY_MS)),
    key!(broker.disk_free_bytes_min as "disk_free_bytes_min", Large, Bytes, (limits::DISK_RESERVE_BYTES, 1 << 40)),
    key!(broker.scrub_bytes_per_second as "scrub_bytes_per_second", Large, Bytes, (0, 1 << 40)),
    key!(broker.scrub_interval_ms as "scrub_interval_ms", Large, Milliseconds, (60_000, 365 * DAY_MS)),
    key!(limits.connections_max as "connections_max", Small, Things, (1, 1_000_000)),
    key!(limits.streams_per_connection_max as "streams_per_connection_max", Small, Things, (1, 100_000)),
    key!(limits.produce_in_flight_bytes_max as "produce_in_flight_bytes_max", Large, Bytes, (IN_FLIGHT_MIN, 1 << 40)),
    key!(limits.open_files_max as "open_files_max", Small, Things, (0, 1_000_000)),
    key!(topics.default_partitions as "default_partitions", Small, Things, PARTITIONS),
    key!(topics.options.retention_ms as "retention_ms", Large, Milliseconds, CHECKED_LATER),
    key!(topics.options.retention_bytes as "retention_bytes", Large, Bytes, CHECKED_LATER),
    key!(topics.options.segment_bytes as "segment_bytes", Large, Bytes, CHECKED_LATER),
    key!(topics.options.segment_age_ms as "segment_age_ms", Large, Milliseconds, CHECKED_LATER),
    key!(topics.options.durability as "durability", Durability),
    key!(topics.options.record_bytes_max as "record_bytes_max", Small, Bytes, BATCH_BYTES),
    key!(topics.options.batch_bytes_max as "batch_bytes_max", Small, Bytes, BATCH_BYTES),
    key!(topics.options.dedup_window_ms as "dedup_window_ms", Large, Milliseconds, CHECKED_LATER),
    key!(topics.options.cleanup as "cleanup", Cleanup),
    key!(topics.options.tombstone_grace_ms as "tombstone_grace_ms", Large, Milliseconds, CHECKED_LATER),
    key!(groups.offsets_retention_ms as "offsets_retention_ms", Large, Milliseconds, (0, 3_650 * DAY_MS)),
    key!(log.level as "level", Level),
    key!(log.format as "format", Format),
];

/// Below the largest request, no produce call of that size could ever be admitted.
const IN_FLIGHT_MIN: u64 = limits::REQUEST_BYTES_MAX as u64;

const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
const DURABILITIES: [(&str, Durability); 2] = [("synced", Durability::Synced), ("written", Durability::Written)];

const CLEANUPS: [(&str, Cleanup); 3] =
    [("delete", Cleanup::Delete), ("compact", Cleanup::Compact), ("compact_and_delete", Cleanup::CompactAndDelete)];

impl Key {
    /// `MILLSTREAM_<SECTION>_<KEY>`.
    pub(super) fn variable(&self) -> String {
        format!("MILLSTREAM_{}", self.name.replace('.', "_").to_uppercase())
    }
}

impl RawValue {
    /// The value as an error message shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Untyped(text) | Self::Text(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
            Self::Strange(kind) => format!("of type {kind}"),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Untyped(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn flag(&self) -> Option<bool> {
        match self {
            Self::Boolean(flag) => Some(*flag),
            Self::Untyped(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn number(&self, unit: Unit) -> Option<u64> {
        match (self, unit) {
            (Self::Integer(number), _) => u64::try_from(*number).ok(),
            (Self::Untyped(text) | Self::Text(text), Unit::Bytes) => units::parse_bytes(text).ok(),
            (Self::Untyped(text) | Self::Text(text), Unit::Milliseconds) => {
                // The name of the key says the unit of a plain number.
                text.trim().parse().ok().or_else(|| units::parse_duration_ms(text).ok())
            }
            (Self::Untyped(text), Unit::Things) => text.parse().ok(),
            _ => None,
        }
    }
}

impl Slot<'_> {
    /// Sets the field, or says `false`: the value is not [`Slot::allowed`].
    pub(super) fn set(self, value: &RawValue) -> bool {
        match self {
            Slot::Flag(flag) => put(flag, value.flag()),
            Slot::Path(path) => put(path, value.text().filter(|text| !text.is_empty()).map(PathBuf::from)),
            Slot::Address(address) => put(address, value.text().and_then(parse_address)),
            Slot::Small(number, unit, bounds) => {
                let given = value.number(unit).filter(|given| within(*given, bounds));
                put(number, given.and_then(|given| u32::try_from(given).ok()))
            }
            Slot::Large(number, unit, bounds) => put(number, value.number(unit).filter(|given| within(*given, bounds))),
            Slot::Level(level) => put(level, word(value, &LEVELS)),
            Slot::Format(format) => put(format, word(value, &FORMATS)),
            Slot::Durability(durability) => put(durability, word(value, &DURABILITIES)),
            Slot::Cleanup(cleanup) => put(cleanup, word(value, &CLEANUPS)),
        }
    }

    /// What may be set, in words that follow "it must be".
    pub(super) fn allowed(&self) -> String {
        match self {
            Slot::Flag(_) => "true or false".to_owned(),
            Slot::Path(_) => "a path, as a string".to_owned(),
            Slot::Address(_) => "an address and a port, such as \"127.0.0.1:7171\"".to_owned(),
            Slot::Small(_, unit, bounds) | Slot::Large(_, unit, bounds) => unit.allowed(*bounds),
            Slot::Level(_) => one_of(&LEVELS),
            Slot::Format(_) => one_of(&FORMATS),
            Slot::Durability(_) => one_of(&DURABILITIES),
            Slot::Cleanup(_) => one_of(&CLEANUPS),
        }
    }

    /// The value as TOML.
    pub(super) fn toml(&self) -> String {
        match self {
            Slot::Flag(flag) => flag.to_string(),
            Slot::Path(path) => toml::Value::from(path.to_string_lossy().into_owned()).to_string(),
            Slot::Address(address) => format!("\"{address}\""),
            Slot::Small(number, unit, _) => unit.toml(u64::from(**number)),
            Slot::Large(number, unit, _) => unit.toml(**number),
            Slot::Level(level) => name_of(**level, &LEVELS),
            Slot::Format(format) => name_of(**format, &FORMATS),
            Slot::Durability(durability) => name_of(**durability, &DURABILITIES),
            Slot::Cleanup(cleanup) => name_of(**cleanup, &CLEANUPS),
        }
    }
}

impl Unit {
    fn allowed(self, (least, most): Bounds) -> String {
        match self {
            Self::Things => format!("a whole number from {least} to {most}"),
            Self::Bytes => format!(
                "bytes from {} to {}, as a whole number or a string such as \"128MiB\"",
                units::format_bytes_exact(least),
                units::format_bytes_exact(most)
            ),
            Self::Milliseconds => format!(
                "a time from {} to {}, as milliseconds or a string such as \"30s\" or \"7d\"",
                units::format_duration_ms(least),
                units::format_duration_ms(most)
            ),
        }
    }

    fn toml(self, number: u64) -> String {
        match self {
            Self::Things => number.to_string(),
            Self::Bytes => format!("\"{}\"", units::format_bytes_exact(number)),
            Self::Milliseconds => format!("\"{}\"", units::format_duration_ms(number)),
        }
    }
}

fn put<T>(field: &mut T, given: Option<T>) -> bool {
    given.map(|given| *field = given).is_some()
}

fn within(number: u64, (least, most): Bounds) -> bool {
    (least..=most).contains(&number)
}

/// An address; `localhost` is taken as 127.0.0.1 so that nothing depends on a name service.
fn parse_address(text: &str) -> Option<SocketAddr> {
    text.replace("localhost:", "127.0.0.1:").parse().ok()
}

fn word<T: Copy>(value: &RawValue, words: &[(&str, T)]) -> Option<T> {
    let text = value.text()?;
    words.iter().find(|(name, _)| *name == text).map(|(_, word)| *word)
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    let names: Vec<String> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
    format!("one of {}", names.join(", "))
}

fn name_of<T: PartialEq + Copy>(value: T, words: &[(&str, T)]) -> String {
    let known = words.iter().find(|(_, word)| *word == value);
    format!("{:?}", known.expect("each value of the type is in its table").0)
}

//! Where a record stands in its partition.

use serde::{Deserialize, Serialize};

/// The number of a record in its partition: 0 for the first ever appended, one more for each after it.
///
/// As a bound it is exclusive (`log end offset`, `high watermark`: the first offset that is not included).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// The offset `records` further on. Saturates; 2^64 records do not fit on any disk.
    #[must_use]
    pub fn advance(self, records: u64) -> Self {
        Self(self.0.saturating_add(records))
    }

    /// How many records lie from `earlier` to here; 0 if `earlier` is not earlier.
    pub fn records_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::fmt::Display for Offset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

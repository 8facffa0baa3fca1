//! How safe an acknowledged record is.

use serde::{Deserialize, Serialize};

/// What must have happened to a record before its producer is answered, and before readers see it.
///
/// Ordered: a higher level includes the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Handed to the operating system: survives kill -9 of the broker, not a power cut.
    Written,
    /// `fdatasync` returned: survives power loss on a disk that honours flush.
    Synced,
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Written => "written",
            Self::Synced => "synced",
        })
    }
}

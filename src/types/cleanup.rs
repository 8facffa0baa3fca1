//! How a topic gets rid of records.

use serde::{Deserialize, Serialize};

/// Which records of a topic may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// The oldest, by time or size.
    Delete,
    /// Those whose key has a later record.
    Compact,
    /// Both.
    CompactAndDelete,
}

impl Cleanup {
    /// Whether only the last record of each key is kept.
    pub fn compacts(self) -> bool {
        self != Self::Delete
    }

    /// Whether retention deletes the oldest records.
    pub fn deletes(self) -> bool {
        self != Self::Compact
    }
}

impl std::fmt::Display for Cleanup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactAndDelete => "compact_and_delete",
        })
    }
}

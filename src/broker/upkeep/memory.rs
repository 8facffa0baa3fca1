//! What upkeep keeps for the next start: a small file in the data directory. Losing it loses nothing but a warning.

use crate::broker::upkeep::clock_watch::ClockMemory;
use crate::storage::StorageError;
use crate::storage::atomic_file;
use crate::storage::file_system::FileSystem;
use crate::types::TimestampMs;
use serde::{Deserialize, Serialize};
use std::path::Path;

const VERSION: u32 = 1;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::broker) struct UpkeepMemory {
    version: u32,
    pub(in crate::broker) clock: ClockMemory,
    /// When the last scrub of everything ended.
    pub(in crate::broker) scrubbed_at_ms: Option<TimestampMs>,
}

impl UpkeepMemory {
    pub(in crate::broker) fn new(clock: ClockMemory, scrubbed_at_ms: Option<TimestampMs>) -> Self {
        Self { version: VERSION, clock, scrubbed_at_ms }
    }

    /// Reads the file. One that is missing, damaged or of a newer version is none.
    pub(in crate::broker) fn load(fs: &dyn FileSystem, path: &Path) -> Option<Self> {
        let text = match atomic_file::read(fs, path) {
            Ok(text) => text?,
            Err(error) => {
                tracing::warn!(%error, "nothing is known of the clock before this start");
                return None;
            }
        };
        match serde_json::from_str::<Self>(&text) {
            Ok(memory) if memory.version == VERSION => Some(memory),
            _ => {
                tracing::warn!(path = %path.display(), "ignoring a file of another version");
                None
            }
        }
    }

    /// Makes it durable.
    pub(in crate::broker) fn store(&self, fs: &dyn FileSystem, path: &Path) -> Result<(), StorageError> {
        let text = serde_json::to_string(self).expect("plain fields are JSON") + "\n";
        atomic_file::replace(fs, path, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::real_file_system::RealFileSystem;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "damage is done past the seam on purpose")]
    fn a_file_is_read_back_and_a_damaged_one_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("upkeep.json");
        assert_eq!(UpkeepMemory::load(&RealFileSystem, &path), None);
        let clock = ClockMemory { wall_ms: -5, monotonic_ms: 7, boot_id: "boot".to_owned(), suspended: true };
        let memory = UpkeepMemory::new(clock, Some(3));
        memory.store(&RealFileSystem, &path).expect("stored");
        assert_eq!(UpkeepMemory::load(&RealFileSystem, &path), Some(memory));
        std::fs::write(&path, "{}\ncrc32 00000000\n").expect("writable");
        assert_eq!(UpkeepMemory::load(&RealFileSystem, &path), None);
    }
}

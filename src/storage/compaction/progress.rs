//! `compaction.json`: how far a log is clean, and since when its tombstones wait. Losing it costs a pass over everything
//! and starts the grace time anew; it never brings a record back or takes one away.

use crate::storage::atomic_file;
use crate::storage::error::StorageError;
use crate::storage::file_system::FileSystem;
use crate::types::{Offset, TimestampMs};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How far compaction is in one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Progress {
    pub(super) version: u32,
    /// Below this, no key stands twice.
    pub(super) clean_below: Offset,
    /// Tombstones below `clean_below` that wait to go.
    pub(super) tombstones: u64,
    /// Those for which the grace time runs.
    pub(super) waiting: Option<Waiting>,
}

/// Tombstones below an offset, and since when nothing that they delete is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    pub(super) below: Offset,
    pub(super) since_ms: TimestampMs,
}

const VERSION: u32 = 1;

impl Default for Progress {
    fn default() -> Self {
        Self { version: VERSION, clean_below: Offset::ZERO, tombstones: 0, waiting: None }
    }
}

impl Progress {
    /// Reads the progress of a log directory; none at all if there is no file, or no good one, or one that is ahead of
    /// the log, which ends at `log_end`.
    pub(super) fn load(fs: &dyn FileSystem, directory: &Path, log_end: Offset) -> Result<Self, StorageError> {
        let path = path_in(directory);
        let text = match atomic_file::read(fs, &path) {
            Err(error @ StorageError::Corrupt { .. }) => {
                tracing::warn!(%error, "ignoring it; compaction begins again");
                None
            }
            read => read?,
        };
        let progress: Option<Self> = text.and_then(|text| serde_json::from_str(&text).ok());
        let is_ours = |progress: &Self| progress.version == VERSION && progress.clean_below <= log_end;
        Ok(progress.filter(is_ours).unwrap_or_default())
    }

    /// Makes it durable.
    pub(super) fn store(&self, fs: &dyn FileSystem, directory: &Path) -> Result<(), StorageError> {
        let text = serde_json::to_string(self).expect("a struct of numbers is JSON") + "\n";
        atomic_file::replace(fs, &path_in(directory), &text)
    }
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join("compaction.json")
}

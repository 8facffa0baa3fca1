//! The checkpoint of a log: what a start after a crash need not look at.
//!
//! Everything before the recovery point is known to be valid and durable; only what follows is read and verified when
//! the log is opened. The log start offset is kept here too, and is made durable *before* any file goes away, so that
//! a crash in between leaves files to delete, never offsets that point at nothing.

use crate::storage::atomic_file;
use crate::storage::error::StorageError;
use crate::storage::file_system::FileSystem;
use crate::types::{Offset, TimestampMs};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is known to be valid and durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Version of this file's shape.
    pub version: u32,
    /// First retained offset.
    pub log_start_offset: Offset,
    /// The segment that contains the recovery point.
    pub segment: Offset,
    /// Position of the recovery point in it.
    pub position: u32,
    /// Offset of the record at the recovery point, and everything before it is durable. While compaction puts another
    /// file in the place of the segment, the recovery point is at its beginning, and only the latter is true.
    pub next_offset: Offset,
    /// Latest append time before the recovery point; append times never go back.
    pub last_append_time_ms: TimestampMs,
    /// What the writers of this log must have; see [`crate::storage::log::AppendTerms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<u64>,
}

const VERSION: u32 = 1;

impl Checkpoint {
    /// The checkpoint of a log that was never written.
    pub const EMPTY: Self = Self {
        version: VERSION,
        log_start_offset: Offset::ZERO,
        segment: Offset::ZERO,
        position: 0,
        next_offset: Offset::ZERO,
        last_append_time_ms: TimestampMs::MIN,
        fencing_token: None,
    };

    /// Reads the checkpoint of a log directory; [`Checkpoint::EMPTY`] if there is none.
    pub fn load(fs: &dyn FileSystem, directory: &Path) -> Result<Self, StorageError> {
        let path = path_in(directory);
        let Some(text) = atomic_file::read(fs, &path)? else { return Ok(Self::EMPTY) };
        let checkpoint: Self = serde_json::from_str(&text)
            .map_err(|error| StorageError::corrupt(&path, 0, format!("it is not a checkpoint: {error}")))?;
        if checkpoint.version != VERSION {
            let what = format!("its version is {}, this broker knows {VERSION}", checkpoint.version);
            return Err(StorageError::corrupt(&path, 0, what));
        }
        Ok(checkpoint)
    }

    /// Makes it durable.
    pub fn store(&self, fs: &dyn FileSystem, directory: &Path) -> Result<(), StorageError> {
        let text = serde_json::to_string(self).expect("a struct of numbers is JSON") + "\n";
        atomic_file::replace(fs, &path_in(directory), &text)
    }
}

fn path_in(directory: &Path) -> PathBuf {
    directory.join("checkpoint.json")
}

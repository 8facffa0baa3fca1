//! The files of one log directory by what they are, from their names alone.

use crate::storage::StorageError;
use crate::storage::checkpoint::Checkpoint;
use crate::storage::compaction::swapped_range_of;
use crate::storage::error::IoContext as _;
use crate::storage::file_system::FileSystem;
use crate::storage::segment::{base_offset_of, file_stem};
use crate::types::Offset;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is in a log directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFiles {
    /// Base offsets of the segments, ascending.
    pub segments: Vec<Offset>,
    /// Base offsets that there is an index file for, ascending.
    pub indexes: Vec<Offset>,
    /// Copies of torn tails: the base offset of their segment, and the name.
    pub torn: Vec<(Offset, String)>,
    /// What cleaned files, which a crash kept from taking their place, replace: the next start goes on with that.
    pub swaps: Vec<Range<Offset>>,
    /// Names that no version of this format gives.
    pub unknown: Vec<String>,
}

impl LogFiles {
    /// Lists `directory`.
    pub fn list(fs: &dyn FileSystem, directory: &Path) -> Result<Self, StorageError> {
        let mut names = fs.list(directory).context("list", directory)?;
        names.sort_unstable();
        let mut files = Self::default();
        for name in names {
            // Left-overs of an interrupted replacement or deletion are known: the next start removes them.
            let is_small_file = ["checkpoint.json", "compaction.json", "producers.snapshot"].contains(&name.as_str());
            let is_expected = is_small_file || is_leftover(&name) || is_kept_by_repair(&name);
            if let Some(base) = base_offset_of(&name) {
                files.segments.push(base);
            } else if let Some(base) = name.strip_suffix(".index").and_then(base_of_stem) {
                files.indexes.push(base);
            } else if let Some(range) = swapped_range_of(&name) {
                files.swaps.push(range);
            } else if let Some(base) = base_of_torn(&name) {
                files.torn.push((base, name));
            } else if !is_expected {
                files.unknown.push(name);
            }
        }
        Ok(files)
    }

    /// Leaves out segments that lie below the log start: retention was interrupted, the next start removes them.
    pub fn retain_from(&mut self, log_start: Offset) {
        while let [_, second, ..] = self.segments[..] {
            if second > log_start {
                break;
            }
            let gone = self.segments.remove(0);
            self.indexes.retain(|base| *base != gone);
        }
    }
}

/// The checkpoint of a log; `None` if there is none yet.
pub(super) fn load_checkpoint(fs: &dyn FileSystem, directory: &Path) -> Result<Option<Checkpoint>, StorageError> {
    Checkpoint::load(fs, directory).map(|found| (found != Checkpoint::EMPTY).then_some(found))
}

/// The file of the segment that begins at `base`.
pub(super) fn segment_path(directory: &Path, base: Offset) -> PathBuf {
    directory.join(file_stem(base)).with_extension("log")
}

/// Whether the next start removes it.
pub(super) fn is_leftover(name: &str) -> bool {
    [".deleted", ".tmp", ".cleaned", ".prepared"].iter().any(|ending| name.ends_with(ending))
}

/// A damaged segment that `log repair` has put another file in the place of.
fn is_kept_by_repair(name: &str) -> bool {
    name.split_once(".damaged").is_some_and(|(stem, _)| base_of_stem(stem).is_some())
}

fn base_of_stem(stem: &str) -> Option<Offset> {
    base_offset_of(&format!("{stem}.log"))
}

fn base_of_torn(name: &str) -> Option<Offset> {
    let (stem, position) = name.split_once(".torn-")?;
    position.parse::<u32>().ok()?;
    base_of_stem(stem)
}

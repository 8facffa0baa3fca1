//! Mending a log that is damaged, without a broker: the only thing beside the broker that writes to a data directory.
//!
//! ```text
//! find     what each segment file holds and which offsets are lost          find.rs
//! copy     the frames of lost offsets, from a copy of the log               copy.rs
//! rewrite  a segment file anew: good bytes as they are, lost ones mended     rewrite.rs
//! ```
//!
//! Lost records are taken from a copy where there is one. Only who says so explicitly gives up the others: then a frame
//! without records stands in their place, and readers step over it. Nothing good is changed and no byte is thrown away:
//! the damaged file is kept beside the new one, as `.damaged`.

mod copy;
mod find;
#[cfg(test)]
mod repair_tests;
mod rewrite;

use crate::inspect::{InspectError, LogPlace};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::data_dir::DataDir;
use crate::storage::file_system::FileSystem;
use crate::storage::real_file_system::RealFileSystem;
use crate::types::Offset;
use copy::CopyOfLog;
use find::Found;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to mend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// The directory of the same partition in a copy of the data directory.
    pub copy: Option<PathBuf>,
    /// Give up what no copy has.
    pub accept_loss: bool,
    /// Change nothing; only say what would be done.
    pub dry_run: bool,
}

/// What became of one damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mend {
    /// The file.
    pub path: PathBuf,
    /// Where the damage begins, in bytes.
    pub position: u32,
    /// The offsets that could not be read; empty if only the header of the segment was damaged.
    pub offsets: Range<Offset>,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The header was written anew; every record is there.
    HeaderRestored,
    /// The records came from the copy.
    Restored,
    /// The records were given up: readers step over their offsets.
    GivenUp,
    /// Nothing: no copy has the records, and giving up was not asked for.
    Left,
}

impl Outcome {
    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::HeaderRestored => "header_restored",
            Self::Restored => "restored",
            Self::GivenUp => "given_up",
            Self::Left => "left",
        }
    }
}

/// Mends the log at `place` of the data directory `data_dir`, which no broker may have open.
pub fn repair(data_dir: &Path, place: &LogPlace, options: &RepairOptions) -> Result<Vec<Mend>, InspectError> {
    let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
    DataDir::check(&*fs, data_dir)?;
    // Held to the end: a broker that starts now waits its turn.
    let _lock = DataDir::open(&*fs, data_dir)?;
    let copy = options.copy.as_deref().map(|directory| CopyOfLog::open(&fs, directory, place.id)).transpose()?;
    let checkpoint = Checkpoint::load(&*fs, &place.directory).unwrap_or(Checkpoint::EMPTY);
    let mut mends = Vec::new();
    for found in find::find(&fs, &place.directory, place.id, &checkpoint)? {
        let mended = found.mend(copy.as_ref(), options.accept_loss)?;
        mends.extend(mended.mends.iter().cloned());
        if mended.changes_anything() && !options.dry_run {
            rewrite::replace(&fs, place, &found, &mended, &checkpoint)?;
        }
    }
    Ok(mends)
}

impl Found {
    /// Decides what is done about each lost range of a segment.
    fn mend(&self, copy: Option<&CopyOfLog>, accept_loss: bool) -> Result<rewrite::Mended, InspectError> {
        let mut mended = rewrite::Mended::default();
        if self.is_header_damaged && self.seed_is_known {
            let offsets = self.base..self.base;
            let (path, outcome) = (self.path.clone(), Outcome::HeaderRestored);
            mended.mends.push(Mend { path, position: 0, offsets, outcome });
        }
        for lost in &self.lost {
            let from_copy = match copy {
                Some(copy) => copy.frames(&lost.offsets)?,
                None => Vec::new(),
            };
            let has_all = !from_copy.is_empty();
            let outcome = match (has_all, accept_loss) {
                (true, _) => Outcome::Restored,
                (false, true) => Outcome::GivenUp,
                (false, false) => Outcome::Left,
            };
            let (path, offsets) = (self.path.clone(), lost.offsets.clone());
            mended.mends.push(Mend { path, position: lost.position, offsets, outcome });
            mended.frames.push(from_copy);
        }
        Ok(mended)
    }
}

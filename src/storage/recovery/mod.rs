//! Opening a log, after a clean stop, a crash, or damage.
//!
//! ```text
//! survey   what each segment behind the checkpoint holds, read from the disk, past every break      survey.rs
//! judge    what each break means: a tear, where the log ends, or damage, which is stepped over      judge.rs
//! settle   a tear is carried out: bytes behind it are saved aside, then cut                         settle.rs
//! ```
//!
//! Only what lies behind the checkpoint is read and verified; after a clean stop that is nothing. What tells a tear from
//! damage is the durable end: the highest offset below which everything is known to have been synced, by the checkpoint
//! or by the durable mark of any valid frame. Invalid bytes at or above it were being written at the crash, and nobody
//! was told that they are safe. Below it they are damage: quarantined and named, never cut; everything else is served.
//! Recovering twice gives the same as recovering once.

mod judge;
mod settle;
mod survey;

use crate::storage::checkpoint::Checkpoint;
use crate::storage::compaction::swap::finish_interrupted;
use crate::storage::compaction::swapped_range_of;
use crate::storage::context::StorageContext;
use crate::storage::damage::DamagedRange;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::FileSystem;
use crate::storage::segment::header::LogId;
use crate::storage::segment::index::SparseIndex;
use crate::storage::segment::{Segment, base_offset_of, file_stem};
use crate::types::Offset;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use survey::{Beginning, Survey, Surveyor};

/// Verifying again costs less than the two syncs that a checkpoint takes, up to about this many bytes: of 10,000 logs
/// each has a short tail after a crash.
const VERIFIED_BYTES_KEPT: u64 = 1 << 20;

/// What is known, when a log is opened, of bytes that no checkpoint vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The process before may have written them and never synced them: each file is synced before it is read.
    MaybeUnsynced,
    /// The whole file system was synced since, or the last stop was clean.
    Synced,
}

/// What opening a log found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Bytes that were read and verified; 0 after a clean stop.
    pub verified_bytes: u64,
    /// Where a torn tail was saved, and how long it was.
    pub torn_tail: Option<(PathBuf, u64)>,
    /// Damage that was met.
    pub damage: Vec<DamagedRange>,
}

/// A log as found on disk.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segments: Vec<Arc<Segment>>,
    /// The index of the last segment, if that goes on being the active one.
    pub(super) last_index: Option<SparseIndex>,
    /// The checkpoint as it stands on disk now.
    pub(super) checkpoint: Checkpoint,
    /// Where the log was found to stand: all of it is durable.
    pub(super) found: Checkpoint,
    pub(super) report: RecoveryReport,
}

/// Finds, verifies and if need be mends the log in `directory`.
pub(super) fn recover(context: &StorageContext, directory: &Path, id: LogId) -> Result<Recovered, StorageError> {
    let fs = &context.fs;
    let stored = load_checkpoint(&**fs, directory)?;
    let mut bases = list_segments(&**fs, directory, id)?;
    let log_start = stored.map_or_else(|| bases.first().copied().unwrap_or_default(), |found| found.log_start_offset);
    let mut checkpoint = Checkpoint { log_start_offset: log_start, ..stored.unwrap_or(Checkpoint::EMPTY) };
    finish_deletions(&**fs, directory, &mut bases, log_start)?;

    // The segment that the checkpoint stands in is looked at; if that is not there, the one before its place.
    let mut trusted = bases.partition_point(|base| *base <= checkpoint.segment).saturating_sub(1);
    let surveyor = Surveyor { context, directory, id };
    let mut surveys = VecDeque::with_capacity(bases.len() - trusted);
    for base in &bases[trusted..] {
        surveys.push_back(surveyor.survey(*base, &checkpoint)?);
    }
    // One that was never written goes, and says nothing of those before it: the next start would look at the last of them.
    while trusted > 0 && surveys.front().is_some_and(|first| first.beginning == Beginning::Unwritten) {
        trusted -= 1;
        surveys.push_front(surveyor.survey(bases[trusted], &checkpoint)?);
    }
    let mut surveys = Vec::from(surveys);
    let verified_bytes = surveys.iter().map(|survey| u64::from(survey.verified_bytes)).sum();
    let mut report = RecoveryReport { verified_bytes, ..RecoveryReport::default() };
    let verdict = judge::judge(directory, &checkpoint, bases.first().copied(), &surveys)?;
    report.damage = verdict.damage;
    if let Some(cut) = &verdict.cut {
        report.torn_tail = settle::settle(fs, directory, &mut surveys, cut)?;
    }

    let last = surveys.last().filter(|survey| survey.index.next_offset == verdict.next_offset && survey.is_whole());
    let last_index = last.map(|survey| survey.index.clone());
    let sealed = surveys.len() - usize::from(last_index.is_some());
    let mut has_cut = verdict.cut.is_some();
    for (at, survey) in surveys.iter_mut().enumerate() {
        has_cut |= settle::trim(&**fs, survey, at >= sealed)?;
    }
    let mut segments = surveyor.trusted_segments(&bases[..trusted])?;
    segments.extend(surveys.iter().map(|survey| Arc::new(surveyor.segment(survey))));
    let found = found_state(&checkpoint, &surveys, verdict.next_offset);
    // When the last segment went, only a checkpoint can say where the log goes on.
    let has_ended = !segments.is_empty() || (has_cut && verdict.next_offset > Offset::ZERO);
    let changed = stored != Some(found) && has_ended;
    let is_unsynced = has_cut || context.tail == Tail::MaybeUnsynced;
    if is_unsynced && (changed || stored.is_some()) {
        // The bytes are synced; with the names of the files, what readers see from here on cannot vanish. Nor can the
        // checkpoint, which a deletion may have stored and not synced: what it deleted would come back.
        fs.sync_dir(directory).context("sync", directory)?;
    }
    // Otherwise this is left to upkeep and to the close, which it costs nothing more.
    if changed && (is_unsynced || stored.is_none() || report.verified_bytes > VERIFIED_BYTES_KEPT) {
        match found.store(&**fs, directory) {
            Ok(()) => checkpoint = found,
            // A full disk must not take a partition offline; all that is lost is time at the next start.
            Err(error @ StorageError::Full { .. }) => tracing::warn!(%error, "the next start verifies this log again"),
            Err(error) => return Err(error),
        }
    }
    Ok(Recovered { segments, last_index, checkpoint, found, report })
}

/// A checkpoint behind everything that was verified.
fn found_state(checkpoint: &Checkpoint, surveys: &[Survey], next_offset: Offset) -> Checkpoint {
    let mut found = Checkpoint { next_offset, ..*checkpoint };
    for survey in surveys {
        found.segment = survey.base;
        found.position = survey.index.end_position;
        found.last_append_time_ms = found.last_append_time_ms.max(survey.index.last_append_time_ms);
    }
    found
}

/// A damaged checkpoint costs a full verification, and the log start goes back to the first segment that is left. One
/// that was never written says that the log begins at offset 0: nothing was deleted yet, and a first segment that begins
/// later is not the first.
fn load_checkpoint(fs: &dyn FileSystem, directory: &Path) -> Result<Option<Checkpoint>, StorageError> {
    match Checkpoint::load(fs, directory) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(error @ StorageError::Corrupt { .. }) => {
            tracing::warn!(%error, "ignoring a damaged checkpoint; the whole log is verified instead");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Base offsets of the segments, ascending. Removes what an interrupted deletion or replacement left behind, and goes on
/// with an interrupted compaction.
fn list_segments(fs: &dyn FileSystem, directory: &Path, id: LogId) -> Result<Vec<Offset>, StorageError> {
    let mut bases = Vec::new();
    for name in fs.list(directory).context("list", directory)? {
        let path = directory.join(&name);
        if let Some(base) = base_offset_of(&name) {
            bases.push(base);
        } else if let Some(range) = swapped_range_of(&name) {
            finish_interrupted(fs, directory, id, &range)?;
            return list_segments(fs, directory, id);
        } else if [".deleted", ".tmp", ".cleaned", ".prepared"].iter().any(|leftover| name.ends_with(leftover)) {
            fs.remove_file(&path).context("delete", &path)?;
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Retention persisted the log start, then crashed before it had removed every file.
fn finish_deletions(
    fs: &dyn FileSystem,
    directory: &Path,
    bases: &mut Vec<Offset>,
    log_start: Offset,
) -> Result<(), StorageError> {
    while let [first, second, ..] = bases[..] {
        if second > log_start {
            break;
        }
        tracing::info!(directory = %directory.display(), segment = %first, "finishing an interrupted deletion");
        let path = segment_path(directory, first);
        fs.remove_file(&path).context("delete", &path)?;
        let _ = fs.remove_file(&path.with_extension("index"));
        bases.remove(0);
    }
    Ok(())
}

fn segment_path(directory: &Path, base: Offset) -> PathBuf {
    directory.join(file_stem(base)).with_extension("log")
}

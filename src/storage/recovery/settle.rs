//! A torn log is cut where it was torn, after a copy of everything behind was kept.
//!
//! Later segments go first, the last one first of all: wherever a crash interrupts this, the next recovery finds the
//! same tear and goes on.

use super::judge::Cut;
use super::survey::Survey;
use crate::planted::{Bug, is_planted};
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, FileSystem, OpenMode};
use crate::storage::segment::index::SparseIndex;
use crate::storage::segment::scan::scan;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// More space than this that was allocated ahead would be looked at again by each start.
const ALLOCATED_BYTES_KEPT: u32 = 1 << 20;

/// Carries out `cut`; afterwards `surveys` are of what is left. Gives where the torn bytes of the last segment that
/// stays were saved, and how many they are.
pub(super) fn settle(
    fs: &Arc<dyn FileSystem>,
    directory: &Path,
    surveys: &mut Vec<Survey>,
    cut: &Cut,
) -> Result<Option<(PathBuf, u64)>, StorageError> {
    if is_planted(Bug::TornTailNotCut) {
        return Ok(None);
    }
    let kept = cut.survey + usize::from(cut.position.is_some());
    while surveys.len() > kept {
        let Some(survey) = surveys.pop() else { break };
        set_aside(&**fs, &survey)?;
    }
    let torn = match (cut.position, surveys.last_mut()) {
        (Some(position), Some(survey)) => cut_segment(&**fs, survey, position)?,
        _ => None,
    };
    fs.sync_dir(directory).context("sync", directory)?;
    Ok(torn)
}

/// A segment that is not appended to any more ends with its last frame: whoever opens it next goes by its length. One
/// that is keeps some of the space that was allocated ahead. Whether anything was cut.
pub(super) fn trim(fs: &dyn FileSystem, survey: &mut Survey, is_active: bool) -> Result<bool, StorageError> {
    let end = survey.index.end_position;
    let kept = if is_active { ALLOCATED_BYTES_KEPT } else { 0 };
    if !survey.is_whole() || survey.file_bytes <= end.saturating_add(kept) {
        return Ok(false);
    }
    let file = fs.open(&survey.path, OpenMode::Write).context("open", &survey.path)?;
    file.set_len(end.into()).context("cut", &survey.path)?;
    survey.file_bytes = end;
    file.sync_data().context("sync", &survey.path)?;
    Ok(true)
}

/// A segment that is wholly behind the tear gets a name that no segment has. One without a single byte in it goes.
fn set_aside(fs: &dyn FileSystem, survey: &Survey) -> Result<(), StorageError> {
    let _ = fs.remove_file(&survey.path.with_extension("index"));
    let file = fs.open(&survey.path, OpenMode::Read).context("open", &survey.path)?;
    let bytes = read_all(&*file, &survey.path, 0, survey.file_bytes)?;
    drop(file);
    if bytes.iter().all(|byte| *byte == 0) {
        return fs.remove_file(&survey.path).context("delete", &survey.path);
    }
    let aside = survey.path.with_extension("torn-0");
    tracing::warn!(path = %aside.display(), "a segment behind a tear was never synced; its bytes are kept here");
    fs.rename(&survey.path, &aside).context("rename", &survey.path)
}

/// Cuts a segment at `position`, where its last frame before the tear ends.
fn cut_segment(
    fs: &dyn FileSystem,
    survey: &mut Survey,
    position: u32,
) -> Result<Option<(PathBuf, u64)>, StorageError> {
    let path = survey.path.clone();
    let file = fs.open(&path, OpenMode::Write).context("open", &path)?;
    let tail = read_all(&*file, &path, position, survey.file_bytes)?;
    let saved = save_torn_tail(fs, &path, &tail, position)?;
    file.set_len(position.into()).context("cut", &path)?;
    file.sync_data().context("sync", &path)?;
    survey.file_bytes = position;
    survey.breaks.retain(|found| found.position < position);
    if survey.index.end_position > position {
        // Frames behind the tear are gone; so are their entries. Verified, as before: a damaged header may lead past what
        // stands behind it.
        let seed = survey.seed;
        let bytes = read_all(&*file, &path, 0, position)?;
        survey.index = SparseIndex::new(survey.base);
        drop(scan(&bytes, seed, true, &mut survey.index));
    }
    Ok(saved)
}

/// Keeps a copy of what is about to be cut, for whoever wants to look.
fn save_torn_tail(
    fs: &dyn FileSystem,
    path: &Path,
    tail: &[u8],
    position: u32,
) -> Result<Option<(PathBuf, u64)>, StorageError> {
    let len = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let copy = path.with_extension(format!("torn-{position}"));
    let file = fs.open(&copy, OpenMode::Replace).context("create", &copy)?;
    file.write_all_at(0, &mut [IoSlice::new(&tail[..len])]).context("write", &copy)?;
    file.sync_data().context("sync", &copy)?;
    tracing::warn!(path = %copy.display(), bytes = len, "a batch was being written at the crash; its bytes are kept here");
    Ok(Some((copy, len as u64)))
}

fn read_all(file: &dyn File, path: &Path, from: u32, to: u32) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![0; (to - from) as usize];
    file.read_exact_at(from.into(), &mut bytes).context("read", path)?;
    Ok(bytes)
}

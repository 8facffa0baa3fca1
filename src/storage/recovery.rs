//! Opening a log, after a clean stop or a crash.
//!
//! Only what lies behind the checkpoint is read and verified; after a clean stop that is nothing. Then:
//! a tail that is no valid frame, with nothing valid behind it, was being written when the broker died: it is copied
//! to `<segment>.torn-<position>` and cut. Anything else that does not fit is damage: the log refuses to open, says
//! where, and changes nothing. Recovering twice gives the same as recovering once.

use crate::planted::{Bug, is_planted};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, FileSystem, OpenMode};
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::storage::segment::index::SparseIndex;
use crate::storage::segment::scan::{ScanEnd, find_frame_after, scan};
use crate::storage::segment::{Segment, base_offset_of, file_stem};
use crate::types::Offset;
use bytes::Bytes;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What opening a log found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Bytes that were read and verified; 0 after a clean stop.
    pub verified_bytes: u64,
    /// Where a torn tail was saved, and how long it was.
    pub torn_tail: Option<(PathBuf, u64)>,
}

/// A log as found on disk.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segments: Vec<Arc<Segment>>,
    /// The index of the last segment, which goes on being the active one.
    pub(super) last_index: Option<SparseIndex>,
    pub(super) checkpoint: Checkpoint,
    pub(super) report: RecoveryReport,
}

/// Finds, verifies and if need be mends the log in `directory`.
pub(super) fn recover(fs: &Arc<dyn FileSystem>, directory: &Path, id: LogId) -> Result<Recovered, StorageError> {
    let stored = load_checkpoint(&**fs, directory)?;
    let mut bases = list_segments(&**fs, directory)?;
    let log_start = stored.map_or_else(|| bases.first().copied().unwrap_or_default(), |found| found.log_start_offset);
    let mut checkpoint = Checkpoint { log_start_offset: log_start, ..stored.unwrap_or(Checkpoint::EMPTY) };

    // Retention persisted the log start, then crashed before it had removed every file.
    while let [first, second, ..] = bases[..] {
        if second > log_start {
            break;
        }
        tracing::info!(directory = %directory.display(), segment = %first, "finishing an interrupted deletion");
        remove_segment(&**fs, directory, first)?;
        bases.remove(0);
    }
    check_nothing_is_missing(directory, &bases, &checkpoint)?;

    let mut recovery = Recovery { fs, directory, id, report: RecoveryReport::default() };
    recovery.remove_never_begun(&mut bases, &checkpoint)?;
    let trusted = bases.partition_point(|base| *base < checkpoint.segment).min(bases.len().saturating_sub(1));
    let mut segments = recovery.trusted_segments(&bases[..trusted])?;
    let mut last_index = None;
    for (i, base) in bases.iter().enumerate().skip(trusted) {
        let (segment, index) = recovery.verify_segment(*base, bases.get(i + 1).copied(), &checkpoint)?;
        checkpoint.segment = *base;
        checkpoint.position = index.end_position;
        checkpoint.next_offset = index.next_offset;
        checkpoint.last_append_time_ms = checkpoint.last_append_time_ms.max(index.last_append_time_ms);
        segments.push(Arc::new(segment));
        last_index = Some(index);
    }
    checkpoint.next_offset = checkpoint.next_offset.max(log_start);
    // Records that were deleted before they were durable may be gone: then the log goes on in a new segment, whose
    // name says at which offset.
    last_index = last_index.filter(|index| index.next_offset == checkpoint.next_offset);
    if segments.is_empty() {
        // Nothing is left that the recovery point could be in; kept, it would be taken for one in the next segment.
        (checkpoint.segment, checkpoint.position) = (checkpoint.next_offset, 0);
    }
    if stored != Some(checkpoint) {
        // What was verified is synced, so what readers see from here on cannot vanish, and need not be read again.
        fs.sync_dir(directory).context("sync", directory)?;
        match checkpoint.store(&**fs, directory) {
            // A full disk must not take a partition offline; all that is lost is time at the next start.
            Err(error @ StorageError::Full { .. }) => tracing::warn!(%error, "the next start verifies this log again"),
            stored => stored?,
        }
    }
    Ok(Recovered { segments, last_index, checkpoint, report: recovery.report })
}

/// A damaged checkpoint costs a full verification, and the log start goes back to the first segment that is left. One that was never written says that the log begins at
/// offset 0: nothing was deleted yet, and a first segment that begins later is not the first.
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

/// Base offsets of the segments, ascending. Removes what an interrupted deletion or replacement left behind.
fn list_segments(fs: &dyn FileSystem, directory: &Path) -> Result<Vec<Offset>, StorageError> {
    let mut bases = Vec::new();
    for name in fs.list(directory).context("list", directory)? {
        let path = directory.join(&name);
        if let Some(base) = base_offset_of(&name) {
            bases.push(base);
        } else if [".deleted", ".tmp"].iter().any(|leftover| name.ends_with(leftover)) {
            fs.remove_file(&path).context("delete", &path)?;
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

fn remove_segment(fs: &dyn FileSystem, directory: &Path, base: Offset) -> Result<(), StorageError> {
    let path = directory.join(file_stem(base)).with_extension("log");
    fs.remove_file(&path).context("delete", &path)?;
    let _ = fs.remove_file(&path.with_extension("index"));
    Ok(())
}

/// Files that the checkpoint vouches for must be there.
fn check_nothing_is_missing(directory: &Path, bases: &[Offset], checkpoint: &Checkpoint) -> Result<(), StorageError> {
    let retained = checkpoint.next_offset > checkpoint.log_start_offset;
    let first_missing = match bases.first() {
        Some(first) if *first > checkpoint.log_start_offset => Some(checkpoint.log_start_offset),
        None if retained => Some(checkpoint.log_start_offset),
        Some(_) if retained && !bases.contains(&checkpoint.segment) => Some(checkpoint.segment),
        _ => None,
    };
    match first_missing {
        Some(offset) => {
            Err(StorageError::corrupt(directory, 0, format!("the segment file with offset {offset} is missing")))
        }
        None => Ok(()),
    }
}

struct Recovery<'a> {
    fs: &'a Arc<dyn FileSystem>,
    directory: &'a Path,
    id: LogId,
    report: RecoveryReport,
}

impl Recovery<'_> {
    /// Segments before the checkpoint: known to be valid and durable, so only their length is asked for.
    fn trusted_segments(&self, bases: &[Offset]) -> Result<Vec<Arc<Segment>>, StorageError> {
        let open = |base: &Offset| {
            let (_, path, len) = self.open_file(*base)?;
            let end = position_of(&path, len)?;
            Ok(Arc::new(Segment::sealed(self.fs, self.directory, self.id, *base, end, true)))
        };
        bases.iter().map(open).collect()
    }

    /// Removes segments at the end that were created but never begun: nothing can have been acknowledged from them,
    /// their header is written before their first frame. There may be several, and the one before them may have lost its
    /// tail: whoever syncs the directory makes the names of files durable that are not.
    fn remove_never_begun(&self, bases: &mut Vec<Offset>, checkpoint: &Checkpoint) -> Result<(), StorageError> {
        while let Some(last) = bases.last().copied() {
            let is_vouched_for = checkpoint.segment >= last && checkpoint.position > 0;
            if is_vouched_for || self.is_begun(last)? {
                break;
            }
            remove_segment(&**self.fs, self.directory, last)?;
            bases.pop();
        }
        Ok(())
    }

    fn is_begun(&self, base: Offset) -> Result<bool, StorageError> {
        let (file, path, len) = self.open_file(base)?;
        let end = position_of(&path, len)? as usize;
        let bytes = file.view(end.max(1)).context("map", &path)?.slice(0, end);
        Ok(end >= SEGMENT_HEADER_BYTES && bytes.iter().any(|byte| *byte != 0))
    }

    /// Verifies a segment from the checkpoint on.
    fn verify_segment(
        &mut self,
        base: Offset,
        following: Option<Offset>,
        checkpoint: &Checkpoint,
    ) -> Result<(Segment, SparseIndex), StorageError> {
        let (file, path, len) = self.open_file(base)?;
        let end = position_of(&path, len)?;
        let bytes = file.view(end.max(1) as usize).context("map", &path)?.slice(0, end as usize);
        let header = &bytes[..bytes.len().min(SEGMENT_HEADER_BYTES)];
        let seed =
            SegmentHeader::decode_seed(header, self.id, base).map_err(|what| StorageError::corrupt(&path, 0, what))?;
        let trusted = if checkpoint.segment == base { checkpoint.position } else { 0 };
        if trusted > end {
            let what = format!("it has {end} bytes, {trusted} were written and synced");
            return Err(StorageError::corrupt(&path, end.into(), what));
        }
        let segment = Segment::sealed(self.fs, self.directory, self.id, base, end, false);
        let mut index = index_up_to(&segment, seed, base, &bytes, trusted);
        let from = index.end_position;
        let stop = scan(&bytes, Some(seed), &mut index);
        // Also when nothing lies behind the checkpoint: the segment after this one must begin where this one ends.
        if end > trusted || following.is_some() {
            self.report.verified_bytes += u64::from(index.end_position - from);
            self.settle_tail(&*file, &path, &bytes, &index, seed, stop, following)?;
        }
        let segment = Segment::sealed(self.fs, self.directory, self.id, base, index.end_position, true);
        Ok((segment, index))
    }

    /// Cuts what lies behind the last valid frame if a crash explains it, and makes the rest durable.
    #[expect(clippy::too_many_arguments, reason = "the facts of one segment, used in this one place")]
    fn settle_tail(
        &mut self,
        file: &dyn File,
        path: &Path,
        bytes: &Bytes,
        index: &SparseIndex,
        seed: u32,
        stop: ScanEnd,
        following: Option<Offset>,
    ) -> Result<(), StorageError> {
        let end = index.end_position;
        let damage = |what: String| StorageError::corrupt(path, end.into(), what);
        if let Some(next_base) = following
            && next_base != index.next_offset
        {
            let (last, stop) = (index.next_offset, describe(stop));
            return Err(damage(format!(
                "it ends at offset {last} ({stop}), but the next segment begins at {next_base}"
            )));
        }
        match stop {
            ScanEnd::Clean => {}
            ScanEnd::OutOfOrder => return Err(damage(format!("{} {}", describe(stop), index.next_offset))),
            ScanEnd::Invalid(error) => {
                if let Some(position) = find_frame_after(bytes, seed, end as usize) {
                    return Err(damage(format!("{error}, but there are valid frames from byte {position} on")));
                }
                self.save_torn_tail(path, &bytes[end as usize..], end)?;
            }
        }
        if bytes.len() > end as usize {
            file.set_len(end.into()).context("cut", path)?;
        }
        file.sync_data().context("sync", path)
    }

    /// Keeps a copy of what is about to be cut, for whoever wants to look.
    fn save_torn_tail(&mut self, path: &Path, tail: &[u8], position: u32) -> Result<(), StorageError> {
        let len = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let copy = path.with_extension(format!("torn-{position}"));
        let file = self.fs.open(&copy, OpenMode::Replace).context("create", &copy)?;
        file.write_all_at(0, &mut [IoSlice::new(&tail[..len])]).context("write", &copy)?;
        file.sync_data().context("sync", &copy)?;
        tracing::warn!(path = %copy.display(), bytes = len, "a batch was being written at the crash; its bytes are kept here");
        self.report.torn_tail = Some((copy, len as u64));
        Ok(())
    }

    fn open_file(&self, base: Offset) -> Result<(Arc<dyn File>, PathBuf, u64), StorageError> {
        let path = self.directory.join(file_stem(base)).with_extension("log");
        let file = self.fs.open(&path, OpenMode::Write).context("open", &path)?;
        let len = file.len().context("read", &path)?;
        Ok((file, path, len))
    }
}

fn position_of(path: &Path, len: u64) -> Result<u32, StorageError> {
    u32::try_from(len).map_err(|_| StorageError::corrupt(path, 0, format!("{len} bytes are too many for a segment")))
}

/// The index of the part of a segment that the checkpoint vouches for: from its file, or from the frame headers.
fn index_up_to(segment: &Segment, seed: u32, base: Offset, bytes: &Bytes, trusted: u32) -> SparseIndex {
    let fits = |index: &SparseIndex| index.end_position <= trusted || is_planted(Bug::StaleIndexTrusted);
    let saved = segment.load_index(seed).filter(fits);
    let mut index = saved.unwrap_or_else(|| SparseIndex::new(base));
    let known = &bytes[..(trusted as usize).max(index.end_position as usize).min(bytes.len())];
    match scan(known, None, &mut index) {
        ScanEnd::Clean => index,
        // Whatever is wrong is found again, and reported, by the verification that follows.
        ScanEnd::Invalid(_) | ScanEnd::OutOfOrder => SparseIndex::new(base),
    }
}

fn describe(stop: ScanEnd) -> String {
    match stop {
        ScanEnd::Clean => "its end".into(),
        ScanEnd::Invalid(error) => error.to_string(),
        ScanEnd::OutOfOrder => "the offset of a frame does not follow from the one before it, expected".into(),
    }
}

//! One segment file is checked: header, every frame, its end against what comes next, its index.

use crate::inspect::data_directory::{DataDirectory, LogPlace};
use crate::inspect::frame_walk::{FrameWalk, Step};
use crate::inspect::log_files::segment_path;
use crate::inspect::problem::{Problem, ProblemKind};
use crate::inspect::segments::OpenedSegment;
use crate::inspect::verify::Findings;
use crate::storage::StorageError;
use crate::storage::checkpoint::Checkpoint;
use crate::storage::error::IoContext as _;
use crate::storage::file_system::{File, OpenMode};
use crate::storage::frame::{FrameError, FrameHeader};
use crate::storage::segment::header::SEGMENT_HEADER_BYTES;
use crate::storage::segment::index::SparseIndex;
use crate::types::record_set::{self, RecordSetError};
use crate::types::{Offset, TimestampMs};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes between two signs of life.
const REPORT_BYTES: u32 = 4 << 20;

/// What is known of a segment before it is read.
pub(super) struct SegmentCheck<'c> {
    pub(super) directory: &'c DataDirectory,
    pub(super) place: &'c LogPlace,
    pub(super) base: Offset,
    /// Base offset of the next segment; `None` for the last.
    pub(super) following: Option<Offset>,
    pub(super) checkpoint: Option<&'c Checkpoint>,
    pub(super) has_index: bool,
    pub(super) in_use: bool,
}

/// How far the check of one segment is.
struct Progress {
    path: PathBuf,
    /// Of the frames so far; stops growing at the first that does not fit.
    index: SparseIndex,
    is_contiguous: bool,
    next_offset: Offset,
    last_append_time_ms: TimestampMs,
    saved_index: Option<SparseIndex>,
    saved_index_fits: bool,
    /// Whether the recovery point is the end of a frame, with the right offset.
    checkpoint_fits: bool,
    /// Bytes that are no frame, until it is known which offsets they held.
    damage: Option<(u32, FrameError)>,
    reported_bytes: u32,
}

impl SegmentCheck<'_> {
    /// Reads and checks all of it; gives the latest append time seen.
    pub(super) fn run(&self, last_append_time_ms: TimestampMs, findings: &mut Findings<'_>) -> TimestampMs {
        let opened = match OpenedSegment::open(self.directory, self.place, self.base) {
            Ok(opened) => opened,
            Err(StorageError::Io { source, .. }) if self.in_use && source.kind() == ErrorKind::NotFound => {
                // Retention was here between the list and now.
                return last_append_time_ms;
            }
            Err(error) => {
                let path = segment_path(&self.place.directory, self.base);
                findings.error(ProblemKind::SegmentHeader, &path, &error);
                return last_append_time_ms;
            }
        };
        findings.totals.segments += 1;
        let seed = match &opened.seed {
            Ok(seed) => *seed,
            Err(_) if opened.is_unbegun && self.following.is_none() && self.recovery_point().is_none() => {
                return last_append_time_ms;
            }
            Err(what) => {
                let problem = Problem::new(ProblemKind::SegmentHeader, &opened.path, what.as_str()).at(0_u32);
                findings.problem(problem.concerning(self.base, self.end_offset()));
                return last_append_time_ms;
            }
        };
        let saved_index = opened.saved_index(self.directory, self.base, seed);
        let mut progress = Progress {
            path: opened.path,
            index: SparseIndex::new(self.base),
            is_contiguous: true,
            next_offset: self.base,
            last_append_time_ms,
            saved_index_fits: false,
            saved_index,
            checkpoint_fits: false,
            damage: None,
            reported_bytes: 0,
        };
        let end = match self.walk(&opened.file, opened.file_bytes, seed, &mut progress, findings) {
            Ok(end) => end,
            Err(error) => {
                findings.error(ProblemKind::Unreadable, &progress.path, &error);
                return progress.last_append_time_ms;
            }
        };
        findings.read(u64::from(opened.file_bytes.saturating_sub(progress.reported_bytes)));
        self.check_end(end, opened.file_bytes, &mut progress, findings);
        self.check_index(&progress, findings);
        progress.last_append_time_ms
    }

    /// The part of the checkpoint that is about this segment.
    fn recovery_point(&self) -> Option<&Checkpoint> {
        let header_bytes = u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits");
        self.checkpoint.filter(|found| found.segment == self.base && found.position >= header_bytes)
    }

    /// The offset at which it should end, if anything says so.
    fn end_offset(&self) -> Option<Offset> {
        self.following.or_else(|| self.recovery_point().map(|checkpoint| checkpoint.next_offset))
    }

    /// Walks all frames; gives the position at which they end.
    fn walk(
        &self,
        file: &Arc<dyn File>,
        file_bytes: u32,
        seed: u32,
        progress: &mut Progress,
        findings: &mut Findings<'_>,
    ) -> Result<u32, StorageError> {
        let start = progress.index.end_position;
        let mut walk = FrameWalk::verified(Arc::clone(file), file_bytes, seed, start);
        self.compare(progress);
        loop {
            match walk.step().context("read", &progress.path)? {
                Step::Frame { position, header, frame_bytes, payload } => {
                    check_frame(position, &header, progress, findings);
                    check_payload(position, &header, payload, progress, findings);
                    progress.is_contiguous &= progress.index.has_room_for(&header, frame_bytes);
                    if progress.is_contiguous {
                        progress.index.push(&header, frame_bytes);
                        self.compare(progress);
                    }
                    progress.next_offset = header.next_offset();
                    findings.totals.frames += 1;
                    findings.totals.records += u64::from(header.record_count);
                    if position - progress.reported_bytes >= REPORT_BYTES {
                        findings.read((position - progress.reported_bytes).into());
                        progress.reported_bytes = position;
                    }
                }
                Step::Invalid { position, error, .. } => {
                    progress.is_contiguous = false;
                    progress.damage = Some((position, error));
                }
                Step::Zeros { position } | Step::End { position } => return Ok(position),
            }
        }
    }

    /// Holds the index file and the checkpoint against the frames, at the one position that each is about.
    fn compare(&self, progress: &mut Progress) {
        let end = progress.index.end_position;
        if let Some(saved) = progress.saved_index.as_ref().filter(|saved| saved.end_position == end) {
            progress.saved_index_fits = *saved == progress.index;
        }
        if let Some(checkpoint) = self.recovery_point().filter(|checkpoint| checkpoint.position == end) {
            let is_at_start = end as usize == SEGMENT_HEADER_BYTES;
            // What was deleted ahead of the recovery point moved its offset up, and not its position. At the beginning
            // of its segment it says nothing of the offset there.
            let offset = progress.index.next_offset.max(checkpoint.log_start_offset);
            let is_here = checkpoint.next_offset == progress.index.next_offset;
            progress.checkpoint_fits = is_here || checkpoint.next_offset == offset || is_at_start;
        }
    }

    /// What stands behind the last frame, and whether the next segment begins there.
    fn check_end(&self, end: u32, file_bytes: u32, progress: &mut Progress, findings: &mut Findings<'_>) {
        let (next, path) = (progress.next_offset, progress.path.clone());
        // The recovery point may have been moved back to before other segments, for a compaction.
        let goes_on = self.following == Some(next);
        // Offsets below the log start may be gone: they were deleted, perhaps before they were durable.
        let is_early = |found: &&Checkpoint| found.next_offset > next.max(found.log_start_offset) && !goes_on;
        let ends_early = self.recovery_point().filter(is_early);
        if let Some((position, error)) = progress.damage.take() {
            let lost_to = self.following.or(ends_early.map(|checkpoint| checkpoint.next_offset));
            findings.problem(if lost_to.is_some() {
                let kind = if error == FrameError::Short { ProblemKind::Truncated } else { ProblemKind::Frame };
                Problem::new(kind, &path, error.to_string()).at(position).concerning(next, lost_to)
            } else {
                let what = format!(
                    "{error}, and no frame follows: a batch was being written at a crash; the next start keeps these \
                     {} bytes in a .torn file and cuts them",
                    file_bytes - position
                );
                Problem::new(ProblemKind::TornTail, &path, what).at(position)
            });
        } else if let Some(following) =
            self.following.filter(|following| *following != next && !self.is_merged(*following))
        {
            findings.problem(self.gap(end, next, following, progress));
        } else if let Some(checkpoint) = ends_early {
            let what = format!("its frames end here, but {} bytes were written and synced", checkpoint.position);
            let problem = Problem::new(ProblemKind::Truncated, &path, what).at(end);
            findings.problem(problem.concerning(next, Some(checkpoint.next_offset)));
        } else if self.following.is_some() && end < file_bytes && self.checkpoint.is_some_and(|c| c.segment > self.base)
        {
            let what = format!("{} zero bytes stand behind the last frame of a sealed segment", file_bytes - end);
            findings.problem(Problem::new(ProblemKind::Frame, &path, what).at(end));
        } else if let Some(checkpoint) =
            self.recovery_point().filter(|_| progress.is_contiguous && !progress.checkpoint_fits)
        {
            let (position, offset) = (checkpoint.position, checkpoint.next_offset);
            let what = format!(
                "its recovery point, offset {offset} at byte {position} of {}, is not the end of a frame",
                path.display()
            );
            findings.problem(Problem::new(
                ProblemKind::Checkpoint,
                &self.place.directory.join("checkpoint.json"),
                what,
            ));
        }
    }

    /// Whether compaction has merged the next segment into this one since they were listed.
    fn is_merged(&self, following: Offset) -> bool {
        let path = segment_path(&self.place.directory, following);
        let opened = self.directory.fs.open(&path, OpenMode::Read);
        self.in_use && opened.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// The next segment does not begin where this one ends. An index file that fits says that this one is whole.
    fn gap(&self, end: u32, next: Offset, following: Offset, progress: &Progress) -> Problem {
        let is_whole =
            progress.saved_index_fits && progress.saved_index.as_ref().is_some_and(|i| i.end_position == end);
        if following < next {
            let what = format!("it ends at offset {next}, but the next segment begins before that, at {following}");
            return Problem::new(ProblemKind::Offsets, &progress.path, what).at(end).concerning(following, Some(next));
        }
        let problem = if is_whole {
            let what = format!("it is not there: the segment before it ends at {next}, the next begins at {following}");
            Problem::new(ProblemKind::MissingSegment, &segment_path(&self.place.directory, next), what)
        } else {
            let what = format!(
                "it ends at offset {next}, but the next segment begins at {following}: it was cut, or the segment file \
                 with offset {next} is missing"
            );
            Problem::new(ProblemKind::Truncated, &progress.path, what).at(end)
        };
        problem.concerning(next, Some(following))
    }

    fn check_index(&self, progress: &Progress, findings: &mut Findings<'_>) {
        let what = match &progress.saved_index {
            _ if !self.has_index => return,
            None => "it is damaged, or of another segment",
            // What the frames say is not known to the end.
            Some(_) if !progress.is_contiguous => return,
            Some(_) if !progress.saved_index_fits => "it does not agree with the frames",
            Some(saved) if self.following.is_some() && saved.end_position != progress.index.end_position => {
                "it ends before its segment does"
            }
            Some(_) => return,
        };
        let what = format!("{what}; harmless, it is made again when it is needed and may be deleted");
        findings.problem(Problem::new(ProblemKind::Index, &progress.path.with_extension("index"), what));
    }
}

/// Whether a frame goes on where the one before it ended. After damage, it says which offsets are lost.
fn check_frame(position: u32, header: &FrameHeader, progress: &mut Progress, findings: &mut Findings<'_>) {
    let (expected, found) = (progress.next_offset, header.base_offset);
    if let Some((damaged, error)) = progress.damage.take() {
        let what = format!("{error}; valid frames go on at byte {position}");
        let problem = Problem::new(ProblemKind::Frame, &progress.path, what).at(damaged);
        findings.problem(problem.concerning(expected, Some(found)));
    } else if found != expected {
        progress.is_contiguous = false;
        let what = format!("the frame begins at offset {found}, after one that ends at {expected}");
        let (first, next) = (expected.min(found), expected.max(found));
        let problem = Problem::new(ProblemKind::Offsets, &progress.path, what).at(position);
        findings.problem(problem.concerning(first, Some(next)));
    }
    let (before, now) = (progress.last_append_time_ms, header.append_time_ms);
    if now < before {
        let what = format!("the append time goes back from {before} to {now} ms");
        let problem = Problem::new(ProblemKind::Time, &progress.path, what).at(position);
        findings.problem(problem.concerning(found, Some(header.next_offset())));
    }
    progress.last_append_time_ms = before.max(now);
}

/// Whether the payload is what the header says. Its checksum was right, so this is a fault of whoever wrote it.
fn check_payload(
    position: u32,
    header: &FrameHeader,
    payload: &[u8],
    progress: &Progress,
    findings: &mut Findings<'_>,
) {
    // The records of a frame have the first of the offsets it covers; one without records only covers.
    let covers = u64::from(header.last_offset_delta) + 1;
    let what = match (header.check_readable(), record_set::check(payload, usize::MAX)) {
        (Err(error), _) => error.to_string(),
        (Ok(()), _) if u64::from(header.record_count) > covers => {
            format!("its header says {} records, and that it covers {covers} offsets", header.record_count)
        }
        (Ok(()), Err(RecordSetError::Empty)) if header.record_count == 0 => return,
        (Ok(()), Err(error)) => error.to_string(),
        (Ok(()), Ok(set)) if set.record_count != header.record_count => {
            format!("it holds {} records, its header says {}", set.record_count, header.record_count)
        }
        (Ok(()), Ok(_)) => return,
    };
    let problem = Problem::new(ProblemKind::Payload, &progress.path, what).at(position);
    findings.problem(problem.concerning(header.base_offset, Some(header.next_offset())));
}

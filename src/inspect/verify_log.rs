//! One log is checked: its directory, its checkpoint, that no segment is missing; then each segment.

use crate::inspect::data_directory::{DataDirectory, LogPlace};
use crate::inspect::log_files::{LogFiles, load_checkpoint, segment_path};
use crate::inspect::problem::{Problem, ProblemKind};
use crate::inspect::verify::Findings;
use crate::inspect::verify_segment::SegmentCheck;
use crate::storage::StorageError;
use crate::storage::checkpoint::Checkpoint;
use crate::types::{Offset, TimestampMs};
use std::io::ErrorKind;

/// Verifies the log at `place`. While a broker runs, its last segment is left out.
pub(super) fn verify_log(directory: &DataDirectory, place: &LogPlace, in_use: bool, findings: &mut Findings<'_>) {
    findings.totals.partitions += 1;
    // Files first: a checkpoint that is younger than the list only makes more of them superfluous.
    let Some(mut files) = list(directory, place, findings) else { return };
    let checkpoint = load_checkpoint(&*directory.fs, &place.directory).unwrap_or_else(|error| {
        findings.error(ProblemKind::Checkpoint, &place.directory.join("checkpoint.json"), &error);
        None
    });
    for name in &files.unknown {
        let what = "it is not a file of a log; the broker leaves it alone";
        findings.problem(Problem::new(ProblemKind::UnknownFile, &place.directory.join(name), what));
    }
    if let Some(checkpoint) = &checkpoint {
        files.retain_from(checkpoint.log_start_offset);
        verify_presence(place, &files, checkpoint, in_use, findings);
    }
    for base in files.indexes.iter().filter(|base| !in_use && !files.segments.contains(base)) {
        let path = segment_path(&place.directory, *base).with_extension("index");
        findings.problem(Problem::new(
            ProblemKind::UnknownFile,
            &path,
            "it is the index of a segment that is not there",
        ));
    }
    for range in &files.swaps {
        let what = format!(
            "a compaction of offsets {} to {} (exclusive) was interrupted; the next start goes on with it, verify them \
             again then",
            range.start, range.end
        );
        findings.problem(Problem::new(ProblemKind::UnfinishedCompaction, &place.directory, what));
    }
    let mut last_append_time_ms = TimestampMs::MIN;
    for (i, base) in files.segments.iter().enumerate() {
        let following = files.segments.get(i + 1).copied();
        if in_use && following.is_none() {
            break;
        }
        if files.swaps.iter().any(|range| range.contains(base)) {
            continue;
        }
        let check = SegmentCheck {
            directory,
            place,
            base: *base,
            following,
            checkpoint: checkpoint.as_ref(),
            has_index: files.indexes.contains(base),
            in_use,
        };
        last_append_time_ms = check.run(last_append_time_ms, findings);
    }
}

fn list(directory: &DataDirectory, place: &LogPlace, findings: &mut Findings<'_>) -> Option<LogFiles> {
    match LogFiles::list(&*directory.fs, &place.directory) {
        Ok(files) => Some(files),
        Err(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let what = format!("the directory of partition {} is not there", place.label());
            findings.problem(Problem::new(ProblemKind::MissingDirectory, &place.directory, what));
            None
        }
        Err(error) => {
            findings.error(ProblemKind::Unreadable, &place.directory, &error);
            None
        }
    }
}

/// Segments that the checkpoint says there are, at the two ends of the log; a gap between two shows at the first.
fn verify_presence(
    place: &LogPlace,
    files: &LogFiles,
    checkpoint: &Checkpoint,
    in_use: bool,
    findings: &mut Findings<'_>,
) {
    let (start, end) = (checkpoint.log_start_offset, checkpoint.next_offset);
    let mut missing = |base: Offset, next: Offset, what: String| {
        let problem = Problem::new(ProblemKind::MissingSegment, &segment_path(&place.directory, base), what);
        findings.problem(problem.concerning(base.max(start), Some(next)));
    };
    let first = files.segments.first().copied();
    let first_missing = first.unwrap_or(end) > start;
    if first_missing {
        let next = first.unwrap_or(end);
        missing(start, next, format!("the log begins at offset {start}, but the first segment there is at {next}"));
    }
    // A running broker may have moved the checkpoint on to a segment that is younger than the list of files.
    let is_last_missing = !files.segments.contains(&checkpoint.segment) && first.is_some();
    if !in_use && end > start && is_last_missing && first.is_some_and(|first| first < checkpoint.segment) {
        missing(checkpoint.segment, end, "the checkpoint names this segment, but it is not there".to_owned());
    }
}

//! What the breaks of a log mean: a pure choice over surveys.
//!
//! A break at or above the durable end is a tear: the log ends there, whatever valid frames follow (a disk may write
//! later sectors before earlier ones). A break below it is damage: a range of offsets that is named and stepped over.

use super::segment_path;
use super::survey::{Beginning, Survey};
use crate::planted::{Bug, is_planted};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::damage::DamagedRange;
use crate::storage::error::StorageError;
use crate::types::Offset;
use std::path::{Path, PathBuf};

/// Where a log that was torn ends: everything behind is saved aside and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Which of the surveys it is in.
    pub(super) survey: usize,
    /// Where, in bytes. `None`: the whole segment goes, its frames cannot be told.
    pub(super) position: Option<u32>,
    /// The offset at which the log goes on.
    pub(super) next_offset: Offset,
}

/// What recovery must do, and what it must not serve.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) damage: Vec<DamagedRange>,
    pub(super) cut: Option<Cut>,
    /// The offset that the next record gets.
    pub(super) next_offset: Offset,
}

/// What every break is held against.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Records before this were deleted; they are missed by nobody.
    log_start: Offset,
    /// Records before this were synced.
    durable_end: Offset,
}

impl Known {
    /// Where the log ends if it breaks off at `expected` and that is a tear: nothing that was synced and not deleted comes
    /// from there on. A deletion may have moved the log start beyond what was synced.
    fn end_if_torn(self, expected: Offset) -> Option<Offset> {
        let end = expected.max(self.log_start);
        (end >= self.durable_end).then_some(end)
    }
}

/// Judges the breaks of the segments behind the checkpoint, in order. `first_base`: of the first segment there is.
pub(super) fn judge(
    directory: &Path,
    checkpoint: &Checkpoint,
    first_base: Option<Offset>,
    surveys: &[Survey],
) -> Result<Verdict, StorageError> {
    let marks = surveys.iter().map(|survey| survey.durable_mark);
    let durable_end = marks.fold(checkpoint.next_offset, Offset::max);
    let durable_end = if is_planted(Bug::TruncatesInTheMiddle) { Offset::ZERO } else { durable_end };
    let mut verdict = Verdict::default();
    let log_start = checkpoint.log_start_offset;
    let known = Known { log_start, durable_end };
    // Where the first survey should begin: the segments before it are not looked at.
    let first_surveyed = surveys.first().map_or(checkpoint.segment, |survey| survey.base);
    let is_first = first_base.is_none_or(|first| first >= first_surveyed);
    let mut expected = first_surveyed.min(checkpoint.segment);
    if is_first {
        expected = first_surveyed.min(log_start);
    } else if let Some(first) = first_base.filter(|first| *first > log_start) {
        verdict.missing(directory, log_start, first);
    }
    for (at, survey) in surveys.iter().enumerate() {
        // The name of a segment that was never written says nothing of the one before it: it is not there at the next start.
        let is_written = |next: &&Survey| !matches!(next.beginning, Beginning::Unwritten) || next.base < durable_end;
        let following = surveys.get(at + 1).filter(is_written).map(|next| next.base);
        if survey.base < expected {
            let what = format!("it begins at offset {}, but the segment before it ends at {expected}", survey.base);
            return Err(StorageError::corrupt(&survey.path, 0, what));
        }
        if survey.base > expected {
            if let Some(next_offset) = known.end_if_torn(expected).filter(|end| survey.base > *end) {
                verdict.cut = Some(Cut { survey: at, position: None, next_offset });
                break;
            }
            if matches!(survey.beginning, Beginning::Unwritten) && survey.base >= durable_end {
                // Nothing was ever written to it: its name alone does not say that the log went so far.
                let next_offset = durable_end.max(log_start);
                verdict.missing(directory, expected, next_offset);
                verdict.cut = Some(Cut { survey: at, position: None, next_offset });
                break;
            }
            verdict.missing(directory, expected, survey.base);
        }
        match judge_segment(survey, at, following, known, &mut verdict)? {
            Some(next) => expected = next,
            None => break,
        }
    }
    verdict.damage.retain(|range| range.next_offset > log_start);
    if let Some(cut) = &verdict.cut {
        verdict.next_offset = cut.next_offset.max(log_start);
        return Ok(verdict);
    }
    if expected < durable_end && durable_end > log_start {
        // What was synced is gone from the end. The log goes on behind it: no offset is ever given twice.
        match surveys.last() {
            Some(last) => verdict.damaged(last, expected, durable_end, last.end_position(), "it ends too early"),
            None => verdict.missing(directory, log_start, durable_end),
        }
    }
    verdict.next_offset = expected.max(durable_end).max(log_start);
    Ok(verdict)
}

/// The offset after a segment; `None` if the log is torn in it.
fn judge_segment(
    survey: &Survey,
    at: usize,
    following: Option<Offset>,
    known: Known,
    verdict: &mut Verdict,
) -> Result<Option<Offset>, StorageError> {
    let (base, durable_end) = (survey.base, known.durable_end);
    match (&survey.beginning, following) {
        (Beginning::Header, _) => {}
        (Beginning::Unwritten, _) if base >= durable_end => {
            verdict.cut = Some(Cut { survey: at, position: None, next_offset: base });
            return Ok(None);
        }
        // Its frames cannot be verified, so nobody knows where it ends; the repair command can find out.
        (Beginning::Damaged(what), None) => return Err(StorageError::corrupt(&survey.path, 0, what.as_str())),
        (beginning, following) => {
            let next = following.unwrap_or(durable_end);
            let what = match beginning {
                Beginning::Damaged(what) => what.as_str(),
                _ => "the header of the segment is gone",
            };
            verdict.damaged(survey, base, next, 0, what);
            return Ok(Some(next));
        }
    }
    for found in &survey.breaks {
        if let Some(next_offset) = known.end_if_torn(found.expected) {
            verdict.cut = Some(Cut { survey: at, position: Some(found.position), next_offset });
            return Ok(None);
        }
        let next = found.resumes.map(|(_, offset)| offset).or(following).unwrap_or(durable_end);
        verdict.damaged(survey, found.expected, next, found.position, &found.cause.to_string());
        if found.resumes.is_none() {
            return Ok(Some(next));
        }
    }
    Ok(Some(survey.index.next_offset))
}

impl Verdict {
    fn damaged(&mut self, survey: &Survey, first: Offset, next: Offset, position: u32, what: &str) {
        self.push(first, next, survey.path.clone(), position, what);
    }

    fn missing(&mut self, directory: &Path, first: Offset, next: Offset) {
        self.push(first, next, segment_path(directory, first), 0, "the records are in no segment file");
    }

    fn push(&mut self, first_offset: Offset, next_offset: Offset, path: PathBuf, position: u32, what: &str) {
        let (position, what) = (position.into(), what.to_owned());
        self.damage.push(DamagedRange { first_offset, next_offset, path, position, what });
    }
}

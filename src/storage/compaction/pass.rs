//! One pass of compaction over one log: look, map, measure, rewrite, swap, remember.
//!
//! Reading and writing are done beside everything else; only the swap of one group holds the lock that retention and the
//! checkpoint need. A pass may stop at any frame: what is swapped stays, the rest is done by the next one.

use crate::limits::{BATCH_BYTES_LIMIT_MAX, DISK_RESERVE_BYTES, SEGMENT_BYTES_MAX};
use crate::planted::{Bug, is_planted};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::compaction::key_map::KeyMap;
use crate::storage::compaction::plan::{self, Backlog, Measured, Verdict};
use crate::storage::compaction::progress::{Progress, Waiting};
use crate::storage::compaction::rewrite::{self, Cleaned, Stoppable};
use crate::storage::compaction::{CompactionState, swap};
use crate::storage::error::{IoContext, StorageError};
use crate::storage::keeper::{LogKeeper, next_offset_of};
use crate::storage::log_state::LogState;
use crate::storage::producers_file;
use crate::storage::segment::Segment;
use crate::storage::segment::header::SEGMENT_HEADER_BYTES;
use crate::types::{Offset, TimestampMs};
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// After a pass in the background that failed, the next one waits this long.
const RETRY_MS: i64 = 60_000;

/// How a log is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// Tombstones stay this long after what they delete was removed.
    pub tombstone_grace_ms: u64,
    /// Segments with younger records are not looked at: their message ids may still be asked for.
    pub age_ms_min: u64,
    /// Small neighbours are merged up to this size.
    pub segment_bytes: u64,
    /// Most keys that one pass holds in memory; a log with more takes several.
    pub keys_max: usize,
}

/// Whether a pass is wanted in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// If it is worth it.
    IfDue,
    /// In any case.
    Now,
}

/// Asked before the pass works on so many bytes: may slow it down, or stop it with `false`.
pub type Pace<'p> = dyn FnMut(u64) -> bool + 'p;

/// What a pass did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CompactionOutcome {
    /// Records that went.
    pub removed_records: u64,
    /// Bytes of the segments that were rewritten, before and after.
    pub bytes_before: u64,
    /// See `bytes_before`.
    pub bytes_after: u64,
    /// Whether everything that could be compacted is: no, if the map of keys was full, or the pass was stopped.
    pub is_complete: bool,
    /// Whether the pass was stopped.
    pub is_stopped: bool,
}

/// The segments that a pass may touch: sealed, synced, and below the recovery point.
struct Scope {
    segments: Vec<Arc<Segment>>,
    end: Offset,
}

impl LogKeeper {
    /// Does one pass; `None` if there is nothing to do, or if a pass is not due. `now_ms` is the time, if it can be
    /// believed; without it nothing goes because of its age.
    pub fn compact(
        &self,
        policy: CompactionPolicy,
        when: When,
        now_ms: Option<TimestampMs>,
        pace: &mut Pace<'_>,
    ) -> Result<Option<CompactionOutcome>, StorageError> {
        let shared = &*self.shared;
        let mut state = shared.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        let must_wait = state.not_before_ms.is_some_and(|at| now_ms.is_none_or(|now_ms| now_ms < at));
        if when == When::IfDue && (state.failure.is_some() || must_wait) {
            return Ok(None);
        }
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let mut pace = |bytes| !shared.is_closed() && pace(bytes);
        let result = Pass { shared, policy, now_ms, pace: &mut pace }.run(when, &mut state);
        state.not_before_ms = now_ms.filter(|_| result.is_err()).map(|now_ms| now_ms.saturating_add(RETRY_MS));
        result
    }
}

struct Pass<'a> {
    shared: &'a LogState,
    policy: CompactionPolicy,
    now_ms: Option<TimestampMs>,
    pace: &'a mut Pace<'a>,
}

impl Pass<'_> {
    fn run(&mut self, when: When, state: &mut CompactionState) -> Result<Option<CompactionOutcome>, StorageError> {
        let Some(scope) = self.scope()? else { return Ok(None) };
        let progress = match state.progress {
            Some(progress) => progress,
            None => Progress::load(&*self.shared.fs, &self.shared.directory, self.shared.log_end())?,
        };
        state.progress = Some(progress);
        let backlog = backlog(&scope, &progress)?;
        let grace_ms = self.policy.tombstone_grace_ms;
        if when == When::IfDue && !plan::is_due(backlog, &progress, grace_ms, self.now_ms) {
            return Ok(None);
        }
        let mut outcome = CompactionOutcome { is_stopped: true, ..CompactionOutcome::default() };
        let Some(verdict) = self.judge(&scope, &progress)? else { return Ok(Some(outcome)) };
        let Some((measured, tombstones)) = self.measure(&scope, &verdict)? else { return Ok(Some(outcome)) };
        let bytes_max = SEGMENT_BYTES_MAX + u64::from(BATCH_BYTES_LIMIT_MAX);
        for group in plan::groups(&measured, self.policy.segment_bytes, bytes_max) {
            let removed_records = measured[group.clone()].iter().map(|segment| segment.removed_records).sum::<u64>();
            let end = measured[group.end - 1].next_offset;
            let segments = &scope.segments[group];
            let Some((before, after)) = self.rewrite(segments, end, &verdict, state)? else { return Ok(Some(outcome)) };
            outcome.removed_records += removed_records;
            outcome.bytes_before += before;
            outcome.bytes_after += after;
        }
        (outcome.is_stopped, outcome.is_complete) = (false, verdict.below == scope.end);
        let moved = self.moved(&progress, verdict.below.max(progress.clean_below), tombstones);
        if moved != progress {
            moved.store(&*self.shared.fs, &self.shared.directory)?;
            state.progress = Some(moved);
        }
        Ok(Some(outcome))
    }

    fn scope(&self) -> Result<Option<Scope>, StorageError> {
        let checkpoint = *self.shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = self.shared.segments();
        let mut count = 0_usize;
        for segment in segments.iter().take_while(|segment| is_durable(segment, &checkpoint)) {
            let age_ms_min = self.policy.age_ms_min;
            if age_ms_min > 0 && !plan::has_passed(age_ms_min, segment.facts()?.last_append_time_ms, self.now_ms) {
                break;
            }
            count += 1;
        }
        let Some(last) = count.checked_sub(1).map(|last| &segments[last]) else { return Ok(None) };
        let end = next_offset_of(last, segments.get(count))?;
        Ok(Some(Scope { segments: segments[..count].to_vec(), end }))
    }

    /// Reads the keys of what is not clean yet, as many as the map takes.
    fn judge(&mut self, scope: &Scope, progress: &Progress) -> Stoppable<Verdict> {
        let mut keys = KeyMap::new(self.policy.keys_max);
        let mut below = progress.clean_below.max(scope.segments[0].base_offset()).min(scope.end);
        let first = scope.segments.partition_point(|segment| segment.base_offset() <= below).saturating_sub(1);
        for (i, segment) in scope.segments.iter().enumerate().skip(first) {
            let until = scope.segments.get(i + 1).map_or(scope.end, |next| next.base_offset());
            if until <= below {
                continue;
            }
            let Some(noted) = rewrite::note_keys(segment, below, until, &mut keys, self.pace)? else { return Ok(None) };
            below = noted;
            if below < until {
                break;
            }
        }
        let tombstones_below = plan::droppable_below(progress, self.policy.tombstone_grace_ms, self.now_ms);
        Ok(Some(Verdict { keys, below, tombstones_below, end: scope.end }))
    }

    fn measure(&mut self, scope: &Scope, verdict: &Verdict) -> Stoppable<(Vec<Measured>, u64)> {
        let (mut measured, mut tombstones) = (Vec::new(), 0);
        for (i, segment) in scope.segments.iter().enumerate() {
            if segment.base_offset() >= verdict.below {
                break;
            }
            let next_offset = scope.segments.get(i + 1).map_or(scope.end, |next| next.base_offset());
            let Some((facts, found)) = rewrite::measure(segment, next_offset, verdict, self.pace)? else {
                return Ok(None);
            };
            measured.push(facts);
            tombstones += found;
            // Most of what is looked at is old and not read by anybody else.
            segment.close_file();
        }
        Ok(Some((measured, tombstones)))
    }

    /// Rewrites a group, which ends at `end`; gives its bytes before and after.
    fn rewrite(
        &mut self,
        group: &[Arc<Segment>],
        end: Offset,
        verdict: &Verdict,
        state: &mut CompactionState,
    ) -> Stoppable<(u64, u64)> {
        let LogState { fs, directory, id, .. } = self.shared;
        let before: u64 = group.iter().map(|segment| u64::from(segment.end_position())).sum();
        let free_bytes = fs.free_bytes(directory).context("look at the space for", directory)?;
        if free_bytes < before.saturating_add(DISK_RESERVE_BYTES) {
            return Err(StorageError::Full { operation: "compact", path: directory.clone() });
        }
        let written = rewrite::write(&**fs, directory, *id, group, verdict, self.now_ms, self.pace);
        let swapped = match written {
            Ok(Some(cleaned)) => self.swap(group, group[0].base_offset()..end, &cleaned, state),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        if !matches!(swapped, Ok(Some(_))) && state.failure.is_none() {
            // A start removes it too.
            let _ = fs.remove_file(&group[0].path().with_extension("cleaned"));
        }
        Ok(swapped?.map(|after| (before, after)))
    }

    /// Puts a cleaned file in the place of its group, on disk and for readers; gives its bytes. `None`: the log was
    /// closed, or retention was here since.
    fn swap(
        &self,
        group: &[Arc<Segment>],
        range: Range<Offset>,
        cleaned: &Cleaned,
        state: &mut CompactionState,
    ) -> Stoppable<u64> {
        let LogState { fs, context, directory, id, .. } = self.shared;
        let mut checkpoint = self.shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.is_closed() || self.shared.position_of(group).is_none() {
            return Ok(None);
        }
        // Whoever has the old list of segments reads the old files, by whatever name; they are opened while they have one.
        group.iter().try_for_each(|segment| segment.pin())?;
        let is_recovery_point = range.contains(&checkpoint.segment);
        if is_recovery_point {
            // The position is one of the old file. The beginning of the file is a recovery point of both, and how far
            // the log is durable stays true.
            let position = u32::try_from(SEGMENT_HEADER_BYTES).expect("64 fits");
            let moved = Checkpoint { segment: range.start, position, ..*checkpoint };
            moved.store(&**fs, directory)?;
            *checkpoint = moved;
        }
        // What the old frames said of producers is only there from now on.
        producers_file::make_durable(&**fs, directory)?;
        if let Err(error) = swap::replace(&**fs, directory, &cleaned.path, &range) {
            state.failure = Some(error.clone());
            return Err(error);
        }
        let end_position = cleaned.index.end_position;
        let segment = Segment::sealed(context, directory, *id, cleaned.base_offset, end_position, true);
        segment.give_index(cleaned.index.clone());
        if let Err(error) = segment.save_index() {
            tracing::warn!(%error, "the index of a compacted segment was not saved; it will be rebuilt when needed");
        }
        segment.close_file();
        let at = self.shared.position_of(group).expect("only this and retention take segments out, under one lock");
        self.shared.change_segments(|segments| drop(segments.splice(at..at + group.len(), [Arc::new(segment)])));
        if is_recovery_point {
            let moved = Checkpoint { position: end_position, ..*checkpoint };
            moved.store(&**fs, directory)?;
            *checkpoint = moved;
        }
        Ok(Some(end_position.into()))
    }

    /// The progress after a pass.
    fn moved(&self, before: &Progress, clean_below: Offset, tombstones: u64) -> Progress {
        let is_over =
            |waiting: &Waiting| plan::has_passed(self.policy.tombstone_grace_ms, waiting.since_ms, self.now_ms);
        let still = before.waiting.filter(|waiting| !is_over(waiting));
        let fresh = self.now_ms.map(|since_ms| Waiting { below: clean_below, since_ms });
        let waiting = still.or(fresh).filter(|_| tombstones > 0);
        Progress { clean_below, tombstones, waiting, ..*before }
    }
}

/// Whether all of a segment survives a power cut, and will never change.
fn is_durable(segment: &Segment, checkpoint: &Checkpoint) -> bool {
    if is_planted(Bug::CompactionTouchesUnsynced) {
        return segment.is_sealed();
    }
    let (base, recovery_point) = (segment.base_offset(), checkpoint.segment);
    let is_below = base < recovery_point || (base == recovery_point && segment.end_position() == checkpoint.position);
    segment.is_synced() && is_below
}

fn backlog(scope: &Scope, progress: &Progress) -> Result<Backlog, StorageError> {
    let bytes_of = |segments: &[Arc<Segment>]| segments.iter().map(|segment| u64::from(segment.end_position())).sum();
    let ends = scope.segments.iter().skip(1).map(|next| next.base_offset()).chain([scope.end]);
    let clean = ends.take_while(|end| *end <= progress.clean_below).count();
    let dirty = &scope.segments[clean..];
    let since = dirty.first().map(|segment| segment.facts().map(|facts| facts.last_append_time_ms));
    Ok(Backlog {
        dirty_bytes: bytes_of(dirty),
        total_bytes: bytes_of(&scope.segments),
        dirty_since_ms: since.transpose()?,
    })
}

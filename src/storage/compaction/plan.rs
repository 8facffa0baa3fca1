//! What a pass decides, without touching a file: whether one is due, which records stay, which segments are rewritten
//! together.

use crate::planted::{Bug, is_planted};
use crate::storage::compaction::key_map::KeyMap;
use crate::storage::compaction::progress::Progress;
use crate::storage::frame::HEADER_BYTES;
use crate::storage::segment::header::SEGMENT_HEADER_BYTES;
use crate::types::{Offset, TimestampMs};
use std::ops::Range;

/// Offsets inside a segment are counted in 32 bits; half of them, as when a segment is rolled.
const SPAN_MAX: u64 = u32::MAX as u64 / 2;

/// What the question whether a pass is due needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backlog {
    /// Bytes of segments that no pass has seen to their end.
    pub(super) dirty_bytes: u64,
    /// Bytes of all segments that a pass may touch.
    pub(super) total_bytes: u64,
    /// When the last record of the first dirty segment was appended.
    pub(super) dirty_since_ms: Option<TimestampMs>,
}

/// Whether a pass is worth its reading and writing: half of what it may touch is dirty, or something has been dirty for
/// longer than the grace time of tombstones, or tombstones have had that time.
pub(super) fn is_due(backlog: Backlog, progress: &Progress, grace_ms: u64, now_ms: Option<TimestampMs>) -> bool {
    let is_much = backlog.dirty_bytes > 0 && backlog.dirty_bytes.saturating_mul(2) >= backlog.total_bytes;
    let is_old = backlog.dirty_since_ms.is_some_and(|since_ms| has_passed(grace_ms, since_ms, now_ms));
    // Without a time to wait from, which a clock that could not be believed leaves, a pass gives them one.
    let waits = progress.waiting.is_some_and(|waiting| !has_passed(grace_ms, waiting.since_ms, now_ms));
    let is_over = progress.tombstones > 0 && now_ms.is_some() && !waits;
    is_much || is_old || is_over
}

/// Tombstones below this may go: a pass has removed what they delete, and that was the grace time ago or more. So whoever
/// read an old value before that pass has had the grace time to come to the tombstone.
pub(super) fn droppable_below(progress: &Progress, grace_ms: u64, now_ms: Option<TimestampMs>) -> Offset {
    if is_planted(Bug::TombstoneDroppedEarly) {
        return progress.clean_below;
    }
    match progress.waiting {
        Some(waiting) if has_passed(grace_ms, waiting.since_ms, now_ms) => waiting.below,
        _ => Offset::ZERO,
    }
}

/// Whether `span_ms` have passed; a clock that went back, or cannot be believed, says no.
pub(super) fn has_passed(span_ms: u64, since_ms: TimestampMs, now_ms: Option<TimestampMs>) -> bool {
    let passed_ms = now_ms.and_then(|now_ms| u64::try_from(now_ms.saturating_sub(since_ms)).ok());
    passed_ms.is_some_and(|passed_ms| passed_ms >= span_ms)
}

/// Which records stay.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The last offset of each key that stands between where the log was clean and `below`.
    pub(super) keys: KeyMap,
    /// Everything before this is clean after the pass.
    pub(super) below: Offset,
    /// Tombstones before this go.
    pub(super) tombstones_below: Offset,
    /// The end of what is sealed and durable. The record before it always stays: it may be the last of the log, and a
    /// log that ends in records, not in a gap, leaves no reader behind its end.
    pub(super) end: Offset,
}

impl Verdict {
    /// Whether the record at `offset` stays. One without a key has no successor, and does.
    pub(super) fn keeps(&self, offset: Offset, key: Option<&[u8]>, is_tombstone: bool) -> bool {
        let Some(key) = key else { return true };
        let is_last = offset >= self.below || self.keys.last(key).is_none_or(|last| last == offset);
        let is_over = is_tombstone && offset < self.tombstones_below && offset.advance(1) != self.end;
        is_last && !is_over
    }

    /// Whether a tombstone that stays waits for its grace time now.
    pub(super) fn may_drop_later(&self, offset: Offset, key: Option<&[u8]>) -> bool {
        key.is_some() && offset < self.below && offset.advance(1) != self.end
    }
}

/// What a pass would make of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    /// The offsets it covers.
    pub(super) base_offset: Offset,
    pub(super) next_offset: Offset,
    /// Bytes of its frames with records after the pass.
    pub(super) bytes_after: u64,
    /// Records that go.
    pub(super) removed_records: u64,
}

/// What a file has besides frames with records: its header, and a frame for what is gone at its beginning.
const OVERHEAD_BYTES: u64 = (SEGMENT_HEADER_BYTES + HEADER_BYTES) as u64;

/// Neighbours that become one segment each. Segments that lose nothing are rewritten only to be merged, and only if they
/// are small; one that would outgrow every segment is left as it is.
pub(super) fn groups(segments: &[Measured], segment_bytes: u64, bytes_max: u64) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut open: Option<(Range<usize>, u64)> = None;
    for (i, segment) in segments.iter().enumerate() {
        let is_fine = segment.removed_records == 0 && segment.bytes_after * 2 > segment_bytes;
        if is_fine || OVERHEAD_BYTES + segment.bytes_after > bytes_max {
            groups.extend(open.take().map(|(group, _)| group));
            continue;
        }
        open = match open {
            Some((group, bytes))
                if bytes + segment.bytes_after <= segment_bytes
                    && segment.next_offset.records_since(segments[group.start].base_offset) < SPAN_MAX =>
            {
                Some((group.start..i + 1, bytes + segment.bytes_after))
            }
            other => {
                groups.extend(other.map(|(group, _)| group));
                Some((i..i + 1, OVERHEAD_BYTES + segment.bytes_after))
            }
        };
    }
    groups.extend(open.map(|(group, _)| group));
    groups.retain(|group| group.len() > 1 || segments[group.start].removed_records > 0);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::compaction::progress::Waiting;

    const GRACE_MS: u64 = 100;

    fn segments(sizes: &[(u64, u64)]) -> Vec<Measured> {
        let measured = |(i, (bytes_after, removed_records)): (u64, &(u64, u64))| Measured {
            base_offset: Offset(i * 10),
            next_offset: Offset(i * 10 + 10),
            bytes_after: *bytes_after,
            removed_records: *removed_records,
        };
        (0..).zip(sizes).map(measured).collect()
    }

    #[test]
    fn neighbours_are_merged_while_they_fit() {
        assert_eq!(
            groups(&segments(&[(340, 1), (340, 0), (300, 2), (900, 5), (10, 0)]), 1000, 9000),
            [0..2, 2..3, 3..4]
        );
    }

    #[test]
    fn what_loses_nothing_is_left_alone_unless_it_is_small() {
        assert_eq!(groups(&segments(&[(600, 0), (600, 0)]), 1000, 9000), [0..0; 0]);
        assert_eq!(groups(&segments(&[(400, 0), (400, 0), (600, 0), (1, 1)]), 1000, 9000), [0..2, 3..4]);
        assert_eq!(groups(&segments(&[(400, 0)]), 1000, 9000), [0..0; 0]);
        assert_eq!(groups(&segments(&[(10, 0), (600, 0), (10, 1), (900, 1)]), 1000, 9000), [2..3, 3..4]);
    }

    #[test]
    fn a_segment_that_would_outgrow_all_is_left_as_it_is() {
        assert_eq!(groups(&segments(&[(10, 1), (9000, 9), (10, 1)]), 1000, 9000), [0..1, 2..3]);
    }

    #[test]
    fn a_pass_is_due_for_much_old_or_over() {
        let progress = Progress::default();
        let backlog = |dirty_bytes, dirty_since_ms| Backlog { dirty_bytes, total_bytes: 100, dirty_since_ms };
        assert!(!is_due(backlog(0, None), &progress, GRACE_MS, Some(1000)));
        assert!(is_due(backlog(50, Some(1000)), &progress, GRACE_MS, Some(1000)));
        assert!(!is_due(backlog(49, Some(901)), &progress, GRACE_MS, Some(1000)));
        assert!(is_due(backlog(49, Some(900)), &progress, GRACE_MS, Some(1000)));
        let waiting = Some(Waiting { below: Offset(5), since_ms: 900 });
        let progress = Progress { tombstones: 1, waiting, ..progress };
        assert!(is_due(backlog(0, None), &progress, GRACE_MS, Some(1000)));
        assert!(!is_due(backlog(0, None), &progress, GRACE_MS, Some(999)));
        assert!(!is_due(backlog(0, None), &progress, GRACE_MS, Some(-5)), "a clock that went back");
        assert!(!is_due(backlog(0, None), &progress, GRACE_MS, None), "a clock that cannot be believed");
        assert!(is_due(backlog(0, None), &Progress { waiting: None, ..progress }, GRACE_MS, Some(1000)));
        assert!(!is_due(backlog(0, None), &Progress { tombstones: 0, ..progress }, GRACE_MS, Some(1000)));
    }

    #[test]
    fn the_last_of_a_key_stays_and_so_does_what_lies_behind_the_map() {
        let mut keys = KeyMap::new(10);
        assert!(keys.note(b"a", Offset(3)) && keys.note(b"b", Offset(4)) && keys.note(b"a", Offset(5)));
        let verdict = Verdict { keys, below: Offset(6), tombstones_below: Offset(3), end: Offset(20) };
        let kept = |offset, key: &[u8], is_tombstone| verdict.keeps(Offset(offset), Some(key), is_tombstone);
        assert!(!kept(1, b"a", false) && !kept(3, b"a", false) && kept(5, b"a", false));
        assert!(kept(7, b"b", false) && kept(1, b"z", false));
        assert!(!kept(2, b"z", true) && kept(3, b"z", true));
        assert!(verdict.keeps(Offset(1), None, true), "a record without a key");
        let verdict = Verdict { tombstones_below: Offset(9), end: Offset(3), ..verdict };
        assert!(verdict.keeps(Offset(2), Some(b"z"), true), "the last record of all");
    }
}

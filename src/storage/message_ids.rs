//! Message ids that were appended to one log within its window: who repeats one of them appends nothing.
//!
//! Holds a hash of 128 bits for each id, under keys of this process, so that nobody can choose two ids that look the
//! same. An id is in the table from its append until the window has passed, by append time, and at most
//! [`DEDUP_IDS_MAX`] are: beyond that a batch is refused, because to forget one early would be to append a message
//! twice. The table is rebuilt from the records in the log when it is first needed.

use crate::limits::DEDUP_IDS_MAX;
use crate::planted::{Bug, is_planted};
use crate::storage::error::StorageError;
use crate::storage::frame_walk::FrameWalk;
use crate::storage::log_state::LogState;
use crate::types::{Offset, TimestampMs, record_set};
use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

/// A record that was not appended, because one with its message id was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateRecord {
    /// Which record of the set, 0-based.
    pub record_index: u32,
    /// Where the record with this id is.
    pub offset: Offset,
}

/// As many ids as there may be are in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowFull;

type Hash = (u64, u64);

/// The ids within the window.
#[derive(Debug)]
pub(super) struct MessageIds {
    window_ms: u64,
    ids_max: usize,
    /// Where each was appended, and when.
    known: HashMap<Hash, (Offset, TimestampMs)>,
    /// Oldest first. One that was appended again while nobody looked is there twice; the later counts.
    order: VecDeque<(TimestampMs, Hash)>,
    /// How many of those, from the end, are not in the log yet.
    tentative: usize,
    keys: (RandomState, RandomState),
}

impl MessageIds {
    pub(super) fn new(window_ms: u64) -> Self {
        Self::with_limit(window_ms, DEDUP_IDS_MAX)
    }

    fn with_limit(window_ms: u64, ids_max: usize) -> Self {
        Self {
            window_ms,
            ids_max,
            known: HashMap::new(),
            order: VecDeque::new(),
            tentative: 0,
            keys: (RandomState::new(), RandomState::new()),
        }
    }

    /// The ids of the log as it stands, within the window before `now_ms`.
    pub(super) fn rebuild(
        log: &LogState,
        window_ms: u64,
        now_ms: TimestampMs,
    ) -> Result<Result<Self, WindowFull>, StorageError> {
        let mut ids = Self::new(window_ms);
        if is_planted(Bug::DedupNotRebuilt) {
            return Ok(Ok(ids));
        }
        let horizon = ids.horizon(now_ms);
        for segment in log.segments().iter() {
            if segment.facts().is_ok_and(|facts| facts.last_append_time_ms < horizon) {
                continue;
            }
            let mut frames = FrameWalk::new(segment, None);
            while let Some(frame) = frames.next()? {
                if frame.header.append_time_ms < horizon {
                    continue;
                }
                let Some(payload) = frame.payload()? else { continue };
                let (base, time_ms) = (frame.header.base_offset, frame.header.append_time_ms);
                for (number, (id, _)) in (0..).zip(record_set::identified_records(&payload)) {
                    let Some(hash) = id.map(|id| ids.hash(id)) else { continue };
                    if ids.order.len() >= ids.ids_max {
                        return Ok(Err(WindowFull));
                    }
                    ids.insert(hash, base.advance(number), time_ms);
                }
            }
        }
        ids.keep();
        Ok(Ok(ids))
    }

    pub(super) fn window_ms(&self) -> u64 {
        self.window_ms
    }

    /// A shorter window; for a longer one the log must be read again.
    pub(super) fn shorten(&mut self, window_ms: u64) {
        self.window_ms = window_ms;
    }

    /// Takes the ids of a set whose first new record would get `next_offset`: which of its records are repeats. The
    /// others count as appended, until [`MessageIds::keep`] or [`MessageIds::undo`] says whether they are.
    pub(super) fn take(
        &mut self,
        set: &Bytes,
        next_offset: Offset,
        now_ms: TimestampMs,
    ) -> Result<Vec<DuplicateRecord>, WindowFull> {
        self.expire(now_ms);
        let mut duplicates = Vec::new();
        let (mut offset, mut taken) = (next_offset, 0);
        for (record_index, (id, _)) in (0..).zip(record_set::identified_records(set)) {
            if let Some(hash) = id.map(|id| self.hash(id)) {
                if let Some((offset, _)) = self.known.get(&hash) {
                    duplicates.push(DuplicateRecord { record_index, offset: *offset });
                    continue;
                }
                if self.order.len() >= self.ids_max {
                    self.take_back(taken);
                    return Err(WindowFull);
                }
                self.insert(hash, offset, now_ms);
                taken += 1;
            }
            offset = offset.advance(1);
        }
        Ok(duplicates)
    }

    /// Which records of a set that was appended before, its first new record at `base`, were repeats even then. Exact
    /// while the ids are within the window.
    pub(super) fn explain(&self, set: &Bytes, base: Offset) -> Vec<DuplicateRecord> {
        let mut duplicates = Vec::new();
        let mut offset = base;
        for (record_index, (id, _)) in (0..).zip(record_set::identified_records(set)) {
            match id.and_then(|id| self.known.get(&self.hash(id))) {
                Some((at, _)) if *at != offset => duplicates.push(DuplicateRecord { record_index, offset: *at }),
                _ => offset = offset.advance(1),
            }
        }
        duplicates
    }

    /// Everything taken is in the log.
    pub(super) fn keep(&mut self) {
        self.tentative = 0;
    }

    /// What was taken since the last [`MessageIds::keep`] did not get into the log.
    pub(super) fn undo(&mut self) {
        self.take_back(self.tentative);
    }

    fn insert(&mut self, hash: Hash, offset: Offset, time_ms: TimestampMs) {
        self.known.insert(hash, (offset, time_ms));
        self.order.push_back((time_ms, hash));
        self.tentative += 1;
    }

    fn take_back(&mut self, count: usize) {
        for (_, hash) in self.order.drain(self.order.len() - count..) {
            self.known.remove(&hash);
        }
        self.tentative -= count;
    }

    fn expire(&mut self, now_ms: TimestampMs) {
        let horizon = self.horizon(now_ms);
        while let Some((appended_ms, hash)) = self.order.pop_front_if(|(time_ms, _)| *time_ms < horizon) {
            if self.known.get(&hash).is_some_and(|(_, latest_ms)| *latest_ms == appended_ms) {
                self.known.remove(&hash);
            }
        }
    }

    /// What was appended before this is outside of the window.
    fn horizon(&self, now_ms: TimestampMs) -> TimestampMs {
        now_ms.saturating_sub_unsigned(self.window_ms)
    }

    fn hash(&self, id: &[u8]) -> Hash {
        (self.keys.0.hash_one(id), self.keys.1.hash_one(id))
    }
}

/// A set without some of its records; the indexes ascend.
pub(super) fn without(set: &Bytes, left_out: &[DuplicateRecord]) -> Bytes {
    let mut kept = BytesMut::with_capacity(set.len());
    let mut left_out = left_out.iter().peekable();
    for (index, record) in (0..).zip(record_set::raw_records(set)) {
        if left_out.next_if(|duplicate| duplicate.record_index == index).is_none() {
            kept.extend_from_slice(&record);
        }
    }
    kept.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::record_set::encode_identified_record;

    fn set(ids: &[Option<&str>]) -> Bytes {
        let mut set = BytesMut::new();
        for id in ids {
            encode_identified_record(&mut set, None, Some(b"value"), std::iter::empty(), None, *id);
        }
        set.freeze()
    }

    fn repeats(found: &[DuplicateRecord]) -> Vec<(u32, u64)> {
        found.iter().map(|duplicate| (duplicate.record_index, duplicate.offset.0)).collect()
    }

    #[test]
    fn a_repeat_is_found_in_the_log_in_its_own_set_and_never_after_the_window() {
        let mut ids = MessageIds::new(100);
        let first = ids.take(&set(&[Some("a"), None, Some("b"), Some("a")]), Offset(10), 1000).expect("room");
        assert_eq!(repeats(&first), [(3, 10)]);
        ids.keep();
        let second = ids.take(&set(&[None, Some("b"), Some("c")]), Offset(13), 1100).expect("room");
        assert_eq!(repeats(&second), [(1, 12)], "to the end of the window");
        ids.keep();
        let late = ids.take(&set(&[Some("a"), Some("c")]), Offset(15), 1101).expect("room");
        assert_eq!(repeats(&late), [(1, 14)]);
    }

    #[test]
    fn what_did_not_get_into_the_log_is_no_repeat() {
        let mut ids = MessageIds::new(100);
        assert_eq!(ids.take(&set(&[Some("a")]), Offset(0), 0), Ok(vec![]));
        ids.keep();
        assert_eq!(ids.take(&set(&[Some("b"), Some("c")]), Offset(1), 0), Ok(vec![]));
        ids.undo();
        let again = ids.take(&set(&[Some("a"), Some("b"), Some("c")]), Offset(1), 0).expect("room");
        assert_eq!(repeats(&again), [(0, 0)]);
    }

    #[test]
    fn a_full_window_refuses_a_set_whole_and_forgets_nothing() {
        let mut ids = MessageIds::with_limit(100, 2);
        assert_eq!(ids.take(&set(&[Some("a")]), Offset(0), 0), Ok(vec![]));
        ids.keep();
        assert_eq!(ids.take(&set(&[Some("b"), Some("c")]), Offset(1), 50), Err(WindowFull));
        let known = ids.take(&set(&[Some("a"), Some("b")]), Offset(1), 50).expect("there is room for one");
        assert_eq!(repeats(&known), [(0, 0)]);
        ids.keep();
        assert_eq!(ids.take(&set(&[Some("c")]), Offset(2), 101), Ok(vec![]), "the oldest has left the window");
    }

    #[test]
    fn a_set_that_was_partly_appended_is_explained() {
        let mut ids = MessageIds::new(100);
        ids.take(&set(&[Some("a")]), Offset(3), 0).expect("room");
        let partly = set(&[Some("x"), Some("a"), None, Some("y")]);
        let found = ids.take(&partly, Offset(4), 0).expect("room");
        assert_eq!(ids.explain(&partly, Offset(4)), found);
        assert_eq!(without(&partly, &found), set(&[Some("x"), None, Some("y")]));
    }
}

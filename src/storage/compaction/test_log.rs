//! A log of keyed records for the tests of compaction, and what may be found in it.

use crate::storage::compaction::{CompactionOutcome, CompactionPolicy, When};
use crate::storage::file_system::FileSystem;
use crate::storage::log::{Log, LogOptions, NewBatch};
use crate::storage::segment::header::LogId;
use crate::types::record_set::{self, encode_record};
use crate::types::{Offset, TopicId};
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Segments of a few batches.
pub(super) const OPTIONS: LogOptions = LogOptions { segment_bytes: 1000, seal_age_ms: u64::MAX, reserve_bytes: 0 };
pub(super) const GRACE_MS: i64 = 1_000;
pub(super) const POLICY: CompactionPolicy = CompactionPolicy {
    tombstone_grace_ms: GRACE_MS.cast_unsigned(),
    segment_bytes: 1000,
    keys_max: 1000,
    age_ms_min: 0,
};
pub(super) const ID: LogId = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };

/// A key, and its value; `None` is a tombstone.
pub(super) type Keyed = (u8, Option<u64>);

pub(super) fn open(fs: &Arc<dyn FileSystem>, directory: &Path) -> Log {
    Log::open(Arc::clone(fs), directory, ID, OPTIONS).unwrap_or_else(|error| panic!("the log does not open: {error}")).0
}

pub(super) fn batch(records: &[Keyed]) -> NewBatch {
    let mut set = BytesMut::new();
    for (key, value) in records {
        let value = value.map(|value| format!("{value:040}"));
        encode_record(&mut set, Some(&[*key]), value.as_ref().map(String::as_bytes), std::iter::empty(), None);
    }
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    NewBatch::new(payload, summary)
}

/// Every record there is, with its offset, read in pieces of about `bytes_max`.
pub(super) fn read(log: &Log, bytes_max: usize) -> BTreeMap<u64, Keyed> {
    let (reader, end) = (log.reader(), log.next_offset());
    let (mut found, mut next) = (BTreeMap::new(), reader.log_start());
    while next < end {
        let batches = reader.read(next, end, bytes_max).unwrap_or_else(|error| panic!("not readable: {error}"));
        assert!(batches.next_offset > next && batches.next_offset <= end, "no progress at {next}");
        for stored in batches.iter() {
            assert!(stored.base_offset >= next && stored.record_count > 0, "out of order, or empty");
            next = stored.next_offset();
            let records = record_set::records(&stored.payload).map(|record| {
                let value =
                    record.value.map(|value| std::str::from_utf8(&value).expect("digits").parse().expect("digits"));
                (record.key.expect("all have one")[0], value)
            });
            found.extend((stored.base_offset.0..).zip(records));
        }
        next = batches.next_offset;
    }
    assert_eq!(next, end);
    found
}

/// Passes until there is nothing left to do.
pub(super) fn compact(log: &Log, policy: CompactionPolicy, now_ms: i64) -> CompactionOutcome {
    log.keeper().sync_sealed().expect("syncs");
    let mut sum = CompactionOutcome::default();
    loop {
        let pass = log.keeper().compact(policy, When::Now, Some(now_ms), &mut |_| true).expect("compacts");
        let Some(pass) = pass else { return sum };
        sum.removed_records += pass.removed_records;
        if pass.is_complete {
            return CompactionOutcome { removed_records: sum.removed_records, ..pass };
        }
        assert!(!pass.is_stopped);
    }
}

/// What was appended, and so what may and must be found.
#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    /// The record at each offset.
    pub(super) records: Vec<Keyed>,
    pub(super) log_start: u64,
    /// Below this, all but the last of a key are gone.
    pub(super) clean_below: usize,
    /// When each offset was first below `clean_below`.
    pub(super) clean_since_ms: Vec<i64>,
}

impl Model {
    /// Everything that is sealed was compacted.
    pub(super) fn compacted(&mut self, log: &Log, now_ms: i64) {
        let shared = log.keeper().shared;
        let active = shared.segments().last().filter(|last| !last.is_sealed()).map(|active| active.base_offset());
        self.clean_below = self.clean_below.max(index(active.unwrap_or(log.next_offset())));
        self.clean_since_ms.resize(self.clean_below.max(self.clean_since_ms.len()), now_ms);
    }

    /// Checks a log that may have been compacted up to anywhere, and is compacted up to `clean_below`.
    pub(super) fn check(&self, log: &Log, now_ms: i64) {
        assert_eq!(index(log.next_offset()), self.records.len(), "the end");
        assert_eq!(log.reader().log_start().0, self.log_start, "the start");
        let found = read(log, 1 << 20);
        for bytes_max in [1, 150] {
            assert_eq!(read(log, bytes_max), found, "in pieces of {bytes_max}");
        }
        for (offset, record) in &found {
            assert_eq!(self.records.get(index(Offset(*offset))), Some(record), "what stands at {offset}");
        }
        let (mut later, mut clean) = (BTreeSet::new(), BTreeSet::new());
        for (at, (key, value)) in
            self.records.iter().enumerate().rev().take_while(|(at, _)| *at as u64 >= self.log_start)
        {
            let is_there = found.contains_key(&(at as u64));
            let is_last = later.insert(*key);
            let since = self.clean_since_ms.get(at);
            let may_go = value.is_none() && since.is_some_and(|since| now_ms - since >= GRACE_MS);
            assert!(is_there || !is_last || may_go, "the last record of key {key}, at {at}, is gone");
            if at < self.clean_below {
                assert!(clean.insert(*key) || !is_there, "an old record of key {key}, at {at}, is still there");
            }
            assert!(is_there || since.is_some() || at < self.clean_below || !is_last);
        }
    }
}

pub(super) fn index(offset: Offset) -> usize {
    usize::try_from(offset.0).expect("small")
}

//! What a read gives: record batches as they stand in the log, and where to read on.

use crate::types::{Offset, TimestampMs, record_set};
use bytes::Bytes;
use std::ops::Range;

/// A record batch as it stands in the log, or the end of one if the read began inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Offset of the first record of `payload`.
    pub base_offset: Offset,
    /// Records in `payload`, at least 1; their offsets follow without a gap.
    pub record_count: u32,
    /// See [`StoredBatch::next_offset`].
    pub(super) next_offset: Offset,
    /// When it was appended.
    pub append_time_ms: TimestampMs,
    /// Which owner of the partition appended it.
    pub leader_epoch: u32,
    /// The encoded record set.
    pub payload: Bytes,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatches {
    pub(super) batches: Vec<StoredBatch>,
    /// Where to read on. Ahead of what was asked for even if there are no batches, when all that stood there was
    /// compacted away.
    pub next_offset: Offset,
}

impl StoredBatches {
    /// Nothing, from `offset` on.
    pub fn none_at(offset: Offset) -> Self {
        Self { batches: Vec::new(), next_offset: offset }
    }

    /// The leading records, at most `records_max`, which is not 0.
    #[must_use]
    pub fn first_records(self, records_max: u64) -> Self {
        let Self { batches, mut next_offset } = self;
        let mut remaining = records_max;
        let mut kept = Vec::with_capacity(batches.len());
        for batch in batches {
            let batch = batch.first_records(remaining, usize::MAX);
            remaining -= u64::from(batch.record_count);
            kept.push(batch);
            if remaining == 0 {
                next_offset = kept.last().map_or(next_offset, StoredBatch::next_offset);
                break;
            }
        }
        Self { batches: kept, next_offset }
    }

    /// The batches alone.
    pub fn into_vec(self) -> Vec<StoredBatch> {
        self.batches
    }
}

impl std::ops::Deref for StoredBatches {
    type Target = [StoredBatch];

    fn deref(&self) -> &[StoredBatch] {
        &self.batches
    }
}

impl IntoIterator for StoredBatches {
    type Item = StoredBatch;
    type IntoIter = std::vec::IntoIter<StoredBatch>;

    fn into_iter(self) -> Self::IntoIter {
        self.batches.into_iter()
    }
}

impl StoredBatch {
    /// The first offset after this batch of which it does not tell: after the last record, and after those behind it
    /// that were compacted away.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Whether it cannot be what was appended to a log that ends at `log_end`, whatever its checksum says: it counts more
    /// records than it has offsets, or offsets that were never given.
    pub(super) fn claims_beyond(&self, log_end: Offset) -> bool {
        self.base_offset.advance(self.record_count.into()) > self.next_offset || self.next_offset > log_end
    }

    /// The first records of the batch: as many as fit `records_max` and `bytes_max`, at least one unless
    /// `records_max` is 0.
    #[must_use]
    pub fn first_records(mut self, records_max: u64, bytes_max: usize) -> Self {
        if self.payload.len() > bytes_max || u64::from(self.record_count) > records_max {
            let (records, bytes) = record_set::fit(&self.payload, records_max, bytes_max);
            let records = u32::try_from(records).expect("not more than there were");
            if records < self.record_count {
                self.next_offset = self.base_offset.advance(records.into());
            }
            self.payload.truncate(bytes);
            self.record_count = records;
        }
        self
    }

    /// Neighbouring records of the batch as a batch of their own: `count` of them from number `first` on, which are
    /// these bytes of the payload.
    #[must_use]
    pub fn run(&self, first: u32, count: u32, bytes: Range<usize>) -> Self {
        let base_offset = self.base_offset.advance(first.into());
        Self {
            base_offset,
            record_count: count,
            next_offset: base_offset.advance(count.into()),
            append_time_ms: self.append_time_ms,
            leader_epoch: self.leader_epoch,
            payload: self.payload.slice(bytes),
        }
    }

    /// The batch without its first records, up to `offset`, which it covers. No records are left of it if those from
    /// `offset` on were compacted away.
    pub(super) fn starting_at(mut self, offset: Offset) -> Self {
        let skip = offset.records_since(self.base_offset);
        self.payload = self.payload.slice(record_set::position_of_record(&self.payload, skip)..);
        self.record_count = self.record_count.saturating_sub(u32::try_from(skip).unwrap_or(u32::MAX));
        self.base_offset = offset;
        self
    }
}

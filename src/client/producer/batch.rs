//! A batch of records of one partition: open while records are encoded into it, sealed on its way to the broker.

use super::lanes::Stamp;
use super::receipt::{BatchAck, Outcome, Receipt};
use super::record::NewRecord;
use crate::client::ClientError;
use crate::types::Offset;
use crate::types::record_set::{self, MESSAGE_ID_BYTES_MAX};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use tokio::time::Instant;

/// A batch that still takes records.
#[derive(Debug)]
pub(super) struct OpenBatch {
    set: BytesMut,
    records: u32,
    opened_at: Instant,
    outcome: Arc<Outcome>,
}

impl OpenBatch {
    pub(super) fn new(opened_at: Instant, capacity_bytes: usize) -> Self {
        let set = BytesMut::with_capacity(capacity_bytes);
        Self { set, records: 0, opened_at, outcome: Arc::default() }
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.set.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(super) fn was_opened_at(&self, time: Instant) -> bool {
        self.opened_at == time
    }

    pub(super) fn outcome(&self) -> &Arc<Outcome> {
        &self.outcome
    }

    /// Encodes a record at the end; takes it back and fails if it is larger than the topic accepts.
    #[inline]
    pub(super) fn push(&mut self, record: &NewRecord<'_>, record_bytes_max: usize) -> Result<Receipt, ClientError> {
        let before = self.set.len();
        let headers = record.headers.iter().copied();
        if let Some(id) = record.message_id.filter(|id| id.is_empty() || id.len() > MESSAGE_ID_BYTES_MAX) {
            return Err(ClientError::BadMessageId { bytes: id.len() });
        }
        record_set::encode_identified_record(
            &mut self.set,
            record.key,
            record.value,
            headers,
            record.timestamp,
            record.message_id,
        );
        let bytes = body_bytes(self.set.len() - before);
        if bytes > record_bytes_max {
            self.set.truncate(before);
            return Err(ClientError::RecordTooLarge { bytes, limit_bytes: record_bytes_max });
        }
        let receipt = Receipt::new(Arc::clone(&self.outcome), self.records);
        self.records += 1;
        Ok(receipt)
    }

    pub(super) fn seal(self, partition: u32, sequence: u64) -> Batch {
        Batch {
            sequence,
            partition,
            records: self.set.freeze(),
            record_count: self.records,
            opened_at: self.opened_at,
            stamp: None,
            expected_offset: None,
            in_doubt: false,
            outcome: self.outcome,
        }
    }
}

/// A batch that is final.
#[derive(Debug)]
pub(super) struct Batch {
    /// The place in the order of sealing, over all partitions.
    pub(super) sequence: u64,
    pub(super) partition: u32,
    /// An encoded record set.
    pub(super) records: Bytes,
    pub(super) record_count: u32,
    /// When its first record came: its delivery is given up some time after that.
    pub(super) opened_at: Instant,
    /// With which numbers it is sent, once it was.
    pub(super) stamp: Option<Stamp>,
    /// The offset it must get, once it was sent.
    pub(super) expected_offset: Option<Offset>,
    /// It was on a stream that broke, with these numbers: it may or may not get into the log.
    pub(super) in_doubt: bool,
    outcome: Arc<Outcome>,
}

impl Batch {
    pub(super) fn settle(&self, result: Result<BatchAck, ClientError>) {
        self.outcome.settle(result);
    }
}

/// The size of a record as the broker counts it, without the tag and the length in front.
fn body_bytes(encoded_bytes: usize) -> usize {
    let rest = encoded_bytes - 1;
    let length_bytes = (1..=5).find(|length| rest - length < 1 << (7 * length)).unwrap_or(5);
    rest - length_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_measured_as_the_broker_measures_it() {
        for value_bytes in [0, 1, 100, 123, 124, 125, 126, 127, 128, 129, 16_380, 16_384, 16_400, 3 << 20] {
            let value = vec![0; value_bytes];
            let mut batch = OpenBatch::new(Instant::now(), 0);
            drop(batch.push(&NewRecord::value(&value), usize::MAX).expect("no limit"));
            let bytes = body_bytes(batch.len_bytes());
            let set = batch.seal(0, 0).records;
            assert!(record_set::check(&set, bytes).is_ok(), "{value_bytes}");
            assert!(record_set::check(&set, bytes - 1).is_err(), "{value_bytes}");
        }
    }

    #[test]
    fn a_record_that_is_too_large_leaves_no_trace() {
        let mut batch = OpenBatch::new(Instant::now(), 0);
        drop(batch.push(&NewRecord::value(b"fits"), 20).expect("it fits"));
        let before = batch.len_bytes();
        assert!(matches!(
            batch.push(&NewRecord::value(&[0; 100]), 20),
            Err(ClientError::RecordTooLarge { bytes: 102, limit_bytes: 20 })
        ));
        assert_eq!(batch.len_bytes(), before);
        assert_eq!(batch.seal(0, 0).record_count, 1);
    }
}

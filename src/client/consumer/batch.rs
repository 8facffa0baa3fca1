//! Records as they came: a slice of the message that carried them, decoded one at a time.

use crate::client::ClientError;
use crate::proto;
use crate::types::record_set::{self, RecordSetError};
use crate::types::{Offset, TimestampMs, TopicPartition};
use bytes::Bytes;

/// A record with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Its topic and partition.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// Absent and empty are different.
    pub key: Option<Bytes>,
    /// Absent and empty are different.
    pub value: Option<Bytes>,
    /// In the order sent.
    pub headers: Vec<(String, Bytes)>,
    /// As the producer gave it.
    pub timestamp: Option<TimestampMs>,
    /// What the message is called for good, if it has a name.
    pub message_id: Option<String>,
    /// When the broker appended it.
    pub append_time: TimestampMs,
}

/// A batch of records of one partition. Cheap to clone; keys and values share its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedBatch {
    partition: TopicPartition,
    base_offset: Offset,
    record_count: u32,
    append_time: TimestampMs,
    records: Bytes,
}

impl ConsumedBatch {
    /// Checks a batch that came from the broker: whatever reads it later meets no surprise.
    pub(in crate::client) fn from_wire(
        partition: &TopicPartition,
        batch: proto::RecordBatch,
    ) -> Result<Self, ClientError> {
        match record_set::check(&batch.records, usize::MAX) {
            Ok(summary) if summary.record_count == batch.record_count => {}
            Ok(_) => {
                return Err(ClientError::BadAnswer { what: "a batch holds another number of records than it says" });
            }
            Err(RecordSetError::Empty) => return Err(ClientError::BadAnswer { what: "a batch is empty" }),
            Err(_) => return Err(ClientError::BadAnswer { what: "a batch is not a valid record set" }),
        }
        Ok(Self {
            partition: partition.clone(),
            base_offset: Offset(batch.base_offset),
            record_count: batch.record_count,
            append_time: batch.append_time_ms,
            records: batch.records,
        })
    }

    /// Its topic and partition.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Offset of the first record; the others follow without a gap.
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// The offset after the last record.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.advance(self.record_count.into())
    }

    /// How many records; at least 1.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// When the broker appended them.
    pub fn append_time(&self) -> TimestampMs {
        self.append_time
    }

    /// The records, encoded as they are stored.
    pub fn record_set(&self) -> &Bytes {
        &self.records
    }

    /// The records, decoded.
    pub fn records(&self) -> impl Iterator<Item = ConsumedRecord> + '_ {
        (self.base_offset.0..).zip(record_set::records(&self.records)).map(|(offset, record)| ConsumedRecord {
            partition: self.partition.clone(),
            offset: Offset(offset),
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp: record.timestamp,
            message_id: record.message_id,
            append_time: self.append_time,
        })
    }

    /// Only the values, borrowed: the quickest way through a batch.
    pub fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        record_set::values(&self.records)
    }

    /// The first records of it, those before `until`; `None` if there are none.
    pub fn before(mut self, until: Offset) -> Option<Self> {
        let keep = until.records_since(self.base_offset).min(self.record_count.into());
        if keep < u64::from(self.record_count) {
            self.records.truncate(record_set::position_of_record(&self.records, keep));
            self.record_count = u32::try_from(keep).expect("less than record_count, which is a u32");
        }
        (keep > 0).then_some(self)
    }
}

/// All batches of one message.
pub(super) fn batches_from_wire(
    partition: &TopicPartition,
    batches: Vec<proto::RecordBatch>,
) -> Result<Vec<ConsumedBatch>, ClientError> {
    batches.into_iter().map(|batch| ConsumedBatch::from_wire(partition, batch)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::client::fake_broker::record_batch;
    use crate::types::TopicName;

    fn partition() -> TopicPartition {
        TopicPartition { topic: TopicName::new("orders").expect("valid"), partition: 1 }
    }

    /// A batch of these values, for the tests of whoever takes batches.
    pub(crate) fn batch(base_offset: u64, values: &[&str]) -> ConsumedBatch {
        ConsumedBatch::from_wire(&partition(), record_batch(base_offset, values)).expect("a valid batch")
    }

    #[test]
    fn records_have_their_places() {
        let batch = batch(7, &["a", "b"]);
        let read: Vec<_> = batch.records().map(|record| (record.offset.0, record.value.expect("it has one"))).collect();
        assert_eq!(read, [(7, "a".into()), (8, "b".into())]);
        assert_eq!(batch.values().collect::<Vec<_>>(), [Some(b"a".as_slice()), Some(b"b")]);
        assert_eq!(batch.next_offset(), Offset(9));
    }

    #[test]
    fn a_batch_is_cut_at_an_offset() {
        let whole = batch(7, &["a", "b", "c"]);
        assert_eq!(whole.clone().before(Offset(7)), None);
        let cut = whole.clone().before(Offset(9)).expect("two are left");
        assert_eq!(cut.values().count(), 2);
        assert_eq!(cut.next_offset(), Offset(9));
        assert_eq!(whole.clone().before(Offset(100)), Some(whole));
    }

    #[test]
    fn a_batch_that_lies_is_refused() {
        let lying = proto::RecordBatch { record_count: 2, ..record_batch(0, &["a"]) };
        assert!(ConsumedBatch::from_wire(&partition(), lying).is_err());
        assert!(ConsumedBatch::from_wire(&partition(), record_batch(0, &[])).is_err());
    }
}

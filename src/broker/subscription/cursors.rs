//! The reading places of one subscription: one cursor a partition, read in turn.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::partition::PartitionHandle;
use crate::storage::StorageError;
use crate::storage::reader::StoredBatch;
use crate::types::{Offset, Position, TopicPartition};
use futures_util::future::{FutureExt as _, select_all};
use tokio::sync::watch;

/// What to do when the place to read was deleted by retention: the client's choice, never a silent jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetExpired {
    /// End the stream with the error.
    Fail,
    /// Go on at the first retained record.
    Earliest,
    /// Go on at the end.
    Latest,
}

#[derive(Debug)]
struct Cursor {
    at: TopicPartition,
    partition: PartitionHandle,
    next_offset: Offset,
    high_watermark: watch::Receiver<Offset>,
}

/// Cursors in the order in which they have their turn.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    in_turn: Vec<Cursor>,
    turn: usize,
}

impl Cursors {
    /// Begins to read a partition; gives the first offset.
    pub(super) async fn begin(
        &mut self,
        broker: &Broker,
        at: TopicPartition,
        start: Position,
        on_expired: OffsetExpired,
    ) -> Result<Offset, BrokerError> {
        let topic = broker.topic(at.topic.as_str())?;
        let partition = topic.partition(at.partition)?.clone();
        let next_offset = match partition.resolve(start).await {
            Err(error) => after_expiry(&partition, &at, error, on_expired)?,
            Ok(offset) => offset,
        };
        let high_watermark = partition.watch_high_watermark();
        self.end(std::slice::from_ref(&at));
        self.in_turn.push(Cursor { at, partition, next_offset, high_watermark });
        Ok(next_offset)
    }

    /// Stops reading partitions.
    pub(super) fn end(&mut self, partitions: &[TopicPartition]) {
        self.in_turn.retain(|cursor| !partitions.contains(&cursor.at));
    }

    /// The next offset to read, if the partition is being read.
    pub(super) fn offset_of(&self, at: &TopicPartition) -> Option<Offset> {
        self.in_turn.iter().find(|cursor| cursor.at == *at).map(|cursor| cursor.next_offset)
    }

    pub(super) fn has(&self, at: &TopicPartition) -> bool {
        self.in_turn.iter().any(|cursor| cursor.at == *at)
    }

    /// How far each log goes.
    pub(super) fn high_watermarks(&self) -> Vec<(TopicPartition, Offset)> {
        self.in_turn.iter().map(|cursor| (cursor.at.clone(), cursor.partition.high_watermark())).collect()
    }

    /// Records of the next partition, in turn, that has any: at most so many records and bytes, but one at least.
    pub(super) async fn read_next(
        &mut self,
        records_max: u64,
        bytes_max: usize,
        on_expired: OffsetExpired,
    ) -> Result<Option<(TopicPartition, Vec<StoredBatch>, Offset)>, BrokerError> {
        let count = self.in_turn.len();
        for i in 0..count {
            let turn = (self.turn + i) % count;
            let cursor = &mut self.in_turn[turn];
            if cursor.next_offset >= cursor.partition.high_watermark() {
                continue;
            }
            // The cursor moves only after the read, so a read that is dropped half-way changes nothing.
            let batches = match cursor.partition.read(cursor.next_offset, bytes_max).await {
                Err(error) => {
                    cursor.next_offset = after_expiry(&cursor.partition, &cursor.at, error, on_expired)?;
                    continue;
                }
                Ok(batches) => batches.first_records(records_max),
            };
            cursor.next_offset = batches.next_offset;
            if batches.is_empty() {
                // All that stood there was compacted away.
                continue;
            }
            let (at, high_watermark) = (cursor.at.clone(), cursor.partition.high_watermark());
            self.turn = turn + 1;
            return Ok(Some((at, batches.into_vec(), high_watermark)));
        }
        Ok(None)
    }

    /// Ends when some partition has records to read.
    pub(super) async fn wait_for_records(&mut self) {
        if self.in_turn.is_empty() {
            std::future::pending::<()>().await;
        }
        let waits = self.in_turn.iter_mut().map(|cursor| {
            let next_offset = cursor.next_offset;
            async move { drop(cursor.high_watermark.wait_for(|end| *end > next_offset).await) }.boxed()
        });
        select_all(waits).await;
    }
}

/// Where to go on after a read that failed, if the failure is an expired offset and the client said what to do then.
fn after_expiry(
    partition: &PartitionHandle,
    at: &TopicPartition,
    error: StorageError,
    on_expired: OffsetExpired,
) -> Result<Offset, BrokerError> {
    match (&error, on_expired) {
        (StorageError::OutOfRange { offset, earliest, .. }, OffsetExpired::Earliest) if offset < earliest => {
            Ok(partition.offsets().log_start)
        }
        (StorageError::OutOfRange { offset, earliest, .. }, OffsetExpired::Latest) if offset < earliest => {
            Ok(partition.high_watermark())
        }
        _ => Err(BrokerError::storage(at.clone(), error)),
    }
}

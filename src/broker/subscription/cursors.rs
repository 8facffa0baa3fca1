//! The reading places of one subscription: one cursor a partition, read in turn.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::filtering::{Selected, select};
use crate::broker::subscription::OpenSubscription;
use crate::partition::PartitionHandle;
use crate::storage::StorageError;
use crate::storage::reader::StoredBatch;
use crate::types::{Offset, Position, TopicPartition};
use futures_util::future::{FutureExt as _, select_all};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How soon after records were passed over, because they do not match the filter, the client is told: a busy topic of
/// which nothing matches costs a message each time, however many records that were.
const TELL_INTERVAL: Duration = Duration::from_millis(200);

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
    /// Records were passed over, and the client is to be told by then.
    tell_at: Option<Instant>,
}

/// What is to be told of one partition.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) at: TopicPartition,
    /// None if no record that was read matches the filter.
    pub(super) batches: Vec<StoredBatch>,
    /// Where reading goes on.
    pub(super) next_offset: Offset,
    pub(super) high_watermark: Offset,
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
        self.in_turn.push(Cursor { at, partition, next_offset, high_watermark, tell_at: None });
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
        request: &OpenSubscription,
    ) -> Result<Option<Reading>, BrokerError> {
        // What is passed over costs no credit, so that is no reason to read less of it at a time.
        let read_bytes_max = if request.filter.is_some() { request.delivery_bytes_max } else { bytes_max };
        let count = self.in_turn.len();
        for i in 0..count {
            let turn = (self.turn + i) % count;
            let cursor = &mut self.in_turn[turn];
            if cursor.next_offset >= cursor.partition.high_watermark() {
                continue;
            }
            // The cursor moves only after the read, so a read that is dropped half-way changes nothing.
            let read = match cursor.partition.read(cursor.next_offset, read_bytes_max).await {
                Err(error) => {
                    cursor.next_offset = after_expiry(&cursor.partition, &cursor.at, error, request.on_expired)?;
                    continue;
                }
                Ok(read) => read,
            };
            let Selected { batches, next_offset } = if let Some(filter) = &request.filter {
                select(filter, read, records_max, bytes_max)
            } else {
                let read = read.first_records(records_max);
                Selected { next_offset: read.next_offset, batches: read.into_vec() }
            };
            cursor.next_offset = next_offset;
            if !batches.is_empty() {
                self.turn = turn + 1;
                return Ok(Some(cursor.reading(batches)));
            }
            // All that stood there was compacted away, or does not match.
            if request.filter.is_some() {
                cursor.tell_at.get_or_insert_with(|| Instant::now() + TELL_INTERVAL);
                // There may be a long way without a match; what the client and the group say is heard meanwhile.
                tokio::task::yield_now().await;
            }
        }
        Ok(None)
    }

    /// A partition in which records were passed over some time ago, of which the client was not told yet; with `all`
    /// also if that was just now.
    pub(super) fn next_untold(&mut self, all: bool) -> Option<Reading> {
        let now = Instant::now();
        let is_due = |cursor: &&mut Cursor| cursor.tell_at.is_some_and(|at| all || at <= now);
        self.in_turn.iter_mut().find(is_due).map(|cursor| cursor.reading(Vec::new()))
    }

    /// When there is such a partition next, if ever.
    pub(super) fn tell_at(&self) -> Option<Instant> {
        self.in_turn.iter().filter_map(|cursor| cursor.tell_at).min()
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

impl Cursor {
    /// With this the client knows where the cursor is.
    fn reading(&mut self, batches: Vec<StoredBatch>) -> Reading {
        self.tell_at = None;
        let (next_offset, high_watermark) = (self.next_offset, self.partition.high_watermark());
        Reading { at: self.at.clone(), batches, next_offset, high_watermark }
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

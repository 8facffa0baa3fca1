//! What a subscription tells its reader.

use super::batch::ConsumedBatch;
use crate::client::{ClientError, PartitionOffset};
use crate::types::{Offset, TopicPartition};

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// Records of one partition.
    Records(RecordsEvent),
    /// With a filter: records were passed over. When everything that came before is done, `next_offset` is what to mark.
    Passed {
        /// Where they stand.
        partition: TopicPartition,
        /// Where reading goes on.
        next_offset: Offset,
        /// How far the log goes now.
        high_watermark: Offset,
    },
    /// Partitions that are read from now on, with the offset each begins at.
    Assigned {
        /// Grows with every change of the group's assignment; 0 without a group.
        generation: u64,
        /// In addition to those already read.
        partitions: Vec<PartitionOffset>,
    },
    /// Partitions that another member takes over. Mark what is done of them; the next call commits that and lets go.
    Revoked {
        /// Of the assignment that takes them away.
        generation: u64,
        /// No records of these follow.
        partitions: Vec<TopicPartition>,
    },
    /// Somebody has moved the group: records go on from here. Drop what came before and is not done; what was marked of
    /// it is not committed.
    Seek {
        /// Of the move.
        generation: u64,
        /// With the offset each goes on at.
        partitions: Vec<PartitionOffset>,
    },
    /// Somebody has paused the group: no records come until it is resumed.
    Paused,
    /// The pause is over.
    Resumed,
    /// Nothing happened for a while; the ends of the partitions.
    Heartbeat {
        /// `offset` is the high watermark.
        ends: Vec<PartitionOffset>,
    },
    /// The broker is stopping: commit now. The connection is lost soon.
    Draining,
    /// The connection was lost; the next call waits until there is a new one.
    Disconnected {
        /// Why.
        lost: ClientError,
    },
    /// There is a new connection. In a group, partitions are assigned anew, and records that were not committed come
    /// again; without, reading goes on where it was.
    Reconnected,
}

/// Records of one partition, in order.
#[derive(Debug, Clone)]
pub struct RecordsEvent {
    /// Where they stand.
    pub partition: TopicPartition,
    /// At least one batch.
    pub batches: Vec<ConsumedBatch>,
    /// How far the log goes now.
    pub high_watermark: Offset,
    /// As the broker tells it; 0 = it does not.
    pub(super) told_next_offset: Offset,
}

impl RecordsEvent {
    /// Where reading goes on: after the last record, and after those behind it that the filter passed over.
    pub fn next_offset(&self) -> Offset {
        self.batches.last().map_or(Offset::ZERO, ConsumedBatch::next_offset).max(self.told_next_offset)
    }

    /// The event of these records; without any, of the place alone, if that is told.
    pub(super) fn or_passed(self) -> Option<Event> {
        if !self.batches.is_empty() {
            return Some(Event::Records(self));
        }
        let Self { partition, high_watermark, told_next_offset: next_offset, .. } = self;
        (next_offset > Offset::ZERO).then_some(Event::Passed { partition, next_offset, high_watermark })
    }

    /// Bytes of all records, encoded.
    pub fn len_bytes(&self) -> u64 {
        self.batches.iter().map(|batch| batch.record_set().len() as u64).sum()
    }

    /// How many records.
    pub fn record_count(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.record_count())).sum()
    }
}

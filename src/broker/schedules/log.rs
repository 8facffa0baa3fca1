//! The log of schedules: entries in the one partition of a compacted internal topic.
//!
//! Appended to by the task that owns the schedules, and by nobody else. Read once from its beginning, to learn when each
//! schedule is due, and then entry by entry, when one is due or asked for. Compaction keeps offsets, so a place that was
//! learned stays good as long as its schedule is what it was.

use crate::partition::journal::JournalEntry;
use crate::partition::{AppendError, PartitionHandle};
use crate::schedule::{Entry, LogFailure, Replayed, ScheduleError, ScheduleLog};
use crate::storage::StorageError;
use crate::storage::log::NewBatch;
use crate::storage::reader::StoredBatches;
use crate::types::record_set::{self, encode_record};
use crate::types::{Durability, Offset};
use bytes::BytesMut;
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;

/// One read asks for about this much, where several entries are wanted.
const READ_BYTES: usize = 1 << 20;

/// Wanted entries that are no further apart are read together.
const NEIGHBOURS: u64 = 64;

/// Entries read by their offsets.
pub(in crate::broker) type Entries = HashMap<Offset, Result<Entry, String>>;

/// See the head of this file. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::broker) struct PartitionLog(pub(in crate::broker) PartitionHandle);

/// What is wrong with the log when the broker starts.
pub(in crate::broker) enum Unreadable {
    Storage(StorageError),
    Entry(ScheduleError),
}

impl PartitionLog {
    /// Reads every entry, oldest first.
    pub(in crate::broker) async fn replay(&self) -> Result<Replayed, Unreadable> {
        let mut replayed = Replayed::default();
        let offsets = self.0.offsets();
        let mut next = offsets.log_start;
        while next < offsets.high_watermark {
            let batches = self.0.read(next, READ_BYTES).await.map_err(Unreadable::Storage)?;
            next = batches.next_offset;
            for batch in batches {
                for (number, record) in (0..).zip(record_set::records(&batch.payload)) {
                    let (offset, key) = (batch.base_offset.advance(number), record.key.unwrap_or_default());
                    replayed.take(offset, &key, record.value.as_ref()).map_err(Unreadable::Entry)?;
                }
            }
        }
        Ok(replayed)
    }

    /// Reads the entries at these offsets. One that is not there any more is not in the answer.
    pub(in crate::broker) async fn read(&self, wanted: BTreeSet<Offset>) -> Entries {
        let mut entries = Entries::with_capacity(wanted.len());
        let mut wanted = wanted.into_iter().peekable();
        while let Some(first) = wanted.next() {
            // Neighbours come with one read; of an entry that stands alone no more than that is wanted.
            let has_neighbour = wanted.peek().is_some_and(|next| next.records_since(first) <= NEIGHBOURS);
            match self.0.read(first, if has_neighbour { READ_BYTES } else { 1 }).await {
                Ok(batches) => {
                    take(&batches, first, &mut entries);
                    while let Some(next) = wanted.next_if(|next| *next < batches.next_offset) {
                        take(&batches, next, &mut entries);
                    }
                }
                Err(StorageError::OutOfRange { .. }) => {}
                Err(error) => drop(entries.insert(first, Err(error.to_string()))),
            }
        }
        entries
    }
}

/// Takes the entry at `offset`, if it is among these.
fn take(batches: &StoredBatches, offset: Offset, entries: &mut Entries) {
    let holds = |base: Offset, count: u32| offset >= base && offset.records_since(base) < u64::from(count);
    let Some(batch) = batches.iter().find(|batch| holds(batch.base_offset, batch.record_count)) else { return };
    let skip = usize::try_from(offset.records_since(batch.base_offset)).unwrap_or(usize::MAX);
    let Some(record) = record_set::records(&batch.payload).nth(skip) else { return };
    let (Some(key), Some(value)) = (record.key, record.value) else { return };
    entries.insert(offset, Entry::decode(&key, &value).map_err(|error| error.to_string()));
}

impl ScheduleLog for PartitionLog {
    fn append(
        &self,
        entries: Vec<JournalEntry>,
    ) -> Pin<Box<dyn Future<Output = Result<Offset, LogFailure>> + Send + '_>> {
        let mut set = BytesMut::new();
        for entry in &entries {
            encode_record(&mut set, Some(&entry.key), entry.value.as_deref(), std::iter::empty(), None);
        }
        let set = set.freeze();
        let summary = record_set::check(&set, usize::MAX).expect("our own encoding is valid");
        // Its place in the order is fixed here; the future only waits.
        let appended = self.0.append(NewBatch::new(set, summary), Some(Durability::Synced), None);
        Box::pin(async move {
            match appended.await {
                Ok(ack) => Ok(ack.appended.base_offset),
                Err(error @ (AppendError::Refused(_) | AppendError::Denied(_))) => {
                    Err(LogFailure::Refused(error.to_string()))
                }
                Err(error @ (AppendError::OutcomeUnknown(_) | AppendError::Closed)) => {
                    Err(LogFailure::Lost(error.to_string()))
                }
            }
        })
    }
}

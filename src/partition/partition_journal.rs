//! A [`Journal`] kept in a partition of an internal topic.

use crate::partition::handle::PartitionHandle;
use crate::partition::journal::{Appending, CutJournal, Journal, JournalEntry, JournalError};
use crate::storage::StorageError;
use crate::storage::log::NewBatch;
use crate::types::Durability;
use crate::types::record_set::{self, encode_record};
use bytes::{Bytes, BytesMut};
use std::pin::Pin;

/// One batch of the journal has at most about this many bytes, well below what any frame may hold.
const BATCH_BYTES: usize = 1 << 20;

/// Events in a partition: each entry is a record, its key and value those of the entry.
#[derive(Debug, Clone)]
pub struct PartitionJournal {
    name: String,
    partition: PartitionHandle,
}

impl PartitionJournal {
    /// The journal in `partition`, called `name` in errors.
    pub fn new(name: impl Into<String>, partition: PartitionHandle) -> Self {
        Self { name: name.into(), partition }
    }

    /// Every entry, oldest first.
    pub async fn replay(&self) -> Result<Vec<JournalEntry>, StorageError> {
        let mut entries = Vec::new();
        let offsets = self.partition.offsets();
        let mut next = offsets.log_start;
        while next < offsets.high_watermark {
            let batches = self.partition.read(next, BATCH_BYTES).await?;
            next = batches.next_offset;
            for batch in batches {
                entries.extend(
                    record_set::records(&batch.payload)
                        .map(|record| JournalEntry { key: record.key.unwrap_or_default(), value: record.value }),
                );
            }
        }
        Ok(entries)
    }

    /// Replaces everything written so far by `snapshot`, which must say the same: first it is made durable behind the
    /// old entries, then those are deleted (with whole segments), so that a crash in between loses nothing.
    pub async fn replace(&self, snapshot: Vec<JournalEntry>) -> Result<(), JournalError> {
        let before = self.partition.high_watermark();
        self.append_all(snapshot).await?;
        self.partition.delete_before(before).await.map(drop).map_err(|error| self.error(&error))
    }

    /// How many entries there are to replay.
    pub fn len(&self) -> u64 {
        let offsets = self.partition.offsets();
        offsets.high_watermark.records_since(offsets.log_start)
    }

    /// Whether there is nothing to replay.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn append_all(&self, entries: Vec<JournalEntry>) -> Result<(), JournalError> {
        // All batches are queued before the first answer is awaited, so they share a drain and its sync.
        let answers: Vec<_> =
            batches(&entries).map(|batch| self.partition.append(batch, Some(Durability::Synced), None)).collect();
        for answer in answers {
            answer.await.map_err(|error| self.error(&error))?;
        }
        Ok(())
    }

    fn error(&self, cause: &dyn std::error::Error) -> JournalError {
        error(&self.name, cause)
    }
}

fn error(journal: &str, cause: &dyn std::error::Error) -> JournalError {
    JournalError { journal: journal.to_owned(), cause: cause.to_string() }
}

impl Journal for PartitionJournal {
    fn append(
        &self,
        entries: Vec<JournalEntry>,
    ) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>> {
        Box::pin(self.append_all(entries))
    }
}

impl CutJournal for PartitionJournal {
    fn begin(&self, entries: Vec<JournalEntry>) -> Appending {
        let steps = batches(&entries).map(|batch| self.partition.append_in_steps(batch));
        let (written, answers): (Vec<_>, Vec<_>) = steps.unzip();
        let name = self.name.clone();
        Appending {
            written: Box::pin(async move {
                for written in written {
                    if written.await.is_err() {
                        // It is not, and never will be. The answer says why.
                        std::future::pending::<()>().await;
                    }
                }
            }),
            synced: Box::pin(async move {
                for answer in answers {
                    answer.await.map_err(|cause| error(&name, &cause))?;
                }
                Ok(())
            }),
        }
    }

    fn replace(
        &self,
        snapshot: Vec<JournalEntry>,
    ) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>> {
        Box::pin(Self::replace(self, snapshot))
    }
}

/// The entries as batches of bounded size.
fn batches(entries: &[JournalEntry]) -> impl Iterator<Item = NewBatch> + '_ {
    let mut remaining = entries;
    std::iter::from_fn(move || {
        let mut set = BytesMut::new();
        while let Some((entry, rest)) = remaining.split_first() {
            if set.len() >= BATCH_BYTES {
                break;
            }
            encode_record(&mut set, Some(&entry.key), entry.value.as_deref(), std::iter::empty(), None);
            remaining = rest;
        }
        (!set.is_empty()).then(|| checked(set.freeze()))
    })
}

fn checked(payload: Bytes) -> NewBatch {
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    NewBatch::new(payload, summary)
}

//! A [`Journal`] kept in a partition of an internal topic.

use crate::partition::drains::PendingAppend;
use crate::partition::handle::PartitionHandle;
use crate::partition::inbox::AppendError;
use crate::partition::journal::{Appending, CutJournal, Journal, JournalEntry, JournalError};
use crate::storage::StorageError;
use crate::storage::log::{BatchRefusal, NewBatch};
use crate::types::record_set::{self, encode_record};
use crate::types::{Durability, Offset};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a journal that found the disk full waits before it tries again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(250);

/// One batch of the journal has at most about this many bytes, well below what any frame may hold.
const BATCH_BYTES: usize = 1 << 20;

/// Events in a partition: each entry is a record, its key and value those of the entry. Nobody else appends to it.
#[derive(Debug)]
pub struct PartitionJournal {
    name: String,
    partition: PartitionHandle,
    /// Where the next entry must come to stand: behind all that were sent.
    next_offset: Mutex<Offset>,
    /// Why a batch will never be written, and so none behind it.
    ended: Arc<OnceLock<JournalError>>,
}

impl PartitionJournal {
    /// The journal in `partition`, called `name` in errors.
    pub fn new(name: impl Into<String>, partition: PartitionHandle) -> Self {
        let next_offset = Mutex::new(partition.offsets().log_end);
        Self { name: name.into(), partition, next_offset, ended: Arc::default() }
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
        self.send(&snapshot, Durability::Synced).durable.await?;
        self.partition.delete_before(before).await.map(drop).map_err(|cause| error(&self.name, &cause))
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

    /// Queues all batches before any is waited for, so that they share a drain and its sync.
    fn send(&self, entries: &[JournalEntry], durability: Durability) -> Appending {
        let (told, written) = oneshot::channel();
        let (answer, durable) = oneshot::channel();
        let (journal, partition, ended) = (self.name.clone(), self.partition.clone(), Arc::clone(&self.ended));
        let mut sending = Sending { journal, partition, durability, ended, steps: VecDeque::new() };
        {
            // Held until all are queued: batches are queued in the order of their offsets.
            let mut next_offset = self.next_offset.lock().unwrap_or_else(PoisonError::into_inner);
            for mut batch in batches(entries) {
                // A disk that was full may have room again for what comes behind a batch that it refused.
                batch.terms.expected_offset = Some(*next_offset);
                *next_offset = next_offset.advance(batch.summary.record_count.into());
                sending.begin(batch);
            }
        }
        let mut finishing = Box::pin(sending.finish(told));
        if let Some(finished) = (&mut finishing).now_or_never() {
            drop(answer.send(finished));
        } else {
            // A task of its own: it goes on whether or not somebody waits, and what comes behind depends on it.
            tokio::spawn(async move { drop(answer.send(finishing.await)) });
        }
        let name = self.name.clone();
        Appending {
            written: Box::pin(async move {
                if written.await.is_err() {
                    // It is not, and never will be. The answer says why.
                    std::future::pending::<()>().await;
                }
            }),
            durable: Box::pin(async move { durable.await.unwrap_or_else(|_| Err(error(&name, &AppendError::Closed))) }),
        }
    }
}

/// Batches on their way into the log, one behind the other.
struct Sending {
    journal: String,
    partition: PartitionHandle,
    durability: Durability,
    ended: Arc<OnceLock<JournalError>>,
    steps: VecDeque<Step>,
}

struct Step {
    batch: NewBatch,
    written: oneshot::Receiver<()>,
    answer: PendingAppend,
}

impl Sending {
    fn begin(&mut self, batch: NewBatch) {
        let (written, answer) = self.partition.append_in_steps(batch.clone(), self.durability);
        self.steps.push_back(Step { batch, written, answer });
    }

    /// Tells when all are written, and ends when they are durable. What a full disk refused is sent again until there is
    /// room: whoever waits for a journal can do nothing else, and would otherwise have to be restarted. Any other failure
    /// ends the journal.
    async fn finish(mut self, told: oneshot::Sender<()>) -> Result<(), JournalError> {
        for _ in 0..self.steps.len() {
            let Some(mut step) = self.steps.pop_front() else { break };
            while (&mut step.written).await.is_err() {
                match step.answer.await {
                    Err(cause) if self.passes(&cause) => tokio::time::sleep(FULL_DISK_PAUSE).await,
                    Err(cause) => return Err(self.end(&cause)),
                    Ok(_) => unreachable!("whoever is answered was told before"),
                }
                let (written, answer) = self.partition.append_in_steps(step.batch.clone(), self.durability);
                step = Step { written, answer, ..step };
            }
            self.steps.push_back(step);
        }
        // Nobody may wait for this.
        let _ = told.send(());
        while let Some(step) = self.steps.pop_front() {
            step.answer.await.map_err(|cause| self.end(&cause))?;
        }
        Ok(())
    }

    /// Whether the same batch may be appended later: the disk is full, or what comes before it is not there yet, because
    /// it was full then.
    fn passes(&self, cause: &AppendError) -> bool {
        match cause {
            AppendError::Refused(StorageError::Full { .. }) => true,
            AppendError::Denied(BatchRefusal::OffsetMismatch { .. }) => self.ended.get().is_none(),
            _ => false,
        }
    }

    /// The first cause is the true one: what stands behind fails because something is missing before it.
    fn end(&self, cause: &AppendError) -> JournalError {
        self.ended.get_or_init(|| error(&self.journal, cause)).clone()
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
        self.send(&entries, Durability::Synced).durable
    }
}

impl CutJournal for PartitionJournal {
    fn begin(&self, entries: Vec<JournalEntry>, durability: Durability) -> Appending {
        self.send(&entries, durability)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::partition::{PartitionOptions, StoragePool};
    use crate::storage::Log;
    use crate::storage::log::LogOptions;
    use crate::storage::retention::RetentionPolicy;
    use crate::storage::segment::header::LogId;
    use crate::storage::sim_disk::Fault;
    use crate::storage::sim_file_system::SimFileSystem;
    use crate::types::TopicId;
    use std::path::Path;
    use std::sync::Arc;

    fn entry(key: &str) -> Vec<JournalEntry> {
        vec![JournalEntry::tombstone(key.to_owned())]
    }

    fn journal_on(disk: &SimFileSystem, pool: &StoragePool) -> PartitionJournal {
        let id = LogId { topic: TopicId(uuid::Uuid::from_u128(7)), partition: 0 };
        let log = LogOptions { segment_bytes: 4096, seal_age_ms: 0, reserve_bytes: 0 };
        let (opened, _) = Log::open(Arc::new(disk.clone()), Path::new("/log"), id, log).expect("opens");
        let retention = RetentionPolicy { retention_ms: 0, retention_bytes: 0 };
        let options = PartitionOptions { log, durability: Durability::Synced, retention, compaction: None };
        let clock = Arc::new(ManualClock::new(0));
        PartitionJournal::new("__test", PartitionHandle::new(opened, options, pool, clock, Arc::default()))
    }

    /// The owner does not wait for one append before the next, so the next may meet a disk that has room again.
    #[tokio::test(start_paused = true)]
    async fn what_a_full_disk_refused_comes_later_and_in_order() {
        let disk = SimFileSystem::new(1);
        let pool = StoragePool::start(1).expect("a thread");
        let journal = journal_on(&disk, &pool);
        journal.append(entry("first")).await.expect("appended");
        disk.plan(disk.operations() + 1, Fault::ShortWrite);
        let refused = journal.begin(entry("refused"), Durability::Synced);
        let behind = journal.begin(entry("behind"), Durability::Synced);
        behind.written.await;
        refused.durable.await.expect("there is room again");
        behind.durable.await.expect("there is room again");
        assert_eq!(
            journal.replay().await.expect("replays"),
            [entry("first"), entry("refused"), entry("behind")].concat()
        );
    }

    /// A new segment that could not be made leaves the log open, and the next batch would find a good one.
    #[tokio::test]
    async fn behind_what_was_refused_for_good_nothing_is_appended_and_nobody_waits() {
        let disk = SimFileSystem::new(1);
        let pool = StoragePool::start(1).expect("a thread");
        let journal = journal_on(&disk, &pool);
        disk.plan(disk.operations(), Fault::Io);
        let refused = journal.begin(entry("refused"), Durability::Synced);
        let behind = journal.begin(entry("behind"), Durability::Synced);
        let cause = refused.durable.await.expect_err("there is no segment");
        let same = tokio::time::timeout(Duration::from_mins(1), behind.durable).await.expect("it does not wait");
        assert_eq!(same.expect_err("one before it is missing").to_string(), cause.to_string());
        let later = tokio::time::timeout(Duration::from_mins(1), journal.append(entry("later"))).await;
        later.expect("it does not wait").expect_err("one before it is missing");
        assert_eq!(journal.replay().await.expect("replays"), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_waits_for_room_too() {
        let disk = SimFileSystem::new(1);
        let pool = StoragePool::start(1).expect("a thread");
        let journal = journal_on(&disk, &pool);
        journal.append(entry("first")).await.expect("appended");
        disk.plan(disk.operations() + 1, Fault::ShortWrite);
        journal.replace(entry("first")).await.expect("there is room again");
        journal.append(entry("second")).await.expect("appended");
        let replayed = journal.replay().await.expect("replays");
        assert!(replayed.ends_with(&[entry("first"), entry("second")].concat()), "{replayed:?}");
    }

    #[tokio::test]
    async fn what_is_written_is_told_before_it_is_synced() {
        let disk = SimFileSystem::new(1);
        let pool = StoragePool::start(1).expect("a thread");
        let journal = journal_on(&disk, &pool);
        disk.plan(disk.operations() + 1, Fault::Sync);
        let Appending { written, durable } = journal.begin(entry("first"), Durability::Synced);
        written.await;
        durable.await.expect_err("it was not synced");
    }
}

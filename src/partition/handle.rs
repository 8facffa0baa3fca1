//! What everyone above holds of a partition: append to it, read it, wait for it.

use crate::clock::SharedClock;
use crate::limits;
use crate::metrics::Metrics;
use crate::partition::drains::{Partition, PendingAppend, lock};
use crate::partition::inbox::{AppendError, AppendRequest, Inbox, Permit, Request};
use crate::partition::options::PartitionOptions;
use crate::partition::pool::StoragePool;
use crate::partition::writer::Writer;
use crate::storage::compaction::{CompactionOutcome, Pace, When};
use crate::storage::damage::DamagedRange;
use crate::storage::log::NewBatch;
use crate::storage::reader::{LogSize, StoredBatches, Unread};
use crate::storage::scrub::LogScrubber;
use crate::storage::{Log, StorageError};
use crate::sync::{IS_SCHEDULED, Mutex};
use crate::types::{Durability, Offset, Position, TimestampMs};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{oneshot, watch};

/// The offsets of a partition at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// First retained offset.
    pub log_start: Offset,
    /// Readers see offsets below this.
    pub high_watermark: Offset,
    /// The offset that the next record gets.
    pub log_end: Offset,
}

/// A handle on one partition. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PartitionHandle(Arc<Partition>);

impl PartitionHandle {
    /// Puts a log that was just opened to work.
    pub fn new(
        log: Log,
        options: PartitionOptions,
        pool: &StoragePool,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Partition {
            inbox: Mutex::new(Inbox::new(options.durability)),
            options: Mutex::new(options),
            reader: log.reader(),
            keeper: log.keeper(),
            scrubber: log.scrubber(),
            high_watermark: watch::Sender::new(log.next_offset()),
            told_start: AtomicU64::new(log.reader().log_start().0),
            writer: Mutex::new(Writer::new(log, options.durability, metrics)),
            run_queue: pool.run_queue(),
            clock,
        }))
    }

    /// Queues a batch; its place in the order is fixed when this returns. The answer comes when it is as durable as
    /// `durability` (`None`: as the topic promises). The permit is given back with the answer.
    ///
    /// What is little and needs no sync no thread is told of, because it may be as quick to write it as to wake one: see
    /// [`PendingAppend::write`].
    pub fn append(
        &self,
        batch: NewBatch,
        durability: Option<Durability>,
        permit: Option<Arc<Permit>>,
    ) -> PendingAppend {
        let (reply, answer) = oneshot::channel();
        let request = Request::Append(AppendRequest { batch, durability, reply, written: None, _permit: permit });
        let is_light = {
            let mut inbox = lock(&self.0.inbox);
            inbox.add(request);
            inbox.is_light()
        };
        if !is_light {
            self.0.schedule();
        }
        PendingAppend { answer, untold: is_light.then(|| Arc::clone(&self.0)) }
    }

    /// Appends a batch and tells of it twice: when it is written (never, if it is not), and, as the answer, when it is
    /// as durable as `durability`. Its place is fixed when this returns; if it is little, needs no sync and there is nothing
    /// else to do, it is written then.
    pub fn append_in_steps(&self, batch: NewBatch, durability: Durability) -> (oneshot::Receiver<()>, PendingAppend) {
        let ((reply, answer), (told, written)) = (oneshot::channel(), oneshot::channel());
        let (durability, written_to) = (Some(durability), Some(told));
        let request = AppendRequest { batch, durability, reply, written: written_to, _permit: None };
        lock(&self.0.inbox).add(Request::Append(request));
        self.0.write_in_place();
        (written, PendingAppend { answer, untold: None })
    }

    /// Batches from `from` on, of about `bytes_max` bytes; none if `from` is the high watermark.
    pub async fn read(&self, from: Offset, bytes_max: usize) -> Result<StoredBatches, StorageError> {
        let below = self.high_watermark();
        if from == below {
            return Ok(StoredBatches::none_at(from));
        }
        if self.0.reader.is_recent(from) {
            return self.0.reader.read(from, below, bytes_max);
        }
        // Older bytes may have to come from the disk: the thread that verifies them may wait, a tokio worker may not.
        let reader = self.0.reader.clone();
        blocking(move || reader.read(from, below, bytes_max)).await
    }

    /// The present offsets.
    pub fn offsets(&self) -> PartitionOffsets {
        // In this order, because each only moves up and none overtakes the next.
        let log_start = self.0.reader.log_start();
        let high_watermark = self.high_watermark();
        PartitionOffsets { log_start, high_watermark, log_end: self.0.reader.log_end() }
    }

    /// Turns a position into an offset, as of now.
    pub async fn resolve(&self, position: Position) -> Result<Offset, StorageError> {
        let PartitionOffsets { log_start, high_watermark, .. } = self.offsets();
        match position {
            Position::Earliest => Ok(log_start),
            Position::Latest => Ok(high_watermark),
            Position::BeforeEnd(records) => Ok(Offset(high_watermark.0.saturating_sub(records)).max(log_start)),
            Position::Offset(offset) if offset < log_start || offset > high_watermark => {
                Err(StorageError::OutOfRange { offset, earliest: log_start, latest: high_watermark })
            }
            Position::Offset(offset) => Ok(offset),
            Position::Time(time_ms) => self.offset_of_time(time_ms, high_watermark).await,
        }
    }

    async fn offset_of_time(&self, time_ms: TimestampMs, below: Offset) -> Result<Offset, StorageError> {
        let reader = self.0.reader.clone();
        blocking(move || reader.offset_of_time(time_ms, below)).await
    }

    /// What readers see from `from` on, or from the log start on if that is later; `None` as
    /// [`LogReader::unread`](crate::storage::LogReader::unread). Blocks: it may wait for the disk.
    pub fn unread(&self, from: Offset) -> Result<Option<Unread>, StorageError> {
        self.0.reader.unread(from, self.high_watermark())
    }

    /// Readers see offsets below this.
    pub fn high_watermark(&self) -> Offset {
        *self.0.high_watermark.borrow()
    }

    /// The high watermark as it moves.
    pub fn watch_high_watermark(&self) -> watch::Receiver<Offset> {
        self.0.high_watermark.subscribe()
    }

    /// Bytes and segments of the log.
    pub fn size(&self) -> LogSize {
        self.0.reader.size()
    }

    /// Damage that scrubs have found in its sealed segments.
    pub fn damaged(&self) -> Vec<DamagedRange> {
        self.0.reader.damage()
    }

    /// A handle for finding damage. Blocks; to be used on a thread of its own.
    pub fn scrubber(&self) -> LogScrubber {
        self.0.scrubber.clone()
    }

    /// Changes the options, from the next append on.
    pub fn set_options(&self, options: PartitionOptions) {
        *lock(&self.0.options) = options;
        self.push(Request::SetOptions(options));
    }

    /// Deletes the records before `offset`, which must not be above the high watermark. Gives the new log start.
    pub async fn delete_before(&self, offset: Offset) -> Result<Offset, StorageError> {
        let PartitionOffsets { log_start, high_watermark, .. } = self.offsets();
        if offset > high_watermark {
            return Err(StorageError::OutOfRange { offset, earliest: log_start, latest: high_watermark });
        }
        let keeper = self.0.keeper.clone();
        blocking(move || keeper.delete_before(offset)).await
    }

    /// One round of upkeep: seal what is old, sync what is sealed, move the checkpoint up, delete what may go. Blocks; call it from a thread
    /// of its own. Gives the new log start if retention moved it.
    ///
    /// `now_ms` is the time, if it can be believed; without it records do not go because of their age. It is handed in
    /// because the clock may jump between the look at it and here.
    pub fn keep(&self, now_ms: Option<TimestampMs>) -> Result<Option<Offset>, StorageError> {
        let PartitionOptions { log, mut retention, .. } = *lock(&self.0.options);
        // The writer is asked only when there is something for it to do: there may be 10,000 of them.
        if self.0.keeper.must_seal(log.seal_age_ms, self.0.clock.now_ms())? {
            self.push(Request::SealIfOld);
        }
        if self.0.keeper.should_sync() {
            self.push(Request::Sync);
        }
        self.0.keeper.sync_sealed()?;
        self.0.keeper.checkpoint_active(limits::CHECKPOINT_BYTES)?;
        if now_ms.is_none() {
            retention.retention_ms = 0;
        }
        self.0.keeper.enforce(retention, now_ms.unwrap_or(TimestampMs::MIN))
    }

    /// The fencing token, if there is one.
    pub fn fencing_token(&self) -> Option<u64> {
        self.0.reader.fencing_token()
    }

    /// Raises the fencing token, or takes it away. When it returns, that is durable, and nothing is appended any more
    /// with a lower one.
    pub async fn fence(&self, token: Option<u64>) -> Result<(), AppendError> {
        let (reply, fenced) = oneshot::channel();
        self.push(Request::Fence(token, reply));
        fenced.await.unwrap_or(Err(AppendError::Closed))
    }

    /// One pass of compaction, if one is due. Blocks; call it from a thread of its own. For `now_ms` see
    /// [`PartitionHandle::keep`].
    pub fn compact_if_due(
        &self,
        now_ms: Option<TimestampMs>,
        pace: &mut Pace<'_>,
    ) -> Result<Option<CompactionOutcome>, StorageError> {
        let Some(policy) = lock(&self.0.options).compaction else { return Ok(None) };
        self.0.keeper.compact(policy, When::IfDue, now_ms, pace)
    }

    /// Seals what is being written and compacts everything, with as many passes as it takes; `None` if the partition is
    /// not compacted. `go_on` is asked all the time, and stops it with `false`.
    pub async fn compact_now(
        &self,
        now_ms: Option<TimestampMs>,
        mut go_on: impl FnMut() -> bool + Send + 'static,
    ) -> Result<Option<CompactionOutcome>, StorageError> {
        let Some(policy) = lock(&self.0.options).compaction else { return Ok(None) };
        let (reply, sealed) = oneshot::channel();
        self.push(Request::Seal(reply));
        sealed.await.unwrap_or(Ok(()))?;
        let keeper = self.0.keeper.clone();
        blocking(move || {
            keeper.sync_sealed()?;
            let mut sum = CompactionOutcome { is_complete: true, ..CompactionOutcome::default() };
            while let Some(pass) = keeper.compact(policy, When::Now, now_ms, &mut |_| go_on())? {
                sum = CompactionOutcome {
                    removed_records: sum.removed_records + pass.removed_records,
                    bytes_before: sum.bytes_before + pass.bytes_before,
                    bytes_after: sum.bytes_after + pass.bytes_after,
                    ..pass
                };
                if pass.is_complete || pass.is_stopped {
                    break;
                }
            }
            Ok(Some(sum))
        })
        .await
    }

    /// The offsets that were deleted since the last call, by whomever; each is given once.
    pub fn take_expired(&self) -> Option<Range<Offset>> {
        let log_start = self.0.reader.log_start();
        let told = Offset(self.0.told_start.fetch_max(log_start.0, Ordering::AcqRel));
        (told < log_start).then_some(told..log_start)
    }

    /// Finishes what is queued, makes everything durable and closes the log. Later appends are refused.
    pub async fn close(&self) -> Result<(), StorageError> {
        let (reply, closed) = oneshot::channel();
        self.push(Request::Close(reply));
        closed.await.unwrap_or(Ok(()))
    }

    /// Closes the log without making anything durable: its topic is gone. Nothing is written when this has ended.
    pub async fn discard(&self) {
        let (reply, closed) = oneshot::channel();
        self.push(Request::Discard(reply));
        let _ = closed.await;
    }

    /// Queues a request. A closed partition drops it, which its sender notices by the lost reply.
    fn push(&self, request: Request) {
        lock(&self.0.inbox).add(request);
        self.0.schedule();
    }
}

/// Runs disk work on tokio's threads for blocking calls.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if IS_SCHEDULED {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down; nobody is waiting for this any more.
            Err(_) => std::future::pending().await,
        },
    }
}

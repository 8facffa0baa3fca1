//! The inbox of a partition: what waits to be written, in order.
//!
//! It needs no bound of its own: every append carries a permit of the broker's in-flight budget, in bytes, and gives it
//! back when it is answered.

use crate::partition::options::PartitionOptions;
use crate::planted::{Bug, is_planted};
use crate::storage::StorageError;
use crate::storage::log::{Appended, BatchRefusal, NewBatch};
use crate::types::Durability;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// One drain takes requests up to about this many payload bytes, so that their answers do not wait for the whole of a
/// long inbox. Large enough that the cost of a sync is shared well.
const DRAIN_BYTES_MAX: usize = 4 << 20;

/// A batch whose records are in the log, and as durable as was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendAck {
    /// What was appended, now or, if it is a repeat, the first time.
    pub appended: Appended,
    /// What was reached, at least.
    pub durability: Durability,
}

/// Why a batch was not appended, or is not known to be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Nothing of it was appended.
    #[error(transparent)]
    Refused(StorageError),
    /// Nothing of it was appended, for a reason of its own.
    #[error(transparent)]
    Denied(BatchRefusal),
    /// It was written, but could not be made as durable as was asked: it may or may not be there after a restart.
    #[error("whether the records were appended is unknown: {0}")]
    OutcomeUnknown(StorageError),
    /// The partition is closed: the broker stops, or the topic was deleted.
    #[error("the partition is closed")]
    Closed,
}

/// What an append holds from when it is admitted until it is answered.
#[derive(Debug)]
pub struct Permit {
    /// Its share of the bytes that may be under way.
    pub bytes: OwnedSemaphorePermit,
    /// Its share in the present life of its producer, whose next one waits for it.
    pub producer: Option<OwnedSemaphorePermit>,
}

/// An append that waits.
#[derive(Debug)]
pub(super) struct AppendRequest {
    pub(super) batch: NewBatch,
    /// What the answer must wait for; `None` = what the topic promises.
    pub(super) durability: Option<Durability>,
    pub(super) reply: oneshot::Sender<Result<AppendAck, AppendError>>,
    /// Told when the batch is written, if its answer must wait for the sync.
    pub(super) written: Option<oneshot::Sender<()>>,
    /// Given back when the last request that shares it is dropped, which is after its answer.
    pub(super) _permit: Option<Arc<Permit>>,
}

impl AppendRequest {
    /// Whoever waits for no more goes on; the answer is still due.
    pub(super) fn told_that_it_is_written(mut self) -> Self {
        if let Some(written) = self.written.take() {
            // Who asked may be gone.
            let _ = written.send(());
        }
        self
    }
}

/// Something for the writer to do.
#[derive(Debug)]
pub(super) enum Request {
    Append(AppendRequest),
    SetOptions(PartitionOptions),
    SealIfOld,
    /// Sets the fencing token; `None` takes it away.
    Fence(Option<u64>, oneshot::Sender<Result<(), AppendError>>),
    Seal(oneshot::Sender<Result<(), StorageError>>),
    /// Upkeep wants its files to be closable.
    Sync,
    /// As [`Request::Close`], but what it holds is of no use to anybody any more.
    Discard(oneshot::Sender<()>),
    Close(oneshot::Sender<Result<(), StorageError>>),
}

/// What waits, and whether a pool thread already knows of it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Request>,
    scheduled: bool,
    closed: bool,
}

impl Inbox {
    /// Adds a request. Whether the partition must now be handed to the pool. A closed one drops it.
    pub(super) fn push(&mut self, request: Request) -> bool {
        if self.closed {
            return false;
        }
        self.closed = matches!(request, Request::Close(_) | Request::Discard(_));
        self.waiting.push_back(request);
        !std::mem::replace(&mut self.scheduled, true)
    }

    /// Takes one drain's worth.
    pub(super) fn drain(&mut self) -> Vec<Request> {
        let mut bytes = 0;
        let take = self.waiting.iter().take_while(|request| {
            let fits = bytes < DRAIN_BYTES_MAX;
            if let Request::Append(append) = request {
                bytes += append.batch.payload.len();
            }
            fits
        });
        let count = take.count();
        self.waiting.drain(..count).collect()
    }

    /// After a drain: whether the partition must be handed to the pool again.
    pub(super) fn must_reschedule(&mut self) -> bool {
        self.scheduled = !self.waiting.is_empty() && !is_planted(Bug::LostWakeUp);
        self.scheduled
    }
}

//! The inbox of a partition: what waits to be written, in order.
//!
//! It needs no bound of its own: every append carries a permit of the broker's in-flight budget, in bytes, and gives it
//! back when it is answered.

use crate::partition::options::PartitionOptions;
use crate::planted::{Bug, is_planted};
use crate::storage::StorageError;
use crate::storage::log::{Appended, BatchRefusal, NewBatch};
use crate::sync::IS_SCHEDULED;
use crate::types::Durability;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// One drain takes requests up to about this many payload bytes, so that their answers do not wait for the whole of a
/// long inbox. Large enough that the cost of a sync is shared well.
const DRAIN_BYTES_MAX: usize = 4 << 20;

/// While a sync is under way, what waits for one anyway is written after it, in one go, unless it is this much: then
/// the copying is worth being done meanwhile.
const WRITE_BESIDE_SYNC_BYTES: usize = if IS_SCHEDULED { 128 } else { 64 << 10 };

/// Appends of up to so many bytes may be written by whoever waits for them: copying that much takes a few microseconds,
/// waking a storage thread and being woken by it some tens.
const WRITE_IN_PLACE_BYTES_MAX: usize = 16 << 10;

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
    /// What the answer must wait for; `None` = what the topic promises, which the inbox puts here.
    pub(super) durability: Option<Durability>,
    pub(super) reply: oneshot::Sender<Result<AppendAck, AppendError>>,
    /// Told when the batch is written, if its answer must wait for the sync.
    pub(super) written: Option<oneshot::Sender<()>>,
    /// Given back when the last request that shares it is dropped, which is after its answer.
    pub(super) _permit: Option<Arc<Permit>>,
}

impl AppendRequest {
    /// Whether whoever waits for it waits only until it is written.
    fn is_hasty(&self) -> bool {
        self.durability == Some(Durability::Written)
    }

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
#[derive(Debug)]
pub(super) struct Inbox {
    waiting: VecDeque<Request>,
    /// Payload bytes of the appends among them.
    bytes: usize,
    /// Appends among them that are waited for only until they are written.
    hasty: usize,
    /// What the topic promises once all that waits has taken effect: so, what the next append is promised.
    promised: Durability,
    scheduled: bool,
    /// As the writer last said.
    sync: SyncState,
    closed: bool,
}

/// What the writer wants of the disk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SyncState {
    /// Something was written that is to be synced.
    pub(super) is_wanted: bool,
    /// A thread waits for a sync; what was written meanwhile is not part of it.
    pub(super) is_under_way: bool,
}

impl Inbox {
    /// An empty one, of a topic that promises `promised`.
    pub(super) fn new(promised: Durability) -> Self {
        let sync = SyncState::default();
        Self { waiting: VecDeque::new(), bytes: 0, hasty: 0, promised, scheduled: false, sync, closed: false }
    }

    /// Adds a request, which somebody must then see to ([`Self::must_schedule`]). A closed one drops it.
    pub(super) fn add(&mut self, mut request: Request) {
        if self.closed {
            return;
        }
        match &mut request {
            Request::Append(append) => {
                append.durability.get_or_insert(self.promised);
                self.bytes += append.batch.payload.len();
                self.hasty += usize::from(append.is_hasty());
            }
            Request::SetOptions(options) => self.promised = options.durability,
            Request::Close(_) | Request::Discard(_) => self.closed = true,
            _ => {}
        }
        self.waiting.push_back(request);
    }

    /// Whether a few small appends that wait for no sync are all there is to do.
    pub(super) fn is_light(&self) -> bool {
        let is_idle = !self.sync.is_wanted && !self.sync.is_under_way;
        let is_little = self.hasty == self.waiting.len() && self.bytes <= WRITE_IN_PLACE_BYTES_MAX;
        // Where more is promised, a sync follows.
        is_idle && is_little && self.hasty > 0 && self.promised == Durability::Written
    }

    /// What waits to be appended.
    pub(super) fn batches(&self) -> impl Iterator<Item = &NewBatch> {
        self.waiting.iter().filter_map(|request| match request {
            Request::Append(append) => Some(&append.batch),
            _ => None,
        })
    }

    /// Takes one drain's worth. While a sync is under way that is appends only: everything else may touch what is synced.
    pub(super) fn drain(&mut self) -> Vec<Request> {
        let (mut bytes, mut hasty) = (0, 0);
        let take = self.waiting.iter().take_while(|request| match request {
            Request::Append(append) => {
                let fits = bytes < DRAIN_BYTES_MAX;
                if fits {
                    bytes += append.batch.payload.len();
                    hasty += usize::from(append.is_hasty());
                }
                fits
            }
            _ => !self.sync.is_under_way,
        });
        let count = take.count();
        self.bytes -= bytes;
        self.hasty -= hasty;
        self.waiting.drain(..count).collect()
    }

    /// Said by whoever has the writer.
    pub(super) fn set_sync(&mut self, sync: SyncState) {
        self.sync = sync;
    }

    /// After a drain, or when a sync has begun: whether the partition must be handed to the pool again.
    pub(super) fn must_reschedule(&mut self) -> bool {
        self.scheduled = false;
        !is_planted(Bug::LostWakeUp) && self.must_schedule()
    }

    /// Whether the partition must be handed to the pool, because there is something to do that no thread knows of.
    pub(super) fn must_schedule(&mut self) -> bool {
        let is_due = if self.sync.is_under_way {
            let is_append = matches!(self.waiting.front(), Some(Request::Append(_)));
            is_append && (self.hasty > 0 || self.bytes >= WRITE_BESIDE_SYNC_BYTES)
        } else {
            self.sync.is_wanted || !self.waiting.is_empty()
        };
        is_due && !std::mem::replace(&mut self.scheduled, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::record_set;

    const UNDER_WAY: SyncState = SyncState { is_wanted: false, is_under_way: true };

    fn append(value_bytes: usize, durability: Option<Durability>) -> Request {
        let mut set = bytes::BytesMut::new();
        record_set::encode_record(&mut set, None, Some(&vec![7; value_bytes]), std::iter::empty(), None);
        let payload = set.freeze();
        let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
        let (reply, _) = oneshot::channel();
        let batch = NewBatch::new(payload, summary);
        Request::Append(AppendRequest { batch, durability, reply, written: None, _permit: None })
    }

    /// Adds it. Whether the partition must now be handed to the pool.
    fn push(inbox: &mut Inbox, request: Request) -> bool {
        inbox.add(request);
        inbox.must_schedule()
    }

    /// An inbox whose partition is synced now.
    fn while_synced() -> Inbox {
        let mut inbox = Inbox::new(Durability::Synced);
        inbox.set_sync(UNDER_WAY);
        inbox
    }

    #[test]
    fn what_waits_for_a_sync_anyway_waits_for_the_one_under_way() {
        let mut inbox = while_synced();
        assert!(!push(&mut inbox, append(10, None)) && !push(&mut inbox, append(10, Some(Durability::Synced))));
        inbox.set_sync(SyncState::default());
        assert!(inbox.must_schedule(), "it is their turn");
        assert_eq!(inbox.drain().len(), 2);
        assert!(!inbox.must_reschedule());
    }

    #[test]
    fn who_asks_for_less_or_brings_much_is_written_meanwhile() {
        for urgent in [append(10, Some(Durability::Written)), append(WRITE_BESIDE_SYNC_BYTES, None)] {
            let mut inbox = while_synced();
            assert!(!push(&mut inbox, append(10, None)));
            assert!(push(&mut inbox, urgent));
            assert_eq!(inbox.drain().len(), 2, "with what came before it");
            assert!(!inbox.must_reschedule() && !push(&mut inbox, append(10, None)), "nothing urgent is left");
        }
    }

    #[test]
    fn nothing_but_appends_is_done_beside_a_sync() {
        let mut inbox = while_synced();
        assert!(!push(&mut inbox, Request::SealIfOld));
        assert!(!push(&mut inbox, append(10, Some(Durability::Written))), "order is kept");
        assert!(inbox.drain().is_empty());
        inbox.set_sync(SyncState::default());
        assert!(inbox.must_reschedule());
        assert_eq!(inbox.drain().len(), 2);
    }

    #[test]
    fn what_was_written_beside_a_sync_is_synced_after_it_although_nothing_waits() {
        let mut inbox = while_synced();
        inbox.set_sync(SyncState { is_wanted: true, is_under_way: true });
        assert!(!inbox.must_reschedule());
        inbox.set_sync(SyncState { is_wanted: true, is_under_way: false });
        assert!(inbox.must_schedule() && inbox.drain().is_empty());
    }

    #[test]
    fn light_is_a_little_that_waits_for_no_sync_where_none_is_promised() {
        let light = |promised, requests: Vec<Request>, sync| {
            let mut inbox = Inbox::new(promised);
            inbox.set_sync(sync);
            for request in requests {
                inbox.add(request);
            }
            inbox.is_light()
        };
        let (written, idle) = (Durability::Written, SyncState::default());
        assert!(light(written, vec![append(10, None), append(10, Some(written))], idle));
        assert!(!light(written, Vec::new(), idle), "there is nothing to do");
        assert!(!light(Durability::Synced, vec![append(10, Some(written))], idle), "a sync follows");
        assert!(!light(written, vec![append(10, Some(Durability::Synced)), append(10, None)], idle));
        assert!(!light(written, vec![append(10, None), Request::SealIfOld], idle));
        assert!(
            !light(written, vec![append(WRITE_IN_PLACE_BYTES_MAX, None)], idle),
            "its record is longer than its value"
        );
        assert!(!light(written, vec![append(10, None)], UNDER_WAY));
        assert!(!light(written, vec![append(10, None)], SyncState { is_wanted: true, is_under_way: false }));
    }
}

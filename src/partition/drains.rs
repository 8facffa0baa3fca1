//! Who does a drain of a partition: a storage thread, or, if it is one small write and the disk has nothing else to do, whoever
//! waits for it.
//!
//! To wake a storage thread, and to be woken by it, costs tens of microseconds; to copy a few kilobytes into the page cache
//! costs a few. But a write may also wait for the disk, and then the thread that does it, which may serve every
//! connection, waits too. So it is done in place only if nothing but that write is needed (no file is made, opened, grown or
//! synced), no storage thread is at work, and nobody else writes in place; and for some time not at all after a write that
//! was slow (`pool`).

use crate::clock::SharedClock;
use crate::partition::inbox::{AppendAck, AppendError, Inbox};
use crate::partition::options::PartitionOptions;
use crate::partition::pool::{RunQueue, Work};
use crate::partition::writer::{SyncUnderWay, Writer};
use crate::planted::{Bug, is_planted};
use crate::storage::keeper::LogKeeper;
use crate::storage::scrub::LogScrubber;
use crate::storage::{LogReader, StorageError};
use crate::sync::{Mutex, MutexGuard};
use crate::types::Offset;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{oneshot, watch};

/// The partition itself; shared by its handles and, while it has work, the run queue.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) inbox: Mutex<Inbox>,
    pub(super) writer: Mutex<Writer>,
    pub(super) options: Mutex<PartitionOptions>,
    pub(super) reader: LogReader,
    pub(super) keeper: LogKeeper,
    pub(super) scrubber: LogScrubber,
    pub(super) high_watermark: watch::Sender<Offset>,
    /// Deletions up to here were taken by [`PartitionHandle::take_expired`].
    pub(super) told_start: AtomicU64,
    pub(super) run_queue: Arc<RunQueue>,
    pub(super) clock: SharedClock,
}

impl Work for Partition {
    fn run(self: Arc<Self>) -> bool {
        let (begun, result) = {
            // Whoever has the writer takes what is written next: so it is written in the order in which it came.
            let mut writer = lock(&self.writer);
            let drain = lock(&self.inbox).drain();
            let handled = writer.handle(drain, &self.clock, &self.high_watermark);
            lock(&self.inbox).set_sync(writer.sync_state());
            handled
        };
        self.report_failure(result);
        let Some(sync) = begun else { return lock(&self.inbox).must_reschedule() };
        self.sync(sync);
        lock(&self.inbox).must_schedule()
    }
}

impl Partition {
    /// Hands what waits to the storage threads, unless one knows of it.
    pub(super) fn schedule(self: &Arc<Self>) {
        if lock(&self.inbox).must_schedule() {
            self.run_queue.push(Arc::clone(self) as Arc<dyn Work>);
        }
    }

    /// Writes what waits on this thread, which waits for it, if that takes less than to wake another; otherwise as
    /// [`Self::schedule`].
    pub(super) fn write_in_place(self: &Arc<Self>) {
        let (is_light, is_ours) = {
            let mut inbox = lock(&self.inbox);
            (inbox.is_light(), inbox.must_schedule())
        };
        if is_ours && (!is_light || self.try_write_in_place().unwrap_or(true)) {
            self.run_queue.push(Arc::clone(self) as Arc<dyn Work>);
        }
    }

    /// `None` if it is not to be done here. Otherwise whether there is more to do.
    fn try_write_in_place(&self) -> Option<bool> {
        let _in_place = self.run_queue.in_place()?;
        let mut writer = self.writer.try_lock().ok()?;
        let drain = {
            let mut inbox = lock(&self.inbox);
            let is_possible = inbox.is_light() && writer.is_one_write(inbox.batches());
            is_possible.then(|| inbox.drain())?
        };
        let written = writer.write_in_place(drain, &self.clock, &self.high_watermark);
        let mut inbox = lock(&self.inbox);
        inbox.set_sync(writer.sync_state());
        let is_more = inbox.must_reschedule();
        drop((inbox, writer));
        self.report_failure(written);
        Some(is_more)
    }

    /// Waits for the disk. What is urgent is written meanwhile by another thread, if there is one.
    fn sync(self: &Arc<Self>, sync: SyncUnderWay) {
        if lock(&self.inbox).must_reschedule() {
            self.run_queue.push(Arc::clone(self) as Arc<dyn Work>);
        }
        let synced = sync.run();
        let ended = {
            let mut writer = lock(&self.writer);
            let ended = writer.end_sync(sync, synced, &self.high_watermark);
            lock(&self.inbox).set_sync(writer.sync_state());
            ended
        };
        self.report_failure(ended);
    }

    fn report_failure(&self, result: Result<(), StorageError>) {
        if let Err(error) = result {
            tracing::error!(%error, "a partition cannot be written any more; the broker must be restarted");
            self.run_queue.fail(&error.to_string());
        }
    }
}

/// An append that is queued: its place in the order is fixed. Ends with its answer.
///
/// It may be that no storage thread knows of it yet: then it is written as [`PendingAppend::write`] says when that is
/// called or somebody begins to wait for the answer, and by a storage thread if nobody ever does.
#[derive(Debug)]
pub struct PendingAppend {
    pub(super) answer: oneshot::Receiver<Result<AppendAck, AppendError>>,
    /// Where it waits, if nobody may have been told.
    pub(super) untold: Option<Arc<Partition>>,
}

impl PendingAppend {
    /// Sees to it that it is written: here and now, if that is one small write and the disk has nothing else to do; if not,
    /// by a storage thread. To be called when nothing more is to be queued that could be part of the same write.
    pub fn write(&mut self) {
        if let Some(partition) = self.untold.take() {
            partition.write_in_place();
        }
    }
}

impl Future for PendingAppend {
    type Output = Result<AppendAck, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.write();
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}

impl Drop for PendingAppend {
    fn drop(&mut self) {
        if let Some(partition) = self.untold.take().filter(|_| !is_planted(Bug::UnwaitedAppendForgotten)) {
            partition.schedule();
        }
    }
}

/// Locks; a panic of whoever writes ends the process, so a poisoned lock is never met.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "drains_tests.rs"]
mod tests;

//! The writer of a partition: one drain of its inbox at a time, on a storage thread.
//!
//! Order of a drain, and why: write all batches; show them to readers and answer those that asked for no more, if the
//! topic promises no more; sync once for everybody; show and answer the rest. Readers never see a record that is less
//! durable than the topic promises, and nobody is told more than is true.
//!
//! The sync runs without the writer, so that more can be written meanwhile; there is one at a time, and what was written
//! beside it is synced by the next one.

use crate::clock::SharedClock;
use crate::metrics::Metrics;
use crate::partition::inbox::{AppendAck, AppendError, AppendRequest, Request, SyncState};
use crate::partition::options::PartitionOptions;
use crate::planted::{Bug, is_planted};
use crate::storage::log::{AppendOutcome, Appended, NewBatch};
use crate::storage::{Log, LogSync, StorageError};
use crate::types::{Durability, Offset};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// What one storage thread at a time touches.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` once closed.
    log: Option<Log>,
    durability: Durability,
    /// What was written and is answered when it is synced.
    to_sync: Vec<(Appended, AppendRequest)>,
    sync: SyncState,
    metrics: Arc<Metrics>,
}

/// A sync that has begun, and who waits for it.
#[derive(Debug)]
pub(super) struct SyncUnderWay {
    sync: LogSync,
    waiting: Vec<(Appended, AppendRequest)>,
    metrics: Arc<Metrics>,
}

impl SyncUnderWay {
    /// Waits for the disk.
    pub(super) fn run(&self) -> Result<(), StorageError> {
        let started = Instant::now();
        let synced = self.sync.run();
        self.metrics.synced(started.elapsed());
        synced
    }
}

impl Writer {
    pub(super) fn new(log: Log, durability: Durability, metrics: Arc<Metrics>) -> Self {
        Self { log: Some(log), durability, to_sync: Vec::new(), sync: SyncState::default(), metrics }
    }

    /// What it wants of the disk.
    pub(super) fn sync_state(&self) -> SyncState {
        self.sync
    }

    /// Whether a drain of these is one write and nothing else.
    pub(super) fn is_one_write<'a>(&self, batches: impl Iterator<Item = &'a NewBatch>) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_one_write(batches))
    }

    /// Writes one drain. Begins the sync that it needs, unless one is under way: whoever gets it must run it and say how it
    /// went ([`Self::end_sync`]). An error means that the log failed for good; everyone waiting was answered.
    pub(super) fn handle(
        &mut self,
        drain: Vec<Request>,
        clock: &SharedClock,
        high_watermark: &watch::Sender<Offset>,
    ) -> (Option<SyncUnderWay>, Result<(), StorageError>) {
        let result = self.write(drain, clock, high_watermark);
        if self.sync.is_under_way {
            return (None, result);
        }
        match self.begin_sync() {
            Ok(None) => {
                // Everybody was answered: what is done now delays only who comes next, and saves them more.
                self.log.as_mut().map(Log::prepare_ahead);
                (None, result)
            }
            Ok(begun) => (begun, result),
            Err(error) => (None, result.and(Err(error))),
        }
    }

    /// As [`Self::write`], by a thread that has other things to do than to wait for the disk.
    pub(super) fn write_in_place(
        &mut self,
        drain: Vec<Request>,
        clock: &SharedClock,
        high_watermark: &watch::Sender<Offset>,
    ) -> Result<(), StorageError> {
        let begun = Instant::now();
        let written = self.write(drain, clock, high_watermark);
        self.metrics.written_in_place(begun.elapsed());
        written
    }

    /// Writes one drain, and leaves the sync that it may need for later. An error as of [`Self::handle`].
    fn write(
        &mut self,
        drain: Vec<Request>,
        clock: &SharedClock,
        high_watermark: &watch::Sender<Offset>,
    ) -> Result<(), StorageError> {
        let mut appends = Vec::with_capacity(drain.len());
        let mut result = Ok(());
        for request in drain {
            if let Request::Append(append) = request {
                appends.push(append);
                continue;
            }
            // Requests of other kinds take effect between the appends before and after them.
            debug_assert!(!self.sync.is_under_way, "they wait in the inbox");
            let appended = self.append(std::mem::take(&mut appends), clock, high_watermark);
            result = result.and(appended).and(self.sync_now(high_watermark)).and(self.control(request, clock));
        }
        result.and(self.append(appends, clock, high_watermark))
    }

    /// Begins a sync if one is wanted.
    fn begin_sync(&mut self) -> Result<Option<SyncUnderWay>, StorageError> {
        let is_wanted = std::mem::take(&mut self.sync.is_wanted);
        let Some(log) = self.log.as_mut().filter(|_| is_wanted) else { return Ok(None) };
        let waiting = std::mem::take(&mut self.to_sync);
        match log.begin_sync() {
            Ok(sync) => {
                self.sync.is_under_way = true;
                Ok(Some(SyncUnderWay { sync, waiting, metrics: Arc::clone(&self.metrics) }))
            }
            Err(error) => {
                answer_synced(waiting, &Err(error.clone()));
                Err(error)
            }
        }
    }

    /// Says how a sync went: shows what is durable now, and answers who waited for it.
    pub(super) fn end_sync(
        &mut self,
        under_way: SyncUnderWay,
        synced: Result<(), StorageError>,
        high_watermark: &watch::Sender<Offset>,
    ) -> Result<(), StorageError> {
        let SyncUnderWay { sync, waiting, .. } = under_way;
        self.sync.is_under_way = false;
        let log = self.log.as_mut().expect("a log is not closed while it is synced");
        let synced = log.end_sync(&sync, synced);
        // Only what was synced: after a sync that failed nothing is written any more, and the records before it must not
        // be shown because the drain after it has nothing to complain about.
        if synced.is_ok() {
            let counts_later = is_planted(Bug::SyncCountsLaterWrites);
            show(high_watermark, if counts_later { log.next_offset() } else { sync.end() });
        }
        answer_synced(waiting, &synced);
        log.prepare_ahead();
        synced
    }

    /// Syncs what is wanted before it goes on.
    fn sync_now(&mut self, high_watermark: &watch::Sender<Offset>) -> Result<(), StorageError> {
        let Some(sync) = self.begin_sync()? else { return Ok(()) };
        let synced = sync.run();
        self.end_sync(sync, synced, high_watermark)
    }

    fn control(&mut self, request: Request, clock: &SharedClock) -> Result<(), StorageError> {
        match (request, &mut self.log) {
            (Request::SetOptions(PartitionOptions { log: options, durability, .. }), Some(log)) => {
                self.durability = durability;
                log.set_options(options);
                Ok(())
            }
            (Request::SealIfOld, Some(log)) => log.seal_if_old(clock.now_ms()),
            (Request::Fence(token, reply), log) => {
                let fenced =
                    log.as_mut().map_or(Err(AppendError::Closed), |log| log.fence(token).map_err(AppendError::Denied));
                let _ = reply.send(fenced);
                Ok(())
            }
            (Request::Seal(reply), Some(log)) => {
                let sealed = log.seal_now().and_then(|()| log.sync());
                let _ = reply.send(sealed.clone());
                sealed
            }
            (Request::Sync, Some(_)) => {
                self.sync.is_wanted = true;
                Ok(())
            }
            (Request::Discard(reply), log) => {
                if let Some(log) = log.take() {
                    log.discard();
                }
                let _ = reply.send(());
                Ok(())
            }
            (Request::Close(reply), log) => {
                let _ = reply.send(log.take().map_or(Ok(()), Log::close));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn append(
        &mut self,
        requests: Vec<AppendRequest>,
        clock: &SharedClock,
        high_watermark: &watch::Sender<Offset>,
    ) -> Result<(), StorageError> {
        if requests.is_empty() {
            return Ok(());
        }
        let Some(log) = &mut self.log else {
            answer_all(requests, || Err(AppendError::Closed));
            return Ok(());
        };
        if is_planted(Bug::AckBeforeWrite) {
            acknowledge_then_write(log, requests, clock, high_watermark);
            return Ok(());
        }
        let batches: Vec<NewBatch> = requests.iter().map(|request| request.batch.clone()).collect();
        let AppendOutcome { results, error: refusal } = log.append(&batches, clock.now_ms());
        let is_new = |result: &&Result<Appended, _>| result.as_ref().is_ok_and(|appended| !appended.duplicate);
        let written = results.iter().filter(is_new).count();
        self.metrics.append_drained(written as u64);

        let promised = self.durability;
        let wanted = |request: &AppendRequest| request.durability.unwrap_or(promised);
        if promised == Durability::Written || is_planted(Bug::WatermarkBeforeSync) {
            show(high_watermark, log.next_offset());
        }
        let mut requests = requests.into_iter();
        // The results lead: when they end, the requests that the log's error is about are still there.
        for (result, request) in results.into_iter().zip(requests.by_ref()) {
            match result {
                // Also a repeat: that the original is in the log does not mean that it is on the disk.
                Ok(appended) if wanted(&request) == Durability::Synced && !is_early(&appended) => {
                    self.to_sync.push((appended, request.told_that_it_is_written()));
                }
                Ok(appended) => {
                    let durability = wanted(&request);
                    answer(request.told_that_it_is_written(), Ok(AppendAck { appended, durability }));
                }
                Err(refusal) => answer(request, Err(AppendError::Denied(refusal))),
            }
        }
        let must_sync = !self.to_sync.is_empty() || (written > 0 && promised == Durability::Synced);
        // Also when nobody waits for it: files that are not synced cannot be closed for those of other partitions.
        self.sync.is_wanted |= must_sync || log.should_sync();
        if is_planted(Bug::FailedSyncIsShownLater) && !self.sync.is_wanted {
            show(high_watermark, log.next_offset());
        }
        let Some(error) = refusal else { return Ok(()) };
        answer_all(requests, || Err(AppendError::Refused(error.clone())));
        // Some failures pass, a full disk for one; others closed the log for good.
        let for_good = matches!(error, StorageError::Poisoned { .. });
        if for_good { Err(error) } else { Ok(()) }
    }
}

/// Answers those who waited for a sync.
fn answer_synced(waiting: Vec<(Appended, AppendRequest)>, synced: &Result<(), StorageError>) {
    for (appended, request) in waiting {
        let acknowledged = match synced {
            Ok(()) => Ok(AppendAck { appended, durability: Durability::Synced }),
            Err(error) => Err(AppendError::OutcomeUnknown(error.clone())),
        };
        answer(request, acknowledged);
    }
}

/// A repeat that is told to be on the disk before anyone has seen to that: a bug on purpose.
fn is_early(appended: &Appended) -> bool {
    appended.duplicate && is_planted(Bug::DuplicateAckedBeforeSync)
}

/// What is acknowledged is written a moment later: a bug on purpose.
fn acknowledge_then_write(
    log: &mut Log,
    requests: Vec<AppendRequest>,
    clock: &SharedClock,
    high_watermark: &watch::Sender<Offset>,
) {
    let (append_time_ms, mut base_offset) = (clock.now_ms(), log.next_offset());
    let mut batches = Vec::with_capacity(requests.len());
    for request in requests {
        let record_count = request.batch.summary.record_count;
        batches.push(request.batch.clone());
        let appended = Appended { base_offset, record_count, append_time_ms, duplicate: false, duplicates: Vec::new() };
        answer(request.told_that_it_is_written(), Ok(AppendAck { appended, durability: Durability::Synced }));
        base_offset = base_offset.advance(record_count.into());
    }
    std::thread::park_timeout(std::time::Duration::from_millis(5));
    log.append(&batches, append_time_ms);
    show(high_watermark, log.next_offset());
}

/// Moves the high watermark; it never moves down.
fn show(high_watermark: &watch::Sender<Offset>, end: Offset) {
    high_watermark.send_if_modified(|shown| {
        let moved = end > *shown;
        *shown = end.max(*shown);
        moved
    });
}

fn answer_all(requests: impl IntoIterator<Item = AppendRequest>, result: impl Fn() -> Result<AppendAck, AppendError>) {
    for request in requests {
        answer(request, result());
    }
}

/// Whoever asked may be gone; the append stands all the same.
fn answer(request: AppendRequest, result: Result<AppendAck, AppendError>) {
    let _ = request.reply.send(result);
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;

//! The writer of a partition: one drain of its inbox at a time, on a storage thread.
//!
//! Order of a drain, and why: write all batches; show them to readers and answer those that asked for no more, if the
//! topic promises no more; sync once for everybody; show and answer the rest. Readers never see a record that is less
//! durable than the topic promises, and nobody is told more than is true.

use crate::clock::SharedClock;
use crate::metrics::Metrics;
use crate::partition::inbox::{AppendAck, AppendError, AppendRequest, Request};
use crate::partition::options::PartitionOptions;
use crate::planted::{Bug, is_planted};
use crate::storage::log::{AppendOutcome, NewBatch};
use crate::storage::{Log, StorageError};
use crate::types::{Durability, Offset};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// What only the storage thread touches.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` once closed.
    log: Option<Log>,
    durability: Durability,
    metrics: Arc<Metrics>,
}

impl Writer {
    pub(super) fn new(log: Log, durability: Durability, metrics: Arc<Metrics>) -> Self {
        Self { log: Some(log), durability, metrics }
    }

    /// Handles one drain. An error means that the log failed for good; everyone waiting was answered.
    pub(super) fn handle(
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
            let appended = self.append(std::mem::take(&mut appends), clock, high_watermark);
            result = result.and(appended).and(self.control(request, clock));
        }
        result.and(self.append(appends, clock, high_watermark))
    }

    fn control(&mut self, request: Request, clock: &SharedClock) -> Result<(), StorageError> {
        match (request, &mut self.log) {
            (Request::SetOptions(PartitionOptions { log: options, durability, .. }), Some(log)) => {
                self.durability = durability;
                log.set_options(options);
                Ok(())
            }
            (Request::SealIfOld, Some(log)) => log.seal_if_old(clock.now_ms()),
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
        let batches: Vec<NewBatch> = requests.iter().map(|request| request.batch.clone()).collect();
        let AppendOutcome { base_offsets, append_time_ms, error: refusal } = log.append(&batches, clock.now_ms());
        self.metrics.append_drained(base_offsets.len() as u64);

        let promised = self.durability;
        let any_written = !base_offsets.is_empty();
        let mut requests = requests.into_iter();
        // The offsets lead: when they end, the requests that were refused are still there.
        let (to_sync, as_written): (Vec<_>, Vec<_>) = base_offsets
            .into_iter()
            .zip(requests.by_ref())
            .partition(|(_, request)| request.durability.unwrap_or(promised) == Durability::Synced);
        let ack = |base_offset, durability| Ok(AppendAck { base_offset, append_time_ms, durability });
        if promised == Durability::Written || is_planted(Bug::WatermarkBeforeSync) {
            show(high_watermark, log.next_offset());
        }
        for (base, request) in as_written {
            answer(request, ack(base, Durability::Written));
        }

        let must_sync = any_written && (promised == Durability::Synced || !to_sync.is_empty());
        let synced = if must_sync { timed_sync(log, &self.metrics) } else { Ok(()) };
        // Only what was synced here: after a sync that failed nothing is written any more, and the records before it
        // must not be shown because the drain after it has nothing to complain about.
        if synced.is_ok() && (must_sync || is_planted(Bug::FailedSyncIsShownLater)) {
            show(high_watermark, log.next_offset());
        }
        for (base, request) in to_sync {
            let unknown = |error: &StorageError| AppendError::OutcomeUnknown(error.clone());
            answer(request, synced.as_ref().map_err(unknown).and_then(|()| ack(base, Durability::Synced)));
        }
        let Some(error) = refusal else { return synced };
        answer_all(requests, || Err(AppendError::Refused(error.clone())));
        // A full disk passes; anything else closed the log for good.
        let for_good = matches!(error, StorageError::Poisoned { .. });
        synced.and(if for_good { Err(error) } else { Ok(()) })
    }
}

fn timed_sync(log: &mut Log, metrics: &Metrics) -> Result<(), StorageError> {
    let started = Instant::now();
    let synced = log.sync();
    metrics.synced(started.elapsed());
    synced
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

//! Reading: fetch with long poll, and offsets of positions.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::filtering::{Selected, select};
use crate::broker::topic_table::Topic;
use crate::filter::Filter;
use crate::limits;
use crate::partition::PartitionOffsets;
use crate::storage::reader::{StoredBatch, StoredBatches};
use crate::types::{Offset, Position};
use futures_util::future::{FutureExt as _, select_all};
use std::sync::Arc;
use std::time::Duration;

/// What a fetch asks for.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Where to read: topic, partition, first offset.
    pub positions: Vec<(String, u32, Offset)>,
    /// Stop adding records at about this many bytes.
    pub bytes_max: usize,
    /// Answer at once when this many bytes are there.
    pub bytes_min: usize,
    /// Wait no longer than this for them.
    pub wait_max: Duration,
    /// Only records that match.
    pub filter: Option<Filter>,
}

/// What was read of one partition.
#[derive(Debug, Default)]
pub struct Fetched {
    /// From the offset asked for on; empty if nothing came in time.
    pub batches: Vec<StoredBatch>,
    /// What to ask for next.
    pub next_offset: Offset,
    /// First retained offset.
    pub log_start: Offset,
    /// Readers see offsets below this.
    pub high_watermark: Offset,
    /// Bytes of records that were read, also of those that do not match.
    read_bytes: usize,
}

/// The result of each position, in the order asked.
pub type FetchResults = Vec<Result<Fetched, BrokerError>>;

impl Broker {
    /// Reads from given offsets; waits for enough records, for time, or for the broker to stop.
    pub async fn fetch(&self, mut request: Fetch) -> Result<FetchResults, BrokerError> {
        if request.positions.is_empty() || request.positions.len() > limits::FETCH_POSITIONS_MAX {
            let (count, most) = (request.positions.len(), limits::FETCH_POSITIONS_MAX);
            return Err(BrokerError::invalid("positions", format!("{count} were given; 1 to {most} are allowed")));
        }
        let deadline = tokio::time::Instant::now() + request.wait_max;
        let mut bytes_before = None;
        loop {
            let results = self.read_all(&request).await;
            let bytes: usize = results.iter().flatten().map(Fetched::bytes).sum();
            let failed = results.iter().any(Result::is_err);
            let may_go_on = || !failed && !self.shutdown.is_draining() && tokio::time::Instant::now() < deadline;
            if request.filter.is_some() && bytes == 0 && may_go_on() && request.pass_over(&results) {
                // A long way without a match must not keep others from their turn.
                tokio::task::yield_now().await;
                bytes_before = None;
                continue;
            }
            // A second look comes only when there is more to read. If it brought nothing, what is there does not fit
            // into `bytes_max`, and no waiting will change that.
            let is_full = bytes_before.replace(bytes) == Some(bytes);
            if failed || is_full || bytes >= request.bytes_min.max(1) || self.shutdown.is_draining() {
                self.count(&request, &results);
                return Ok(results);
            }
            let more = self.wait_for_more(&request, &results);
            tokio::select! {
                () = more => {}
                () = tokio::time::sleep_until(deadline) => {
                    self.count(&request, &results);
                    return Ok(results);
                }
                () = self.shutdown.draining() => {}
            }
        }
    }

    async fn read_all(&self, request: &Fetch) -> FetchResults {
        let mut results = Vec::with_capacity(request.positions.len());
        let mut budget = request.bytes_max;
        for (topic, partition, offset) in &request.positions {
            // When the budget is used up, the remaining partitions still report their offsets.
            let result = self.read_one(topic, *partition, *offset, budget, request.filter.as_ref()).await;
            budget = budget.saturating_sub(result.as_ref().map_or(0, |fetched| fetched.read_bytes));
            results.push(result);
        }
        results
    }

    async fn read_one(
        &self,
        topic: &str,
        number: u32,
        from: Offset,
        bytes: usize,
        filter: Option<&Filter>,
    ) -> Result<Fetched, BrokerError> {
        let topic = self.topic(topic)?;
        let partition = topic.partition(number)?;
        let found = if bytes == 0 { Ok(StoredBatches::none_at(from)) } else { partition.read(from, bytes).await };
        let found = found.map_err(|error| BrokerError::storage(topic.at(number), error))?;
        let PartitionOffsets { log_start, high_watermark, .. } = partition.offsets();
        let read_bytes = found.iter().map(|batch| batch.payload.len()).sum();
        let Selected { batches, next_offset } = match filter {
            Some(filter) => select(filter, found, u64::MAX, usize::MAX),
            None => Selected { next_offset: found.next_offset, batches: found.into_vec() },
        };
        Ok(Fetched { batches, next_offset, log_start, high_watermark, read_bytes })
    }

    /// Ends when a partition has records beyond those of `results`.
    async fn wait_for_more(&self, request: &Fetch, results: &FetchResults) {
        let mut waits = Vec::with_capacity(results.len());
        for ((topic, partition, _), result) in request.positions.iter().zip(results) {
            let (Ok(topic), Ok(fetched)) = (self.topic(topic), result) else { return };
            let Ok(partition) = topic.partition(*partition) else { return };
            let mut moved = partition.watch_high_watermark();
            let next_offset = fetched.next_offset;
            waits.push(async move { drop(moved.wait_for(|end| *end > next_offset).await) }.boxed());
        }
        if !waits.is_empty() {
            select_all(waits).await;
        }
    }

    fn count(&self, request: &Fetch, results: &FetchResults) {
        for ((topic, ..), fetched) in request.positions.iter().zip(results) {
            if let (Ok(topic), Ok(fetched)) = (self.topic(topic), fetched) {
                count_batches(&topic, &fetched.batches);
            }
        }
    }

    /// The offset of a position in a partition, with its offsets.
    pub async fn resolve(
        &self,
        topic: &str,
        number: u32,
        position: Position,
    ) -> Result<(Offset, PartitionOffsets), BrokerError> {
        let topic = self.topic(topic)?;
        let partition = topic.partition(number)?;
        let offset = partition.resolve(position).await;
        let offset = offset.map_err(|error| BrokerError::storage(topic.at(number), error))?;
        Ok((offset, partition.offsets()))
    }
}

impl Fetch {
    /// Goes on behind what did not match. Whether there was any.
    fn pass_over(&mut self, results: &FetchResults) -> bool {
        let mut has_moved = false;
        for ((_, _, offset), fetched) in self.positions.iter_mut().zip(results.iter().flatten()) {
            has_moved |= fetched.next_offset > *offset;
            *offset = fetched.next_offset;
        }
        has_moved
    }
}

impl Fetched {
    fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.payload.len()).sum()
    }
}

/// Counts batches that are sent to a reader.
pub(super) fn count_batches(topic: &Arc<Topic>, batches: &[StoredBatch]) {
    for batch in batches {
        topic.metrics.fetched(batch.record_count.into(), batch.payload.len() as u64);
    }
}

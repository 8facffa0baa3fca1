//! Where records wait to be sent: one open batch per partition, sealed ones in order, and all the counting.
//!
//! Pure state, no I/O; the time comes in. Bytes are counted from the moment a record is taken until its batch is
//! settled, wherever the batch is meanwhile, so memory is bounded by `buffer_bytes_max` and one record.

use super::ProducerTotals;
use super::batch::{Batch, OpenBatch};
use super::partition_choice::PartitionChoice;
use super::receipt::{BatchAck, Outcome, Receipt};
use super::record::NewRecord;
use crate::client::ClientError;
use crate::types::TopicName;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Up to this many open batches are made with the capacity of a full one.
const BUSY_PARTITIONS: usize = 16;

/// The bounds of an accumulator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) batch_bytes: usize,
    pub(super) record_bytes_max: usize,
    pub(super) buffer_bytes_max: usize,
    pub(super) linger: Duration,
}

/// Whether a record was taken.
#[derive(Debug)]
pub(super) enum Admission {
    /// `wake`: the pump has something new to do.
    Taken { receipt: Receipt, wake: bool },
    /// Too much is not acknowledged yet.
    Full,
}

#[derive(Debug)]
pub(super) struct Accumulator {
    topic: TopicName,
    bounds: Bounds,
    choice: PartitionChoice,
    /// By partition; grown when a partition is first used.
    open: Vec<Option<OpenBatch>>,
    /// Which partitions opened a batch, and when, oldest first. Entries of batches sealed since are skipped.
    opened: VecDeque<(Instant, u32)>,
    sealed: VecDeque<Batch>,
    sealed_count: u64,
    /// Every batch not yet settled, in the order they were opened: what a flush waits for.
    unsettled: VecDeque<Arc<Outcome>>,
    buffered_bytes: usize,
    /// Bytes of the last batch that was sealed because it was full: the capacity the next one begins with.
    full_batch_bytes: usize,
    totals: ProducerTotals,
    failure: Option<ClientError>,
    closed: bool,
}

impl Accumulator {
    pub(super) fn new(topic: TopicName, bounds: Bounds, choice: PartitionChoice) -> Self {
        Self {
            topic,
            bounds,
            choice,
            open: Vec::new(),
            opened: VecDeque::new(),
            sealed: VecDeque::new(),
            sealed_count: 0,
            unsettled: VecDeque::new(),
            buffered_bytes: 0,
            full_batch_bytes: 0,
            totals: ProducerTotals::default(),
            failure: None,
            closed: false,
        }
    }

    /// Encodes a record into the open batch of its partition, after sealing that batch if the record does not fit.
    #[inline]
    pub(super) fn add(&mut self, record: &NewRecord<'_>) -> Result<Admission, ClientError> {
        if self.is_full() {
            // What waits for company would wait for ever: nothing joins it now.
            drop(self.seal_all());
            return Ok(Admission::Full);
        }
        let partition = record.partition.unwrap_or_else(|| self.choice.choose(record.routing_key()));
        let wake = match self.open.get(partition as usize) {
            Some(Some(batch)) if batch.len_bytes() + record.encoded_bytes_bound() <= self.bounds.batch_bytes => false,
            _ => self.open_batch(partition)?,
        };
        let Some(Some(batch)) = self.open.get_mut(partition as usize) else {
            unreachable!("the line above opened a batch for this partition");
        };
        let before = batch.len_bytes();
        let receipt = batch.push(record, self.bounds.record_bytes_max)?;
        self.buffered_bytes += batch.len_bytes() - before;
        self.totals.records_sent += 1;
        Ok(Admission::Taken { receipt, wake })
    }

    /// Makes an empty open batch for `partition`, sealing the one there is.
    #[cold]
    fn open_batch(&mut self, partition: u32) -> Result<bool, ClientError> {
        let partitions = self.choice.partitions();
        if partition >= partitions {
            let topic = self.topic.to_string();
            return Err(ClientError::NoSuchPartition { topic, partition, partitions });
        }
        if let Some(Some(batch)) = self.open.get(partition as usize) {
            if batch.is_empty() {
                return Ok(false);
            }
            self.full_batch_bytes = self.bounds.batch_bytes;
            self.seal(partition);
        }
        let slot = partition as usize;
        if self.open.len() <= slot {
            self.open.resize_with(slot + 1, || None);
        }
        let now = Instant::now();
        // With few partitions busy, batches fill, and growing one by doubling would copy it again and again; with
        // many, full capacity for each would be most of the memory and mostly unused.
        let capacity_bytes = if self.opened.len() <= BUSY_PARTITIONS { self.full_batch_bytes } else { 0 };
        let batch = OpenBatch::new(now, capacity_bytes);
        self.forget_settled();
        self.unsettled.push_back(Arc::clone(batch.outcome()));
        self.opened.push_back((now, partition));
        self.open[slot] = Some(batch);
        Ok(true)
    }

    /// Whether nothing more is taken until something is settled.
    pub(super) fn is_full(&self) -> bool {
        self.buffered_bytes >= self.bounds.buffer_bytes_max
    }

    /// Seals every open batch; all batches that are not settled.
    pub(super) fn seal_all(&mut self) -> Vec<Arc<Outcome>> {
        while let Some((_, partition)) = self.opened.pop_front() {
            self.seal(partition);
        }
        self.forget_settled();
        self.unsettled.iter().cloned().collect()
    }

    /// The next batch to send to a partition that has room: a sealed one, or an open one that has waited long enough.
    /// One that has no room goes on taking records.
    pub(super) fn take_ready(&mut self, now: Instant, has_room: impl Fn(u32) -> bool) -> Option<Batch> {
        loop {
            if let Some(first) = self.sealed.iter().position(|batch| has_room(batch.partition)) {
                return self.sealed.remove(first);
            }
            let (opened_at, partition) = self.longest_open(&has_room)?;
            if opened_at + self.bounds.linger > now {
                return None;
            }
            self.seal(partition);
        }
    }

    /// When the open batch that waits longest has waited long enough, of those whose partition has room.
    pub(super) fn next_deadline(&mut self, has_room: impl Fn(u32) -> bool) -> Option<Instant> {
        self.longest_open(has_room).map(|(opened_at, _)| opened_at + self.bounds.linger)
    }

    fn longest_open(&mut self, has_room: impl Fn(u32) -> bool) -> Option<(Instant, u32)> {
        let open = &self.open;
        let is_open = |(opened_at, partition): &(Instant, u32)| {
            let batch = open.get(*partition as usize).and_then(Option::as_ref);
            batch.is_some_and(|batch| batch.was_opened_at(*opened_at))
        };
        while self.opened.pop_front_if(|entry| !is_open(entry)).is_some() {}
        self.opened.iter().find(|entry| is_open(entry) && has_room(entry.1)).copied()
    }

    /// Takes the sealed batches that were opened before `before`.
    pub(super) fn take_older(&mut self, before: Instant) -> VecDeque<Batch> {
        let (old, rest) = std::mem::take(&mut self.sealed).into_iter().partition(|batch| batch.opened_at < before);
        self.sealed = rest;
        old
    }

    /// Takes everything that was not taken yet: nobody will send it.
    pub(super) fn take_all(&mut self) -> VecDeque<Batch> {
        self.close();
        std::mem::take(&mut self.sealed)
    }

    /// The broker has answered, or delivery was given up.
    pub(super) fn settle(&mut self, batch: &Batch, result: Result<BatchAck, ClientError>) {
        let records = u64::from(batch.record_count);
        self.buffered_bytes -= batch.records.len();
        match &result {
            Ok(ack) => {
                self.totals.records_acked += records;
                self.totals.records_duplicate += ack.duplicates.len() as u64;
                self.totals.bytes_acked += batch.records.len() as u64;
            }
            Err(error) => {
                self.totals.records_failed += records;
                self.failure.get_or_insert_with(|| error.clone());
            }
        }
        batch.settle(result);
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        drop(self.seal_all());
    }

    /// Whether no record waits and none will come.
    pub(super) fn is_finished(&self) -> bool {
        self.closed && self.buffered_bytes == 0
    }

    pub(super) fn set_partitions(&mut self, partitions: u32) {
        self.choice.set_partitions(partitions);
    }

    pub(super) fn failure(&self) -> Option<ClientError> {
        self.failure.clone()
    }

    pub(super) fn take_failure(&mut self) -> Option<ClientError> {
        self.failure.take()
    }

    pub(super) fn totals(&self) -> ProducerTotals {
        self.totals
    }

    pub(super) fn record_bytes_max(&self) -> usize {
        self.bounds.record_bytes_max
    }

    fn seal(&mut self, partition: u32) {
        let Some(batch) = self.open.get_mut(partition as usize).and_then(Option::take) else { return };
        if batch.is_empty() {
            // Opened for a record that was then refused: nobody waits for it but a flush.
            batch.outcome().settle(Err(ClientError::Closed));
            return;
        }
        self.sealed.push_back(batch.seal(partition, self.sealed_count));
        self.sealed_count += 1;
        self.choice.batch_sealed(partition);
    }

    fn forget_settled(&mut self) {
        while self.unsettled.front().is_some_and(|outcome| outcome.is_settled()) {
            self.unsettled.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "accumulator_tests.rs"]
mod tests;

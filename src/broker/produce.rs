//! Appending records: check, choose partitions, queue; then wait for the answers.
//!
//! Two steps, so that a stream can queue the next request while the last one waits for the disk: [`Broker::produce`]
//! fixes the place of the records in the order, [`PendingProduce::finish`] waits until they are as durable as asked. Who
//! does not go on to wait at once calls [`PendingProduce::write`] first.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::topic_table::{Topic, refuse_internal};
use crate::broker::upkeep::disk_watch::DiskWatch;
use crate::metrics::InFlightCounted;
use crate::partition::{AppendAck, PendingAppend, Permit};
use crate::producer::Identity;
use crate::storage::log::{AppendTerms, NewBatch};
use crate::types::partitioner::partition_of_key;
use crate::types::record_set::{self, RecordSetError, RecordSetSummary};
use crate::types::{Durability, Offset, ProducerStamp, TopicName};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// The unit of the in-flight budget. Each batch costs one unit at least, which bounds their number too.
pub const PERMIT_BYTES: u64 = 1024;

/// Records to append to one topic.
#[derive(Debug, Default, Clone)]
pub struct Produce<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; `None` = by key, or in turn.
    pub partition: Option<u32>,
    /// The encoded record set, as it came.
    pub records: Bytes,
    /// What the answer must wait for; `None` = what the topic promises.
    pub durability: Option<Durability>,
    /// What an idempotent producer says of them; takes a partition.
    pub producer: Option<ProducerStamp>,
    /// Appended only if the first record gets this offset; takes a partition.
    pub expected_offset: Option<Offset>,
    /// The right to write; takes a partition.
    pub fencing_token: Option<u64>,
}

/// Records that are queued.
#[derive(Debug)]
pub struct PendingProduce {
    topic: Arc<Topic>,
    parts: Vec<PendingPart>,
    disk: Arc<DiskWatch>,
    _counted: InFlightCounted,
}

#[derive(Debug)]
struct PendingPart {
    partition: u32,
    bytes: u64,
    record_indexes: Vec<u32>,
    append: Result<PendingAppend, BrokerError>,
}

/// What became of the records of one request that went to one partition.
#[derive(Debug)]
pub struct ProduceOutcome {
    /// The partition.
    pub partition: u32,
    /// Which records of the request; empty = all.
    pub record_indexes: Vec<u32>,
    /// All of them are in the log, or none.
    pub result: Result<AppendAck, BrokerError>,
}

/// Records of one request that belong into one partition.
struct Part {
    partition: u32,
    record_indexes: Vec<u32>,
    batch: NewBatch,
}

impl Broker {
    /// Checks the records and queues them. `patience`: how long to wait while too much is under way; `None` = as long
    /// as it takes, which is how a stream is held back.
    pub async fn produce(
        &self,
        request: Produce<'_>,
        patience: Option<Duration>,
    ) -> Result<PendingProduce, BrokerError> {
        self.metrics.produce_requested();
        if self.shutdown.is_draining() {
            return Err(BrokerError::Draining);
        }
        let topic = self.topic_to_produce_to(request.topic).await?;
        refuse_internal(&topic.name)?;
        let summary = check(&topic, &request.records)?;
        let producer = self.admit_producer(&request)?;
        self.disk.admit(|| topic.at(request.partition.unwrap_or(0)))?;
        let counted = self.metrics.produce_in_flight(request.records.len());
        let (stamp, window_ms) = (request.producer, topic.entry.options.dedup_window_ms);
        let terms = AppendTerms {
            expected_offset: request.expected_offset,
            fencing_token: request.fencing_token,
            dedup_window_ms: window_ms,
        };
        let mut parts = match request.partition {
            Some(partition) => {
                topic.partition(partition)?;
                vec![Part::whole(partition, request.records, summary)]
            }
            None => split(&topic, request.records, summary),
        };
        for part in &mut parts {
            (part.batch.producer, part.batch.terms) = (stamp, terms);
        }
        // One permit for all parts, before any is queued: a request that is refused as too much has done nothing.
        let bytes = self.permit(&parts, patience).await?;
        let permit = Arc::new(Permit { bytes, producer });
        let queue = |part| queue(&topic, part, request.durability, Arc::clone(&permit));
        let pending = parts.into_iter().map(queue).collect();
        Ok(PendingProduce { topic, parts: pending, disk: Arc::clone(&self.disk), _counted: counted })
    }

    /// Checks what only makes sense with a partition, and that the producer may still send.
    fn admit_producer(&self, request: &Produce<'_>) -> Result<Option<OwnedSemaphorePermit>, BrokerError> {
        let field = match request {
            _ if request.partition.is_some() => None,
            Produce { producer: Some(_), .. } => Some("producer_id"),
            Produce { expected_offset: Some(_), .. } => Some("expected_offset"),
            Produce { fencing_token: Some(_), .. } => Some("fencing_token"),
            _ => None,
        };
        if let Some(field) = field {
            let what =
                format!("a request with {field} must name the partition: the field is about one partition's log");
            return Err(BrokerError::invalid("partition", what));
        }
        match request.producer {
            Some(ProducerStamp { id, epoch, .. }) => Ok(self.producers()?.admit(Identity { id, epoch })?),
            None => Ok(None),
        }
    }

    /// The topic of that name; created if the broker creates topics by itself.
    pub(super) async fn topic_to_produce_to(&self, name: &str) -> Result<Arc<Topic>, BrokerError> {
        match self.topic(name) {
            Err(BrokerError::TopicNotFound { .. }) if self.options.auto_create_topics => {
                match self.create_topic(name, 0, self.options.topic_defaults.clone()).await {
                    // Somebody else was faster.
                    Err(BrokerError::TopicExists { .. }) => self.topic(name),
                    created => created,
                }
            }
            found => found,
        }
    }

    async fn permit(&self, parts: &[Part], patience: Option<Duration>) -> Result<OwnedSemaphorePermit, BrokerError> {
        let units: u64 = parts.iter().map(|part| (part.batch.payload.len() as u64).div_ceil(PERMIT_BYTES)).sum();
        self.permit_for_bytes(units * PERMIT_BYTES, patience).await
    }

    /// A share of the in-flight budget, of whole units.
    pub(super) async fn permit_for_bytes(
        &self,
        bytes: u64,
        patience: Option<Duration>,
    ) -> Result<OwnedSemaphorePermit, BrokerError> {
        let limit_bytes = self.options.produce_in_flight_bytes_max;
        let units = bytes.div_ceil(PERMIT_BYTES);
        let units = units.clamp(1, (limit_bytes / PERMIT_BYTES).max(1));
        let units = u32::try_from(units).expect("a batch is bounded");
        let acquire = Arc::clone(&self.in_flight).acquire_many_owned(units);
        let acquired = match patience {
            None => acquire.await,
            Some(patience) => {
                tokio::time::timeout(patience, acquire).await.map_err(|_| BrokerError::Overloaded { limit_bytes })?
            }
        };
        acquired.map_err(|_| BrokerError::Draining)
    }
}

impl PendingProduce {
    /// Sees to it that the records are written, whether or not anybody waits for that: a few of them may be written here.
    pub fn write(&mut self) {
        self.parts.iter_mut().flat_map(|part| &mut part.append).for_each(PendingAppend::write);
    }

    /// Waits for the answers of all partitions the records went to.
    pub async fn finish(mut self) -> (TopicName, Vec<ProduceOutcome>) {
        // All, before one is waited for.
        self.write();
        let mut outcomes = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            let mut result = match part.append {
                Ok(append) => append.await.map_err(|error| BrokerError::append(self.topic.at(part.partition), error)),
                Err(error) => Err(error),
            };
            if matches!(result, Err(BrokerError::DiskFull { .. })) {
                self.disk.look_after_refusal();
            }
            if let Ok(AppendAck { appended, .. }) = &result
                && !appended.duplicate
            {
                self.topic.metrics.produced(appended.record_count.into(), part.bytes);
            }
            let PendingPart { partition, record_indexes, .. } = part;
            if let (Ok(AppendAck { appended, .. }), false) = (&mut result, record_indexes.is_empty()) {
                let index_of = |in_part: u32| record_indexes.get(in_part as usize).copied().unwrap_or(in_part);
                appended.duplicates.iter_mut().for_each(|found| found.record_index = index_of(found.record_index));
            }
            outcomes.push(ProduceOutcome { partition, record_indexes, result });
        }
        (self.topic.name.clone(), outcomes)
    }
}

impl Part {
    fn whole(partition: u32, payload: Bytes, summary: RecordSetSummary) -> Self {
        Self { partition, record_indexes: Vec::new(), batch: NewBatch::new(payload, summary) }
    }
}

/// The one walk over the records: are they valid, and within the topic's limits?
fn check(topic: &Topic, records: &Bytes) -> Result<RecordSetSummary, BrokerError> {
    let options = &topic.entry.options;
    if records.len() > options.batch_bytes_max as usize {
        let (topic, limit_bytes) = (topic.name.clone(), options.batch_bytes_max);
        return Err(BrokerError::BatchTooLarge { topic, bytes: records.len(), limit_bytes });
    }
    let summary = record_set::check(records, options.record_bytes_max as usize);
    let keyless = |summary: &RecordSetSummary| summary.first_keyless.filter(|_| options.cleanup.compacts());
    summary
        .and_then(|summary| match keyless(&summary) {
            Some(record) => Err(RecordSetError::KeyMissing { record }),
            None => Ok(summary),
        })
        .map_err(|error| BrokerError::InvalidRecords { topic: topic.name.clone(), error })
}

/// Puts each record where its key, or else its message id, belongs; those without either go together, to the partition whose turn it is.
fn split(topic: &Topic, records: Bytes, summary: RecordSetSummary) -> Vec<Part> {
    let partitions = topic.entry.partitions;
    if partitions == 1 {
        return vec![Part::whole(0, records, summary)];
    }
    let mut in_turn = None;
    let mut parts: BTreeMap<u32, (BytesMut, Vec<u32>)> = BTreeMap::new();
    for (i, (key, record)) in (0..).zip(record_set::routed_records(&records)) {
        // Only records without a key take a turn: otherwise requests with and without keys, sent alternately, would
        // send all of the latter to the same few partitions.
        let partition = match key {
            Some(key) => partition_of_key(key, partitions),
            None => *in_turn.get_or_insert_with(|| topic.partition_in_turn()),
        };
        let (bytes, indexes) = parts.entry(partition).or_default();
        bytes.extend_from_slice(record);
        indexes.push(i);
    }
    if let [(partition, _)] = parts.iter().collect::<Vec<_>>()[..] {
        return vec![Part::whole(*partition, records, summary)];
    }
    let part = |(partition, (bytes, record_indexes)): (u32, (BytesMut, Vec<u32>))| {
        let payload = bytes.freeze();
        let summary = record_set::check(&payload, usize::MAX).expect("records of a checked set are one too");
        Part { partition, record_indexes, batch: NewBatch::new(payload, summary) }
    };
    parts.into_iter().map(part).collect()
}

fn queue(topic: &Topic, part: Part, durability: Option<Durability>, permit: Arc<Permit>) -> PendingPart {
    let bytes = part.batch.payload.len() as u64;
    let append =
        topic.partition(part.partition).map(|partition| partition.append(part.batch, durability, Some(permit)));
    PendingPart { partition: part.partition, bytes, record_indexes: part.record_indexes, append }
}

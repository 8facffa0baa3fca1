//! Sending records: batched, pipelined, acknowledged.
//!
//! ```text
//! send -> Accumulator (open batch per partition) -> Pump (one ProduceStream) -> broker
//!           encodes in place, bounds memory          in flight, retries          |
//! Receipt <----------------------- Outcome of the batch <------------------------+
//! ```
//!
//! **Once, in order.** After a lost connection, or an error that the broker calls retryable, batches are sent again with
//! the same producer id and sequence, by which the broker knows them: each is appended once, and records of a partition
//! stand in the order of `send`. When that cannot be promised (see `lanes`) a batch fails with an error, it is never
//! repeated in silence. `idempotent: false` gives that up: then a record may be appended twice, or overtaken.
//!
//! One task owns the connection and everything in flight (the pump); senders and that task share the accumulator
//! behind a lock that is held for one record at a time and never across an await.

mod accumulator;
mod batch;
mod lanes;
mod partition_choice;
mod pump;
mod receipt;
mod record;

pub use receipt::{Receipt, RecordAck};
pub use record::NewRecord;

use crate::client::admin::{TopicDescription, TopicSettings};
use crate::client::connection::service;
use crate::client::{Client, ClientError};
use crate::limits;
use crate::proto;
use crate::types::{Durability, Offset, TopicName};
use accumulator::{Accumulator, Admission, Bounds};
use lanes::Identity;
use partition_choice::PartitionChoice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How a producer batches, waits and retries.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// Send everything to this partition. `None`: records with a key by their key, those without a key by turns.
    pub partition: Option<u32>,
    /// What an acknowledgement must wait for. `None`: what the topic promises.
    pub durability: Option<Durability>,
    /// A batch is sent when it would grow past this many bytes. Never above what the topic accepts.
    pub batch_bytes: usize,
    /// A batch that is not full is sent when its first record has waited this long.
    pub linger: Duration,
    /// Most requests sent and not yet answered; of those to one partition, at most 5 if the producer is idempotent.
    pub max_in_flight: usize,
    /// `send` waits while this many bytes are not acknowledged.
    pub buffer_bytes_max: usize,
    /// A batch that could not be delivered for this long fails.
    pub delivery_timeout: Duration,
    /// Append each batch once, in order, however often it is sent.
    pub idempotent: bool,
    /// Of all producers with this name only the last one made may send; the others fail with `PRODUCER_FENCED`.
    pub name: Option<String>,
    /// The first record must get this offset, and the others follow; takes a `partition`. Once that fails, everything
    /// after it fails too.
    pub expected_offset: Option<Offset>,
    /// The right to write, for partitions that are fenced; see `ProduceRequest.fencing_token`.
    pub fencing_token: Option<u64>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            partition: None,
            durability: None,
            batch_bytes: 256 << 10,
            linger: Duration::from_millis(5),
            max_in_flight: 16,
            buffer_bytes_max: 16 << 20,
            delivery_timeout: Duration::from_mins(2),
            idempotent: true,
            name: None,
            expected_offset: None,
            fencing_token: None,
        }
    }
}

impl ProducerOptions {
    fn check(&self) -> Result<(), ClientError> {
        let what = match self {
            Self { name: Some(_), idempotent: false, .. } => "only an idempotent producer has a name",
            Self { expected_offset: Some(_), partition: None, .. } => "an expected offset takes a partition",
            _ => return Ok(()),
        };
        Err(ClientError::BadProducerOptions { what })
    }
}

/// What became of the records so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ProducerTotals {
    /// Records given to `send`.
    pub records_sent: u64,
    /// Records that the broker acknowledged.
    pub records_acked: u64,
    /// Bytes of those, encoded.
    pub bytes_acked: u64,
    /// Records that were refused, or could not be delivered in time.
    pub records_failed: u64,
    /// Of the acknowledged ones, those that were in the log before, by their message ids.
    pub records_duplicate: u64,
}

/// Sends records to one topic. Cheap to clone; clones share batches and limits.
///
/// When the last clone is dropped, what was sent is still delivered in the background while the runtime lives; call
/// [`Producer::flush`] to be sure.
#[derive(Debug, Clone)]
pub struct Producer {
    shared: Arc<Shared>,
    /// Its drop tells the pump that no more records come.
    _open: Arc<Open>,
}

/// What senders and the pump share.
#[derive(Debug)]
struct Shared {
    accumulator: Mutex<Accumulator>,
    /// A batch is ready, or has begun to wait, or the producer was closed.
    work: Notify,
    /// Bytes were acknowledged.
    space: Notify,
}

impl Shared {
    /// A poisoned lock means a panic while a record was encoded; the half record is the panicking caller's.
    fn accumulator(&self) -> MutexGuard<'_, Accumulator> {
        self.accumulator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.accumulator().close();
        self.0.work.notify_one();
    }
}

impl Client {
    /// A producer for one topic, which must exist; only an ephemeral broker makes the topics that are produced to.
    pub async fn producer(&self, topic: &str, options: ProducerOptions) -> Result<Producer, ClientError> {
        let topic = TopicName::new(topic)?;
        options.check()?;
        let description = self.topic_to_produce_to(&topic).await?;
        let partitions = description.partitions.max(1);
        if let Some(partition) = options.partition.filter(|partition| *partition >= partitions) {
            return Err(ClientError::NoSuchPartition { topic: topic.to_string(), partition, partitions });
        }
        let limit = |bytes: Option<u32>| bytes.unwrap_or(limits::BATCH_BYTES_LIMIT_MAX) as usize;
        let batch_bytes_max = limit(description.settings.batch_bytes_max);
        let bounds = Bounds {
            batch_bytes: options.batch_bytes.min(batch_bytes_max),
            record_bytes_max: limit(description.settings.record_bytes_max),
            buffer_bytes_max: options.buffer_bytes_max,
            linger: options.linger,
        };
        let choice = PartitionChoice::new(options.partition, partitions, super::backoff::random_seed());
        let shared = Arc::new(Shared {
            accumulator: Mutex::new(Accumulator::new(topic.clone(), bounds, choice)),
            work: Notify::new(),
            space: Notify::new(),
        });
        let identity = if options.idempotent { Some(self.init_producer(options.name.clone()).await?) } else { None };
        tokio::spawn(pump::Pump::new(self.clone(), topic, &options, identity, Arc::clone(&shared)).run());
        Ok(Producer { _open: Arc::new(Open(Arc::clone(&shared))), shared })
    }

    async fn init_producer(&self, name: Option<String>) -> Result<Identity, ClientError> {
        let mut producers = service!(self, producer_service_client, ProducerServiceClient);
        let given = self.answer(producers.init_producer(proto::InitProducerRequest { name })).await?;
        Ok(Identity { id: given.producer_id, epoch: given.producer_epoch })
    }

    async fn topic_to_produce_to(&self, topic: &TopicName) -> Result<TopicDescription, ClientError> {
        match self.topic(topic).await {
            Err(error) if error.is_not_found() && self.server_info().await?.ephemeral => {
                // Somebody else may be quicker, which is as good.
                match self.create_topic(topic, 0, &TopicSettings::default()).await {
                    Ok(description) => Ok(description),
                    Err(_) => Ok(self.topic(topic).await?.0),
                }
            }
            found => Ok(found?.0),
        }
    }
}

impl Producer {
    /// Takes a record into a batch; waits while too much is not acknowledged. The receipt may be awaited, or dropped.
    ///
    /// An error is about this record and means that it was not taken.
    pub async fn send(&self, record: NewRecord<'_>) -> Result<Receipt, ClientError> {
        loop {
            if let Some(receipt) = self.try_send(&record)? {
                return Ok(receipt);
            }
            self.ready().await;
        }
    }

    /// As [`Producer::send`], but `None` instead of waiting.
    #[inline]
    pub fn try_send(&self, record: &NewRecord<'_>) -> Result<Option<Receipt>, ClientError> {
        let admission = self.shared.accumulator().add(record)?;
        match admission {
            Admission::Taken { receipt, wake } => {
                if wake {
                    self.shared.work.notify_one();
                }
                Ok(Some(receipt))
            }
            Admission::Full => {
                self.shared.work.notify_one();
                Ok(None)
            }
        }
    }

    /// Waits until there is room for another record.
    pub async fn ready(&self) {
        loop {
            let space = self.shared.space.notified();
            tokio::pin!(space);
            // Listen before looking: an acknowledgement between the two must not be missed.
            space.as_mut().enable();
            if !self.shared.accumulator().is_full() {
                return;
            }
            space.await;
        }
    }

    /// Sends what waits and returns when every record given to `send` so far is acknowledged or has failed. The
    /// error is that of the first batch that failed since the last flush; [`Producer::totals`] says how many.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let unsettled = self.shared.accumulator().seal_all();
        self.shared.work.notify_one();
        for outcome in unsettled {
            // The failure, if it is one, is what `take_failure` returns.
            drop(outcome.wait().await);
        }
        self.shared.accumulator().take_failure().map_or(Ok(()), Err)
    }

    /// The first failure since the last flush: lets a sender that awaits no receipts notice that it sends in vain.
    pub fn failure(&self) -> Option<ClientError> {
        self.shared.accumulator().failure()
    }

    /// What became of the records so far.
    pub fn totals(&self) -> ProducerTotals {
        self.shared.accumulator().totals()
    }

    /// The largest record its topic accepts, encoded, in bytes.
    pub fn record_bytes_max(&self) -> usize {
        self.shared.accumulator().record_bytes_max()
    }
}

#[cfg(test)]
#[path = "producer_tests.rs"]
mod tests;

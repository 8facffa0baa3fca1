//! Millstream as the system under test, through its own client library. `queue`: as one that has queues.

mod queue;

use super::payload::Block;
use super::tally::Tally;
use super::target::{ReadFrom, Reader, ReaderOptions, Sender, SenderOptions, Target, TopicPlan};
use crate::client::admin::TopicSettings;
use crate::client::{
    Client, ClientError, Consumer, ConsumerOptions, Event, NewRecord, Producer, ProducerOptions, Receipt,
};
use crate::limits::BATCH_BYTES_LIMIT_MAX;
use crate::types::{Offset, Position, TopicName, TopicPartition};
use futures_util::FutureExt as _;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// More than the framing of a record without key and headers takes.
const FRAMING_BYTES: usize = 40;

/// A block that is sent as it is, is sent by hand; this is only what happens if that were forgotten.
const LINGER_OF_BLOCKS: Duration = Duration::from_mins(1);

/// How often a member of a group commits what it has read.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// A broker at an address.
#[derive(Debug, Clone)]
pub struct Millstream {
    name: &'static str,
    address: String,
    process_id: Option<u32>,
    version: String,
    admin: Client,
}

impl Millstream {
    /// Connects; `process_id` is the broker's, if it runs on this machine.
    pub async fn connect(address: &str, process_id: Option<u32>) -> Result<Self, ClientError> {
        let admin = Client::connect(address).await?;
        let version = admin.server_info().await?.version;
        Ok(Self { name: "millstream", address: address.to_owned(), process_id, version, admin })
    }

    /// The same under another name: of something that speaks Millstream's protocol.
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    async fn consumer(&self, options: &ReaderOptions) -> Result<Consumer, ClientError> {
        let topic = TopicName::new(&options.topic)?;
        let start = match options.from {
            ReadFrom::Beginning => Position::Earliest,
            ReadFrom::End => Position::Latest,
        };
        let consumer_options = ConsumerOptions {
            group: options.group.clone(),
            client_id: "millstream-bench".to_owned(),
            start,
            reconnect: false,
            ..ConsumerOptions::new(vec![topic])
        };
        Client::connect(&self.address).await?.consumer(consumer_options).await
    }
}

impl Target for Millstream {
    type Error = ClientError;
    type Sender = MillstreamSender;
    type Reader = MillstreamReader;

    fn system(&self) -> String {
        self.name.to_owned()
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn process_id(&self) -> Option<u32> {
        self.process_id
    }

    async fn create_topic(&self, topic: &TopicPlan) -> Result<(), ClientError> {
        let settings = TopicSettings {
            durability: Some(topic.durability),
            batch_bytes_max: Some(BATCH_BYTES_LIMIT_MAX),
            record_bytes_max: Some(BATCH_BYTES_LIMIT_MAX),
            ..TopicSettings::default()
        };
        self.admin.create_topic(&TopicName::new(&topic.name)?, topic.partitions, &settings).await?;
        Ok(())
    }

    async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        self.admin.delete_topic(&TopicName::new(name)?).await
    }

    async fn record_count(&self, name: &str) -> Result<Option<u64>, ClientError> {
        let (_, partitions) = self.admin.topic(&TopicName::new(name)?).await?;
        let of_partition = |partition: &crate::client::admin::PartitionDescription| {
            partition.high_watermark.records_since(partition.log_start_offset)
        };
        Ok(Some(partitions.iter().map(of_partition).sum()))
    }

    async fn open_sender(&self, options: &SenderOptions) -> Result<MillstreamSender, ClientError> {
        let batch_bytes = options.batch_records as usize * (options.record_bytes + FRAMING_BYTES);
        let by_hand = options.linger.is_none() && options.batch_records > 1;
        let linger = options.linger.unwrap_or(if by_hand { LINGER_OF_BLOCKS } else { Duration::ZERO });
        let defaults = ProducerOptions::default();
        let producer_options = ProducerOptions {
            batch_bytes: if options.linger.is_some() { batch_bytes.max(defaults.batch_bytes) } else { batch_bytes },
            linger,
            max_in_flight: options.in_flight as usize,
            buffer_bytes_max: (batch_bytes * options.in_flight as usize * 2).max(defaults.buffer_bytes_max),
            idempotent: options.idempotent,
            ..defaults
        };
        let client = Client::connect(&self.address).await?;
        let producer = client.producer(&options.topic, producer_options).await?;
        Ok(MillstreamSender { producer, by_hand, receipts: VecDeque::new() })
    }

    async fn open_reader(&self, options: &ReaderOptions) -> Result<MillstreamReader, ClientError> {
        let mut consumer = self.consumer(options).await?;
        // Its place is fixed when it is told where it begins; nothing else comes before that.
        loop {
            match consumer.next().await? {
                Event::Assigned { .. } => break,
                Event::Disconnected { lost } => return Err(lost),
                _ => {}
            }
        }
        let commits = options.group.is_some();
        Ok(MillstreamReader { consumer, commits, committed_at: Instant::now(), read: Vec::new() })
    }
}

/// A producer with a connection of its own.
#[derive(Debug)]
pub struct MillstreamSender {
    producer: Producer,
    /// Whether a batch is sent when its block is in it, rather than when the client likes.
    by_hand: bool,
    /// Of the last record of each block that is on its way.
    receipts: VecDeque<Receipt>,
}

impl Sender for MillstreamSender {
    type Error = ClientError;

    async fn send(&mut self, partition: u32, block: Block<'_>) -> Result<(), ClientError> {
        let mut last = None;
        for value in block.records() {
            let record = NewRecord { partition: Some(partition), ..NewRecord::value(value) };
            last = Some(match self.producer.try_send(&record)? {
                Some(receipt) => receipt,
                None => self.producer.send(record).await?,
            });
        }
        self.receipts.extend(last);
        if self.by_hand {
            // The first step of a flush sends what waits; its wait for the answers is not ours.
            if let Some(flushed) = self.producer.flush().now_or_never() {
                flushed?;
            }
        }
        Ok(())
    }

    async fn settled(&mut self) -> Result<(), ClientError> {
        if let Some(receipt) = self.receipts.front() {
            receipt.wait().await?;
            self.receipts.pop_front();
        }
        Ok(())
    }
}

/// A consumer with a connection of its own.
#[derive(Debug)]
pub struct MillstreamReader {
    consumer: Consumer,
    commits: bool,
    committed_at: Instant,
    /// Up to where each partition was read.
    read: Vec<(TopicPartition, Offset)>,
}

impl Reader for MillstreamReader {
    type Error = ClientError;

    async fn read(&mut self, tally: &mut Tally) -> Result<(), ClientError> {
        if self.commits && self.committed_at.elapsed() >= COMMIT_INTERVAL {
            // Before the wait for records: if that is dropped, nothing is lost.
            self.committed_at = Instant::now();
            for (partition, next_offset) in self.read.drain(..) {
                self.consumer.mark(&partition, next_offset);
            }
            self.consumer.commit_marked().await?;
        }
        loop {
            match self.consumer.next().await? {
                Event::Records(records) => {
                    let partition = records.partition.partition;
                    for batch in &records.batches {
                        tally.records(partition, batch.values().map(Option::unwrap_or_default));
                    }
                    if self.commits {
                        let next_offset = records.next_offset();
                        match self.read.iter_mut().find(|(read, _)| *read == records.partition) {
                            Some((_, offset)) => *offset = next_offset,
                            None => self.read.push((records.partition, next_offset)),
                        }
                    }
                    return Ok(());
                }
                Event::Disconnected { lost } => return Err(lost),
                _ => {}
            }
        }
    }
}

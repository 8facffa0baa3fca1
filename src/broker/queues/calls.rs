//! Queues, with what they do not know themselves: topics, and what stands in their logs.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::queues::reading::{partition, read_one};
use crate::broker::queues::receiving::check_settles;
use crate::broker::topic_table::{Topic, refuse_internal};
use crate::filter::Filter;
use crate::limits;
use crate::queue::{
    BlockingMessage, CreateQueue, LogBounds, Logs as _, MessageStage, PartitionKey, QueueConfig, QueueDescription,
    QueueName, QueuePolicy, QueueStart, Settle, SettleError,
};
use crate::topic::TopicOptions;
use crate::types::record_set::{self, Record};
use crate::types::{Offset, Position, TimestampMs, TopicName, TopicPartition, TopicPattern};
use bytes::BytesMut;

/// What [`Broker::peek_queue`] shows at most, in bytes of records.
const PEEK_BYTES_MAX: usize = 1 << 20;

/// How many records of a partition [`Broker::peek_queue`] looks at, at most, where a filter passes over some.
const PEEK_RECORDS_MAX: usize = 10_000;

/// A queue, and how far each of its partitions' logs goes (`None`: the partition is offline).
#[derive(Debug)]
pub struct DescribedQueue {
    /// The queue.
    pub description: QueueDescription,
    /// For each of `description.partitions`.
    pub bounds: Vec<Option<LogBounds>>,
}

/// A message as it is seen without taking it.
#[derive(Debug)]
pub struct Peeked {
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: u32,
    /// Its place there.
    pub offset: Offset,
    /// When it was appended.
    pub append_time_ms: TimestampMs,
    /// Where it is.
    pub stage: MessageStage,
    /// How many times it was handed out.
    pub attempts: u32,
    /// The encoded record.
    pub record: bytes::Bytes,
}

impl Broker {
    /// Creates a queue on topics that exist, and its dead letter topic if there is none.
    pub async fn create_queue(
        &self,
        name: &str,
        topics: &[String],
        patterns: Vec<TopicPattern>,
        start: QueueStart,
        filter: Option<Filter>,
        mut policy: QueuePolicy,
    ) -> Result<QueueConfig, BrokerError> {
        let name = queue_name(name)?;
        let queues = self.queue_coordinator()?;
        let least = usize::from(patterns.is_empty());
        if !(least..=limits::QUEUE_TOPICS_MAX).contains(&topics.len()) {
            let what = format!("{} were given; {least} to {} are allowed", topics.len(), limits::QUEUE_TOPICS_MAX);
            return Err(BrokerError::invalid("topics", what));
        }
        let mut names = Vec::new();
        for name in topics {
            let topic = self.topic(name)?;
            refuse_internal(&topic.name)?;
            if names.contains(&topic.name) {
                return Err(BrokerError::invalid("topics", format!("{name} is named twice")));
            }
            names.push(topic.name.clone());
        }
        self.name_dead_letter_topic(&name, &mut policy)?;
        policy.check()?;
        self.create_dead_letter_topic(&names, &policy).await?;
        let matches = |topic: &TopicName| patterns.iter().any(|pattern| pattern.matches(topic));
        let mut frontiers = Vec::new();
        for topic in self.topics.all() {
            let is_matched = policy.dead_letter_topic.as_ref() != Some(&topic.name) && matches(&topic.name);
            if is_matched || names.contains(&topic.name) {
                self.begin_at(&topic, start, &mut frontiers).await?;
            }
        }
        Ok(queues.create(CreateQueue { name, topics: names, patterns, start, frontiers, filter, policy }).await?)
    }

    /// Where a queue that begins at `start` begins in each partition of a topic.
    async fn begin_at(
        &self,
        topic: &Topic,
        start: QueueStart,
        frontiers: &mut Vec<(PartitionKey, TopicName, Offset)>,
    ) -> Result<(), BrokerError> {
        let position = match start {
            QueueStart::Earliest => Position::Earliest,
            QueueStart::Latest => Position::Latest,
            QueueStart::TimeMs(time_ms) => Position::Time(time_ms),
        };
        for partition in 0..topic.entry.partitions {
            let (offset, _) = self.resolve(topic.name.as_str(), partition, position).await?;
            frontiers.push((PartitionKey { topic_id: topic.entry.id, partition }, topic.name.clone(), offset));
        }
        Ok(())
    }

    /// Changes the policy of a queue.
    pub async fn update_queue(
        &self,
        name: &str,
        change: impl FnOnce(&mut QueuePolicy) -> Result<(), BrokerError>,
    ) -> Result<QueueConfig, BrokerError> {
        let name = queue_name(name)?;
        let queues = self.queue_coordinator()?;
        let QueueConfig { mut policy, topics, .. } = queues.describe(name.clone()).await?.config;
        change(&mut policy)?;
        self.name_dead_letter_topic(&name, &mut policy)?;
        policy.check()?;
        self.create_dead_letter_topic(&topics, &policy).await?;
        Ok(queues.update(name, Some(policy), None).await?)
    }

    /// Pauses a queue, or resumes it.
    pub async fn set_queue_paused(&self, name: &str, paused: bool) -> Result<QueueConfig, BrokerError> {
        Ok(self.queue_coordinator()?.update(queue_name(name)?, None, Some(paused)).await?)
    }

    /// Deletes a queue with its progress.
    pub async fn delete_queue(&self, name: &str) -> Result<(), BrokerError> {
        Ok(self.queue_coordinator()?.delete(queue_name(name)?).await?)
    }

    /// Everything about a queue.
    pub async fn describe_queue(&self, name: &str) -> Result<DescribedQueue, BrokerError> {
        let description = self.queue_coordinator()?.describe(queue_name(name)?).await?;
        let bounds = description.partitions.iter();
        let bounds = bounds.map(|found| self.topics.bounds(&found.topic, found.at)).collect();
        Ok(DescribedQueue { description, bounds })
    }

    /// Queues whose names begin with `prefix`.
    pub async fn list_queues(&self, prefix: &str) -> Result<Vec<QueueConfig>, BrokerError> {
        let found = self.queue_coordinator()?.list(prefix.to_owned()).await?;
        Ok(found.into_iter().map(|description| description.config).collect())
    }

    /// Settles messages; one result for each, in order.
    pub async fn settle(&self, queue: &str, settles: Vec<Settle>) -> Result<Vec<Result<(), SettleError>>, BrokerError> {
        check_settles(&settles)?;
        Ok(self.queue_coordinator()?.settle(queue_name(queue)?, settles).await?)
    }

    /// Up to `most` messages of a queue that are not done, oldest first in each partition. Changes nothing.
    pub async fn peek_queue(&self, queue: &str, most: usize) -> Result<Vec<Peeked>, BrokerError> {
        let peeked = self.queue_coordinator()?.peek(queue_name(queue)?, most).await?;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for found in peeked {
            let Some(handle) = partition(&self.topics, &found.topic, found.at) else { continue };
            let end = handle.high_watermark();
            let new = (found.frontier.0..end.0).map(|offset| (Offset(offset), MessageStage::Available, 0));
            let looks = if found.filter.is_some() { PEEK_RECORDS_MAX } else { most - messages.len() };
            for (offset, stage, attempts) in found.open.into_iter().chain(new).take(looks) {
                if messages.len() == most {
                    break;
                }
                let read = read_one(&handle, offset).await;
                let at = || TopicPartition { topic: found.topic.clone(), partition: found.at.partition };
                let read = read.map_err(|error| BrokerError::storage(at(), error))?;
                let Some((append_time_ms, record)) = read else { continue };
                let record = encode_body(&record);
                if found.filter.as_ref().is_some_and(|filter| !filter.matches(&record)) {
                    continue;
                }
                bytes += record.len();
                if bytes > PEEK_BYTES_MAX && !messages.is_empty() {
                    return Ok(messages);
                }
                let (topic, partition) = (found.topic.clone(), found.at.partition);
                messages.push(Peeked { topic, partition, offset, append_time_ms, stage, attempts, record });
            }
        }
        Ok(messages)
    }

    /// Up to `most` messages that others of their key wait for; those that hold up most first. Changes nothing.
    pub async fn blocking_messages(&self, queue: &str, most: usize) -> Result<Vec<(Peeked, u64)>, BrokerError> {
        let blocking = self.queue_coordinator()?.blocking(queue_name(queue)?, most).await?;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        for BlockingMessage { topic, at, offset, stage, attempts, blocked } in blocking {
            let Some(handle) = partition(&self.topics, &topic, at) else { continue };
            let named = TopicPartition { topic: topic.clone(), partition: at.partition };
            let read = read_one(&handle, offset).await.map_err(|error| BrokerError::storage(named, error))?;
            let Some((append_time_ms, record)) = read else { continue };
            let record = encode_body(&record);
            bytes += record.len();
            if bytes > PEEK_BYTES_MAX && !messages.is_empty() {
                break;
            }
            let partition = at.partition;
            messages.push((Peeked { topic, partition, offset, append_time_ms, stage, attempts, record }, blocked));
        }
        Ok(messages)
    }

    /// With limited attempts or ages and no dead letter topic, there is one of the queue's own.
    #[expect(clippy::unused_self, reason = "reads as what the broker does")]
    fn name_dead_letter_topic(&self, queue: &QueueName, policy: &mut QueuePolicy) -> Result<(), BrokerError> {
        if policy.dead_letter_topic.is_none() && policy.gives_up() {
            policy.dead_letter_topic = Some(TopicName::new(&format!("{queue}.dlq"))?);
        }
        Ok(())
    }

    /// Dead letters are kept until somebody deletes them: the topic has no retention.
    async fn create_dead_letter_topic(&self, topics: &[TopicName], policy: &QueuePolicy) -> Result<(), BrokerError> {
        let Some(topic) = &policy.dead_letter_topic else { return Ok(()) };
        refuse_internal(topic)?;
        if topics.contains(topic) {
            let what = format!("{topic} is a topic of the queue; dead letters would come back as messages");
            return Err(BrokerError::invalid("dead_letter_topic", what));
        }
        let options = TopicOptions { retention_ms: 0, retention_bytes: 0, ..self.options.topic_defaults.clone() };
        match self.create_topic(topic.as_str(), 1, options).await {
            Ok(_) | Err(BrokerError::TopicExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A record as a message of its own.
fn encode_body(record: &Record) -> bytes::Bytes {
    let mut set = BytesMut::new();
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    let id = record.message_id.as_deref();
    record_set::encode_identified_record(&mut set, key, value, headers, record.timestamp, id);
    let set = set.freeze();
    record_set::keyed_bodies(&set).next().map(|(_, body)| body).unwrap_or_default()
}

/// Checks the name of a queue.
pub(in crate::broker) fn queue_name(name: &str) -> Result<QueueName, BrokerError> {
    QueueName::new(name).map_err(|error| BrokerError::Queue(error.into()))
}

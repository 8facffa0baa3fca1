//! Queues: create, look at, change, delete, pause.

use crate::client::connection::service;
use crate::client::convert::{
    durability_from_wire, durability_to_wire, partition_from_wire, position_to_wire, required,
};
use crate::client::queue::PeekedMessage;
use crate::client::{Client, ClientError};
use crate::proto;
use crate::types::{Durability, Offset, Position, TimestampMs, TopicName, TopicPartition, TopicPattern};

/// How a queue delivers. What is `None` is the broker's default on create, and stays as it is on update.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a worker may keep a message, in milliseconds.
    pub lease_ms: Option<u64>,
    /// And with all extensions.
    pub max_lease_ms: Option<u64>,
    /// How long a message waits after its first failure, in milliseconds.
    pub retry_min_ms: Option<u64>,
    /// And at most.
    pub retry_max_ms: Option<u64>,
    /// What each further attempt multiplies the wait by, in hundredths.
    pub retry_multiplier_percent: Option<u32>,
    /// How much of the wait may be taken off at random.
    pub retry_jitter_percent: Option<u32>,
    /// After so many attempts a message is a dead letter; 0 = never.
    pub attempts_max: Option<u32>,
    /// Where dead letters go; empty = nowhere.
    pub dead_letter_topic: Option<String>,
    /// Of one key one message at a time, in order. Only on create.
    pub ordered_by_key: Option<bool>,
    /// Most messages that are out or wait for a retry.
    pub max_in_flight: Option<u32>,
    /// Most messages one stream may have; 0 = as many as it asks for.
    pub max_in_flight_per_receiver: Option<u32>,
    /// When settlements are confirmed.
    pub durability: Option<Durability>,
    /// A message older than this goes to the dead letter topic, in milliseconds; 0 = messages have no age.
    pub message_ttl_ms: Option<u64>,
    /// The number of a partition is the priority of its messages.
    pub priority_by_partition: Option<bool>,
    /// When so many of a hundred of the last deliveries have failed, the queue pauses itself; 0 = never.
    pub breaker_failures_percent: Option<u32>,
    /// How many deliveries that looks back at.
    pub breaker_deliveries: Option<u32>,
    /// How long the first pause is, in milliseconds.
    pub breaker_pause_ms: Option<u64>,
}

/// A queue that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewQueue {
    /// What it is to be called.
    pub name: String,
    /// Whose records are its messages; beside patterns none are needed.
    pub topics: Vec<TopicName>,
    /// And those of every topic that one of these matches, also of topics made later. At most 10.
    pub topic_patterns: Vec<TopicPattern>,
    /// Where it begins: earliest, latest, or a time.
    pub start: Position,
    /// Only records that match, as `docs/filters.md` says; cannot be changed. Empty = all.
    pub filter: String,
    /// How it delivers.
    pub settings: QueueSettings,
}

impl NewQueue {
    /// One of nothing yet.
    pub fn new(name: &str, start: Position) -> Self {
        let (topics, topic_patterns) = (Vec::new(), Vec::new());
        let (filter, settings) = (String::new(), QueueSettings::default());
        Self { name: name.to_owned(), topics, topic_patterns, start, filter, settings }
    }
}

/// A queue, as listed. Every setting is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueListing {
    /// Its name.
    pub name: String,
    /// Whose records are its messages.
    pub topics: Vec<TopicName>,
    /// And those of every topic that one of these matches.
    pub topic_patterns: Vec<String>,
    /// How it delivers.
    pub settings: QueueSettings,
    /// Only records that match are its messages; empty = all are.
    pub filter: String,
    /// Whether it is paused.
    pub paused: bool,
    /// When it was created.
    pub created_at: TimestampMs,
}

/// How far a queue is in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePartition {
    /// Where.
    pub partition: TopicPartition,
    /// Everything below is done.
    pub low_watermark: Offset,
    /// The first message that was never handed out.
    pub frontier: Offset,
    /// End of what is in the log.
    pub high_watermark: Offset,
    /// Messages from the frontier on.
    pub backlog: u64,
    /// With workers.
    pub leased: u64,
    /// Handed out before, and available again.
    pub available: u64,
    /// Behind another message of their key.
    pub blocked: u64,
    /// Failed, and not yet due again.
    pub waiting: u64,
    /// On their way to the dead letter topic.
    pub dying: u64,
}

/// A queue with its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDescription {
    /// The queue.
    pub queue: QueueListing,
    /// How far it is, by topic and partition.
    pub partitions: Vec<QueuePartition>,
    /// Streams that receive from it.
    pub receivers: u32,
    /// Messages handed out since the broker started, each as often as it was.
    pub delivered: u64,
    /// Messages done since then.
    pub acked: u64,
    /// Dead letters written since then.
    pub dead_lettered: u64,
    /// Messages that were gone from the log before they were done, since then.
    pub absent: u64,
    /// Deliveries that failed, since then.
    pub failed: u64,
    /// Messages that did not match the filter, since then.
    pub filtered: u64,
    /// Whether it hands out, as far as failures go.
    pub breaker: BreakerState,
}

/// Whether the breaker of a queue lets messages through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// It does; also without one.
    Closed,
    /// It does not, until then.
    OpenUntil(TimestampMs),
    /// One message at a time.
    Probing,
}

/// A key whose first message holds up others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedKey {
    /// The first message of the key that is not done.
    pub first: PeekedMessage,
    /// How many messages are known to stand behind it.
    pub blocked: u64,
}

impl Client {
    /// Creates a queue that begins at `start`: earliest, latest, or a time.
    pub async fn create_queue(
        &self,
        name: &str,
        topics: &[TopicName],
        start: Position,
        settings: &QueueSettings,
    ) -> Result<QueueListing, ClientError> {
        let (topics, settings) = (topics.to_vec(), settings.clone());
        self.create_queue_of(&NewQueue { topics, settings, ..NewQueue::new(name, start) }).await
    }

    /// The same of anything that a queue may be of.
    pub async fn create_queue_of(&self, queue: &NewQueue) -> Result<QueueListing, ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        let request = proto::CreateQueueRequest {
            name: queue.name.clone(),
            topics: queue.topics.iter().map(ToString::to_string).collect(),
            policy: Some(policy_to_wire(&queue.settings)),
            start: Some(position_to_wire(queue.start)),
            filter: queue.filter.clone(),
            topic_patterns: queue.topic_patterns.iter().map(ToString::to_string).collect(),
        };
        queue_from_wire(self.answer(queues.create_queue(request)).await?.queue)
    }

    /// A queue with its progress.
    pub async fn describe_queue(&self, name: &str) -> Result<QueueDescription, ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        let answer = self.answer(queues.get_queue(proto::GetQueueRequest { name: name.to_owned() })).await?;
        let proto::QueueCounts { delivered, acked, dead_lettered, absent, failed, filtered } =
            answer.counts.unwrap_or_default();
        let breaker = match answer.breaker() {
            proto::BreakerState::Unspecified | proto::BreakerState::Closed => BreakerState::Closed,
            proto::BreakerState::Open => BreakerState::OpenUntil(answer.breaker_open_until_ms),
            proto::BreakerState::Probing => BreakerState::Probing,
        };
        Ok(QueueDescription {
            queue: queue_from_wire(answer.queue)?,
            partitions: answer.partitions.iter().map(partition_of_wire).collect::<Result<_, _>>()?,
            receivers: answer.receivers,
            delivered,
            acked,
            dead_lettered,
            absent,
            failed,
            filtered,
            breaker,
        })
    }

    /// All queues whose names begin with `prefix`, in order of name.
    pub async fn list_queues(&self, prefix: &str) -> Result<Vec<QueueListing>, ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        let request = proto::ListQueuesRequest { prefix: prefix.to_owned() };
        let answer = self.answer(queues.list_queues(request)).await?;
        answer.queues.into_iter().map(|queue| queue_from_wire(Some(queue))).collect()
    }

    /// Changes settings of a queue.
    pub async fn update_queue(&self, name: &str, settings: &QueueSettings) -> Result<QueueListing, ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        let request = proto::UpdateQueueRequest { name: name.to_owned(), policy: Some(policy_to_wire(settings)) };
        queue_from_wire(self.answer(queues.update_queue(request)).await?.queue)
    }

    /// Deletes a queue with its progress; the records stay in their topics.
    pub async fn delete_queue(&self, name: &str) -> Result<(), ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        self.answer(queues.delete_queue(proto::DeleteQueueRequest { name: name.to_owned() })).await.map(drop)
    }

    /// Nothing is handed out until the queue is resumed.
    pub async fn pause_queue(&self, name: &str) -> Result<QueueListing, ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        let answer = self.answer(queues.pause_queue(proto::PauseQueueRequest { name: name.to_owned() })).await?;
        queue_from_wire(answer.queue)
    }

    /// Ends a pause.
    pub async fn resume_queue(&self, name: &str) -> Result<QueueListing, ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        let answer = self.answer(queues.resume_queue(proto::ResumeQueueRequest { name: name.to_owned() })).await?;
        queue_from_wire(answer.queue)
    }

    /// Up to `messages_max` messages that are not done, oldest first in each partition. Changes nothing.
    pub async fn peek_queue(&self, name: &str, messages_max: u32) -> Result<Vec<PeekedMessage>, ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        let request = proto::PeekRequest { queue: name.to_owned(), max_messages: messages_max };
        let answer = self.answer(queues.peek(request)).await?;
        answer.messages.iter().map(PeekedMessage::from_wire).collect()
    }

    /// Up to `keys_max` keys of a queue with order by key that hold up messages; those that hold up most first.
    pub async fn list_blocked_keys(&self, name: &str, keys_max: u32) -> Result<Vec<BlockedKey>, ClientError> {
        let mut queues = service!(self, queue_service_client, QueueServiceClient);
        let request = proto::ListBlockedKeysRequest { queue: name.to_owned(), max_keys: keys_max };
        let answer = self.answer(queues.list_blocked_keys(request)).await?;
        let keys = answer.keys.into_iter().map(|key| {
            let first = required(key.first, "a blocked key has no message")?;
            Ok(BlockedKey { first: PeekedMessage::from_wire(&first)?, blocked: key.blocked })
        });
        keys.collect()
    }
}

fn policy_to_wire(settings: &QueueSettings) -> proto::QueuePolicy {
    let ordering = match settings.ordered_by_key {
        None => proto::QueueOrdering::Unspecified,
        Some(false) => proto::QueueOrdering::None,
        Some(true) => proto::QueueOrdering::Key,
    };
    proto::QueuePolicy {
        lease_ms: settings.lease_ms,
        max_lease_ms: settings.max_lease_ms,
        retry_min_ms: settings.retry_min_ms,
        retry_max_ms: settings.retry_max_ms,
        retry_multiplier_percent: settings.retry_multiplier_percent,
        retry_jitter_percent: settings.retry_jitter_percent,
        attempts_max: settings.attempts_max,
        dead_letter_topic: settings.dead_letter_topic.clone(),
        ordering: ordering.into(),
        max_in_flight: settings.max_in_flight,
        max_in_flight_per_receiver: settings.max_in_flight_per_receiver,
        durability: durability_to_wire(settings.durability).into(),
        message_ttl_ms: settings.message_ttl_ms,
        priority: match settings.priority_by_partition {
            None => proto::QueuePriority::Unspecified.into(),
            Some(false) => proto::QueuePriority::None.into(),
            Some(true) => proto::QueuePriority::Partition.into(),
        },
        breaker_failures_percent: settings.breaker_failures_percent,
        breaker_deliveries: settings.breaker_deliveries,
        breaker_pause_ms: settings.breaker_pause_ms,
    }
}

fn queue_from_wire(queue: Option<proto::Queue>) -> Result<QueueListing, ClientError> {
    let queue = required(queue, "an answer about a queue has no queue in it")?;
    let policy = required(queue.policy, "a queue has no policy")?;
    let durability = durability_from_wire(policy.durability());
    let ordered_by_key = Some(policy.ordering() == proto::QueueOrdering::Key);
    let priority_by_partition = Some(policy.priority() == proto::QueuePriority::Partition);
    let topic =
        |name: &String| TopicName::new(name).map_err(|_| ClientError::BadAnswer { what: "a topic has no valid name" });
    Ok(QueueListing {
        topics: queue.topics.iter().map(topic).collect::<Result<_, _>>()?,
        name: queue.name,
        settings: QueueSettings {
            lease_ms: policy.lease_ms,
            max_lease_ms: policy.max_lease_ms,
            retry_min_ms: policy.retry_min_ms,
            retry_max_ms: policy.retry_max_ms,
            retry_multiplier_percent: policy.retry_multiplier_percent,
            retry_jitter_percent: policy.retry_jitter_percent,
            attempts_max: policy.attempts_max,
            dead_letter_topic: policy.dead_letter_topic,
            ordered_by_key,
            max_in_flight: policy.max_in_flight,
            max_in_flight_per_receiver: policy.max_in_flight_per_receiver,
            durability,
            message_ttl_ms: policy.message_ttl_ms,
            priority_by_partition,
            breaker_failures_percent: policy.breaker_failures_percent,
            breaker_deliveries: policy.breaker_deliveries,
            breaker_pause_ms: policy.breaker_pause_ms,
        },
        filter: queue.filter,
        topic_patterns: queue.topic_patterns,
        paused: queue.paused,
        created_at: queue.created_at_ms,
    })
}

fn partition_of_wire(found: &proto::QueuePartition) -> Result<QueuePartition, ClientError> {
    Ok(QueuePartition {
        partition: partition_from_wire(&found.topic, found.partition)?,
        low_watermark: Offset(found.low_watermark),
        frontier: Offset(found.frontier),
        high_watermark: Offset(found.high_watermark),
        backlog: found.backlog,
        leased: found.leased,
        available: found.available,
        blocked: found.blocked,
        waiting: found.waiting,
        dying: found.dying,
    })
}

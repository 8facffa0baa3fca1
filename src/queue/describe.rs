//! A queue as it is shown outside.

use super::breaker::BreakerState;
use super::event::{DeathReason, ReceiverKind};
use super::ids::{PartitionKey, Place, QueueName};
use super::policy::QueueConfig;
use super::progress::{Message, MessageState, Progress};
use super::state::{Counts, QueueState};
use crate::filter::Filter;
use crate::types::{Offset, TimestampMs, TopicName};

/// Everything about a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDescription {
    /// As created or last updated.
    pub config: QueueConfig,
    /// Streams that receive from it.
    pub receivers: usize,
    /// Whether it hands out, as far as failures go.
    pub breaker: BreakerState,
    /// What it has done since the broker started.
    pub counts: Counts,
    /// How far it is in each partition, by topic and partition.
    pub partitions: Vec<QueuePartition>,
}

/// How far a queue is in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub at: PartitionKey,
    /// Everything below is done.
    pub low_watermark: Offset,
    /// The first offset that was never handed out.
    pub frontier: Offset,
    /// With receivers.
    pub leased: u64,
    /// Handed out or read before, and available.
    pub available: u64,
    /// Behind another message of their key.
    pub blocked: u64,
    /// Failed, and not yet due again.
    pub waiting: u64,
    /// On their way to the dead letter topic.
    pub dying: u64,
}

/// Where a message is, as far as outside matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageStage {
    /// Nobody has it, and it may be handed out.
    Available,
    /// With a receiver.
    Leased,
    /// Failed, and not yet due again.
    Waiting,
    /// Behind another message of its key.
    Blocked,
    /// On its way to the dead letter topic.
    Dying,
}

/// What a look at one partition is to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeekedPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub at: PartitionKey,
    /// The first messages that are not done and were handed out or read before, with their attempts.
    pub open: Vec<(Offset, MessageStage, u32)>,
    /// From here on every record is available, if there was room to name all before it.
    pub frontier: Offset,
    /// But only those that match.
    pub filter: Option<Filter>,
}

/// A message that others of its key wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockingMessage {
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub at: PartitionKey,
    /// Its place there.
    pub offset: Offset,
    /// Where it is.
    pub stage: MessageStage,
    /// How many times it was handed out.
    pub attempts: u32,
    /// How many open messages are behind it.
    pub blocked: u64,
}

/// A message that is to be written to the dead letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DyingMessage {
    /// The queue.
    pub queue: QueueName,
    /// Where its dead letters go; `None` = nowhere, so it stays.
    pub dead_letter_topic: Option<TopicName>,
    /// The message's topic.
    pub topic: TopicName,
    /// The message.
    pub place: Place,
    /// Why.
    pub reason: DeathReason,
    /// How many times it was handed out.
    pub attempts: u32,
    /// When for the first time.
    pub first_delivered_ms: TimestampMs,
    /// And for the last.
    pub last_delivered_ms: TimestampMs,
}

impl QueueState {
    pub(super) fn describe(&self) -> QueueDescription {
        let mut partitions: Vec<_> =
            self.partitions.iter().map(|(at, progress)| describe_partition(*at, progress)).collect();
        partitions.sort_by(|a, b| (&a.topic, a.at).cmp(&(&b.topic, b.at)));
        let streams = self.receivers.values().filter(|receiver| receiver.kind == ReceiverKind::Stream).count();
        let (breaker, counts) = (self.breaker.state(), self.counts);
        QueueDescription { config: self.config.clone(), receivers: streams, breaker, counts, partitions }
    }

    /// Up to `most` messages of each partition that are not done.
    pub(super) fn peek(&self, most: usize) -> Vec<PeekedPartition> {
        let peeked = self.partitions.iter().map(|(at, progress)| {
            let open = progress.open.iter().take(most);
            let open = open.map(|(offset, message)| (*offset, stage(progress, *offset, message), message.attempts));
            PeekedPartition {
                topic: progress.topic.clone(),
                at: *at,
                open: open.collect(),
                frontier: progress.frontier,
                filter: self.config.filter.clone(),
            }
        });
        peeked.collect()
    }

    /// Up to `most` messages that others of their key wait for; those that hold up most first.
    pub(super) fn blocking(&self, most: usize) -> Vec<BlockingMessage> {
        let mut blocking: Vec<_> = self.keys.blocking().collect();
        blocking.sort_unstable_by_key(|(place, blocked)| (std::cmp::Reverse(*blocked), *place));
        let found = blocking.into_iter().take(most).filter_map(|(place, blocked)| {
            let progress = self.partitions.get(&place.at)?;
            let message = progress.open.get(&place.offset)?;
            let (topic, stage) = (progress.topic.clone(), stage(progress, place.offset, message));
            let (at, offset, attempts) = (place.at, place.offset, message.attempts);
            Some(BlockingMessage { topic, at, offset, stage, attempts, blocked })
        });
        found.collect()
    }

    /// Up to `most` messages that are to be written to the dead letter topic.
    pub(super) fn dying(&self, most: usize) -> impl Iterator<Item = DyingMessage> + '_ {
        self.dying.iter().take(most).filter_map(|place| {
            let message = self.message(*place)?;
            let MessageState::Dying { reason } = &message.state else { return None };
            Some(DyingMessage {
                queue: self.config.name.clone(),
                dead_letter_topic: self.config.policy.dead_letter_topic.clone(),
                topic: self.partitions.get(&place.at)?.topic.clone(),
                place: *place,
                reason: reason.clone(),
                attempts: message.attempts,
                first_delivered_ms: message.first_delivered_ms,
                last_delivered_ms: message.last_delivered_ms,
            })
        })
    }
}

fn describe_partition(at: PartitionKey, progress: &Progress) -> QueuePartition {
    let mut described = QueuePartition {
        topic: progress.topic.clone(),
        at,
        low_watermark: progress.low_watermark(),
        frontier: progress.frontier,
        leased: 0,
        available: 0,
        blocked: 0,
        waiting: 0,
        dying: 0,
    };
    for (offset, message) in &progress.open {
        let count = match stage(progress, *offset, message) {
            MessageStage::Leased => &mut described.leased,
            MessageStage::Waiting => &mut described.waiting,
            MessageStage::Dying => &mut described.dying,
            MessageStage::Available => &mut described.available,
            MessageStage::Blocked => &mut described.blocked,
        };
        *count += 1;
    }
    described
}

fn stage(progress: &Progress, offset: Offset, message: &Message) -> MessageStage {
    match message.state {
        MessageState::Leased(_) => MessageStage::Leased,
        MessageState::Waiting { .. } => MessageStage::Waiting,
        MessageState::Dying { .. } => MessageStage::Dying,
        MessageState::Reserved { .. } => MessageStage::Available,
        MessageState::Available if progress.ready.contains(&offset) || progress.unread.contains(&offset) => {
            MessageStage::Available
        }
        MessageState::Available => MessageStage::Blocked,
    }
}

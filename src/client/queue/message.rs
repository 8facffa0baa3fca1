//! Messages of a queue, and what is said about them.

use crate::client::convert::partition_from_wire;
use crate::client::{ClientError, ConsumedRecord, Refusal};
use crate::proto::{self, settlement};
use crate::types::{Offset, TimestampMs, TopicPartition, record_set};
use bytes::Bytes;
use std::time::Duration;

/// A message, and the right to work on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueMessage {
    /// The record.
    pub record: ConsumedRecord,
    /// How many times it was handed out, this time included.
    pub attempt: u32,
    /// When for the first time.
    pub first_delivered: TimestampMs,
    token: Bytes,
}

/// A message as it is seen without taking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeekedMessage {
    /// The record.
    pub record: ConsumedRecord,
    /// Where it is.
    pub state: MessageState,
    /// How many times it was handed out.
    pub attempts: u32,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageState {
    /// Nobody has it.
    Available,
    /// With a worker.
    Leased,
    /// It failed, and is not yet due again.
    Waiting,
    /// Behind another message of its key.
    Blocked,
    /// On its way to the dead letter topic.
    Dying,
    /// A state this client does not know: the broker is newer.
    Unknown,
}

/// What is said about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Ack,
    /// It failed, and the attempt counts. It comes again after `delay`; `None` = as the queue's retry policy says.
    Nack {
        /// How long it waits.
        delay: Option<Duration>,
        /// For people; kept with a dead letter.
        reason: String,
    },
    /// It was not worked on; the attempt does not count.
    Release,
    /// More time is needed: so long from now; `None` = as long as a new lease.
    Extend {
        /// How long.
        lease: Option<Duration>,
    },
    /// It will never succeed.
    Reject {
        /// For people; kept with the dead letter.
        reason: String,
    },
}

/// A verdict about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    token: Bytes,
    verdict: Verdict,
}

/// A verdict that was refused; nothing was done for it.
#[derive(Debug, Clone)]
pub struct RefusedSettlement {
    /// Which of those that were sent together, from 0.
    pub index: u32,
    /// Why.
    pub refusal: Refusal,
}

impl QueueMessage {
    pub(in crate::client) fn from_wire(message: proto::QueueMessage) -> Result<Self, ClientError> {
        let partition = partition_from_wire(&message.topic, message.partition)?;
        Ok(Self {
            record: record_from_wire(partition, message.offset, message.append_time_ms, &message.record)?,
            attempt: message.attempt,
            first_delivered: message.first_delivered_ms,
            token: message.lease_token,
        })
    }

    /// A verdict about this message, to be sent.
    pub fn settle(&self, verdict: Verdict) -> Settlement {
        Settlement { token: self.token.clone(), verdict }
    }
}

impl PeekedMessage {
    pub(in crate::client) fn from_wire(message: &proto::PeekedMessage) -> Result<Self, ClientError> {
        let state = match message.state() {
            proto::MessageState::Available => MessageState::Available,
            proto::MessageState::Leased => MessageState::Leased,
            proto::MessageState::Waiting => MessageState::Waiting,
            proto::MessageState::Blocked => MessageState::Blocked,
            proto::MessageState::Dying => MessageState::Dying,
            proto::MessageState::Unspecified => MessageState::Unknown,
        };
        let partition = partition_from_wire(&message.topic, message.partition)?;
        let record = record_from_wire(partition, message.offset, message.append_time_ms, &message.record)?;
        Ok(Self { record, state, attempts: message.attempts })
    }
}

impl std::fmt::Display for MessageState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Available => "available",
            Self::Leased => "leased",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
            Self::Dying => "dying",
            Self::Unknown => "unknown",
        })
    }
}

impl Settlement {
    pub(super) fn into_wire(self) -> proto::Settlement {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let verb = match self.verdict {
            Verdict::Ack => settlement::Verb::Ack(settlement::Ack {}),
            Verdict::Nack { delay, reason } => {
                settlement::Verb::Nack(settlement::Nack { delay_ms: delay.map(ms), reason })
            }
            Verdict::Release => settlement::Verb::Release(settlement::Release {}),
            Verdict::Extend { lease } => settlement::Verb::Extend(settlement::Extend { lease_ms: lease.map(ms) }),
            Verdict::Reject { reason } => settlement::Verb::Reject(settlement::Reject { reason }),
        };
        proto::Settlement { lease_token: self.token, verb: Some(verb) }
    }
}

impl RefusedSettlement {
    pub(super) fn from_wire(refused: proto::RefusedSettlement) -> Self {
        Self { index: refused.index, refusal: refused.error.unwrap_or_default().into() }
    }
}

/// A record that a message carries, with its place.
pub(in crate::client) fn record_from_wire(
    partition: TopicPartition,
    offset: u64,
    append_time: TimestampMs,
    body: &Bytes,
) -> Result<ConsumedRecord, ClientError> {
    let record = record_set::record_of_body(body);
    let record = record.ok_or(ClientError::BadAnswer { what: "a message holds no valid record" })?;
    Ok(ConsumedRecord {
        partition,
        offset: Offset(offset),
        key: record.key,
        value: record.value,
        headers: record.headers,
        timestamp: record.timestamp,
        message_id: record.message_id,
        append_time,
    })
}

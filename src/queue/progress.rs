//! How far a queue is in one partition: the frontier, and the messages below it that are open.
//!
//! Everything below the frontier that is not open is done; so done offsets need no memory, and the low watermark is the
//! first open offset. What is open is bounded by `max_in_flight` of the queue. Two sets say what may be handed out:
//! `ready`, and `unread` for messages whose key must be learned first.

use super::event::{DeathReason, MessageKey, Moment, StoredMessage, StoredProgress};
use super::ids::{DeliveryId, ReceiverId};
use crate::types::{Offset, TimestampMs, TopicName};
use std::collections::{BTreeMap, BTreeSet};

/// One partition of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub topic: TopicName,
    /// The first offset that was never given to anybody.
    pub frontier: Offset,
    pub open: BTreeMap<Offset, Message>,
    /// May be handed out.
    pub ready: BTreeSet<Offset>,
    /// Whose keys must be learned, in this order, before anything behind them is read.
    pub unread: BTreeSet<Offset>,
    /// Who alone reads on, where order by key needs that.
    pub scanner: Option<ReceiverId>,
}

/// A message that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub state: MessageState,
    pub attempts: u32,
    pub bytes: u32,
    pub key: MessageKey,
    pub first_delivered_ms: TimestampMs,
    pub last_delivered_ms: TimestampMs,
}

/// Where a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MessageState {
    /// Nobody has it. It may be behind another one of its key.
    Available,
    /// Nobody gets it before this moment.
    Waiting { until: Moment },
    /// This receiver reads it, to be given it next.
    Reserved { receiver: ReceiverId },
    /// Somebody works on it.
    Leased(LeaseState),
    /// It is to be written to the dead letter topic.
    Dying { reason: DeathReason },
}

/// The lease of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeaseState {
    pub delivery: DeliveryId,
    pub receiver: Option<ReceiverId>,
    pub deadline_ms: u64,
    pub deadline_max_ms: u64,
}

impl Message {
    /// One that was never handed out.
    pub(super) fn new() -> Self {
        Self {
            state: MessageState::Available,
            attempts: 0,
            bytes: 0,
            key: MessageKey::Unknown,
            first_delivered_ms: 0,
            last_delivered_ms: 0,
        }
    }

    pub(super) fn from_stored(stored: &StoredMessage) -> Self {
        let state = match (&stored.dying, stored.until) {
            (Some(reason), _) => MessageState::Dying { reason: reason.clone() },
            (None, Some(until)) => MessageState::Waiting { until },
            (None, None) => MessageState::Available,
        };
        Self {
            state,
            attempts: stored.attempts,
            first_delivered_ms: stored.first_delivered_ms,
            last_delivered_ms: stored.last_delivered_ms,
            ..Self::new()
        }
    }

    fn stored(&self, offset: Offset) -> StoredMessage {
        let (until, dying) = match &self.state {
            MessageState::Waiting { until } => (Some(*until), None),
            MessageState::Dying { reason } => (None, Some(reason.clone())),
            MessageState::Available | MessageState::Reserved { .. } | MessageState::Leased(_) => (None, None),
        };
        StoredMessage {
            offset,
            attempts: self.attempts,
            first_delivered_ms: self.first_delivered_ms,
            last_delivered_ms: self.last_delivered_ms,
            until,
            dying,
        }
    }
}

impl Progress {
    /// Nothing of the partition was handed out yet.
    pub(super) fn new(topic: TopicName, frontier: Offset) -> Self {
        let (ready, unread) = Default::default();
        Self { topic, frontier, open: BTreeMap::new(), ready, unread, scanner: None }
    }

    /// What of it is kept.
    pub(super) fn stored(&self) -> StoredProgress {
        StoredProgress {
            topic: self.topic.clone(),
            frontier: self.frontier,
            open: self.open.iter().map(|(offset, message)| message.stored(*offset)).collect(),
        }
    }

    /// Everything below is done.
    pub(super) fn low_watermark(&self) -> Offset {
        self.open.keys().next().copied().unwrap_or(self.frontier)
    }
}

impl Message {
    /// Whether it is leased, by that delivery.
    pub(super) fn is_leased_by(&self, delivery: DeliveryId) -> bool {
        matches!(&self.state, MessageState::Leased(lease) if lease.delivery == delivery)
    }
}

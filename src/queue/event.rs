//! Everything that can happen to the state of queues.
//!
//! State changes by events alone. Those marked durable go to the journal (`super::journal_entries`); leases, receivers
//! and what was read ahead are in memory only, and after a restart there are none.

use super::ids::{DeliveryId, PartitionKey, Place, QueueName, ReceiverId, Run};
use super::policy::QueueConfig;
use crate::types::{Offset, TimestampMs, TopicName};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// One change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Durable. A start of the coordinator: what came before has no leases. Ids of queues below `next_queue` were given.
    RunBegun { run: Run, next_queue: u64 },
    /// Durable. The queue exists, and this is how it delivers.
    QueueSet { config: QueueConfig },
    /// Durable. The queue is gone, with all its progress.
    QueueDeleted { queue: QueueName },
    /// Durable. The queue has come this far in this partition.
    PartitionSet { queue: QueueName, at: PartitionKey, stored: StoredProgress },
    /// Durable. The partition is gone, with its topic.
    PartitionDropped { queue: QueueName, at: PartitionKey },
    /// Durable, without the lease. Messages were handed out; that counts an attempt of each.
    Delivered { queue: QueueName, at: PartitionKey, messages: Vec<HandedOut>, at_ms: TimestampMs, lease: Option<Lease> },
    /// Durable. What became of messages.
    Settled { queue: QueueName, at: PartitionKey, settlement: Settlement },
    /// Durable. Something was done with dead letters.
    Letters(LetterEvent),
    /// Offsets were given to a receiver to be read; those that are available are its own. `scans`: it alone may read on in this partition meanwhile.
    Reserved { queue: QueueName, receiver: ReceiverId, at: PartitionKey, ranges: Vec<Range<Offset>>, scans: bool },
    /// The receiver has read what it could; what it has still reserved is free again. `starved`: the next message is
    /// too large for the room it has.
    Returned { queue: QueueName, receiver: ReceiverId, starved: bool },
    /// Keys of messages that are not handed out yet.
    Learned { queue: QueueName, at: PartitionKey, keys: Vec<(Offset, MessageKey)> },
    /// Records that cannot be read now; they are tried again at this moment.
    PutOff { queue: QueueName, at: PartitionKey, ranges: Vec<Range<Offset>>, until: Moment },
    /// Leases last until then.
    Extended { queue: QueueName, places: Vec<Place>, deadline_ms: u64 },
    /// A delivery was looked at because of its deadline; the next one of its messages is this.
    Rescheduled { queue: QueueName, delivery: DeliveryId, deadline_ms: u64 },
    /// Leases are over without an answer; the messages are available at once.
    Freed { queue: QueueName, places: Vec<Place> },
    /// Messages have waited long enough.
    Ripened { queue: QueueName, until_ms: u64 },
    /// Most deliveries have failed: nothing is handed out until then.
    BreakerOpened { queue: QueueName, until: Moment },
    /// One message is tried.
    BreakerProbed { queue: QueueName },
    /// Somebody has seen to it: handing out goes on.
    BreakerClosed { queue: QueueName },
    /// Somebody wants messages.
    ReceiverOpened { queue: QueueName, receiver: ReceiverId, kind: ReceiverKind, window: Window },
    /// A receiver may have more at a time.
    ReceiverWidened { queue: QueueName, receiver: ReceiverId, more: Window },
    /// A receiver is gone. Its leases were ended by events before this one.
    ReceiverClosed { queue: QueueName, receiver: ReceiverId },
}

/// One change of what is known of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LetterEvent {
    /// Letters in this partition are resolved, with those that were before; without ranges, their topic is known.
    Resolved { topic: TopicName, at: PartitionKey, ranges: Vec<Range<Offset>> },
    /// Nothing is known of the letters of this partition any more.
    Forgotten { at: PartitionKey },
}

/// A message on its way to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HandedOut {
    pub offset: Offset,
    /// Size of the record.
    pub bytes: u32,
    pub key: MessageKey,
}

/// A number that stands for a record's key. Two keys with one number are taken for one key: order is kept, and only
/// time is lost.
pub(super) type KeyHash = u64;

/// The key of a message, as far as order needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageKey {
    /// The record was not read yet, or order does not matter.
    Unknown,
    /// It has none, and no order with others.
    Without,
    /// It has one.
    Hash(KeyHash),
}

/// The terms of the leases of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub delivery: DeliveryId,
    /// Whose end is the end of the lease; `None` = the lease stands alone.
    pub receiver: Option<ReceiverId>,
    pub deadline_ms: u64,
    /// No extension goes beyond.
    pub deadline_max_ms: u64,
}

/// What became of messages of one partition.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settlement {
    /// Worked on, and done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acked: Vec<Range<Offset>>,
    /// Written to the dead letter topic, and so done here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buried: Vec<Range<Offset>>,
    /// Not in the log any more: deleted by retention, or compacted away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Range<Offset>>,
    /// Passed over: they do not match the filter of the queue.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filtered: Vec<Range<Offset>>,
    /// Given back unworked; the attempt does not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub released: Vec<Range<Offset>>,
    /// Failed; to come again not before a moment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(Offset, Moment)>,
    /// To be written to the dead letter topic.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dying: Vec<(Offset, DeathReason)>,
}

/// A moment on two clocks: one that nobody sets, to wait by, and the time of day, to be kept across a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moment {
    /// Of this run only.
    #[serde(skip)]
    pub monotonic_ms: u64,
    pub wall_ms: TimestampMs,
}

/// Why a message goes to the dead letter topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeathReason {
    /// Its attempts are used up. The text is the reason its last receiver gave, if it gave one.
    AttemptsExhausted(String),
    /// A receiver rejected it, with this reason.
    Rejected(String),
    /// It was too old when its turn came.
    Expired,
}

/// The progress of a queue in one partition, as it is kept. Everything below the frontier that is not open is done, so
/// the low watermark is the first open offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredProgress {
    pub topic: TopicName,
    /// The first offset that was never handed out.
    pub frontier: Offset,
    /// What below it is not done, by offset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<StoredMessage>,
}

/// A message that is not done, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredMessage {
    pub offset: Offset,
    #[serde(default)]
    pub attempts: u32,
    #[serde(default)]
    pub first_delivered_ms: TimestampMs,
    #[serde(default)]
    pub last_delivered_ms: TimestampMs,
    /// Not to be handed out before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dying: Option<DeathReason>,
}

/// What a receiver may have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Messages that are leased and not settled.
    pub messages: u32,
    /// Bytes of their records. A message larger than the window comes when nothing else is out.
    pub bytes: u64,
}

/// How long the leases of a receiver last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiverKind {
    /// As long as the receiver is there, up to `max_lease_ms`.
    Stream,
    /// On their own: the receiver is one call.
    Call,
}

/// How a receiver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Its client closed it: what it had is given back, and does not count as an attempt.
    InOrder,
    /// It was lost: what it had is free at once, and counts, so that a message that kills its worker does not do so
    /// for ever.
    Lost,
}

/// The moment of a decision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// For deadlines: never goes backwards, and means nothing to anybody else.
    pub monotonic_ms: u64,
    /// For people, and across restarts.
    pub wall_ms: TimestampMs,
}

impl Now {
    /// So long after now.
    pub(super) fn after(self, ms: u64) -> Moment {
        let wall_ms = self.wall_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
        Moment { monotonic_ms: self.monotonic_ms.saturating_add(ms), wall_ms }
    }
}

/// What a request leads to: the answer, and the changes.
#[derive(Debug, Default)]
pub(super) struct Decision<R> {
    pub reply: R,
    pub events: Vec<Event>,
}

impl Settlement {
    /// Adds what else was settled, behind this.
    pub(super) fn add(&mut self, more: &Self) {
        let Self { acked, buried, absent, filtered, released, failed, dying } = more;
        let ours = [&mut self.acked, &mut self.buried, &mut self.absent, &mut self.filtered, &mut self.released];
        for (ours, more) in ours.into_iter().zip([acked, buried, absent, filtered, released]) {
            for range in more {
                push_range(ours, range.clone());
            }
        }
        self.failed.extend_from_slice(failed);
        self.dying.extend_from_slice(dying);
    }
}

/// Adds an offset to ranges that are built in order; neighbours become one range.
pub(super) fn push_offset(ranges: &mut Vec<Range<Offset>>, offset: Offset) {
    push_range(ranges, offset..offset.advance(1));
}

/// The same with many offsets.
pub(super) fn push_range(ranges: &mut Vec<Range<Offset>>, range: Range<Offset>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// The offsets of ranges.
pub(super) fn offsets(ranges: &[Range<Offset>]) -> impl Iterator<Item = Offset> + '_ {
    ranges.iter().flat_map(|range| (range.start.0..range.end.0).map(Offset))
}

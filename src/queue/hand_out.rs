//! Handing out: a receiver reserves offsets, reads them, and is given those that may go.
//!
//! Two steps, because the log is read by the receiver and not here. [`QueueState::decide_reserve`] sets offsets aside
//! for it alone; [`QueueState::decide_deliver`] is told what it found, leases that and counts the attempts, and takes
//! everything else back. With order by key, one receiver at a time learns new keys of a partition, in the order of
//! offsets: otherwise a later message could overtake an earlier one of its key whose reader is slow. With a filter too one
//! receiver at a time reads on, because it may pass over more than it has reserved: thousands of records that do not match
//! are one range, never messages.

use super::error::QueueError;
use super::event::{DeathReason, Decision, Event, HandedOut, KeyHash, Lease, MessageKey, Now, ReceiverKind};
use super::event::{Settlement, offsets, push_offset, push_range};
use super::ids::{DeliveryId, PartitionKey, Place, ReceiverId, Run};
use super::logs::Logs;
use super::policy::Priority;
use super::progress::{MessageState, Progress};
use super::state::{QueueState, Receiver};
use super::token::{LeaseToken, TOKEN_BYTES};
use crate::filter::Filter;
use crate::limits;
use crate::types::{Offset, TimestampMs, TopicName};
use bytes::{Bytes, BytesMut};
use std::collections::HashSet;
use std::ops::Range;

/// How long records that cannot be read are left alone.
const PUT_OFF_MS: u64 = 5_000;

/// What a receiver is to read, in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The partition.
    pub at: PartitionKey,
    /// Its topic.
    pub topic: TopicName,
    /// The offsets, ascending.
    pub ranges: Vec<Range<Offset>>,
    /// Room for so many bytes. The first record may be larger, if the receiver has nothing else.
    pub bytes_max: u64,
    /// Whether the first record is taken whatever its size.
    pub takes_oversize: bool,
    /// Whether [`FoundMessage::ttl_ms`] is asked for.
    pub wants_ttl: bool,
    /// Which of the records are messages.
    pub filter: Option<Filter>,
    /// Whether a reader that has found no message in all the ranges may read on behind them while nothing matches.
    pub reads_on: bool,
}

/// What came of asking for messages.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Reserving {
    /// These are set aside.
    Messages {
        /// They.
        reservation: Reservation,
        /// Whether there may be more for other receivers.
        leaves_more: bool,
    },
    /// There is nothing now.
    #[default]
    Nothing,
    /// There may be something, but not for this receiver, or not now. It is woken when that changes.
    NoRoom,
}

impl Reserving {
    /// What is set aside, if anything is.
    pub fn messages(self) -> Option<Reservation> {
        match self {
            Self::Messages { reservation, .. } => Some(reservation),
            Self::Nothing | Self::NoRoom => None,
        }
    }
}

/// What a receiver has read of its reservation. What is not named goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The partition.
    pub at: PartitionKey,
    /// Messages that are there, ascending, from the first of the reservation on without leaving one out that is there.
    pub messages: Vec<FoundMessage>,
    /// Offsets that are not in the log any more, ascending.
    pub absent: Vec<Range<Offset>>,
    /// Offsets of records that do not match, ascending. Where the reader could read on, this and `absent` may go on behind
    /// the reservation without leaving out what is there.
    pub filtered: Vec<Range<Offset>>,
    /// Offsets that cannot be read now, ascending.
    pub unreadable: Vec<Range<Offset>>,
    /// The next message is too large for the room that the reservation gave.
    pub starved: bool,
}

/// A message that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundMessage {
    /// The record.
    pub offset: Offset,
    /// Its size.
    pub bytes: u32,
    /// What stands for its key, if it has one.
    pub key: Option<u64>,
    /// When it was appended.
    pub append_time_ms: TimestampMs,
    /// How long after that it is worth working on, if it says so itself.
    pub ttl_ms: Option<u64>,
}

/// A message that a receiver may work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedMessage {
    /// The record.
    pub offset: Offset,
    /// How many times it was handed out, this time included.
    pub attempt: u32,
    /// When it was handed out for the first time.
    pub first_delivered_ms: TimestampMs,
    /// What settles it.
    pub token: Bytes,
}

/// What follows for messages that were read.
struct Chosen {
    messages: Vec<HandedOut>,
    expired: Vec<(Offset, DeathReason)>,
    learned: Vec<(Offset, MessageKey)>,
}

impl QueueState {
    /// Sets up to `most` messages aside for a receiver, all of one partition.
    pub(super) fn decide_reserve(
        &self,
        id: ReceiverId,
        most: u32,
        logs: &dyn Logs,
    ) -> Result<Decision<Reserving>, QueueError> {
        let receiver = self.receiver(id)?;
        let mut decision = Decision::default();
        let room = self.room(receiver).min(most).min(limits::DELIVERY_MESSAGES_MAX).min(self.breaker_room()) as usize;
        let bytes_max = receiver.window.bytes.saturating_sub(receiver.leased_bytes);
        if self.config.paused || room == 0 || bytes_max == 0 || receiver.starved || !receiver.reserved.is_empty() {
            decision.reply = Reserving::NoRoom;
            return Ok(decision);
        }
        for (at, progress) in self.partitions_by_turn() {
            let mut ranges = Vec::new();
            let mut taken = take_ready(progress, room, &mut ranges);
            let (mut scans, mut reads_on) = (false, false);
            if taken < room && (!self.reads_alone() || progress.scanner.is_none()) {
                let before = taken;
                for offset in progress.unread.iter().take(room - taken) {
                    push_offset(&mut ranges, *offset);
                    taken += 1;
                }
                if taken < room {
                    let new = self.take_new(*at, progress, room - taken, logs, &mut ranges, &mut decision.events);
                    reads_on = self.config.filter.is_some() && new > 0;
                    taken += new;
                }
                scans = self.reads_alone() && taken > before;
            }
            if taken == 0 {
                continue;
            }
            ranges.sort_by_key(|range| range.start);
            let queue = self.config.name.clone();
            decision.events.push(Event::Reserved { queue, receiver: id, at: *at, ranges: ranges.clone(), scans });
            let (topic, takes_oversize) = (progress.topic.clone(), receiver.leased == 0);
            let wants_ttl = self.config.policy.message_ttl_ms > 0;
            let (at, filter) = (*at, self.config.filter.clone());
            let leaves_more = taken == room || self.partitions.len() > 1;
            let reservation = Reservation { at, topic, ranges, bytes_max, takes_oversize, wants_ttl, filter, reads_on };
            decision.reply = Reserving::Messages { reservation, leaves_more };
            break;
        }
        Ok(decision)
    }

    /// Leases what a receiver has found, and takes back what it had reserved besides.
    pub(super) fn decide_deliver(
        &self,
        id: ReceiverId,
        found: &Found,
        delivery: DeliveryId,
        run: Run,
        now: Now,
    ) -> Result<Decision<Vec<LeasedMessage>>, QueueError> {
        let receiver = self.receiver(id)?;
        let mut decision = Decision::<Vec<LeasedMessage>>::default();
        let queue = &self.config.name;
        let at = found.at;
        let has_reserved = |offset: Offset| receiver.reserved.contains(&Place { at, offset });
        let Chosen { messages, expired, mut learned } = self.choose(found, id, now);
        let mut tokens = BytesMut::with_capacity(messages.len() * TOKEN_BYTES);
        for handed_out in &messages {
            let place = Place { at, offset: handed_out.offset };
            let known = self.message(place);
            let attempt = known.map_or(0, |message| message.attempts).saturating_add(1);
            LeaseToken { queue: self.config.id, run, place, attempt, delivery }.encode(&mut tokens);
            let first = known.map_or(0, |message| message.first_delivered_ms);
            decision.reply.push(LeasedMessage {
                offset: handed_out.offset,
                attempt,
                first_delivered_ms: if first == 0 { now.wall_ms } else { first },
                token: tokens.split().freeze(),
            });
        }
        let [absent, filtered] = [&found.absent, &found.filtered].map(|ranges| self.passed(ranges, receiver, id, at));
        if !absent.is_empty() || !filtered.is_empty() {
            let settlement = Settlement { absent, filtered, ..Settlement::default() };
            decision.events.push(Event::Settled { queue: queue.clone(), at, settlement });
        }
        if !expired.is_empty() {
            let settlement = Settlement { dying: expired, ..Settlement::default() };
            decision.events.push(Event::Settled { queue: queue.clone(), at, settlement });
        }
        if self.keeps_order() {
            // Nobody can tell their keys: they hold up no other message.
            let unreadable = offsets(&found.unreadable);
            let asked = unreadable.filter(|offset| has_reserved(*offset) || self.is_asked_for_key(id, at, *offset));
            learned.extend(asked.map(|offset| (offset, MessageKey::Without)));
        }
        let ranges = ranges_where(&found.unreadable, has_reserved);
        if !ranges.is_empty() {
            decision.events.push(Event::PutOff { queue: queue.clone(), at, ranges, until: now.after(PUT_OFF_MS) });
        }
        if !messages.is_empty() {
            let lease = Some(self.lease(id, receiver.kind, delivery, now));
            decision.events.push(Event::Delivered { queue: queue.clone(), at, messages, at_ms: now.wall_ms, lease });
        }
        if !learned.is_empty() {
            decision.events.push(Event::Learned { queue: queue.clone(), at, keys: learned });
        }
        decision.events.push(Event::Returned { queue: queue.clone(), receiver: id, starved: found.starved });
        Ok(decision)
    }

    /// Which of the found messages go to the receiver now, and the keys of the others.
    fn choose(&self, found: &Found, receiver: ReceiverId, now: Now) -> Chosen {
        let messages = Vec::with_capacity(found.messages.len());
        let mut chosen = Chosen { messages, expired: Vec::new(), learned: Vec::new() };
        let mut seen: HashSet<KeyHash> = HashSet::new();
        for FoundMessage { offset, bytes, key, append_time_ms, ttl_ms } in found.messages.iter().copied() {
            let place = Place { at: found.at, offset };
            let is_reserved = self.receivers.get(&receiver).is_some_and(|found| found.reserved.contains(&place));
            let key = match key {
                _ if !self.keeps_order() => MessageKey::Unknown,
                None => MessageKey::Without,
                Some(hash) => MessageKey::Hash(hash),
            };
            let is_first = match key {
                MessageKey::Hash(hash) => seen.insert(hash) && self.keys.is_next(key, place),
                MessageKey::Unknown | MessageKey::Without => true,
            };
            if is_reserved && is_first && self.config.policy.is_expired(append_time_ms, ttl_ms, now.wall_ms) {
                chosen.expired.push((offset, DeathReason::Expired));
                if key != MessageKey::Unknown {
                    chosen.learned.push((offset, key));
                }
            } else if is_reserved && is_first {
                chosen.messages.push(HandedOut { offset, bytes, key });
            } else if is_reserved || self.is_asked_for_key(receiver, found.at, offset) {
                chosen.learned.push((offset, key));
            }
        }
        chosen
    }

    /// Of offsets that are done without having been handed out those that this receiver may speak of: what it has reserved,
    /// or reads for its key, and from the frontier on all, if it is the one that reads on.
    fn passed(
        &self,
        ranges: &[Range<Offset>],
        receiver: &Receiver,
        id: ReceiverId,
        at: PartitionKey,
    ) -> Vec<Range<Offset>> {
        let Some(progress) = self.partitions.get(&at) else { return Vec::new() };
        let reads_on = self.config.filter.is_some() && progress.scanner == Some(id);
        let may_pass =
            |offset: Offset| receiver.reserved.contains(&Place { at, offset }) || self.is_asked_for_key(id, at, offset);
        let mut passed = Vec::new();
        for Range { start, end } in ranges.iter().cloned() {
            let known = start..end.min(progress.frontier);
            offsets(&[known]).filter(|offset| may_pass(*offset)).for_each(|offset| push_offset(&mut passed, offset));
            if reads_on && end > progress.frontier {
                push_range(&mut passed, start.max(progress.frontier)..end);
            }
        }
        passed
    }

    /// Whether a message that may not be handed out yet is read by this receiver for its key.
    fn is_asked_for_key(&self, receiver: ReceiverId, at: PartitionKey, offset: Offset) -> bool {
        let Some(progress) = self.partitions.get(&at) else { return false };
        let is_idle = |state: &MessageState| matches!(state, MessageState::Waiting { .. } | MessageState::Dying { .. });
        progress.scanner == Some(receiver)
            && progress.unread.contains(&offset)
            && progress.open.get(&offset).is_some_and(|message| is_idle(&message.state))
    }

    fn lease(&self, id: ReceiverId, kind: ReceiverKind, delivery: DeliveryId, now: Now) -> Lease {
        let policy = &self.config.policy;
        Lease {
            delivery,
            receiver: (kind == ReceiverKind::Stream).then_some(id),
            deadline_ms: now.monotonic_ms.saturating_add(policy.lease_ms),
            deadline_max_ms: now.monotonic_ms.saturating_add(policy.max_lease_ms),
        }
    }

    pub(super) fn receiver(&self, id: ReceiverId) -> Result<&Receiver, QueueError> {
        self.receivers.get(&id).ok_or_else(|| QueueError::ReceiverOver { queue: self.config.name.clone() })
    }

    /// How many more messages a receiver may have.
    fn room(&self, receiver: &Receiver) -> u32 {
        let most = match self.config.policy.max_in_flight_per_receiver {
            0 => receiver.window.messages,
            most => receiver.window.messages.min(most),
        };
        most.saturating_sub(receiver.leased)
    }

    /// Every partition once, in the order in which they are served now.
    fn partitions_by_turn(&self) -> Vec<(&PartitionKey, &Progress)> {
        let mut partitions: Vec<_> = self.partitions_in_turn().collect();
        if self.config.policy.priority == Priority::Partition {
            // Stable: those of one number stay in turn.
            partitions.sort_by_key(|(at, _)| std::cmp::Reverse(at.partition));
        }
        partitions
    }

    /// Every partition once, beginning after the one that was served last.
    fn partitions_in_turn(&self) -> impl Iterator<Item = (&PartitionKey, &Progress)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let served = self.served;
        let after = served.map_or(Unbounded, Excluded);
        let up_to = served.map(|served| self.partitions.range((Unbounded, Included(served))));
        self.partitions.range((after, Unbounded)).chain(up_to.into_iter().flatten())
    }

    /// Takes messages from the frontier on, as far as the queue's bound and the log go.
    fn take_new(
        &self,
        at: PartitionKey,
        progress: &Progress,
        most: usize,
        logs: &dyn Logs,
        ranges: &mut Vec<Range<Offset>>,
        events: &mut Vec<Event>,
    ) -> usize {
        let Some(bounds) = logs.bounds(&progress.topic, at) else { return 0 };
        let start = progress.frontier.max(bounds.log_start);
        if progress.frontier < start {
            // Deleted by retention before anybody got it.
            let settlement = Settlement { absent: vec![progress.frontier..start], ..Settlement::default() };
            events.push(Event::Settled { queue: self.config.name.clone(), at, settlement });
        }
        let below_bound = (self.config.policy.max_in_flight as usize).saturating_sub(self.open);
        let there = bounds.high_watermark.records_since(start);
        let count = there.min(most.min(below_bound) as u64);
        if count > 0 {
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = start.advance(count),
                _ => ranges.push(start..start.advance(count)),
            }
        }
        usize::try_from(count).unwrap_or(most)
    }
}

/// Takes messages that were handed out or read before. Of one key only the first of the partition is among them.
fn take_ready(progress: &Progress, most: usize, ranges: &mut Vec<Range<Offset>>) -> usize {
    let mut taken = 0;
    for offset in progress.ready.iter().take(most) {
        push_offset(ranges, *offset);
        taken += 1;
    }
    taken
}

/// The offsets of `ranges` that `take` takes, as ranges.
fn ranges_where(ranges: &[Range<Offset>], take: impl Fn(Offset) -> bool) -> Vec<Range<Offset>> {
    let mut taken = Vec::new();
    offsets(ranges).filter(|offset| take(*offset)).for_each(|offset| push_offset(&mut taken, offset));
    taken
}

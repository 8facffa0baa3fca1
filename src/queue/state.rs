//! One queue as a pure state machine: `decide_*` looks, [`QueueState::apply`] changes.
//!
//! The decisions stand in `super::hand_out` (receive), `super::settle` and `super::expiry`; the state and its changes
//! here, with `super::transitions` for a single message. What always holds: a message is in one state; whoever has it
//! reserved or leased is known; of what is available exactly that stands in `ready` or `unread` which may be handed out
//! now; of one key at most one message is with a receiver. `super::model_tests` holds all this against a small naive model.

use super::breaker::Breaker;
use super::event::{DeathReason, Event, HandedOut, Lease, ReceiverKind, Settlement, StoredProgress, Window, offsets};
use super::ids::{DeliveryId, PartitionKey, Place, ReceiverId};
use super::keys::Keys;
use super::policy::{Ordering, QueueConfig};
use super::progress::{LeaseState, Message, MessageState, Progress};
use crate::limits;
use crate::types::{Offset, TimestampMs};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// One queue.
#[derive(Debug, Clone)]
pub(super) struct QueueState {
    pub(super) config: QueueConfig,
    pub(super) partitions: BTreeMap<PartitionKey, Progress>,
    pub(super) receivers: BTreeMap<ReceiverId, Receiver>,
    pub(super) deliveries: BTreeMap<DeliveryId, Delivery>,
    /// When deliveries are to be looked at. Each delivery stands here once.
    pub(super) deadlines: BTreeSet<(u64, DeliveryId)>,
    /// When messages have waited long enough.
    pub(super) waiting: BTreeSet<(u64, Place)>,
    /// What is to be written to the dead letter topic.
    pub(super) dying: BTreeSet<Place>,
    pub(super) keys: Keys,
    /// Messages that are open, in all partitions.
    pub(super) open: usize,
    /// Whose turn it is: the partition after this one.
    pub(super) served: Option<PartitionKey>,
    pub(super) counts: Counts,
    /// Set when there may be something to hand out that there was not before.
    pub(super) stirred: bool,
    /// Receivers that had no room and have some now.
    pub(super) roomier: BTreeSet<ReceiverId>,
    pub(super) breaker: Breaker,
}

/// Who wants messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receiver {
    pub kind: ReceiverKind,
    pub window: Window,
    pub reserved: BTreeSet<Place>,
    pub leased: u32,
    pub leased_bytes: u64,
    /// The next message does not fit the bytes it has room for.
    pub starved: bool,
    pub deliveries: BTreeSet<DeliveryId>,
}

/// Messages that were handed out together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub receiver: Option<ReceiverId>,
    /// All that were handed out; those that are settled go when they are the greater part.
    pub places: Vec<Place>,
    /// How many are not settled.
    pub leased: usize,
    /// Where it stands in the deadlines.
    pub look_at_ms: u64,
}

/// What the queue has done since the broker started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Messages handed out, again and again.
    pub delivered: u64,
    /// Messages that were done.
    pub acked: u64,
    /// Messages written to the dead letter topic.
    pub dead_lettered: u64,
    /// Deliveries that failed.
    pub failed: u64,
    /// Messages that retention or compaction removed before they were done.
    pub absent: u64,
    /// Messages that do not match the filter.
    pub filtered: u64,
}

impl QueueState {
    pub(super) fn new(config: QueueConfig) -> Self {
        Self {
            config,
            partitions: BTreeMap::new(),
            receivers: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            waiting: BTreeSet::new(),
            dying: BTreeSet::new(),
            keys: Keys::default(),
            open: 0,
            served: None,
            counts: Counts::default(),
            stirred: false,
            roomier: BTreeSet::new(),
            breaker: Breaker::default(),
        }
    }

    /// What counts from the start of the broker begins anew; the journal told of the time before.
    pub(super) fn begin_run(&mut self) {
        self.counts = Counts::default();
        self.breaker = Breaker::default();
    }

    /// Carries out one event of this queue. Total: a journal that was cut in the middle of a life still replays.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::QueueSet { config } => {
                if self.config.policy.breaker != config.policy.breaker {
                    self.breaker = Breaker::default();
                }
                self.config = config.clone();
                self.stirred = true;
            }
            Event::PartitionSet { at, stored, .. } => self.set_partition(*at, stored),
            Event::PartitionDropped { at, .. } => self.drop_partition(*at),
            Event::Delivered { at, messages, at_ms, lease, .. } => self.deliver(*at, messages, *at_ms, *lease),
            Event::Settled { at, settlement, .. } => self.settle(*at, settlement),
            Event::Reserved { receiver, at, ranges, scans, .. } => self.reserve(*receiver, *at, ranges, *scans),
            Event::Learned { at, keys, .. } => {
                for (offset, key) in keys {
                    self.learn(Place { at: *at, offset: *offset }, *key);
                }
            }
            Event::PutOff { at, ranges, until, .. } => {
                for offset in offsets(ranges) {
                    self.set_state(Place { at: *at, offset }, MessageState::Waiting { until: *until });
                }
            }
            Event::Extended { places, deadline_ms, .. } => self.extend(places, *deadline_ms),
            Event::Rescheduled { delivery, deadline_ms, .. } => self.reschedule(*delivery, *deadline_ms),
            Event::Freed { places, .. } => {
                let is_counted = places.iter().any(|place| self.concerns_breaker(*place));
                for place in places {
                    self.set_state(*place, MessageState::Available);
                }
                self.counts.failed = self.counts.failed.saturating_add(places.len() as u64);
                // One worker was lost, however much it had.
                self.note_outcomes(0, u64::from(is_counted));
            }
            Event::Ripened { until_ms, .. } => {
                while let Some((_, place)) = self.waiting.first().copied().filter(|(ms, _)| ms <= until_ms) {
                    self.set_state(place, MessageState::Available);
                }
            }
            Event::BreakerOpened { .. } | Event::BreakerProbed { .. } | Event::BreakerClosed { .. } => {
                self.apply_to_breaker(event);
            }
            Event::ReceiverOpened { .. }
            | Event::ReceiverWidened { .. }
            | Event::ReceiverClosed { .. }
            | Event::Returned { .. } => self.apply_to_receiver(event),
            // These concern more than one queue; `Queues::apply` does them.
            Event::RunBegun { .. } | Event::QueueDeleted { .. } | Event::Letters(_) => {}
        }
    }

    fn apply_to_receiver(&mut self, event: &Event) {
        // One of them at a time tries for a breaker, and the others wait to be woken: it may have found nothing to try.
        let may_end_a_try = matches!(event, Event::ReceiverClosed { .. } | Event::Returned { .. });
        self.stirred |= may_end_a_try && self.breaker.is_shut();
        match event {
            Event::ReceiverOpened { receiver, kind, window, .. } => {
                let opened = Receiver {
                    kind: *kind,
                    window: *window,
                    reserved: BTreeSet::new(),
                    leased: 0,
                    leased_bytes: 0,
                    starved: false,
                    deliveries: BTreeSet::new(),
                };
                self.receivers.insert(*receiver, opened);
            }
            Event::ReceiverWidened { receiver, more, .. } => {
                if let Some(found) = self.receivers.get_mut(receiver) {
                    found.window.messages = found.window.messages.saturating_add(more.messages);
                    found.window.bytes = found.window.bytes.saturating_add(more.bytes);
                    found.starved = false;
                    self.roomier.insert(*receiver);
                }
            }
            Event::ReceiverClosed { receiver, .. } => {
                self.give_back(*receiver);
                self.receivers.remove(receiver);
                self.roomier.remove(receiver);
            }
            Event::Returned { receiver, starved, .. } => {
                self.give_back(*receiver);
                if let Some(found) = self.receivers.get_mut(receiver) {
                    // With nothing leased there is nothing that could make room.
                    found.starved = *starved && found.leased > 0;
                }
            }
            _ => {}
        }
    }

    /// Whether the queue keeps order by key.
    pub(super) fn keeps_order(&self) -> bool {
        self.config.policy.ordering == Ordering::Key
    }

    /// Whether one receiver at a time takes new messages of a partition: with order by key because it learns the keys in
    /// order, with a filter because it reads on beyond what it has reserved.
    pub(super) fn reads_alone(&self) -> bool {
        self.keeps_order() || self.config.filter.is_some()
    }

    pub(super) fn message(&self, place: Place) -> Option<&Message> {
        self.partitions.get(&place.at)?.open.get(&place.offset)
    }

    /// Whether all receivers should look again, and which of them have room again. Asking clears both.
    pub(super) fn take_wakes(&mut self) -> (bool, BTreeSet<ReceiverId>) {
        (std::mem::take(&mut self.stirred), std::mem::take(&mut self.roomier))
    }

    fn set_partition(&mut self, at: PartitionKey, stored: &StoredProgress) {
        self.drop_partition(at);
        self.partitions.insert(at, Progress::new(stored.topic.clone(), stored.frontier));
        for message in &stored.open {
            self.insert(Place { at, offset: message.offset }, Message::from_stored(message));
        }
        self.stirred = true;
    }

    fn drop_partition(&mut self, at: PartitionKey) {
        let open: Vec<Offset> =
            self.partitions.get(&at).map(|progress| progress.open.keys().copied().collect()).unwrap_or_default();
        for offset in open {
            self.remove(Place { at, offset });
        }
        self.partitions.remove(&at);
        for key in self.keys.drop_partition(at) {
            self.refresh(key);
        }
    }

    fn reserve(&mut self, receiver: ReceiverId, at: PartitionKey, ranges: &[Range<Offset>], scans: bool) {
        self.served = Some(at);
        let was_stirred = self.stirred;
        for range in ranges {
            self.extend_frontier(at, range.end);
            for offset in offsets(std::slice::from_ref(range)) {
                let place = Place { at, offset };
                if self.message(place).is_some_and(|message| message.state == MessageState::Available) {
                    self.set_state(place, MessageState::Reserved { receiver });
                }
            }
        }
        // New messages were available only on their way to this receiver: nobody else need look.
        self.stirred = was_stirred;
        if scans && let Some(progress) = self.partitions.get_mut(&at) {
            progress.scanner = Some(receiver);
        }
    }

    fn deliver(&mut self, at: PartitionKey, messages: &[HandedOut], at_ms: TimestampMs, lease: Option<Lease>) {
        for handed_out in messages {
            let place = Place { at, offset: handed_out.offset };
            if !self.extend_frontier(at, place.offset.advance(1)) {
                continue;
            }
            self.learn(place, handed_out.key);
            let Some(message) = self.message_mut(place) else { continue };
            message.attempts = message.attempts.saturating_add(1);
            message.bytes = handed_out.bytes;
            message.last_delivered_ms = at_ms;
            if message.first_delivered_ms == 0 {
                message.first_delivered_ms = at_ms;
            }
            let state = match lease {
                None => MessageState::Available,
                Some(Lease { delivery, receiver, deadline_ms, deadline_max_ms }) => {
                    MessageState::Leased(LeaseState { delivery, receiver, deadline_ms, deadline_max_ms })
                }
            };
            self.set_state(place, state);
            self.counts.delivered += 1;
        }
        let Some(lease) = lease else { return };
        let leased = messages.iter().map(|message| Place { at, offset: message.offset });
        let delivery = self.deliveries.entry(lease.delivery).or_insert_with(|| Delivery {
            receiver: lease.receiver,
            places: Vec::with_capacity(messages.len()),
            leased: 0,
            look_at_ms: lease.deadline_ms,
        });
        delivery.places.extend(leased);
        delivery.leased += messages.len();
        self.deadlines.insert((delivery.look_at_ms, lease.delivery));
        if let Some(receiver) = lease.receiver.and_then(|receiver| self.receivers.get_mut(&receiver)) {
            receiver.deliveries.insert(lease.delivery);
        }
    }

    fn settle(&mut self, at: PartitionKey, settlement: &Settlement) {
        let Settlement { acked, buried, absent, filtered, released, failed, dying } = settlement;
        let (judged_acked, judged_failed) = self.outcomes_of(at, settlement);
        let add = |count: &mut u64, more| *count = count.saturating_add(more);
        for ranges in [acked, buried] {
            for range in ranges {
                self.finish(at, range);
            }
        }
        // Both in order of offsets: they may reach far beyond the frontier, each up to where the next begins, and what one
        // of them leaves out would be open.
        let mut passed: Vec<_> = absent.iter().chain(filtered).collect();
        passed.sort_by_key(|range| range.start);
        for range in passed {
            self.finish(at, range);
        }
        let finished = [acked, buried, absent, filtered].map(|ranges| messages_in(ranges));
        let died = dying.iter().filter(|(_, reason)| *reason != DeathReason::Expired).count();
        let all_failed = (failed.len() + died) as u64;
        self.note_outcomes(judged_acked, judged_failed);
        add(&mut self.counts.failed, all_failed);
        add(&mut self.counts.acked, finished[0]);
        add(&mut self.counts.dead_lettered, finished[1]);
        add(&mut self.counts.absent, finished[2]);
        add(&mut self.counts.filtered, finished[3]);
        for offset in offsets(released) {
            let place = Place { at, offset };
            if let Some(message) = self.message_mut(place) {
                message.attempts = message.attempts.saturating_sub(1);
            }
            self.set_state(place, MessageState::Available);
        }
        for (offset, until) in failed {
            self.set_state(Place { at, offset: *offset }, MessageState::Waiting { until: *until });
        }
        for (offset, reason) in dying {
            // One that was too old was never handed out: in the journal nothing else speaks of it.
            self.extend_frontier(at, offset.advance(1));
            self.set_state(Place { at, offset: *offset }, MessageState::Dying { reason: reason.clone() });
        }
    }

    /// These are done.
    fn finish(&mut self, at: PartitionKey, range: &Range<Offset>) {
        // What lies between the frontier and the range was passed over unread, so it is open; what lies inside is done,
        // however much it is, and never becomes open.
        if !self.extend_frontier(at, range.start) {
            return;
        }
        let Some(progress) = self.partitions.get_mut(&at) else { return };
        progress.frontier = progress.frontier.max(range.end);
        let open: Vec<Offset> = progress.open.range(range.clone()).map(|(offset, _)| *offset).collect();
        for offset in open {
            self.remove(Place { at, offset });
        }
    }

    fn give_back(&mut self, receiver: ReceiverId) {
        let reserved = self.receivers.get(&receiver).map(|found| found.reserved.clone()).unwrap_or_default();
        for place in reserved {
            self.set_state(place, MessageState::Available);
        }
        for progress in self.partitions.values_mut().filter(|progress| progress.scanner == Some(receiver)) {
            progress.scanner = None;
            self.stirred = true;
        }
    }

    fn extend(&mut self, places: &[Place], deadline_ms: u64) {
        for place in places {
            if let Some(Message { state: MessageState::Leased(lease), .. }) = self.message_mut(*place) {
                lease.deadline_ms = deadline_ms;
                let delivery = lease.delivery;
                // An earlier deadline must be met in time; a later one is found when the delivery is looked at.
                if self.deliveries.get(&delivery).is_some_and(|found| deadline_ms < found.look_at_ms) {
                    self.reschedule(delivery, deadline_ms);
                }
            }
        }
    }

    fn reschedule(&mut self, id: DeliveryId, deadline_ms: u64) {
        if let Some(delivery) = self.deliveries.get_mut(&id) {
            self.deadlines.remove(&(delivery.look_at_ms, id));
            delivery.look_at_ms = deadline_ms;
            self.deadlines.insert((deadline_ms, id));
        }
    }

    /// Makes everything up to `end` known; what was passed over is open. `false` if that is more than can be: then a
    /// repair of the journal has left out what lies between, and what it says of offsets so far ahead does not count.
    /// They are handed out again, as if they never had been.
    fn extend_frontier(&mut self, at: PartitionKey, end: Offset) -> bool {
        let Some(progress) = self.partitions.get_mut(&at) else { return false };
        let passed = progress.frontier.0..end.0;
        if end.records_since(progress.frontier) > u64::from(limits::QUEUE_IN_FLIGHT_MAX) {
            return false;
        }
        progress.frontier = progress.frontier.max(end);
        for offset in passed {
            self.insert(Place { at, offset: Offset(offset) }, Message::new());
        }
        true
    }
}

/// How many messages these ranges are.
pub(super) fn messages_in(ranges: &[Range<Offset>]) -> u64 {
    ranges.iter().map(|range| range.end.records_since(range.start)).fold(0, u64::saturating_add)
}

//! A desk at which a queue is tried: one queue, its logs and a clock, and short verbs for what may happen to it.

use super::event::{Decision, Event, Now, ReceiverKind, Window};
use super::hand_out::{Found, LeasedMessage, Reservation};
use super::ids::{DeliveryId, ReceiverId};
use super::journal_entries::encode;
use super::policy::QueuePolicy;
use super::queues::Queues;
use super::settle::{Settle, Verb};
use super::test_support::{ListedLogs, all_found, config, queue};
use crate::partition::journal::JournalEntry;

/// A queue `work` with everything around it.
pub(super) struct Desk {
    pub(super) queues: Queues,
    pub(super) logs: ListedLogs,
    pub(super) now: Now,
    deliveries: u64,
    pub(super) journal: Vec<JournalEntry>,
}

pub(super) const ONE: ReceiverId = ReceiverId(1);
pub(super) const TWO: ReceiverId = ReceiverId(2);

impl Desk {
    pub(super) fn with(bounds: &[(u64, u64)], change: impl FnOnce(&mut QueuePolicy)) -> Self {
        let now = Now { monotonic_ms: 0, wall_ms: 1_000 };
        let (queues, logs) = (Queues::default(), ListedLogs::holding(bounds));
        let mut desk = Self { queues, logs, now, deliveries: 0, journal: Vec::new() };
        desk.enact(vec![Event::QueueSet { config: config("work", change) }]);
        let started = desk.queues.decide_start(&desk.logs, now);
        desk.enact(started);
        desk.queues.take_wakes();
        desk
    }

    pub(super) fn enact(&mut self, events: Vec<Event>) {
        for event in events {
            self.journal.extend(encode(&event));
            self.queues.apply(&event);
        }
    }

    pub(super) fn done<R>(&mut self, decision: Decision<R>) -> R {
        self.enact(decision.events);
        decision.reply
    }

    pub(super) fn open(&mut self, receiver: ReceiverId, kind: ReceiverKind, window: Window) {
        self.enact(vec![Event::ReceiverOpened { queue: queue("work"), receiver, kind, window }]);
    }

    pub(super) fn reserve(&mut self, receiver: ReceiverId, most: u32) -> Option<Reservation> {
        let state = self.queues.get(&queue("work")).unwrap();
        let reserved = state.decide_reserve(receiver, most, &self.logs).unwrap();
        self.done(reserved).messages()
    }

    pub(super) fn deliver(&mut self, receiver: ReceiverId, found: &Found) -> Vec<LeasedMessage> {
        self.deliveries += 1;
        let state = self.queues.get(&queue("work")).unwrap();
        let delivery = DeliveryId(self.deliveries);
        let delivered = state.decide_deliver(receiver, found, delivery, self.queues.run(), self.now).unwrap();
        self.done(delivered)
    }

    /// Reserves, finds everything, delivers.
    pub(super) fn receive(&mut self, receiver: ReceiverId, most: u32) -> Vec<LeasedMessage> {
        match self.reserve(receiver, most) {
            Some(reservation) => self.deliver(receiver, &all_found(&reservation, |_| None)),
            None => Vec::new(),
        }
    }

    pub(super) fn settle(&mut self, messages: &[LeasedMessage], verb: &Verb) -> Vec<bool> {
        let settle = |message: &LeasedMessage| Settle { token: message.token.clone(), verb: verb.clone() };
        let settles: Vec<_> = messages.iter().map(settle).collect();
        let state = self.queues.get(&queue("work")).unwrap();
        let settled = state.decide_settle(&settles, self.queues.run(), self.now);
        self.done(settled).iter().map(Result::is_ok).collect()
    }

    pub(super) fn wait(&mut self, ms: u64) {
        let wall_ms = self.now.wall_ms + i64::try_from(ms).unwrap();
        self.now = Now { monotonic_ms: self.now.monotonic_ms + ms, wall_ms };
        let due = self.queues.decide_due(self.now);
        self.enact(due);
    }
}

pub(super) fn offsets_of(messages: &[LeasedMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.offset.0).collect()
}

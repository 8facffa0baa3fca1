//! Random lives of a queue, step by step, against a small naive model.
//!
//! The model knows one thing for each message: who may have it. After each step: what was handed out could be, every
//! token is answered as the model foretold, nothing that could be handed out is held back, and the journal, the
//! journal with a snapshot behind it, and the snapshot alone each replay to the durable state.

use super::drain_entries::DrainEntries;
use super::event::{Departure, Event, Now, ReceiverKind, Window, offsets, push_offset};
use super::hand_out::{Found, Reservation};
use super::ids::{DeliveryId, Place, ReceiverId};
use super::policy::{Ordering, QueueConfig};
use super::progress::MessageState;
use super::queues::Queues;
use super::settle::{Settle, Verb};
use super::test_support::{ListedLogs, all_found, config, partition, queue};
use crate::filter::Filter;
use crate::partition::journal::JournalEntry;
use crate::types::Offset;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LEASE_MS: u64 = 1_000;
const MAX_LEASE_MS: u64 = 2_500;
const BACKOFF_MS: u64 = 700;
const ATTEMPTS_MAX: u32 = 3;
const IN_FLIGHT_MAX: u32 = 12;

#[derive(Debug, Clone)]
enum Step {
    Open(bool),
    Leave(usize, bool),
    /// Reserves so many, and finds only the first so many of them.
    Receive(usize, u32, usize),
    Settle(usize, usize),
    Wait(u64),
    Append(usize, u64),
    Pause(bool),
    Bury,
    Restart(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(Step::Open),
        2 => (0..6_usize, any::<bool>()).prop_map(|(receiver, lost)| Step::Leave(receiver, lost)),
        12 => (0..6_usize, 1..8_u32, 0..9_usize).prop_map(|(r, most, found)| Step::Receive(r, most, found)),
        16 => (0..40_usize, 0..6_usize).prop_map(|(token, verb)| Step::Settle(token, verb)),
        5 => (0..1_200_u64).prop_map(Step::Wait),
        5 => (0..2_usize, 1..6_u64).prop_map(|(partition, records)| Step::Append(partition, records)),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::Bury),
        2 => any::<bool>().prop_map(Step::Restart),
    ]
}

/// Where the model thinks a message is.
#[derive(Debug, Clone, PartialEq)]
enum Where {
    Free,
    Waiting(u64),
    Leased { delivery: u64, deadline_ms: u64, last_ms: u64, receiver: Option<usize> },
    Dying,
    Done,
}

struct World {
    queues: Queues,
    journal: Vec<JournalEntry>,
    /// Of the drain that has not ended.
    drain: DrainEntries,
    logs: ListedLogs,
    now: Now,
    /// `Some` while it is there, with whether it is a stream.
    receivers: Vec<Option<bool>>,
    tokens: Vec<(Place, u64, u32, Bytes)>,
    deliveries: u64,
    model: BTreeMap<Place, (Where, u32)>,
    paused: bool,
    keeps_order: bool,
    filters: bool,
}

/// Offsets of a partition have one of three keys, or none.
fn key_of(offset: u64) -> Option<u64> {
    Some(offset * 7 % 4).filter(|key| *key != 3)
}

/// What a filter passes over.
fn is_filtered(offset: u64) -> bool {
    offset % 5 > 2
}

fn queue_of(keeps_order: bool, filters: bool) -> QueueConfig {
    let config = config("work", |policy| {
        (policy.lease_ms, policy.max_lease_ms) = (LEASE_MS, MAX_LEASE_MS);
        (policy.retry.min_ms, policy.retry.max_ms) = (BACKOFF_MS, BACKOFF_MS);
        policy.retry.attempts_max = ATTEMPTS_MAX;
        policy.dead_letter_topic = Some(super::test_support::topic("dead"));
        policy.max_in_flight = IN_FLIGHT_MAX;
        policy.ordering = if keeps_order { Ordering::Key } else { Ordering::None };
    });
    // Readers evaluate it; here it only has to be there.
    let filter = filters.then(|| Filter::new("attributes:any").unwrap());
    QueueConfig { filter, ..config }
}

impl World {
    fn new(keeps_order: bool, filters: bool) -> Self {
        let mut world = Self {
            queues: Queues::default(),
            journal: Vec::new(),
            drain: DrainEntries::default(),
            logs: ListedLogs::holding(&[(0, 0), (0, 0)]),
            now: Now { monotonic_ms: 0, wall_ms: 1_000_000 },
            receivers: Vec::new(),
            tokens: Vec::new(),
            deliveries: 0,
            model: BTreeMap::new(),
            paused: false,
            keeps_order,
            filters,
        };
        world.enact(&[Event::QueueSet { config: queue_of(keeps_order, filters) }]);
        let started = world.queues.decide_start(&world.logs, world.now);
        world.enact(&started);
        world
    }

    fn enact(&mut self, events: &[Event]) {
        for event in events {
            self.drain.push(event);
            self.queues.apply(event);
        }
    }

    /// The journal as it is when the drain has ended.
    fn written(&self) -> Vec<JournalEntry> {
        [self.journal.clone(), self.drain.clone().finish().0].concat()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open(is_stream) => {
                let receiver = ReceiverId(self.receivers.len() as u64);
                self.receivers.push(Some(is_stream));
                let kind = if is_stream { ReceiverKind::Stream } else { ReceiverKind::Call };
                let window = Window { messages: u32::MAX, bytes: u64::MAX };
                self.enact(&[Event::ReceiverOpened { queue: queue("work"), receiver, kind, window }]);
            }
            Step::Leave(receiver, lost) => self.leave(receiver, lost),
            Step::Receive(receiver, most, found) => {
                if self.receivers.get(receiver).copied().flatten().is_some() {
                    self.receive(receiver, most, found);
                }
            }
            Step::Settle(token, verb) => self.settle(token, verb),
            Step::Wait(ms) => self.wait(ms),
            Step::Append(partition, records) => self.logs.append(partition, records),
            Step::Pause(paused) => {
                self.paused = paused;
                let update = self.queues.decide_update(&queue("work"), None, Some(paused)).unwrap();
                self.enact(&update.events);
            }
            Step::Bury => {
                let buried: Vec<Place> = self.queues.dying(100).into_iter().map(|dying| dying.place).collect();
                let events = self.queues.decide_bury(&queue("work"), &buried, &[]).events;
                self.enact(&events);
                for place in buried {
                    assert_eq!(self.model[&place].0, Where::Dying, "{place:?}");
                    self.model.get_mut(&place).unwrap().0 = Where::Done;
                }
            }
            Step::Restart(from_snapshot) => self.restart(from_snapshot),
        }
        // A retry without delay is due at once.
        self.pass_time();
    }

    fn leave(&mut self, receiver: usize, lost: bool) {
        let Some(Some(_)) = self.receivers.get(receiver) else { return };
        self.receivers[receiver] = None;
        let departure = if lost { Departure::Lost } else { Departure::InOrder };
        let state = self.queues.get(&queue("work")).unwrap();
        let events = state.decide_close(ReceiverId(receiver as u64), departure).events;
        self.enact(&events);
        for (place, attempts) in self.model.values_mut() {
            if matches!(place, Where::Leased { receiver: Some(found), .. } if *found == receiver) {
                *place = Where::Free;
                if !lost {
                    *attempts -= 1;
                } else if *attempts >= ATTEMPTS_MAX {
                    *place = Where::Dying;
                }
            }
        }
    }

    /// Gives whether anything was reserved.
    fn receive(&mut self, receiver: usize, most: u32, found_max: usize) -> bool {
        let is_stream = self.receivers[receiver].unwrap();
        let id = ReceiverId(receiver as u64);
        let state = self.queues.get(&queue("work")).unwrap();
        let reserved = state.decide_reserve(id, most, &self.logs).unwrap();
        self.enact(&reserved.events);
        let Some(reservation) = reserved.reply.messages() else { return false };
        assert!(!self.paused, "nothing is handed out while paused");
        let found = self.found(&reservation, found_max);
        self.deliveries += 1;
        let (delivery, run) = (DeliveryId(self.deliveries), self.queues.run());
        let state = self.queues.get(&queue("work")).unwrap();
        let delivered = state.decide_deliver(id, &found, delivery, run, self.now).unwrap();
        self.enact(&delivered.events);
        assert!(delivered.reply.len() <= most as usize);
        for offset in offsets(&found.filtered) {
            self.model.insert(Place { at: found.at, offset }, (Where::Done, 0));
        }
        for leased in delivered.reply {
            let place = Place { at: found.at, offset: leased.offset };
            assert!(self.can_go(place), "{place:?} was handed out, {:?}", self.model.get(&place));
            let attempts = self.model.get(&place).map_or(0, |(_, attempts)| *attempts) + 1;
            assert_eq!(leased.attempt, attempts, "{place:?}");
            self.tokens.push((place, self.deliveries, attempts, leased.token));
            let state = Where::Leased {
                delivery: self.deliveries,
                deadline_ms: self.now.monotonic_ms + LEASE_MS,
                last_ms: self.now.monotonic_ms + MAX_LEASE_MS,
                receiver: is_stream.then_some(receiver),
            };
            self.model.insert(place, (state, attempts));
        }
        true
    }

    /// The first so many of a reservation; with a filter, what does not match apart, and on behind the reservation.
    fn found(&self, reservation: &Reservation, found_max: usize) -> Found {
        let mut found = all_found(reservation, key_of);
        let is_cut = found.messages.len() > found_max;
        found.messages.truncate(found_max);
        if !self.filters {
            return found;
        }
        for message in found.messages.extract_if(.., |message| is_filtered(message.offset.0)) {
            push_offset(&mut found.filtered, message.offset);
        }
        let end = self.logs.0.lock().unwrap()[reservation.at.partition as usize].1;
        if reservation.reads_on && found.messages.is_empty() && !is_cut {
            let next = reservation.ranges.last().unwrap().end.0;
            let passed = (next..end).take_while(|offset| is_filtered(*offset));
            passed.for_each(|offset| push_offset(&mut found.filtered, Offset(offset)));
        }
        found
    }

    /// Whether a message may be handed out, in the eyes of the model.
    fn can_go(&self, place: Place) -> bool {
        if !matches!(self.model.get(&place), None | Some((Where::Free, _))) {
            return false;
        }
        let Some(key) = key_of(place.offset.0).filter(|_| self.keeps_order) else { return true };
        let is_behind = (0..place.offset.0).filter(|offset| key_of(*offset) == Some(key)).any(|offset| {
            let ahead = Place { offset: Offset(offset), ..place };
            !matches!(self.model.get(&ahead), Some((Where::Done, _)))
        });
        let is_busy = self
            .model
            .iter()
            .any(|(other, (state, _))| key_of(other.offset.0) == Some(key) && matches!(state, Where::Leased { .. }));
        !is_behind && !is_busy
    }

    fn settle(&mut self, index: usize, verb: usize) {
        let Some((place, delivery, attempt, token)) = self.tokens.get(index % self.tokens.len().max(1)).cloned() else {
            return;
        };
        let reason = String::new;
        let verb = [
            Verb::Ack,
            Verb::Nack { delay_ms: None, reason: reason() },
            Verb::Nack { delay_ms: Some(0), reason: reason() },
            Verb::Release,
            Verb::Extend { lease_ms: Some(LEASE_MS / 2) },
            Verb::Reject { reason: reason() },
        ][verb]
            .clone();
        let (state, attempts) = self.model.get_mut(&place).unwrap();
        let is_valid = matches!(state, Where::Leased { delivery: present, .. } if *present == delivery);
        assert!(!is_valid || *attempts == attempt);
        if is_valid {
            let now_ms = self.now.monotonic_ms;
            *state = match (&verb, state.clone()) {
                (Verb::Ack, _) => Where::Done,
                (Verb::Nack { .. }, _) if *attempts >= ATTEMPTS_MAX => Where::Dying,
                (Verb::Nack { delay_ms, .. }, _) => Where::Waiting(now_ms + delay_ms.unwrap_or(BACKOFF_MS)),
                (Verb::Release, _) => {
                    *attempts -= 1;
                    Where::Free
                }
                (Verb::Reject { .. }, _) => Where::Dying,
                (Verb::Extend { .. }, Where::Leased { delivery, last_ms, receiver, .. }) => {
                    let deadline_ms = (now_ms + LEASE_MS / 2).min(last_ms);
                    Where::Leased { delivery, deadline_ms, last_ms, receiver }
                }
                (Verb::Extend { .. }, other) => other,
            };
        }
        // The second of two equal tokens is stale unless both only extend.
        let twice = [verb.clone(), Verb::Ack].map(|verb| Settle { token: token.clone(), verb });
        let only_once = &twice[..if matches!(verb, Verb::Extend { .. }) { 1 } else { 2 }];
        let state = self.queues.get(&queue("work")).unwrap();
        let decided = state.decide_settle(only_once, self.queues.run(), self.now);
        assert_eq!(decided.reply[0].is_ok(), is_valid, "{verb:?} of {place:?}: {:?}", decided.reply);
        assert!(decided.reply.get(1).is_none_or(Result::is_err));
        self.enact(&decided.events);
    }

    fn wait(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.wall_ms += i64::try_from(ms).unwrap();
        self.pass_time();
    }

    fn pass_time(&mut self) {
        let due = self.queues.decide_due(self.now);
        self.enact(&due);
        let now_ms = self.now.monotonic_ms;
        for (state, attempts) in self.model.values_mut() {
            match state {
                Where::Waiting(until_ms) if *until_ms <= now_ms => *state = Where::Free,
                Where::Leased { deadline_ms, last_ms, receiver, .. } if *deadline_ms <= now_ms => {
                    if receiver.is_some() && *last_ms > now_ms {
                        *deadline_ms = (now_ms + LEASE_MS).min(*last_ms);
                    } else if *attempts >= ATTEMPTS_MAX {
                        *state = Where::Dying;
                    } else {
                        *state = Where::Free;
                    }
                }
                _ => {}
            }
        }
    }

    fn restart(&mut self, from_snapshot: bool) {
        self.journal = if from_snapshot { self.queues.snapshot() } else { self.written() };
        self.drain = DrainEntries::default();
        self.queues = Queues::replay(self.journal.clone()).unwrap();
        self.receivers.iter_mut().for_each(|receiver| *receiver = None);
        for (state, attempts) in self.model.values_mut() {
            if matches!(state, Where::Leased { .. }) {
                *state = if *attempts >= ATTEMPTS_MAX { Where::Dying } else { Where::Free };
            }
        }
        let started = self.queues.decide_start(&self.logs, self.now);
        self.enact(&started);
        self.pass_time();
    }

    fn check(&self) {
        self.pass_time_is_done();
        let journal = self.written();
        let replayed = Queues::replay(journal.clone()).unwrap();
        let durable = |queues: &Queues| {
            let described = queues.describe(&queue("work")).unwrap();
            described.partitions.iter().map(|partition| partition.low_watermark).collect::<Vec<_>>()
        };
        let again = Queues::replay(self.queues.snapshot()).unwrap();
        assert_eq!(again.snapshot(), self.queues.snapshot(), "a snapshot says all");
        let both = Queues::replay(journal.into_iter().chain(self.queues.snapshot())).unwrap();
        assert_eq!(both.snapshot(), self.queues.snapshot(), "a snapshot replaces what is before it");
        // What was only read ahead is not in the journal, so only the messages that were handed out must agree.
        let state = self.queues.get(&queue("work")).unwrap();
        let kept = replayed.get(&queue("work")).unwrap();
        for (place, (state_of, attempts)) in &self.model {
            let is_open = |found: &super::state::QueueState| found.message(*place).map(|message| message.attempts);
            let expected = (*state_of != Where::Done).then_some(*attempts);
            assert_eq!(is_open(state), expected, "{place:?} {state_of:?}");
            assert_eq!(is_open(kept), expected, "{place:?} {state_of:?} in the journal");
            let is_in =
                |wanted: fn(&MessageState) -> bool| state.message(*place).is_some_and(|message| wanted(&message.state));
            let is_dying = is_in(|found| matches!(found, MessageState::Dying { .. }));
            let is_leased = is_in(|found| matches!(found, MessageState::Leased(_)));
            assert_eq!(is_dying, *state_of == Where::Dying, "{place:?}");
            assert_eq!(is_leased, matches!(state_of, Where::Leased { .. }), "{place:?}");
        }
        assert!(durable(&replayed).iter().zip(durable(&self.queues)).all(|(kept, now)| *kept <= now));
        assert!(state.open <= IN_FLIGHT_MAX as usize, "memory is bounded");
        assert_eq!(state.open, state.partitions.values().map(|progress| progress.open.len()).sum::<usize>());
    }

    fn pass_time_is_done(&self) {
        let next_ms = self.queues.next_due_ms();
        assert!(next_ms.is_none_or(|ms| ms > self.now.monotonic_ms), "what is due was done");
    }

    /// Nothing that may go is held back: a receiver without bounds gets all of it.
    fn check_nothing_is_held_back(&mut self) {
        self.take(&Step::Pause(false));
        self.take(&Step::Open(true));
        let receiver = self.receivers.len() - 1;
        let mut rounds = 0;
        while self.receive(receiver, 100, usize::MAX) {
            rounds += 1;
            assert!(rounds < 1_000, "a reservation that brings nothing is not made again and again");
        }
        let is_full = self.queues.get(&queue("work")).unwrap().open >= IN_FLIGHT_MAX as usize;
        for (number, (_, end)) in (0..).zip(self.logs.0.lock().unwrap().clone()) {
            for offset in (0..end).map(Offset) {
                let place = Place { at: partition(number), offset };
                let is_new = !self.model.contains_key(&place);
                assert!(!self.can_go(place) || (is_new && is_full), "{place:?} is held back");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_queue_keeps_its_promises_through_any_life(
        keeps_order in any::<bool>(),
        filters in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(keeps_order, filters);
        for step in &steps {
            world.take(step);
            world.check();
        }
        world.check_nothing_is_held_back();
    }
}

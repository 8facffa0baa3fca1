//! A message goes from one state to another, and everything that points to it goes along.
//!
//! A message in a state stands in what that state is found by: the ready, unread, waiting and dying sets, its receiver,
//! its delivery, its key. [`QueueState::set_state`] leaves the old ones and enters the new; nobody else changes them.

use super::event::{KeyHash, MessageKey, Moment};
use super::ids::Place;
use super::progress::{LeaseState, Message, MessageState};
use super::state::QueueState;

impl QueueState {
    pub(super) fn insert(&mut self, place: Place, message: Message) {
        let state = message.state.clone();
        // A journal may name it twice.
        self.leave(place);
        let Some(progress) = self.partitions.get_mut(&place.at) else { return };
        if progress.open.insert(place.offset, message).is_none() {
            self.open += 1;
        }
        self.enter(place, &state);
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.leave(place);
        let Some(progress) = self.partitions.get_mut(&place.at) else { return };
        let Some(message) = progress.open.remove(&place.offset) else { return };
        // At its bound the queue has stopped handing out; now it may go on.
        self.stirred |= self.open >= self.config.policy.max_in_flight as usize;
        self.open -= 1;
        if let MessageKey::Hash(key) = message.key {
            self.keys.vacate(key, place);
            self.keys.remove(key, place);
            self.refresh(key);
        }
    }

    /// Learns the key of a message.
    pub(super) fn learn(&mut self, place: Place, key: MessageKey) {
        let Some(message) = self.message_mut(place).filter(|message| message.key == MessageKey::Unknown) else {
            return;
        };
        message.key = key;
        let is_available = message.state == MessageState::Available;
        if let MessageKey::Hash(key) = key {
            self.keys.add(key, place);
        }
        if let Some(progress) = self.partitions.get_mut(&place.at) {
            progress.unread.remove(&place.offset);
        }
        if is_available {
            self.offer(place);
        }
    }

    /// Moves a message from one state to another, with everything that points to it.
    pub(super) fn set_state(&mut self, place: Place, state: MessageState) {
        self.leave(place);
        let Some(message) = self.message_mut(place) else { return };
        let key = message.key;
        let entered = state.clone();
        message.state = state;
        self.enter(place, &entered);
        if let MessageKey::Hash(key) = key {
            self.refresh(key);
        }
    }

    /// Takes a message out of what points to it in its present state.
    fn leave(&mut self, place: Place) {
        let Some(progress) = self.partitions.get_mut(&place.at) else { return };
        let Some(message) = progress.open.get(&place.offset) else { return };
        let (key, bytes, state) = (message.key, message.bytes, message.state.clone());
        if key == MessageKey::Unknown {
            progress.unread.remove(&place.offset);
        }
        match state {
            MessageState::Available => {
                progress.ready.remove(&place.offset);
            }
            MessageState::Waiting { until: Moment { monotonic_ms, .. } } => {
                self.waiting.remove(&(monotonic_ms, place));
            }
            MessageState::Dying { .. } => {
                self.dying.remove(&place);
            }
            MessageState::Reserved { receiver } => {
                self.vacate(key, place);
                if let Some(receiver) = self.receivers.get_mut(&receiver) {
                    receiver.reserved.remove(&place);
                }
            }
            MessageState::Leased(lease) => {
                self.vacate(key, place);
                self.end_lease(&lease, bytes);
            }
        }
    }

    /// Puts a message where its new state belongs. [`Self::refresh`] has the last word on what is ready.
    fn enter(&mut self, place: Place, state: &MessageState) {
        match state {
            MessageState::Available => self.offer(place),
            MessageState::Waiting { until } => {
                self.waiting.insert((until.monotonic_ms, place));
                self.note_unread(place);
            }
            MessageState::Dying { .. } => {
                self.dying.insert(place);
                self.note_unread(place);
            }
            MessageState::Reserved { receiver } => {
                self.occupy(place);
                if let Some(receiver) = self.receivers.get_mut(receiver) {
                    receiver.reserved.insert(place);
                }
            }
            MessageState::Leased(lease) => {
                self.occupy(place);
                let bytes = self.message(place).map_or(0, |message| u64::from(message.bytes));
                if let Some(receiver) = lease.receiver.and_then(|receiver| self.receivers.get_mut(&receiver)) {
                    receiver.leased += 1;
                    receiver.leased_bytes += bytes;
                }
            }
        }
    }

    fn end_lease(&mut self, lease: &LeaseState, bytes: u32) {
        let most_per_receiver = match self.config.policy.max_in_flight_per_receiver {
            0 => u32::MAX,
            most => most,
        };
        if let Some(receiver) = lease.receiver.and_then(|receiver| self.receivers.get_mut(&receiver)) {
            let had_no_room = receiver.starved
                || receiver.leased >= most_per_receiver.min(receiver.window.messages)
                || receiver.leased_bytes >= receiver.window.bytes;
            receiver.starved = false;
            receiver.leased -= 1;
            receiver.leased_bytes -= u64::from(bytes);
            if had_no_room && let Some(id) = lease.receiver {
                self.roomier.insert(id);
            }
        }
        let id = lease.delivery;
        let Some(delivery) = self.deliveries.get_mut(&id) else { return };
        delivery.leased -= 1;
        if delivery.leased == 0 {
            self.deadlines.remove(&(delivery.look_at_ms, id));
            if let Some(receiver) = delivery.receiver.and_then(|receiver| self.receivers.get_mut(&receiver)) {
                receiver.deliveries.remove(&id);
            }
            self.deliveries.remove(&id);
        } else if delivery.places.len() > 16 && delivery.leased * 2 < delivery.places.len() {
            // Each settled place goes once, so this costs no more than the settling did.
            let mut places = std::mem::take(&mut delivery.places);
            places.retain(|place| self.message(*place).is_some_and(|message| message.is_leased_by(id)));
            if let Some(delivery) = self.deliveries.get_mut(&id) {
                delivery.places = places;
            }
        }
    }

    /// Makes an available message one that can be handed out, if its key is known and allows it.
    fn offer(&mut self, place: Place) {
        if self.note_unread(place) {
            return;
        }
        let Some(key) = self.message(place).map(|message| message.key) else { return };
        if self.keys.is_next(key, place)
            && let Some(progress) = self.partitions.get_mut(&place.at)
        {
            progress.ready.insert(place.offset);
            self.stirred = true;
        }
    }

    /// Where order counts, a message whose key is not known is read next, also if it may not be handed out yet: others
    /// of its key must not overtake it. Gives whether it is such a one.
    fn note_unread(&mut self, place: Place) -> bool {
        let is_unknown = self.message(place).is_some_and(|message| message.key == MessageKey::Unknown);
        if !is_unknown || !self.keeps_order() {
            return false;
        }
        if let Some(progress) = self.partitions.get_mut(&place.at) {
            progress.unread.insert(place.offset);
            self.stirred = true;
        }
        true
    }

    fn occupy(&mut self, place: Place) {
        if let Some(MessageKey::Hash(key)) = self.message(place).map(|message| message.key) {
            self.keys.occupy(key, place);
        }
    }

    fn vacate(&mut self, key: MessageKey, place: Place) {
        if let MessageKey::Hash(key) = key {
            self.keys.vacate(key, place);
        }
    }

    /// Looks again which messages of a key may be handed out: the first of each partition, while none is under way.
    pub(super) fn refresh(&mut self, key: KeyHash) {
        for place in self.keys.heads(key) {
            let is_available = self.message(place).is_some_and(|message| message.state == MessageState::Available);
            if !is_available {
                continue;
            }
            if self.keys.is_next(MessageKey::Hash(key), place) {
                self.offer(place);
            } else if let Some(progress) = self.partitions.get_mut(&place.at) {
                progress.ready.remove(&place.offset);
            }
        }
    }

    pub(super) fn message_mut(&mut self, place: Place) -> Option<&mut Message> {
        self.partitions.get_mut(&place.at)?.open.get_mut(&place.offset)
    }
}

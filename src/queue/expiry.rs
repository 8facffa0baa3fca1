//! What time does: leases run out or are extended by their stream, messages have waited long enough.
//!
//! Looked at once for all that is due, by two ordered sets; a message has no timer of its own. The set of deadlines
//! holds deliveries, not messages: a lease that was extended is found out when its delivery is looked at.

use super::event::{Event, Now};
use super::ids::DeliveryId;
use super::ids::Place;
use super::progress::MessageState;
use super::state::{Delivery, QueueState};
use std::collections::BTreeMap;

impl QueueState {
    /// When [`Self::decide_due`] has something to do next.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let deadline = self.deadlines.first().map(|(ms, _)| *ms);
        let waiting = self.waiting.first().map(|(ms, _)| *ms);
        let breaker = self.breaker.next_due_ms();
        deadline.into_iter().chain(waiting).chain(breaker).min()
    }

    /// Everything whose time has come.
    pub(super) fn decide_due(&self, now: Now) -> Vec<Event> {
        let mut events = Vec::new();
        let until_ms = now.monotonic_ms;
        if self.waiting.first().is_some_and(|(ms, _)| *ms <= until_ms) {
            events.push(Event::Ripened { queue: self.config.name.clone(), until_ms });
        }
        let mut over: Vec<Place> = Vec::new();
        for (_, id) in self.deadlines.iter().take_while(|(ms, _)| *ms <= until_ms) {
            let Some(delivery) = self.deliveries.get(id) else { continue };
            self.look_at(*id, delivery, now, &mut over, &mut events);
        }
        over.sort_unstable();
        self.free(&over, &mut events);
        events.extend(self.decide_breaker(now));
        events
    }

    /// Looks at one delivery: which leases are over, which go on, and when to look again.
    fn look_at(&self, id: DeliveryId, delivery: &Delivery, now: Now, over: &mut Vec<Place>, events: &mut Vec<Event>) {
        let is_alive = delivery.receiver.is_some_and(|receiver| self.receivers.contains_key(&receiver));
        let mut next_ms: Option<u64> = None;
        let mut extended: BTreeMap<u64, Vec<Place>> = BTreeMap::new();
        for place in &delivery.places {
            let Some(message) = self.message(*place) else { continue };
            let MessageState::Leased(lease) = &message.state else { continue };
            if lease.delivery != id {
                continue;
            }
            let deadline_ms = if lease.deadline_ms > now.monotonic_ms {
                lease.deadline_ms
            } else if is_alive && lease.deadline_max_ms > now.monotonic_ms {
                let new_ms = (now.monotonic_ms + self.config.policy.lease_ms).min(lease.deadline_max_ms);
                extended.entry(new_ms).or_default().push(*place);
                new_ms
            } else {
                over.push(*place);
                continue;
            };
            next_ms = Some(next_ms.map_or(deadline_ms, |next_ms| next_ms.min(deadline_ms)));
        }
        for (deadline_ms, places) in extended {
            events.push(Event::Extended { queue: self.config.name.clone(), places, deadline_ms });
        }
        // Without a next look all leases of the delivery are over, and it goes with the last of them.
        if let Some(deadline_ms) = next_ms {
            events.push(Event::Rescheduled { queue: self.config.name.clone(), delivery: id, deadline_ms });
        }
    }
}

//! What receivers say about their messages. Each token has a result of its own; one that is refused changes nothing
//! for the others.

use super::error::SettleError;
use super::event::{DeathReason, Decision, Departure, Event, Now, Settlement, push_offset};
use super::ids::{PartitionKey, Place, ReceiverId, Run};
use super::policy::scramble;
use super::progress::{LeaseState, Message, MessageState};
use super::state::QueueState;
use super::token::LeaseToken;
use crate::limits;
use crate::planted::{Bug, is_planted};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};

/// A verb about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// From the delivery of the message.
    pub token: Bytes,
    /// What about it.
    pub verb: Verb,
}

/// What a receiver says about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// It is done.
    Ack,
    /// It failed, and the attempt counts. It comes again after `delay_ms` (`None` = as the retry policy says), or goes
    /// to the dead letter topic if its attempts are used up.
    Nack {
        /// How long it waits.
        delay_ms: Option<u64>,
        /// For people; kept only with a dead letter.
        reason: String,
    },
    /// It was not worked on. It is available at once, and the attempt does not count.
    Release,
    /// The receiver needs more time: so long from now (`None` = as long as a new lease).
    Extend {
        /// How long.
        lease_ms: Option<u64>,
    },
    /// It will never succeed: to the dead letter topic with it.
    Reject {
        /// For people; kept with the dead letter.
        reason: String,
    },
}

/// One result for each verb, in order.
pub type SettleResults = Vec<Result<(), SettleError>>;

impl QueueState {
    /// Settles messages.
    pub(super) fn decide_settle(&self, settles: &[Settle], run: Run, now: Now) -> Decision<SettleResults> {
        let mut decision = Decision::<SettleResults>::default();
        let mut settled: HashSet<Place> = HashSet::with_capacity(settles.len());
        let mut done: BTreeMap<PartitionKey, Vec<(Place, &Message, &Verb)>> = BTreeMap::new();
        for Settle { token, verb } in settles {
            let result = self.check_token(token, run).and_then(|(token, message, lease)| {
                let place = token.place;
                if settled.contains(&place) {
                    return Err(self.stale(&token));
                }
                match verb {
                    Verb::Reject { .. } if self.config.policy.dead_letter_topic.is_none() => {
                        return Err(SettleError::NoDeadLetterTopic { queue: self.config.name.clone() });
                    }
                    Verb::Extend { lease_ms } => {
                        let lease_ms = lease_ms.unwrap_or(self.config.policy.lease_ms);
                        let wanted_ms = now.monotonic_ms.saturating_add(lease_ms);
                        let (queue, places) = (self.config.name.clone(), vec![place]);
                        let deadline_ms = wanted_ms.min(lease.deadline_max_ms);
                        decision.events.push(Event::Extended { queue, places, deadline_ms });
                    }
                    Verb::Ack | Verb::Nack { .. } | Verb::Release | Verb::Reject { .. } => {
                        settled.insert(place);
                        done.entry(place.at).or_default().push((place, message, verb));
                    }
                }
                Ok(())
            });
            decision.reply.push(result);
        }
        for (at, mut messages) in done {
            messages.sort_by_key(|(place, ..)| *place);
            let mut settlement = Settlement::default();
            for (place, message, verb) in messages {
                self.settle_one(&mut settlement, place, message, verb, now);
            }
            decision.events.push(Event::Settled { queue: self.config.name.clone(), at, settlement });
        }
        decision
    }

    /// A receiver is gone: ends its leases.
    pub(super) fn decide_close(&self, id: ReceiverId, departure: Departure) -> Decision<()> {
        let mut decision = Decision::default();
        let Some(receiver) = self.receivers.get(&id) else { return decision };
        let mut leased: Vec<Place> = receiver
            .deliveries
            .iter()
            .filter_map(|delivery| Some((*delivery, self.deliveries.get(delivery)?)))
            .flat_map(|(id, delivery)| delivery.places.iter().map(move |place| (id, *place)))
            .filter(|(id, place)| self.message(*place).is_some_and(|message| message.is_leased_by(*id)))
            .map(|(_, place)| place)
            .collect();
        leased.sort_unstable();
        match departure {
            Departure::Lost => self.free(&leased, &mut decision.events),
            Departure::InOrder => {
                let mut released: BTreeMap<PartitionKey, Settlement> = BTreeMap::new();
                for place in leased {
                    push_offset(&mut released.entry(place.at).or_default().released, place.offset);
                }
                let queue = &self.config.name;
                let event = |(at, settlement)| Event::Settled { queue: queue.clone(), at, settlement };
                decision.events.extend(released.into_iter().map(event));
            }
        }
        decision.events.push(Event::ReceiverClosed { queue: self.config.name.clone(), receiver: id });
        decision
    }

    /// Leases that ended without an answer: available at once, or given up. In order of place.
    pub(super) fn free(&self, places: &[Place], events: &mut Vec<Event>) {
        let queue = &self.config.name;
        let mut freed = Vec::new();
        let mut dying: BTreeMap<PartitionKey, Settlement> = BTreeMap::new();
        for place in places {
            let attempts = self.message(*place).map_or(0, |message| message.attempts);
            if self.config.policy.retry.is_exhausted(attempts) {
                let reason = DeathReason::AttemptsExhausted(String::new());
                dying.entry(place.at).or_default().dying.push((place.offset, reason));
            } else {
                freed.push(*place);
            }
        }
        if !freed.is_empty() {
            events.push(Event::Freed { queue: queue.clone(), places: freed });
        }
        let settled = |(at, settlement)| Event::Settled { queue: queue.clone(), at, settlement };
        events.extend(dying.into_iter().map(settled));
    }

    fn settle_one(&self, settlement: &mut Settlement, place: Place, message: &Message, verb: &Verb, now: Now) {
        let Place { at, offset } = place;
        let retry = &self.config.policy.retry;
        match verb {
            Verb::Ack => push_offset(&mut settlement.acked, offset),
            Verb::Release => push_offset(&mut settlement.released, offset),
            Verb::Reject { reason } => settlement.dying.push((offset, DeathReason::Rejected(shortened(reason)))),
            Verb::Nack { reason, .. } if retry.is_exhausted(message.attempts) => {
                settlement.dying.push((offset, DeathReason::AttemptsExhausted(shortened(reason))));
            }
            Verb::Nack { delay_ms, .. } => {
                let seed = scramble(offset.0 ^ u64::from(message.attempts) << 48 ^ u64::from(at.partition) << 32);
                let policy_ms = retry.delay_ms(message.attempts, seed);
                let delay_ms = delay_ms.map_or(policy_ms, |delay_ms| delay_ms.min(limits::RETRY_MS_MAX));
                settlement.failed.push((offset, now.after(delay_ms)));
            }
            Verb::Extend { .. } => {}
        }
    }

    fn check_token(&self, token: &Bytes, run: Run) -> Result<(LeaseToken, &Message, &LeaseState), SettleError> {
        let token = LeaseToken::decode(token)
            .filter(|token| token.queue == self.config.id)
            .ok_or_else(|| SettleError::Foreign { queue: self.config.name.clone() })?;
        let message = self.message(token.place).filter(|message| {
            token.run == run && message.attempts == token.attempt || is_planted(Bug::OldLeaseAccepted)
        });
        match message.map(|message| (message, &message.state)) {
            Some((message, MessageState::Leased(lease)))
                if lease.delivery == token.delivery || is_planted(Bug::OldLeaseAccepted) =>
            {
                Ok((token, message, lease))
            }
            _ => Err(self.stale(&token)),
        }
    }

    fn stale(&self, token: &LeaseToken) -> SettleError {
        let at = token.place.at;
        let topic = self.partitions.get(&at).map(|progress| progress.topic.to_string());
        SettleError::Stale {
            queue: self.config.name.clone(),
            topic: topic.unwrap_or_else(|| at.topic_id.to_string()),
            partition: at.partition,
            offset: token.place.offset,
            attempt: token.attempt,
        }
    }
}

/// At most [`limits::SETTLE_REASON_BYTES_MAX`] bytes of a reason.
fn shortened(reason: &str) -> String {
    let mut end = reason.len().min(limits::SETTLE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}

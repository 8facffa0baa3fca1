//! The circuit breaker of a queue: while most deliveries fail, nothing is handed out.
//!
//! ```text
//! closed  --most of the last deliveries failed-->  tripped  --at once-->  open  --pause over-->  probing
//! probing --one was acked-->  closed               probing  --one failed: a longer pause-->  tripped
//! ```
//!
//! In memory only: after a restart it is closed, and the next failures open it again.

use super::event::{DeathReason, Event, Moment, Now, Settlement, offsets};
use super::ids::{DeliveryId, PartitionKey, Place};
use super::policy::BreakerPolicy;
use super::progress::MessageState;
use super::state::{QueueState, messages_in};
use crate::types::Offset;
use std::collections::VecDeque;

/// A pause is doubled no more often than this.
const DOUBLINGS_MAX: u32 = 4;

/// What became of the last deliveries, and what follows from it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Breaker {
    position: Position,
    /// The last outcomes, oldest first; `true` = it failed.
    outcomes: VecDeque<bool>,
    failures: u64,
    /// How often in a row it has opened.
    openings: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Position {
    #[default]
    Closed,
    /// To be opened by whoever knows the time.
    Tripped,
    Open {
        until: Moment,
    },
    Probing {
        /// The last delivery before: what is out of it, or of an older one, may be for hours, and is no probe.
        before: Option<DeliveryId>,
    },
}

/// Whether a queue hands out, as it is shown outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// It does.
    Closed,
    /// It does not, until this time of day.
    Open {
        /// In milliseconds since 1970-01-01 UTC.
        until_ms: i64,
    },
    /// One message at a time.
    Probing,
}

impl Breaker {
    /// Takes note of deliveries that were done, and that failed.
    pub(super) fn note(&mut self, policy: BreakerPolicy, acked: u64, failed: u64) {
        match self.position {
            Position::Probing { .. } if failed > 0 => self.position = Position::Tripped,
            Position::Probing { .. } if acked > 0 => *self = Self::default(),
            // What was out when it opened says nothing of now, nor does what was given back.
            Position::Tripped | Position::Open { .. } | Position::Probing { .. } => {}
            Position::Closed => {
                let most = u64::from(policy.deliveries);
                (0..acked.min(most)).for_each(|_| self.push(false, policy.deliveries));
                (0..failed.min(most)).for_each(|_| self.push(true, policy.deliveries));
                let is_full = self.outcomes.len() as u64 >= most;
                if is_full && self.failures * 100 >= most * u64::from(policy.failures_percent) {
                    self.position = Position::Tripped;
                }
            }
        }
    }

    fn push(&mut self, failed: bool, most: u32) {
        self.outcomes.push_back(failed);
        self.failures += u64::from(failed);
        while self.outcomes.len() > most as usize {
            self.failures -= u64::from(self.outcomes.pop_front().unwrap_or_default());
        }
    }

    fn open(&mut self, until: Moment) {
        self.position = Position::Open { until };
        self.openings = self.openings.saturating_add(1);
        self.outcomes.clear();
        self.failures = 0;
    }

    /// Whether it holds messages back.
    pub(super) fn is_shut(&self) -> bool {
        self.position != Position::Closed
    }

    /// When time has something to do for it.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        match self.position {
            Position::Tripped => Some(0),
            Position::Open { until } => Some(until.monotonic_ms),
            Position::Closed | Position::Probing { .. } => None,
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.position {
            Position::Closed => BreakerState::Closed,
            // Its pause begins with the next look at the clock, which is at once.
            Position::Tripped => BreakerState::Open { until_ms: 0 },
            Position::Open { until } => BreakerState::Open { until_ms: until.wall_ms },
            Position::Probing { .. } => BreakerState::Probing,
        }
    }
}

impl QueueState {
    /// How many messages the breaker lets through.
    pub(super) fn breaker_room(&self) -> u32 {
        match self.breaker.position {
            Position::Closed => u32::MAX,
            Position::Tripped | Position::Open { .. } => 0,
            Position::Probing { before } => {
                let last = self.deliveries.last_key_value().map(|(id, _)| *id);
                let is_out = last > before || self.receivers.values().any(|receiver| !receiver.reserved.is_empty());
                u32::from(!is_out)
            }
        }
    }

    pub(super) fn apply_to_breaker(&mut self, event: &Event) {
        match event {
            Event::BreakerOpened { until, .. } => self.breaker.open(*until),
            Event::BreakerProbed { .. } => {
                let before = self.deliveries.last_key_value().map(|(id, _)| *id);
                self.breaker.position = Position::Probing { before };
                self.stirred = true;
            }
            Event::BreakerClosed { .. } => {
                self.breaker = Breaker::default();
                self.stirred = true;
            }
            _ => {}
        }
    }

    /// Whether what becomes of this message says anything to the breaker. While it probes only the probe does: what was out
    /// before says how things were when it was handed out.
    pub(super) fn concerns_breaker(&self, place: Place) -> bool {
        let Position::Probing { before } = self.breaker.position else { return true };
        let state = self.message(place).map(|message| &message.state);
        matches!(state, Some(MessageState::Leased(lease)) if Some(lease.delivery) > before)
    }

    /// How many messages of a settlement, which is not carried out yet, were done and have failed, as far as the breaker
    /// is concerned.
    pub(super) fn outcomes_of(&self, at: PartitionKey, settlement: &Settlement) -> (u64, u64) {
        let Settlement { acked, failed, dying, .. } = settlement;
        let failed = failed.iter().map(|(offset, _)| *offset);
        let died = dying.iter().filter(|(_, reason)| *reason != DeathReason::Expired).map(|(offset, _)| *offset);
        let count = |offsets: &mut dyn Iterator<Item = Offset>| {
            offsets.filter(|offset| self.concerns_breaker(Place { at, offset: *offset })).count() as u64
        };
        match self.breaker.position {
            Position::Probing { .. } => (count(&mut offsets(acked)), count(&mut failed.chain(died))),
            // A journal may bring ranges of any length; these are not to be walked through.
            _ => (messages_in(acked), failed.chain(died).count() as u64),
        }
    }

    pub(super) fn note_outcomes(&mut self, acked: u64, failed: u64) {
        let Some(policy) = self.config.policy.breaker else { return };
        let was_shut = self.breaker.is_shut();
        self.breaker.note(policy, acked, failed);
        self.stirred |= was_shut && !self.breaker.is_shut();
    }

    /// What the time does to the breaker.
    pub(super) fn decide_breaker(&self, now: Now) -> Option<Event> {
        let queue = self.config.name.clone();
        match self.breaker.position {
            Position::Tripped => {
                let pause_ms = self.config.policy.breaker.unwrap_or_default().pause_ms;
                let pause_ms = pause_ms.saturating_mul(1 << self.breaker.openings.min(DOUBLINGS_MAX));
                Some(Event::BreakerOpened { queue, until: now.after(pause_ms) })
            }
            Position::Open { until } if until.monotonic_ms <= now.monotonic_ms => Some(Event::BreakerProbed { queue }),
            Position::Open { .. } | Position::Probing { .. } | Position::Closed => None,
        }
    }
}

//! What the broker knows of identities, as a pure state machine: decide what to journal, then apply it.
//!
//! Ids are reserved in blocks, so that most of them cost no sync: an entry says below which number ids may have been
//! given, and after a restart the next block is begun. A named producer begins with epoch 1, one without a name has
//! epoch 0 for ever; so an id whose name was given up is never taken for one without.

use super::error::ProducerError;
use crate::limits::{PRODUCER_IDLE_MS_MAX, PRODUCER_NAMES_MAX};
use crate::planted::{Bug, is_planted};
use crate::types::topic::{NameError, check_name};
use crate::types::{ProducerId, TimestampMs};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// Ids that one journal entry reserves.
const BLOCK: u64 = 1_000;

/// A valid name of a producer; the rule is that of topic names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerName(Arc<str>);

impl ProducerName {
    /// Checks `name` and takes it.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check_name(name).map(|()| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProducerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// With what a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: u16,
}

/// A named producer's identity and when it was last asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) identity: Identity,
    pub(super) used_at_ms: TimestampMs,
}

/// A change of the durable state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Ids below this may have been given.
    Reserved { below: u64 },
    /// A name has this identity now.
    NameTaken { name: ProducerName, named: Named },
    /// A name has none any more.
    NameGivenUp { name: ProducerName },
}

/// Every identity.
#[derive(Debug)]
pub(super) struct Identities {
    next_id: u64,
    reserved_below: u64,
    names: BTreeMap<ProducerName, Named>,
    by_id: HashMap<ProducerId, ProducerName>,
}

impl Default for Identities {
    fn default() -> Self {
        // 0 means "no producer".
        Self { next_id: 1, reserved_below: 1, names: BTreeMap::new(), by_id: HashMap::new() }
    }
}

impl Identities {
    /// An id that needs nothing written.
    pub(super) fn reserved_id(&mut self) -> Option<Identity> {
        if self.next_id >= self.reserved_below {
            return None;
        }
        let id = ProducerId(self.next_id);
        self.next_id += 1;
        Some(Identity { id, epoch: 0 })
    }

    /// What to journal so that more ids may be given.
    pub(super) fn decide_reserve(&self) -> Event {
        Event::Reserved { below: self.reserved_below + BLOCK }
    }

    /// What to journal so that a name has its next identity. `fresh` is an id that nobody has; there must be one if the
    /// name needs it.
    pub(super) fn decide_named(
        &self,
        name: &ProducerName,
        fresh: Option<ProducerId>,
        now_ms: TimestampMs,
        in_use: impl Fn(&ProducerName) -> bool,
    ) -> Result<Vec<Event>, ProducerError> {
        let mut events = Vec::new();
        let present = self.names.get(name);
        let next = present.and_then(|named| Some((named.identity.id, named.identity.epoch.checked_add(1)?)));
        let (id, epoch) = next.or(fresh.map(|id| (id, 1))).expect("a name without an id was given one");
        if present.is_none() && self.names.len() >= PRODUCER_NAMES_MAX {
            let name = self.longest_unused(now_ms, in_use).ok_or(ProducerError::TooManyNames {
                limit: PRODUCER_NAMES_MAX,
                idle_days: PRODUCER_IDLE_MS_MAX / (24 * 60 * 60 * 1000),
            })?;
            events.push(Event::NameGivenUp { name });
        }
        let named = Named { identity: Identity { id, epoch }, used_at_ms: now_ms };
        events.push(Event::NameTaken { name: name.clone(), named });
        Ok(events)
    }

    /// Whether a name needs a new id for its next life.
    pub(super) fn needs_id(&self, name: &ProducerName) -> bool {
        self.names.get(name).is_none_or(|named| named.identity.epoch == u16::MAX)
    }

    /// The name that was asked for the longest time ago, if that is long enough and nobody sends with it.
    fn longest_unused(&self, now_ms: TimestampMs, in_use: impl Fn(&ProducerName) -> bool) -> Option<ProducerName> {
        let idle = |named: &Named| u64::try_from(now_ms.saturating_sub(named.used_at_ms)).unwrap_or(0);
        self.names
            .iter()
            .filter(|(name, named)| idle(named) > PRODUCER_IDLE_MS_MAX && !in_use(name))
            .min_by_key(|(_, named)| named.used_at_ms)
            .map(|(name, _)| name.clone())
    }

    /// Takes over a change that is durable.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Reserved { below } => self.reserved_below = self.reserved_below.max(*below),
            Event::NameTaken { name, named } => {
                if let Some(before) = self.names.insert(name.clone(), *named) {
                    self.by_id.remove(&before.identity.id);
                }
                self.by_id.insert(named.identity.id, name.clone());
            }
            Event::NameGivenUp { name } => {
                if let Some(before) = self.names.remove(name) {
                    self.by_id.remove(&before.identity.id);
                }
            }
        }
    }

    /// After the last entry was replayed: ids below the reserved number may have been given.
    pub(super) fn begin(&mut self) {
        self.next_id = if is_planted(Bug::ProducerIdReused) { 1 } else { self.reserved_below };
    }

    /// Whether a batch with this identity may be queued; for a named producer, its name.
    pub(super) fn admit(
        &self,
        Identity { id: producer, epoch }: Identity,
    ) -> Result<Option<&ProducerName>, ProducerError> {
        if let Some(name) = self.by_id.get(&producer) {
            let current = self.names.get(name).map_or(0, |named| named.identity.epoch);
            return match epoch.cmp(&current) {
                std::cmp::Ordering::Equal => Ok(Some(name)),
                std::cmp::Ordering::Less if is_planted(Bug::OldEpochAccepted) => Ok(Some(name)),
                std::cmp::Ordering::Less => Err(ProducerError::Fenced { producer, epoch, current: Some(current) }),
                std::cmp::Ordering::Greater => Err(ProducerError::NeverGiven { producer, epoch }),
            };
        }
        match epoch {
            _ if producer.0 >= self.next_id => Err(ProducerError::NeverGiven { producer, epoch }),
            0 => Ok(None),
            _ => Err(ProducerError::Fenced { producer, epoch, current: None }),
        }
    }

    /// The whole durable state as events.
    pub(super) fn snapshot(&self) -> Vec<Event> {
        let names = self.names.iter().map(|(name, named)| Event::NameTaken { name: name.clone(), named: *named });
        std::iter::once(Event::Reserved { below: self.reserved_below }).chain(names).collect()
    }
}

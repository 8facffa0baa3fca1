//! Order by key: which message of a key is next, and whether one is under way.
//!
//! Knows every open message whose key was read. Of one key at most one is with a receiver, and in a partition the
//! first open one comes before all others, whatever it waits for.

use super::event::{KeyHash, MessageKey};
use super::ids::{PartitionKey, Place};
use crate::planted::{Bug, is_planted};
use crate::types::Offset;
use std::collections::{BTreeSet, HashMap};

/// The keys of one queue. Empty unless the queue keeps order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Keys(HashMap<KeyHash, KeyState>);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct KeyState {
    open: BTreeSet<Place>,
    /// The one that is with a receiver.
    busy: Option<Place>,
}

impl Keys {
    /// Notes an open message of that key.
    pub(super) fn add(&mut self, key: KeyHash, place: Place) {
        self.0.entry(key).or_default().open.insert(place);
    }

    /// Forgets a message that is done.
    pub(super) fn remove(&mut self, key: KeyHash, place: Place) {
        let Some(state) = self.0.get_mut(&key) else { return };
        state.open.remove(&place);
        if state.open.is_empty() {
            self.0.remove(&key);
        }
    }

    /// The message goes to a receiver.
    pub(super) fn occupy(&mut self, key: KeyHash, place: Place) {
        if let Some(state) = self.0.get_mut(&key) {
            debug_assert!(state.busy.is_none_or(|busy| busy == place), "one message of a key at a time");
            state.busy = Some(place);
        }
    }

    /// The message is with no receiver any more.
    pub(super) fn vacate(&mut self, key: KeyHash, place: Place) {
        if let Some(state) = self.0.get_mut(&key)
            && state.busy == Some(place)
        {
            state.busy = None;
        }
    }

    /// Whether the message may be handed out as far as its key goes.
    pub(super) fn is_next(&self, key: MessageKey, place: Place) -> bool {
        let MessageKey::Hash(key) = key else { return true };
        let Some(state) = self.0.get(&key) else { return true };
        let is_free = state.busy.is_none_or(|busy| busy == place);
        let first = Place { offset: Offset::ZERO, ..place };
        is_planted(Bug::KeyOrderIgnored) || is_free && state.open.range(first..place).next().is_none()
    }

    /// The first message of that key in each partition.
    pub(super) fn heads(&self, key: KeyHash) -> Vec<Place> {
        let mut heads = Vec::new();
        let Some(state) = self.0.get(&key) else { return heads };
        let mut next = state.open.first().copied();
        while let Some(head) = next {
            heads.push(head);
            let last = Place { at: head.at, offset: Offset(u64::MAX) };
            next = state.open.range(last..).find(|place| place.at != head.at).copied();
        }
        heads
    }

    /// Keys of which more than one message of a partition is open: the first there, and how many are behind it.
    pub(super) fn blocking(&self) -> impl Iterator<Item = (Place, u64)> + '_ {
        let of_key = |state: &KeyState| {
            let mut blocking: Vec<(Place, u64)> = Vec::new();
            for place in &state.open {
                match blocking.last_mut() {
                    Some((first, behind)) if first.at == place.at => *behind += 1,
                    _ => blocking.push((*place, 0)),
                }
            }
            blocking
        };
        self.0.values().filter(|state| state.open.len() > 1).flat_map(of_key).filter(|(_, behind)| *behind > 0)
    }

    /// Forgets all messages of a partition; gives the keys that this may have freed.
    pub(super) fn drop_partition(&mut self, at: PartitionKey) -> Vec<KeyHash> {
        let mut touched = Vec::new();
        self.0.retain(|key, state| {
            let before = state.open.len();
            state.open.retain(|place| place.at != at);
            if state.open.len() < before {
                touched.push(*key);
            }
            if state.busy.is_some_and(|busy| busy.at == at) {
                state.busy = None;
            }
            !state.open.is_empty()
        });
        touched
    }
}

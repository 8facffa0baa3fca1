//! The calls that were replied to of late: a bounded memory, in which the oldest makes room.

use super::CallId;
use std::collections::{HashSet, VecDeque};

#[derive(Debug)]
pub(super) struct RecentCalls {
    most: usize,
    calls: HashSet<CallId>,
    /// Oldest first; the same calls.
    order: VecDeque<CallId>,
}

impl RecentCalls {
    pub(super) fn new(most: usize) -> Self {
        Self { most, calls: HashSet::new(), order: VecDeque::new() }
    }

    pub(super) fn contains(&self, call: CallId) -> bool {
        self.calls.contains(&call)
    }

    pub(super) fn insert(&mut self, call: CallId) {
        if !self.calls.insert(call) {
            return;
        }
        self.order.push_back(call);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.calls.remove(&oldest);
        }
    }

    /// Takes back an insertion; it is among the last ones.
    pub(super) fn remove(&mut self, call: CallId) {
        if self.calls.remove(&call)
            && let Some(position) = self.order.iter().rposition(|found| *found == call)
        {
            self.order.remove(position);
        }
    }
}

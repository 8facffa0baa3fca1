//! Since when a group is dead: nobody is in it, nobody has paused it, and nobody commits for it from outside.
//!
//! The time at which the last member left is in the journal. Of a group that had members when the broker stopped it is
//! not known; such a group is dead since the start of the broker at the earliest, so that its members can come back.

use super::state::GroupState;
use crate::types::TimestampMs;

impl GroupState {
    /// Since when the group is dead; `None` = it is not. `started_at_ms` is the start of the broker.
    pub(super) fn dead_since_ms(&self, started_at_ms: TimestampMs) -> Option<TimestampMs> {
        if !self.members.is_empty() || self.is_paused {
            return None;
        }
        let last_commit_ms = self.offsets.values().map(|committed| committed.at_ms).max();
        let empty_since_ms = self.empty_since_ms.unwrap_or(started_at_ms);
        Some(last_commit_ms.map_or(empty_since_ms, |at_ms| at_ms.max(empty_since_ms)))
    }
}

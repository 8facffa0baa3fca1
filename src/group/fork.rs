//! Decisions about forks: another group begins where one is now, to try something out beside it.
//!
//! Only committed offsets are copied, with their metadata; members, a pause and the pace are of the group that has them.

use super::describe::CommittedOffset;
use super::error::GroupError;
use super::event::{Decision, Event, Now};
use super::state::{Committed, GroupState};

impl GroupState {
    /// Copies what `source` has committed into this group, which must have no members and no offsets. The reply is what
    /// is set, by topic and partition.
    pub(super) fn decide_fork(&self, source: &Self, now: Now) -> Result<Decision<Vec<CommittedOffset>>, GroupError> {
        self.check_empty()?;
        if !self.offsets.is_empty() {
            return Err(GroupError::HasOffsets { group: self.name.clone(), offsets: self.offsets.len() });
        }
        let copies = source.offsets.iter().map(|(key, committed)| Event::OffsetCommitted {
            group: self.name.clone(),
            key: *key,
            committed: Committed { at_ms: now.wall_ms, ..committed.clone() },
        });
        Ok(Decision { reply: source.committed_offsets(), events: copies.collect(), effects: Vec::new() })
    }
}

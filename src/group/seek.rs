//! Decisions about seeks: a group goes on elsewhere in its logs, whether somebody reads or not.
//!
//! A seek sets all of its offsets or none. Where a partition has an owner it is a new generation: the owner is told
//! where to go on, and until it has said that it stopped what it did before, its commits are refused: they would undo
//! the seek. An owner that was stopping already is told nothing; whoever gets the partition next begins at the new place.

use super::commit::{CommitResults, OffsetToCommit, Pacing};
use super::error::GroupError;
use super::event::{Decision, Effect, Event, Now};
use super::ids::{Generation, MemberId};
use super::membership::MemberEvent;
use super::state::{GroupState, Ownership, UnfollowedSeek};
use super::topics::TopicsSnapshot;
use crate::types::{Offset, TopicPartition};
use std::collections::BTreeMap;

impl GroupState {
    /// Sets committed offsets, forwards or backwards, and tells the owners of these partitions. One result for each
    /// offset; if any is refused, none is set.
    pub(super) fn decide_seek(
        &self,
        offsets: &[OffsetToCommit],
        topics: &TopicsSnapshot,
        now: Now,
    ) -> Result<Decision<CommitResults>, GroupError> {
        let mut decision = self.decide_offsets(offsets, topics, now, Pacing::Anew, |offset, _, _| {
            let exists = (offset.log_start..=offset.high_watermark).contains(&offset.offset);
            if exists { Ok(()) } else { Err(offset.out_of_range(&self.name)) }
        })?;
        if decision.reply.iter().any(Result::is_err) {
            return Ok(Decision { reply: decision.reply, ..Decision::default() });
        }
        self.move_owners(offsets, topics, &mut decision);
        Ok(decision)
    }

    fn move_owners(&self, offsets: &[OffsetToCommit], topics: &TopicsSnapshot, decision: &mut Decision<CommitResults>) {
        let generation = self.generation.next();
        let mut moved = Vec::new();
        let mut told: BTreeMap<MemberId, Vec<(TopicPartition, Offset)>> = BTreeMap::new();
        // A partition that is named twice goes where the last one says, as its committed offset does.
        let places: BTreeMap<TopicPartition, Offset> =
            offsets.iter().map(|offset| (offset.place(), offset.offset)).collect();
        for (partition, offset) in places {
            // An owner that still reads a deleted topic of this name has nothing to do with it.
            let owned = self.ownership.get(&partition).filter(|held| topics.has(&partition, held.topic_id));
            let Some(held) = owned else { continue };
            let is_stopping = held.revocation.is_some();
            let seek = if is_stopping { UnfollowedSeek::Stopping } else { UnfollowedSeek::Told(generation) };
            let ownership = Some(Ownership { since: generation, seek: Some(seek), ..held.clone() });
            moved.push(Event::OwnershipChanged { group: self.name.clone(), partition: partition.clone(), ownership });
            if !is_stopping {
                told.entry(held.owner.clone()).or_default().push((partition, offset));
            }
        }
        if moved.is_empty() {
            return;
        }
        decision
            .events
            .insert(0, Event::GenerationAdvanced { group: self.name.clone(), generation, empty_since_ms: None });
        decision.events.extend(moved);
        decision.effects.extend(told.into_iter().map(|(member, partitions)| {
            let event = MemberEvent::Sought { generation, partitions };
            Effect { group: self.name.clone(), member, event }
        }));
    }

    /// The owner has stopped what it did before the seek of this generation, and goes on from there.
    pub(super) fn followed_seeks(&self, member: &MemberId, generation: Generation) -> impl Iterator<Item = Event> {
        let followed = self
            .ownership
            .iter()
            .filter(move |(_, held)| held.owner == *member && held.seek == Some(UnfollowedSeek::Told(generation)));
        followed.map(|(partition, held)| Event::OwnershipChanged {
            group: self.name.clone(),
            partition: partition.clone(),
            ownership: Some(Ownership { seek: None, ..held.clone() }),
        })
    }
}

//! Decisions about committed offsets.
//!
//! A commit is fenced: a member can commit only to what it owns or has yet to release, and a commit of an older
//! ownership, or from before a seek, has no effect. It never goes back and never beyond what readers can see; a seek
//! (`super::seek`) may. Each offset of a call has a result of its own.

use super::error::{CommitError, GroupError};
use super::event::{Decision, Event, Now, OffsetKey};
use super::ids::{Generation, GroupName, MemberId};
use super::pace::PaceSample;
use super::state::{Committed, GroupState, UnfollowedSeek};
use super::topics::TopicsSnapshot;
use crate::limits;
use crate::types::{Offset, TopicId, TopicName, TopicPartition};
use std::collections::HashMap;

/// Offsets that a group has come to.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The group; created if there is none and nobody is a member of it.
    pub group: GroupName,
    /// Who commits, and in which generation; `None` is possible while the group has no members. In a member's own
    /// stream the order of messages says what a generation says elsewhere, so there it may be left out.
    pub member: Option<(MemberId, Option<Generation>)>,
    /// At most [`limits::COMMIT_OFFSETS_MAX`].
    pub offsets: Vec<OffsetToCommit>,
}

/// How far a group has come in one partition, and how far that partition's log goes.
#[derive(Debug, Clone)]
pub struct OffsetToCommit {
    /// The topic.
    pub topic: TopicName,
    /// Its partition, 0-based.
    pub partition: u32,
    /// The next record to read.
    pub offset: Offset,
    /// Free text; at most [`limits::COMMIT_METADATA_BYTES_MAX`] bytes.
    pub metadata: String,
    /// End of what readers see of this partition now.
    pub high_watermark: Offset,
    /// First retained offset of this partition now.
    pub log_start: Offset,
}

/// One result for each offset of a request, in its order.
pub type CommitResults = Vec<Result<(), CommitError>>;

impl GroupState {
    /// Commits, as a member or, while there is none, from outside.
    pub(super) fn decide_commit(
        &self,
        request: &CommitRequest,
        topics: &TopicsSnapshot,
        now: Now,
    ) -> Result<Decision<CommitResults>, GroupError> {
        match &request.member {
            Some((member, _)) => self.check_member(member)?,
            None => self.check_empty()?,
        }
        self.decide_offsets(&request.offsets, topics, now, Pacing::GoesOn, |offset, topic_id, committed| {
            if let Some((member, generation)) = &request.member {
                self.check_owner(member, *generation, &offset.place(), topic_id, now)?;
            }
            if offset.offset > offset.high_watermark {
                return Err(offset.out_of_range(&self.name));
            }
            let (group, partition, offset) = (&self.name, offset.place(), offset.offset);
            match committed.filter(|committed| offset < *committed) {
                Some(committed) => {
                    Err(CommitError::BelowCommitted { group: group.clone(), partition, offset, committed })
                }
                None => Ok(()),
            }
        })
    }

    /// Refuses what is possible only without members.
    pub(super) fn check_empty(&self) -> Result<(), GroupError> {
        if self.members.is_empty() {
            return Ok(());
        }
        Err(GroupError::HasMembers { group: self.name.clone(), members: self.members.len() })
    }

    /// Checks each offset by the rules that all share, then by `check`, which is told what is committed by now.
    pub(super) fn decide_offsets(
        &self,
        offsets: &[OffsetToCommit],
        topics: &TopicsSnapshot,
        now: Now,
        pacing: Pacing,
        check: impl Fn(&OffsetToCommit, TopicId, Option<Offset>) -> Result<(), CommitError>,
    ) -> Result<Decision<CommitResults>, GroupError> {
        if offsets.len() > limits::COMMIT_OFFSETS_MAX {
            let (group, limit) = (self.name.clone(), limits::COMMIT_OFFSETS_MAX);
            return Err(GroupError::TooManyOffsets { group, offsets: offsets.len(), limit });
        }
        let mut decision = Decision::<CommitResults>::default();
        let mut sampled = Vec::new();
        // A partition may be named twice; the second time goes by what the first has set.
        let mut set: HashMap<OffsetKey, Offset> = HashMap::new();
        for offset in offsets {
            let result = self.check_place(offset, topics).and_then(|key| {
                let before = self.offsets.get(&key).map(|committed| committed.offset);
                check(offset, key.topic_id, set.get(&key).copied().or(before)).map(|()| key)
            });
            if let Ok(key) = result {
                set.insert(key, offset.offset);
                let pace = self.paces.get(&key);
                let is_first = pacing == Pacing::Anew || pace.is_none();
                if is_first || pace.is_some_and(|pace| pace.is_due(now.monotonic_ms)) {
                    let sample = offset.sample(now);
                    sampled.push(Event::PaceSampled { group: self.name.clone(), key, sample, is_first });
                }
                let committed = Committed {
                    topic: offset.topic.clone(),
                    offset: offset.offset,
                    metadata: offset.metadata.clone(),
                    at_ms: now.wall_ms,
                };
                decision.events.push(Event::OffsetCommitted { group: self.name.clone(), key, committed });
            }
            decision.reply.push(result.map(|_| ()));
        }
        decision.events.extend(sampled);
        Ok(decision)
    }

    /// The partition exists, and the metadata fits.
    fn check_place(&self, offset: &OffsetToCommit, topics: &TopicsSnapshot) -> Result<OffsetKey, CommitError> {
        let group = || self.name.clone();
        let Some(topic) = topics.get(&offset.topic) else {
            return Err(CommitError::UnknownTopic { group: group(), topic: offset.topic.clone() });
        };
        if offset.partition >= topic.partitions {
            let (partition, partitions) = (offset.place(), topic.partitions);
            return Err(CommitError::UnknownPartition { group: group(), partition, partitions });
        }
        if offset.metadata.len() > limits::COMMIT_METADATA_BYTES_MAX {
            let (partition, bytes) = (offset.place(), offset.metadata.len());
            let limit_bytes = limits::COMMIT_METADATA_BYTES_MAX;
            return Err(CommitError::MetadataTooLong { group: group(), partition, bytes, limit_bytes });
        }
        Ok(OffsetKey { topic_id: topic.id, partition: offset.partition })
    }

    /// Fences: the member must have the partition, of this very topic, and have had it in `generation`.
    fn check_owner(
        &self,
        member: &MemberId,
        generation: Option<Generation>,
        partition: &TopicPartition,
        topic_id: TopicId,
        now: Now,
    ) -> Result<(), CommitError> {
        let owns = self.ownership.get(partition).filter(|held| {
            let in_time = held.revocation.as_ref().is_none_or(|revoked| now.monotonic_ms < revoked.deadline_ms);
            held.owner == *member && held.topic_id == topic_id && in_time
        });
        let (group, member, partition) = (self.name.clone(), member.clone(), partition.clone());
        let Some(held) = owns else {
            return Err(CommitError::NotOwner { group, member, partition });
        };
        // What a member sends without a generation is ordered by its stream alone, in which it says when it has followed.
        let is_of_before = match held.seek {
            Some(UnfollowedSeek::Told(_)) => generation.is_none(),
            Some(UnfollowedSeek::Stopping) => true,
            None => false,
        };
        if is_of_before {
            return Err(CommitError::BeforeSeek { group, member, partition, sought_in: held.since });
        }
        let valid = held.since..=self.generation;
        match generation.filter(|generation| !valid.contains(generation)) {
            Some(generation) => {
                let (assigned_in, current) = (held.since, self.generation);
                Err(CommitError::StaleGeneration { group, member, partition, generation, assigned_in, current })
            }
            None => Ok(()),
        }
    }
}

/// What an offset that is set says about the pace of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pacing {
    /// The group has worked its way there.
    GoesOn,
    /// It was put there.
    Anew,
}

impl OffsetToCommit {
    fn sample(&self, now: Now) -> PaceSample {
        PaceSample { at_ms: now.monotonic_ms, committed: self.offset, high_watermark: self.high_watermark }
    }

    pub(super) fn place(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }

    pub(super) fn out_of_range(&self, group: &GroupName) -> CommitError {
        CommitError::OutOfRange {
            group: group.clone(),
            partition: self.place(),
            offset: self.offset,
            log_start: self.log_start,
            high_watermark: self.high_watermark,
        }
    }
}

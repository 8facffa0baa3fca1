//! What a group looks like from outside: plain values for `describe` and `list`.
//!
//! High watermarks and lag are not here; who asks adds them from the logs.

use super::event::{Now, OffsetKey};
use super::ids::{Generation, GroupName, MemberId};
use super::membership::Assignor;
use super::pace::PaceStart;
use super::rebalance::chosen_assignor;
use super::state::{GroupState, Member};
use super::topics::TopicsSnapshot;
use crate::filter::Filter;
use crate::types::{Offset, TimestampMs, TopicName, TopicPartition, TopicPattern};
use std::collections::{BTreeMap, BTreeSet};

/// How far a group has come in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: TopicName,
    /// Its partition, 0-based.
    pub partition: u32,
    /// The next record to read.
    pub offset: Offset,
    /// Free text of who committed.
    pub metadata: String,
    /// When it was committed.
    pub committed_at_ms: TimestampMs,
}

/// What a group is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupPhase {
    /// No members; the committed offsets are kept.
    Empty,
    /// Partitions are moving between members; those that do not move are being read.
    Rebalancing,
    /// Every partition has its owner.
    Stable,
}

/// One line about a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its name.
    pub name: GroupName,
    /// What it is doing.
    pub phase: GroupPhase,
    /// Whether its members get no records, because somebody said so.
    pub is_paused: bool,
    /// How often its assignment has changed.
    pub generation: Generation,
    /// How many members it has.
    pub members: usize,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: MemberId,
    /// As the client gave it.
    pub client_id: String,
    /// Address and port of the client.
    pub peer: String,
    /// As the client gave it; `None` = it has no place to come back to.
    pub instance_id: Option<String>,
    /// Its stream has ended, and it is expected back.
    pub is_away: bool,
    /// The topics that it wants by name, in order.
    pub topics: Vec<TopicName>,
    /// And by pattern.
    pub patterns: Vec<TopicPattern>,
    /// How it wants partitions to be shared.
    pub assignor: Assignor,
    /// Which records it wants.
    pub filter: Option<Filter>,
    /// What it may still commit to: its partitions, and those it has yet to release. In order.
    pub partitions: Vec<TopicPartition>,
}

/// A partition as a group sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Which one.
    pub partition: TopicPartition,
    /// How far the group has come; `None` = nothing was committed yet.
    pub committed: Option<CommittedOffset>,
    /// From where to measure how fast the group goes on; `None` = not known yet.
    pub pace: Option<PaceStart>,
    /// Who owns it now, or has yet to release it.
    pub owner: Option<MemberId>,
}

/// Everything about a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The line about it.
    pub summary: GroupSummary,
    /// How partitions are shared, as most members want it; `None` while there are none.
    pub assignor: Option<Assignor>,
    /// In the order in which they joined.
    pub members: Vec<MemberDescription>,
    /// Every partition that the group has committed to or is subscribed to, by topic and partition.
    pub partitions: Vec<PartitionDescription>,
}

impl GroupState {
    /// One line about the group.
    pub(super) fn summary(&self) -> GroupSummary {
        let phase = if self.members.is_empty() {
            GroupPhase::Empty
        } else if self.ownership.values().any(|held| held.revocation.is_some()) {
            GroupPhase::Rebalancing
        } else {
            GroupPhase::Stable
        };
        let (generation, members) = (self.generation, self.members.len());
        GroupSummary { name: self.name.clone(), phase, is_paused: self.is_paused, generation, members }
    }

    /// Everything about the group.
    pub(super) fn describe(&self, topics: &TopicsSnapshot, now: Now) -> GroupDescription {
        GroupDescription {
            summary: self.summary(),
            assignor: (!self.members.is_empty()).then(|| chosen_assignor(&self.members_in_order())),
            members: self.describe_members(),
            partitions: self.describe_partitions(topics, now),
        }
    }

    fn describe_members(&self) -> Vec<MemberDescription> {
        let mut partitions: BTreeMap<&MemberId, Vec<TopicPartition>> = BTreeMap::new();
        for (partition, held) in &self.ownership {
            partitions.entry(&held.owner).or_default().push(partition.clone());
        }
        let describe = |member: &Member| MemberDescription {
            member_id: member.id.clone(),
            client_id: member.client_id.clone(),
            peer: member.peer.clone(),
            instance_id: member.instance.as_ref().map(|instance| instance.id.clone()),
            is_away: member.away_until_ms.is_some(),
            topics: member.interest.topics.iter().cloned().collect(),
            patterns: member.interest.patterns.clone(),
            assignor: member.assignor,
            filter: member.filter.clone(),
            partitions: partitions.remove(&member.id).unwrap_or_default(),
        };
        self.members_in_order().into_iter().map(describe).collect()
    }

    /// Every partition of each topic that the group reads or has committed in: what nobody has read of one must not be
    /// missing from the lag. One of a deleted topic may still be owned by a member that has yet to release it; it is not
    /// shown.
    fn describe_partitions(&self, topics: &TopicsSnapshot, now: Now) -> Vec<PartitionDescription> {
        let owned = self.ownership.keys().filter(|partition| topics.get(&partition.topic).is_some()).cloned();
        let names: BTreeSet<&TopicName> = self.offsets.values().map(|committed| &committed.topic).collect();
        let committed_in = names.into_iter().flat_map(|topic| {
            let partitions = topics.get(topic).map_or(0, |topic| topic.partitions);
            (0..partitions).map(|partition| TopicPartition { topic: topic.clone(), partition })
        });
        let partitions: BTreeSet<TopicPartition> = owned.chain(committed_in).collect();
        let pace_of = |partition: &TopicPartition| {
            let key = OffsetKey { topic_id: topics.get(&partition.topic)?.id, partition: partition.partition };
            self.paces.get(&key)?.start(now.monotonic_ms)
        };
        let describe = |partition: TopicPartition| PartitionDescription {
            pace: pace_of(&partition),
            committed: topics
                .get(&partition.topic)
                .and_then(|topic| self.committed(topic.id, partition.partition))
                .map(|committed| committed.describe(partition.partition)),
            owner: self.ownership.get(&partition).map(|held| held.owner.clone()),
            partition,
        };
        partitions.into_iter().map(describe).collect()
    }
}

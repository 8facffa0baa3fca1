//! One consumer group as a pure state machine: `decide_*` looks, [`GroupState::apply`] changes.
//!
//! A decision takes `&self` and yields events; nothing changes until they are applied. The decisions stand in
//! `super::rebalance` (membership and ownership, with `super::instance`), `super::commit` and `super::seek` (offsets), the
//! state and its changes here.
//!
//! What always holds: a partition has one [`Ownership`] or none; its owner is a member; every partition of a
//! subscribed topic is owned or being revoked; whoever waits for a partition is a member.

use super::describe::CommittedOffset;
use super::event::{Event, OffsetKey};
use super::ids::{Generation, GroupName, MemberId};
use super::instance::Instance;
use super::interest::Interest;
use super::membership::Assignor;
use super::pace::PaceWindow;
use crate::filter::Filter;
use crate::types::{Offset, TimestampMs, TopicId, TopicName, TopicPartition};
use std::collections::BTreeMap;

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupState {
    pub(super) name: GroupName,
    pub(super) generation: Generation,
    /// When the last member left, as far as that is known; `None` while there are members.
    pub(super) empty_since_ms: Option<TimestampMs>,
    /// Members get no records.
    pub(super) is_paused: bool,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) ownership: BTreeMap<TopicPartition, Ownership>,
    pub(super) offsets: BTreeMap<OffsetKey, Committed>,
    /// How fast it goes on; only of partitions in `offsets`.
    pub(super) paces: BTreeMap<OffsetKey, PaceWindow>,
}

/// A member, that is: one open stream of a client, or one with an instance id that is expected back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub id: MemberId,
    pub client_id: String,
    pub peer: String,
    pub interest: Interest,
    /// How it wants partitions to be shared.
    pub assignor: Assignor,
    /// Which records it wants.
    pub filter: Option<Filter>,
    /// Keeps its place while it is away.
    pub instance: Option<Instance>,
    /// Set while it is away: when it leaves unless it has come back.
    pub away_until_ms: Option<u64>,
    /// Orders the members: no two join in one generation. Who takes the place of another has that of the other.
    pub joined_in: Generation,
}

/// Who has a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ownership {
    pub owner: MemberId,
    /// The topic whose records the owner reads; a topic created later with the same name is another one.
    pub topic_id: TopicId,
    /// The generation in which the owner got it. Commits that name an older one are stale.
    pub since: Generation,
    /// Set while the owner is asked to stop. Until it has, nobody else gets the partition.
    pub revocation: Option<Revocation>,
    /// Set while the owner may still commit what it did before a seek; such commits are refused.
    pub seek: Option<UnfollowedSeek>,
}

/// A seek that the owner of a partition has not followed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnfollowedSeek {
    /// It was told in this generation, which its release will name.
    Told(Generation),
    /// It was asked to stop before, and is not told: the seek is for the next owner.
    Stopping,
}

/// A partition on its way from one owner to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Revocation {
    /// The generation the owner was told, and which its release names.
    pub generation: Generation,
    /// From this moment on the partition passes on without release.
    pub deadline_ms: u64,
    /// Who gets it then; `None` = nobody subscribes to it any more.
    pub next: Option<MemberId>,
}

/// How far the group has come in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committed {
    /// For people; the topic's identity is in the key.
    pub topic: TopicName,
    pub offset: Offset,
    pub metadata: String,
    pub at_ms: TimestampMs,
}

impl GroupState {
    /// A group without members and offsets. Its first generation will be the one after `generation`.
    pub(super) fn new(name: GroupName, generation: Generation) -> Self {
        Self {
            name,
            generation,
            empty_since_ms: None,
            is_paused: false,
            members: BTreeMap::new(),
            ownership: BTreeMap::new(),
            offsets: BTreeMap::new(),
            paces: BTreeMap::new(),
        }
    }

    /// Carries out one event of this group.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::GenerationAdvanced { generation, empty_since_ms, .. } => {
                self.empty_since_ms = *empty_since_ms;
                // Never back, whatever order a journal may bring: a generation that was seen is used up.
                self.generation = self.generation.max(*generation);
            }
            Event::PauseChanged { paused, .. } => self.is_paused = *paused,
            Event::OffsetCommitted { key, committed, .. } => {
                self.offsets.insert(*key, committed.clone());
            }
            Event::OffsetDropped { key, .. } => {
                self.offsets.remove(key);
                self.paces.remove(key);
            }
            Event::PaceSampled { key, sample, is_first, .. } => match self.paces.get_mut(key) {
                Some(window) if !is_first => window.push(*sample),
                _ => drop(self.paces.insert(*key, PaceWindow::new(*sample))),
            },
            Event::MemberJoined { member, .. } => {
                self.members.insert(member.id.clone(), member.clone());
            }
            Event::MemberLeft { member, .. } => {
                self.members.remove(member);
            }
            Event::MemberAway { member, until_ms, .. } => {
                if let Some(member) = self.members.get_mut(member) {
                    member.away_until_ms = Some(*until_ms);
                }
            }
            Event::OwnershipChanged { partition, ownership: Some(ownership), .. } => {
                self.ownership.insert(partition.clone(), ownership.clone());
            }
            Event::OwnershipChanged { partition, ownership: None, .. } => {
                self.ownership.remove(partition);
            }
            // These concern more than the state of one group; `Groups::apply` does them.
            Event::GenerationFloorRaised { .. } | Event::GroupDeleted { .. } => {}
        }
    }

    /// The committed offset of a partition of exactly that topic.
    pub(super) fn committed(&self, topic_id: TopicId, partition: u32) -> Option<&Committed> {
        self.offsets.get(&OffsetKey { topic_id, partition })
    }

    /// All committed offsets, by topic and partition.
    pub(super) fn committed_offsets(&self) -> Vec<CommittedOffset> {
        let mut offsets: Vec<_> =
            self.offsets.iter().map(|(key, committed)| committed.describe(key.partition)).collect();
        offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        offsets
    }

    /// The members in the order in which they joined.
    pub(super) fn members_in_order(&self) -> Vec<&Member> {
        let mut members: Vec<&Member> = self.members.values().collect();
        members.sort_by_key(|member| member.joined_in);
        members
    }

    /// The events that make this state from nothing, as far as it is durable.
    pub(super) fn durable_events(&self) -> impl Iterator<Item = Event> {
        let (generation, empty_since_ms) = (self.generation, self.empty_since_ms);
        let exists = Event::GenerationAdvanced { group: self.name.clone(), generation, empty_since_ms };
        let offsets = self.offsets.iter().map(|(key, committed)| Event::OffsetCommitted {
            group: self.name.clone(),
            key: *key,
            committed: committed.clone(),
        });
        let paused = Event::PauseChanged { group: self.name.clone(), paused: true };
        std::iter::once(exists).chain(self.is_paused.then_some(paused)).chain(offsets)
    }
}

impl Committed {
    /// As it is shown outside.
    pub(super) fn describe(&self, partition: u32) -> CommittedOffset {
        CommittedOffset {
            topic: self.topic.clone(),
            partition,
            offset: self.offset,
            metadata: self.metadata.clone(),
            committed_at_ms: self.at_ms,
        }
    }
}

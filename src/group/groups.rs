//! All groups of the broker: finds the one a request is about, creates and deletes groups, replays and snapshots them.
//!
//! Like the state of one group it decides on `&self` and changes by [`Groups::apply`] alone; only the set of topics,
//! which the catalog owns, is handed in beside the events. Also knows when the next deadline is, so that its
//! owner can wait without looking at every partition.

use super::commit::{CommitRequest, CommitResults, OffsetToCommit};
use super::describe::{CommittedOffset, GroupDescription, GroupSummary};
use super::error::GroupError;
use super::event::{Decision, Event, Now};
use super::ids::{Generation, GroupName, MemberId};
use super::journal_entries::{decode, encode};
use super::membership::JoinRequest;
use super::state::GroupState;
use super::topics::TopicsSnapshot;
use crate::limits;
use crate::partition::journal::JournalEntry;
use crate::types::{Offset, TimestampMs, TopicId, TopicName};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most groups that retention deletes at a time, so that commits do not wait long behind it.
const FORGOTTEN_MAX: usize = 100;

/// An offset in a partition of exactly that topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPlace {
    /// The topic; one created later with the same name is another.
    pub topic_id: TopicId,
    /// Its partition, 0-based.
    pub partition: u32,
    /// The offset.
    pub offset: Offset,
}

/// The state of every group.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    by_name: BTreeMap<GroupName, GroupState>,
    topics: Arc<TopicsSnapshot>,
    /// Generations up to this one were used by groups that are deleted. A group that is created again goes on after
    /// it, so that a member of the deleted one is never taken for one of the new.
    generation_floor: Generation,
    /// When revocations and absences run out. May name groups in which nothing runs out any more; never lacks one in
    /// which it does.
    deadlines: BTreeSet<(u64, GroupName)>,
}

impl Groups {
    /// The state that the journal's entries, oldest first, have made. Nobody is a member of any group.
    pub(super) fn replay(
        entries: impl IntoIterator<Item = JournalEntry>,
        topics: Arc<TopicsSnapshot>,
    ) -> Result<Self, GroupError> {
        let mut groups = Self { topics, ..Self::default() };
        for entry in entries {
            groups.apply(&decode(&entry)?);
        }
        Ok(groups)
    }

    /// The whole durable state as entries; replaying them, and nothing else, makes it again.
    pub(super) fn snapshot(&self) -> Vec<JournalEntry> {
        let floor = Event::GenerationFloorRaised { generation: self.generation_floor };
        let floor = (self.generation_floor > Generation::default()).then_some(floor);
        let groups = self.by_name.values().flat_map(GroupState::durable_events);
        floor.into_iter().chain(groups).filter_map(|event| encode(&event)).collect()
    }

    /// Carries out one event. Total: a journal cut or compacted in the middle of a group's life still replays.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::GenerationFloorRaised { generation } => {
                self.generation_floor = self.generation_floor.max(*generation);
            }
            Event::GroupDeleted { group } => {
                self.by_name.remove(group);
            }
            Event::GenerationAdvanced { group, .. }
            | Event::PauseChanged { group, paused: true }
            | Event::OffsetCommitted { group, .. } => {
                // Compaction keeps the last entry of a key, so offsets and pauses may be met before their group.
                let new = || GroupState::new(group.clone(), Generation::default());
                self.by_name.entry(group.clone()).or_insert_with(new).apply(event);
            }
            Event::PauseChanged { group, paused: false }
            | Event::OffsetDropped { group, .. }
            | Event::PaceSampled { group, .. }
            | Event::MemberJoined { group, .. }
            | Event::MemberAway { group, .. }
            | Event::MemberLeft { group, .. }
            | Event::OwnershipChanged { group, .. } => {
                self.note_deadline(event);
                if let Some(state) = self.by_name.get_mut(group) {
                    state.apply(event);
                }
            }
        }
    }

    /// Somebody joins a group, which is created if there is none. The reply is its id.
    pub(super) fn decide_join(&self, request: &JoinRequest, now: Now) -> Result<Decision<MemberId>, GroupError> {
        let group = self.existing_or_new(&request.group);
        self.create_if_new(&request.group, now, group.decide_join(request, &self.topics, now)?)
    }

    /// A member leaves.
    pub(super) fn decide_leave(
        &self,
        group: &GroupName,
        member: &MemberId,
        now: Now,
    ) -> Result<Decision<()>, GroupError> {
        self.existing_or_new(group).decide_leave(member, &self.topics, now)
    }

    /// A member is taken out of its group.
    pub(super) fn decide_evict(
        &self,
        group: &GroupName,
        member: &MemberId,
        now: Now,
    ) -> Result<Decision<()>, GroupError> {
        self.existing(group)?.decide_evict(member, &self.topics, now)
    }

    /// The stream of a member has ended: it leaves, or is away.
    pub(super) fn decide_departure(
        &self,
        group: &GroupName,
        member: &MemberId,
        now: Now,
    ) -> Result<Decision<()>, GroupError> {
        self.existing_or_new(group).decide_departure(member, &self.topics, now)
    }

    /// A member has stopped reading what was revoked in `generation`.
    pub(super) fn decide_release(
        &self,
        group: &GroupName,
        member: &MemberId,
        generation: Generation,
    ) -> Result<Decision<()>, GroupError> {
        self.existing_or_new(group).decide_release(member, generation, &self.topics)
    }

    /// Offsets are committed. Creates the group if there is none and at least one offset is accepted.
    pub(super) fn decide_commit(
        &self,
        request: &CommitRequest,
        now: Now,
    ) -> Result<Decision<CommitResults>, GroupError> {
        let group = self.existing_or_new(&request.group);
        self.create_if_new(&request.group, now, group.decide_commit(request, &self.topics, now)?)
    }

    /// Committed offsets are set, and their owners told. Creates the group if there is none and all offsets are accepted.
    pub(super) fn decide_seek(
        &self,
        group: &GroupName,
        offsets: &[OffsetToCommit],
        now: Now,
    ) -> Result<Decision<CommitResults>, GroupError> {
        self.create_if_new(group, now, self.existing_or_new(group).decide_seek(offsets, &self.topics, now)?)
    }

    /// A group that has nothing yet begins where another is. It is created if there is none.
    pub(super) fn decide_fork(
        &self,
        source: &GroupName,
        target: &GroupName,
        now: Now,
    ) -> Result<Decision<Vec<CommittedOffset>>, GroupError> {
        let source = self.existing(source)?;
        self.create_if_new(target, now, self.existing_or_new(target).decide_fork(source, now)?)
    }

    /// A group is paused, or goes on.
    pub(super) fn decide_pause(&self, name: &GroupName, paused: bool) -> Result<Decision<()>, GroupError> {
        Ok(self.existing(name)?.decide_pause(paused))
    }

    /// A group without members is deleted, with its offsets.
    pub(super) fn decide_delete(&self, name: &GroupName) -> Result<Decision<()>, GroupError> {
        let group = self.existing(name)?;
        group.check_empty()?;
        // The floor comes first: should only a part of this become durable, no generation can be used twice.
        let mut events = vec![Event::GenerationFloorRaised { generation: self.generation_floor.max(group.generation) }];
        events.extend(group.is_paused.then(|| Event::PauseChanged { group: name.clone(), paused: false }));
        events.extend(group.offsets.keys().map(|&key| Event::OffsetDropped { group: name.clone(), key }));
        events.push(Event::GroupDeleted { group: name.clone() });
        Ok(Decision { events, ..Decision::default() })
    }

    /// Groups that were dead by `dead_by_ms` are deleted with their offsets, at most [`FORGOTTEN_MAX`] of them. The reply
    /// names them.
    pub(super) fn decide_retention(
        &self,
        dead_by_ms: TimestampMs,
        started_at_ms: TimestampMs,
    ) -> Decision<Vec<GroupName>> {
        let is_due = |group: &&GroupState| group.dead_since_ms(started_at_ms).is_some_and(|since| since <= dead_by_ms);
        let mut all = Decision::<Vec<GroupName>>::default();
        for group in self.by_name.values().filter(is_due).take(FORGOTTEN_MAX) {
            if let Ok(deleted) = self.decide_delete(&group.name) {
                all.events.extend(deleted.events);
                all.reply.push(group.name.clone());
            }
        }
        all
    }

    /// What running out of time leads to for partitions on their way, in every group that [`Self::take_due`] named.
    pub(super) fn decide_expiry(&self, name: &GroupName, now: Now) -> Decision<()> {
        self.by_name.get(name).map(|group| group.decide_expiry(&self.topics, now)).unwrap_or_default()
    }

    /// And what it leads to for members that are away, once that is applied.
    pub(super) fn decide_absences(&self, name: &GroupName, now: Now) -> Decision<()> {
        self.by_name.get(name).map(|group| group.decide_absences(&self.topics, now)).unwrap_or_default()
    }

    /// The topics are about to be `topics`: offsets of those that are gone are dropped, and groups that read what
    /// changed are rebalanced. To be followed by [`Self::set_topics`].
    pub(super) fn decide_topics_changed(&self, topics: &TopicsSnapshot, now: Now) -> Decision<()> {
        let mut all = Decision::default();
        let names: BTreeSet<&TopicName> = topics.names().chain(self.topics.names()).collect();
        let changed: Vec<_> = names.into_iter().filter(|name| topics.get(name) != self.topics.get(name)).collect();
        for (name, group) in &self.by_name {
            let dropped =
                group.offsets.iter().filter(|(key, committed)| !topics.is_live(&committed.topic, key.topic_id));
            all.events.extend(dropped.map(|(key, _)| Event::OffsetDropped { group: name.clone(), key: *key }));
            let mut members = group.members.values();
            if members.any(|member| changed.iter().any(|topic| member.interest.covers(topic))) {
                let rebalanced = group.decide_topics_changed(topics, now);
                all.events.extend(rebalanced.events);
                all.effects.extend(rebalanced.effects);
            }
        }
        all
    }

    /// From now on these are the topics.
    pub(super) fn set_topics(&mut self, topics: Arc<TopicsSnapshot>) {
        self.topics = topics;
    }

    /// The topics as last set.
    pub(super) fn topics(&self) -> &Arc<TopicsSnapshot> {
        &self.topics
    }

    /// When the next revocation or absence runs out, if any does.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Takes the groups in which any have run out.
    pub(super) fn take_due(&mut self, now: Now) -> Vec<GroupName> {
        let mut due = Vec::new();
        while self.next_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now.monotonic_ms) {
            due.extend(self.deadlines.pop_first().map(|(_, group)| group));
        }
        due
    }

    /// Committed offsets of a group, only of these topics if any are named; of a group that does not exist, none.
    pub(super) fn committed(&self, group: &GroupName, topics: &[TopicName]) -> Vec<CommittedOffset> {
        let mut offsets = self.by_name.get(group).map(GroupState::committed_offsets).unwrap_or_default();
        offsets.retain(|committed| topics.is_empty() || topics.contains(&committed.topic));
        offsets
    }

    /// For each place: the groups that have committed an offset below it, and that offset.
    pub(super) fn behind(&self, places: &[LogPlace]) -> Vec<Vec<(GroupName, Offset)>> {
        let behind = |place: &LogPlace| {
            let committed = self.by_name.values().filter_map(|group| {
                let offset = group.committed(place.topic_id, place.partition)?.offset;
                Some((group.name.clone(), offset))
            });
            committed.filter(|(_, offset)| *offset < place.offset).collect()
        };
        places.iter().map(behind).collect()
    }

    /// Everything about a group.
    pub(super) fn describe(&self, name: &GroupName, now: Now) -> Result<GroupDescription, GroupError> {
        let group = self.existing(name)?;
        Ok(group.describe(&self.topics, now))
    }

    /// Groups whose names begin with `prefix`, in order of name.
    pub(super) fn list(&self, prefix: &str) -> Vec<GroupSummary> {
        let begins = |group: &&GroupState| group.name.as_str().starts_with(prefix);
        self.by_name.values().filter(begins).map(GroupState::summary).collect()
    }

    fn existing(&self, name: &GroupName) -> Result<&GroupState, GroupError> {
        self.by_name.get(name).ok_or_else(|| GroupError::NotFound { group: name.clone() })
    }

    fn existing_or_new(&self, name: &GroupName) -> Cow<'_, GroupState> {
        match self.by_name.get(name) {
            Some(group) => Cow::Borrowed(group),
            None => Cow::Owned(GroupState::new(name.clone(), self.generation_floor)),
        }
    }

    /// Puts the creation of the group before the first thing that happens to it.
    fn create_if_new<R>(
        &self,
        name: &GroupName,
        now: Now,
        mut decision: Decision<R>,
    ) -> Result<Decision<R>, GroupError> {
        if decision.events.is_empty() || self.by_name.contains_key(name) {
            return Ok(decision);
        }
        if self.by_name.len() >= limits::GROUPS_MAX {
            return Err(GroupError::TooManyGroups { group: name.clone(), limit: limits::GROUPS_MAX });
        }
        // Somebody who joins says otherwise right behind this.
        let (generation, empty_since_ms) = (self.generation_floor, Some(now.wall_ms));
        let created = Event::GenerationAdvanced { group: name.clone(), generation, empty_since_ms };
        decision.events.insert(0, created);
        Ok(decision)
    }

    fn note_deadline(&mut self, event: &Event) {
        let deadline = match event {
            Event::OwnershipChanged { group, ownership: Some(held), .. } => {
                held.revocation.as_ref().map(|revocation| (revocation.deadline_ms, group))
            }
            Event::MemberAway { group, until_ms, .. } => Some((*until_ms, group)),
            _ => None,
        };
        self.deadlines.extend(deadline.map(|(deadline_ms, group)| (deadline_ms, group.clone())));
    }
}

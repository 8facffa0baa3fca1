//! Decisions about who is in a group and who owns which partition.
//!
//! Every change of members or topics is a new generation: the assignor draws up a target, and only what differs from
//! it moves. A partition that nobody holds is given out at once; one that somebody holds is revoked first and given
//! out when its owner releases it, leaves, or lets [`RELEASE_MS`] pass. Passing a partition on is no new generation:
//! the target was decided before.

use super::assignor::{self, Subscriber};
use super::error::GroupError;
use super::event::{Decision, Effect, Event, Now};
use super::ids::{Generation, MemberId};
use super::interest::{self, Interest};
use super::membership::{Assignor, JoinRequest, MemberEvent};
use super::range_assignor;
use super::state::{GroupState, Member, Ownership, Revocation};
use super::topics::TopicsSnapshot;
use crate::limits;
use crate::types::topic::NAME_BYTES_MAX;
use crate::types::{Offset, TopicName, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};

/// How long a member may keep a partition that was revoked, in milliseconds.
pub const RELEASE_MS: u64 = 10_000;

impl GroupState {
    /// Somebody joins. The reply is its id.
    pub(super) fn decide_join(
        &self,
        request: &JoinRequest,
        topics: &TopicsSnapshot,
        now: Now,
    ) -> Result<Decision<MemberId>, GroupError> {
        self.check_join(request, topics)?;
        let generation = self.generation.next();
        let member = Member {
            id: MemberId::joined_in(generation),
            client_id: request.client_id.clone(),
            peer: request.peer.clone(),
            interest: Interest { topics: request.topics.iter().cloned().collect(), patterns: request.patterns.clone() },
            assignor: request.assignor,
            filter: request.filter.clone(),
            instance: request.instance.clone(),
            away_until_ms: None,
            joined_in: generation,
        };
        if let Some(before) = self.predecessor(request) {
            return Ok(self.decide_succession(before, member, topics, now));
        }
        let mut members = self.members_in_order();
        members.push(&member);
        let mut decision = self.rebalance(generation, &members, None, topics, now);
        let joined = Event::MemberJoined { group: self.name.clone(), member: member.clone() };
        decision.events.insert(1, joined);
        decision.effects.splice(0..0, self.greeting(&member.id));
        Ok(Decision { reply: member.id, events: decision.events, effects: decision.effects })
    }

    /// A member leaves: its partitions are free at once.
    pub(super) fn decide_leave(
        &self,
        member: &MemberId,
        topics: &TopicsSnapshot,
        now: Now,
    ) -> Result<Decision<()>, GroupError> {
        self.check_member(member)?;
        let mut members = self.members_in_order();
        members.retain(|stays| stays.id != *member);
        let mut decision = self.rebalance(self.generation.next(), &members, None, topics, now);
        decision.events.insert(1, Event::MemberLeft { group: self.name.clone(), member: member.clone() });
        Ok(decision)
    }

    /// Topics that members subscribe to have other partitions, or are gone.
    pub(super) fn decide_topics_changed(&self, topics: &TopicsSnapshot, now: Now) -> Decision<()> {
        self.rebalance(self.generation.next(), &self.members_in_order(), None, topics, now)
    }

    /// A member has stopped what was revoked in `generation`, or what it did before the seek of `generation`. A release
    /// of anything else has no effect: it came too late, or twice.
    pub(super) fn decide_release(
        &self,
        member: &MemberId,
        generation: Generation,
        topics: &TopicsSnapshot,
    ) -> Result<Decision<()>, GroupError> {
        self.check_member(member)?;
        let mut decision =
            self.pass_on(topics, |held, revocation| held.owner == *member && revocation.generation == generation);
        decision.events.extend(self.followed_seeks(member, generation));
        Ok(decision)
    }

    /// Time has passed: what was to be released by now passes on.
    pub(super) fn decide_expiry(&self, topics: &TopicsSnapshot, now: Now) -> Decision<()> {
        self.pass_on(topics, |_, revocation| revocation.deadline_ms <= now.monotonic_ms)
    }

    /// Refuses ids that are not, or no longer, those of a member.
    pub(super) fn check_member(&self, member: &MemberId) -> Result<(), GroupError> {
        if self.members.contains_key(member) {
            return Ok(());
        }
        Err(GroupError::UnknownMember { group: self.name.clone(), member: member.clone() })
    }

    fn check_join(&self, request: &JoinRequest, topics: &TopicsSnapshot) -> Result<(), GroupError> {
        let group = || self.name.clone();
        if request.patterns.len() > limits::SUBSCRIBE_PATTERNS_MAX {
            let (patterns, limit) = (request.patterns.len(), limits::SUBSCRIBE_PATTERNS_MAX);
            return Err(GroupError::PatternCount { group: group(), patterns, limit });
        }
        let least = usize::from(request.patterns.is_empty());
        if !(least..=limits::SUBSCRIBE_TOPICS_MAX).contains(&request.topics.len()) {
            let limit = limits::SUBSCRIBE_TOPICS_MAX;
            return Err(GroupError::TopicCount { group: group(), topics: request.topics.len(), limit });
        }
        if request.client_id.len() > NAME_BYTES_MAX {
            let (bytes, limit_bytes) = (request.client_id.len(), NAME_BYTES_MAX);
            return Err(GroupError::ClientIdTooLong { group: group(), bytes, limit_bytes });
        }
        if let Some(topic) = request.topics.iter().find(|topic| topics.get(topic).is_none()) {
            return Err(GroupError::UnknownTopic { group: group(), topic: topic.clone() });
        }
        if let Some(instance) = &request.instance {
            self.check_instance(instance)?;
        }
        // Whoever takes a partition over passes over the same records: otherwise what is read would depend on who has it.
        let before = self.predecessor(request).map(|before| &before.id);
        let mut others = self.members.values().filter(|member| Some(&member.id) != before);
        if let Some(other) = others.find(|member| member.filter != request.filter) {
            let filter = other.filter.as_ref().map(ToString::to_string).unwrap_or_default();
            return Err(GroupError::FilterDiffers { group: group(), filter });
        }
        if self.members.len() >= limits::GROUP_MEMBERS_MAX && self.predecessor(request).is_none() {
            return Err(GroupError::TooManyMembers { group: group(), limit: limits::GROUP_MEMBERS_MAX });
        }
        Ok(())
    }

    /// The way from the present ownership to the target for `members`. Whoever owns something and is not among them
    /// is gone, and what it had is free; with `succession` (who is gone, who takes its place) it goes to that one first.
    pub(super) fn rebalance(
        &self,
        generation: Generation,
        members: &[&Member],
        succession: Option<(&MemberId, &MemberId)>,
        topics: &TopicsSnapshot,
        now: Now,
    ) -> Decision<()> {
        let ids: BTreeSet<&MemberId> = members.iter().map(|member| &member.id).collect();
        let interests: Vec<&Interest> = members.iter().map(|member| &member.interest).collect();
        let wanted = interest::resolve(&interests, topics);
        let subscribers: Vec<_> =
            members.iter().zip(&wanted).map(|(m, topics)| Subscriber { member: &m.id, topics }).collect();
        let partitions_of = |topic: &_| topics.get(topic).map_or(0, |topic| topic.partitions);
        // What is being revoked is interrupted already: the assignor may give it to anybody without a further move.
        let undisturbed = self.ownership.iter().filter_map(|(partition, held)| {
            let stays = held.revocation.is_none() && topics.has(partition, held.topic_id);
            let owner = match succession {
                Some((before, after)) if held.owner == *before => after,
                _ => &held.owner,
            };
            stays.then_some((partition, owner))
        });
        let target = match chosen_assignor(members) {
            _ if let Some((before, after)) = succession
                && self.covers(wanted.iter().flat_map(|topics| topics.iter()), topics)
                && let Some(target) = self.same_target(before, after, members) =>
            {
                target
            }
            Assignor::Balanced => assignor::assign(&subscribers, partitions_of, undisturbed),
            Assignor::Range => range_assignor::assign(&subscribers, partitions_of),
        };

        let mut moves = Moves::new(self, generation, topics);
        let empty_since_ms = members.is_empty().then_some(now.wall_ms);
        moves.events.push(Event::GenerationAdvanced { group: self.name.clone(), generation, empty_since_ms });
        for (partition, held) in &self.ownership {
            let next = target.get(partition);
            if !ids.contains(&held.owner) {
                moves.give(partition, next);
            } else if held.revocation.is_some() {
                moves.redirect(partition, held, next);
            } else if next != Some(&held.owner) || !topics.has(partition, held.topic_id) {
                // Who is away reads nothing that it would have to stop.
                if self.is_away(&held.owner) {
                    moves.give(partition, next);
                } else {
                    moves.revoke(partition, held, next, now);
                }
            }
        }
        for (partition, next) in &target {
            if !self.ownership.contains_key(partition) {
                moves.give(partition, Some(next));
            }
        }
        moves.decide()
    }

    /// Whether the partitions of these topics, and no others, belong to somebody.
    fn covers<'t>(&self, wanted: impl Iterator<Item = &'t TopicName>, topics: &TopicsSnapshot) -> bool {
        let wanted: BTreeSet<&TopicName> = wanted.collect();
        let partitions = wanted.iter().filter_map(|topic| topics.get(topic)).map(|topic| topic.partitions as usize);
        partitions.sum::<usize>() == self.ownership.len()
            && self.ownership.iter().all(|(partition, held)| topics.has(partition, held.topic_id))
    }

    /// Where partitions are and go to already, if whoever takes a place wants what the one before it wanted: computed anew,
    /// with moves under way, the target could be another one, and somebody else would notice.
    fn same_target(
        &self,
        before: &MemberId,
        after: &MemberId,
        members: &[&Member],
    ) -> Option<BTreeMap<TopicPartition, MemberId>> {
        let (gone, new) = (self.members.get(before)?, members.iter().find(|member| member.id == *after)?);
        if gone.interest != new.interest || gone.assignor != new.assignor {
            return None;
        }
        let next = self.ownership.iter().filter_map(|(partition, held)| {
            let next = held.revocation.as_ref().map_or(Some(&held.owner), |revocation| revocation.next.as_ref())?;
            Some((partition.clone(), if next == before { after.clone() } else { next.clone() }))
        });
        Some(next.collect())
    }

    pub(super) fn is_away(&self, member: &MemberId) -> bool {
        self.members.get(member).is_some_and(|member| member.away_until_ms.is_some())
    }

    /// Gives every partition whose revocation is over, as `is_over` says, to who waits for it.
    pub(super) fn pass_on(
        &self,
        topics: &TopicsSnapshot,
        is_over: impl Fn(&Ownership, &Revocation) -> bool,
    ) -> Decision<()> {
        let mut moves = Moves::new(self, self.generation, topics);
        for (partition, held) in &self.ownership {
            if let Some(revocation) = held.revocation.as_ref().filter(|revocation| is_over(held, revocation)) {
                moves.give(partition, revocation.next.as_ref());
            }
        }
        moves.decide()
    }
}

/// What most members ask for.
pub(super) fn chosen_assignor(members: &[&Member]) -> Assignor {
    let for_range = members.iter().filter(|member| member.assignor == Assignor::Range).count();
    if for_range * 2 > members.len() { Assignor::Range } else { Assignor::Balanced }
}

/// Changes of ownership as they are decided, and what each member will be told of them.
struct Moves<'a> {
    group: &'a GroupState,
    generation: Generation,
    topics: &'a TopicsSnapshot,
    events: Vec<Event>,
    revoked: BTreeMap<MemberId, Vec<TopicPartition>>,
    assigned: BTreeMap<MemberId, Vec<(TopicPartition, Option<Offset>)>>,
}

impl<'a> Moves<'a> {
    fn new(group: &'a GroupState, generation: Generation, topics: &'a TopicsSnapshot) -> Self {
        Self { group, generation, topics, events: Vec::new(), revoked: BTreeMap::new(), assigned: BTreeMap::new() }
    }

    /// Nobody holds the partition: `next` has it from now on.
    fn give(&mut self, partition: &TopicPartition, next: Option<&MemberId>) {
        // A topic that has just gone has no partitions to give.
        let Some((next, topic)) = next.zip(self.topics.get(&partition.topic)) else {
            return self.change(partition, None);
        };
        let committed = self.group.committed(topic.id, partition.partition).map(|committed| committed.offset);
        self.assigned.entry(next.clone()).or_default().push((partition.clone(), committed));
        let (owner, since) = (next.clone(), self.generation);
        self.change(partition, Some(Ownership { owner, topic_id: topic.id, since, revocation: None, seek: None }));
    }

    /// The owner has to stop; `next` gets the partition afterwards. Also when `next` is the owner itself: then the
    /// topic is another one, and what it commits until it has stopped still means the old one.
    fn revoke(&mut self, partition: &TopicPartition, held: &Ownership, next: Option<&MemberId>, now: Now) {
        self.revoked.entry(held.owner.clone()).or_default().push(partition.clone());
        let deadline_ms = now.monotonic_ms.saturating_add(RELEASE_MS);
        let revocation = Revocation { generation: self.generation, deadline_ms, next: next.cloned() };
        self.change(partition, Some(Ownership { revocation: Some(revocation), ..held.clone() }));
    }

    /// The owner was told to stop before; only who waits for the partition may be another. The owner itself may be
    /// that: it has stopped, and starts again as any new owner does.
    fn redirect(&mut self, partition: &TopicPartition, held: &Ownership, next: Option<&MemberId>) {
        let mut redirected = held.clone();
        if let Some(revocation) = &mut redirected.revocation {
            revocation.next = next.cloned();
        }
        if redirected != *held {
            self.change(partition, Some(redirected));
        }
    }

    fn change(&mut self, partition: &TopicPartition, ownership: Option<Ownership>) {
        let (group, partition) = (self.group.name.clone(), partition.clone());
        self.events.push(Event::OwnershipChanged { group, partition, ownership });
    }

    /// One event for each member and kind, its partitions in order; what is lost comes before what is gained.
    fn decide(self) -> Decision<()> {
        let (name, generation) = (&self.group.name, self.generation);
        let mut effects = Vec::with_capacity(self.revoked.len() + self.assigned.len());
        let mut tell = |member, event| effects.push(Effect { group: name.clone(), member, event });
        for (member, partitions) in self.revoked {
            tell(member, MemberEvent::Revoked { generation, partitions });
        }
        for (member, mut partitions) in self.assigned {
            partitions.sort();
            tell(member, MemberEvent::Assigned { generation, partitions });
        }
        Decision { reply: (), events: self.events, effects }
    }
}

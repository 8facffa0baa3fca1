//! Decisions about members that keep their place: those that join with an instance id.
//!
//! When the stream of such a member ends, the member is away: nobody reads its partitions, and nobody else gets them for
//! its session timeout. Who joins with its instance id takes its place and gets them, and no other member notices. While
//! the one before is not away, it is fenced: two processes with one id would share partitions without knowing.

use super::error::GroupError;
use super::event::{Decision, Effect, Event, Now};
use super::ids::MemberId;
use super::membership::{JoinRequest, MemberEvent, RemovalReason};
use super::state::{GroupState, Member};
use super::topics::TopicsSnapshot;
use crate::limits;
use crate::types::topic::NAME_BYTES_MAX;

/// The name by which a member is known again, and how long it may be away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// 1 to [`NAME_BYTES_MAX`] bytes, chosen by the client; another one for each process of a group.
    pub id: String,
    /// How long its partitions are kept for it, in milliseconds; from [`limits::SESSION_TIMEOUT_MS_MIN`] to
    /// [`limits::SESSION_TIMEOUT_MS_MAX`].
    pub session_timeout_ms: u64,
}

impl GroupState {
    /// The member, here or away, whose place this request takes.
    pub(super) fn predecessor(&self, request: &JoinRequest) -> Option<&Member> {
        let wanted = request.instance.as_ref()?;
        self.members.values().find(|member| member.instance.as_ref().is_some_and(|instance| instance.id == wanted.id))
    }

    /// `member` joins in the place of `before`. The reply is its id.
    pub(super) fn decide_succession(
        &self,
        before: &Member,
        member: Member,
        topics: &TopicsSnapshot,
        now: Now,
    ) -> Decision<MemberId> {
        // It keeps its place in the order of members too, which assignments may go by.
        let generation = member.joined_in;
        let member = Member { joined_in: before.joined_in, ..member };
        let mut members = self.members_in_order();
        for place in &mut members {
            if place.id == before.id {
                *place = &member;
            }
        }
        let mut decision = self.rebalance(generation, &members, Some((&before.id, &member.id)), topics, now);
        let group = || self.name.clone();
        let left = Event::MemberLeft { group: group(), member: before.id.clone() };
        let joined = Event::MemberJoined { group: group(), member: member.clone() };
        decision.events.splice(1..1, [left, joined]);
        decision.effects.splice(0..0, self.greeting(&member.id));
        if before.away_until_ms.is_none() {
            let instance_id = before.instance.as_ref().map(|instance| instance.id.clone()).unwrap_or_default();
            let event = MemberEvent::Removed { reason: RemovalReason::Fenced { instance_id } };
            decision.effects.insert(0, Effect { group: group(), member: before.id.clone(), event });
        }
        Decision { reply: member.id, events: decision.events, effects: decision.effects }
    }

    /// The stream of a member has ended. It leaves, or with an instance id is away: then only what it was asked to give
    /// up passes on.
    pub(super) fn decide_departure(
        &self,
        member: &MemberId,
        topics: &TopicsSnapshot,
        now: Now,
    ) -> Result<Decision<()>, GroupError> {
        self.check_member(member)?;
        let Some(instance) = self.members.get(member).and_then(|member| member.instance.as_ref()) else {
            return self.decide_leave(member, topics, now);
        };
        let until_ms = now.monotonic_ms.saturating_add(instance.session_timeout_ms);
        let mut decision = self.pass_on(topics, |held, _| held.owner == *member);
        decision.events.insert(0, Event::MemberAway { group: self.name.clone(), member: member.clone(), until_ms });
        Ok(decision)
    }

    /// Time has passed: members that were away for too long leave.
    pub(super) fn decide_absences(&self, topics: &TopicsSnapshot, now: Now) -> Decision<()> {
        let is_over = |member: &&Member| member.away_until_ms.is_some_and(|until_ms| until_ms <= now.monotonic_ms);
        let (gone, stay): (Vec<_>, Vec<_>) = self.members_in_order().into_iter().partition(is_over);
        if gone.is_empty() {
            return Decision::default();
        }
        let mut decision = self.rebalance(self.generation.next(), &stay, None, topics, now);
        let left = gone.into_iter().map(|gone| (self.name.clone(), gone.id.clone()));
        decision.events.splice(1..1, left.map(|(group, member)| Event::MemberLeft { group, member }));
        decision
    }

    /// Refuses instance ids and session timeouts outside of their bounds.
    pub(super) fn check_instance(&self, instance: &Instance) -> Result<(), GroupError> {
        if !(1..=NAME_BYTES_MAX).contains(&instance.id.len()) {
            let (bytes, limit_bytes) = (instance.id.len(), NAME_BYTES_MAX);
            return Err(GroupError::InstanceIdLength { group: self.name.clone(), bytes, limit_bytes });
        }
        let (least_ms, most_ms) = (limits::SESSION_TIMEOUT_MS_MIN, limits::SESSION_TIMEOUT_MS_MAX);
        if !(least_ms..=most_ms).contains(&instance.session_timeout_ms) {
            let timeout_ms = instance.session_timeout_ms;
            return Err(GroupError::SessionTimeout { group: self.name.clone(), timeout_ms, least_ms, most_ms });
        }
        Ok(())
    }
}

//! Decisions about the pause of a group: its members get no records until it is over, and keep everything else.
//!
//! A pause is durable. It belongs to the group, so whoever joins meanwhile is told of it before anything is assigned.

use super::event::{Decision, Effect, Event};
use super::ids::MemberId;
use super::membership::MemberEvent;
use super::state::GroupState;

impl GroupState {
    /// Begins or ends a pause. What is so already has no effect.
    pub(super) fn decide_pause(&self, paused: bool) -> Decision<()> {
        if self.is_paused == paused {
            return Decision::default();
        }
        let events = vec![Event::PauseChanged { group: self.name.clone(), paused }];
        let effects = self.members.keys().map(|member| self.tell_of_pause(member, paused)).collect();
        Decision { reply: (), events, effects }
    }

    /// What a new member is told first.
    pub(super) fn greeting(&self, member: &MemberId) -> Option<Effect> {
        self.is_paused.then(|| self.tell_of_pause(member, true))
    }

    fn tell_of_pause(&self, member: &MemberId, paused: bool) -> Effect {
        Effect { group: self.name.clone(), member: member.clone(), event: MemberEvent::PauseChanged { paused } }
    }
}

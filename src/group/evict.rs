//! The decision to take a member out of its group, because somebody said so.
//!
//! For a member that is stuck: its connection stands, so nobody takes it for gone, and it does not do its work. What it
//! has is free at once, without the time that a revocation leaves; what it commits later is refused, because it is no
//! member any more. It may subscribe again, and is another member then.

use super::error::GroupError;
use super::event::{Decision, Effect, Now};
use super::ids::MemberId;
use super::membership::{MemberEvent, RemovalReason};
use super::state::GroupState;
use super::topics::TopicsSnapshot;

impl GroupState {
    /// A member is taken out; one that is away gives up its place.
    pub(super) fn decide_evict(
        &self,
        member: &MemberId,
        topics: &TopicsSnapshot,
        now: Now,
    ) -> Result<Decision<()>, GroupError> {
        let Ok(mut decision) = self.decide_leave(member, topics, now) else {
            return Err(GroupError::NoSuchMember { group: self.name.clone(), member: member.clone() });
        };
        // It hears of its end before others hear of what they gain by it. Who is away has nobody to tell.
        if !self.is_away(member) {
            let event = MemberEvent::Removed { reason: RemovalReason::Evicted };
            decision.effects.insert(0, Effect { group: self.name.clone(), member: member.clone(), event });
        }
        Ok(decision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::rebalance::RELEASE_MS;
    use crate::group::state_tests::{Scene, assigned};
    use crate::group::test_support::{SESSION_TIMEOUT_MS, group, offset_at};

    fn evict(scene: &mut Scene, member: &MemberId) -> Result<(), GroupError> {
        let decided = scene.groups.decide_evict(&group("g"), member, scene.now);
        scene.enact(decided)
    }

    #[test]
    fn what_the_member_had_is_with_others_at_once_and_its_commits_are_refused() {
        let mut scene = Scene::new();
        let (a, b) = (scene.join(), scene.join());
        scene.release(&a, 2);
        scene.commit(Some((&a, Some(1))), offset_at("t", 0, 7)).unwrap();
        scene.told.clear();
        evict(&mut scene, &a).unwrap();
        assert_eq!(scene.told(&a), [MemberEvent::Removed { reason: RemovalReason::Evicted }]);
        assert_eq!(scene.told(&b), [assigned(3, &[(0, Some(7)), (1, None)])]);
        scene.wait(RELEASE_MS);
        assert_eq!(scene.told, [], "there is nothing to wait for");
        assert!(scene.commit(Some((&a, Some(1))), offset_at("t", 0, 9)).unwrap_err().contains("not a member"));
        scene.commit(Some((&b, Some(3))), offset_at("t", 0, 8)).unwrap();
    }

    #[test]
    fn the_place_of_a_member_that_is_away_is_free_and_it_may_come_back_as_another() {
        let mut scene = Scene::new();
        let (a, b) = (scene.join(), scene.join_as("two"));
        scene.release(&a, 2);
        scene.depart(&b);
        scene.told.clear();
        evict(&mut scene, &b).unwrap();
        assert_eq!(scene.told(&b), [], "nobody is there to be told");
        assert_eq!(scene.told(&a), [assigned(3, &[(2, None), (3, None)])]);
        scene.wait(SESSION_TIMEOUT_MS);
        assert_eq!(scene.told, [], "the end of its absence is nothing new");
        assert_ne!(scene.join_as("two"), b);
    }

    #[test]
    fn who_is_not_there_cannot_be_taken_out() {
        let mut scene = Scene::new();
        let a = scene.join();
        evict(&mut scene, &a).unwrap();
        assert!(matches!(evict(&mut scene, &a), Err(GroupError::NoSuchMember { .. })));
        let decided = scene.groups.decide_evict(&group("other"), &a, scene.now);
        assert!(matches!(decided, Err(GroupError::NotFound { .. })));
    }
}

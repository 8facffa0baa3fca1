//! The rules of groups, one by one, on the pure state machine.

use super::commit::{CommitRequest, OffsetToCommit};
use super::error::{CommitError, GroupError};
use super::event::{Decision, Effect, Now};
use super::groups::Groups;
use super::ids::{Generation, MemberId};
use super::membership::{Assignor, JoinRequest, MemberEvent};
use super::rebalance::RELEASE_MS;
use super::test_support::{HIGH_WATERMARK, group, joining, joining_as, joining_by, offset_at, place, topic, topics};
use crate::limits;
use crate::types::{Offset, TopicPartition, TopicPattern};

/// One group `g` over topic `t` with four partitions, and what its members were told.
pub(super) struct Scene {
    pub(super) groups: Groups,
    pub(super) now: Now,
    pub(super) told: Vec<Effect>,
}

impl Scene {
    pub(super) fn new() -> Self {
        let groups = Groups::replay([], topics(&[("t", 1, 4)])).unwrap();
        Self { groups, now: Now { monotonic_ms: 0, wall_ms: 1_700_000_000_000 }, told: Vec::new() }
    }

    pub(super) fn enact<R>(&mut self, decided: Result<Decision<R>, GroupError>) -> Result<R, GroupError> {
        let decision = decided?;
        decision.events.iter().for_each(|event| self.groups.apply(event));
        self.told.extend(decision.effects);
        Ok(decision.reply)
    }

    pub(super) fn join(&mut self) -> MemberId {
        let decided = self.groups.decide_join(&joining("g", &["t"]), self.now);
        self.enact(decided).unwrap()
    }

    /// Joins with an instance id.
    pub(super) fn join_as(&mut self, instance: &str) -> MemberId {
        let decided = self.groups.decide_join(&joining_as("g", &["t"], instance), self.now);
        self.enact(decided).unwrap()
    }

    /// The stream of a member ends.
    pub(super) fn depart(&mut self, member: &MemberId) {
        let decided = self.groups.decide_departure(&group("g"), member, self.now);
        self.enact(decided).unwrap();
    }

    fn leave(&mut self, member: &MemberId) {
        let decided = self.groups.decide_leave(&group("g"), member, self.now);
        self.enact(decided).unwrap();
    }

    pub(super) fn release(&mut self, member: &MemberId, generation: u64) {
        let decided = self.groups.decide_release(&group("g"), member, Generation(generation));
        self.enact(decided).unwrap();
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        for name in self.groups.take_due(self.now) {
            let decided = self.groups.decide_expiry(&name, self.now);
            self.enact(Ok(decided)).unwrap();
            let decided = self.groups.decide_absences(&name, self.now);
            self.enact(Ok(decided)).unwrap();
        }
    }

    pub(super) fn change_topics(&mut self, entries: &[(&str, u128, u32)]) {
        let decided = self.groups.decide_topics_changed(&topics(entries), self.now);
        self.enact(Ok(decided)).unwrap();
        self.groups.set_topics(topics(entries));
    }

    /// Commits one offset; the error of the call or of the offset.
    pub(super) fn commit(
        &mut self,
        member: Option<(&MemberId, Option<u64>)>,
        offset: OffsetToCommit,
    ) -> Result<(), String> {
        let member = member.map(|(id, generation)| (id.clone(), generation.map(Generation)));
        let request = CommitRequest { group: group("g"), member, offsets: vec![offset] };
        let decided = self.groups.decide_commit(&request, self.now);
        let results = self.enact(decided).map_err(|e| e.to_string())?;
        results.into_iter().next().expect("one result for each offset").map_err(|e| e.to_string())
    }

    /// Moves the group in topic `t`: partition and offset.
    pub(super) fn seek(&mut self, offsets: &[(u32, u64)]) {
        let offsets: Vec<_> = offsets.iter().map(|&(partition, offset)| offset_at("t", partition, offset)).collect();
        let decided = self.groups.decide_seek(&group("g"), &offsets, self.now);
        assert!(self.enact(decided).unwrap().iter().all(Result::is_ok));
    }

    fn committed(&self, partition: u32) -> Option<u64> {
        let offsets = self.groups.committed(&group("g"), &[topic("t")]);
        offsets.iter().find(|committed| committed.partition == partition).map(|committed| committed.offset.0)
    }

    /// What `member` was told since the last time, and nobody else.
    pub(super) fn told(&mut self, member: &MemberId) -> Vec<MemberEvent> {
        let told = self.told.extract_if(.., |effect| effect.member == *member);
        told.map(|effect| effect.event).collect()
    }
}

fn partitions(numbers: &[u32]) -> Vec<TopicPartition> {
    numbers.iter().map(|&number| place("t", number)).collect()
}

pub(super) fn assigned(generation: u64, offsets: &[(u32, Option<u64>)]) -> MemberEvent {
    let partitions = offsets.iter().map(|&(number, offset)| (place("t", number), offset.map(Offset))).collect();
    MemberEvent::Assigned { generation: Generation(generation), partitions }
}

pub(super) fn revoked(generation: u64, numbers: &[u32]) -> MemberEvent {
    MemberEvent::Revoked { generation: Generation(generation), partitions: partitions(numbers) }
}

#[test]
fn the_first_member_gets_everything_with_the_committed_offsets() {
    let mut scene = Scene::new();
    scene.commit(None, offset_at("t", 2, 42)).unwrap();
    let a = scene.join();
    assert_eq!(scene.told(&a), [assigned(1, &[(0, None), (1, None), (2, Some(42)), (3, None)])]);
}

#[test]
fn a_moved_partition_is_given_out_only_when_it_was_released() {
    let mut scene = Scene::new();
    let a = scene.join();
    scene.told(&a);
    let b = scene.join();
    assert_eq!(scene.told(&a), [revoked(2, &[2, 3])]);
    assert_eq!(scene.told(&b), []);
    scene.commit(Some((&a, Some(1))), offset_at("t", 3, 7)).unwrap();
    scene.release(&a, 1);
    assert_eq!(scene.told(&b), [], "generation 1 revoked nothing");
    scene.release(&a, 2);
    assert_eq!(scene.told(&b), [assigned(2, &[(2, None), (3, Some(7))])]);
    assert_eq!(scene.told, [], "what does not move is not mentioned");
}

#[test]
fn a_moved_partition_passes_on_when_its_owner_leaves() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(), scene.join());
    scene.told.clear();
    scene.leave(&a);
    assert_eq!(scene.told(&b), [assigned(3, &[(0, None), (1, None), (2, None), (3, None)])]);
}

#[test]
fn a_moved_partition_passes_on_after_ten_seconds_and_its_old_owner_is_fenced() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(), scene.join());
    scene.told.clear();
    scene.wait(RELEASE_MS - 1);
    assert_eq!(scene.told(&b), []);
    scene.commit(Some((&a, None)), offset_at("t", 2, 5)).unwrap();
    scene.wait(1);
    assert_eq!(scene.told(&b), [assigned(2, &[(2, Some(5)), (3, None)])]);
    let refused = scene.commit(Some((&a, None)), offset_at("t", 2, 6)).unwrap_err();
    assert!(refused.contains("does not own t/2"), "{refused}");
    assert_eq!(scene.committed(2), Some(5));
}

#[test]
fn a_deadline_fences_even_before_the_partition_has_passed_on() {
    let mut scene = Scene::new();
    let (a, _b) = (scene.join(), scene.join());
    scene.now.monotonic_ms += RELEASE_MS;
    scene.commit(Some((&a, None)), offset_at("t", 2, 6)).unwrap_err();
    assert_eq!(scene.committed(2), None);
}

#[test]
fn a_partition_whose_new_owner_left_comes_back_only_after_release() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(), scene.join());
    scene.told.clear();
    scene.leave(&b);
    assert_eq!(scene.told(&a), [], "a was told to stop, and has not said that it did");
    scene.release(&a, 2);
    assert_eq!(scene.told(&a), [assigned(3, &[(2, None), (3, None)])]);
}

#[test]
fn commits_of_an_older_ownership_are_stale() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(), scene.join());
    scene.release(&a, 2);
    scene.leave(&b);
    // Partition 2 is with `a` since generation 3, again; partition 0 since generation 1, without a break.
    scene.commit(Some((&a, Some(2))), offset_at("t", 2, 5)).unwrap_err();
    scene.commit(Some((&a, Some(4))), offset_at("t", 2, 5)).unwrap_err();
    assert_eq!(scene.committed(2), None);
    scene.commit(Some((&a, Some(3))), offset_at("t", 2, 5)).unwrap();
    scene.commit(Some((&a, Some(1))), offset_at("t", 0, 5)).unwrap();
}

#[test]
fn whoever_is_not_a_member_commits_only_while_nobody_is() {
    let mut scene = Scene::new();
    scene.commit(None, offset_at("t", 0, 1)).unwrap();
    let a = scene.join();
    assert!(scene.commit(None, offset_at("t", 0, 2)).unwrap_err().contains("has 1 members"));
    scene.leave(&a);
    assert!(scene.commit(Some((&a, None)), offset_at("t", 0, 2)).unwrap_err().contains("not a member"));
    assert_eq!(scene.committed(0), Some(1));
}

#[test]
fn a_commit_goes_neither_back_nor_beyond_the_high_watermark() {
    let mut scene = Scene::new();
    scene.commit(None, offset_at("t", 0, 10)).unwrap();
    scene.commit(None, offset_at("t", 0, 9)).unwrap_err();
    scene.commit(None, offset_at("t", 0, HIGH_WATERMARK.0 + 1)).unwrap_err();
    assert_eq!(scene.committed(0), Some(10));
    scene.commit(None, offset_at("t", 0, 10)).unwrap();
    scene.commit(None, offset_at("t", 0, HIGH_WATERMARK.0)).unwrap();
}

#[test]
fn each_offset_of_a_commit_has_its_own_result() {
    let scene = Scene::new();
    let (too_long, fits) = (limits::COMMIT_METADATA_BYTES_MAX + 1, limits::COMMIT_METADATA_BYTES_MAX);
    let offsets = vec![
        offset_at("t", 0, 5),
        offset_at("t", 4, 5),
        offset_at("u", 0, 5),
        offset_at("t", 0, 4),
        OffsetToCommit { metadata: "x".repeat(too_long), ..offset_at("t", 1, 5) },
        OffsetToCommit { metadata: "x".repeat(fits), ..offset_at("t", 1, 5) },
    ];
    let request = CommitRequest { group: group("g"), member: None, offsets };
    let results = scene.groups.decide_commit(&request, scene.now).unwrap().reply;
    assert!(matches!(
        results[..],
        [
            Ok(()),
            Err(CommitError::UnknownPartition { partitions: 4, .. }),
            Err(CommitError::UnknownTopic { .. }),
            Err(CommitError::BelowCommitted { offset: Offset(4), committed: Offset(5), .. }),
            Err(CommitError::MetadataTooLong { .. }),
            Ok(()),
        ]
    ));
}

#[test]
fn a_seek_goes_anywhere_in_the_log() {
    let mut scene = Scene::new();
    let seek = |scene: &mut Scene, offset, log_start| {
        let offset = OffsetToCommit { log_start: Offset(log_start), ..offset_at("t", 0, offset) };
        let decided = scene.groups.decide_seek(&group("g"), &[offset], scene.now);
        scene.enact(decided).map(|mut results| results.remove(0).is_ok())
    };
    assert_eq!(seek(&mut scene, 500, 0), Ok(true));
    assert_eq!(seek(&mut scene, 20, 20), Ok(true));
    assert_eq!(seek(&mut scene, 19, 20), Ok(false));
    assert_eq!(seek(&mut scene, HIGH_WATERMARK.0 + 1, 20), Ok(false));
    assert_eq!(scene.committed(0), Some(20));
}

#[test]
fn a_seek_that_is_refused_in_part_sets_nothing() {
    let mut scene = Scene::new();
    let a = scene.join();
    scene.told.clear();
    let offsets = [offset_at("t", 0, 5), offset_at("t", 1, HIGH_WATERMARK.0 + 1)];
    let decided = scene.groups.decide_seek(&group("g"), &offsets, scene.now);
    let results = scene.enact(decided).unwrap();
    assert!(results[0].is_ok() && matches!(results[1], Err(CommitError::OutOfRange { .. })));
    assert_eq!((scene.committed(0), scene.told(&a)), (None, vec![]));
}

#[test]
fn members_follow_a_seek_and_commits_from_before_are_stale() {
    let mut scene = Scene::new();
    let a = scene.join();
    scene.commit(Some((&a, None)), offset_at("t", 0, 500)).unwrap();
    scene.told.clear();
    scene.seek(&[(0, 100)]);
    let partitions = vec![(place("t", 0), Offset(100))];
    assert_eq!(scene.told(&a), [MemberEvent::Sought { generation: Generation(2), partitions }]);

    // Forwards of the place that the group was moved to, and yet of before.
    for generation in [None, Some(1)] {
        scene.commit(Some((&a, generation)), offset_at("t", 0, 600)).unwrap_err();
    }
    assert_eq!(scene.committed(0), Some(100));
    scene.commit(Some((&a, Some(1))), offset_at("t", 1, 7)).expect("other partitions go on");
    scene.commit(Some((&a, Some(2))), offset_at("t", 0, 110)).expect("who names the generation knows of it");
    scene.release(&a, 1);
    scene.commit(Some((&a, None)), offset_at("t", 0, 120)).unwrap_err();
    scene.release(&a, 2);
    scene.commit(Some((&a, None)), offset_at("t", 0, 120)).unwrap();
}

#[test]
fn each_of_two_seeks_is_followed() {
    let mut scene = Scene::new();
    let a = scene.join();
    scene.seek(&[(0, 100)]);
    scene.seek(&[(0, 50)]);
    scene.release(&a, 2);
    let refused = scene.commit(Some((&a, None)), offset_at("t", 0, 110)).unwrap_err();
    assert!(refused.contains("the seek of generation 3"), "{refused}");
    scene.release(&a, 3);
    scene.commit(Some((&a, None)), offset_at("t", 0, 60)).unwrap();
}

#[test]
fn a_seek_of_a_partition_on_its_way_is_for_the_next_owner() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(), scene.join());
    scene.told.clear();
    scene.seek(&[(0, 100), (3, 100)]);
    let partitions = vec![(place("t", 0), Offset(100))];
    assert_eq!(scene.told(&a), [MemberEvent::Sought { generation: Generation(3), partitions }]);
    scene.release(&a, 3);
    // It says that it follows where it was told to; of the other it has still done what was before.
    scene.commit(Some((&a, None)), offset_at("t", 0, 110)).unwrap();
    for generation in [None, Some(3)] {
        scene.commit(Some((&a, generation)), offset_at("t", 3, 110)).unwrap_err();
    }
    scene.release(&a, 2);
    assert_eq!(scene.told(&b), [assigned(3, &[(2, None), (3, Some(100))])]);
    scene.commit(Some((&b, None)), offset_at("t", 3, 110)).unwrap();
}

#[test]
fn added_partitions_are_shared_without_disturbing_the_others() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(), scene.join());
    scene.release(&a, 2);
    scene.told.clear();
    scene.change_topics(&[("t", 1, 6)]);
    assert_eq!(scene.told(&a), [assigned(3, &[(4, None)])]);
    assert_eq!(scene.told(&b), [assigned(3, &[(5, None)])]);
}

#[test]
fn a_deleted_topic_takes_its_offsets_and_partitions_along() {
    let mut scene = Scene::new();
    let a = scene.join();
    scene.commit(Some((&a, None)), offset_at("t", 0, 5)).unwrap();
    scene.told.clear();
    scene.change_topics(&[]);
    assert_eq!(scene.told(&a), [revoked(2, &[0, 1, 2, 3])]);
    assert_eq!(scene.committed(0), None);
    scene.release(&a, 2);
    let described = scene.groups.describe(&group("g"), scene.now).unwrap();
    assert_eq!((described.members[0].partitions.len(), described.partitions.len()), (0, 0));
}

#[test]
fn a_topic_created_again_starts_anew_and_commits_for_the_old_one_do_not_reach_it() {
    let mut scene = Scene::new();
    let a = scene.join();
    scene.commit(Some((&a, None)), offset_at("t", 0, 5)).unwrap();
    scene.told.clear();
    scene.change_topics(&[("t", 2, 1)]);
    assert_eq!(scene.told(&a), [revoked(2, &[0, 1, 2, 3])]);
    scene.commit(Some((&a, None)), offset_at("t", 0, 6)).unwrap_err();
    scene.release(&a, 2);
    assert_eq!(scene.told(&a), [assigned(2, &[(0, None)])]);
    scene.commit(Some((&a, None)), offset_at("t", 0, 1)).unwrap();
}

#[test]
fn a_group_created_again_uses_no_generation_twice() {
    let mut scene = Scene::new();
    let a = scene.join();
    assert!(matches!(scene.groups.decide_delete(&group("g")), Err(GroupError::HasMembers { .. })));
    scene.leave(&a);
    let decided = scene.groups.decide_delete(&group("g"));
    scene.enact(decided).unwrap();
    assert!(matches!(scene.groups.decide_delete(&group("g")), Err(GroupError::NotFound { .. })));
    let b = scene.join();
    assert_ne!(a, b);
    assert_eq!(scene.groups.list("")[0].generation, Generation(3));
}

#[test]
fn a_group_is_dead_since_its_last_member_left_or_its_last_commit() {
    let mut scene = Scene::new();
    let started_at_ms = scene.now.wall_ms;
    let dead_by = |scene: &Scene, ms: i64| scene.groups.decide_retention(started_at_ms + ms, started_at_ms).reply.len();
    let a = scene.join();
    assert_eq!(dead_by(&scene, 1_000_000), 0, "it has a member");
    scene.now.wall_ms += 100;
    scene.leave(&a);
    assert_eq!((dead_by(&scene, 99), dead_by(&scene, 100)), (0, 1));
    scene.now.wall_ms += 100;
    scene.commit(None, offset_at("t", 0, 5)).unwrap();
    assert_eq!((dead_by(&scene, 199), dead_by(&scene, 200)), (0, 1));
    let decided = scene.groups.decide_pause(&group("g"), true);
    scene.enact(decided).unwrap();
    assert_eq!(dead_by(&scene, 1_000_000), 0, "somebody wants it to be there");
}

/// The members of a group that stood still for a year are lost with the broker, and come back a moment later.
#[test]
fn a_group_that_had_members_is_dead_since_the_start_at_the_earliest() {
    let mut scene = Scene::new();
    let a = scene.join();
    scene.commit(Some((&a, None)), offset_at("t", 0, 5)).unwrap();
    let again = Groups::replay(scene.groups.snapshot(), topics(&[("t", 1, 4)])).unwrap();
    let started_at_ms = scene.now.wall_ms + 1_000_000;
    assert_eq!(again.decide_retention(started_at_ms - 1, started_at_ms).reply, []);
    assert_eq!(again.decide_retention(started_at_ms, started_at_ms).reply, [group("g")]);

    scene.leave(&a);
    let again = Groups::replay(scene.groups.snapshot(), topics(&[("t", 1, 4)])).unwrap();
    assert_eq!(again.decide_retention(scene.now.wall_ms, started_at_ms).reply, [group("g")], "this one left before");
}

#[test]
fn a_group_shares_as_most_of_its_members_ask() {
    let mut scene = Scene::new();
    scene.change_topics(&[("t", 1, 2), ("u", 2, 2)]);
    let join = |scene: &mut Scene, assignor| {
        let decided = scene.groups.decide_join(&JoinRequest { assignor, ..joining("g", &["t", "u"]) }, scene.now);
        let member = scene.enact(decided).unwrap();
        scene.wait(RELEASE_MS);
        member
    };
    let numbers = |scene: &Scene, member: &MemberId| {
        let described = scene.groups.describe(&group("g"), scene.now).unwrap();
        let member = described.members.into_iter().find(|described| described.member_id == *member).unwrap();
        member.partitions.iter().map(|at| at.partition).collect::<Vec<_>>()
    };
    let a = join(&mut scene, Assignor::Range);
    let b = join(&mut scene, Assignor::Range);
    assert_eq!((numbers(&scene, &a), numbers(&scene, &b)), (vec![0, 0], vec![1, 1]));
    let c = join(&mut scene, Assignor::Balanced);
    assert_eq!(numbers(&scene, &c), [0; 0], "two of three want ranges");
    scene.leave(&b);
    scene.wait(RELEASE_MS);
    assert_eq!(numbers(&scene, &c).len(), 2, "of one each it is balanced");
}

#[test]
fn a_fork_begins_where_the_group_is_and_goes_its_own_way() {
    let mut scene = Scene::new();
    let fork = |scene: &mut Scene, source: &str, target: &str| {
        let decided = scene.groups.decide_fork(&group(source), &group(target), scene.now);
        scene.enact(decided).map(|copied| copied.iter().map(|c| (c.partition, c.offset.0)).collect::<Vec<_>>())
    };
    assert_eq!(fork(&mut scene, "g", "h"), Err(GroupError::NotFound { group: group("g") }));
    let a = scene.join();
    scene.commit(Some((&a, None)), OffsetToCommit { metadata: "m".to_owned(), ..offset_at("t", 0, 5) }).unwrap();
    scene.commit(Some((&a, None)), offset_at("t", 2, 7)).unwrap();
    scene.told.clear();
    assert_eq!(fork(&mut scene, "g", "h"), Ok(vec![(0, 5), (2, 7)]));
    assert_eq!(scene.told, [], "the group does not notice");
    scene.commit(Some((&a, None)), offset_at("t", 0, 9)).unwrap();
    let copied = scene.groups.committed(&group("h"), &[]);
    assert_eq!((copied[0].offset, copied[0].metadata.as_str(), copied[1].offset), (Offset(5), "m", Offset(7)));

    assert_eq!(fork(&mut scene, "g", "h"), Err(GroupError::HasOffsets { group: group("h"), offsets: 2 }));
    assert!(matches!(fork(&mut scene, "h", "g"), Err(GroupError::HasMembers { .. })));
    assert!(matches!(fork(&mut scene, "h", "h"), Err(GroupError::HasOffsets { .. })));
}

#[test]
fn a_pause_is_told_to_who_is_there_and_to_who_comes() {
    let mut scene = Scene::new();
    assert!(matches!(scene.groups.decide_pause(&group("g"), true), Err(GroupError::NotFound { .. })));
    let a = scene.join();
    scene.told.clear();
    for _ in 0..2 {
        let decided = scene.groups.decide_pause(&group("g"), true);
        scene.enact(decided).unwrap();
    }
    assert_eq!(scene.told(&a), [MemberEvent::PauseChanged { paused: true }], "what is so already is not said again");
    scene.commit(Some((&a, None)), offset_at("t", 0, 5)).unwrap();
    let b = scene.join();
    scene.release(&a, 2);
    assert_eq!(scene.told(&b)[0], MemberEvent::PauseChanged { paused: true });
    scene.told.clear();
    let decided = scene.groups.decide_pause(&group("g"), false);
    scene.enact(decided).unwrap();
    assert_eq!(scene.told(&b), [MemberEvent::PauseChanged { paused: false }]);
}

#[test]
fn topics_that_match_a_pattern_join_by_themselves() {
    let mut scene = Scene::new();
    let decided = scene.groups.decide_join(&joining_by("g", "t*"), scene.now);
    let a = scene.enact(decided).unwrap();
    let b = scene.join();
    scene.release(&a, 2);
    scene.told.clear();
    scene.change_topics(&[("t", 1, 4), ("t2", 2, 1), ("u", 3, 1), ("__t", 4, 1)]);
    let partitions = vec![(place("t2", 0), None)];
    assert_eq!(scene.told(&a), [MemberEvent::Assigned { generation: Generation(3), partitions }]);
    assert_eq!(scene.told(&b), [], "it named its topic");
    scene.change_topics(&[("t", 1, 4), ("u", 3, 1)]);
    let partitions = vec![place("t2", 0)];
    assert_eq!(scene.told(&a), [MemberEvent::Revoked { generation: Generation(4), partitions }]);
}

#[test]
fn a_pattern_that_matches_nothing_waits() {
    let mut scene = Scene::new();
    let decided = scene.groups.decide_join(&joining_by("g", "orders.*"), scene.now);
    let a = scene.enact(decided).unwrap();
    assert_eq!(scene.told(&a), []);
    scene.change_topics(&[("t", 1, 4), ("orders.eu", 2, 1)]);
    let partitions = vec![(place("orders.eu", 0), None)];
    assert_eq!(scene.told(&a), [MemberEvent::Assigned { generation: Generation(2), partitions }]);
}

#[test]
fn joins_outside_of_the_limits_are_refused() {
    let scene = Scene::new();
    let refuse = |request| scene.groups.decide_join(&request, scene.now).map(|_| ()).unwrap_err();
    assert!(matches!(refuse(joining("g", &[])), GroupError::TopicCount { topics: 0, .. }));
    assert!(matches!(refuse(joining("g", &["t"; 101])), GroupError::TopicCount { topics: 101, limit: 100, .. }));
    assert!(matches!(refuse(joining("g", &["t", "u"])), GroupError::UnknownTopic { .. }));
    let many = JoinRequest { patterns: vec![TopicPattern::new("*").unwrap(); 11], ..joining("g", &[]) };
    assert!(matches!(refuse(many), GroupError::PatternCount { patterns: 11, limit: 10, .. }));
    let mut long = joining("g", &["t"]);
    long.client_id = "x".repeat(250);
    assert!(matches!(refuse(long), GroupError::ClientIdTooLong { bytes: 250, limit_bytes: 249, .. }));
}

#[test]
fn a_broker_has_no_more_than_its_groups() {
    let mut scene = Scene::new();
    let commit = |name: &str| CommitRequest { group: group(name), member: None, offsets: vec![offset_at("t", 0, 1)] };
    for number in 0..limits::GROUPS_MAX {
        let decided = scene.groups.decide_commit(&commit(&number.to_string()), scene.now);
        scene.enact(decided).unwrap();
    }
    let refused = scene.groups.decide_commit(&commit("g"), scene.now).map(|_| ());
    assert_eq!(refused, Err(GroupError::TooManyGroups { group: group("g"), limit: limits::GROUPS_MAX }));
    scene.groups.decide_commit(&commit("0"), scene.now).unwrap();
}

#[test]
fn the_pace_is_measured_from_commits_and_begins_anew_with_a_seek() {
    let mut scene = Scene::new();
    let pace = |scene: &Scene| scene.groups.describe(&group("g"), scene.now).unwrap().partitions[0].pace;
    scene.commit(None, offset_at("t", 0, 100)).unwrap();
    assert_eq!(pace(&scene), None, "nothing is known of what was before the first commit");
    scene.now.monotonic_ms += 10_000;
    scene.commit(None, offset_at("t", 0, 300)).unwrap();
    let start = pace(&scene).expect("time has passed");
    let measured = start.until(Offset(300), HIGH_WATERMARK);
    assert_eq!((start.elapsed_ms, measured.drain_ms(100)), (10_000, Some(5_000)), "20 records a second");

    let decided = scene.groups.decide_seek(&group("g"), &[offset_at("t", 0, 0)], scene.now);
    scene.enact(decided).unwrap();
    assert_eq!(pace(&scene), None, "a jump is no progress");
}

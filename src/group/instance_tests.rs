//! The rules of members that keep their place, one by one, on the pure state machine.

use super::error::GroupError;
use super::ids::Generation;
use super::instance::Instance;
use super::membership::{JoinRequest, MemberEvent, RemovalReason};
use super::rebalance::RELEASE_MS;
use super::state_tests::{Scene, assigned, revoked};
use super::test_support::{SESSION_TIMEOUT_MS, group, joining, joining_as, offset_at, topics};
use crate::filter::Filter;

#[test]
fn who_comes_back_gets_its_partitions_again_and_nobody_else_notices() {
    let mut scene = Scene::new();
    let a = scene.join_as("one");
    let b = scene.join_as("two");
    scene.release(&a, 2);
    scene.commit(Some((&b, None)), offset_at("t", 3, 7)).unwrap();
    scene.told.clear();
    scene.depart(&b);
    scene.wait(SESSION_TIMEOUT_MS - 1);
    assert_eq!(scene.told, [], "nothing moves while it is away");
    let again = scene.join_as("two");
    assert_ne!(again, b);
    assert_eq!(scene.told(&again), [assigned(3, &[(2, None), (3, Some(7))])]);
    scene.wait(2);
    assert_eq!(scene.told, [], "the time of its absence is over with it");
    scene.commit(Some((&again, None)), offset_at("t", 3, 8)).unwrap();
    assert!(scene.commit(Some((&b, None)), offset_at("t", 3, 9)).unwrap_err().contains("not a member"));
}

#[test]
fn who_is_away_for_too_long_has_left() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(), scene.join_as("two"));
    scene.release(&a, 2);
    scene.told.clear();
    scene.depart(&b);
    scene.wait(SESSION_TIMEOUT_MS);
    assert_eq!(scene.told(&a), [assigned(3, &[(2, None), (3, None)])]);
    let described = scene.groups.describe(&group("g"), scene.now).unwrap();
    assert_eq!(described.members.len(), 1);
}

#[test]
fn the_second_with_an_id_fences_the_first() {
    let mut scene = Scene::new();
    let a = scene.join_as("one");
    scene.told.clear();
    let b = scene.join_as("one");
    let reason = RemovalReason::Fenced { instance_id: "one".to_owned() };
    assert_eq!(scene.told(&a), [MemberEvent::Removed { reason }]);
    assert_eq!(scene.told(&b), [assigned(2, &[(0, None), (1, None), (2, None), (3, None)])]);
    scene.commit(Some((&a, None)), offset_at("t", 0, 1)).unwrap_err();
    assert!(matches!(scene.groups.decide_departure(&group("g"), &a, scene.now), Err(GroupError::UnknownMember { .. })));
}

#[test]
fn a_member_without_an_instance_id_leaves_with_its_stream() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join(), scene.join());
    scene.told.clear();
    scene.depart(&a);
    assert_eq!(scene.told(&b), [assigned(3, &[(0, None), (1, None), (2, None), (3, None)])]);
}

#[test]
fn who_is_away_gives_up_at_once_what_others_are_to_have() {
    let mut scene = Scene::new();
    let a = scene.join_as("one");
    scene.told.clear();
    scene.depart(&a);
    let b = scene.join();
    assert_eq!(scene.told(&b), [assigned(2, &[(2, None), (3, None)])], "there is nobody who would have to stop");
    let again = scene.join_as("one");
    assert_eq!(scene.told(&again), [assigned(3, &[(0, None), (1, None)])]);
}

#[test]
fn what_was_revoked_passes_on_when_its_owner_goes_away() {
    let mut scene = Scene::new();
    let (a, b) = (scene.join_as("one"), scene.join());
    assert_eq!(scene.told(&a)[1..], [revoked(2, &[2, 3])]);
    scene.depart(&a);
    assert_eq!(scene.told(&b), [assigned(2, &[(2, None), (3, None)])]);
    scene.wait(RELEASE_MS);
    assert_eq!(scene.told, [], "it was given once");
}

#[test]
fn who_comes_back_for_other_topics_gets_those() {
    let mut scene = Scene::new();
    scene.change_topics(&[("t", 1, 4), ("u", 2, 1)]);
    let a = scene.join_as("one");
    let b = scene.join();
    scene.told.clear();
    scene.depart(&a);
    assert_eq!(scene.told(&b), [assigned(2, &[(2, None), (3, None)])]);
    let decided = scene.groups.decide_join(&joining_as("g", &["u"], "one"), scene.now);
    let again = scene.enact(decided).unwrap();
    assert_eq!(scene.told(&b), [assigned(3, &[(0, None), (1, None)])]);
    assert!(matches!(&scene.told(&again)[..], [MemberEvent::Assigned { generation: Generation(3), partitions }]
        if partitions.len() == 1));
}

/// Who is away counts as a member: it comes back to go on where it was, with what it read. But its own successor is free.
#[test]
fn a_filter_is_that_of_the_others_also_while_they_are_away() {
    let mut scene = Scene::new();
    let a = scene.join_as("one");
    scene.depart(&a);
    let filter = Some(Filter::new("attributes:wanted").unwrap());
    let stranger = JoinRequest { filter: filter.clone(), ..joining("g", &["t"]) };
    let refused = scene.groups.decide_join(&stranger, scene.now).map(|_| ()).unwrap_err();
    assert_eq!(refused, GroupError::FilterDiffers { group: group("g"), filter: String::new() });
    assert!(refused.to_string().contains("with no filter"), "{refused}");

    let itself = JoinRequest { filter, ..joining_as("g", &["t"], "one") };
    let decided = scene.groups.decide_join(&itself, scene.now);
    scene.enact(decided).unwrap();
    let decided = scene.groups.decide_join(&stranger, scene.now);
    scene.enact(decided).unwrap();
    let refused = scene.groups.decide_join(&itself, scene.now).map(|_| ());
    assert_eq!(refused, Ok(()), "it says what the others say");
    let other_words = Filter::new("headers . wanted = \"x\"").unwrap();
    let another = JoinRequest { filter: Some(other_words), ..itself };
    assert!(matches!(scene.groups.decide_join(&another, scene.now), Err(GroupError::FilterDiffers { filter, .. })
        if filter == "attributes:wanted"));
}

#[test]
fn instances_outside_of_the_limits_are_refused() {
    let scene = Scene::new();
    let refuse = |id: &str, session_timeout_ms| {
        let instance = Some(Instance { id: id.to_owned(), session_timeout_ms });
        scene.groups.decide_join(&JoinRequest { instance, ..joining("g", &["t"]) }, scene.now).map(|_| ()).unwrap_err()
    };
    assert!(matches!(refuse("", 30_000), GroupError::InstanceIdLength { bytes: 0, .. }));
    assert!(matches!(refuse(&"x".repeat(250), 30_000), GroupError::InstanceIdLength { bytes: 250, .. }));
    assert!(matches!(refuse("x", 999), GroupError::SessionTimeout { timeout_ms: 999, .. }));
    assert!(matches!(refuse("x", 3_600_001), GroupError::SessionTimeout { .. }));
}

/// A topic that goes while its reader is away must not be given back to it.
#[test]
fn a_topic_that_goes_takes_its_partitions_from_who_is_away() {
    let mut scene = Scene::new();
    let a = scene.join_as("one");
    scene.depart(&a);
    scene.told.clear();
    scene.change_topics(&[]);
    let described = scene.groups.describe(&group("g"), scene.now).unwrap();
    assert!(described.members[0].partitions.is_empty() && described.members[0].is_away);
    scene.groups.set_topics(topics(&[("t", 2, 4)]));
    let again = scene.join_as("one");
    assert!(matches!(&scene.told(&again)[..], [MemberEvent::Assigned { partitions, .. }] if partitions.len() == 4));
}

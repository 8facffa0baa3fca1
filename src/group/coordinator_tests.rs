//! The coordinator as its callers meet it: what they see and when, with journals that are slow, fail, or come back.
//!
//! Time is tokio's paused clock, which moves only when everyone waits; the one runtime thread makes order certain.

use super::commit::CommitRequest;
use super::coordinator::GroupCoordinator;
use super::error::GroupError;
use super::ids::{Generation, MemberId};
use super::membership::{MemberEvent, Membership, RemovalReason};
use super::rebalance::RELEASE_MS;
use super::task::MEMBER_EVENTS_MAX;
use super::test_support::{MemoryJournal, group, joining, offset_at, place, topic, topics};
use super::topics::TopicsSnapshot;
use crate::clock::ManualClock;
use crate::types::Offset;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, advance, timeout};

const NOW_MS: i64 = 1_700_000_000_000;

pub(super) fn two_partitions() -> Arc<TopicsSnapshot> {
    topics(&[("t", 1, 2)])
}

pub(super) fn start(journal: &Arc<MemoryJournal>) -> GroupCoordinator {
    let (journal, replayed) = (Arc::clone(journal), journal.entries());
    GroupCoordinator::start(journal, replayed, Arc::new(ManualClock::new(NOW_MS)), two_partitions()).unwrap()
}

pub(super) async fn join(groups: &GroupCoordinator) -> Membership {
    groups.join(joining("g", &["t"])).await.unwrap()
}

pub(super) fn commit(member: Option<&MemberId>, partition: u32, offset: u64) -> CommitRequest {
    let offsets = vec![offset_at("t", partition, offset)];
    CommitRequest { group: group("g"), member: member.map(|id| (id.clone(), None)), offsets }
}

fn assigned(generation: u64, partitions: &[(u32, Option<u64>)]) -> MemberEvent {
    let partitions = partitions.iter().map(|&(p, offset)| (place("t", p), offset.map(Offset))).collect();
    MemberEvent::Assigned { generation: Generation(generation), partitions }
}

/// The next thing the member is told. Waits long beyond every deadline of the coordinator, and not for ever: a test
/// that is told nothing fails.
async fn heard(member: &mut Membership) -> Option<MemberEvent> {
    timeout(Duration::from_mins(1), member.events.recv()).await.expect("the member is told something")
}

/// Lets every task that can go on go on, without time passing.
pub(super) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_sees_what_is_not_durable() {
    let journal = MemoryJournal::slow();
    let groups = start(&journal);
    let joining = tokio::spawn({
        let groups = groups.clone();
        async move { join(&groups).await }
    });
    let looking = tokio::spawn({
        let groups = groups.clone();
        async move { groups.list(String::new()).await }
    });
    settle().await;
    assert!(!joining.is_finished() && !looking.is_finished(), "answered before the append has ended");

    journal.gate.add_permits(1);
    let mut a = joining.await.unwrap();
    assert_eq!(journal.entries()[1].value.as_deref(), Some(br#"{"generation":1}"#.as_slice()));
    assert_eq!(looking.await.unwrap().unwrap().len(), 1);
    assert_eq!(a.events.try_recv(), Ok(assigned(1, &[(0, None), (1, None)])));
}

#[tokio::test(start_paused = true)]
async fn members_are_told_only_what_is_durable() {
    let journal = MemoryJournal::slow();
    journal.gate.add_permits(2);
    let groups = start(&journal);
    let (mut a, mut b) = (join(&groups).await, join(&groups).await);
    heard(&mut a).await.unwrap();
    heard(&mut a).await.unwrap();
    drop(a);
    settle().await;
    assert_eq!(b.events.try_recv(), Err(TryRecvError::Empty), "told before the append has ended");
    journal.gate.add_permits(1);
    assert_eq!(heard(&mut b).await, Some(assigned(3, &[(0, None), (1, None)])));
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_made_durable_by_one_append() {
    let journal = MemoryJournal::slow();
    let groups = start(&journal);
    let commits: Vec<_> = (0..20)
        .map(|offset| {
            let groups = groups.clone();
            tokio::spawn(async move { groups.commit(commit(None, 0, offset)).await })
        })
        .collect();
    settle().await;
    journal.gate.add_permits(100);
    for commit in commits {
        assert_eq!(commit.await.unwrap(), Ok(vec![Ok(())]));
    }
    assert!(journal.batches().len() <= 2, "{} appends", journal.batches().len());
    assert_eq!(journal.entries().len(), 21, "twenty offsets and the making of the group");
}

#[tokio::test(start_paused = true)]
async fn a_failed_journal_stops_everything() {
    let journal = MemoryJournal::slow();
    journal.gate.add_permits(1);
    let groups = start(&journal);
    let mut a = join(&groups).await;
    heard(&mut a).await.unwrap();

    journal.fails.store(true, Ordering::SeqCst);
    let in_the_drain = tokio::spawn({
        let (groups, request) = (groups.clone(), commit(Some(&a.member_id), 0, 5));
        async move { groups.commit(request).await }
    });
    settle().await;
    let waiting = tokio::spawn({
        let groups = groups.clone();
        async move { groups.committed(group("g"), Vec::new()).await }
    });
    settle().await;
    journal.gate.add_permits(1);

    let is_stopped =
        |error: &GroupError| matches!(error, GroupError::Stopped { cause } if cause.contains("disk is gone"));
    assert!(is_stopped(&in_the_drain.await.unwrap().unwrap_err()));
    assert!(is_stopped(&waiting.await.unwrap().unwrap_err()));
    assert!(is_stopped(&groups.list(String::new()).await.unwrap_err()));
    assert!(matches!(heard(&mut a).await, Some(MemberEvent::Removed { reason: RemovalReason::Stopped { .. } })));
    assert_eq!(heard(&mut a).await, None);

    journal.fails.store(false, Ordering::SeqCst);
    journal.gate.add_permits(10);
    let groups = start(&journal);
    assert_eq!(groups.committed(group("g"), Vec::new()).await, Ok(Vec::new()), "what failed was never there");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_membership_frees_its_partitions_at_once() {
    let groups = start(&MemoryJournal::open());
    let (a, mut b) = (join(&groups).await, join(&groups).await);
    let before = Instant::now();
    drop(a);
    assert_eq!(heard(&mut b).await, Some(assigned(3, &[(0, None), (1, None)])));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_nobody_waits_for_leaves_no_member() {
    let journal = MemoryJournal::slow();
    let groups = start(&journal);
    let joining = tokio::spawn({
        let groups = groups.clone();
        async move { join(&groups).await }
    });
    settle().await;
    joining.abort();
    settle().await;
    journal.gate.add_permits(10);
    settle().await;
    assert_eq!(groups.describe(group("g")).await.unwrap().members, []);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_partition_passes_on_by_itself_when_its_time_is_over() {
    let groups = start(&MemoryJournal::open());
    let mut a = join(&groups).await;
    let mut b = join(&groups).await;
    heard(&mut a).await.unwrap();
    let revoked = MemberEvent::Revoked { generation: Generation(2), partitions: vec![place("t", 1)] };
    assert_eq!(heard(&mut a).await, Some(revoked));
    advance(Duration::from_millis(RELEASE_MS - 1)).await;
    settle().await;
    assert_eq!(b.events.try_recv(), Err(TryRecvError::Empty));
    advance(Duration::from_millis(1)).await;
    settle().await;
    assert_eq!(b.events.try_recv(), Ok(assigned(2, &[(1, None)])));
    groups.release(group("g"), a.member_id.clone(), Generation(2)).await.unwrap();
    let results = groups.commit(commit(Some(&a.member_id), 1, 5)).await.unwrap();
    assert!(results[0].is_err(), "the old owner is fenced");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_does_not_read_is_removed() {
    let groups = start(&MemoryJournal::open());
    let mut a = join(&groups).await;
    for partitions in (3..).take(MEMBER_EVENTS_MAX) {
        groups.topics_changed(topics(&[("t", 1, partitions)])).await.unwrap();
    }
    assert_eq!(groups.describe(group("g")).await.unwrap().members, []);
    for _ in 0..MEMBER_EVENTS_MAX {
        assert!(matches!(heard(&mut a).await, Some(MemberEvent::Assigned { .. })));
    }
    let reason = RemovalReason::TooSlow { unread_events: MEMBER_EVENTS_MAX };
    assert_eq!(heard(&mut a).await, Some(MemberEvent::Removed { reason }));
    assert_eq!(heard(&mut a).await, None);
}

#[tokio::test(start_paused = true)]
async fn leaving_is_answered_and_ends_the_events() {
    let groups = start(&MemoryJournal::open());
    let mut a = join(&groups).await;
    heard(&mut a).await.unwrap();
    groups.leave(group("g"), a.member_id.clone()).await.unwrap();
    assert_eq!(heard(&mut a).await, None);
    let again = groups.leave(group("g"), a.member_id.clone()).await;
    assert_eq!(again, Err(GroupError::UnknownMember { group: group("g"), member: a.member_id.clone() }));
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_offsets_and_generations_and_no_members() {
    let journal = MemoryJournal::open();
    let groups = start(&journal);
    let a = join(&groups).await;
    groups.commit(commit(Some(&a.member_id), 1, 7)).await.unwrap();
    let snapshot = groups.snapshot().await.unwrap();
    drop(groups);

    let groups = start(&journal);
    assert_eq!(groups.snapshot().await.unwrap(), snapshot);
    let refused = groups.commit(commit(Some(&a.member_id), 1, 8)).await;
    assert!(matches!(refused, Err(GroupError::UnknownMember { .. })), "{refused:?}");
    let committed = groups.committed(group("g"), vec![topic("t")]).await.unwrap();
    assert_eq!((committed[0].offset, committed[0].committed_at_ms), (Offset(7), NOW_MS));
    let mut b = join(&groups).await;
    assert_ne!(a.member_id, b.member_id);
    assert_eq!(heard(&mut b).await, Some(assigned(2, &[(0, None), (1, Some(7))])));
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_topic_deleted_while_the_broker_was_down_are_dropped() {
    let journal = MemoryJournal::open();
    start(&journal).commit(commit(None, 0, 7)).await.unwrap();
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let memory: Arc<MemoryJournal> = Arc::clone(&journal);
    let groups = GroupCoordinator::start(memory, journal.entries(), clock, topics(&[("t", 2, 2)])).unwrap();
    assert_eq!(groups.committed(group("g"), Vec::new()).await, Ok(Vec::new()));
    assert_eq!(journal.entries().last().and_then(|entry| entry.value.clone()), None, "the drop is durable");
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_understood_starts_nothing() {
    let journal = MemoryJournal::open();
    let entry = crate::partition::journal::JournalEntry { key: "group/g".into(), value: Some("?".into()) };
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let started = GroupCoordinator::start(journal, vec![entry], clock, two_partitions());
    assert!(matches!(started, Err(GroupError::Corrupt { .. })));
}

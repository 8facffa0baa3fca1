//! Committed offsets: durable, fenced, never backwards, never beyond the end.

use crate::common::TestBroker;
use crate::common::records::{numbered, set};
use crate::common::refusal::{Refusal, refusal};
use crate::common::subscriber::{Subscriber, as_member, at_offset};
use millstream::proto::subscribe_request::Open;
use millstream::proto::{CommitOffsetsRequest, FetchOffsetsRequest, OffsetExpired, PartitionOffset};
use tonic::{Code, Status};

/// A broker with ten records in each of two partitions of `orders`.
async fn broker() -> TestBroker {
    let broker = TestBroker::start().await;
    broker.create_filled_topic("orders", 2).await;
    broker
}

fn from_outside(offsets: Vec<PartitionOffset>) -> CommitOffsetsRequest {
    CommitOffsetsRequest { group: "billing".into(), offsets, ..Default::default() }
}

async fn commit(broker: &TestBroker, request: CommitOffsetsRequest) -> Result<Vec<(u32, Refusal)>, Status> {
    let answer = broker.consumer().commit_offsets(request).await?.into_inner();
    let refused = |error: millstream::proto::CommitError| {
        (error.partition, Refusal::from(error.error.expect("a commit error has its error")))
    };
    Ok(answer.errors.into_iter().map(refused).collect())
}

async fn committed(broker: &TestBroker) -> Vec<PartitionOffset> {
    let request = FetchOffsetsRequest { group: "billing".into(), topics: Vec::new() };
    broker.consumer().fetch_offsets(request).await.expect("answers").into_inner().offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_survives_a_restart_and_is_where_the_next_member_begins() {
    let mut broker = broker().await;
    let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    member.follow_until_owning(2).await;
    let offset = PartitionOffset { metadata: "shift 3".into(), ..at_offset("orders", 0, 7) };
    let answer = member.commit(42, vec![offset.clone()]).await;
    assert_eq!((answer.correlation_id, answer.errors), (42, Vec::new()));
    assert_eq!(committed(&broker).await, std::slice::from_ref(&offset));
    drop(member);
    broker.restart().await;

    assert_eq!(committed(&broker).await, [offset]);
    let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    member.follow_until_owning(2).await;
    let begun: Vec<_> = member.owned.values().copied().collect();
    assert_eq!(begun, [7, 0], "what was not committed begins where the member says");
    assert_eq!(member.take(13).await.len(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_members_may_be_committed_to_from_outside() {
    let broker = broker().await;
    let offsets = vec![at_offset("orders", 0, 10), at_offset("orders", 1, 0)];
    assert_eq!(commit(&broker, from_outside(offsets.clone())).await.expect("answers"), []);
    assert_eq!(committed(&broker).await, offsets);

    let _member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    let refused = refusal(commit(&broker, from_outside(offsets)).await);
    assert_eq!(refused.kind(), (Code::FailedPrecondition, "GROUP_HAS_MEMBERS"));
    assert_eq!((refused.fact("group"), refused.fact("members")), ("billing", "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_offset_is_judged_by_itself() {
    let broker = broker().await;
    let long = PartitionOffset { metadata: "x".repeat(4_097), ..at_offset("orders", 0, 1) };
    let longest = PartitionOffset { metadata: "x".repeat(4_096), ..at_offset("orders", 1, 1) };
    let offsets = vec![
        at_offset("orders", 0, 11),
        at_offset("orders", 2, 0),
        at_offset("nope", 0, 0),
        long,
        at_offset("orders", 0, 5),
        longest.clone(),
    ];
    let refused = commit(&broker, from_outside(offsets)).await.expect("answers");
    let mut kinds: Vec<_> = refused.iter().map(|(partition, refusal)| (*partition, refusal.reason.as_str())).collect();
    kinds.sort_unstable();
    let expected =
        [(0, "METADATA_TOO_LONG"), (0, "OFFSET_OUT_OF_RANGE"), (0, "TOPIC_NOT_FOUND"), (2, "PARTITION_NOT_FOUND")];
    assert_eq!(kinds, expected);
    let beyond = refused.iter().find(|(_, refusal)| refusal.reason == "OFFSET_OUT_OF_RANGE").expect("it was refused");
    assert_eq!((beyond.1.fact("offset"), beyond.1.fact("latest_offset")), ("11", "10"));
    assert_eq!(committed(&broker).await, [at_offset("orders", 0, 5), longest], "the others stand");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_never_goes_back() {
    let broker = broker().await;
    assert_eq!(commit(&broker, from_outside(vec![at_offset("orders", 0, 5)])).await.expect("answers"), []);
    assert_eq!(commit(&broker, from_outside(vec![at_offset("orders", 0, 5)])).await.expect("answers"), []);
    let refused = commit(&broker, from_outside(vec![at_offset("orders", 0, 4)])).await.expect("answers").remove(0).1;
    assert_eq!(refused.kind(), (Code::FailedPrecondition, "COMMIT_BACKWARDS"));
    assert_eq!((refused.fact("offset"), refused.fact("committed_offset")), ("4", "5"));

    let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    member.follow_until_owning(2).await;
    let refused = member.commit(1, vec![at_offset("orders", 0, 3)]).await.errors.remove(0).error;
    assert_eq!(refused.expect("it is refused").reason, "COMMIT_BACKWARDS");
    assert_eq!(committed(&broker).await, [at_offset("orders", 0, 5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_by_call_is_fenced_by_member_and_generation() {
    let broker = broker().await;
    let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    member.follow_until_owning(2).await;
    let by = |member_id: &str, generation: u64, offset: u64| CommitOffsetsRequest {
        member_id: member_id.into(),
        generation,
        ..from_outside(vec![at_offset("orders", 0, offset)])
    };
    let id = member.member_id.clone();
    assert_eq!(commit(&broker, by(&id, member.generation, 2)).await.expect("answers"), []);
    for wrong in [member.generation - 1, member.generation + 1] {
        let refused = commit(&broker, by(&id, wrong, 3)).await.expect("answers").remove(0).1;
        assert_eq!(refused.kind(), (Code::Aborted, "STALE_GENERATION"));
        let current = member.generation.to_string();
        assert_eq!(refused.fact("generation"), wrong.to_string());
        assert_eq!(refused.fact("current_generation"), current);
    }
    let refused = refusal(commit(&broker, by("somebody", member.generation, 3)).await);
    assert_eq!(refused.kind(), (Code::Aborted, "MEMBER_UNKNOWN"));
    assert_eq!(committed(&broker).await, [at_offset("orders", 0, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_gone_commits_nothing_more() {
    let broker = broker().await;
    let mut first = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    first.follow_until_owning(2).await;
    let request = CommitOffsetsRequest {
        member_id: first.member_id.clone(),
        generation: first.generation,
        ..from_outside(vec![at_offset("orders", 0, 9)])
    };
    drop(first);
    // When somebody else owns everything, the broker has noticed.
    let mut second = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    second.follow_until_owning(2).await;
    assert_eq!(refusal(commit(&broker, request).await).reason, "MEMBER_UNKNOWN");
    assert_eq!(committed(&broker).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_offset_that_was_deleted_is_treated_as_the_member_chose() {
    let broker = broker().await;
    assert_eq!(commit(&broker, from_outside(vec![at_offset("orders", 0, 2)])).await.expect("answers"), []);
    broker.delete_records("orders", 0, 6).await;
    let open = |choice: OffsetExpired| Open { on_expired: choice as i32, ..as_member("orders", "billing") };

    let mut failing = Subscriber::open(&broker, open(OffsetExpired::Fail)).await.expect("opens");
    let ended = loop {
        match failing.next().await {
            Ok(_) => {}
            Err(status) => break Refusal::from(status),
        }
    };
    assert_eq!((ended.reason.as_str(), ended.fact("earliest_offset")), ("OFFSET_OUT_OF_RANGE", "6"));
    drop(failing);
    for (choice, begun) in [(OffsetExpired::Earliest, 6), (OffsetExpired::Latest, 10)] {
        let mut member = Subscriber::open(&broker, open(choice)).await.expect("opens");
        member.follow_until_owning(2).await;
        assert_eq!(member.owned[&("orders".to_owned(), 0)], begun, "{choice:?}");
        let _ = member.listen().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_listed_by_topic_and_an_unknown_group_has_none() {
    let broker = broker().await;
    broker.create_topic("bills", 1).await;
    broker.append("bills", 0, set(numbered("b", 1))).await;
    let offsets = vec![at_offset("orders", 1, 3), at_offset("bills", 0, 1), at_offset("orders", 0, 2)];
    assert_eq!(commit(&broker, from_outside(offsets)).await.expect("answers"), []);
    let request = FetchOffsetsRequest { group: "billing".into(), topics: vec!["orders".into()] };
    let mut found = broker.consumer().fetch_offsets(request).await.expect("answers").into_inner().offsets;
    found.sort_by_key(|offset| offset.partition);
    assert_eq!(found, [at_offset("orders", 0, 2), at_offset("orders", 1, 3)]);
    let request = FetchOffsetsRequest { group: "nobody".into(), topics: Vec::new() };
    assert_eq!(broker.consumer().fetch_offsets(request).await.expect("answers").into_inner().offsets, []);
}

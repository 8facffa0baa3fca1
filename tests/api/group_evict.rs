//! A member that is stuck is taken out of its group, and what describes a group says what its members want.

use crate::common::refusal::{Refusal, refusal};
use crate::common::subscriber::{Subscriber, as_member, at_offset};
use crate::common::{TestBroker, until, within};
use millstream::client::{ConsumerOptions, Event};
use millstream::proto::subscribe_request::Open;
use millstream::proto::{
    Assignor, CommitOffsetsRequest, DescribeGroupRequest, DescribeGroupResponse, EvictMemberRequest,
};
use millstream::types::{Position, TopicName};
use tonic::{Code, Status};

async fn evict(broker: &TestBroker, member: &str) -> Result<(), Status> {
    let request = EvictMemberRequest { group: "billing".into(), member_id: member.into() };
    broker.groups().evict_member(request).await.map(drop)
}

async fn describe(broker: &TestBroker) -> DescribeGroupResponse {
    let request = DescribeGroupRequest { group: "billing".into() };
    broker.groups().describe_group(request).await.expect("there is one").into_inner()
}

/// Reads on until the stream ends.
async fn end_of(member: &mut Subscriber) -> Refusal {
    let end = async {
        loop {
            if let Err(status) = member.next().await {
                return Refusal::from(status);
            }
        }
    };
    within("the end of the stream", end).await
}

/// The stuck one is not looked at until others have what it had: nothing waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_member_is_taken_out_and_others_go_on_at_once() {
    let broker = TestBroker::start().await;
    broker.create_filled_topic("orders", 2).await;
    let mut stuck = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    let mut other = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    tokio::join!(stuck.follow_until_owning(1), other.follow_until_owning(1));
    let partition = stuck.partitions()[0];
    assert_eq!(stuck.commit(1, vec![at_offset("orders", partition, 4)]).await.errors, []);

    evict(&broker, &stuck.member_id).await.expect("it is a member");
    other.follow_until_owning(2).await;
    assert_eq!(other.owned[&("orders".to_owned(), partition)], 4, "where the stuck one has committed");
    assert_eq!(describe(&broker).await.members.len(), 1);

    let late = CommitOffsetsRequest {
        group: "billing".into(),
        member_id: stuck.member_id.clone(),
        generation: stuck.generation,
        offsets: vec![at_offset("orders", partition, 9)],
    };
    let refused = refusal(broker.consumer().commit_offsets(late).await);
    assert_eq!(refused.kind(), (Code::Aborted, "MEMBER_UNKNOWN"));
    assert_eq!(end_of(&mut stuck).await.kind(), (Code::Aborted, "MEMBER_EVICTED"));
    assert_eq!(other.commit(1, vec![at_offset("orders", partition, 5)]).await.errors, []);
    // Fails at any notice of an assignment.
    other.listen().await;

    let gone = refusal(evict(&broker, &stuck.member_id).await);
    assert_eq!((gone.kind(), gone.fact("member")), ((Code::NotFound, "MEMBER_NOT_FOUND"), stuck.member_id.as_str()));
}

/// A commit that is under way when its member is taken out must not end the stream in other words.
#[tokio::test(flavor = "multi_thread")]
async fn the_stream_says_why_also_when_it_was_just_committing() {
    let broker = TestBroker::start().await;
    broker.create_filled_topic("orders", 1).await;
    for _ in 0..5 {
        let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
        member.follow_until_owning(1).await;
        let commit = millstream::proto::subscribe_request::Commit {
            offsets: vec![at_offset("orders", 0, 1)],
            correlation_id: 1,
        };
        let sending = member.send(millstream::proto::subscribe_request::Request::Commit(commit));
        let (evicted, ()) = tokio::join!(evict(&broker, &member.member_id), sending);
        evicted.expect("it is a member");
        assert_eq!(end_of(&mut member).await.reason, "MEMBER_EVICTED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_kept_for_a_member_that_is_away_can_be_given_up() {
    let broker = TestBroker::start().await;
    broker.create_filled_topic("orders", 2).await;
    let mut stays = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    let open = Open { instance_id: "desk".into(), ..as_member("orders", "billing") };
    let mut goes = Subscriber::open(&broker, open).await.expect("opens");
    tokio::join!(stays.follow_until_owning(1), goes.follow_until_owning(1));
    let member = goes.member_id.clone();
    drop(goes);
    until("the member to be away", async || describe(&broker).await.members[1].away.then_some(())).await;
    for (metric, number) in [("members", 2), ("members_away", 1), ("partitions_kept", 1)] {
        let line = format!("millstream_group_{metric}{{group=\"billing\"}} {number}");
        assert!(broker.has_metric(&line).await, "{line}");
    }
    evict(&broker, &member).await.expect("it is a member, although it is away");
    stays.follow_until_owning(2).await;
    assert!(broker.has_metric("millstream_group_members_away{group=\"billing\"} 0").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_cannot_be_taken_out() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    assert_eq!(refusal(evict(&broker, "member-1").await).kind(), (Code::NotFound, "GROUP_NOT_FOUND"));
}

/// Whoever took it out does not want it back at once, as stuck as before.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_does_not_come_back_when_it_was_taken_out() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let options = ConsumerOptions {
        group: Some("billing".to_owned()),
        start: Position::Earliest,
        ..ConsumerOptions::new(vec![TopicName::new("orders").expect("a valid name")])
    };
    let client = broker.client().await;
    let mut consumer = client.consumer(options).await.expect("opens");
    assert!(matches!(within("an event", consumer.next()).await, Ok(Event::Assigned { .. })));
    let members = client.describe_group("billing").await.expect("there is one").members;
    client.evict_member("billing", &members[0].member_id).await.expect("it is a member");
    let lost = within("the end of the stream", consumer.next()).await.expect_err("it is out");
    assert_eq!(lost.refusal().expect("the broker says why").reason, "MEMBER_EVICTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_says_what_members_want_and_how_partitions_are_shared() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    let by_pattern = Open {
        topic_patterns: vec!["orders.*".into(), "b?lls".into()],
        assignor: Assignor::Range.into(),
        ..as_member("orders", "billing")
    };
    let mut first = Subscriber::open(&broker, by_pattern).await.expect("opens");
    first.follow_until_owning(2).await;
    let alone = describe(&broker).await;
    assert_eq!(alone.assignor, Some(Assignor::Range.into()));
    let member = &alone.members[0];
    assert_eq!(
        (&member.topics[..], &member.topic_patterns[..]),
        (&["orders".into()][..], &["orders.*".into(), "b?lls".into()][..])
    );
    assert_eq!(member.assignor(), Assignor::Range);

    let second = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    let both = describe(&broker).await;
    assert_eq!(both.assignor, Some(Assignor::Balanced.into()), "no more than half want ranges");
    assert!(both.members[1].topic_patterns.is_empty());
    drop((first, second));
    until("the group to be empty", async || describe(&broker).await.members.is_empty().then_some(())).await;
    assert_eq!(describe(&broker).await.assignor, None);
}

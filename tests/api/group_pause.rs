//! A paused group gets no records and keeps everything else.

use crate::common::TestBroker;
use crate::common::records::{numbered, set};
use crate::common::refusal::refusal;
use crate::common::subscriber::{Subscriber, as_member, at_offset};
use millstream::proto::subscribe_response::Response;
use millstream::proto::{ListGroupsRequest, PauseGroupRequest, ResumeGroupRequest};
use tonic::Code;

async fn pause(broker: &TestBroker) {
    broker.groups().pause_group(PauseGroupRequest { group: "billing".into() }).await.expect("it is there");
}

async fn resume(broker: &TestBroker) {
    broker.groups().resume_group(ResumeGroupRequest { group: "billing".into() }).await.expect("it is there");
}

async fn is_paused(broker: &TestBroker) -> bool {
    broker.groups().list_groups(ListGroupsRequest::default()).await.expect("lists").into_inner().groups[0].paused
}

async fn join(broker: &TestBroker) -> Subscriber {
    Subscriber::open(broker, as_member("orders", "billing")).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_group_gets_no_records_and_commits_what_it_has() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    let mut member = join(&broker).await;
    assert_eq!(member.take(10).await.len(), 10);
    pause(&broker).await;
    assert!(matches!(member.next_notice().await, Response::Paused(_)));
    assert!(is_paused(&broker).await);
    assert!(broker.has_metric("millstream_group_paused{group=\"billing\"} 1").await);

    broker.append("orders", 0, set(numbered("more", 5))).await;
    assert_eq!(member.listen().await, [], "nothing comes");
    assert_eq!(member.commit(1, vec![at_offset("orders", 0, 10)]).await.errors, []);
    assert_eq!(member.partitions(), [0]);

    resume(&broker).await;
    assert!(matches!(member.next_notice().await, Response::Resumed(_)));
    assert_eq!(member.take(5).await[0].1, 10);
    assert!(!is_paused(&broker).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_the_broker_and_is_for_who_joins_too() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    drop(join(&broker).await);
    pause(&broker).await;
    broker.restart().await;
    assert!(is_paused(&broker).await);
    let mut member = join(&broker).await;
    assert!(matches!(member.next_notice().await, Response::Paused(_)));
    member.follow_until_owning(1).await;
    assert_eq!(member.listen().await, []);
    resume(&broker).await;
    assert!(matches!(member.next_notice().await, Response::Resumed(_)));
    assert_eq!(member.take(10).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_not_there_cannot_be_paused() {
    let broker = TestBroker::start().await;
    let paused = broker.groups().pause_group(PauseGroupRequest { group: "nope".into() }).await;
    assert_eq!(refusal(paused).kind(), (Code::NotFound, "GROUP_NOT_FOUND"));
    let resumed = broker.groups().resume_group(ResumeGroupRequest { group: "nope".into() }).await;
    assert_eq!(refusal(resumed).kind(), (Code::NotFound, "GROUP_NOT_FOUND"));
}

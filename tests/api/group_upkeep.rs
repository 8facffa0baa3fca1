//! How a group shares its partitions, commits by itself, and is forgotten when nobody uses it.

use crate::common::records::{numbered, set};
use crate::common::refusal::refusal;
use crate::common::subscriber::{Subscriber, as_member, at_offset};
use crate::common::{TestBroker, until};
use millstream::client::{ConsumerOptions, Event};
use millstream::proto::subscribe_request::Open;
use millstream::proto::{Assignor, CommitOffsetsRequest, FetchOffsetsRequest, ListGroupsRequest, PauseGroupRequest};
use millstream::types::{Position, TopicName};
use std::time::Duration;

async fn groups(broker: &TestBroker) -> Vec<String> {
    let groups = broker.groups().list_groups(ListGroupsRequest::default()).await.expect("lists").into_inner().groups;
    groups.into_iter().map(|group| group.name).collect()
}

async fn commit(broker: &TestBroker, group: &str) {
    let offsets = vec![at_offset("orders", 0, 1)];
    let request = CommitOffsetsRequest { group: group.into(), offsets, ..Default::default() };
    assert_eq!(broker.consumer().commit_offsets(request).await.expect("answers").into_inner().errors, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_nobody_uses_are_forgotten_and_others_are_not() {
    let broker = TestBroker::start_with(|setting| setting.options.group_offsets_retention_ms = 1).await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 3))).await;
    let _member = Subscriber::open(&broker, as_member("orders", "alive")).await.expect("opens");
    commit(&broker, "dead").await;
    until("the dead group to be gone", async || (groups(&broker).await == ["alive"]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_group_is_kept() {
    let broker = TestBroker::start_with(|setting| setting.options.group_offsets_retention_ms = 1).await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 3))).await;
    let member = Subscriber::open(&broker, as_member("orders", "paused")).await.expect("opens");
    broker.groups().pause_group(PauseGroupRequest { group: "paused".into() }).await.expect("it is there");
    drop(member);
    until("the member to be gone", async || {
        let listed = broker.groups().list_groups(ListGroupsRequest::default()).await.expect("lists").into_inner();
        (listed.groups[0].members == 0).then_some(())
    })
    .await;
    commit(&broker, "dead").await;
    until("the dead group to be gone", async || (groups(&broker).await == ["paused"]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_give_equal_numbers_of_two_topics_to_one_member() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 4).await;
    broker.create_topic("bills", 4).await;
    let in_ranges = Open {
        topics: vec!["orders".into(), "bills".into()],
        assignor: Assignor::Range.into(),
        ..as_member("", "billing")
    };
    let mut first = Subscriber::open(&broker, in_ranges.clone()).await.expect("opens");
    let mut second = Subscriber::open(&broker, in_ranges.clone()).await.expect("opens");
    tokio::join!(first.follow_until_owning(4), second.follow_until_owning(4));
    assert_eq!((first.partitions(), second.partitions()), (vec![0, 1, 0, 1], vec![2, 3, 2, 3]));
    let unknown = Subscriber::open(&broker, Open { assignor: 7, ..in_ranges }).await.map(|_| ());
    assert_eq!(refusal(unknown).fact("field"), "assignor");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_commits_by_itself_when_asked_to() {
    let broker = TestBroker::start().await;
    broker.create_filled_topic("orders", 1).await;
    let options = ConsumerOptions {
        group: Some("billing".to_owned()),
        start: Position::Earliest,
        auto_commit: Some(Duration::from_millis(10)),
        ..ConsumerOptions::new(vec![TopicName::new("orders").expect("a valid name")])
    };
    let mut consumer = broker.client().await.consumer(options).await.expect("opens");
    let reading = async {
        loop {
            let event = consumer.next().await.expect("the stream goes on");
            assert!(!matches!(event, Event::Disconnected { .. }), "{event:?}");
        }
    };
    let committed = until("everything to be committed", async || {
        let request = FetchOffsetsRequest { group: "billing".into(), topics: Vec::new() };
        let offsets = broker.consumer().fetch_offsets(request).await.expect("answers").into_inner().offsets;
        offsets.first().is_some_and(|offset| offset.offset == 10).then_some(())
    });
    tokio::select! {
        () = reading => {}
        () = committed => {}
    }
}

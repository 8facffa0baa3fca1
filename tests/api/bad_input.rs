//! Requests that ask for what is not there or not allowed: each is refused by name and has no effect.

use crate::common::TestBroker;
use crate::common::records::{numbered, record, set, values_of};
use crate::common::refusal::{Refusal, refusal};
use crate::common::subscriber::{Subscriber, as_member, at_offset, from_start};
use bytes::Bytes;
use millstream::proto::position::At;
use millstream::proto::subscribe_request::{Commit, Open, Released, Request};
use millstream::proto::{
    CommitOffsetsRequest, CreateTopicRequest, DeleteGroupRequest, DeleteRecordsRequest, DeleteTopicRequest,
    DescribeGroupRequest, FetchPosition, FetchRequest, GetTopicRequest, ListOffsetsRequest, Position, ProduceRequest,
    SubscribeRequest, TopicOptions, UpdateTopicRequest,
};
use tonic::Code;

fn produce(topic: &str, partition: Option<u32>) -> ProduceRequest {
    ProduceRequest { topic: topic.into(), partition, records: set(numbered("r", 1)), ..Default::default() }
}

fn fetch(topic: &str, partition: u32, offset: u64) -> FetchRequest {
    let position = FetchPosition { topic: topic.into(), partition, offset };
    FetchRequest { positions: vec![position], ..Default::default() }
}

async fn broker() -> TestBroker {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    broker
}

/// The broker serves, and `orders` is as [`broker`] made it.
async fn is_unharmed(broker: &TestBroker) {
    let state = broker.partition_state("orders", 0).await;
    assert_eq!((state.log_start_offset, state.log_end_offset), (0, 10));
    assert_eq!(values_of(&broker.fetch("orders", 0, 9).await.batches), [(9, "r9".to_owned())]);
    assert_eq!(broker.append("orders", 0, set(vec![record("more")])).await, 10);
}

/// The statuses of every call that takes the name of a topic.
async fn calls_with_topic(broker: &TestBroker, name: &str) -> Vec<Refusal> {
    let update = UpdateTopicRequest { name: name.into(), ..Default::default() };
    let delete = DeleteRecordsRequest { topic: name.into(), ..Default::default() };
    vec![
        refusal(broker.topics().get_topic(GetTopicRequest { name: name.into() }).await),
        refusal(broker.topics().update_topic(update).await),
        refusal(broker.topics().delete_topic(DeleteTopicRequest { name: name.into() }).await),
        refusal(broker.topics().delete_records(delete).await),
        refusal(broker.producer().produce(produce(name, None)).await),
        refusal(broker.consumer().fetch(fetch(name, 0, 0)).await),
        refusal(Subscriber::open(broker, from_start(name)).await),
        refusal(Subscriber::open(broker, as_member(name, "billing")).await),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_no_topic_can_have_are_refused_everywhere() {
    let broker = broker().await;
    let long = "x".repeat(300);
    for name in ["../x", "", "a/b", ".", "..", "a b", "a\0b", "\u{e9}", &long, &"x".repeat(250)] {
        let request = CreateTopicRequest { name: name.into(), ..Default::default() };
        let mut refusals = calls_with_topic(&broker, name).await;
        refusals.push(refusal(broker.topics().create_topic(request).await));
        for refused in refusals {
            assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_NAME"), "{name:?}: {refused:?}");
            assert_eq!((refused.fact("retryable"), refused.fact("no_side_effects")), ("false", "true"));
        }
    }
    broker.create_topic(&"x".repeat(249), 1).await;
    is_unharmed(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named_everywhere() {
    let broker = broker().await;
    for refused in calls_with_topic(&broker, "nope").await {
        assert_eq!(refused.kind(), (Code::NotFound, "TOPIC_NOT_FOUND"), "{refused:?}");
        assert_eq!((refused.fact("topic"), refused.fact("retryable")), ("nope", "false"));
        assert!(refused.message.contains("nope"), "{}", refused.message);
    }
    is_unharmed(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_not_there_is_named_with_how_many_there_are() {
    let broker = broker().await;
    let delete = DeleteRecordsRequest { topic: "orders".into(), partition: 1, before_offset: 0 };
    for refused in [
        refusal(broker.producer().produce(produce("orders", Some(1))).await),
        refusal(broker.producer().produce(produce("orders", Some(u32::MAX))).await),
        refusal(broker.consumer().fetch(fetch("orders", 1, 0)).await),
        refusal(broker.topics().delete_records(delete).await),
    ] {
        assert_eq!(refused.kind(), (Code::NotFound, "PARTITION_NOT_FOUND"));
        assert_eq!((refused.fact("topic"), refused.fact("partitions")), ("orders", "1"));
    }
    is_unharmed(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_out_of_range_is_answered_with_the_range() {
    let broker = broker().await;
    for offset in [11, u64::MAX] {
        let refused = refusal(broker.consumer().fetch(fetch("orders", 0, offset)).await);
        assert_eq!(refused.kind(), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
        let facts = ["topic", "partition", "offset", "earliest_offset", "latest_offset"].map(|name| refused.fact(name));
        assert_eq!(facts, ["orders", "0", &offset.to_string(), "0", "10"]);
    }
    is_unharmed(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_own_topics_are_not_written_changed_or_deleted() {
    let broker = broker().await;
    let before = broker.partition_state("__groups", 0).await.log_end_offset;
    let create = CreateTopicRequest { name: "__mine".into(), ..Default::default() };
    let update = UpdateTopicRequest { name: "__groups".into(), partitions: 2, ..Default::default() };
    let delete = DeleteRecordsRequest { topic: "__groups".into(), ..Default::default() };
    for refused in [
        refusal(broker.producer().produce(produce("__groups", Some(0))).await),
        refusal(broker.topics().create_topic(create).await),
        refusal(broker.topics().update_topic(update).await),
        refusal(broker.topics().delete_topic(DeleteTopicRequest { name: "__groups".into() }).await),
        refusal(broker.topics().delete_records(delete).await),
    ] {
        assert_eq!(refused.kind(), (Code::PermissionDenied, "TOPIC_INTERNAL"), "{refused:?}");
    }
    assert_eq!(broker.partition_state("__groups", 0).await.log_end_offset, before);
    is_unharmed(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_enums_that_the_broker_does_not_know_are_refused() {
    let broker = broker().await;
    let request = ProduceRequest { durability: 99, ..produce("orders", None) };
    let options = TopicOptions { durability: Some(99), ..TopicOptions::default() };
    let create = CreateTopicRequest { name: "x".into(), partitions: 1, options: Some(options) };
    let start = Some(Position { at: Some(At::Edge(99)) });
    for (refused, field) in [
        (refusal(broker.producer().produce(request).await), "durability"),
        (refusal(broker.topics().create_topic(create).await), "durability"),
        (refusal(Subscriber::open(&broker, Open { start, ..from_start("orders") }).await), "position"),
        (refusal(Subscriber::open(&broker, Open { on_expired: 99, ..from_start("orders") }).await), "on_expired"),
    ] {
        assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_ARGUMENT"), "{refused:?}");
        assert_eq!(refused.fact("field"), field);
    }
    is_unharmed(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_out_of_their_bounds_are_refused_by_field() {
    let broker = broker().await;
    let positions = |count: usize| vec![fetch("orders", 0, 0).positions.remove(0); count];
    let commit = |count: usize| CommitOffsetsRequest {
        group: "billing".into(),
        offsets: vec![at_offset("orders", 0, 0); count],
        ..Default::default()
    };
    let topics = |count: usize| Open { topics: vec!["orders".into(); count], ..Open::default() };
    let too_large = Open { max_message_bytes: (8 << 20) + 1, ..from_start("orders") };
    let mixed = Open { partitions: vec![0], ..as_member("orders", "billing") };
    let of_bytes = |max_bytes| FetchRequest { max_bytes, ..fetch("orders", 0, 0) };
    let of_wait = |max_wait_ms| FetchRequest { max_wait_ms, ..fetch("orders", 0, 0) };
    let of_positions = |count| FetchRequest { positions: positions(count), ..Default::default() };
    for (refused, field) in [
        (refusal(broker.consumer().fetch(of_bytes((64 << 20) + 1)).await), "max_bytes"),
        (refusal(broker.consumer().fetch(of_wait(60_001)).await), "max_wait_ms"),
        (refusal(broker.consumer().fetch(of_positions(0)).await), "positions"),
        (refusal(broker.consumer().fetch(of_positions(1_001)).await), "positions"),
        (refusal(broker.consumer().list_offsets(ListOffsetsRequest::default()).await), "entries"),
        (refusal(broker.consumer().commit_offsets(commit(0)).await), "offsets"),
        (refusal(broker.consumer().commit_offsets(commit(10_001)).await), "offsets"),
        (refusal(Subscriber::open(&broker, topics(0)).await), "topics"),
        (refusal(Subscriber::open(&broker, topics(101)).await), "topics"),
        (refusal(Subscriber::open(&broker, too_large).await), "max_message_bytes"),
        (refusal(Subscriber::open(&broker, mixed).await), "partitions"),
    ] {
        assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_ARGUMENT"), "{refused:?}");
        assert_eq!(refused.fact("field"), field);
    }
    is_unharmed(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn group_names_follow_the_rule_of_topics() {
    let broker = broker().await;
    for group in ["../x", "a/b", "..", &"x".repeat(250)] {
        let commit = CommitOffsetsRequest {
            group: group.into(),
            offsets: vec![at_offset("orders", 0, 0)],
            ..Default::default()
        };
        for refused in [
            refusal(Subscriber::open(&broker, as_member("orders", group)).await),
            refusal(broker.consumer().commit_offsets(commit).await),
            refusal(broker.groups().describe_group(DescribeGroupRequest { group: group.into() }).await),
            refusal(broker.groups().delete_group(DeleteGroupRequest { group: group.into() }).await),
        ] {
            assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_NAME"), "{group}");
        }
    }
    is_unharmed(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_begins_with_open_and_has_only_one() {
    let broker = broker().await;
    let first = |request| SubscribeRequest { request };
    for message in [
        first(None),
        first(Some(Request::Commit(Commit::default()))),
        first(Some(Request::Released(Released::default()))),
    ] {
        let call = broker.consumer().subscribe(tokio_stream::iter([message])).await;
        let refused = match call {
            Ok(responses) => refusal(responses.into_inner().message().await),
            Err(status) => status.into(),
        };
        assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_ARGUMENT"));
        assert_eq!(refused.fact("field"), "request");
    }
    let mut subscriber = Subscriber::open(&broker, Open { start: None, ..from_start("orders") }).await.expect("opens");
    subscriber.follow_until_owning(1).await;
    subscriber.send(Request::Open(from_start("orders"))).await;
    assert_eq!(refusal(subscriber.next().await).fact("field"), "open");
    is_unharmed(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_group_commits_and_releases_nothing() {
    let broker = broker().await;
    let commit = Commit { offsets: vec![at_offset("orders", 0, 1)], correlation_id: 1 };
    for (request, field) in
        [(Request::Commit(commit), "commit"), (Request::Released(Released { generation: 1 }), "released")]
    {
        let open = Open { start: None, ..from_start("orders") };
        let mut subscriber = Subscriber::open(&broker, open).await.expect("opens");
        subscriber.follow_until_owning(1).await;
        subscriber.send(request).await;
        assert_eq!(refusal(subscriber.next().await).fact("field"), field);
    }
    is_unharmed(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_the_in_flight_budget_is_taken_alone() {
    let broker = TestBroker::start_with(|setting| setting.options.produce_in_flight_bytes_max = 1_024).await;
    broker.create_topic("orders", 1).await;
    let records: Bytes = set(numbered("r", 1_000));
    assert_eq!(broker.append("orders", 0, records.clone()).await, 0);
    assert_eq!(broker.append("orders", 0, records).await, 1_000, "and gives the budget back");
}

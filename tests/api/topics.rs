//! Topics: create, look at, list.

use crate::common::TestBroker;
use crate::common::refusal::refusal;
use millstream::proto::{
    Cleanup, CreateTopicRequest, Durability, GetTopicRequest, ListTopicsRequest, ListTopicsResponse, TopicOptions,
};
use tonic::Code;

/// Makes options in which one has a value.
type Choose = fn(&mut TopicOptions, u64);

#[expect(clippy::cast_possible_truncation, reason = "the values of 32-bit options are those of this table")]
const BOUNDS: [(&str, Choose, u64, u64); 5] = [
    ("retention_ms", |options, ms| options.retention_ms = Some(ms), 1_000, i64::MAX as u64),
    ("segment_bytes", |options, bytes| options.segment_bytes = Some(bytes), 1 << 20, 1 << 30),
    ("segment_age_ms", |options, ms| options.segment_age_ms = Some(ms), 1_000, i64::MAX as u64),
    ("record_bytes_max", |options, bytes| options.record_bytes_max = Some(bytes as u32), 1 << 10, 8 << 20),
    ("batch_bytes_max", |options, bytes| options.batch_bytes_max = Some(bytes as u32), 1 << 10, 8 << 20),
];

/// Options with one changed, and with whatever else it needs to be allowed: a batch must be able to hold a record.
fn options_with(choose: Choose, name: &str, value: u64) -> TopicOptions {
    let mut options = TopicOptions::default();
    match name {
        "record_bytes_max" => options.batch_bytes_max = Some(8 << 20),
        "batch_bytes_max" => options.record_bytes_max = Some(1 << 10),
        _ => {}
    }
    choose(&mut options, value);
    options
}

fn create(name: &str, options: TopicOptions) -> CreateTopicRequest {
    CreateTopicRequest { name: name.to_owned(), partitions: 1, options: Some(options) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_without_wishes_has_the_defaults_of_the_broker() {
    let broker = TestBroker::start().await;
    let request = CreateTopicRequest { name: "orders".into(), partitions: 0, options: None };
    let topic = broker.topics().create_topic(request).await.expect("created").into_inner().topic.expect("a topic");
    assert_eq!((topic.name.as_str(), topic.partitions, topic.internal), ("orders", 1, false));
    assert_eq!(topic.topic_id.len(), 36, "a UUID: {}", topic.topic_id);
    assert!(topic.created_at_ms > 0);
    let expected = TopicOptions {
        retention_ms: Some(7 * 24 * 60 * 60 * 1_000),
        retention_bytes: Some(0),
        segment_bytes: Some(128 << 20),
        segment_age_ms: Some(24 * 60 * 60 * 1_000),
        durability: Some(Durability::Synced as i32),
        record_bytes_max: Some(1 << 20),
        batch_bytes_max: Some(4 << 20),
        dedup_window_ms: Some(0),
        cleanup: Some(Cleanup::Delete as i32),
        tombstone_grace_ms: Some(24 * 60 * 60 * 1_000),
    };
    assert_eq!(topic.options, Some(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_are_kept_as_given_and_shown_by_get() {
    let broker = TestBroker::start().await;
    let options = TopicOptions {
        retention_ms: Some(0),
        retention_bytes: Some(5),
        segment_bytes: Some(1 << 20),
        segment_age_ms: Some(2_000),
        durability: Some(Durability::Written as i32),
        record_bytes_max: Some(2_000),
        batch_bytes_max: Some(3_000),
        // On a compacted topic there is no window: what it would look for may be gone.
        dedup_window_ms: Some(0),
        cleanup: Some(Cleanup::CompactAndDelete as i32),
        tombstone_grace_ms: Some(0),
    };
    let created = broker.create_topic_with("orders", 3, options).await;
    assert_eq!(created.options, Some(options));

    let found = broker.topics().get_topic(GetTopicRequest { name: "orders".into() }).await;
    let found = found.expect("it is there").into_inner();
    assert_eq!(found.topic, Some(created));
    let numbers: Vec<u32> = found.partitions.iter().map(|state| state.partition).collect();
    assert_eq!(numbers, [0, 1, 2]);
    for state in found.partitions {
        assert_eq!((state.log_start_offset, state.high_watermark, state.log_end_offset), (0, 0, 0));
        assert_eq!(state.error, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_outside_of_their_bounds_are_refused_by_name() {
    let broker = TestBroker::start().await;
    for (name, choose, least, most) in BOUNDS {
        for (i, allowed) in [least, most].into_iter().enumerate() {
            let topic = format!("{name}-{i}");
            broker.create_topic_with(&topic, 1, options_with(choose, name, allowed)).await;
        }
        for wrong in [least - 1, most + 1] {
            let refused = refusal(broker.topics().create_topic(create("x", options_with(choose, name, wrong))).await);
            assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_OPTION"), "{name} = {wrong}");
            assert_eq!((refused.fact("option"), refused.fact("value")), (name, wrong.to_string().as_str()));
            assert!(refused.message.contains(name) && !refused.fact("allowed").is_empty(), "{refused:?}");
        }
    }
    let refused = refusal(broker.topics().get_topic(GetTopicRequest { name: "x".into() }).await);
    assert_eq!(refused.reason, "TOPIC_NOT_FOUND", "nothing was created");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_must_be_able_to_hold_a_record() {
    let broker = TestBroker::start().await;
    let options =
        TopicOptions { record_bytes_max: Some(2_000), batch_bytes_max: Some(1_999), ..TopicOptions::default() };
    let refused = refusal(broker.topics().create_topic(create("orders", options)).await);
    assert_eq!((refused.reason.as_str(), refused.fact("option")), ("INVALID_OPTION", "batch_bytes_max"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_1_to_10_000_partitions() {
    let broker = TestBroker::start().await;
    let request = CreateTopicRequest { partitions: 10_001, ..create("orders", TopicOptions::default()) };
    let refused = refusal(broker.topics().create_topic(request).await);
    assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    assert_eq!(refused.fact("field"), "partitions");
    assert!(refused.message.contains("10000"), "{}", refused.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_taken_once() {
    let broker = TestBroker::start().await;
    let first = broker.create_topic("orders", 1).await;
    let refused = refusal(broker.topics().create_topic(create("orders", TopicOptions::default())).await);
    assert_eq!(refused.kind(), (Code::AlreadyExists, "TOPIC_ALREADY_EXISTS"));
    assert_eq!((refused.fact("topic"), refused.fact("retryable")), ("orders", "false"));
    let found = broker.topics().get_topic(GetTopicRequest { name: "orders".into() }).await.expect("still there");
    assert_eq!(found.into_inner().topic, Some(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_create_one_topic_at_once_one_succeeds() {
    let broker = TestBroker::start().await;
    let attempts = (0..8).map(|_| {
        let mut topics = broker.topics();
        tokio::spawn(async move { topics.create_topic(create("orders", TopicOptions::default())).await })
    });
    let mut created = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.expect("no panic") {
            Ok(_) => created += 1,
            Err(status) => assert_eq!(status.code(), Code::AlreadyExists),
        }
    }
    assert_eq!(created, 1);
}

async fn list(broker: &TestBroker, request: ListTopicsRequest) -> (Vec<String>, String) {
    let ListTopicsResponse { topics, next_page_token } =
        broker.topics().list_topics(request).await.expect("lists").into_inner();
    (topics.into_iter().map(|topic| topic.name).collect(), next_page_token)
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_listed_by_prefix_and_page_by_page() {
    let broker = TestBroker::start().await;
    for name in ["b-2", "a-1", "b-1", "c", "b-3"] {
        broker.create_topic(name, 1).await;
    }
    let (all, token) = list(&broker, ListTopicsRequest::default()).await;
    assert_eq!((all.as_slice(), token.as_str()), (["a-1", "b-1", "b-2", "b-3", "c"].map(String::from).as_slice(), ""));

    let first = ListTopicsRequest { prefix: "b-".into(), page_size: 2, ..Default::default() };
    let (page, token) = list(&broker, first.clone()).await;
    assert_eq!(page, ["b-1", "b-2"]);
    assert!(!token.is_empty(), "there is another page");
    let (page, token) = list(&broker, ListTopicsRequest { page_token: token, ..first }).await;
    assert_eq!((page, token), (vec!["b-3".to_owned()], String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_just_full_is_the_last() {
    let broker = TestBroker::start().await;
    for name in ["a", "b"] {
        broker.create_topic(name, 1).await;
    }
    let (page, token) = list(&broker, ListTopicsRequest { page_size: 2, ..Default::default() }).await;
    assert_eq!((page.len(), token), (2, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_own_topics_are_listed_only_when_asked_for() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let request = ListTopicsRequest { include_internal: true, ..Default::default() };
    let listed = broker.topics().list_topics(request).await.expect("lists").into_inner().topics;
    let listed: Vec<_> = listed.iter().map(|topic| (topic.name.as_str(), topic.internal)).collect();
    let own = ["__groups", "__producers", "__queues", "__schedules"].map(|name| (name, true));
    assert_eq!(listed, [&own[..], &[("orders", false)]].concat());
    assert_eq!(list(&broker, ListTopicsRequest::default()).await.0, ["orders"]);
}

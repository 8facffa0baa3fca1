//! Subscriptions without a group: where they begin, what they are told, how they end.

use crate::common::records::{numbered, set, sized, values_of};
use crate::common::refusal::refusal;
use crate::common::subscriber::{Subscriber, edge, from_start};
use crate::common::{TestBroker, within};
use millstream::client::{ConsumerOptions, Event};
use millstream::proto::position::At;
use millstream::proto::subscribe_request::Open;
use millstream::proto::subscribe_response::Response;
use millstream::proto::{Edge, OffsetExpired, Position};
use millstream::types::{Position as Place, TopicName};
use std::collections::BTreeSet;
use tonic::Code;

fn from(at: At) -> Open {
    Open { start: Some(Position { at: Some(at) }), ..from_start("orders") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_begins_where_it_is_told() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    for (at, first) in [
        (At::Edge(Edge::Earliest as i32), 0),
        (At::Offset(4), 4),
        (At::RecordsBeforeEnd(3), 7),
        (At::TimestampMs(0), 0),
    ] {
        let mut subscriber = Subscriber::open(&broker, from(at)).await.expect("opens");
        let seen = subscriber.take(10 - first).await;
        assert_eq!((seen.len(), seen[0].1), (10 - first, first as u64), "{at:?}");
        assert_eq!(subscriber.owned[&("orders".to_owned(), 0)], first as u64, "it is told so first");
        assert_eq!((subscriber.member_id.as_str(), subscriber.generation), ("", 0), "there is no group");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_does_not_say_begins_at_the_end_and_follows() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("old-", 5))).await;
    let open = Open { start: None, ..from_start("orders") };
    let mut subscriber = Subscriber::open(&broker, open).await.expect("opens");
    subscriber.follow_until_owning(1).await;
    for i in 0..3 {
        broker.append("orders", 0, set(numbered(&format!("new-{i}-"), 1))).await;
        assert_eq!(subscriber.take(1).await, [(0, 5 + i, format!("new-{i}-0"))]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_of_every_partition_and_topic_comes_once_and_in_order() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 3).await;
    broker.create_topic("bills", 1).await;
    for round in 0..5 {
        for partition in 0..3 {
            broker.append("orders", partition, set(numbered(&format!("{round}-"), 20))).await;
        }
        broker.append("bills", 0, set(numbered(&format!("{round}-"), 20))).await;
    }
    let open = Open { topics: vec!["orders".into(), "bills".into()], ..from_start("") };
    let mut subscriber = Subscriber::open(&broker, open).await.expect("opens");
    let mut next = std::collections::BTreeMap::new();
    let mut count = 0;
    while count < 400 {
        let records = subscriber.next_records().await;
        assert_eq!(records.high_watermark, 100);
        let next = next.entry((records.topic.clone(), records.partition)).or_insert(0);
        for (offset, _) in values_of(&records.batches) {
            assert_eq!(offset, *next, "{} {}", records.topic, records.partition);
            *next += 1;
            count += 1;
        }
    }
    assert_eq!(next.values().collect::<Vec<_>>(), [&100; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_partitions_asked_for_are_read() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 3).await;
    for partition in 0..3 {
        broker.append("orders", partition, set(numbered("r", 1))).await;
    }
    let open = Open { partitions: vec![2, 0], ..from_start("orders") };
    let mut subscriber = Subscriber::open(&broker, open).await.expect("opens");
    let seen: BTreeSet<u32> = subscriber.take(2).await.into_iter().map(|(partition, ..)| partition).collect();
    assert_eq!((seen, subscriber.partitions()), (BTreeSet::from([0, 2]), vec![0, 2]));

    let open = Open { partitions: vec![3], ..from_start("orders") };
    assert_eq!(refusal(Subscriber::open(&broker, open).await).reason, "PARTITION_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_about_the_bytes_asked_for() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    for _ in 0..30 {
        broker.append("orders", 0, sized(10, 1_000)).await;
    }
    let open = Open { max_message_bytes: 25_000, ..from_start("orders") };
    let mut subscriber = Subscriber::open(&broker, open).await.expect("opens");
    let mut count = 0;
    while count < 300 {
        let records = subscriber.next_records().await;
        let bytes: usize = records.batches.iter().map(|batch| batch.records.len()).sum();
        assert!(bytes <= 25_000, "{bytes} bytes");
        count += values_of(&records.batches).len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_when_the_place_to_begin_was_deleted_is_the_clients_choice() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    broker.delete_records("orders", 0, 6).await;
    let open = |choice: OffsetExpired| Open { on_expired: choice as i32, ..from(At::Offset(2)) };

    let mut failing = Subscriber::open(&broker, open(OffsetExpired::Fail)).await.expect("opens");
    let ended = refusal(failing.next().await);
    assert_eq!(ended.kind(), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
    assert_eq!((ended.fact("earliest_offset"), ended.fact("latest_offset")), ("6", "10"));

    let mut earliest = Subscriber::open(&broker, open(OffsetExpired::Earliest)).await.expect("opens");
    assert_eq!(earliest.take(4).await[0].1, 6);
    let mut latest = Subscriber::open(&broker, open(OffsetExpired::Latest)).await.expect("opens");
    latest.follow_until_owning(1).await;
    broker.append("orders", 0, set(numbered("new-", 1))).await;
    assert_eq!(latest.take(1).await, [(0, 10, "new-0".to_owned())]);

    // Beyond the end is no matter of retention: no choice makes that a place.
    let beyond = Open { on_expired: OffsetExpired::Earliest as i32, ..from(At::Offset(12)) };
    let mut beyond = Subscriber::open(&broker, beyond).await.expect("opens");
    assert_eq!(refusal(beyond.next().await).reason, "OFFSET_OUT_OF_RANGE");
}

/// The one test that waits for real time: five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_comes_when_nothing_else_does_and_says_how_far_the_logs_go() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    broker.append("orders", 1, set(numbered("r", 3))).await;
    let open = Open { start: Some(edge(Edge::Latest)), ..from_start("orders") };
    let mut subscriber = Subscriber::open(&broker, open).await.expect("opens");
    let heartbeat = subscriber.next_heartbeat().await;
    let ends: Vec<_> = heartbeat.high_watermarks.iter().map(|end| (end.partition, end.offset)).collect();
    assert_eq!(ends, [(0, 0), (1, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_told_to_drain_before_the_stream_ends() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let mut subscriber = Subscriber::open(&broker, from_start("orders")).await.expect("opens");
    subscriber.follow_until_owning(1).await;
    broker.begin_drain();
    assert!(matches!(subscriber.next_notice().await, Response::Drain(_)));
    // It closes, as it was told to, and then the broker can stop.
    drop(subscriber);
    within("the broker to stop", broker.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_reads_a_backlog_through_a_small_window() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    for partition in 0..2 {
        for _ in 0..20 {
            broker.append("orders", partition, set(numbered("r", 50))).await;
        }
    }
    let topic = TopicName::new("orders").expect("a valid name");
    let options = ConsumerOptions {
        start: Place::Earliest,
        window_records: 100,
        window_bytes: 10_000,
        ..ConsumerOptions::new(vec![topic])
    };
    let mut consumer = broker.client().await.consumer(options).await.expect("opens");
    let mut count = 0;
    while count < 2_000 {
        if let Event::Records(records) = within("records", consumer.next()).await.expect("the stream goes on") {
            count += records.record_count();
        }
    }
    assert_eq!(count, 2_000);
}

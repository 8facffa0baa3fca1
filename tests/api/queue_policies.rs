//! What a queue hands out instead of the next message, or not at all: ages, priorities, the breaker, blocked keys.

use crate::common::queue_stream::{ack, nack};
use crate::common::records::{keyed, record, records_of, set};
use crate::common::refusal::refusal;
use crate::common::{TestBroker, until};
use crate::queues::{LONG_MS, broker_with, create, expect, get, patient, receive, receive_now, seen, settle};
use millstream::proto::{
    BreakerState, Header, ListBlockedKeysRequest, MessageState, QueueOrdering, QueuePolicy, QueuePriority, Record,
    ResumeQueueRequest, UpdateQueueRequest,
};
use prost::Message as _;

fn with_ttl(mut record: Record, ttl_ms: &'static str) -> Record {
    record.headers.push(Header { key: "ttl-ms".into(), value: ttl_ms.into() });
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_old_is_a_dead_letter_and_not_handed_out() {
    let broker = broker_with(0, QueuePolicy { message_ttl_ms: Some(LONG_MS), ..patient() }).await;
    let records = vec![
        with_ttl(record("old"), "0"),
        record("young"),
        with_ttl(record("also young"), "50000"),
        with_ttl(record("says nothing"), "soon"),
    ];
    broker.append("orders", 0, set(records)).await;
    let messages = receive(&broker, 10).await;
    assert_eq!(seen(&messages), expect(&[("young", 1), ("also young", 1), ("says nothing", 1)]));
    until("it to be done", async || (get(&broker).await.partitions[0].low_watermark == 1).then_some(())).await;
    let letters = records_of(&broker.fetch("work.dlq", 0, 0).await.batches);
    let reason = letters[0].1.headers.iter().find(|header| header.key == "dead-letter-reason");
    assert_eq!((letters.len(), reason.map(|header| &header.value[..])), (1, Some(&b"expired"[..])));
    assert_eq!(get(&broker).await.counts.expect("it has counts").dead_lettered, 1);
}

/// Without a limit of the queue, what a message says of its age is a header like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_ages_hands_out_everything() {
    let broker = broker_with(0, patient()).await;
    broker.append("orders", 0, set(vec![with_ttl(record("old"), "0")])).await;
    assert_eq!(seen(&receive(&broker, 10).await), expect(&[("old", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_ten_priorities_come_highest_first() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 10).await;
    create(&broker, "work", QueuePolicy { priority: QueuePriority::Partition.into(), ..patient() }).await.expect("ok");
    for priority in [3_u32, 0, 9, 5, 1, 7, 2, 8, 4, 6] {
        broker.append("orders", priority, set(vec![record(format!("p{priority}"))])).await;
    }
    let mut order = Vec::new();
    for _ in 0..10 {
        order.extend(receive(&broker, 1).await.iter().map(|message| message.partition));
    }
    assert_eq!(order, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_pauses_itself_while_everything_fails_and_a_person_can_end_that() {
    let breaker = QueuePolicy {
        breaker_failures_percent: Some(50),
        breaker_deliveries: Some(2),
        breaker_pause_ms: Some(LONG_MS),
        ..patient()
    };
    let broker = broker_with(4, breaker).await;
    assert_eq!(get(&broker).await.breaker(), BreakerState::Closed);
    let messages = receive(&broker, 2).await;
    assert_eq!(settle(&broker, vec![nack(&messages[0], None), nack(&messages[1], None)]).await, []);
    let open = async || Some(get(&broker).await).filter(|found| found.breaker_open_until_ms > 0);
    let described = until("the breaker to open", open).await;
    assert_eq!((described.breaker(), described.counts.expect("it has counts").failed), (BreakerState::Open, 2));
    assert_eq!(receive_now(&broker).await, []);
    assert!(broker.has_metric("millstream_queue_paused{queue=\"work\"} 1").await);
    assert!(broker.has_metric("millstream_queue_failed_deliveries_total{queue=\"work\"} 2").await);

    broker.queues().resume_queue(ResumeQueueRequest { name: "work".into() }).await.expect("it answers");
    assert_eq!(get(&broker).await.breaker(), BreakerState::Closed);
    assert_eq!(receive(&broker, 4).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_pause_the_breaker_tries_one_message_and_goes_on_when_that_is_done() {
    let breaker = QueuePolicy {
        breaker_failures_percent: Some(1),
        breaker_deliveries: Some(1),
        breaker_pause_ms: Some(1),
        ..patient()
    };
    let broker = broker_with(5, breaker).await;
    let messages = receive(&broker, 1).await;
    assert_eq!(settle(&broker, vec![nack(&messages[0], None)]).await, []);
    let probe = receive(&broker, 5).await;
    assert_eq!(probe.len(), 1, "the end of the pause wakes a receiver, for one message");
    assert_eq!(receive_now(&broker).await, []);
    assert_eq!(settle(&broker, vec![ack(&probe[0])]).await, []);
    assert_eq!(receive(&broker, 5).await.len(), 4);
    assert_eq!(get(&broker).await.breaker(), BreakerState::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_hold_up_others_are_listed_by_name() {
    let broker = broker_with(0, QueuePolicy { ordering: QueueOrdering::Key.into(), ..patient() }).await;
    let records = [("a", "a1"), ("b", "b1"), ("b", "b2"), ("a", "a2"), ("b", "b3"), ("c", "c1")];
    broker.append("orders", 0, set(records.map(|(key, value)| keyed(key, value)).into())).await;
    let messages = receive(&broker, 10).await;
    assert_eq!(settle(&broker, vec![nack(&messages[0], Some(LONG_MS))]).await, []);
    let list = async |max_keys| {
        let request = ListBlockedKeysRequest { queue: "work".into(), max_keys };
        broker.queues().list_blocked_keys(request).await.map(|answer| answer.into_inner().keys)
    };
    let keys = list(0).await.expect("it answers");
    let told: Vec<_> = keys
        .iter()
        .map(|found| {
            let first = found.first.clone().expect("it has a message");
            let record = Record::decode(first.record.clone()).expect("it carries a record");
            let key = record.key.unwrap_or_default();
            (String::from_utf8_lossy(&key).into_owned(), first.state(), first.offset, first.attempts, found.blocked)
        })
        .collect();
    let expected = [("b".to_owned(), MessageState::Leased, 1, 1, 2), ("a".to_owned(), MessageState::Waiting, 0, 1, 1)];
    assert_eq!(told, expected);
    assert_eq!(list(1).await.expect("it answers").len(), 1);
    assert_eq!(refusal(list(1_001).await).reason, "INVALID_ARGUMENT");
}

/// What an update does not mention stays; what is not possible is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn ages_priorities_and_the_breaker_can_be_changed_and_taken_away() {
    let broker = broker_with(1, patient()).await;
    let update = async |policy: QueuePolicy| {
        let request = UpdateQueueRequest { name: "work".into(), policy: Some(policy) };
        let updated = broker.queues().update_queue(request).await;
        updated.map(|answer| answer.into_inner().queue.and_then(|queue| queue.policy).expect("it has one"))
    };
    let set = QueuePolicy {
        message_ttl_ms: Some(5_000),
        priority: QueuePriority::Partition.into(),
        breaker_pause_ms: Some(7_000),
        ..QueuePolicy::default()
    };
    let policy = update(set).await.expect("it is possible");
    assert_eq!(policy.dead_letter_topic.as_deref(), Some("work.dlq"), "what is given up goes somewhere");
    let policy = update(QueuePolicy { lease_ms: Some(60_000), ..QueuePolicy::default() }).await.expect("possible");
    assert_eq!((policy.message_ttl_ms, policy.priority()), (Some(5_000), QueuePriority::Partition));
    let breaker = (policy.breaker_failures_percent, policy.breaker_deliveries, policy.breaker_pause_ms);
    assert_eq!(breaker, (Some(50), Some(20), Some(7_000)));
    let taken = QueuePolicy {
        message_ttl_ms: Some(0),
        priority: QueuePriority::None.into(),
        breaker_failures_percent: Some(0),
        ..QueuePolicy::default()
    };
    let policy = update(taken).await.expect("it is possible");
    assert_eq!((policy.message_ttl_ms, policy.priority()), (Some(0), QueuePriority::None));
    assert_eq!((policy.breaker_failures_percent, policy.breaker_pause_ms), (Some(0), None));
    for bad in [
        QueuePolicy { message_ttl_ms: Some(u64::MAX), ..QueuePolicy::default() },
        QueuePolicy { priority: 9, ..QueuePolicy::default() },
        QueuePolicy { breaker_failures_percent: Some(101), ..QueuePolicy::default() },
        QueuePolicy { breaker_deliveries: Some(0), ..QueuePolicy::default() },
    ] {
        assert_eq!(refusal(update(bad.clone()).await).reason, "INVALID_ARGUMENT", "{bad:?}");
    }
}

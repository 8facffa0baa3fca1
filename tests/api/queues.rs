//! Queues by calls: create, receive, settle, and what each verb promises.

use crate::common::queue_stream::{ack, extend, nack, reject, release};
use crate::common::records::{keyed, numbered, record, records_of, set, sized, timed};
use crate::common::refusal::refusal;
use crate::common::{TestBroker, until};
use millstream::proto::{
    CreateQueueRequest, DeleteQueueRequest, Durability, Edge, GetQueueRequest, GetQueueResponse, ListQueuesRequest,
    MessageState, PauseQueueRequest, PeekRequest, Position, QueueMessage, QueueOrdering, QueuePolicy, ReceiveRequest,
    Record, ResumeQueueRequest, SettleRequest, Settlement, UpdateQueueRequest, position::At,
};
use prost::Message as _;
use tonic::{Code, Status};

/// Longer than any test waits.
pub(crate) const LONG_MS: u64 = 60_000;

/// A broker with records `m0`, `m1`, ... in topic `orders`, and a queue `work` from the first of them on.
pub(crate) async fn broker_with(records: usize, policy: QueuePolicy) -> TestBroker {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    if records > 0 {
        broker.append("orders", 0, set(numbered("m", records))).await;
    }
    create(&broker, "work", policy).await.expect("the queue can be created");
    broker
}

/// Leases that outlast a test, and retries at once.
pub(crate) fn patient() -> QueuePolicy {
    let (lease_ms, retry_min_ms, retry_max_ms) = (Some(LONG_MS), Some(0), Some(0));
    QueuePolicy { lease_ms, retry_min_ms, retry_max_ms, ..QueuePolicy::default() }
}

pub(crate) async fn create(broker: &TestBroker, name: &str, policy: QueuePolicy) -> Result<(), Status> {
    let start = Some(Position { at: Some(At::Edge(Edge::Earliest as i32)) });
    let request = CreateQueueRequest {
        name: name.into(),
        topics: vec!["orders".into()],
        policy: Some(policy),
        start,
        ..Default::default()
    };
    broker.queues().create_queue(request).await.map(drop)
}

/// Up to so many messages of `work`; waits for the first.
pub(crate) async fn receive(broker: &TestBroker, max_messages: u32) -> Vec<QueueMessage> {
    let request = ReceiveRequest { queue: "work".into(), max_messages, max_wait_ms: 30_000, max_bytes: 0 };
    broker.queues().receive(request).await.expect("it answers").into_inner().messages
}

/// The same without waiting.
pub(crate) async fn receive_now(broker: &TestBroker) -> Vec<QueueMessage> {
    let request = ReceiveRequest { queue: "work".into(), max_messages: 100, ..ReceiveRequest::default() };
    broker.queues().receive(request).await.expect("it answers").into_inner().messages
}

/// The number and reason of each verb that was refused.
pub(crate) async fn settle(broker: &TestBroker, settlements: Vec<Settlement>) -> Vec<(u32, String)> {
    let request = SettleRequest { queue: "work".into(), settlements };
    let refused = broker.queues().settle(request).await.expect("it answers").into_inner().refused;
    refused.into_iter().map(|refused| (refused.index, refused.error.unwrap_or_default().reason)).collect()
}

pub(crate) async fn get(broker: &TestBroker) -> GetQueueResponse {
    broker.queues().get_queue(GetQueueRequest { name: "work".into() }).await.expect("there is one").into_inner()
}

/// The value of a message, and its attempt.
pub(crate) fn seen(messages: &[QueueMessage]) -> Vec<(String, u32)> {
    let value = |message: &QueueMessage| {
        let record = Record::decode(message.record.clone()).expect("it carries a record");
        String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned()
    };
    messages.iter().map(|message| (value(message), message.attempt)).collect()
}

pub(crate) fn expect(values: &[(&str, u32)]) -> Vec<(String, u32)> {
    values.iter().map(|(value, attempt)| ((*value).to_owned(), *attempt)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_goes_to_one_receiver_and_is_done_when_acked() {
    let broker = broker_with(3, patient()).await;
    let first = receive(&broker, 2).await;
    let second = receive(&broker, 10).await;
    assert_eq!(seen(&first), expect(&[("m0", 1), ("m1", 1)]));
    assert_eq!(seen(&second), expect(&[("m2", 1)]));
    assert_eq!(receive_now(&broker).await, []);
    assert_eq!((first[0].topic.as_str(), first[0].partition, first[1].offset), ("orders", 0, 1));

    assert_eq!(settle(&broker, vec![ack(&first[0]), ack(&second[0])]).await, []);
    let partition = &get(&broker).await.partitions[0];
    assert_eq!((partition.low_watermark, partition.frontier, partition.leased), (1, 3, 1));
    assert_eq!(settle(&broker, vec![ack(&first[1])]).await, []);
    let described = get(&broker).await;
    assert_eq!((described.partitions[0].low_watermark, described.partitions[0].backlog), (3, 0));
    assert_eq!(described.counts.expect("it has counts").acked, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nacked_message_comes_again_and_counts_a_released_one_does_not() {
    let broker = broker_with(2, patient()).await;
    let messages = receive(&broker, 2).await;
    assert_eq!(settle(&broker, vec![nack(&messages[0], None), release(&messages[1])]).await, []);
    let mut again = receive(&broker, 1).await;
    while again.len() < 2 {
        again.extend(receive(&broker, 1).await);
    }
    again.sort_by_key(|message| message.offset);
    assert_eq!(seen(&again), expect(&[("m0", 2), ("m1", 1)]));
    assert_eq!(again[0].first_delivered_ms, messages[0].first_delivered_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nacked_message_waits_as_long_as_it_was_told() {
    let broker = broker_with(1, patient()).await;
    let messages = receive(&broker, 1).await;
    let nacked = tokio::time::Instant::now();
    assert_eq!(settle(&broker, vec![nack(&messages[0], Some(150))]).await, []);
    assert_eq!(get(&broker).await.partitions[0].waiting, 1);
    assert_eq!(seen(&receive(&broker, 1).await), expect(&[("m0", 2)]), "the end of the wait wakes a receiver");
    assert!(nacked.elapsed().as_millis() >= 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_expires_frees_its_message() {
    let broker = broker_with(1, QueuePolicy { lease_ms: Some(50), ..patient() }).await;
    let messages = receive(&broker, 1).await;
    assert_eq!(seen(&receive(&broker, 1).await), expect(&[("m0", 2)]));
    assert_eq!(settle(&broker, vec![ack(&messages[0])]).await, [(0, "LEASE_OVER".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extended_lease_lasts_until_the_maximum_and_no_longer() {
    let policy = QueuePolicy { lease_ms: Some(50), max_lease_ms: Some(300), ..patient() };
    let broker = broker_with(1, policy).await;
    let taken = tokio::time::Instant::now();
    let messages = receive(&broker, 1).await;
    assert_eq!(settle(&broker, vec![extend(&messages[0], LONG_MS)]).await, []);
    assert_eq!(seen(&receive(&broker, 1).await), expect(&[("m0", 2)]));
    assert!(taken.elapsed().as_millis() >= 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_refused_alone() {
    let broker = broker_with(3, patient()).await;
    create(&broker, "other", patient()).await.expect("the queue can be created");
    let messages = receive(&broker, 3).await;
    let request = ReceiveRequest { queue: "other".into(), max_messages: 1, ..ReceiveRequest::default() };
    let foreign = broker.queues().receive(request).await.expect("it answers").into_inner().messages;
    let nothing = QueueMessage { lease_token: "not a token".into(), ..QueueMessage::default() };

    let verbs = vec![ack(&messages[0]), ack(&foreign[0]), ack(&nothing), ack(&messages[0]), ack(&messages[1])];
    let unknown = |index| (index, "LEASE_UNKNOWN".to_owned());
    assert_eq!(settle(&broker, verbs).await, [unknown(1), unknown(2), (3, "LEASE_OVER".to_owned())]);
    assert_eq!(settle(&broker, vec![reject(&messages[2])]).await, [(0, "NO_DEAD_LETTER_TOPIC".to_owned())]);
    assert_eq!(get(&broker).await.partitions[0].low_watermark, 2, "the others stand");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_backoff_and_acks_survive_a_restart_and_leases_do_not() {
    let policy = QueuePolicy { retry_min_ms: Some(LONG_MS), retry_max_ms: Some(LONG_MS), ..patient() };
    let mut broker = broker_with(4, policy).await;
    let messages = receive(&broker, 4).await;
    let verbs = vec![ack(&messages[0]), nack(&messages[1], None), release(&messages[2])];
    assert_eq!(settle(&broker, verbs).await, []);
    for attempt in 2..4 {
        broker.restart().await;
        assert_eq!(settle(&broker, vec![ack(&messages[3])]).await, [(0, "LEASE_OVER".to_owned())]);
        let again = receive(&broker, 10).await;
        assert_eq!(seen(&again), expect(&[("m2", attempt - 1), ("m3", attempt)]), "m1 still waits");
        assert_eq!(again[1].first_delivered_ms, messages[3].first_delivered_ms);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_written_before_their_messages_are_done() {
    let broker = broker_with(0, QueuePolicy { attempts_max: Some(2), ..patient() }).await;
    let mut records = vec![keyed("k", "poison"), record("rejected")];
    records[0].headers.push(millstream::proto::Header { key: "trace".into(), value: "abc".into() });
    broker.append("orders", 0, set(records)).await;
    let messages = receive(&broker, 2).await;
    assert_eq!(settle(&broker, vec![nack(&messages[0], None), reject(&messages[1])]).await, []);
    let last = receive(&broker, 1).await;
    assert_eq!(seen(&last), expect(&[("poison", 2)]));
    assert_eq!(settle(&broker, vec![nack(&last[0], None)]).await, []);
    until("both to be done", async || (get(&broker).await.partitions[0].low_watermark == 2).then_some(())).await;

    let letters = records_of(&broker.fetch("work.dlq", 0, 0).await.batches);
    let header = |letter: &Record, name: &str| {
        let found = letter.headers.iter().find(|header| header.key == name);
        found.map(|header| String::from_utf8_lossy(&header.value).into_owned()).unwrap_or_default()
    };
    let (rejected, poison) = (&letters[0].1, &letters[1].1);
    assert_eq!((&rejected.value, &poison.value), (&Some("rejected".into()), &Some("poison".into())));
    assert_eq!((&poison.key, header(poison, "trace").as_str()), (&Some("k".into()), "abc"));
    for (letter, reason, detail, attempts, offset) in
        [(rejected, "rejected", "no such customer", "1", "1"), (poison, "attempts_exhausted", "not today", "2", "0")]
    {
        let facts = ["reason", "detail", "attempts", "queue", "topic", "partition", "offset"]
            .map(|name| header(letter, &format!("dead-letter-{name}")));
        assert_eq!(facts, [reason, detail, attempts, "work", "orders", "0", offset]);
    }
    let times = ["first", "last"].map(|which| header(poison, &format!("dead-letter-{which}-delivered-ms")));
    assert_eq!(times[0], messages[0].first_delivered_ms.to_string());
    assert!(times[1] >= times[0]);
    assert_eq!(get(&broker).await.counts.expect("it has counts").dead_lettered, 2);
}

/// Together they are more than a batch may have. Put into one, they ended the broker, again at each start.
#[tokio::test(flavor = "multi_thread")]
async fn many_large_dead_letters_are_written_in_batches_that_fit() {
    const MESSAGES: u64 = 12;
    let broker = broker_with(0, QueuePolicy { attempts_max: Some(2), ..patient() }).await;
    for _ in 0..MESSAGES {
        broker.append("orders", 0, sized(1, 900_000)).await;
    }
    let mut settlements = Vec::new();
    while settlements.len() < 12 {
        settlements.extend(receive(&broker, 1).await.iter().map(reject));
    }
    assert_eq!(settle(&broker, settlements).await, []);
    let is_done = async || (get(&broker).await.partitions[0].low_watermark == MESSAGES).then_some(());
    until("all to be done", is_done).await;
    assert_eq!(broker.partition_state("work.dlq", 0).await.high_watermark, MESSAGES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ends_its_broker_every_time_is_given_up() {
    let mut broker = broker_with(1, QueuePolicy { attempts_max: Some(2), ..patient() }).await;
    for attempt in 1..=2 {
        assert_eq!(seen(&receive(&broker, 1).await), expect(&[("m0", attempt)]));
        broker.restart().await;
    }
    until("it to be done", async || (get(&broker).await.partitions[0].low_watermark == 1).then_some(())).await;
    assert_eq!(broker.fetch("work.dlq", 0, 0).await.high_watermark, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_key_one_message_is_out_and_in_order_also_after_a_failure() {
    let broker = broker_with(0, QueuePolicy { ordering: QueueOrdering::Key.into(), ..patient() }).await;
    let records = [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")];
    let mut records: Vec<_> = records.map(|(key, value)| keyed(key, value)).into();
    records.push(record("free"));
    broker.append("orders", 0, set(records)).await;
    let first = receive(&broker, 10).await;
    assert_eq!(seen(&first), expect(&[("a1", 1), ("b1", 1), ("free", 1)]));
    assert_eq!(get(&broker).await.partitions[0].blocked, 3);
    assert_eq!(settle(&broker, vec![nack(&first[0], Some(100)), ack(&first[1])]).await, []);
    assert_eq!(seen(&receive(&broker, 10).await), expect(&[("b2", 1)]), "b flows, a waits");
    for (value, attempt) in [("a1", 2), ("a2", 1), ("a3", 1)] {
        let next = receive(&broker, 10).await;
        assert_eq!(seen(&next), expect(&[(value, attempt)]));
        assert_eq!(settle(&broker, vec![ack(&next[0])]).await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_by_key_holds_across_a_restart() {
    let policy = QueuePolicy { ordering: QueueOrdering::Key.into(), ..patient() };
    let mut broker = broker_with(0, policy).await;
    let records = [("a", "a1"), ("a", "a2"), ("b", "b1")].map(|(key, value)| keyed(key, value));
    broker.append("orders", 0, set(records.into())).await;
    let first = receive(&broker, 10).await;
    assert_eq!(settle(&broker, vec![nack(&first[0], Some(LONG_MS)), release(&first[1])]).await, []);
    broker.restart().await;
    let again = receive(&broker, 10).await;
    assert_eq!(seen(&again), expect(&[("b1", 1)]), "a2 is behind a1, which waits");
    assert_eq!(receive_now(&broker).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_is_handed_out_at_the_bound_and_bytes_bound_an_answer() {
    let broker = broker_with(5, QueuePolicy { max_in_flight: Some(2), ..patient() }).await;
    let messages = receive(&broker, 10).await;
    assert_eq!(messages.len(), 2);
    assert_eq!(receive_now(&broker).await, []);
    assert_eq!(settle(&broker, vec![nack(&messages[0], Some(LONG_MS))]).await, []);
    assert_eq!(receive_now(&broker).await, [], "what waits is in flight");
    for line in ["backlog_messages{N} 3", "leased_messages{N} 1", "waiting_messages{N} 1", "dying_messages{N} 0"] {
        let line = line.replace("{N}", r#"{queue="work",topic="orders",partition="0"}"#);
        assert!(broker.has_metric(&format!("millstream_queue_{line}")).await, "{line}");
    }
    assert_eq!(settle(&broker, vec![ack(&messages[1])]).await, []);
    assert_eq!(seen(&receive(&broker, 10).await), expect(&[("m2", 1)]));

    let request = ReceiveRequest { queue: "wide".into(), max_messages: 10, max_bytes: 10, max_wait_ms: 0 };
    create(&broker, "wide", patient()).await.expect("the queue can be created");
    let bounded = broker.queues().receive(request).await.expect("it answers").into_inner().messages;
    assert_eq!(seen(&bounded), expect(&[("m0", 1), ("m1", 1)]), "4 bytes each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_receiver_is_woken_by_records_and_by_the_end_of_a_pause() {
    let broker = broker_with(0, patient()).await;
    let (received, ()) = tokio::join!(receive(&broker, 1), async {
        broker.append("orders", 0, set(numbered("m", 2))).await;
    });
    assert_eq!(seen(&received), expect(&[("m0", 1)]));
    let name = || "work".to_owned();
    let paused = broker.queues().pause_queue(PauseQueueRequest { name: name() }).await.expect("it pauses").into_inner();
    assert!(paused.queue.expect("it is there").paused);
    assert_eq!(receive_now(&broker).await, []);
    assert_eq!(settle(&broker, vec![ack(&received[0])]).await, [], "what is out can be settled");
    let (received, ()) = tokio::join!(receive(&broker, 1), async {
        broker.queues().resume_queue(ResumeQueueRequest { name: name() }).await.expect("it resumes");
    });
    assert_eq!(seen(&received), expect(&[("m1", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_begins_where_it_was_told_and_follows_all_its_topics() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    broker.create_topic("returns", 1).await;
    broker.append("orders", 0, set(vec![timed(1, "old"), timed(5, "new")])).await;
    for (name, at, expected) in [
        ("earliest", Some(At::Edge(Edge::Earliest as i32)), &["old", "new"][..]),
        ("latest", None, &[]),
        ("timed", Some(At::TimestampMs(3)), &["new"]),
    ] {
        let (topics, start) = (vec!["orders".to_owned()], at.map(|at| Position { at: Some(at) }));
        let request = CreateQueueRequest { name: name.into(), topics, start, ..Default::default() };
        broker.queues().create_queue(request).await.expect("it can be created");
        let request = ReceiveRequest { queue: name.into(), max_messages: 10, ..ReceiveRequest::default() };
        let received = broker.queues().receive(request).await.expect("it answers").into_inner().messages;
        assert_eq!(seen(&received).into_iter().map(|(value, _)| value).collect::<Vec<_>>(), expected, "{name}");
    }
    let topics = vec!["orders".to_owned(), "returns".to_owned()];
    let request = CreateQueueRequest { name: "work".into(), topics, policy: Some(patient()), ..Default::default() };
    broker.queues().create_queue(request).await.expect("it can be created");
    for (topic, partition) in [("orders", 0), ("orders", 1), ("returns", 0)] {
        broker.append(topic, partition, set(numbered(topic, 1))).await;
    }
    let mut received = Vec::new();
    while received.len() < 3 {
        received.extend(receive(&broker, 10).await);
    }
    let mut places: Vec<_> = received.iter().map(|found| (found.topic.as_str(), found.partition)).collect();
    places.sort_unstable();
    assert_eq!(places, [("orders", 0), ("orders", 1), ("returns", 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_changes_nothing_and_tells_where_each_message_is() {
    let broker = broker_with(4, QueuePolicy { ordering: QueueOrdering::Key.into(), ..patient() }).await;
    let messages = receive(&broker, 3).await;
    let verbs = vec![ack(&messages[0]), nack(&messages[1], Some(LONG_MS))];
    assert_eq!(settle(&broker, verbs).await, []);
    for _ in 0..2 {
        let request = PeekRequest { queue: "work".into(), max_messages: 0 };
        let peeked = broker.queues().peek(request).await.expect("it answers").into_inner().messages;
        let peeked: Vec<_> = peeked.iter().map(|found| (found.offset, found.state(), found.attempts)).collect();
        assert_eq!(
            peeked,
            [(1, MessageState::Waiting, 1), (2, MessageState::Leased, 1), (3, MessageState::Available, 0),]
        );
    }
    assert_eq!(seen(&receive(&broker, 10).await), expect(&[("m3", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_listed_updated_and_deleted() {
    let mut broker = broker_with(1, patient()).await;
    create(&broker, "other", patient()).await.expect("the queue can be created");
    let durability = Durability::Written.into();
    let policy = QueuePolicy { lease_ms: Some(1_234), durability, ..QueuePolicy::default() };
    let request = UpdateQueueRequest { name: "work".into(), policy: Some(policy) };
    broker.queues().update_queue(request).await.expect("it can be updated");
    broker.queues().delete_queue(DeleteQueueRequest { name: "other".into() }).await.expect("it can be deleted");
    broker.restart().await;
    let listed = broker.queues().list_queues(ListQueuesRequest::default()).await.expect("lists").into_inner().queues;
    let names: Vec<_> = listed.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["work"]);
    let policy = listed[0].policy.clone().expect("it has one");
    assert_eq!((policy.lease_ms, policy.retry_max_ms), (Some(1_234), Some(0)), "what is not mentioned stays");
    assert_eq!(policy.durability(), Durability::Written);
    // It works as any other: what was settled is done.
    let messages = receive(&broker, 10).await;
    assert_eq!(settle(&broker, vec![ack(&messages[0])]).await, []);
    broker.restart().await;
    assert_eq!(receive_now(&broker).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_created_again_knows_nothing_of_the_one_before() {
    let broker = broker_with(2, patient()).await;
    let messages = receive(&broker, 1).await;
    broker.queues().delete_queue(DeleteQueueRequest { name: "work".into() }).await.expect("it can be deleted");
    create(&broker, "work", patient()).await.expect("the queue can be created");
    assert_eq!(settle(&broker, vec![ack(&messages[0])]).await, [(0, "LEASE_UNKNOWN".to_owned())]);
    assert_eq!(seen(&receive(&broker, 10).await), expect(&[("m0", 1), ("m1", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_deleted_are_not_waited_for() {
    let broker = broker_with(6, patient()).await;
    let messages = receive(&broker, 2).await;
    assert_eq!(settle(&broker, vec![release(&messages[0]), release(&messages[1])]).await, []);
    broker.delete_records("orders", 0, 4).await;
    assert_eq!(seen(&receive(&broker, 10).await), expect(&[("m4", 1), ("m5", 1)]));
    let described = get(&broker).await;
    assert_eq!((described.partitions[0].low_watermark, described.counts.expect("it has counts").absent), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused() {
    let broker = broker_with(0, patient()).await;
    let policies = [
        QueuePolicy { lease_ms: Some(1), ..QueuePolicy::default() },
        QueuePolicy { max_in_flight: Some(1_000_000), ..QueuePolicy::default() },
        QueuePolicy { dead_letter_topic: Some("orders".into()), ..QueuePolicy::default() },
        QueuePolicy { ordering: 9, ..QueuePolicy::default() },
    ];
    for policy in policies {
        let refused = refusal(create(&broker, "bad", policy.clone()).await);
        assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_ARGUMENT"), "{policy:?}");
    }
    let again = refusal(create(&broker, "work", patient()).await);
    assert_eq!((again.kind(), again.fact("queue")), ((Code::AlreadyExists, "QUEUE_ALREADY_EXISTS"), "work"));
    assert_eq!(refusal(create(&broker, "a/b", patient()).await).reason, "INVALID_NAME");
    let topics = vec!["nope".to_owned()];
    let request = CreateQueueRequest { name: "q".into(), topics, ..CreateQueueRequest::default() };
    assert_eq!(refusal(broker.queues().create_queue(request).await).reason, "TOPIC_NOT_FOUND");
    let ordered = QueuePolicy { ordering: QueueOrdering::Key.into(), ..QueuePolicy::default() };
    let request = UpdateQueueRequest { name: "work".into(), policy: Some(ordered) };
    assert_eq!(refusal(broker.queues().update_queue(request).await).reason, "INVALID_ARGUMENT");
    let nowhere = || "nowhere".to_owned();
    let request = ReceiveRequest { queue: nowhere(), ..ReceiveRequest::default() };
    let refused = refusal(broker.queues().receive(request).await);
    assert_eq!(refused.kind(), (Code::NotFound, "QUEUE_NOT_FOUND"));
    let request = SettleRequest { queue: "work".into(), settlements: Vec::new() };
    assert_eq!(refusal(broker.queues().settle(request).await).reason, "INVALID_ARGUMENT");
    let request = SettleRequest { queue: "work".into(), settlements: vec![Settlement::default()] };
    assert_eq!(refusal(broker.queues().settle(request).await).reason, "INVALID_ARGUMENT");
}

//! Queues with a filter: what does not match is done without being handed out, in whatever numbers.

use crate::common::queue_stream::{QueueStream, ack, nack, open_with_window};
use crate::common::records::{headed, set};
use crate::common::refusal::refusal;
use crate::common::subscriber::edge;
use crate::common::{TestBroker, until};
use crate::filters::{kinds, odd};
use crate::queues::{expect, get, patient, receive, receive_now, seen, settle};
use millstream::proto::{
    CreateQueueRequest, Edge, ListQueuesRequest, PeekRequest, QueueOrdering, QueuePolicy, Record, UpdateQueueRequest,
};
use tonic::Code;

const EVEN: &str = r#"attributes.kind = "even""#;

/// A broker with these records in topic `orders`, and a queue `work` of the even ones from the first on.
async fn broker_with(records: Vec<Record>, policy: QueuePolicy) -> TestBroker {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    if !records.is_empty() {
        broker.append("orders", 0, set(records)).await;
    }
    broker.queues().create_queue(request(EVEN, policy)).await.expect("the queue can be created");
    broker
}

fn request(filter: &str, policy: QueuePolicy) -> CreateQueueRequest {
    CreateQueueRequest {
        name: "work".into(),
        topics: vec!["orders".into()],
        policy: Some(policy),
        start: Some(edge(Edge::Earliest)),
        filter: filter.into(),
        ..CreateQueueRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_messages_that_match_are_handed_out_and_the_others_are_done() {
    let mut broker = broker_with(kinds(10), patient()).await;
    let peeked = broker.queues().peek(PeekRequest { queue: "work".into(), max_messages: 3 }).await;
    let peeked: Vec<_> = peeked.expect("it answers").into_inner().messages.iter().map(|seen| seen.offset).collect();
    assert_eq!(peeked, [0, 2, 4], "what will not be handed out is not shown");

    let messages = receive(&broker, 10).await;
    assert_eq!(seen(&messages), expect(&[("0", 1), ("2", 1), ("4", 1), ("6", 1), ("8", 1)]));
    let described = get(&broker).await;
    let counts = described.counts.expect("it has counts");
    assert_eq!((counts.delivered, counts.filtered, counts.absent), (5, 5, 0));
    assert_eq!(described.queue.expect("it is there").filter, EVEN);
    assert_eq!(settle(&broker, messages[1..].iter().map(ack).collect()).await, []);
    assert!(broker.has_metric("millstream_queue_filtered_messages_total{queue=\"work\"} 5").await);
    drop(messages);
    broker.restart().await;

    let listed = broker.queues().list_queues(ListQueuesRequest::default()).await.expect("answers").into_inner();
    assert_eq!(listed.queues[0].filter, EVEN, "it is kept");
    broker.append("orders", 0, set(kinds(2))).await;
    let mut again = receive(&broker, 10).await;
    while again.len() < 2 {
        again.extend(receive(&broker, 10).await);
    }
    assert_eq!(seen(&again), expect(&[("0", 2), ("0", 1)]), "what was passed over before is not looked at again");
    assert_eq!(settle(&broker, again.iter().map(ack).collect()).await, []);
    let described = get(&broker).await;
    assert_eq!((described.partitions[0].low_watermark, described.partitions[0].backlog), (12, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_way_without_a_match_is_passed_over_by_one_call_for_one_message() {
    let mut broker = broker_with(Vec::new(), patient()).await;
    for _ in 0..40 {
        broker.append("orders", 0, set(odd(500))).await;
    }
    assert_eq!(receive_now(&broker).await, []);
    let described = get(&broker).await;
    let partition = &described.partitions[0];
    assert_eq!((partition.low_watermark, partition.backlog, partition.available), (20_000, 0, 0));
    assert_eq!(described.counts.expect("it has counts").filtered, 20_000);
    broker.restart().await;

    assert_eq!(get(&broker).await.partitions[0].low_watermark, 20_000, "it is durable");
    broker.append("orders", 0, set(odd(700))).await;
    broker.append("orders", 0, set(kinds(3))).await;
    assert_eq!(receive(&broker, 1).await[0].offset, 20_700);
    assert_eq!(receive(&broker, 1).await[0].offset, 20_702);
    assert_eq!(get(&broker).await.counts.expect("it has counts").filtered, 701);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_a_small_window_gets_every_match_and_waits_for_the_next() {
    let broker = broker_with(Vec::new(), patient()).await;
    for _ in 0..20 {
        broker.append("orders", 0, set(odd(99))).await;
        broker.append("orders", 0, set(kinds(1))).await;
    }
    let mut streams = [
        QueueStream::open(&broker, open_with_window("work", 1)).await.expect("opens"),
        QueueStream::open(&broker, open_with_window("work", 1)).await.expect("opens"),
    ];
    let mut offsets = Vec::new();
    while offsets.len() < 20 {
        for stream in &mut streams {
            let messages = stream.take(1).await;
            assert_eq!(stream.settle(vec![ack(&messages[0])]).await, []);
            offsets.push(messages[0].offset);
        }
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=20).map(|nth| nth * 100 - 1).collect::<Vec<_>>());

    broker.append("orders", 0, set(odd(5))).await;
    broker.append("orders", 0, set(kinds(1))).await;
    let [first, second] = &mut streams;
    let message = tokio::select! {
        taken = first.take(1) => taken,
        taken = second.take(1) => taken,
    };
    assert_eq!(message[0].offset, 2_005);
    until("the rest to be passed over", async || {
        let described = get(&broker).await;
        (described.counts.expect("it has counts").filtered == 20 * 99 + 5).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_order_by_key_no_match_overtakes_another_of_its_key() {
    let keyed = |key: &'static str, value: &'static str, kind: &str| Record {
        key: Some(key.into()),
        ..headed(value, &[("kind", kind)])
    };
    let records = vec![
        keyed("a", "a1", "odd"),
        keyed("a", "a2", "even"),
        keyed("b", "b1", "odd"),
        keyed("a", "a3", "odd"),
        keyed("a", "a4", "even"),
        keyed("b", "b2", "even"),
    ];
    let policy = QueuePolicy { ordering: QueueOrdering::Key as i32, ..patient() };
    let mut broker = broker_with(records, policy).await;
    let first = receive(&broker, 10).await;
    assert_eq!(seen(&first), expect(&[("a2", 1), ("b2", 1)]), "those ahead of them are done, not waited for");
    assert_eq!(settle(&broker, vec![nack(&first[0], Some(0)), ack(&first[1])]).await, []);
    assert_eq!(seen(&receive(&broker, 10).await), expect(&[("a2", 2)]), "a4 waits behind it");
    broker.restart().await;

    let again = receive(&broker, 10).await;
    assert_eq!(seen(&again), expect(&[("a2", 3)]), "over a restart too");
    assert_eq!(settle(&broker, vec![ack(&again[0])]).await, []);
    assert_eq!(seen(&receive(&broker, 10).await), expect(&[("a4", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_checked_when_the_queue_is_created_and_never_changes() {
    let broker = broker_with(Vec::new(), patient()).await;
    let wrong = CreateQueueRequest { name: "other".into(), ..request("attributes.kind == \"x\"", patient()) };
    let refused = refusal(broker.queues().create_queue(wrong).await);
    assert_eq!(refused.kind(), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    assert_eq!((refused.fact("field"), refused.fact("position")), ("filter", "18"));
    let listed = broker.queues().list_queues(ListQueuesRequest::default()).await.expect("answers").into_inner();
    assert_eq!(listed.queues.len(), 1, "nothing was created");

    let policy = Some(QueuePolicy { lease_ms: Some(50_000), ..QueuePolicy::default() });
    let request = UpdateQueueRequest { name: "work".into(), policy };
    let updated = broker.queues().update_queue(request).await.expect("it can be updated").into_inner();
    assert_eq!(updated.queue.expect("it is there").filter, EVEN);
}

//! Producers against a fake broker: order, acknowledgements, retries, limits.

use super::*;
use crate::client::fake_broker::{FakeBroker, Reaction};
use crate::proto;
use crate::types::Offset;
use std::time::Duration;

async fn producer(broker: &FakeBroker, options: ProducerOptions) -> Producer {
    let client = Client::connect(&broker.address).await.expect("the broker is there");
    client.producer("orders", options).await.expect("the topic is there")
}

/// One record, one batch: so that tests can say what happens to each.
fn one_by_one() -> ProducerOptions {
    ProducerOptions { batch_bytes: 1, ..ProducerOptions::default() }
}

fn busy() -> proto::Error {
    proto::Error { code: 8, retryable: true, message: "busy".to_owned(), ..proto::Error::default() }
}

async fn send_all(producer: &Producer, values: &[&str]) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for value in values {
        receipts.push(producer.send(NewRecord::value(value.as_bytes())).await.expect("taken"));
    }
    receipts
}

#[tokio::test]
async fn records_are_appended_in_order_and_acknowledged_with_their_offsets() {
    let broker = FakeBroker::start(1).await;
    let producer = producer(&broker, ProducerOptions::default()).await;
    let receipts = send_all(&producer, &["a", "b", "c"]).await;
    producer.flush().await.expect("all acknowledged");
    for (offset, receipt) in (0..).zip(receipts) {
        assert_eq!(receipt.wait().await.expect("acknowledged").offset, Offset(offset));
    }
    assert_eq!(broker.values(0), ["a", "b", "c"]);
    assert_eq!(broker.produce_requests(), 1, "they went together");
    assert_eq!(producer.totals().records_acked, 3);
}

#[tokio::test]
async fn a_batch_is_sent_without_a_flush_when_it_has_lingered() {
    let broker = FakeBroker::start(1).await;
    let producer = producer(&broker, ProducerOptions::default()).await;
    let receipts = send_all(&producer, &["a"]).await;
    assert_eq!(receipts[0].wait().await.expect("acknowledged").offset, Offset(0));
}

#[tokio::test]
async fn what_was_in_flight_on_a_lost_connection_is_sent_again_in_order() {
    let broker = FakeBroker::start(1).await;
    broker.react([Reaction::Break]);
    let producer = producer(&broker, one_by_one()).await;
    send_all(&producer, &["a", "b", "c"]).await;
    producer.flush().await.expect("all acknowledged in the end");
    assert_eq!(broker.values(0), ["a", "b", "c"]);
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_happens_twice_and_in_order() {
    let broker = FakeBroker::start(1).await;
    broker.react([Reaction::AppendAndBreak]);
    let producer = producer(&broker, one_by_one()).await;
    send_all(&producer, &["a", "b"]).await;
    producer.flush().await.expect("all acknowledged in the end");
    assert_eq!(broker.values(0), ["a", "a", "b"]);
}

#[tokio::test]
async fn one_request_at_a_time_keeps_order_over_a_retry() {
    let broker = FakeBroker::start(1).await;
    broker.react([Reaction::Refuse(busy()), Reaction::Refuse(busy())]);
    let producer = producer(&broker, ProducerOptions { max_in_flight: 1, ..one_by_one() }).await;
    send_all(&producer, &["a", "b", "c"]).await;
    producer.flush().await.expect("all acknowledged in the end");
    assert_eq!(broker.values(0), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_hard_error_is_told_to_receipt_and_flush_and_the_rest_goes_on() {
    let broker = FakeBroker::start(1).await;
    broker.react([Reaction::Refuse(proto::Error { code: 3, message: "bad".to_owned(), ..proto::Error::default() })]);
    let producer = producer(&broker, one_by_one()).await;
    let receipts = send_all(&producer, &["a", "b"]).await;
    assert_eq!(producer.flush().await.expect_err("the first was refused").to_string(), "bad");
    assert!(receipts[0].wait().await.is_err());
    assert_eq!(receipts[1].wait().await.expect("the second was not").offset, Offset(0));
    producer.flush().await.expect("a failure is told once");
    assert_eq!((producer.totals().records_acked, producer.totals().records_failed), (1, 1));
}

#[tokio::test]
async fn delivery_is_given_up_in_the_end() {
    let broker = FakeBroker::start(1).await;
    broker.react((0..100).map(|_| Reaction::Refuse(busy())));
    let options = ProducerOptions { delivery_timeout: Duration::ZERO, ..one_by_one() };
    let producer = producer(&broker, options).await;
    send_all(&producer, &["a"]).await;
    assert_eq!(producer.flush().await.expect_err("it was never accepted").to_string(), "busy");
}

#[tokio::test]
async fn senders_wait_while_too_much_is_not_acknowledged() {
    let broker = FakeBroker::start(1).await;
    let options = ProducerOptions { buffer_bytes_max: 1, linger: Duration::from_hours(1), ..Default::default() };
    let producer = producer(&broker, options).await;
    let record = NewRecord::value(b"x");
    assert!(producer.try_send(&record).expect("the first is taken").is_some());
    assert!(producer.try_send(&record).expect("the second is fine").is_none(), "and has to wait");
    producer.ready().await;
    assert_eq!(broker.values(0), ["x"], "being full is a reason to send what lingers");
}

#[tokio::test]
async fn a_record_the_topic_would_refuse_is_refused_here() {
    let broker = FakeBroker::start(1).await;
    let producer = producer(&broker, ProducerOptions::default()).await;
    let error = producer.send(NewRecord::value(&[0; 2000])).await.expect_err("the topic takes 1000 bytes");
    assert!(matches!(error, ClientError::RecordTooLarge { limit_bytes: 1000, .. }));
}

#[tokio::test]
async fn keys_choose_partitions_and_a_dropped_producer_still_delivers() {
    let broker = FakeBroker::start(3).await;
    let producer = producer(&broker, ProducerOptions::default()).await;
    let receipt = producer.send(NewRecord::value(b"v").with_key(b"21")).await.expect("taken");
    drop(producer);
    let expected = crate::types::partitioner::partition_of_key(b"21", 3);
    assert_eq!(receipt.wait().await.expect("acknowledged").partition, expected);
}

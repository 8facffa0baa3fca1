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
async fn an_append_whose_answer_was_lost_happens_once_and_in_order() {
    let broker = FakeBroker::start(1).await;
    broker.react([Reaction::AppendAndBreak, Reaction::AppendAndBreak]);
    let producer = producer(&broker, one_by_one()).await;
    let receipts = send_all(&producer, &["a", "b"]).await;
    producer.flush().await.expect("all acknowledged in the end");
    assert_eq!(broker.values(0), ["a", "b"]);
    for (offset, receipt) in (0..).zip(receipts) {
        assert_eq!(receipt.wait().await.expect("acknowledged").offset, Offset(offset), "where it was the first time");
    }
}

#[tokio::test]
async fn without_idempotence_an_append_whose_answer_was_lost_happens_twice_and_in_order() {
    let broker = FakeBroker::start(1).await;
    broker.react([Reaction::AppendAndBreak]);
    let producer = producer(&broker, ProducerOptions { idempotent: false, ..one_by_one() }).await;
    send_all(&producer, &["a", "b"]).await;
    producer.flush().await.expect("all acknowledged in the end");
    assert_eq!(broker.values(0), ["a", "a", "b"]);
}

/// Whatever happens to a pipeline, in whichever order: once, in order.
#[tokio::test]
async fn order_is_kept_over_refusals_and_broken_streams_with_many_batches_in_flight() {
    let broker = FakeBroker::start(1).await;
    let reactions = || [Reaction::Refuse(busy()), Reaction::AppendAndBreak, Reaction::Refuse(busy()), Reaction::Break];
    broker.react(reactions().into_iter().chain(reactions()));
    let producer = producer(&broker, one_by_one()).await;
    let values: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    send_all(&producer, &values.iter().map(String::as_str).collect::<Vec<_>>()).await;
    producer.flush().await.expect("all acknowledged in the end");
    assert_eq!(broker.values(0), values);
}

#[tokio::test]
async fn what_is_behind_a_batch_that_failed_for_good_is_sent_under_its_numbers() {
    let broker = FakeBroker::start(2).await;
    let bad = || proto::Error { code: 3, message: "bad".to_owned(), ..proto::Error::default() };
    broker.react([Reaction::Refuse(bad())]);
    let producer = producer(&broker, ProducerOptions { partition: Some(1), ..one_by_one() }).await;
    let receipts = send_all(&producer, &["bad", "a", "b", "c"]).await;
    assert_eq!(producer.flush().await.expect_err("the first was refused").to_string(), "bad");
    for (offset, receipt) in (0..).zip(&receipts[1..]) {
        assert_eq!(receipt.wait().await.expect("acknowledged").offset, Offset(offset));
    }
    assert_eq!((broker.values(1), broker.identities()), (["a", "b", "c"].map(str::to_owned).to_vec(), 1));
}

/// With a topic that is only `WRITTEN`, a power cut takes what was acknowledged, and the broker expects an earlier
/// sequence. What was not acknowledged is then certainly not there.
#[tokio::test]
async fn a_broker_that_lost_what_it_had_gets_the_rest_once() {
    let broker = FakeBroker::start(1).await;
    let producer = producer(&broker, one_by_one()).await;
    send_all(&producer, &["lost"]).await;
    producer.flush().await.expect("acknowledged");
    broker.lose_all(0);
    send_all(&producer, &["a", "b"]).await;
    producer.flush().await.expect("acknowledged");
    assert_eq!((broker.values(0), broker.identities()), (["a", "b"].map(str::to_owned).to_vec(), 1));
    // While something is in doubt, the old numbers could come back to life: a fresh identity is taken.
    broker.lose_all(0);
    broker.react([Reaction::Break]);
    send_all(&producer, &["c", "d"]).await;
    producer.flush().await.expect("acknowledged");
    assert_eq!((broker.values(0), broker.identities()), (["c", "d"].map(str::to_owned).to_vec(), 2));
}

#[tokio::test]
async fn a_batch_in_doubt_that_the_broker_does_not_know_fails_and_is_not_repeated() {
    let broker = FakeBroker::start(1).await;
    let unknown = proto::Error {
        code: 9,
        reason: "PRODUCER_UNKNOWN".to_owned(),
        message: "not known".to_owned(),
        metadata: [("base_sequence".to_owned(), "1".to_owned())].into(),
        ..proto::Error::default()
    };
    let producer = producer(&broker, one_by_one()).await;
    send_all(&producer, &["a"]).await;
    producer.flush().await.expect("acknowledged");
    broker.react([Reaction::AppendAndBreak, Reaction::Refuse(unknown)]);
    let in_doubt = send_all(&producer, &["b"]).await;
    assert_eq!(producer.flush().await.expect_err("nobody knows").to_string(), "not known");
    assert!(in_doubt[0].wait().await.is_err());
    send_all(&producer, &["c"]).await;
    producer.flush().await.expect("it goes on, under a fresh identity");
    assert_eq!((broker.values(0), broker.identities()), (["a", "b", "c"].map(str::to_owned).to_vec(), 2));
}

#[tokio::test]
async fn a_fenced_producer_stops_with_everything_it_has() {
    let broker = FakeBroker::start(2).await;
    let (code, reason) = (10, "PRODUCER_FENCED".to_owned());
    broker.react([Reaction::Refuse(proto::Error { code, reason, message: "fenced".into(), ..Default::default() })]);
    let producer = producer(&broker, ProducerOptions { name: Some("billing".to_owned()), ..one_by_one() }).await;
    let first = send_all(&producer, &["a"]).await;
    assert_eq!(first[0].wait().await.expect_err("fenced").to_string(), "fenced");
    for receipt in send_all(&producer, &["b", "c"]).await {
        assert_eq!(receipt.wait().await.expect_err("it has stopped").to_string(), "fenced");
    }
    assert!(broker.values(0).is_empty() && broker.values(1).is_empty());
}

#[tokio::test]
async fn a_batch_given_up_does_not_stop_those_behind_it() {
    let broker = FakeBroker::start(1).await;
    let options = ProducerOptions { delivery_timeout: Duration::ZERO, ..one_by_one() };
    let producer = producer(&broker, options).await;
    broker.react([Reaction::Refuse(busy())]);
    send_all(&producer, &["given up"]).await;
    assert!(producer.flush().await.is_err());
    send_all(&producer, &["a", "b"]).await;
    producer.flush().await.expect("acknowledged");
    assert_eq!(broker.values(0), ["a", "b"]);
}

#[tokio::test]
async fn options_that_do_not_go_together_are_refused() {
    let broker = FakeBroker::start(1).await;
    let client = Client::connect(&broker.address).await.expect("the broker is there");
    let name = ProducerOptions { idempotent: false, name: Some("billing".to_owned()), ..Default::default() };
    let offset = ProducerOptions { expected_offset: Some(Offset(0)), ..Default::default() };
    for options in [name, offset] {
        let refused = client.producer("orders", options).await;
        assert!(matches!(refused, Err(ClientError::BadProducerOptions { .. })));
    }
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

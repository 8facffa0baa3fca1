//! Appending records by a stream of requests.

use crate::common::records::{numbered, record, set, values_of};
use crate::common::refusal::Refusal;
use crate::common::{TestBroker, within};
use bytes::Bytes;
use millstream::client::{NewRecord, ProducerOptions};
use millstream::proto::{ProduceRequest, ProduceStreamRequest, ProduceStreamResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

struct Stream {
    requests: mpsc::Sender<ProduceStreamRequest>,
    responses: Streaming<ProduceStreamResponse>,
}

impl Stream {
    async fn open(broker: &TestBroker) -> Self {
        let (requests, outbox) = mpsc::channel(2_000);
        let responses = broker.producer().produce_stream(ReceiverStream::new(outbox)).await.expect("opens");
        Self { requests, responses: responses.into_inner() }
    }

    async fn send(&self, correlation_id: u64, topic: &str, partition: Option<u32>, records: Bytes) {
        let request = ProduceRequest { topic: topic.into(), partition, records, ..Default::default() };
        let message = ProduceStreamRequest { correlation_id, request: Some(request) };
        self.requests.send(message).await.expect("the stream is open");
    }

    async fn next(&mut self) -> ProduceStreamResponse {
        let answer = within("an answer of the stream", self.responses.message()).await;
        answer.expect("the stream goes on").expect("the stream goes on")
    }
}

fn one(value: impl Into<Bytes>) -> Bytes {
    set(vec![record(value)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_in_flight_are_answered_in_the_order_sent() {
    const REQUESTS: u64 = 1_000;
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let mut stream = Stream::open(&broker).await;
    // Nothing is read before everything was sent.
    for i in 0..REQUESTS {
        stream.send(i * 7, "orders", Some(0), one(format!("{i}"))).await;
    }
    for i in 0..REQUESTS {
        let answer = stream.next().await;
        assert_eq!((answer.correlation_id, answer.error), (i * 7, None));
        assert_eq!((answer.results.len(), answer.results[0].base_offset), (1, i));
    }
    let stored = values_of(&broker.fetch("orders", 0, 0).await.batches);
    let expected: Vec<_> = (0..REQUESTS).map(|i| (i, i.to_string())).collect();
    assert_eq!(stored, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_refused_ends_neither_the_stream_nor_those_after_it() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    let mut stream = Stream::open(&broker).await;
    stream.send(1, "orders", Some(0), one("a")).await;
    stream.send(2, "nope", Some(0), one("b")).await;
    stream.send(3, "orders", Some(9), one("c")).await;
    stream.send(4, "orders", Some(0), Bytes::new()).await;
    stream.requests.send(ProduceStreamRequest { correlation_id: 5, request: None }).await.expect("open");
    stream.send(6, "orders", Some(0), one("d")).await;

    let mut outcomes = Vec::new();
    for _ in 0..6 {
        let ProduceStreamResponse { correlation_id, results, error } = stream.next().await;
        assert_eq!(error.is_some(), results.is_empty());
        outcomes.push((correlation_id, error.map(|error| Refusal::from(error).reason).unwrap_or_default()));
    }
    let expected = [
        (1, ""),
        (2, "TOPIC_NOT_FOUND"),
        (3, "PARTITION_NOT_FOUND"),
        (4, "RECORDS_EMPTY"),
        (5, "RECORDS_EMPTY"),
        (6, ""),
    ];
    assert_eq!(outcomes, expected.map(|(id, reason)| (id, reason.to_owned())));
    assert_eq!(values_of(&broker.fetch("orders", 0, 0).await.batches), [(0, "a".to_owned()), (1, "d".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_topic_means_that_of_the_one_before() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.create_topic("bills", 1).await;
    let mut stream = Stream::open(&broker).await;
    stream.send(0, "", Some(0), one("nowhere")).await;
    let first = stream.next().await.error.expect("there is no request before the first");
    assert_eq!((Code::from(first.code), first.reason.as_str()), (Code::InvalidArgument, "INVALID_NAME"));

    for (id, topic) in [(1, "orders"), (2, ""), (3, "bills"), (4, ""), (5, "")] {
        stream.send(id, topic, Some(0), one(id.to_string())).await;
        assert_eq!(stream.next().await.error, None);
    }
    let texts = |stored: Vec<(u64, String)>| stored.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    assert_eq!(texts(values_of(&broker.fetch("orders", 0, 0).await.batches)), ["1", "2"]);
    assert_eq!(texts(values_of(&broker.fetch("bills", 0, 0).await.batches)), ["3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_the_client_closed_its_side_is_answered() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let Stream { requests, mut responses } = {
        let stream = Stream::open(&broker).await;
        for id in 0..10 {
            stream.send(id, "orders", Some(0), set(numbered("r", 2))).await;
        }
        stream
    };
    drop(requests);
    for id in 0..10 {
        let answer = within("an answer", responses.message()).await.expect("no error").expect("an answer");
        assert_eq!((answer.correlation_id, answer.results[0].base_offset), (id, id * 2));
    }
    assert!(within("the end", responses.message()).await.expect("no error").is_none(), "then the stream ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_told_when_the_broker_stops() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let mut stream = Stream::open(&broker).await;
    stream.send(1, "orders", Some(0), one("a")).await;
    assert_eq!(stream.next().await.error, None);
    broker.begin_drain();
    let end = within("the end of the stream", stream.responses.message()).await.expect_err("it ends with a reason");
    let end = Refusal::from(end);
    assert_eq!(end.kind(), (Code::Unavailable, "DRAINING"));
    assert_eq!((end.fact("retryable"), end.fact("no_side_effects")), ("true", "true"));
    broker.stop().await;
}

/// More than the in-flight budget: the stream is held back, nothing is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_sends_more_than_the_broker_holds_waits_and_loses_nothing() {
    let broker = TestBroker::start_with(|setting| setting.options.produce_in_flight_bytes_max = 64 << 10).await;
    broker.create_topic("orders", 1).await;
    let mut stream = Stream::open(&broker).await;
    for id in 0..100 {
        stream.send(id, "orders", Some(0), one(vec![b'x'; 10_000])).await;
    }
    for id in 0..100 {
        let answer = stream.next().await;
        assert_eq!((answer.correlation_id, answer.error), (id, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_delivers_every_record_once_it_is_flushed() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 4).await;
    let producer = broker.client().await.producer("orders", ProducerOptions::default()).await.expect("opens");
    let mut receipts = Vec::new();
    for i in 0..500 {
        let (key, value) = (format!("key-{}", i % 20), i.to_string());
        receipts.push(producer.send(NewRecord::value(value.as_bytes()).with_key(key.as_bytes())).await.expect("sent"));
    }
    within("a flush", producer.flush()).await.expect("all are delivered");
    for (i, receipt) in receipts.into_iter().enumerate() {
        let ack = receipt.wait().await.expect("acknowledged");
        let stored = values_of(&broker.fetch("orders", ack.partition, ack.offset.0).await.batches);
        assert_eq!(stored[0].1, i.to_string());
    }
}

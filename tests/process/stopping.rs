//! How a broker stops: told once it drains, told twice it goes, and either way the next start finds everything.

use crate::broker::{Broker, Launch};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use millstream::client::admin::TopicSettings;
use millstream::client::{Client, Consumer, ConsumerOptions, Event};
use millstream::proto::producer_service_client::ProducerServiceClient;
use millstream::proto::{ProduceRequest, ProduceStreamRequest, ProduceStreamResponse};
use millstream::types::record_set::encode_record;
use millstream::types::{Offset, Position, TopicName};
use std::path::Path;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// What a start says when it had to read the log to know where it ends.
const VERIFIED: &str = "verified what a crash left behind";

/// Many more than a broker answers before a signal reaches it.
const REQUESTS: u64 = 2_000;

fn orders() -> TopicName {
    TopicName::new("orders").expect("valid")
}

async fn create_orders(client: &Client) {
    client.create_topic(&orders(), 1, &TopicSettings::default()).await.expect("created");
}

/// A reader of all of it, which has been told what it reads.
async fn reader(client: &Client) -> Consumer {
    let options =
        ConsumerOptions { start: Position::Earliest, reconnect: false, ..ConsumerOptions::new(vec![orders()]) };
    let mut consumer = client.consumer(options).await.expect("the topic is there");
    let told = consumer.next().await.expect("the broker serves");
    assert!(matches!(told, Event::Assigned { .. }), "{told:?}");
    consumer
}

/// Reads on until the broker says that it stops.
async fn told_to_go(consumer: &mut Consumer) {
    while !matches!(consumer.next().await.expect("the stream lives until it is told"), Event::Draining) {}
}

async fn end_of_orders(client: &Client) -> Offset {
    client.topic(&orders()).await.expect("the topic is there").1[0].high_watermark
}

/// A record that says its number, as a request.
fn request(number: u64) -> ProduceStreamRequest {
    let mut records = BytesMut::new();
    encode_record(&mut records, None, Some(number.to_string().as_bytes()), std::iter::empty(), None);
    let request =
        ProduceRequest { topic: "orders".into(), partition: Some(0), records: records.freeze(), ..Default::default() };
    ProduceStreamRequest { correlation_id: number, request: Some(request) }
}

async fn produce_client(broker: &Broker) -> ProducerServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", broker.address())).expect("an address");
    ProducerServiceClient::new(endpoint.connect().await.expect("the broker serves"))
}

/// Sends requests as fast as they are taken, has the broker told to stop at the first answer, and collects what is
/// answered until the stream ends, with the status it ends with.
async fn produce_into_a_stop(broker: &Broker) -> (Vec<ProduceStreamResponse>, Option<Status>) {
    let (sender, requests) = mpsc::channel(64);
    tokio::spawn(async move {
        for number in 0..REQUESTS {
            if sender.send(request(number)).await.is_err() {
                return;
            }
        }
        // Held open: it is the broker that ends this stream.
        sender.closed().await;
    });
    let mut producers = produce_client(broker).await;
    let opened = producers.produce_stream(ReceiverStream::new(requests)).await.expect("the broker serves");
    let mut responses = opened.into_inner();
    let mut answers = Vec::new();
    loop {
        match responses.next().await {
            Some(Ok(answer)) => answers.push(answer),
            Some(Err(status)) => return (answers, Some(status)),
            None => return (answers, None),
        }
        if answers.len() == 1 {
            broker.terminate();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_answers_what_was_taken_and_takes_no_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let client = broker.client().await;
    create_orders(&client).await;
    let mut consumer = reader(&client).await;
    let told = tokio::spawn(async move { told_to_go(&mut consumer).await });

    let (answers, end) = produce_into_a_stop(&broker).await;
    told.await.expect("an open subscription is told to drain");
    let status = end.expect("the broker says why it ends the stream");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");

    let ended = broker.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("stopped: everything is on disk"), "{}", ended.stderr);

    // Answers are in order and without a gap; those that were refused come last.
    let numbers: Vec<_> = answers.iter().map(|answer| answer.correlation_id).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    let acked = answers.iter().take_while(|answer| answer.error.is_none()).count();
    for (offset, answer) in (0..).zip(&answers[..acked]) {
        let [result] = &answer.results[..] else { panic!("one partition, one result: {answer:?}") };
        assert!(result.error.is_none() && result.base_offset == offset, "{result:?}");
    }
    assert!(answers[acked..].iter().all(|answer| answer.error.is_some()), "nothing is taken after a refusal");

    let broker = Launch::new(directory.path()).start();
    let client = broker.client().await;
    assert_eq!(end_of_orders(&client).await.0, acked as u64, "what was answered is there, what was not is not");
    assert!(!broker.log().contains(VERIFIED), "a clean stop leaves nothing to verify: {}", broker.log());
    broker.stop();
}

/// The other side of the test above: the line that a clean stop must not cause is there after a crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_after_a_crash_says_what_it_verified() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let client = broker.client().await;
    create_orders(&client).await;
    let request = request(0).request.expect("it has one");
    produce_client(&broker).await.produce(request).await.expect("appended");
    broker.kill();

    let broker = Launch::new(directory.path()).start();
    assert!(broker.log().contains(VERIFIED), "{}", broker.log());
    assert_eq!(end_of_orders(&broker.client().await).await, Offset(1));
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_the_process_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let client = broker.client().await;
    create_orders(&client).await;
    let mut consumer = reader(&client).await;

    broker.terminate();
    // The drain has begun, and this open stream holds it up.
    told_to_go(&mut consumer).await;
    broker.terminate();
    let ended = broker.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("told twice to stop"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("stopped: everything is on disk"), "{}", ended.stderr);
    drop(consumer);
    Launch::new(directory.path()).start().stop();
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ephemeral_broker_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().expect("a directory");
    let place = temporary.path().to_str().expect("text");
    let launch = Launch::bare().argument("--ephemeral").listen("127.0.0.1:0").admin("127.0.0.1:0");
    let launch = launch.variable("TMPDIR", place).in_directory(temporary.path());
    let broker = launch.start();
    create_orders(&broker.client().await).await;
    assert_eq!(names_in(temporary.path()).len(), 1, "the data is below TMPDIR while it runs");
    broker.stop();
    assert_eq!(names_in(temporary.path()), [""; 0], "nothing is left");

    // Not even when it is told twice, and ends at once.
    let broker = launch.start();
    let client = broker.client().await;
    create_orders(&client).await;
    let mut consumer = reader(&client).await;
    broker.terminate();
    told_to_go(&mut consumer).await;
    broker.terminate();
    assert_eq!(broker.wait().code, Some(1));
    assert_eq!(names_in(temporary.path()), [""; 0], "nothing is left");
}

//! Many at once: a thousand members of one group, a thousand groups, a hundred thousand leases in flight. What matters is
//! that all of it is served, in what time and memory; figures are printed.
//!
//! A test binary of its own, because in the large it takes a minute:
//!
//! ```sh
//! cargo test --release --test crowd -- --nocapture --test-threads 1                        # in the large
//! MILLSTREAM_CROWD=100 cargo test --test crowd -- --nocapture --test-threads 1             # as .ci/run does
//! ```

#[path = "process/broker.rs"]
#[expect(dead_code, reason = "shared with tests/process.rs, which uses all of it")]
mod broker;
#[path = "scale/process.rs"]
#[expect(dead_code, reason = "shared with tests/scale.rs, which uses all of it")]
mod process;

use broker::{Broker, Launch};
use millstream::client::admin::{QueueSettings, TopicSettings};
use millstream::client::{
    Client, Consumer, ConsumerOptions, Event, NewRecord, ProducerOptions, QueueEvent, QueueWindow, Verdict,
};
use millstream::types::{Position, TopicName};
use process::Usage;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Whoever waits so long has found a bug.
const PATIENCE: Duration = Duration::from_mins(3);

/// Streams that share a connection.
const STREAMS_PER_CONNECTION: usize = 200;

/// Leases for each member of the crowd.
const LEASES_PER_HEAD: usize = 100;

/// How many come at once.
fn crowd() -> usize {
    std::env::var("MILLSTREAM_CROWD").map_or(1_000, |text| text.parse().expect("a number"))
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("valid")
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// A client for each few hundred streams.
async fn clients(broker: &Broker, streams: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..streams.div_ceil(STREAMS_PER_CONNECTION) {
        clients.push(broker.client().await);
    }
    clients
}

/// One more record.
async fn send(client: &Client, name: &str) {
    let producer = client.producer(name, ProducerOptions::default()).await.expect("opens");
    producer.send(NewRecord::value(b"hello")).await.expect("sent").wait().await.expect("appended");
}

async fn create(client: &Client, name: &str, partitions: u32) {
    client.create_topic(&topic(name), partitions, &TopicSettings::default()).await.expect("created");
}

fn member(group: String, name: &str) -> ConsumerOptions {
    ConsumerOptions {
        group: Some(group),
        start: Position::Earliest,
        window_bytes: 64 << 10,
        reconnect: false,
        ..ConsumerOptions::new(vec![topic(name)])
    }
}

/// Reads until a record has come.
async fn first_record(consumer: &mut Consumer) {
    while !matches!(consumer.next().await.expect("the stream goes on"), Event::Records(_)) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_members_share_a_group() {
    let crowd = crowd();
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let clients = clients(&broker, crowd).await;
    create(&clients[0], "wide", u32::try_from(crowd).expect("small")).await;
    let before = Usage::of(&broker).own_kib();
    let begun = Instant::now();
    let mut members = JoinSet::new();
    for number in 0..crowd {
        let client = clients[number / STREAMS_PER_CONNECTION].clone();
        members.spawn(async move {
            let mut consumer = client.consumer(member("one".to_owned(), "wide")).await.expect("it joins");
            // Partitions that are asked back are given back as this is called; nobody leaves before all have come.
            loop {
                consumer.next().await.expect("the stream goes on");
            }
        });
    }
    let shared = async {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        loop {
            looks.tick().await;
            let described = clients[0].describe_group("one").await;
            let Ok(described) = described else { continue };
            let each = described.members.iter().filter(|member| member.partitions.len() == 1).count();
            if each == crowd {
                return described.group.generation;
            }
        }
    };
    let generation = within("everybody to have one partition", shared).await;
    let took = begun.elapsed();
    let memory = Usage::of(&broker).own_kib().saturating_sub(before);
    let looked = Instant::now();
    clients[0].describe_group("one").await.expect("it is there");
    println!(
        "crowd: {crowd} members share {crowd} partitions after {:.2} s, in generation {generation}; {} KiB each; \
         DescribeGroup {:.0} ms",
        took.as_secs_f64(),
        memory / crowd as u64,
        looked.elapsed().as_secs_f64() * 1e3
    );
    drop(members);
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_groups_read_one_topic() {
    let crowd = crowd();
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let clients = clients(&broker, crowd).await;
    create(&clients[0], "narrow", 1).await;
    send(&clients[0], "narrow").await;
    let before = Usage::of(&broker).own_kib();
    let begun = Instant::now();
    let mut readers = JoinSet::new();
    for number in 0..crowd {
        let client = clients[number / STREAMS_PER_CONNECTION].clone();
        readers.spawn(async move {
            let mut consumer = client.consumer(member(format!("group-{number}"), "narrow")).await.expect("it joins");
            first_record(&mut consumer).await;
            consumer
        });
    }
    let readers = within("everybody to have read", readers.join_all()).await;
    let took = begun.elapsed();
    let memory = Usage::of(&broker).own_kib().saturating_sub(before);
    let mut waiting = JoinSet::new();
    for mut reader in readers {
        waiting.spawn(async move {
            first_record(&mut reader).await;
            reader
        });
    }
    let sent = Instant::now();
    send(&clients[0], "narrow").await;
    let readers = within("a record to come to everybody", waiting.join_all()).await;
    println!(
        "crowd: {crowd} groups of one member have joined and read after {:.2} s; {} KiB each; a new record was with all of \
         them after {:.0} ms",
        took.as_secs_f64(),
        memory / crowd as u64,
        sent.elapsed().as_secs_f64() * 1e3
    );
    drop(readers);
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_leases_are_in_flight() {
    let leases = crowd() * LEASES_PER_HEAD;
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Launch::new(directory.path()).start();
    let client = broker.client().await;
    create(&client, "orders", 4).await;
    let producer = client.producer("orders", ProducerOptions::default()).await.expect("opens");
    let value = [7; 100];
    let mut receipts = Vec::new();
    for _ in 0..leases {
        receipts.push(producer.send(NewRecord::value(&value)).await.expect("sent"));
    }
    producer.flush().await.expect("appended");
    drop(receipts);
    let max_in_flight = Some(u32::try_from(leases).expect("small"));
    let settings = QueueSettings { max_in_flight, ..QueueSettings::default() };
    client.create_queue("work", &[topic("orders")], Position::Earliest, &settings).await.expect("created");

    let before = Usage::of(&broker).own_kib();
    let begun = Instant::now();
    let window = QueueWindow { messages: u32::MAX, bytes: u64::MAX };
    let mut stream = client.receive_stream("work", window).await.expect("opens");
    let mut held = Vec::with_capacity(leases);
    while held.len() < leases {
        if let QueueEvent::Messages(messages) = within("messages", stream.next()).await.expect("it goes on") {
            held.extend(messages);
        }
    }
    let (took, memory) = (begun.elapsed(), Usage::of(&broker).own_kib().saturating_sub(before));
    let leased: u64 =
        client.describe_queue("work").await.expect("described").partitions.iter().map(|found| found.leased).sum();
    assert_eq!(leased, leases as u64);
    let begun = Instant::now();
    for some in held.chunks(1_000) {
        let acks = some.iter().map(|message| message.settle(Verdict::Ack)).collect();
        assert!(client.settle("work", acks).await.expect("settled").is_empty());
    }
    println!(
        "crowd: {leases} leases in flight after {:.2} s, {} bytes each; acked a thousand at a time in {:.2} s",
        took.as_secs_f64(),
        memory * 1024 / leases as u64,
        begun.elapsed().as_secs_f64()
    );
    let described = client.describe_queue("work").await.expect("described");
    assert!(described.partitions.iter().all(|found| found.low_watermark == found.high_watermark));
    broker.stop();
}

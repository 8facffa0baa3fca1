//! Real processes, stopped by SIGSTOP for longer than what they have is theirs, and let go on.

use crate::broker::{Broker, Launch};
use crate::history::audit::topic_name;
use millstream::client::admin::{QueueSettings, TopicSettings};
use millstream::client::{
    Client, ConsumedBatch, Consumer, ConsumerOptions, Event, NewRecord, PartitionOffset, ProducerOptions, Verdict,
};
use millstream::types::{Offset, Position, TopicPartition};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A condition that is not met for so long never is.
const PATIENCE: Duration = Duration::from_mins(1);

/// A child process that writes into files; ended with its test, also when it is stopped.
struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    fn start(broker: &Broker, directory: &Path, arguments: &[&str]) -> Self {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| directory.join(format!("{}-{name}", arguments[0])));
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.args(arguments).arg("--broker").arg(broker.address().to_string());
        command.stdin(Stdio::null()).stdout(created(&stdout)).stderr(created(&stderr));
        let child = command.spawn().expect("the binary was built by cargo");
        Self { child, stdout, stderr }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child may be signalled");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file that is empty.
fn created(path: &Path) -> File {
    File::options().write(true).create_new(true).open(path).expect("it can be created")
}

/// Looks at a file until it says this.
async fn says(path: &Path, what: &str) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let begun = Instant::now();
    loop {
        looks.tick().await;
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.contains(what) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{} does not say {what:?}: {text}", path.display());
    }
}

async fn start(directory: &Path, partitions: u32) -> (Broker, Client) {
    let broker = Launch::new(&directory.join("data")).start();
    let client = broker.client().await;
    client.create_topic(&topic_name("orders"), partitions, &TopicSettings::default()).await.expect("created");
    (broker, client)
}

async fn send(client: &Client, partition: u32, values: &[&str]) {
    let producer = client.producer("orders", ProducerOptions::default()).await.expect("opens");
    for value in values {
        let record = NewRecord { partition: Some(partition), ..NewRecord::value(value.as_bytes()) };
        producer.send(record).await.expect("sent").wait().await.expect("appended");
    }
}

/// The worker is stopped while it has a message, and its command goes on and ends. Somebody else has the message by
/// then: the ack of the first comes too late, and is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_stopped_loses_its_message_and_its_ack_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = start(directory.path(), 1).await;
    let (lease_ms, max_lease_ms, retry_min_ms) = (Some(200), Some(600), Some(0));
    let settings = QueueSettings { lease_ms, max_lease_ms, retry_min_ms, ..QueueSettings::default() };
    client.create_queue("work", &[topic_name("orders")], Position::Earliest, &settings).await.expect("created");
    send(&client, 0, &["poem"]).await;

    let (begun, may_end) = (directory.path().join("begun"), directory.path().join("may-end"));
    let waits = format!("while [ ! -e {} ]; do sleep 0.02; done", may_end.display());
    let exec = format!("echo attempt $MILLSTREAM_ATTEMPT >> {}; {waits}", begun.display());
    let worker = Process::start(&broker, directory.path(), &["worker", "work", "--exec", &exec]);
    says(&begun, "attempt 1").await;
    worker.signal(Signal::STOP);
    let stopped = Instant::now();
    let messages = client.receive("work", 1, PATIENCE).await.expect("answered");
    // Until its connection is given up, the stopped one has its turn too.
    let attempt = messages[0].attempt;
    assert!(attempt >= 2, "the first attempt was the stopped worker's");
    let moved = stopped.elapsed();
    let refused = client.settle("work", vec![messages[0].settle(Verdict::Ack)]).await.expect("answered");
    assert!(refused.is_empty(), "{refused:?}");

    drop(created(&may_end));
    worker.signal(Signal::CONT);
    says(&worker.stderr, "lease").await;
    let described = client.describe_queue("work").await.expect("it answers");
    let done = described.partitions[0].low_watermark.0;
    assert_eq!((described.delivered, described.acked, done), (attempt.into(), 1, 1), "acked once");
    println!("stopped: a worker's message was with another one after {moved:?}, and its late ack was refused");
    broker.stop();
}

/// A member that is stopped does not let go of a partition that is to move: the broker takes it away, and what the
/// member commits when it goes on counts no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_stopped_loses_a_partition_and_its_commit_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = start(directory.path(), 2).await;
    for partition in 0..2 {
        send(&client, partition, &["a", "b", "c"]).await;
    }
    // It has all of it, and has committed none: its interval is longer than this test.
    let asks = ["consume", "orders", "-g", "readers", "--commit-interval", "100s", "-f", "%p/%o\\n"];
    let member = Process::start(&broker, directory.path(), &asks);
    for last in ["0/2\n", "1/2\n"] {
        says(&member.stdout, last).await;
    }
    member.signal(Signal::STOP);
    let stopped = Instant::now();

    let options = ConsumerOptions {
        group: Some("readers".to_owned()),
        start: Position::Earliest,
        ..ConsumerOptions::new(vec![topic_name("orders")])
    };
    let mut other = client.consumer(options).await.expect("it joins");
    let taken = tokio::time::timeout(PATIENCE, take_over(&mut other)).await.expect("it gets a partition");
    let moved = stopped.elapsed();
    send(&client, taken.partition, &["d"]).await;
    let read = tokio::time::timeout(PATIENCE, read_to(&mut other, Offset(4))).await.expect("it reads on");
    assert_eq!(read, [0, 1, 2, 3], "nobody had committed anything: all of it comes again");
    assert!(other.commit_marked().await.expect("answered").is_empty(), "the partition is its own");

    member.signal(Signal::CONT);
    let left = 1 - taken.partition;
    send(&client, left, &["d"]).await;
    says(&member.stdout, &format!("{left}/3\n")).await;
    member.signal(Signal::INT);
    let its_own = TopicPartition { topic: topic_name("orders"), partition: left };
    for (partition, expected) in [(taken, Offset(4)), (its_own, Offset(4))] {
        committed(&client, &partition, expected).await;
    }
    println!("stopped: a member's partition was with another one after {moved:?}, and its late commit undid nothing");
    broker.stop();
}

/// Waits until a partition is assigned.
async fn take_over(consumer: &mut Consumer) -> TopicPartition {
    loop {
        if let Event::Assigned { partitions, .. } = consumer.next().await.expect("the stream goes on")
            && let Some(PartitionOffset { partition, .. }) = partitions.into_iter().next()
        {
            return partition;
        }
    }
}

/// Reads up to an offset, marks it, and gives the offsets that came.
async fn read_to(consumer: &mut Consumer, end: Offset) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        if let Event::Records(records) = consumer.next().await.expect("the stream goes on") {
            seen.extend(records.batches.iter().flat_map(ConsumedBatch::records).map(|record| record.offset.0));
            consumer.mark(&records.partition, records.next_offset());
            if records.next_offset() >= end {
                return seen;
            }
        }
    }
}

/// Looks until the group has committed so far, and no other way.
async fn committed(client: &Client, partition: &TopicPartition, expected: Offset) {
    let begun = Instant::now();
    loop {
        let committed = client.fetch_offsets("readers", &[]).await.expect("answered");
        let found = committed.iter().find(|found| found.partition == *partition).map(|found| found.offset);
        if found == Some(expected) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{partition}: {found:?}, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

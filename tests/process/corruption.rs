//! Damage to the files of a broker: it is named, it is never served as data, and it stays where it is.

use crate::broker::{Broker, Launch, reason_of};
use millstream::client::admin::{QueueSettings, TopicSettings};
use millstream::client::{Client, ClientError, NewRecord, PartitionOffset, PartitionReader, ProducerOptions};
use millstream::types::{Offset, Position, TopicName, TopicPartition};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Enough, with `VALUE_BYTES`, for three segments of 1 MiB.
const RECORDS: u64 = 40;
const VALUE_BYTES: usize = 64 << 10;
const SEGMENT_BYTES: u64 = 1 << 20;

/// Lengths of the headers of a segment and of a frame (docs/storage-format.md).
const HEADER_BYTES: u64 = 64;

fn topic() -> TopicName {
    TopicName::new("orders").expect("valid")
}

fn at(partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(), partition }
}

/// A broker whose topic has two partitions: many segments in the first, one in the second. One record is one frame.
async fn filled(directory: &Path) -> (Broker, Client) {
    let broker = Launch::new(directory).start();
    let client = broker.client().await;
    let settings = TopicSettings { segment_bytes: Some(SEGMENT_BYTES), ..TopicSettings::default() };
    client.create_topic(&topic(), 2, &settings).await.expect("created");
    for number in 0..RECORDS {
        append(&client, 0, number).await.expect("appended");
    }
    append(&client, 1, 0).await.expect("appended");
    (broker, client)
}

/// Appends a record that consists of its number.
async fn append(client: &Client, partition: u32, number: u64) -> Result<Offset, ClientError> {
    let value = vec![number.to_le_bytes()[0]; VALUE_BYTES];
    let options = ProducerOptions { partition: Some(partition), batch_bytes: 1, ..ProducerOptions::default() };
    let producer = client.producer(topic().as_str(), options).await?;
    let receipt = producer.send(NewRecord::value(&value)).await?;
    Ok(receipt.wait().await?.offset)
}

/// Reads records of a partition up to `end`; checks each.
async fn read(client: &Client, partition: u32, from: u64, end: u64) -> Result<u64, ClientError> {
    let mut reader = PartitionReader::new(client, at(partition), Offset(from)..Offset(end));
    let mut next = from;
    while let Some(batch) = reader.next().await? {
        for record in batch.records() {
            assert_eq!(record.offset.0, next, "a gap is an error, not a jump");
            let value = record.value.expect("it has one");
            assert_eq!(value, vec![next.to_le_bytes()[0]; VALUE_BYTES], "offset {next}");
            next += 1;
        }
    }
    Ok(next - from)
}

/// The segment files of a partition in order.
async fn segments(client: &Client, directory: &Path, partition: u32) -> Vec<PathBuf> {
    let (description, _) = client.topic(&topic()).await.expect("the topic is there");
    let log = directory.join("topics").join(description.topic_id).join(partition.to_string());
    let entries = std::fs::read_dir(log).expect("the log has a directory");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

/// Flips bits of a byte, in place, while whoever has the file open and mapped looks on.
fn flip(path: &Path, position: u64, bits: u8) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("the file is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("inside the file");
    file.write_all_at(&[byte[0] ^ bits], position).expect("writable");
}

/// The bytes of the frame that holds one record of [`VALUE_BYTES`].
fn frame_bytes(path: &Path) -> u64 {
    let bytes = std::fs::read(path).expect("readable");
    let field = bytes[64 + 8..64 + 12].try_into().expect("four bytes");
    u32::from_le_bytes(field).into()
}

#[track_caller]
fn assert_data_loss(error: &ClientError, partition: &str, offset: &str) {
    assert_eq!(reason_of(error), "DATA_CORRUPT", "{error}");
    let refusal = error.refusal().expect("it has a reason");
    assert_eq!(refusal.code, tonic::Code::DataLoss);
    assert_eq!(refusal.metadata.get("partition").map(String::as_str), Some(partition), "{error}");
    assert!(refusal.message.contains(offset), "{offset:?} is not said: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_a_sealed_segment_is_named_and_everything_else_is_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = filled(directory.path()).await;
    let files = segments(&client, directory.path(), 0).await;
    assert!(files.len() >= 3, "{files:?}");
    let frame_bytes = frame_bytes(&files[0]);
    // In the payload of the record with offset 3.
    flip(&files[0], HEADER_BYTES + 3 * frame_bytes + HEADER_BYTES + 1000, 0x04);
    let damaged = std::fs::read(&files[0]).expect("readable");

    let mut broker = broker;
    for start in ["the same", "after a clean stop", "after a crash"] {
        let client = broker.client().await;
        let error = read(&client, 0, 0, RECORDS).await.expect_err("offset 3 is damaged");
        assert_data_loss(&error, "0", "offsets 3 to 4 (exclusive) are damaged");
        assert_eq!(read(&client, 0, 0, 3).await.expect("what is before it"), 3, "{start}");
        assert_eq!(read(&client, 0, 4, RECORDS).await.expect("what is behind it"), RECORDS - 4, "{start}");
        assert_eq!(read(&client, 1, 0, 1).await.expect("the other partition"), 1, "{start}");
        append(&client, 0, 7).await.expect("its end is as good as before");
        assert!(std::fs::read(&files[0]).expect("readable") == damaged, "the file is as it was, {start}");
        if start == "the same" {
            broker.stop();
        } else {
            broker.kill();
        }
        broker = Launch::new(directory.path()).start();
    }
    broker.stop();
}

/// The header of a frame tells a reader how to go on. Readers once believed its offset before they had looked at the
/// checksum: a damaged one that was too low was passed over, so that the next record came as if nothing were missing,
/// and one that was too high was taken for the end of the log, so that the reader waited for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_flipped_byte_of_a_frame_header_leads_a_reader_astray() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = filled(directory.path()).await;
    let files = segments(&client, directory.path(), 0).await;
    let frame = HEADER_BYTES + 3 * frame_bytes(&files[0]);
    // The offset 3 becomes a lower one with the first of these, and a higher one with the second.
    for (byte, bits) in (0..HEADER_BYTES).flat_map(|byte| [(byte, 0x01), (byte, 0x04)]) {
        flip(&files[0], frame + byte, bits);
        for from in [0, 3] {
            let error = read(&client, 0, from, RECORDS).await.expect_err(&format!("byte {byte}, read from {from}"));
            assert_data_loss(&error, "0", "offsets 3 to 4 (exclusive)");
        }
        flip(&files[0], frame + byte, bits);
    }
    assert_eq!(read(&client, 0, 0, RECORDS).await.expect("nothing is damaged any more"), RECORDS);
    broker.stop();
}

/// The second frame says that the first was durable before it was written: that is damage, not a tear. It once took the
/// whole partition offline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_before_valid_frames_costs_what_is_damaged_and_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = filled(directory.path()).await;
    append(&client, 1, 1).await.expect("appended");
    let [active] = &segments(&client, directory.path(), 1).await[..] else { panic!("one segment was expected") };
    broker.kill();
    flip(active, HEADER_BYTES + HEADER_BYTES + 1000, 0x04);
    let damaged = std::fs::read(active).expect("readable");
    let first_frames = usize::try_from(HEADER_BYTES + 2 * frame_bytes(active)).expect("small");

    for next in [2, 3] {
        let broker = Launch::new(directory.path()).start();
        let client = broker.client().await;
        let error = read(&client, 1, 0, 2).await.expect_err("it is not read");
        broker.has_logged("records are damaged and not served").await;
        assert_data_loss(&error, "1", active.to_str().expect("text"));
        let facts = &error.refusal().expect("it has a reason").metadata;
        assert_eq!((facts["first_offset"].as_str(), facts["next_offset"].as_str()), ("0", "1"));
        assert_eq!(read(&client, 1, 1, 2).await.expect("what is behind it"), 1);
        assert_eq!(append(&client, 1, next).await.expect("the log goes on"), Offset(next));
        let now = std::fs::read(active).expect("readable");
        assert!(now[..first_frames] == damaged[..first_frames], "what was there is as it was");
        broker.stop();
    }
}

/// The log of one of the broker's own topics: its only segment.
async fn journal(client: &Client, directory: &Path, name: &str) -> PathBuf {
    let (description, _) = client.topic(&TopicName::new(name).expect("valid")).await.expect("the topic is there");
    directory.join("topics").join(description.topic_id).join("0").join("00000000000000000000.log")
}

/// Groups that lose their journal must not begin at their first offsets again, and nobody else must suffer for it: damage
/// there once kept the whole broker from starting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_takes_only_the_calls_that_need_it_offline() {
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client) = filled(directory.path()).await;
    let commit = async |client: &Client, offset: u64| {
        client.commit_offsets("billing", vec![PartitionOffset::new(at(0), Offset(offset))]).await
    };
    for offset in [3, 4, 5] {
        commit(&client, offset).await.expect("committed");
    }
    client.create_queue("work", &[topic()], Position::Earliest, &QueueSettings::default()).await.expect("created");
    let journals = [
        journal(&client, directory.path(), "__groups").await,
        journal(&client, directory.path(), "__producers").await,
        journal(&client, directory.path(), "__queues").await,
    ];
    broker.stop();
    // In the header of each one's first frame; there are more behind it.
    for journal in &journals {
        flip(journal, HEADER_BYTES + 8, 0x04);
    }

    let broker = Launch::new(directory.path()).start();
    let client = broker.client().await;
    let refused = [
        commit(&client, 6).await.map(drop).expect_err("groups are offline"),
        client.fetch_offsets("billing", &[]).await.map(drop).expect_err("groups are offline"),
        append(&client, 0, RECORDS).await.map(drop).expect_err("producers are offline"),
        client.list_queues("").await.map(drop).expect_err("queues are offline"),
    ];
    for (error, journal) in refused.iter().zip(["__groups", "__groups", "__producers", "__queues"]) {
        assert_eq!(reason_of(error), "COORDINATOR_OFFLINE", "{error}");
        assert!(error.to_string().contains(&format!("log repair {journal}/0")), "it says what to do: {error}");
    }
    assert_eq!(read(&client, 0, 0, RECORDS).await.expect("records are served"), RECORDS);
    let more = TopicName::new("more").expect("valid");
    client.create_topic(&more, 1, &TopicSettings::default()).await.expect("topics are made");
    let options = ProducerOptions { idempotent: false, ..ProducerOptions::default() };
    let producer = client.producer("more", options).await.expect("it needs no identity");
    producer.send(NewRecord::value(b"x")).await.expect("sent").wait().await.expect("appended");
    client.delete_topic(&more).await.expect("topics are deleted");
    assert_eq!(broker.stop().code, Some(0));

    for name in ["__groups/0", "__producers/0", "__queues/0"] {
        let words = ["log", "repair", name, "--accept-loss"];
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_millstream"));
        let output = command.args(words).arg("--data-dir").arg(directory.path()).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let broker = Launch::new(directory.path()).start();
    let client = broker.client().await;
    let committed = client.fetch_offsets("billing", &[]).await.expect("groups are back");
    assert_eq!(committed[0].offset, Offset(5), "the entries behind the damage stand");
    assert_eq!(client.list_queues("").await.expect("queues are back")[0].name, "work");
    append(&client, 0, RECORDS).await.expect("producers are back");
    broker.stop();
}

//! `millstream log` on the data directory of a real broker: what it says, how it exits, and that it changes nothing.

use crate::broker::{Broker, Launch};
use millstream::client::admin::TopicSettings;
use millstream::client::{NewRecord, ProducerOptions};
use millstream::types::TopicName;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RECORDS: u64 = 40;
const VALUE_BYTES: usize = 64 << 10;

/// A broker that has written three segments of a topic with one partition. One record is one frame.
async fn filled(directory: &Path) -> Broker {
    let broker = Launch::new(directory).start();
    let client = broker.client().await;
    let topic = TopicName::new("orders").expect("valid");
    let settings = TopicSettings { segment_bytes: Some(1 << 20), ..TopicSettings::default() };
    client.create_topic(&topic, 1, &settings).await.expect("created");
    let options = ProducerOptions { partition: Some(0), batch_bytes: 1, ..ProducerOptions::default() };
    let producer = client.producer(topic.as_str(), options).await.expect("a producer");
    for number in 0..RECORDS {
        let value = vec![number.to_le_bytes()[0]; VALUE_BYTES];
        let receipt = producer.send(NewRecord::value(&value)).await.expect("sent");
        receipt.wait().await.expect("acknowledged");
    }
    broker
}

/// Runs `millstream log VERB --data-dir DIRECTORY ...`.
fn log(directory: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.env_remove("MILLSTREAM_BROKER_DATA_DIR").arg("log").args(words).arg("--data-dir").arg(directory);
    command.output().expect("the binary was built by cargo")
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(code), "{}\n{}", said(&output.stdout), said(&output.stderr));
}

/// The JSON objects that a command printed, one a line.
#[track_caller]
fn objects(output: &Output, code: i32) -> Vec<Value> {
    assert_code(output, code);
    let text = std::str::from_utf8(&output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Every file below a directory with its bytes.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).expect("readable"));
        }
    }
    found
}

fn segment_at(directory: &Path, base: u64) -> PathBuf {
    let name = format!("{base:020}.log");
    let mut paths = contents(directory).into_keys();
    let topics = |path: &PathBuf| path.ends_with(format!("0/{name}")) && !is_internal(path);
    paths.find(topics).expect("the segment is there")
}

/// Segments of the broker's own topics are smaller than one record of ours.
fn is_internal(path: &Path) -> bool {
    let bytes = std::fs::read(path).expect("readable");
    !bytes.windows(1000).any(|window| window.iter().all(|byte| *byte == 1))
}

fn flip(path: &Path, position: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("the file is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("inside the file");
    file.write_all_at(&[byte[0] ^ 4], position).expect("writable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_is_looked_at_without_a_broker_and_not_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    filled(directory.path()).await.stop();
    let before = contents(directory.path());

    let logs = objects(&log(directory.path(), &["segments", "orders", "--json"]), 0);
    let [orders] = &logs[..] else { panic!("one partition was expected: {logs:?}") };
    let segments = orders["segments"].as_array().expect("a list");
    assert!(segments.len() >= 3, "{orders}");
    assert_eq!((&segments[0]["state"], &segments[0]["index"]), (&"sealed".into(), &"whole".into()));
    assert_eq!(orders["checkpoint"]["next_offset"], RECORDS);

    let frames =
        objects(&log(directory.path(), &["dump", "orders/0", "--from", "5", "-n", "2", "--records", "--json"]), 0);
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!((&frames[0]["base_offset"], &frames[0]["trouble"]), (&5.into(), &Value::Null));
    assert_eq!(frames[0]["records"][0]["value_bytes"], VALUE_BYTES);
    assert!(frames[0]["records"][0]["value"].as_str().expect("text").starts_with("\\x05\\x05"), "{frames:?}");

    let found = objects(&log(directory.path(), &["verify", "--json"]), 0);
    let [summary] = &found[..] else { panic!("no problem was expected: {found:?}") };
    assert_eq!((&summary["kind"], &summary["problems"]), (&"summary".into(), &0.into()));
    assert!(summary["frames"].as_u64() >= Some(RECORDS), "{summary}");
    for words in [&["segments"][..], &["dump", "orders/0", "--records"], &["verify", "orders/0"]] {
        assert_code(&log(directory.path(), words), 0);
    }
    assert!(contents(directory.path()) == before, "something was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_named_with_its_place_and_ends_with_5() {
    let directory = tempfile::tempdir().expect("a directory");
    filled(directory.path()).await.stop();
    let path = segment_at(directory.path(), 0);
    flip(&path, 64 + 64 + 1000);
    let output = log(directory.path(), &["verify"]);
    assert_code(&output, 5);
    let text = String::from_utf8(output.stdout).expect("text");
    let place = format!("{}: byte 64: offsets 0 to 1 (exclusive): the checksum does not match", path.display());
    assert!(text.starts_with(&place), "{text}");
    assert!(text.lines().last().expect("a summary").starts_with("1 problem: "), "{text}");

    // Without its name, a log is found by its directory.
    flip(&directory.path().join("catalog.json"), 5);
    assert_code(&log(directory.path(), &["verify", "orders"]), 1);
    let log_path = path.parent().and_then(|log| log.strip_prefix(directory.path()).ok()).expect("below it");
    let log_path = log_path.to_str().expect("text");
    assert_eq!(objects(&log(directory.path(), &["verify", "--path", log_path, "--json"]), 5).len(), 2);
    assert_eq!(objects(&log(directory.path(), &["verify", "--json"]), 5)[0]["kind"], "catalog");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_broker_is_not_disturbed_and_its_active_segments_are_left_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = filled(directory.path()).await;
    for words in [&["segments"][..], &["dump", "orders/0"], &["verify"]] {
        let output = log(directory.path(), words);
        assert_code(&output, 0);
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(said.contains("a broker is running"), "{said}");
    }
    let found = objects(&log(directory.path(), &["verify", "orders", "--json"]), 0);
    let frames = found[0]["frames"].as_u64().expect("a number");
    assert!(frames > 0 && frames < RECORDS, "the active segment is not looked at: {found:?}");
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_has_an_exit_code_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    filled(directory.path()).await.stop();
    for words in [["verify", "clicks"], ["segments", "clicks"], ["dump", "orders/7"], ["verify", "orders/1"]] {
        assert_code(&log(directory.path(), &words), 3);
    }
    assert_code(&log(&directory.path().join("nowhere"), &["verify"]), 1);
    assert_code(&log(directory.path(), &["dump"]), 2);
    assert_code(&log(directory.path(), &["verify", "--path", "topics"]), 2);
}

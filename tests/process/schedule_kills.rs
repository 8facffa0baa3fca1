//! `kill -9` while schedules are added and delivered: nothing that was confirmed is lost, nothing comes early, and a topic
//! that looks for repeats has each of them once.

use crate::broker::{Broker, Launch};
use millstream::client::admin::{NewSchedule, TopicSettings, When};
use millstream::client::{Client, ConsumedRecord, NewRecord, PartitionReader};
use millstream::types::{Offset, TimestampMs, TopicName, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const CALLS: usize = 60;
const PER_CALL: usize = 50;
const KILLS: usize = 5;
/// What is added is due within so many milliseconds.
const SPREAD_MS: u64 = 3_000;
const PATIENCE: Duration = Duration::from_mins(1);

fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("valid")
}

fn delivery(topic_name: &str) -> TopicPartition {
    TopicPartition { topic: topic(topic_name), partition: 0 }
}

/// Adds all of a call; whether the broker has confirmed it. One whose answer was lost is not sent again: it may be there.
async fn add(client: &Client, call: usize) -> bool {
    let to = topic(if call.is_multiple_of(2) { "once" } else { "plain" });
    let ids: Vec<String> = (0..PER_CALL).map(|number| format!("{call}-{number}")).collect();
    let schedule = |(number, id): (usize, &'_ String)| {
        let after = Duration::from_millis((number * 7_919 + call * 104_729) as u64 % SPREAD_MS);
        (id.clone(), When::After(after))
    };
    let asked: Vec<_> = ids.iter().enumerate().map(schedule).collect();
    let schedules: Vec<_> = asked
        .iter()
        .map(|(id, when)| NewSchedule {
            id: Some(id),
            topic: &to,
            record: NewRecord::value(id.as_bytes()),
            when: when.clone(),
        })
        .collect();
    client.add_schedules(&schedules).await.is_ok()
}

async fn log_end(client: &Client, name: &str) -> Offset {
    client.topic(&topic(name)).await.expect("it is there").1[0].high_watermark
}

async fn read(client: &Client, name: &str) -> Vec<ConsumedRecord> {
    let mut reader = PartitionReader::new(client, delivery(name), Offset::ZERO..log_end(client, name).await);
    let mut records = Vec::new();
    while let Some(batch) = reader.next().await.expect("it can be read") {
        records.extend(batch.records());
    }
    records
}

fn due_of(record: &ConsumedRecord) -> TimestampMs {
    let (_, due) = record.headers.iter().find(|(name, _)| name == "schedule-due-ms").expect("it says so");
    std::str::from_utf8(due).expect("text").parse().expect("a number")
}

/// Waits until the plain topic has so many records, or nothing is left to deliver.
async fn progress(client: &Client, records: u64) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let looking = async {
        loop {
            looks.tick().await;
            let is_empty = client.list_schedules(None, None, 1).await.expect("it answers").schedules.is_empty();
            if is_empty || log_end(client, "plain").await.0 >= records {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("schedules are delivered");
}

async fn start(launch: &Launch) -> (Broker, Client) {
    let broker = launch.start();
    let client = broker.client().await;
    (broker, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_loses_a_schedule_or_makes_one_early() {
    let directory = tempfile::tempdir().expect("a directory");
    let launch = Launch::new(directory.path());
    let (mut broker, mut client) = start(&launch).await;
    let dedup = TopicSettings { dedup_window_ms: Some(600_000), ..TopicSettings::default() };
    client.create_topic(&topic("once"), 1, &dedup).await.expect("created");
    client.create_topic(&topic("plain"), 1, &TopicSettings::default()).await.expect("created");

    let mut confirmed = BTreeSet::new();
    for round in 0..=KILLS {
        let calls = round * CALLS / (KILLS + 1)..(round + 1) * CALLS / (KILLS + 1);
        let last = calls.end - 1;
        for call in calls {
            if call == last && round < KILLS {
                // In the middle of a call: its answer comes, or is lost.
                let adding = tokio::spawn({
                    let client = client.clone();
                    async move { add(&client, call).await }
                });
                progress(&client, (round as u64 + 1) * 100).await;
                broker.kill();
                if adding.await.expect("no panic") {
                    confirmed.insert(call);
                }
                (broker, client) = start(&launch).await;
            } else {
                assert!(add(&client, call).await, "nothing keeps it from being added");
                confirmed.insert(call);
            }
        }
    }
    progress(&client, u64::MAX).await;

    let mut times_seen: BTreeMap<String, u32> = BTreeMap::new();
    let (mut repeats, mut late_ms) = (0, Vec::new());
    for name in ["once", "plain"] {
        for record in read(&client, name).await {
            let early_ms = due_of(&record) - record.append_time;
            assert!(early_ms <= 0, "{early_ms} ms early");
            late_ms.push(-early_ms);
            let id = String::from_utf8(record.value.expect("it has one").to_vec()).expect("text");
            let seen = times_seen.entry(id).or_default();
            *seen += 1;
            if *seen > 1 {
                assert_eq!(name, "plain", "a topic that looks for repeats has one twice");
                repeats += 1;
            }
        }
    }
    for call in &confirmed {
        for number in 0..PER_CALL {
            assert!(
                times_seen.contains_key(&format!("{call}-{number}")),
                "{call}-{number} was confirmed, and never came"
            );
        }
    }
    late_ms.sort_unstable();
    println!(
        "{KILLS} kills: {} calls confirmed, {repeats} repeats, {:?} ms late at most",
        confirmed.len(),
        late_ms.last()
    );
    broker.stop();
}

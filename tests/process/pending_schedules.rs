//! Many schedules that wait: the memory each takes, how long a start takes with them, and how late deliveries are beside
//! them. Prints its figures.
//!
//! ```sh
//! MILLSTREAM_SCHEDULES=1000000 MILLSTREAM_SCHEDULE_RATE=10000 \
//!   cargo test --release --test process pending_schedules -- --nocapture
//! ```

use crate::broker::{Broker, Launch};
use futures_util::future::join_all;
use millstream::client::admin::{NewSchedule, TopicSettings, When};
use millstream::client::{Client, NewRecord, PartitionReader};
use millstream::clock::{Clock as _, SystemClock};
use millstream::types::{Offset, TimestampMs, TopicName, TopicPartition};
use std::path::Path;
use std::time::{Duration, Instant};

/// In one call, and calls under way.
const PER_CALL: usize = 1_000;
const CALLS_UNDER_WAY: usize = 8;

const HOUR_MS: u64 = 3_600_000;
const BODY: [u8; 100] = [b'x'; 100];

/// Deliveries are measured for so long.
const SECONDS: usize = 5;

/// Before the first of them, so that all are added when it is due.
const HEAD_START_MS: i64 = 4_000;

/// A busy machine of a test delivers within this, and no schedule of a release takes more memory than that.
const LATE_MS_MAX: i64 = 20_000;
const BYTES_MAX: u64 = 400;

fn asked(variable: &str, otherwise: usize) -> usize {
    let text = std::env::var(variable).ok();
    text.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

/// Memory of the broker's own, in bytes.
fn memory(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.process_id())).expect("it runs");
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    kib.expect("the kernel says it").trim().parse::<u64>().expect("a number") << 10
}

/// Adds schedules that are due at these times.
async fn add(client: &Client, topic: &TopicName, due: &[TimestampMs]) {
    let schedule =
        |due: &TimestampMs| NewSchedule { id: None, topic, record: NewRecord::value(&BODY), when: When::At(*due) };
    for calls in due.chunks(PER_CALL * CALLS_UNDER_WAY) {
        let adding = calls.chunks(PER_CALL).map(async |due| {
            let schedules: Vec<_> = due.iter().map(schedule).collect();
            client.add_schedules(&schedules).await.expect("added")
        });
        join_all(adding).await;
    }
}

async fn start(directory: &Path) -> (Broker, Client, Duration) {
    let begun = Instant::now();
    let broker = Launch::new(directory).start();
    let client = broker.client().await;
    (broker, client, begun.elapsed())
}

/// How late each record of `topic` is, sorted; waits for so many.
async fn lateness(client: &Client, topic: &TopicName, records: usize) -> Vec<i64> {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let mut end = Offset::ZERO;
    let waiting = async {
        while end.0 < records as u64 {
            looks.tick().await;
            end = client.topic(topic).await.expect("it is there").1[0].high_watermark;
        }
    };
    tokio::time::timeout(Duration::from_mins(5), waiting).await.expect("all are delivered");
    let partition = TopicPartition { topic: topic.clone(), partition: 0 };
    let mut reader = PartitionReader::new(client, partition, Offset::ZERO..end);
    let mut late_ms = Vec::new();
    while let Some(batch) = reader.next().await.expect("it can be read") {
        for record in batch.records() {
            let (_, due) = record.headers.iter().find(|(name, _)| name == "schedule-due-ms").expect("it says so");
            let due_ms: i64 = std::str::from_utf8(due).expect("text").parse().expect("a number");
            late_ms.push(record.append_time - due_ms);
        }
    }
    late_ms.sort_unstable();
    late_ms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_schedules_take_little_and_keep_nobody_waiting() {
    let (pending, rate) = (asked("MILLSTREAM_SCHEDULES", 20_000), asked("MILLSTREAM_SCHEDULE_RATE", 1_000));
    let directory = tempfile::tempdir().expect("a directory");
    let (broker, client, empty_start) = start(directory.path()).await;
    let topics = ["later", "soon"].map(|name| TopicName::new(name).expect("valid"));
    for topic in &topics {
        client.create_topic(topic, 1, &TopicSettings::default()).await.expect("created");
    }
    let [later, soon] = &topics;
    // Once, so that what the first call takes is not counted.
    add(&client, later, &[SystemClock.now_ms() + HOUR_MS.cast_signed()]).await;
    let before = memory(&broker);
    let begun = Instant::now();
    let spread =
        |number: usize| SystemClock.now_ms() + (HOUR_MS + number as u64 * 7_919_001 % (1_000 * HOUR_MS)).cast_signed();
    add(&client, later, &(0..pending).map(spread).collect::<Vec<_>>()).await;
    let (added, after_adding) = (begun.elapsed(), memory(&broker));
    broker.kill();

    let (broker, client, full_start) = start(directory.path()).await;
    let (after_start, count) = (memory(&broker), rate * SECONDS);
    let first_ms = SystemClock.now_ms() + HEAD_START_MS;
    let due: Vec<_> = (0..count).map(|number| first_ms + (number * 1_000 / rate).cast_signed() as i64).collect();
    add(&client, soon, &due).await;
    assert!(SystemClock.now_ms() < first_ms, "they must be added before the first is due");
    let late_ms = lateness(&client, soon, count).await;
    let at = |percent: usize| late_ms[(late_ms.len() - 1) * percent / 100];
    assert_eq!(late_ms.len(), count, "each of them once");
    assert!(late_ms[0] >= 0 && at(100) < LATE_MS_MAX, "{} to {} ms late", late_ms[0], at(100));

    let each = |now: u64| now.saturating_sub(before) / pending as u64;
    println!(
        "{pending} schedules of {} bytes: added in {:.1} s ({}/s), {} bytes of memory each, {} after a restart; \
         start {:.2} s (empty {:.2} s); {rate}/s due beside them: late p50 {} ms, p99 {} ms, at most {} ms",
        BODY.len(),
        added.as_secs_f64(),
        pending as u128 * 1_000 / added.as_millis().max(1),
        each(after_adding),
        each(after_start),
        full_start.as_secs_f64(),
        empty_start.as_secs_f64(),
        at(50),
        at(99),
        at(100),
    );
    // In the small, what the allocator keeps for later says more than what is in use.
    assert!(pending < 500_000 || each(after_start) < BYTES_MAX, "{} bytes each", each(after_start));
    broker.stop();
}

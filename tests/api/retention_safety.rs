//! Retention must not delete by a clock that jumped, and says so when it deletes what a group has not read.

use crate::common::records::{numbered, set, sized};
use crate::common::subscriber::at_offset;
use crate::common::{TestBroker, until};
use millstream::clock::ManualClock;
use millstream::proto::{CommitOffsetsRequest, DeleteGroupRequest, TopicOptions};
use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

const TWO_DAYS_MS: i64 = 2 * 86_400_000;
const SUSPENDED: &str = "millstream_retention_suspended 1";
const NOT_SUSPENDED: &str = "millstream_retention_suspended 0";

async fn is_suspended(broker: &TestBroker) -> bool {
    broker.client().await.server_info().await.expect("answers").clock.retention_suspended
}

async fn suspended(broker: &TestBroker, expected: bool) {
    until("the clock to be looked at", async || (is_suspended(broker).await == expected).then_some(())).await;
}

async fn log_start(broker: &TestBroker, topic: &str) -> u64 {
    broker.partition_state(topic, 0).await.log_start_offset
}

/// Waits until retention by size has deleted something that was appended just now: a round that began after the call.
async fn a_round_of_retention(broker: &TestBroker) {
    let before = log_start(broker, "witness").await;
    for _ in 0..4 {
        broker.append("witness", 0, sized(1, 900_000)).await;
    }
    until("retention by size", async || (log_start(broker, "witness").await > before).then_some(())).await;
}

async fn start(clock: &Arc<ManualClock>) -> TestBroker {
    let shared = Arc::clone(clock);
    let broker = TestBroker::start_with(move |setting| setting.clock = shared).await;
    let by_age = TopicOptions { retention_ms: Some(86_400_000), segment_age_ms: Some(1_000), ..Default::default() };
    broker.create_topic_with("orders", 1, by_age).await;
    let segment_bytes = Some(1 << 20);
    let by_size =
        TopicOptions { retention_ms: Some(0), retention_bytes: Some(1 << 20), segment_bytes, ..Default::default() };
    broker.create_topic_with("witness", 1, by_size).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_deletes_nothing_until_it_is_right_again() {
    let clock = Arc::new(ManualClock::new(1_000_000_000));
    let broker = start(&clock).await;
    clock.jump(TWO_DAYS_MS);
    suspended(&broker, true).await;
    assert!(broker.has_metric(SUSPENDED).await);
    // Retention by size goes on.
    a_round_of_retention(&broker).await;
    a_round_of_retention(&broker).await;
    assert_eq!(log_start(&broker, "orders").await, 0, "nothing goes by a clock that jumped");

    clock.jump(-TWO_DAYS_MS);
    suspended(&broker, false).await;
    assert!(broker.has_metric(NOT_SUSPENDED).await);
    a_round_of_retention(&broker).await;
    assert_eq!(log_start(&broker, "orders").await, 0, "by the right time it is not old");
    clock.advance(TWO_DAYS_MS);
    until("retention by age", async || (log_start(&broker, "orders").await == 10).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_stays_one_over_a_restart_until_an_operator_confirms_the_time() {
    let clock = Arc::new(ManualClock::new(1_000_000_000));
    let mut broker = start(&clock).await;
    broker.stop().await;
    clock.jump(TWO_DAYS_MS);
    broker.restart_stopped().await;
    suspended(&broker, true).await;
    broker.restart().await;
    suspended(&broker, true).await;
    a_round_of_retention(&broker).await;
    assert_eq!(log_start(&broker, "orders").await, 0);

    let before = broker.client().await.confirm_clock().await.expect("confirms");
    assert_eq!((before.retention_suspended, before.off_by_ms), (true, TWO_DAYS_MS));
    assert!(!is_suspended(&broker).await);
    until("retention by age", async || (log_start(&broker, "orders").await == 10).then_some(())).await;
    broker.restart().await;
    a_round_of_retention(&broker).await;
    assert!(!is_suspended(&broker).await, "what was confirmed stays so");
}

/// What all brokers of this process have said.
static SAID: LazyLock<Said> = LazyLock::new(|| {
    let said = Said::default();
    let writer = said.clone();
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone());
    log.try_init().expect("nobody else listens");
    said
});

#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    /// First offset, next offset and number of records of each loss of a group, in order.
    fn losses_of(&self, group: &str) -> Vec<(String, String, u64)> {
        let said = String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("text");
        let events = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let of_group = events.filter(|event| event["group"] == group && event["records"].is_u64());
        let text = |value: &serde_json::Value| value.as_str().expect("an offset").to_owned();
        of_group
            .map(|event| {
                let records = event["records"].as_u64().expect("a number");
                (text(&event["first_offset"]), text(&event["next_offset"]), records)
            })
            .collect()
    }
}

async fn commit(broker: &TestBroker, group: &str, topic: &str, offset: u64) {
    let offsets = vec![at_offset(topic, 0, offset)];
    let commit = CommitOffsetsRequest { group: group.into(), offsets, ..Default::default() };
    broker.consumer().commit_offsets(commit).await.expect("committed");
}

fn line(group: &str, records: u64) -> String {
    format!(
        "millstream_group_records_expired_unread_total{{group=\"{group}\",topic=\"losses\",partition=\"0\"}} {records}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn records_deleted_before_a_group_has_read_them_are_counted_and_told_once() {
    let said = &*SAID;
    let broker = TestBroker::start().await;
    broker.create_topic("losses", 1).await;
    broker.append("losses", 0, set(numbered("r", 20))).await;
    commit(&broker, "losses-slow", "losses", 2).await;
    commit(&broker, "losses-fast", "losses", 15).await;

    broker.delete_records("losses", 0, 6).await;
    assert!(broker.has_metric(&line("losses-slow", 4)).await);
    broker.delete_records("losses", 0, 6).await;
    broker.delete_records("losses", 0, 10).await;
    assert!(broker.has_metric(&line("losses-slow", 8)).await, "what was counted is not counted again");
    commit(&broker, "losses-slow", "losses", 12).await;
    broker.delete_records("losses", 0, 13).await;
    assert!(broker.has_metric(&line("losses-slow", 9)).await, "only what it had not read");

    let told = said.losses_of("losses-slow");
    let told: Vec<_> = told.iter().map(|(first, next, records)| (first.as_str(), next.as_str(), *records)).collect();
    assert_eq!(told, [("2", "6", 4), ("6", "10", 4), ("12", "13", 1)]);
    assert_eq!(said.losses_of("losses-fast"), [], "it has lost nothing");

    let (_, page) = broker.admin_page("/metrics").await;
    assert!(!page.contains("expired_unread_total{group=\"losses-fast\""), "{page}");
    broker.groups().delete_group(DeleteGroupRequest { group: "losses-slow".into() }).await.expect("deleted");
    let (_, page) = broker.admin_page("/metrics").await;
    assert!(!page.contains("losses-slow"), "{page}");
}

/// The same when retention deletes, on its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_retention_takes_from_a_group_is_counted() {
    let said = &*SAID;
    let broker = TestBroker::start().await;
    let (retention_bytes, segment_bytes) = (Some(1 << 20), Some(1 << 20));
    let options = TopicOptions { retention_ms: Some(0), retention_bytes, segment_bytes, ..Default::default() };
    broker.create_topic_with("losses", 1, options).await;
    broker.append("losses", 0, sized(1, 900_000)).await;
    commit(&broker, "losses-late", "losses", 0).await;
    for _ in 0..4 {
        broker.append("losses", 0, sized(1, 900_000)).await;
    }
    until("retention to be told", async || {
        let lost: u64 = said.losses_of("losses-late").iter().map(|(_, _, records)| records).sum();
        (lost == 4).then_some(())
    })
    .await;
    assert!(broker.has_metric(&line("losses-late", 4)).await);
}

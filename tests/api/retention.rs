//! Retention in a live broker: what goes, what stays, and what readers see of it.

use crate::common::records::{numbered, set, sized, values_of};
use crate::common::refusal::refusal;
use crate::common::subscriber::{Subscriber, at_offset, from_start};
use crate::common::{TestBroker, until};
use millstream::clock::ManualClock;
use millstream::proto::subscribe_request::Open;
use millstream::proto::{CommitOffsetsRequest, Credit, DescribeGroupRequest, OffsetExpired, TopicOptions};
use std::sync::Arc;

/// Segments of the smallest size: one batch of 900,000 bytes each.
const SMALL: TopicOptions = TopicOptions {
    retention_ms: Some(0),
    retention_bytes: None,
    segment_bytes: Some(1 << 20),
    segment_age_ms: None,
    durability: None,
    record_bytes_max: None,
    batch_bytes_max: None,
    dedup_window_ms: None,
    cleanup: None,
    tombstone_grace_ms: None,
};

async fn log_start_at(broker: &TestBroker, topic: &str, expected: u64) {
    until("retention", async || (broker.partition_state(topic, 0).await.log_start_offset == expected).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_segments_go_while_there_is_more_than_retention_bytes() {
    let broker = TestBroker::start().await;
    let options = TopicOptions { retention_bytes: Some(2_000_000), ..SMALL };
    broker.create_topic_with("orders", 1, options).await;
    for i in 0..6 {
        assert_eq!(broker.append("orders", 0, sized(1, 900_000)).await, i);
    }
    // The start moves first: what is about to go is not read any more.
    let state = until("retention to delete segments", async || {
        Some(broker.partition_state("orders", 0).await).filter(|state| state.segments == 2)
    })
    .await;
    assert_eq!((state.log_start_offset, state.log_end_offset), (4, 6));
    assert!(state.log_bytes <= 2_000_000, "{} bytes are left", state.log_bytes);
    assert_eq!(broker.fetch("orders", 0, 4).await.batches.len(), 1, "1 MiB at a time");
    assert_eq!(broker.append("orders", 0, set(numbered("r", 1))).await, 6);
}

/// Time stands still but for what the test adds, so nothing here waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn records_go_when_they_are_older_than_retention_ms_also_from_the_last_segment() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let shared = Arc::clone(&clock);
    let broker = TestBroker::start_with(move |setting| setting.clock = shared).await;
    let options = TopicOptions { retention_ms: Some(10_000), ..SMALL };
    for topic in ["orders", "witness"] {
        broker.create_topic_with(topic, 1, options).await;
        broker.append(topic, 0, set(numbered("old-", 5))).await;
    }
    assert_eq!(broker.fetch("orders", 0, 0).await.batches[0].append_time_ms, 1_000_000);
    clock.advance(6_000);
    broker.append("orders", 0, set(numbered("young-", 5))).await;

    // The segment of `orders` has a first record that is too old and a last one that is not: it is sealed, and stays.
    clock.advance(5_000);
    log_start_at(&broker, "witness", 5).await;
    assert_eq!(broker.partition_state("orders", 0).await.log_start_offset, 0);
    clock.advance(5_001);
    log_start_at(&broker, "orders", 10).await;
    assert_eq!(broker.append("orders", 0, set(numbered("new-", 5))).await, 10, "offsets go on");
    assert_eq!(values_of(&broker.fetch("orders", 0, 10).await.batches)[0], (10, "new-0".to_owned()));
    clock.advance(60_000);
    log_start_at(&broker, "orders", 15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_retention_has_overtaken_goes_on_as_it_chose() {
    let broker = TestBroker::start().await;
    broker.create_topic_with("orders", 1, SMALL).await;
    for _ in 0..4 {
        broker.append("orders", 0, sized(1, 900_000)).await;
    }
    let open = |choice: OffsetExpired| Open {
        on_expired: choice as i32,
        credit: Some(Credit { records: 1, bytes: 1 << 30 }),
        ..from_start("orders")
    };
    let mut failing = Subscriber::open(&broker, open(OffsetExpired::Fail)).await.expect("opens");
    let mut earliest = Subscriber::open(&broker, open(OffsetExpired::Earliest)).await.expect("opens");
    let mut latest = Subscriber::open(&broker, open(OffsetExpired::Latest)).await.expect("opens");
    for subscriber in [&mut failing, &mut earliest, &mut latest] {
        assert_eq!(subscriber.take(1).await[0].1, 0);
    }
    broker.delete_records("orders", 0, 3).await;
    for subscriber in [&failing, &earliest, &latest] {
        subscriber.grant(100, 0).await;
    }
    assert_eq!(refusal(failing.next().await).reason, "OFFSET_OUT_OF_RANGE");
    assert_eq!(earliest.take(1).await[0].1, 3);
    // Whether it has jumped yet cannot be seen, so records are appended until one comes.
    let seen = tokio::select! {
        seen = latest.take(1) => seen,
        () = until("a record to come", async || {
            broker.append("orders", 0, set(numbered("r", 1))).await;
            None
        }) => Vec::new(),
    };
    assert!(seen[0].1 >= 4, "it left out what was retained when it was overtaken: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_retention_has_overtaken_is_behind_by_what_is_still_there() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    let commit = CommitOffsetsRequest {
        group: "billing".into(),
        offsets: vec![at_offset("orders", 0, 2)],
        ..Default::default()
    };
    broker.consumer().commit_offsets(commit).await.expect("committed");
    broker.delete_records("orders", 0, 6).await;
    let described = broker.groups().describe_group(DescribeGroupRequest { group: "billing".into() }).await;
    let partition = described.expect("there is one").into_inner().partitions.remove(0);
    assert_eq!((partition.committed_offset, partition.lag_records), (Some(2), 4));
    let (_, page) = broker.admin_page("/metrics").await;
    let line = "millstream_group_lag_records{group=\"billing\",topic=\"orders\",partition=\"0\"} 4";
    assert!(page.lines().any(|found| found == line), "no line {line} in\n{page}");
}

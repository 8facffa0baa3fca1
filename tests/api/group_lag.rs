//! How far a group is behind: in records, bytes and time, and until when it has caught up.

use crate::common::records::{numbered, set};
use crate::common::subscriber::at_offset;
use crate::common::{TestBroker, until};
use millstream::clock::ManualClock;
use millstream::proto::{CommitOffsetsRequest, DescribeGroupRequest, DescribeGroupResponse, Lag};
use std::sync::Arc;

async fn commit(broker: &TestBroker, partition: u32, offset: u64) {
    let offsets = vec![at_offset("orders", partition, offset)];
    let request = CommitOffsetsRequest { group: "billing".into(), offsets, ..Default::default() };
    let answer = broker.consumer().commit_offsets(request).await.expect("answers").into_inner();
    assert_eq!(answer.errors, []);
}

async fn describe(broker: &TestBroker) -> DescribeGroupResponse {
    let request = DescribeGroupRequest { group: "billing".into() };
    broker.groups().describe_group(request).await.expect("there is one").into_inner()
}

/// A broker with ten records a minute for three minutes, in both partitions of `orders`, one minute ago.
async fn broker() -> TestBroker {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let its_clock = Arc::clone(&clock);
    let broker = TestBroker::start_with(move |setting| setting.clock = its_clock).await;
    broker.create_topic("orders", 2).await;
    for _ in 0..3 {
        for partition in 0..2 {
            broker.append("orders", partition, set(numbered("r", 10))).await;
        }
        clock.advance(60_000);
    }
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_group_is_told_in_records_bytes_and_time() {
    let broker = broker().await;
    commit(&broker, 0, 10).await;
    commit(&broker, 1, 30).await;
    let described = describe(&broker).await;
    let [behind, done] = &described.partitions[..] else { panic!("two partitions: {described:?}") };
    let lag = behind.lag.expect("the partition is online");
    assert_eq!((behind.lag_records, lag.records), (20, 20));
    assert_eq!((lag.span_ms, lag.oldest_unread_age_ms), (Some(60_000), Some(120_000)));
    let whole = broker.partition_state("orders", 0).await.log_bytes;
    let bytes = lag.bytes.expect("nothing is damaged");
    assert!(bytes > whole / 3 && bytes < whole, "two of three batches: {bytes} of {whole}");

    let nothing = Lag { bytes: Some(0), span_ms: Some(0), oldest_unread_age_ms: Some(0), ..Lag::default() };
    let done = done.lag.expect("the partition is online");
    assert_eq!(Lag { drain_ms: None, ..done }, nothing);
    assert_eq!(done.drain_ms, Some(0), "there is nothing to read");
    let total = described.lag.expect("a group has a lag");
    assert_eq!((total.records, total.bytes, total.oldest_unread_age_ms), (20, Some(bytes), Some(120_000)));

    for line in [
        "millstream_group_lag_seconds{group=\"billing\",topic=\"orders\",partition=\"0\"} 60.0",
        "millstream_group_oldest_unread_seconds{group=\"billing\",topic=\"orders\",partition=\"1\"} 0.0",
        "millstream_group_total_oldest_unread_seconds{group=\"billing\"} 120.0",
        &format!("millstream_group_total_lag_bytes{{group=\"billing\"}} {bytes}"),
    ] {
        assert!(broker.has_metric(line).await, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_group_will_have_caught_up_is_estimated_from_its_commits() {
    let broker = broker().await;
    commit(&broker, 0, 10).await;
    let first = describe(&broker).await.partitions[0].lag.expect("the partition is online");
    assert_eq!((first.consumed_per_second, first.drain_ms), (None, None), "one commit is no pace");
    commit(&broker, 0, 20).await;
    let lag = until("the pace to be known", async || {
        describe(&broker).await.partitions[0].lag.filter(|lag| lag.consumed_per_second.is_some())
    })
    .await;
    let consumed = lag.consumed_per_second.expect("asked for");
    assert!(consumed > 0.0 && consumed <= 10.0, "ten records in more than a second: {consumed}");
    assert_eq!(lag.appended_per_second, Some(0.0));
    let drain_ms = lag.drain_ms.expect("it goes on");
    assert!(drain_ms >= 1_000, "as many records are left as were read in {consumed} a second: {drain_ms}");
}

/// Of two partitions a group had read one and left; what waited in the other was in no sum.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_nobody_has_committed_in_is_part_of_the_lag() {
    let broker = broker().await;
    commit(&broker, 0, 10).await;
    let described = describe(&broker).await;
    let found: Vec<_> = described.partitions.iter().map(|found| (found.partition, found.lag_records)).collect();
    assert_eq!(found, [(0, 20), (1, 30)]);
    assert_eq!(described.partitions[1].committed_offset, None);
    assert_eq!(described.lag.expect("a group has a lag").records, 50);
}

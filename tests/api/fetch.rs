//! Fetch: where it begins, how much it returns, how long it waits.

use crate::common::records::{numbered, record_of, set, set_of, sized, values_of};
use crate::common::refusal::Refusal;
use crate::common::{PATIENCE, TestBroker, within};
use millstream::client::PartitionReader;
use millstream::proto::{FetchPosition, FetchRequest, FetchResponse, FetchedPartition, TopicOptions};
use millstream::types::{Offset, TopicName, TopicPartition};
use prost::Message as _;
use tonic::Code;

/// What a reply may have beyond its records: names, offsets, framing.
const SLACK_BYTES: usize = 4 << 10;

fn at(topic: &str, partition: u32, offset: u64) -> FetchPosition {
    FetchPosition { topic: topic.into(), partition, offset }
}

fn one(offset: u64) -> FetchRequest {
    FetchRequest { positions: vec![at("orders", 0, offset)], ..Default::default() }
}

async fn fetch(broker: &TestBroker, request: FetchRequest) -> FetchResponse {
    within("a fetch", broker.consumer().fetch(request)).await.expect("it can be read").into_inner()
}

fn bytes_of(fetched: &FetchedPartition) -> usize {
    fetched.batches.iter().map(|batch| batch.records.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_begins_exactly_at_the_offset_asked_also_inside_a_batch() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    for prefix in ["a", "b", "c"] {
        broker.append("orders", 0, set(numbered(prefix, 10))).await;
    }
    let all = values_of(&broker.fetch("orders", 0, 0).await.batches);
    assert_eq!(all.len(), 30);
    for offset in 0..30_u64 {
        let fetched = broker.fetch("orders", 0, offset).await;
        assert_eq!(fetched.batches[0].base_offset, offset);
        assert_eq!(values_of(&fetched.batches), all[usize::try_from(offset).expect("small")..]);
        assert_eq!(fetched.next_offset, 30);
        let counts: u64 = fetched.batches.iter().map(|batch| u64::from(batch.record_count)).sum();
        assert_eq!(counts, 30 - offset);
    }
    let fetched = broker.fetch("orders", 0, 30).await;
    assert_eq!((fetched.batches.len(), fetched.next_offset), (0, 30), "at the end there is nothing yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_comes_in_parts_that_fit_the_default_reply() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set_of(4 << 20)).await;
    let end = broker.partition_state("orders", 0).await.high_watermark;
    let (mut next, mut parts, mut bytes) = (0, 0, 0);
    while next < end {
        let reply = fetch(&broker, one(next)).await;
        assert!(reply.encoded_len() <= (1 << 20) + SLACK_BYTES, "{} bytes", reply.encoded_len());
        let fetched = &reply.partitions[0];
        assert_eq!(fetched.batches[0].base_offset, next);
        assert!(fetched.next_offset > next, "each reply goes on");
        (next, parts, bytes) = (fetched.next_offset, parts + 1, bytes + bytes_of(fetched));
    }
    assert_eq!((parts, bytes), (5, 4 << 20), "1 MiB at a time, less what does not fit, and every byte once");
}

#[tokio::test(flavor = "multi_thread")]
async fn max_bytes_bounds_the_records_of_a_reply_but_one_always_comes() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    for _ in 0..20 {
        broker.append("orders", 0, sized(5, 1_000)).await;
    }
    for max_bytes in [2_000, 10_000, 50_000] {
        let reply = fetch(&broker, FetchRequest { max_bytes, ..one(0) }).await;
        let bytes = bytes_of(&reply.partitions[0]);
        assert!(bytes <= max_bytes as usize && bytes * 10 >= max_bytes as usize * 4, "{bytes} of {max_bytes}");
    }
    let reply = fetch(&broker, FetchRequest { max_bytes: 1, ..one(3) }).await;
    let fetched = &reply.partitions[0];
    assert_eq!((fetched.next_offset, bytes_of(fetched)), (4, sized(1, 1_000).len()));
    let reply = fetch(&broker, FetchRequest { max_bytes: 64 << 20, ..one(0) }).await;
    assert_eq!(reply.partitions[0].next_offset, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_max_bytes_comes_whole() {
    let broker = TestBroker::start().await;
    let large =
        TopicOptions { record_bytes_max: Some(8 << 20), batch_bytes_max: Some(8 << 20), ..TopicOptions::default() };
    broker.create_topic_with("orders", 1, large).await;
    broker.append("orders", 0, set(vec![record_of(5 << 20)])).await;
    broker.append("orders", 0, set(numbered("r", 1))).await;
    let fetched = broker.fetch("orders", 0, 0).await;
    assert_eq!((fetched.next_offset, bytes_of(&fetched)), (1, set(vec![record_of(5 << 20)]).len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_need_not_wait_answers_at_once() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    assert_eq!(bytes_of(&fetch(&broker, one(0)).await.partitions[0]), 0, "max_wait_ms 0");
    broker.append("orders", 0, set(numbered("r", 1))).await;
    // Would take longer than the test waits.
    let reply = fetch(&broker, FetchRequest { max_wait_ms: 60_000, ..one(0) }).await;
    assert_eq!(reply.partitions[0].next_offset, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_wakes_when_records_are_appended() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    let positions = vec![at("orders", 0, 0), at("orders", 1, 0)];
    let request = FetchRequest { positions, max_wait_ms: 60_000, ..Default::default() };
    let (reply, _) = tokio::join!(fetch(&broker, request), broker.append("orders", 1, set(numbered("r", 1))));
    assert_eq!(values_of(&reply.partitions[1].batches), [(0, "r0".to_owned())]);
    assert_eq!(reply.partitions[0].batches, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_ends_after_max_wait() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let started = tokio::time::Instant::now();
    let reply = fetch(&broker, FetchRequest { max_wait_ms: 50, ..one(0) }).await;
    let waited = started.elapsed();
    assert!(waited.as_millis() >= 50 && waited < PATIENCE, "{waited:?}");
    assert_eq!((reply.partitions[0].batches.len(), reply.partitions[0].next_offset), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_min_bytes_and_not_longer_than_max_wait() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, sized(1, 1_000)).await;
    let too_few = FetchRequest { min_bytes: 2_500, max_wait_ms: 50, ..one(0) };
    let started = tokio::time::Instant::now();
    assert_eq!(fetch(&broker, too_few).await.partitions[0].next_offset, 1, "then it has what there is");
    assert!(started.elapsed().as_millis() >= 50);

    let enough = FetchRequest { min_bytes: 2_500, max_wait_ms: 60_000, ..one(0) };
    let (reply, ()) = tokio::join!(fetch(&broker, enough), async {
        for _ in 0..2 {
            broker.append("orders", 0, sized(1, 1_000)).await;
        }
    });
    assert_eq!(reply.partitions[0].next_offset, 3, "the first record that makes it enough ends the wait");
}

/// The first batch was less than `min_bytes` and the second did not fit `max_bytes`: the fetch spun, without pause,
/// until its time was over.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_does_not_wait_for_what_would_not_fit() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, sized(1, 4_000)).await;
    broker.append("orders", 0, sized(1, 9_000)).await;
    let request = FetchRequest { max_bytes: 10_000, min_bytes: 5_000, max_wait_ms: 60_000, ..one(0) };
    assert_eq!(fetch(&broker, request).await.partitions[0].next_offset, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_is_answered_when_the_broker_stops() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let mut consumer = broker.consumer();
    let request = FetchRequest { max_wait_ms: 60_000, ..one(0) };
    let waiting = tokio::spawn(async move { consumer.fetch(request).await });
    // The drain may come before the fetch; then it is refused or not even sent. It must end in any case.
    broker.begin_drain();
    let _ = within("the fetch to end", waiting).await.expect("no panic");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fetch_reads_several_partitions_in_the_order_asked() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    broker.create_topic("bills", 1).await;
    broker.append("orders", 0, set(numbered("o0-", 2))).await;
    broker.append("orders", 1, set(numbered("o1-", 2))).await;
    broker.append("bills", 0, set(numbered("b-", 2))).await;
    let positions = vec![at("bills", 0, 1), at("orders", 1, 0), at("orders", 0, 2)];
    let reply = fetch(&broker, FetchRequest { positions, ..Default::default() }).await;
    let seen: Vec<_> = reply
        .partitions
        .iter()
        .map(|fetched| (fetched.topic.as_str(), fetched.partition, values_of(&fetched.batches).len()))
        .collect();
    assert_eq!(seen, [("bills", 0, 1), ("orders", 1, 2), ("orders", 0, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_cannot_be_read_does_not_hide_the_others() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 5))).await;
    let positions = vec![at("nope", 0, 0), at("orders", 0, 2), at("orders", 1, 0), at("orders", 0, 6)];
    // Waiting would only delay the errors.
    let request = FetchRequest { positions, min_bytes: 100_000, max_wait_ms: 60_000, ..Default::default() };
    let reply = fetch(&broker, request).await;
    let refused = |i: usize| Refusal::from(reply.partitions[i].error.clone().expect("it is refused"));
    assert_eq!(refused(0).kind(), (Code::NotFound, "TOPIC_NOT_FOUND"));
    assert_eq!(refused(2).kind(), (Code::NotFound, "PARTITION_NOT_FOUND"));
    assert_eq!(refused(3).kind(), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
    assert_eq!((refused(3).fact("earliest_offset"), refused(3).fact("latest_offset")), ("0", "5"));
    assert_eq!(reply.partitions[1].error, None);
    assert_eq!(values_of(&reply.partitions[1].batches).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_own_topics_can_be_read() {
    let broker = TestBroker::start().await;
    let fetched = broker.fetch("__groups", 0, 0).await;
    assert_eq!(fetched.error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_reads_a_range_exactly() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    for _ in 0..10 {
        broker.append("orders", 0, set(numbered("r", 10))).await;
    }
    let partition = TopicPartition { topic: TopicName::new("orders").expect("a valid name"), partition: 0 };
    let mut reader = PartitionReader::new(&broker.client().await, partition, Offset(15)..Offset(83));
    let mut offsets = Vec::new();
    while let Some(batch) = within("a batch", reader.next()).await.expect("it can be read") {
        offsets.extend(batch.records().map(|record| record.offset.0));
    }
    assert_eq!(offsets, (15..83).collect::<Vec<_>>());
}

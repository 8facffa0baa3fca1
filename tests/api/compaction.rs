//! Compacted topics in a live broker: what may be written, what goes, and that every way of reading gets past it.

use crate::common::records::{keyed, numbered, set, values_of};
use crate::common::refusal::refusal;
use crate::common::subscriber::{Subscriber, as_member, at_offset, from_start};
use crate::common::{TestBroker, until, within};
use bytes::Bytes;
use millstream::client::PartitionReader;
use millstream::clock::ManualClock;
use millstream::proto::{
    Cleanup, CompactTopicRequest, CompactedPartition, Credit, DescribeGroupRequest, FetchPosition, FetchRequest,
    ProduceRequest, Record, TopicOptions, UpdateTopicRequest,
};
use millstream::types::{Offset, TopicName, TopicPartition};
use std::sync::Arc;
use tonic::{Code, Status};

fn compacted() -> TopicOptions {
    TopicOptions { cleanup: Some(Cleanup::Compact as i32), segment_bytes: Some(1 << 20), ..TopicOptions::default() }
}

fn tombstone(key: &'static str) -> Record {
    Record { key: Some(key.into()), ..Record::default() }
}

async fn compact(broker: &TestBroker, topic: &str) -> Result<Vec<CompactedPartition>, Status> {
    let request = CompactTopicRequest { topic: topic.to_owned() };
    Ok(broker.topics().compact_topic(request).await?.into_inner().partitions)
}

/// Offsets 0 to 12: `a` and `b` six times each, then `c`. After compaction 10, 11 and 12 are left.
async fn append_again_and_again(broker: &TestBroker) {
    for i in 0..6 {
        broker.append("profiles", 0, set(vec![keyed("a", format!("a{i}")), keyed("b", format!("b{i}"))])).await;
    }
    broker.append("profiles", 0, set(vec![keyed("c", "c0")])).await;
}

fn left() -> Vec<(u64, String)> {
    [(10, "a5"), (11, "b5"), (12, "c0")].map(|(offset, value)| (offset, value.to_owned())).to_vec()
}

async fn broker_with_compacted_topic() -> TestBroker {
    let broker = TestBroker::start().await;
    broker.create_topic_with("profiles", 1, compacted()).await;
    append_again_and_again(&broker).await;
    let done = compact(&broker, "profiles").await.expect("compacts");
    assert_eq!((done.len(), done[0].removed_records, done[0].error.clone()), (1, 10, None));
    assert!(done[0].bytes_after < done[0].bytes_before, "{done:?}");
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_key_is_refused_and_nothing_of_its_request_is_appended() {
    let broker = TestBroker::start().await;
    broker.create_topic_with("profiles", 2, compacted()).await;
    let records = set(vec![keyed("a", "1"), keyed("", "an empty key is one"), numbered("r", 1).remove(0)]);
    for partition in [None, Some(1)] {
        let topic = "profiles".to_owned();
        let request = ProduceRequest { topic, partition, records: records.clone(), ..ProduceRequest::default() };
        let refused = refusal(broker.producer().produce(request).await);
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "RECORD_KEY_MISSING"));
        assert_eq!(refused.facts["record"], "2");
    }
    for partition in 0..2 {
        assert_eq!(broker.partition_state("profiles", partition).await.log_end_offset, 0);
    }
    broker.append("profiles", 0, set(vec![keyed("", "1"), tombstone("a")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_compacted_topics_are_compacted() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let refused = refusal(compact(&broker, "orders").await);
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "TOPIC_NOT_COMPACTED"));
    assert_eq!(refusal(compact(&broker, "nothing").await).reason, "TOPIC_NOT_FOUND");
    assert_eq!(refusal(compact(&broker, "__groups").await).reason, "TOPIC_INTERNAL");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_reading_finds_what_is_left() {
    let mut broker = broker_with_compacted_topic().await;
    for _ in 0..2 {
        for from in 0..=10 {
            let fetched = broker.fetch("profiles", 0, from).await;
            assert_eq!((values_of(&fetched.batches), fetched.next_offset), (left(), 13), "from {from}");
        }
        assert_eq!(values_of(&broker.fetch("profiles", 0, 11).await.batches), left()[1..]);

        let credit = Some(Credit { records: 2, bytes: 1 << 20 });
        let mut subscriber =
            Subscriber::open(&broker, millstream::proto::subscribe_request::Open { credit, ..from_start("profiles") })
                .await
                .expect("opens");
        assert_eq!(subscriber.take(2).await, [(0, 10, "a5".to_owned()), (0, 11, "b5".to_owned())]);
        subscriber.grant(1, 0).await;
        assert_eq!(subscriber.take(1).await, [(0, 12, "c0".to_owned())], "what is gone costs no credit");

        let client = broker.client().await;
        let at = TopicPartition { topic: TopicName::new("profiles").expect("valid"), partition: 0 };
        for (range, expected) in [(0..13, 3), (0..10, 0), (3..11, 1), (11..12, 1)] {
            let mut reader = PartitionReader::new(&client, at.clone(), Offset(range.start)..Offset(range.end));
            let mut found = 0;
            while let Some(batch) = within("the end of a range", reader.next()).await.expect("readable") {
                found += batch.record_count();
            }
            assert_eq!(found, expected, "{range:?}");
        }
        broker.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_has_read_everything_has_no_lag() {
    let broker = broker_with_compacted_topic().await;
    let mut member = Subscriber::open(&broker, as_member("profiles", "billing")).await.expect("joins");
    member.follow_until_owning(1).await;
    let seen = member.take(3).await;
    let last = seen.last().expect("three").1;
    assert_eq!(member.commit(1, vec![at_offset("profiles", 0, last + 1)]).await.errors, []);
    let described = broker.groups().describe_group(DescribeGroupRequest { group: "billing".into() }).await;
    let partition = described.expect("there is one").into_inner().partitions.remove(0);
    assert_eq!((partition.committed_offset, partition.lag_records), (Some(13), 0));
    assert_eq!(member.listen().await, [], "nothing is left for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_at_the_end_waits_for_the_next_record() {
    let broker = broker_with_compacted_topic().await;
    let position = FetchPosition { topic: "profiles".into(), partition: 0, offset: 13 };
    let request = FetchRequest { positions: vec![position], max_wait_ms: 60_000, ..FetchRequest::default() };
    let mut consumer = broker.consumer();
    let waiting = tokio::spawn(async move { consumer.fetch(request).await });
    broker.append("profiles", 0, set(vec![keyed("a", "a6")])).await;
    let fetched = within("the fetch", waiting).await.expect("it does not panic").expect("answers").into_inner();
    assert_eq!(values_of(&fetched.partitions[0].batches), [(13, "a6".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_delete_at_once_and_go_after_the_grace_time() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let shared = Arc::clone(&clock);
    let broker = TestBroker::start_with(move |setting| setting.clock = shared).await;
    let options = TopicOptions { tombstone_grace_ms: Some(60_000), ..compacted() };
    broker.create_topic_with("profiles", 1, options).await;
    append_again_and_again(&broker).await;
    broker.append("profiles", 0, set(vec![tombstone("a"), keyed("b", "b6")])).await;
    let offsets = async || {
        let fetched = broker.fetch("profiles", 0, 0).await;
        values_of(&fetched.batches).into_iter().map(|(offset, _)| offset).collect::<Vec<_>>()
    };
    compact(&broker, "profiles").await.expect("compacts");
    assert_eq!(offsets().await, [12, 13, 14]);
    clock.advance(59_999);
    compact(&broker, "profiles").await.expect("compacts");
    assert_eq!(offsets().await, [12, 13, 14], "one millisecond before its time");
    clock.advance(1);
    // Nobody asks now: it is due, and goes in the background.
    until("the tombstone to go", async || (offsets().await == [12, 14]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_segments_are_compacted_in_the_background_and_counted() {
    let broker = TestBroker::start().await;
    let as_before = TopicOptions { cleanup: Some(Cleanup::Delete as i32), ..compacted() };
    broker.create_topic_with("profiles", 1, as_before).await;
    let large = Bytes::from(vec![b'x'; 900_000]);
    for _ in 0..6 {
        broker.append("profiles", 0, set(vec![keyed("a", large.clone())])).await;
    }
    // Only now: a pass over half of it would leave the other half until there is more.
    let options = Some(TopicOptions { cleanup: Some(Cleanup::Compact as i32), ..TopicOptions::default() });
    let request = UpdateTopicRequest { name: "profiles".into(), options, ..UpdateTopicRequest::default() };
    broker.topics().update_topic(request).await.expect("altered");
    let state = until("compaction", async || {
        Some(broker.partition_state("profiles", 0).await).filter(|state| state.log_bytes < 2_000_000)
    })
    .await;
    assert_eq!((state.log_start_offset, state.log_end_offset), (0, 6));
    let fetched = broker.fetch("profiles", 0, 0).await;
    assert!(
        fetched.batches.iter().all(|batch| batch.base_offset >= 4),
        "of two sealed ones the last, and the active one"
    );
    let line = "millstream_compacted_records_total{topic=\"profiles\"} 4";
    until("the count", async || {
        let (_, page) = broker.admin_page("/metrics").await;
        let is_there = |name: &str| page.lines().any(|found| found.starts_with(name));
        let others = is_there("millstream_compaction_last_timestamp_seconds{topic=\"profiles\"} 1")
            && is_there("millstream_compacted_bytes_total{topic=\"profiles\"} 3600")
            && !is_there("millstream_compaction_seconds_count 0");
        (is_there(line) && others).then_some(())
    })
    .await;
}

/// What was written before without keys stays: nobody can tell whether it has a later record.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_become_compacted_and_cease_to_be() {
    let broker = TestBroker::start().await;
    broker.create_topic("profiles", 1).await;
    append_again_and_again(&broker).await;
    broker.append("profiles", 0, set(numbered("without-key-", 2))).await;
    let change = async |cleanup: Cleanup| {
        let options = Some(TopicOptions { cleanup: Some(cleanup as i32), ..TopicOptions::default() });
        let request = UpdateTopicRequest { name: "profiles".into(), options, ..UpdateTopicRequest::default() };
        broker.topics().update_topic(request).await.expect("altered").into_inner().topic.expect("a topic")
    };
    let topic = change(Cleanup::CompactAndDelete).await;
    assert_eq!(topic.options.expect("options").cleanup, Some(Cleanup::CompactAndDelete as i32));
    assert_eq!(compact(&broker, "profiles").await.expect("compacts")[0].removed_records, 10);
    let expected = ["a5", "b5", "c0", "without-key-0", "without-key-1"];
    let found: Vec<_> = values_of(&broker.fetch("profiles", 0, 0).await.batches);
    assert_eq!(found.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), expected);
    change(Cleanup::Delete).await;
    broker.append("profiles", 0, set(numbered("again-", 1))).await;
    assert_eq!(refusal(compact(&broker, "profiles").await).reason, "TOPIC_NOT_COMPACTED");
}

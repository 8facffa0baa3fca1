//! Topics change while they are used: options, partitions, deletion, deletion of records.

use crate::common::TestBroker;
use crate::common::records::{numbered, record_of, set, sized, values_of};
use crate::common::refusal::{Refusal, refusal};
use crate::common::subscriber::{Subscriber, as_member, at_offset, from_start};
use crate::common::until;
use millstream::proto::{
    CommitOffsetsRequest, DeleteRecordsRequest, DeleteTopicRequest, Durability, FetchOffsetsRequest, FetchPosition,
    FetchRequest, GetTopicRequest, ProduceRequest, TopicOptions, UpdateTopicRequest,
};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tonic::Code;

fn change(options: TopicOptions) -> UpdateTopicRequest {
    UpdateTopicRequest { name: "orders".into(), options: Some(options), ..Default::default() }
}

fn grow(partitions: u32) -> UpdateTopicRequest {
    UpdateTopicRequest { name: "orders".into(), partitions, ..Default::default() }
}

fn produce(records: bytes::Bytes) -> ProduceRequest {
    ProduceRequest { topic: "orders".into(), partition: Some(0), records, ..Default::default() }
}

async fn fetch_refused(broker: &TestBroker, topic: &str, offset: u64) -> Refusal {
    let position = FetchPosition { topic: topic.to_owned(), partition: 0, offset };
    refusal(broker.consumer().fetch(FetchRequest { positions: vec![position], ..Default::default() }).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_limit_holds_from_the_next_produce() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(vec![record_of(3_000)])).await;

    let limits =
        TopicOptions { record_bytes_max: Some(2_000), batch_bytes_max: Some(4_000), ..TopicOptions::default() };
    let topic = broker.topics().update_topic(change(limits)).await.expect("updated").into_inner().topic;
    let options = topic.and_then(|topic| topic.options).expect("all options are shown");
    assert_eq!((options.record_bytes_max, options.batch_bytes_max), (Some(2_000), Some(4_000)));
    assert_eq!(options.segment_bytes, Some(128 << 20), "what is not mentioned stays");

    let refused = refusal(broker.producer().produce(produce(set(vec![record_of(3_000)]))).await);
    assert_eq!(refused.reason, "RECORD_TOO_LARGE");
    let refused = refusal(broker.producer().produce(produce(set(vec![record_of(1_500); 3]))).await);
    assert_eq!(refused.reason, "BATCH_TOO_LARGE");
    assert_eq!(broker.append("orders", 0, set(vec![record_of(2_000)])).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_durability_holds_from_the_next_produce() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let reached = async || {
        let answer = broker.producer().produce(produce(set(numbered("r", 1)))).await.expect("appended").into_inner();
        answer.results[0].durability()
    };
    assert_eq!(reached().await, Durability::Synced);
    let written = TopicOptions { durability: Some(Durability::Written as i32), ..TopicOptions::default() };
    broker.topics().update_topic(change(written)).await.expect("updated");
    assert_eq!(reached().await, Durability::Written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_retention_is_enforced_without_a_restart() {
    let broker = TestBroker::start().await;
    let small_segments = TopicOptions { segment_bytes: Some(1 << 20), ..TopicOptions::default() };
    broker.create_topic_with("orders", 1, small_segments).await;
    for _ in 0..4 {
        broker.append("orders", 0, sized(1, 900_000)).await;
    }
    assert_eq!(broker.partition_state("orders", 0).await.log_start_offset, 0);

    let keep_little = TopicOptions { retention_bytes: Some(1_000_000), ..TopicOptions::default() };
    broker.topics().update_topic(change(keep_little)).await.expect("updated");
    let start = until("retention to delete old segments", async || {
        Some(broker.partition_state("orders", 0).await.log_start_offset).filter(|start| *start > 0)
    });
    assert_eq!(start.await, 3, "all but the segment that is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_option_that_is_reset_has_the_default_again() {
    let broker = TestBroker::start().await;
    let options = TopicOptions { retention_ms: Some(5_000), retention_bytes: Some(9), ..TopicOptions::default() };
    broker.create_topic_with("orders", 1, options).await;
    let request = UpdateTopicRequest { reset: vec!["retention_ms".into()], ..change(TopicOptions::default()) };
    let topic = broker.topics().update_topic(request).await.expect("updated").into_inner().topic;
    let options = topic.and_then(|topic| topic.options).expect("all options are shown");
    assert_eq!((options.retention_ms, options.retention_bytes), (Some(7 * 24 * 60 * 60 * 1_000), Some(9)));

    let request = UpdateTopicRequest { reset: vec!["colour".into()], ..change(TopicOptions::default()) };
    let refused = refusal(broker.topics().update_topic(request).await);
    assert_eq!((refused.reason.as_str(), refused.fact("field")), ("INVALID_ARGUMENT", "reset"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_is_refused_changes_nothing() {
    let broker = TestBroker::start().await;
    let before = broker.create_topic("orders", 3).await;
    let bad_option = UpdateTopicRequest {
        partitions: 5,
        ..change(TopicOptions { retention_ms: Some(999), retention_bytes: Some(7), ..TopicOptions::default() })
    };
    assert_eq!(refusal(broker.topics().update_topic(bad_option).await).reason, "INVALID_OPTION");
    for partitions in [2, 10_001] {
        let refused = refusal(broker.topics().update_topic(grow(partitions)).await);
        assert_eq!((refused.reason.as_str(), refused.fact("field")), ("INVALID_ARGUMENT", "partitions"));
    }
    let found = broker.topics().get_topic(GetTopicRequest { name: "orders".into() }).await.expect("it is there");
    assert_eq!(found.into_inner().topic, Some(before));
    let unknown = UpdateTopicRequest { name: "nope".into(), ..Default::default() };
    assert_eq!(refusal(broker.topics().update_topic(unknown).await).kind(), (Code::NotFound, "TOPIC_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn added_partitions_are_read_by_subscribers_that_are_there_already() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let mut alone = Subscriber::open(&broker, from_start("orders")).await.expect("opens");
    let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    alone.follow_until_owning(1).await;
    member.follow_until_owning(1).await;

    broker.topics().update_topic(grow(3)).await.expect("updated");
    broker.append("orders", 2, set(numbered("new-", 1))).await;
    for subscriber in [&mut alone, &mut member] {
        assert_eq!(subscriber.take(1).await, [(2, 0, "new-0".to_owned())]);
        subscriber.follow_until_owning(3).await;
        assert_eq!(subscriber.partitions(), [0, 1, 2]);
    }
}

/// A reader that was behind heard of nothing until it had caught up: under steady load, never. And what is appended to
/// a new partition before it hears of it must not be lost to it.
#[tokio::test(flavor = "multi_thread")]
async fn added_partitions_are_read_from_their_first_record_also_by_a_reader_that_is_behind() {
    const BACKLOG: usize = 40;
    let broker = TestBroker::start().await;
    let fast = TopicOptions { durability: Some(Durability::Written as i32), ..TopicOptions::default() };
    broker.create_topic_with("orders", 1, fast).await;
    for _ in 0..BACKLOG {
        broker.append("orders", 0, sized(1, 200_000)).await;
    }
    let mut behind = Subscriber::open(&broker, from_start("orders")).await.expect("opens");
    // It takes nothing, so the broker comes to a stand: a few messages wait, and one does not fit any more.
    until("the broker to wait for the reader", async || {
        let (_, page) = broker.admin_page("/metrics").await;
        let read = (6..BACKLOG).map(|read| format!("millstream_fetched_records_total{{topic=\"orders\"}} {read}"));
        page.lines().any(|line| read.clone().any(|read| read == line)).then_some(())
    })
    .await;
    broker.topics().update_topic(grow(2)).await.expect("updated");
    broker.append("orders", 1, set(numbered("new-", 1))).await;

    let mut backlog_seen = 0;
    loop {
        let records = behind.next_records().await;
        match records.partition {
            0 => backlog_seen += values_of(&records.batches).len(),
            _ => break assert_eq!(values_of(&records.batches), [(0, "new-0".to_owned())]),
        }
    }
    assert!(backlog_seen < BACKLOG, "it came when the reader had caught up");
}

fn topic_directories(broker: &TestBroker) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(broker.data_dir().join("topics")).expect("the directory of topics");
    entries.map(|entry| entry.expect("it can be listed").path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_leaves_nothing_behind() {
    let broker = TestBroker::start().await;
    let others = topic_directories(&broker);
    let first = broker.create_topic("orders", 2).await;
    broker.append("orders", 0, set(numbered("old-", 5))).await;
    let commit = CommitOffsetsRequest {
        group: "billing".into(),
        offsets: vec![at_offset("orders", 0, 4)],
        ..Default::default()
    };
    broker.consumer().commit_offsets(commit).await.expect("committed");
    assert_eq!(topic_directories(&broker).len(), others.len() + 1);

    broker.topics().delete_topic(DeleteTopicRequest { name: "orders".into() }).await.expect("deleted");
    assert_eq!(topic_directories(&broker), others, "its files are gone");
    assert_eq!(fetch_refused(&broker, "orders", 0).await.kind(), (Code::NotFound, "TOPIC_NOT_FOUND"));
    let again = broker.topics().delete_topic(DeleteTopicRequest { name: "orders".into() }).await;
    assert_eq!(refusal(again).reason, "TOPIC_NOT_FOUND");

    let second = broker.create_topic("orders", 1).await;
    assert_ne!(first.topic_id, second.topic_id);
    let request = FetchOffsetsRequest { group: "billing".into(), topics: Vec::new() };
    let offsets = broker.consumer().fetch_offsets(request).await.expect("answers").into_inner().offsets;
    assert_eq!(offsets, [], "offsets of the old topic do not mean the new one");
    assert_eq!(broker.append("orders", 0, set(numbered("new-", 1))).await, 0);
    assert_eq!(values_of(&broker.fetch("orders", 0, 0).await.batches), [(0, "new-0".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_topic_ends_the_streams_that_read_it() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let mut alone = Subscriber::open(&broker, from_start("orders")).await.expect("opens");
    let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    alone.follow_until_owning(1).await;
    member.follow_until_owning(1).await;
    broker.topics().delete_topic(DeleteTopicRequest { name: "orders".into() }).await.expect("deleted");

    let ended = refusal(alone.next().await);
    assert_eq!(ended.kind(), (Code::NotFound, "TOPIC_NOT_FOUND"));
    member.follow_until_owning(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_cannot_be_read_and_the_others_can() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    let request = DeleteRecordsRequest { topic: "orders".into(), partition: 0, before_offset: 4 };
    let deleted = broker.topics().delete_records(request.clone()).await.expect("deleted").into_inner();
    assert_eq!(deleted.log_start_offset, 4);

    let refused = fetch_refused(&broker, "orders", 3).await;
    assert_eq!(refused.kind(), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
    assert_eq!((refused.fact("earliest_offset"), refused.fact("latest_offset")), ("4", "10"));
    let read = values_of(&broker.fetch("orders", 0, 4).await.batches);
    assert_eq!((read.len(), read[0].clone()), (6, (4, "r4".to_owned())));

    let lower = DeleteRecordsRequest { before_offset: 2, ..request.clone() };
    let deleted = broker.topics().delete_records(lower).await.expect("nothing to do").into_inner();
    assert_eq!(deleted.log_start_offset, 4, "the start never moves down");
    let beyond = DeleteRecordsRequest { before_offset: 11, ..request.clone() };
    assert_eq!(refusal(broker.topics().delete_records(beyond).await).reason, "OFFSET_OUT_OF_RANGE");
    let all = DeleteRecordsRequest { before_offset: 10, ..request };
    broker.topics().delete_records(all).await.expect("everything may be deleted");
    assert_eq!(broker.append("orders", 0, set(numbered("s", 1))).await, 10, "offsets go on");
}

//! Offsets of positions.

use crate::common::TestBroker;
use crate::common::records::{numbered, record, set, timed};
use crate::common::refusal::Refusal;
use crate::common::subscriber::edge;
use millstream::proto::position::At;
use millstream::proto::{Edge, ListOffsetsEntry, ListOffsetsRequest, ListedOffset, Position};
use tonic::Code;

fn entry(partition: u32, position: Option<Position>) -> ListOffsetsEntry {
    ListOffsetsEntry { topic: "orders".into(), partition, position }
}

async fn list(broker: &TestBroker, entries: Vec<ListOffsetsEntry>) -> Vec<ListedOffset> {
    broker.consumer().list_offsets(ListOffsetsRequest { entries }).await.expect("answers").into_inner().offsets
}

async fn offset_of(broker: &TestBroker, at: At) -> u64 {
    let listed = list(broker, vec![entry(0, Some(Position { at: Some(at) }))]).await.remove(0);
    assert_eq!(listed.error, None, "{at:?}");
    listed.offset
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_position_has_its_offset() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    broker.delete_records("orders", 0, 3).await;
    for (at, expected) in [
        (At::Edge(Edge::Earliest as i32), 3),
        (At::Edge(Edge::Latest as i32), 10),
        (At::Offset(3), 3),
        (At::Offset(7), 7),
        (At::Offset(10), 10),
        (At::RecordsBeforeEnd(0), 10),
        (At::RecordsBeforeEnd(4), 6),
        (At::RecordsBeforeEnd(8), 3),
        (At::RecordsBeforeEnd(u64::MAX), 3),
    ] {
        assert_eq!(offset_of(&broker, at).await, expected, "{at:?}");
    }
    let listed = list(&broker, vec![entry(0, Some(edge(Edge::Latest)))]).await.remove(0);
    assert_eq!((listed.log_start_offset, listed.high_watermark), (3, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_means_the_first_record_at_or_after_it_even_when_times_go_back() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let times = [[100, 50, 300], [200, 250, 50], [400, 350, -7]];
    for batch in times {
        broker.append("orders", 0, set(batch.map(|time| timed(time, "x")).to_vec())).await;
    }
    let times = times.as_flattened();
    for wanted in [i64::MIN, -7, 0, 50, 51, 100, 101, 250, 300, 301, 350, 400, 401, i64::MAX] {
        let expected = times.iter().position(|time| *time >= wanted).unwrap_or(times.len()) as u64;
        assert_eq!(offset_of(&broker, At::TimestampMs(wanted)).await, expected, "time {wanted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_time_has_the_time_of_its_append() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(vec![timed(5, "old"), record("now")])).await;
    let appended_ms = broker.fetch("orders", 0, 0).await.batches[0].append_time_ms;
    assert_eq!(offset_of(&broker, At::TimestampMs(appended_ms)).await, 1);
    assert_eq!(offset_of(&broker, At::TimestampMs(6)).await, 1);
    assert_eq!(offset_of(&broker, At::TimestampMs(appended_ms + 1)).await, 2);
}

/// The search ended at a deleted record whose time fitted, and answered the first retained one, whose time did not.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_never_means_a_deleted_record() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let times = [100, 10, 20, 100, 30];
    broker.append("orders", 0, set(times.map(|time| timed(time, "x")).to_vec())).await;
    broker.append("orders", 0, set(vec![timed(200, "x")])).await;
    broker.delete_records("orders", 0, 1).await;
    assert_eq!(offset_of(&broker, At::TimestampMs(90)).await, 3);
    assert_eq!(offset_of(&broker, At::TimestampMs(5)).await, 1);
    broker.delete_records("orders", 0, 4).await;
    assert_eq!(offset_of(&broker, At::TimestampMs(90)).await, 5);
    assert_eq!(offset_of(&broker, At::TimestampMs(25)).await, 4);
    assert_eq!(offset_of(&broker, At::TimestampMs(201)).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_log_has_offsets_too() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    for at in [
        At::Edge(Edge::Earliest as i32),
        At::Edge(Edge::Latest as i32),
        At::Offset(0),
        At::TimestampMs(0),
        At::RecordsBeforeEnd(5),
    ] {
        assert_eq!(offset_of(&broker, at).await, 0, "{at:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_refused_does_not_hide_the_others() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    let unknown_topic = ListOffsetsEntry { topic: "nope".into(), ..entry(0, Some(edge(Edge::Latest))) };
    let entries = vec![
        entry(0, Some(edge(Edge::Latest))),
        unknown_topic,
        entry(1, Some(edge(Edge::Latest))),
        entry(0, Some(Position { at: Some(At::Offset(11)) })),
        entry(0, None),
        entry(0, Some(edge(Edge::Unspecified))),
        entry(0, Some(Position { at: Some(At::Edge(77)) })),
    ];
    let listed = list(&broker, entries).await;
    assert_eq!((listed[0].offset, listed[0].error.as_ref()), (10, None));
    let refused = |i: usize| Refusal::from(listed[i].error.clone().expect("it is refused"));
    assert_eq!(refused(1).kind(), (Code::NotFound, "TOPIC_NOT_FOUND"));
    assert_eq!((refused(2).reason.as_str(), refused(2).fact("partitions")), ("PARTITION_NOT_FOUND", "1"));
    assert_eq!((refused(3).reason.as_str(), refused(3).fact("latest_offset")), ("OFFSET_OUT_OF_RANGE", "10"));
    for i in 4..7 {
        assert_eq!((refused(i).reason.as_str(), refused(i).fact("field")), ("INVALID_ARGUMENT", "position"));
    }
}

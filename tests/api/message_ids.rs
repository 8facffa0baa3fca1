//! Message ids: within its window, a topic appends a message once.

use crate::common::TestBroker;
use crate::common::records::{record, set, values_of};
use crate::common::refusal::refusal;
use millstream::clock::ManualClock;
use millstream::proto::{InitProducerRequest, ProduceRequest, ProduceResult, Record, TopicOptions, UpdateTopicRequest};
use std::sync::Arc;
use tonic::Code;

const WINDOW_MS: u64 = 60_000;

/// A record whose value is its id; without an id, "-".
fn named(id: &str) -> Record {
    match id {
        "-" => record("-"),
        id => Record { message_id: Some(id.to_owned()), ..record(id.to_owned()) },
    }
}

fn request(ids: &[&str]) -> ProduceRequest {
    let records = set(ids.iter().map(|id| named(id)).collect());
    ProduceRequest { topic: "orders".into(), partition: Some(0), records, ..ProduceRequest::default() }
}

async fn send(broker: &TestBroker, request: ProduceRequest) -> ProduceResult {
    broker.producer().produce(request).await.expect("answered").into_inner().results.remove(0)
}

/// Which records were not appended, and where they are.
fn repeats(result: &ProduceResult) -> Vec<(u32, u64)> {
    result.duplicates.iter().map(|found| (found.record_index, found.offset)).collect()
}

async fn values(broker: &TestBroker) -> Vec<String> {
    values_of(&broker.fetch("orders", 0, 0).await.batches).into_iter().map(|(_, value)| value).collect()
}

fn window(ms: u64) -> TopicOptions {
    TopicOptions { dedup_window_ms: Some(ms), ..TopicOptions::default() }
}

async fn broker_with_clock() -> (TestBroker, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let hands = Arc::clone(&clock);
    let broker = TestBroker::start_with(|setting| setting.clock = clock).await;
    broker.create_topic_with("orders", 1, window(WINDOW_MS)).await;
    (broker, hands)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_appended_once_within_the_window() {
    let (broker, hands) = broker_with_clock().await;
    let first = send(&broker, request(&["a", "-", "b", "a"])).await;
    assert_eq!((first.base_offset, first.record_count, repeats(&first)), (0, 3, vec![(3, 0)]));
    let second = send(&broker, request(&["b", "c", "-"])).await;
    assert_eq!((second.base_offset, second.record_count, repeats(&second)), (3, 2, vec![(0, 2)]));
    let nothing = send(&broker, request(&["c", "a"])).await;
    assert_eq!((nothing.record_count, repeats(&nothing)), (0, vec![(0, 3), (1, 0)]));
    assert!(!nothing.duplicate, "it is no repeat of a batch");
    assert_eq!(values(&broker).await, ["a", "-", "b", "c", "-"]);
    hands.advance(WINDOW_MS.cast_signed() + 1);
    assert_eq!(send(&broker, request(&["a", "b"])).await.record_count, 2, "the window has passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_no_id_within_the_window() {
    let (mut broker, hands) = broker_with_clock().await;
    send(&broker, request(&["old"])).await;
    hands.advance(WINDOW_MS.cast_signed() / 2);
    send(&broker, request(&["a", "-", "b"])).await;
    for _ in 0..2 {
        broker.restart().await;
        assert_eq!(repeats(&send(&broker, request(&["b", "old", "a"])).await), [(0, 3), (1, 0), (2, 1)]);
    }
    hands.advance(WINDOW_MS.cast_signed() / 2 + 1);
    broker.restart().await;
    let later = send(&broker, request(&["old", "a"])).await;
    assert_eq!((later.record_count, repeats(&later)), (1, vec![(1, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_opened_or_widened_holds_what_is_in_the_log() {
    let (broker, hands) = broker_with_clock().await;
    let update = async |ms| {
        let options = Some(window(ms));
        let update = UpdateTopicRequest { name: "orders".into(), options, ..UpdateTopicRequest::default() };
        broker.topics().update_topic(update).await.expect("updated");
    };
    update(0).await;
    for _ in 0..2 {
        assert_eq!(send(&broker, request(&["a"])).await.record_count, 1, "nobody looks at ids");
    }
    update(WINDOW_MS).await;
    assert_eq!(repeats(&send(&broker, request(&["a"])).await), [(0, 1)]);
    hands.advance(WINDOW_MS.cast_signed() + 1);
    update(4 * WINDOW_MS).await;
    assert_eq!(repeats(&send(&broker, request(&["a"])).await), [(0, 1)]);
    update(1).await;
    assert_eq!(send(&broker, request(&["a"])).await.record_count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_the_id_chooses_the_partition_so_a_repeat_meets_the_original() {
    let broker = TestBroker::start().await;
    broker.create_topic_with("orders", 7, window(WINDOW_MS)).await;
    let ids: Vec<String> = (0..40).map(|n| format!("id-{n}")).collect();
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    let anywhere = || ProduceRequest { partition: None, ..request(&all) };
    let results = broker.producer().produce(anywhere()).await.expect("appended").into_inner().results;
    assert!(results.len() > 3, "they are spread");
    assert_eq!(results.iter().map(|result| result.record_count).sum::<u32>(), 40);
    let results = broker.producer().produce(anywhere()).await.expect("answered").into_inner().results;
    assert_eq!(results.iter().map(|result| result.record_count).sum::<u32>(), 0);
    let mut found: Vec<u32> = results.iter().flat_map(repeats).map(|(index, _)| index).collect();
    found.sort_unstable();
    assert_eq!(found, (0..40).collect::<Vec<_>>(), "indexes are those of the request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_of_a_batch_is_known_although_some_of_its_messages_were_left_out() {
    let (mut broker, _) = broker_with_clock().await;
    send(&broker, request(&["a"])).await;
    let given = broker.producer().init_producer(InitProducerRequest::default()).await.expect("given").into_inner();
    let stamped = |sequence, ids: &[&str]| ProduceRequest {
        producer_id: given.producer_id,
        base_sequence: Some(sequence),
        ..request(ids)
    };
    let first = send(&broker, stamped(0, &["x", "a", "-", "y"])).await;
    assert_eq!((first.base_offset, first.record_count, repeats(&first)), (1, 3, vec![(1, 0)]));
    let nothing = send(&broker, stamped(4, &["a", "x"])).await;
    assert_eq!((nothing.record_count, nothing.duplicate), (0, false));
    assert!(send(&broker, stamped(4, &["a", "x"])).await.duplicate);
    let next = send(&broker, stamped(6, &["z"])).await;
    assert_eq!((next.base_offset, next.duplicate), (4, false));
    for _ in 0..2 {
        let again = send(&broker, stamped(0, &["x", "a", "-", "y"])).await;
        assert_eq!(again, ProduceResult { duplicate: true, ..first.clone() });
        assert!(send(&broker, stamped(6, &["z"])).await.duplicate);
        broker.restart().await;
    }
    assert_eq!(send(&broker, stamped(7, &["last"])).await.base_offset, 5);
    assert_eq!(values(&broker).await, ["a", "x", "-", "y", "z", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_windows_out_of_bounds_are_refused() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    for id in ["", &"x".repeat(129)] {
        let refused = refusal(broker.producer().produce(request(&[id])).await);
        assert_eq!(refused.kind(), (Code::InvalidArgument, "RECORDS_MALFORMED"), "{id:?}");
    }
    let day = 86_400_000;
    for (retention_ms, window_ms) in [(0, day + 1), (5_000, 5_001)] {
        let options = TopicOptions { retention_ms: Some(retention_ms), ..window(window_ms) };
        let create = millstream::proto::CreateTopicRequest { name: "x".into(), partitions: 1, options: Some(options) };
        let refused = refusal(broker.topics().create_topic(create).await);
        assert_eq!((refused.reason.as_str(), refused.fact("option")), ("INVALID_OPTION", "dedup_window_ms"));
    }
}

//! Record sets that are not what they should be, or too large. Nothing of them is appended.

use crate::common::TestBroker;
use crate::common::records::{keyed, record, record_of, set, set_of, values_of};
use crate::common::refusal::{Refusal, refusal};
use bytes::Bytes;
use millstream::proto::{Header, ProduceRequest, ProduceStreamRequest, Record, TopicOptions};
use prost::Message as _;
use tonic::Code;

const LIMIT: usize = 10_000;

/// A broker whose topic `orders` takes records and batches of up to [`LIMIT`] and twice that many bytes.
async fn broker() -> TestBroker {
    let broker = TestBroker::start().await;
    let limits = TopicOptions {
        record_bytes_max: Some(u32::try_from(LIMIT).expect("small")),
        batch_bytes_max: Some(u32::try_from(2 * LIMIT).expect("small")),
        ..TopicOptions::default()
    };
    broker.create_topic_with("orders", 2, limits).await;
    broker
}

fn request(records: Bytes) -> ProduceRequest {
    ProduceRequest { topic: "orders".into(), partition: Some(0), records, ..Default::default() }
}

async fn refused(broker: &TestBroker, records: Bytes) -> Refusal {
    let refused = refusal(broker.producer().produce(request(records)).await);
    assert_eq!((refused.fact("retryable"), refused.fact("no_side_effects")), ("false", "true"));
    assert_eq!(refused.fact("topic"), "orders");
    refused
}

/// The broker serves, and what it was sent so far left nothing behind.
async fn serves_and_is_empty(broker: &TestBroker) {
    assert_eq!(broker.partition_state("orders", 0).await.log_end_offset, 0);
    assert_eq!(broker.append("orders", 0, set(vec![record("good")])).await, 0);
    assert_eq!(values_of(&broker.fetch("orders", 0, 0).await.batches), [(0, "good".to_owned())]);
}

/// Random bytes, the same ones each time: xorshift.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_record_set_are_refused_with_the_place_of_the_fault() {
    let broker = broker().await;
    let good = set(vec![keyed("key", "value"); 3]);
    let cut = good.slice(..good.len() - 1);
    let refusal = refused(&broker, cut).await;
    assert_eq!(refusal.kind(), (Code::InvalidArgument, "RECORDS_MALFORMED"));
    assert_eq!(refusal.fact("record"), "2", "the first two are whole");
    assert!(refusal.fact("position").parse::<usize>().is_ok_and(|position| position < good.len()), "{refusal:?}");

    let wrong_type = Bytes::from_static(&[0x0A, 2, 0x08, 1]);
    let wrong_field = Bytes::from_static(&[0x12, 1, b'x']);
    let endless = Bytes::from_static(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]);
    let not_text = Bytes::from_static(&[0x0A, 5, 0x1A, 3, 0x0A, 1, 0xFF]);
    for records in [wrong_type, wrong_field, endless, not_text] {
        assert_eq!(refused(&broker, records.clone()).await.reason, "RECORDS_MALFORMED", "{records:?}");
    }
    serves_and_is_empty(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_is_refused_and_harms_nobody() {
    let broker = broker().await;
    for seed in 0..300_u64 {
        let len = usize::try_from(seed).expect("small") * 7 + 1;
        // The first byte is never that of a record set, so none of this can be one by chance.
        let mut bytes = noise(seed, len);
        bytes[0] = bytes[0].max(0x0B);
        assert_eq!(refused(&broker, bytes.into()).await.reason, "RECORDS_MALFORMED", "seed {seed}");
    }
    // Noise behind a good record: the whole set is refused.
    let mut set = set(vec![record("good")]).to_vec();
    set.extend([0x0B, 1, 2, 3]);
    assert_eq!(refused(&broker, set.into()).await.fact("record"), "1");
    serves_and_is_empty(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_without_records_is_refused() {
    let broker = broker().await;
    assert_eq!(refused(&broker, Bytes::new()).await.kind(), (Code::InvalidArgument, "RECORDS_EMPTY"));
    serves_and_is_empty(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_may_be_as_large_as_its_topic_says_and_not_a_byte_more() {
    let broker = broker().await;
    let too_large = refused(&broker, set(vec![record("small"), record_of(LIMIT + 1)])).await;
    assert_eq!(too_large.kind(), (Code::InvalidArgument, "RECORD_TOO_LARGE"));
    let facts = ["record", "bytes", "limit_bytes"].map(|name| too_large.fact(name));
    assert_eq!(facts, ["1", "10001", "10000"]);
    assert!(too_large.message.contains("record_bytes_max"), "{}", too_large.message);
    serves_and_is_empty(&broker).await;
    assert_eq!(broker.append("orders", 0, set(vec![record_of(LIMIT)])).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_be_as_large_as_its_topic_says_and_not_a_byte_more() {
    let broker = broker().await;
    let too_large = refused(&broker, set_of(2 * LIMIT + 1)).await;
    assert_eq!(too_large.kind(), (Code::InvalidArgument, "BATCH_TOO_LARGE"));
    let facts = ["bytes", "limit_bytes"].map(|name| too_large.fact(name));
    assert_eq!(facts, ["20001", "20000"]);
    assert!(too_large.message.contains("batch_bytes_max"), "{}", too_large.message);
    serves_and_is_empty(&broker).await;
    assert_eq!(broker.append("orders", 0, set_of(2 * LIMIT)).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_key_has_1_024_bytes_at_most() {
    let broker = broker().await;
    let with_key = |bytes: usize| {
        let header = Header { key: "k".repeat(bytes), value: Bytes::new() };
        set(vec![Record { headers: vec![header], ..record("x") }])
    };
    assert_eq!(refused(&broker, with_key(1_025)).await.reason, "RECORDS_MALFORMED");
    serves_and_is_empty(&broker).await;
    assert_eq!(broker.append("orders", 0, with_key(1_024)).await, 1);
}

/// The largest batch there can be is accepted, and a request beyond the limit of requests is not even read.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_largest_size() {
    const REQUEST_BYTES_MAX: usize = (8 << 20) + (64 << 10);
    let broker = TestBroker::start().await;
    let largest = TopicOptions { batch_bytes_max: Some(8 << 20), ..TopicOptions::default() };
    broker.create_topic_with("orders", 2, largest).await;
    let framing = request(set_of(REQUEST_BYTES_MAX - 100)).encoded_len() - (REQUEST_BYTES_MAX - 100);

    let just_read = request(set_of(REQUEST_BYTES_MAX - framing));
    assert_eq!(just_read.encoded_len(), REQUEST_BYTES_MAX);
    let refused = refusal(broker.producer().produce(just_read).await);
    assert_eq!((refused.reason.as_str(), refused.fact("limit_bytes")), ("BATCH_TOO_LARGE", "8388608"));
    let not_read = request(set_of(REQUEST_BYTES_MAX - framing + 1));
    let refused = refusal(broker.producer().produce(not_read).await);
    assert_eq!(refused.code, Code::OutOfRange, "{}", refused.message);
    assert!(refused.message.contains(&REQUEST_BYTES_MAX.to_string()), "{}", refused.message);

    serves_and_is_empty(&broker).await;
    broker.append("orders", 1, set_of(8 << 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_stream_bad_records_cost_their_request_and_nothing_else() {
    let broker = broker().await;
    let message = |correlation_id, records| ProduceStreamRequest { correlation_id, request: Some(request(records)) };
    let messages = vec![
        message(1, Bytes::from_static(&[0x0A, 9])),
        message(2, set(vec![record_of(LIMIT + 1)])),
        message(3, set_of(2 * LIMIT + 1)),
        message(4, set(vec![record("good")])),
    ];
    let answers = broker.producer().produce_stream(tokio_stream::iter(messages)).await.expect("opens");
    let mut answers = answers.into_inner();
    for (id, reason) in [(1, "RECORDS_MALFORMED"), (2, "RECORD_TOO_LARGE"), (3, "BATCH_TOO_LARGE"), (4, "")] {
        let answer = answers.message().await.expect("the stream goes on").expect("an answer");
        let found = answer.error.map(Refusal::from);
        assert_eq!((answer.correlation_id, found.map_or(String::new(), |error| error.reason)), (id, reason.to_owned()));
    }
    assert_eq!(broker.partition_state("orders", 0).await.log_end_offset, 1);
}

//! `RequestService`: a record that somebody waits for the answer to, and what becomes of either side without the other.

use crate::common::records::{record, record_of, records_of};
use crate::common::refusal::{Refusal, refusal};
use crate::common::{TestBroker, until, within};
use crate::queues::{create, patient, receive};
use futures_util::future::{Either, join_all, select};
use millstream::broker::requests::Request;
use millstream::clock::AdvancingClock;
use millstream::proto::{
    AdvanceClockRequest, DeleteTopicRequest, Header, QueueMessage, Record, ReplyRequest, ReplyResponse, RequestRequest,
    RequestResponse, TopicOptions, admin_service_client::AdminServiceClient,
};
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::{Code, Response, Status};

/// Longer than any test waits, and the most that may be asked for.
const LONG_MS: u32 = 600_000;

type Call = JoinHandle<Result<Response<RequestResponse>, Status>>;

/// A broker with an empty topic `orders`, and a queue `work` on it.
async fn start() -> TestBroker {
    let broker = TestBroker::start().await;
    with_queue(&broker).await;
    broker
}

async fn with_queue(broker: &TestBroker) {
    broker.create_topic("orders", 1).await;
    create(broker, "work", patient()).await.expect("the queue can be created");
}

fn question(value: &str) -> RequestRequest {
    let record = record(value.to_owned()).encode_to_vec().into();
    RequestRequest { topic: "orders".into(), record, timeout_ms: LONG_MS, ..RequestRequest::default() }
}

/// A caller in a task of its own.
fn ask(broker: &TestBroker, request: RequestRequest) -> Call {
    let mut requests = broker.requests();
    tokio::spawn(async move { requests.request(request).await })
}

async fn answer_of(call: Call) -> Result<RequestResponse, Status> {
    within("the end of the call", call).await.expect("it does not panic").map(Response::into_inner)
}

/// The next message of the queue, and the token on it.
async fn next(broker: &TestBroker) -> (QueueMessage, String) {
    let message = within("a request", receive(broker, 1)).await.pop().expect("there is one");
    let token = header(&decode(&message.record), "reply-token").expect("it is a request");
    (message, token)
}

fn decode(record: &bytes::Bytes) -> Record {
    Record::decode(record.clone()).expect("it is a record")
}

fn header(record: &Record, name: &str) -> Option<String> {
    let found = record.headers.iter().find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(&found.value).into_owned())
}

fn value(record: &bytes::Bytes) -> String {
    String::from_utf8_lossy(&decode(record).value.unwrap_or_default()).into_owned()
}

async fn reply(broker: &TestBroker, token: &str, value: &str) -> Result<ReplyResponse, Refusal> {
    let record = record(value.to_owned()).encode_to_vec().into();
    give(broker, ReplyRequest { token: token.into(), record, failure: None }).await
}

async fn give(broker: &TestBroker, request: ReplyRequest) -> Result<ReplyResponse, Refusal> {
    let replied = within("the answer to a reply", broker.requests().reply(request.clone())).await;
    replied.map(Response::into_inner).map_err(Refusal::from)
}

async fn waiting(broker: &TestBroker, count: usize) {
    let line = format!("millstream_requests_waiting {count}");
    until("so many to wait", async || broker.has_metric(&line).await.then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_reaches_the_caller_that_waits_for_it() {
    let broker = start().await;
    let call = ask(&broker, question("how many?"));
    let (message, token) = next(&broker).await;
    assert_eq!(value(&message.record), "how many?");
    let by: i64 = header(&decode(&message.record), "reply-by-ms").expect("there is one").parse().expect("a number");
    let left_ms = by - message.append_time_ms;
    assert!((i64::from(LONG_MS / 2)..=i64::from(LONG_MS)).contains(&left_ms), "counted from the call: {left_ms}");
    waiting(&broker, 1).await;
    let replied = reply(&broker, &token, "three").await.expect("somebody waits");
    assert_eq!(replied, ReplyResponse { delivered: true, appended: None });

    let answer = answer_of(call).await.expect("there is a reply");
    assert_eq!((value(&answer.reply).as_str(), answer.failure.as_deref()), ("three", None));
    assert_eq!((answer.partition, answer.offset), (0, message.offset));
    assert_eq!(answer.append_time_ms, message.append_time_ms);
    assert_eq!(answer.durability(), millstream::proto::Durability::Synced);
    waiting(&broker, 0).await;
    assert!(broker.has_metric("millstream_requests_answered_total 1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_reply_is_refused_and_the_first_counts() {
    let broker = start().await;
    let call = ask(&broker, question("q"));
    let (_, token) = next(&broker).await;
    reply(&broker, &token, "first").await.expect("somebody waits");
    let refused = reply(&broker, &token, "second").await.expect_err("it has one");
    assert_eq!(refused.kind(), (Code::AlreadyExists, "REPLY_ALREADY_GIVEN"));
    assert_eq!(value(&answer_of(call).await.expect("there is a reply").reply), "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_can_say_that_the_work_has_failed() {
    let broker = start().await;
    let call = ask(&broker, question("q"));
    let (_, token) = next(&broker).await;
    let failed = ReplyRequest { token, record: bytes::Bytes::new(), failure: Some("no such order".into()) };
    give(&broker, failed).await.expect("somebody waits");
    let answer = answer_of(call).await.expect("a failed reply is one");
    assert_eq!((answer.failure.as_deref(), decode(&answer.reply)), (Some("no such order"), Record::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_replies_to_times_out_and_stays_in_its_log() {
    let broker = TestBroker::start_with(|setting| setting.clock = Arc::new(AdvancingClock::default())).await;
    with_queue(&broker).await;
    let call = ask(&broker, question("q"));
    let (message, token) = next(&broker).await;
    let mut admin = AdminServiceClient::new(broker.channel());
    let almost = AdvanceClockRequest { advance_ms: u64::from(LONG_MS) - 60_000 };
    admin.advance_clock(almost).await.expect("it is a clock for tests");
    waiting(&broker, 1).await;
    admin.advance_clock(AdvanceClockRequest { advance_ms: 60_000 }).await.expect("it is a clock for tests");

    let refused = Refusal::from(answer_of(call).await.expect_err("nobody has replied"));
    assert_eq!(refused.kind(), (Code::DeadlineExceeded, "REQUEST_TIMED_OUT"));
    assert_eq!((refused.fact("topic"), refused.fact("offset")), ("orders", message.offset.to_string().as_str()));
    assert_eq!((refused.fact("no_side_effects"), refused.fact("retryable")), ("false", "false"));
    assert!(broker.has_metric("millstream_requests_timed_out_total 1").await);
    let late = reply(&broker, &token, "late").await.expect_err("nobody waits");
    assert_eq!((late.kind(), late.fact("cause")), ((Code::NotFound, "REPLY_NOT_AWAITED"), "caller_gone"));
    let fetched = records_of(&broker.fetch("orders", 0, 0).await.batches);
    assert_eq!(fetched.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_is_forgotten_and_its_request_is_not() {
    let broker = start().await;
    let call = ask(&broker, question("q"));
    let (_, token) = next(&broker).await;
    call.abort();
    waiting(&broker, 0).await;
    let late = reply(&broker, &token, "late").await.expect_err("nobody waits");
    assert_eq!((late.kind(), late.fact("cause")), ((Code::NotFound, "REPLY_NOT_AWAITED"), "caller_gone"));
    assert_eq!(broker.partition_state("orders", 0).await.high_watermark, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_ends_the_wait_and_says_where_the_request_is() {
    let mut broker = start().await;
    let call = ask(&broker, question("q"));
    let (_, token) = next(&broker).await;
    broker.begin_drain();
    let refused = Refusal::from(answer_of(call).await.expect_err("the broker stops"));
    assert_eq!((refused.kind(), refused.fact("offset")), ((Code::Unavailable, "DRAINING"), "0"));
    assert_eq!(refused.fact("no_side_effects"), "false");
    broker.restart().await;
    let late = reply(&broker, &token, "late").await.expect_err("that call is over");
    assert_eq!((late.kind(), late.fact("cause")), ((Code::NotFound, "REPLY_NOT_AWAITED"), "broker_restarted"));
}

/// Replies come in another order than requests, from four repliers at once.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_requests_each_gets_its_own_reply() {
    const CALLS: usize = 200;
    let broker = start().await;
    let calls: Vec<_> = (0..CALLS).map(|i| ask(&broker, question(&format!("q{i}")))).collect();
    let mut messages = Vec::new();
    while messages.len() < CALLS {
        messages.extend(receive(&broker, 100).await);
    }
    messages.reverse();
    let repliers = messages.chunks(CALLS / 4).map(async |messages| {
        for message in messages {
            let token = header(&decode(&message.record), "reply-token").expect("it is a request");
            reply(&broker, &token, &format!("reply to {}", value(&message.record))).await.expect("somebody waits");
        }
    });
    join_all(repliers).await;
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(value(&answer_of(call).await.expect("there is a reply").reply), format!("reply to q{i}"));
    }
}

/// Calls in this process: ten thousand over sockets would measure the sockets.
#[tokio::test(flavor = "multi_thread")]
async fn as_many_requests_wait_as_may_and_the_next_one_is_refused_before_it_is_appended() {
    const MOST: usize = millstream::limits::WAITING_REQUESTS_MAX;
    let broker = start().await;
    let request = || Request {
        topic: "orders",
        partition: None,
        record: bytes::Bytes::new(),
        durability: Some(millstream::types::Durability::Written),
        timeout: Duration::from_millis(LONG_MS.into()),
        reply_topic: "",
    };
    let calls = join_all((0..MOST).map(|_| broker.inside().request(request())));
    let refused = async {
        waiting(&broker, MOST).await;
        refusal(broker.requests().request(question("one more")).await)
    };
    let refused = Box::pin(refused);
    let Either::Right((refused, calls)) = select(calls, refused).await else { panic!("nobody has replied") };
    assert_eq!((refused.kind(), refused.fact("limit")), ((Code::ResourceExhausted, "LIMIT_REACHED"), "10000"));
    assert_eq!(refused.fact("no_side_effects"), "true");
    drop(calls);
    waiting(&broker, 0).await;
    let call = ask(&broker, question("now"));
    waiting(&broker, 1).await;
    call.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_reply_topic_the_reply_is_there_before_its_caller_has_it() {
    let broker = start().await;
    broker.create_topic("results", 1).await;
    let call = ask(&broker, RequestRequest { reply_topic: "results".into(), ..question("q") });
    let (message, token) = next(&broker).await;
    let correlation_id = header(&decode(&message.record), "correlation-id").expect("the broker adds one");
    let replied = reply(&broker, &token, "r").await.expect("somebody waits");
    let appended = replied.appended.expect("it was appended");
    assert_eq!((replied.delivered, appended.topic.as_str(), appended.offset), (true, "results", 0));
    let answer = answer_of(call).await.expect("there is a reply");
    assert_eq!((value(&answer.reply).as_str(), &answer.correlation_id), ("r", &correlation_id));
    let results = records_of(&broker.fetch("results", 0, 0).await.batches);
    let [(0, found)] = &results[..] else { panic!("one reply: {results:?}") };
    assert_eq!(header(found, "correlation-id"), Some(correlation_id));
    assert_eq!(header(found, "reply-failure"), None);
}

/// Nothing depends on who waits: neither the caller nor the broker is the one there was.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_reply_topic_nobody_needs_to_wait() {
    let mut broker = start().await;
    broker.create_topic_with("results", 1, TopicOptions { dedup_window_ms: Some(60_000), ..Default::default() }).await;
    let mut asked = record("q");
    asked.headers.push(Header { key: "correlation-id".into(), value: "order-17".into() });
    let record = asked.encode_to_vec().into();
    let call = ask(&broker, RequestRequest { reply_topic: "results".into(), record, ..question("") });
    let (_, token) = next(&broker).await;
    call.abort();
    waiting(&broker, 0).await;
    broker.restart().await;
    let failed = ReplyRequest { token: token.clone(), record: bytes::Bytes::new(), failure: Some("sold out".into()) };
    let replied = give(&broker, failed.clone()).await.expect("its topic is there");
    assert!(!replied.delivered && replied.appended.is_some());
    for _ in 0..2 {
        let refused = give(&broker, failed.clone()).await.expect_err("it has one");
        assert_eq!(refused.kind(), (Code::AlreadyExists, "REPLY_ALREADY_GIVEN"), "now by memory, then by message id");
        broker.restart().await;
    }
    let results = records_of(&broker.fetch("results", 0, 0).await.batches);
    let [(0, found)] = &results[..] else { panic!("one reply: {results:?}") };
    assert_eq!(header(found, "correlation-id").as_deref(), Some("order-17"));
    assert_eq!(header(found, "reply-failure").as_deref(), Some("sold out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_cannot_be_appended_reaches_nobody_and_can_be_given_again() {
    let broker = start().await;
    broker.create_topic("results", 1).await;
    let call = ask(&broker, RequestRequest { reply_topic: "results".into(), ..question("q") });
    let (_, token) = next(&broker).await;
    broker.topics().delete_topic(DeleteTopicRequest { name: "results".into() }).await.expect("deleted");
    let refused = reply(&broker, &token, "r").await.expect_err("there is no such topic");
    assert_eq!(refused.kind(), (Code::NotFound, "TOPIC_NOT_FOUND"));
    broker.create_topic("results", 1).await;
    assert!(reply(&broker, &token, "r").await.expect("it is there again").delivered);
    assert_eq!(value(&answer_of(call).await.expect("there is a reply").reply), "r");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_appended_before_is_not_waited_for() {
    let broker = TestBroker::start().await;
    broker.create_topic_with("orders", 1, TopicOptions { dedup_window_ms: Some(60_000), ..Default::default() }).await;
    create(&broker, "work", patient()).await.expect("the queue can be created");
    let mut named = question("");
    named.record = Record { message_id: Some("order-17".into()), ..record("q") }.encode_to_vec().into();
    let call = ask(&broker, named.clone());
    let (_, token) = next(&broker).await;
    let refused = refusal(broker.requests().request(named).await);
    assert_eq!((refused.kind(), refused.fact("offset")), ((Code::AlreadyExists, "REQUEST_REPEATED"), "0"));
    reply(&broker, &token, "r").await.expect("the first call still waits");
    answer_of(call).await.expect("there is a reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_bounds_is_refused_and_nothing_is_appended() {
    let broker = start().await;
    let with_header = |key: &str, value: &str| {
        let headers = vec![Header { key: key.into(), value: bytes::Bytes::from(value.to_owned()) }];
        Record { headers, ..record("q") }.encode_to_vec().into()
    };
    let long = "c".repeat(129);
    let orders = || "orders".to_owned();
    for (request, reason) in [
        (RequestRequest { timeout_ms: LONG_MS + 1, ..question("q") }, "INVALID_ARGUMENT"),
        (RequestRequest { record: vec![0x1A, 0x50].into(), ..question("q") }, "INVALID_ARGUMENT"),
        (RequestRequest { record: with_header("reply-token", "x"), ..question("q") }, "INVALID_ARGUMENT"),
        (
            RequestRequest { record: with_header("correlation-id", &long), reply_topic: orders(), ..question("q") },
            "INVALID_ARGUMENT",
        ),
        (RequestRequest { reply_topic: "nowhere".into(), ..question("q") }, "TOPIC_NOT_FOUND"),
        (RequestRequest { reply_topic: "__queues".into(), ..question("q") }, "TOPIC_INTERNAL"),
        (RequestRequest { topic: "nowhere".into(), ..question("q") }, "TOPIC_NOT_FOUND"),
        (RequestRequest { partition: Some(7), ..question("q") }, "PARTITION_NOT_FOUND"),
        (RequestRequest { durability: 99, ..question("q") }, "INVALID_ARGUMENT"),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(refusal(broker.requests().request(request).await).reason, reason, "{shown}");
    }
    assert_eq!(broker.partition_state("orders", 0).await.high_watermark, 0);
    assert!(broker.has_metric("millstream_requests_waiting 0").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_out_of_bounds_is_refused_and_its_caller_waits_on() {
    let broker = start().await;
    let call = ask(&broker, question("q"));
    let (_, token) = next(&broker).await;
    let most = millstream::limits::REPLY_BYTES_MAX;
    let of = |bytes| record_of(bytes).encode_to_vec().into();
    let right = ReplyRequest { token: token.clone(), record: of(most), failure: None };
    for (wrong, reason) in [
        (ReplyRequest { record: of(most + 1), ..right.clone() }, "REPLY_TOO_LARGE"),
        (ReplyRequest { record: vec![0x0A, 0x50].into(), ..right.clone() }, "INVALID_ARGUMENT"),
        (ReplyRequest { failure: Some("x".repeat(1025)), ..right.clone() }, "INVALID_ARGUMENT"),
        (ReplyRequest { token: String::new(), ..right.clone() }, "REPLY_TOKEN_UNKNOWN"),
        (ReplyRequest { token: format!("{token}A"), ..right.clone() }, "REPLY_TOKEN_UNKNOWN"),
    ] {
        assert_eq!(give(&broker, wrong).await.expect_err("it is wrong").reason, reason);
    }
    give(&broker, right).await.expect("the largest there may be");
    assert_eq!(answer_of(call).await.expect("there is a reply").reply.len(), most);
}

//! A clock that a test moves: what takes a day takes no time, and nothing comes early.

use crate::common::TestBroker;
use crate::common::queue_stream::nack;
use crate::common::records::{numbered, record, set};
use crate::common::refusal::refusal;
use crate::common::until;
use crate::queues::{create, expect, get, receive, receive_now, seen, settle};
use millstream::clock::AdvancingClock;
use millstream::proto::admin_service_client::AdminServiceClient;
use millstream::proto::when::At;
use millstream::proto::{AddSchedulesRequest, AdvanceClockRequest, NewSchedule, QueuePolicy, TopicOptions, When};
use prost::Message as _;
use std::sync::Arc;
use tonic::Code;

const HOUR_MS: u64 = 60 * 60 * 1000;

async fn broker_of_tests() -> TestBroker {
    let broker = TestBroker::start_with(|setting| setting.clock = Arc::new(AdvancingClock::default())).await;
    broker.create_topic("orders", 1).await;
    broker
}

async fn advance(broker: &TestBroker, advance_ms: u64) -> i64 {
    let mut admin = AdminServiceClient::new(broker.channel());
    admin.advance_clock(AdvanceClockRequest { advance_ms }).await.expect("it can be moved").into_inner().now_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_day_comes_when_the_day_was_let_pass_and_not_before() {
    let broker = broker_of_tests().await;
    broker.append("orders", 0, set(numbered("m", 1))).await;
    create(&broker, "work", QueuePolicy { lease_ms: Some(7 * 24 * HOUR_MS), ..QueuePolicy::default() })
        .await
        .expect("ok");
    let messages = receive(&broker, 1).await;
    assert_eq!(settle(&broker, vec![nack(&messages[0], Some(24 * HOUR_MS))]).await, []);
    let before = advance(&broker, 23 * HOUR_MS).await;
    assert_eq!(
        (receive_now(&broker).await, get(&broker).await.partitions[0].waiting),
        (vec![], 1),
        "not a minute early"
    );
    let after = advance(&broker, HOUR_MS).await;
    assert_eq!(seen(&receive(&broker, 1).await), expect(&[("m0", 2)]));
    assert!(after - before >= i64::try_from(HOUR_MS).expect("small"));
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_ages_end_when_their_time_was_let_pass() {
    let broker = broker_of_tests().await;
    broker.append("orders", 0, set(numbered("m", 2))).await;
    let (lease_ms, message_ttl_ms) = (Some(HOUR_MS), Some(48 * HOUR_MS));
    create(&broker, "work", QueuePolicy { lease_ms, message_ttl_ms, ..QueuePolicy::default() }).await.expect("ok");
    assert_eq!(seen(&receive(&broker, 1).await), expect(&[("m0", 1)]));
    advance(&broker, HOUR_MS).await;
    assert_eq!(seen(&receive(&broker, 1).await), expect(&[("m0", 2)]), "its lease is over");
    advance(&broker, 48 * HOUR_MS).await;
    // Looking is what finds them out.
    let all_expired = async || {
        receive_now(&broker).await;
        (get(&broker).await.counts.expect("it has counts").dead_lettered == 2).then_some(())
    };
    until("both to be dead letters", all_expired).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_of_a_week_deletes_when_the_week_was_let_pass() {
    let broker = broker_of_tests().await;
    let retention_ms = Some(7 * 24 * HOUR_MS);
    broker.create_topic_with("short", 1, TopicOptions { retention_ms, ..TopicOptions::default() }).await;
    broker.append("short", 0, set(numbered("m", 3))).await;
    let log_start = async || broker.partition_state("short", 0).await.log_start_offset;
    advance(&broker, 6 * 24 * HOUR_MS).await;
    assert_eq!(log_start().await, 0);
    advance(&broker, 2 * 24 * HOUR_MS).await;
    until("the records to be deleted", async || (log_start().await == 3).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_moves_the_clock_of_a_broker_that_is_not_for_tests() {
    let broker = TestBroker::start().await;
    let mut admin = AdminServiceClient::new(broker.channel());
    let refused = refusal(admin.advance_clock(AdvanceClockRequest { advance_ms: 1 }).await);
    assert_eq!(refused.kind(), (Code::FailedPrecondition, "CLOCK_NOT_MANUAL"));
    let refused = refusal(admin.advance_clock(AdvanceClockRequest { advance_ms: u64::MAX }).await);
    assert_eq!(refused.reason, "INVALID_ARGUMENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_of_tomorrow_is_delivered_when_the_day_was_let_pass_and_not_before() {
    let broker = broker_of_tests().await;
    let record = record("good morning").encode_to_vec().into();
    let when = Some(When { at: Some(At::DelayMs(24 * HOUR_MS)) });
    let schedule = NewSchedule { topic: "orders".into(), record, when, ..NewSchedule::default() };
    broker.schedules().add_schedules(AddSchedulesRequest { schedules: vec![schedule] }).await.expect("added");
    advance(&broker, 23 * HOUR_MS).await;
    assert_eq!(broker.partition_state("orders", 0).await.high_watermark, 0, "not a minute early");
    advance(&broker, HOUR_MS).await;
    let delivered = async || (broker.partition_state("orders", 0).await.high_watermark == 1).then_some(());
    until("the delivery", delivered).await;
}

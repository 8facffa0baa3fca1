//! Credit: the broker sends what was granted and not one record more.

use crate::common::TestBroker;
use crate::common::records::{numbered, set, sized};
use crate::common::refusal::refusal;
use crate::common::subscriber::{Subscriber, as_member, from_start};
use millstream::proto::Credit;
use millstream::proto::subscribe_request::{Open, Request};
use tonic::Code;

/// More bytes than any test sends.
const PLENTY: u64 = 1 << 30;

fn member_with(records: u64, bytes: u64) -> Open {
    Open { credit: Some(Credit { records, bytes }), ..as_member("orders", "billing") }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credit_nothing_is_sent() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    for (records, bytes) in [(0, 0), (0, PLENTY), (PLENTY, 0)] {
        let mut member = Subscriber::open(&broker, member_with(records, bytes)).await.expect("opens");
        member.follow_until_owning(1).await;
        assert_eq!(member.listen().await, [], "{records} records and {bytes} bytes were granted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_counted_exactly_and_grants_add_up() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    for partition in 0..2 {
        for _ in 0..5 {
            broker.append("orders", partition, set(numbered("r", 10))).await;
        }
    }
    let mut member = Subscriber::open(&broker, member_with(7, PLENTY)).await.expect("opens");
    let mut seen = member.take(7).await;
    seen.extend(member.listen().await);
    assert_eq!(seen.len(), 7);
    member.grant(20, 0).await;
    member.grant(5, 0).await;
    let mut more = member.take(25).await;
    more.extend(member.listen().await);
    assert_eq!(more.len(), 25);
    seen.extend(more);
    member.grant(1_000, 0).await;
    seen.extend(member.take(68).await);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100, "each record came once");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_overdrawn_by_one_record_at_most() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, sized(20, 1_000)).await;
    let record = sized(1, 1_000).len() as u64;

    // Two records fit; the third overdraws, because there was still a byte.
    let mut member = Subscriber::open(&broker, member_with(PLENTY, 2 * record + 1)).await.expect("opens");
    let mut seen = member.take(3).await.len();
    seen += member.listen().await.len();
    assert_eq!(seen, 3);
    // The overdraft is paid back first: what is granted now only makes it even.
    member.grant(0, record - 1).await;
    assert_eq!(member.listen().await, []);
    member.grant(0, 2 * record).await;
    let mut seen = member.take(2).await.len();
    seen += member.listen().await.len();
    assert_eq!(seen, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_the_credit_is_sent_all_the_same() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, sized(2, 100_000)).await;
    let mut member = Subscriber::open(&broker, member_with(PLENTY, 1)).await.expect("opens");
    let mut seen = member.take(1).await.len();
    seen += member.listen().await.len();
    assert_eq!(seen, 1, "it could never be read otherwise");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_can_be_as_large_as_a_number() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(numbered("r", 10))).await;
    let mut member = Subscriber::open(&broker, member_with(u64::MAX, u64::MAX)).await.expect("opens");
    member.grant(u64::MAX, u64::MAX).await;
    assert_eq!(member.take(10).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_for_a_stream_without_a_limit_is_refused() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let mut subscriber = Subscriber::open(&broker, from_start("orders")).await.expect("opens");
    subscriber.follow_until_owning(1).await;
    subscriber.send(Request::Credit(Credit { records: 1, bytes: 1 })).await;
    let ended = refusal(subscriber.next().await);
    assert_eq!(ended.kind(), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    assert_eq!(ended.fact("field"), "credit");
}

//! Consumers against a fake broker: credit, commits, hand-overs, lost connections. The test plays the broker.

use super::*;
use crate::client::fake_broker::{FakeBroker, SubscribedClient, record_batch};
use crate::proto::subscribe_request::Request;
use crate::proto::subscribe_response::{Assigned, Committed, Opened, Records, Response, Revoked};
use crate::proto::{self, Credit};
use tonic_types::StatusExt as _;

fn topic() -> TopicName {
    TopicName::new("orders").expect("a valid name")
}

fn partition(partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(), partition }
}

fn options(group: Option<&str>) -> ConsumerOptions {
    let window = ConsumerOptions { window_records: 4, ..ConsumerOptions::new(vec![topic()]) };
    ConsumerOptions { group: group.map(str::to_owned), start: Position::Earliest, ..window }
}

fn records(base_offset: u64, values: &[&str]) -> Response {
    let batches = vec![record_batch(base_offset, values)];
    Response::Records(Records {
        topic: "orders".to_owned(),
        partition: 0,
        batches,
        high_watermark: 100,
        next_offset: 0,
    })
}

fn assigned(generation: u64, offset: u64) -> Response {
    let partition = proto::PartitionOffset { topic: "orders".to_owned(), offset, ..Default::default() };
    Response::Assigned(Assigned { generation, partitions: vec![partition] })
}

async fn subscribe(broker: &mut FakeBroker, options: ConsumerOptions) -> (Consumer, SubscribedClient) {
    let client = Client::connect(&broker.address).await.expect("the broker is there");
    tokio::join!(async { client.consumer(options).await.expect("subscribed") }, accept(broker))
}

async fn accept(broker: &mut FakeBroker) -> SubscribedClient {
    let mut server = broker.subscribed().await;
    assert!(matches!(server.request().await, Request::Open(_)));
    server.send(Response::Opened(Opened { member_id: "m1".to_owned() })).await;
    server
}

async fn next_records(consumer: &mut Consumer) -> RecordsEvent {
    loop {
        match consumer.next().await.expect("an event") {
            Event::Records(records) => return records,
            Event::Assigned { .. } | Event::Disconnected { .. } | Event::Reconnected => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn credit_goes_back_when_the_reader_asks_for_more() {
    let mut broker = FakeBroker::start(1).await;
    let (mut consumer, mut server) = subscribe(&mut broker, options(None)).await;
    server.send(assigned(0, 0)).await;
    server.send(records(0, &["a", "b", "c"])).await;
    server.send(records(3, &["d"])).await;
    let first = next_records(&mut consumer).await;
    assert_eq!((first.record_count(), first.next_offset()), (3, Offset(3)));
    let bytes = first.len_bytes();
    next_records(&mut consumer).await;
    assert_eq!(server.request().await, Request::Credit(Credit { records: 3, bytes }));
    assert_eq!(consumer.positions(), [(partition(0), Offset(4))]);
}

#[tokio::test]
async fn a_commit_waits_for_its_answer_and_loses_no_records() {
    let mut broker = FakeBroker::start(1).await;
    let (mut consumer, mut server) = subscribe(&mut broker, options(Some("g"))).await;
    server.send(assigned(1, 0)).await;
    server.send(records(0, &["a"])).await;
    next_records(&mut consumer).await;
    consumer.mark(&partition(0), Offset(1));
    let broker_side = async {
        let Request::Commit(commit) = server.request().await else { panic!("not a commit") };
        assert_eq!((commit.offsets.len(), commit.offsets[0].offset), (1, 1));
        server.send(records(1, &["b"])).await;
        server.send(Response::Committed(Committed { correlation_id: commit.correlation_id, errors: vec![] })).await;
    };
    let (refused, ()) = tokio::join!(consumer.commit_marked(), broker_side);
    assert!(refused.expect("committed").is_empty());
    assert_eq!(next_records(&mut consumer).await.next_offset(), Offset(2));
    assert!(consumer.commit_marked().await.expect("nothing to do").is_empty());
}

#[tokio::test]
async fn revoked_partitions_are_committed_as_marked_and_then_released() {
    let mut broker = FakeBroker::start(1).await;
    let (mut consumer, mut server) = subscribe(&mut broker, options(Some("g"))).await;
    server.send(assigned(1, 0)).await;
    let lost = proto::TopicPartition { topic: "orders".to_owned(), partition: 0 };
    server.send(Response::Revoked(Revoked { generation: 2, partitions: vec![lost] })).await;
    assert!(matches!(consumer.next().await, Ok(Event::Assigned { .. })));
    assert!(matches!(consumer.next().await, Ok(Event::Revoked { generation: 2, .. })));
    consumer.mark(&partition(0), Offset(7));
    server.send(assigned(3, 0)).await;
    assert!(matches!(consumer.next().await, Ok(Event::Assigned { generation: 3, .. })));
    assert!(matches!(server.request().await, Request::Commit(commit) if commit.offsets[0].offset == 7));
    assert!(matches!(server.request().await, Request::Released(released) if released.generation == 2));
}

#[tokio::test]
async fn without_a_group_reading_goes_on_where_it_was() {
    let mut broker = FakeBroker::start(1).await;
    broker.append(0, &["a", "b", "c"]);
    let (mut consumer, server) = subscribe(&mut broker, options(None)).await;
    server.send(assigned(0, 0)).await;
    server.send(records(0, &["a"])).await;
    next_records(&mut consumer).await;
    drop(server);
    assert!(matches!(consumer.next().await, Ok(Event::Disconnected { .. })));
    let next = next_records(&mut consumer).await;
    assert_eq!(next.batches[0].base_offset(), Offset(1));
}

#[tokio::test]
async fn a_member_that_lost_its_connection_joins_again() {
    let mut broker = FakeBroker::start(1).await;
    let (mut consumer, server) = subscribe(&mut broker, options(Some("g"))).await;
    drop(server);
    assert!(matches!(consumer.next().await, Ok(Event::Disconnected { .. })));
    let (event, _server) = tokio::join!(consumer.next(), accept(&mut broker));
    assert!(matches!(event, Ok(Event::Reconnected)));
}

#[tokio::test]
async fn a_consumer_that_shall_not_come_back_says_that_it_lost_the_connection() {
    let mut broker = FakeBroker::start(1).await;
    let (mut consumer, server) = subscribe(&mut broker, ConsumerOptions { reconnect: false, ..options(None) }).await;
    drop(server);
    assert!(matches!(consumer.next().await, Err(ClientError::ConnectionLost { .. })));
}

#[tokio::test]
async fn a_reader_gives_out_its_range_and_nothing_else() {
    let broker = FakeBroker::start(1).await;
    broker.append(0, &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
    let client = Client::connect(&broker.address).await.expect("the broker is there");
    let mut reader = PartitionReader::new(&client, partition(0), Offset(1)..Offset(9));
    let mut read = Vec::new();
    while let Some(batch) = reader.next().await.expect("readable") {
        read.extend(batch.records().map(|record| (record.offset.0, record.value.expect("it has one"))));
    }
    let expected = (1..9).zip("bcdefghi".chars()).map(|(offset, c)| (offset, c.to_string().into()));
    assert_eq!(read, expected.collect::<Vec<_>>());
    assert!(reader.next().await.expect("still at the end").is_none());
}

/// Retention may pass a reader while it is away; it goes on where it is told to, or says so.
#[tokio::test]
async fn a_place_that_retention_deleted_is_left_as_was_asked() {
    for (on_expired, begins_at) in [(OnExpired::Earliest, Some(2)), (OnExpired::Fail, None)] {
        let mut broker = FakeBroker::start(1).await;
        broker.append(0, &["a", "b", "c"]);
        let (mut consumer, server) = subscribe(&mut broker, ConsumerOptions { on_expired, ..options(None) }).await;
        server.send(assigned(0, 0)).await;
        server.send(records(0, &["a"])).await;
        next_records(&mut consumer).await;
        broker.expire_before(2);
        drop(server);
        assert!(matches!(consumer.next().await, Ok(Event::Disconnected { .. })));
        match begins_at {
            Some(offset) => assert_eq!(next_records(&mut consumer).await.batches[0].base_offset(), Offset(offset)),
            None => assert!(matches!(consumer.next().await, Err(ClientError::Refused(_)))),
        }
    }
}

/// A member that was silent for too long is removed; it may come back as a new one.
#[tokio::test]
async fn a_member_that_was_removed_joins_again() {
    let mut broker = FakeBroker::start(1).await;
    let (mut consumer, server) = subscribe(&mut broker, options(Some("g"))).await;
    let facts = tonic_types::ErrorDetails::with_error_info("MEMBER_REMOVED", "millstream", []);
    server.fail(tonic::Status::with_error_details(tonic::Code::Aborted, "removed", facts)).await;
    assert!(matches!(consumer.next().await, Ok(Event::Disconnected { .. })));
    let (event, _server) = tokio::join!(consumer.next(), accept(&mut broker));
    assert!(matches!(event, Ok(Event::Reconnected)));
}

#[tokio::test]
async fn automatic_commits_are_of_what_the_caller_is_done_with() {
    let mut broker = FakeBroker::start(1).await;
    let auto_commit = Some(Duration::ZERO);
    let (mut consumer, mut server) =
        subscribe(&mut broker, ConsumerOptions { auto_commit, ..options(Some("g")) }).await;
    server.send(assigned(1, 0)).await;
    server.send(records(0, &["a"])).await;
    server.send(records(1, &["b"])).await;
    next_records(&mut consumer).await;
    next_records(&mut consumer).await;
    let Request::Commit(commit) = server.request().await else { panic!("not a commit") };
    assert_eq!(commit.offsets[0].offset, 1, "the caller may still work on the second");
    server.send(Response::Committed(Committed { correlation_id: commit.correlation_id, errors: vec![] })).await;
    // Nothing more comes: what is done is committed all the same.
    let (_, request) = tokio::join!(
        async { tokio::time::timeout(Duration::from_millis(200), consumer.next()).await.is_err() },
        server.request()
    );
    let Request::Commit(commit) = request else { panic!("not a commit: {request:?}") };
    assert_eq!(commit.offsets[0].offset, 2);
}

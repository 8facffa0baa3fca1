//! A group that reads is moved: its members go on from there, and nothing of before undoes it.

use crate::common::refusal::Refusal;
use crate::common::subscriber::{Subscriber, as_member, at_offset, edge};
use crate::common::{TestBroker, within};
use millstream::client::{Consumer, ConsumerOptions, Event};
use millstream::proto::subscribe_request::{Released, Request};
use millstream::proto::subscribe_response::{Response, Seek};
use millstream::proto::{CommitOffsetsRequest, Edge, FetchOffsetsRequest, PartitionOffset, SeekGroupRequest};
use millstream::types::{Offset, Position, TopicName};
use tonic::Code;

/// A broker with ten records in each of two partitions of `orders`.
async fn broker() -> TestBroker {
    let broker = TestBroker::start().await;
    broker.create_filled_topic("orders", 2).await;
    broker
}

async fn seek_to_the_start(broker: &TestBroker, partitions: &[u32]) {
    let (group, topics) = ("billing".to_owned(), vec!["orders".to_owned()]);
    let (partitions, position) = (partitions.to_vec(), Some(edge(Edge::Earliest)));
    let request = SeekGroupRequest { group, topics, partitions, position, dry_run: false };
    broker.groups().seek_group(request).await.expect("a group that reads can be moved");
}

async fn committed(broker: &TestBroker, partition: u32) -> Option<u64> {
    let request = FetchOffsetsRequest { group: "billing".into(), topics: Vec::new() };
    let offsets = broker.consumer().fetch_offsets(request).await.expect("answers").into_inner().offsets;
    offsets.iter().find(|offset| offset.partition == partition).map(|offset| offset.offset)
}

async fn next_seek(member: &mut Subscriber) -> Seek {
    let notice = member.next_notice().await;
    let Response::Seek(seek) = notice else { panic!("a seek was expected, not {notice:?}") };
    seek
}

/// The only error of a commit of one offset.
async fn refused(member: &mut Subscriber, offset: PartitionOffset) -> Refusal {
    let error = member.commit(9, vec![offset]).await.errors.remove(0).error;
    Refusal::from(error.expect("a commit error has its error"))
}

#[tokio::test(flavor = "multi_thread")]
async fn members_go_on_where_the_group_was_moved_to() {
    let broker = broker().await;
    let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    assert_eq!(member.take(20).await.len(), 20);
    assert_eq!(member.commit(1, vec![at_offset("orders", 0, 5), at_offset("orders", 1, 10)]).await.errors, []);
    let before = member.generation;

    seek_to_the_start(&broker, &[0]).await;
    let seek = next_seek(&mut member).await;
    assert!(seek.generation > before);
    assert_eq!(seek.partitions, [at_offset("orders", 0, 0)]);
    let again = member.take(10).await;
    assert_eq!(again.iter().map(|(partition, offset, _)| (*partition, *offset)).collect::<Vec<_>>(), {
        (0..10).map(|offset| (0, offset)).collect::<Vec<_>>()
    });

    // It has not said that it follows: what it commits may be of before, and would undo the seek.
    let stale = refused(&mut member, at_offset("orders", 0, 10)).await;
    assert_eq!(stale.kind(), (Code::Aborted, "STALE_GENERATION"));
    assert_eq!(stale.fact("current_generation"), seek.generation.to_string());
    let (member_id, generation) = (member.member_id.clone(), before);
    let offsets = vec![at_offset("orders", 0, 10)];
    let call = CommitOffsetsRequest { group: "billing".into(), offsets, member_id, generation };
    let by_call = broker.consumer().commit_offsets(call).await.expect("answers").into_inner().errors;
    assert_eq!(by_call.len(), 1, "nor by a call that names the generation of before");
    assert_eq!(committed(&broker, 0).await, Some(0));
    assert_eq!(member.commit(2, vec![at_offset("orders", 1, 10)]).await.errors, [], "where nothing was moved");

    member.send(Request::Released(Released { generation: seek.generation })).await;
    assert_eq!(member.commit(3, vec![at_offset("orders", 0, 4)]).await.errors, []);
    assert_eq!(committed(&broker, 0).await, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_member_is_told_of_its_own_partitions() {
    let broker = broker().await;
    let mut first = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    let mut second = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    tokio::join!(first.follow_until_owning(1), second.follow_until_owning(1));
    seek_to_the_start(&broker, &[]).await;
    for member in [&mut first, &mut second] {
        let owned = member.partitions();
        let told: Vec<u32> = next_seek(member).await.partitions.iter().map(|to| to.partition).collect();
        assert_eq!(told, owned);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_survives_a_restart_of_the_broker_before_anybody_followed_it() {
    let mut broker = broker().await;
    let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    member.take(20).await;
    assert_eq!(member.commit(1, vec![at_offset("orders", 0, 10), at_offset("orders", 1, 10)]).await.errors, []);
    seek_to_the_start(&broker, &[1]).await;
    drop(member);
    broker.restart().await;
    assert_eq!((committed(&broker, 0).await, committed(&broker, 1).await), (Some(10), Some(0)));
}

async fn next_records(consumer: &mut Consumer) -> Offset {
    let records = within("records", async {
        loop {
            if let Event::Records(records) = consumer.next().await.expect("the stream goes on") {
                return records;
            }
        }
    });
    let records = records.await;
    consumer.mark(&records.partition, records.next_offset());
    records.next_offset()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_drops_what_was_marked_before_a_seek() {
    let broker = TestBroker::start().await;
    broker.create_filled_topic("orders", 1).await;
    let options = ConsumerOptions {
        group: Some("billing".to_owned()),
        start: Position::Earliest,
        ..ConsumerOptions::new(vec![TopicName::new("orders").expect("a valid name")])
    };
    let mut consumer = broker.client().await.consumer(options).await.expect("opens");
    while next_records(&mut consumer).await < Offset(10) {}
    assert!(consumer.commit_marked().await.expect("commits").is_empty());
    consumer.mark(&consumer.positions()[0].0.clone(), Offset(10));

    seek_to_the_start(&broker, &[0]).await;
    let moved = within("the seek", async {
        loop {
            match consumer.next().await.expect("the stream goes on") {
                Event::Seek { partitions, .. } => return partitions,
                Event::Heartbeat { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(moved.await[0].offset, Offset(0));
    assert!(consumer.commit_marked().await.expect("there is nothing to commit").is_empty());
    assert_eq!(committed(&broker, 0).await, Some(0));
    while next_records(&mut consumer).await < Offset(10) {}
    assert!(consumer.commit_marked().await.expect("commits").is_empty());
    assert_eq!(committed(&broker, 0).await, Some(10));
}

//! Members of a group share the partitions, and hand them over without losing or repeating what was committed.

use crate::common::records::{numbered, set};
use crate::common::refusal::Refusal;
use crate::common::subscriber::{Seen, Subscriber, as_member, at_offset, edge};
use crate::common::{TestBroker, until, within};
use millstream::client::{ConsumedBatch, ConsumerOptions, Event};
use millstream::proto::subscribe_request::{Open, Released, Request};
use millstream::proto::subscribe_response::{Response, Revoked};
use millstream::proto::{DescribeGroupRequest, Edge, GroupState};
use millstream::types::{Position, TopicName};
use std::collections::BTreeSet;
use tonic::Code;

async fn join(broker: &TestBroker, group: &str) -> Subscriber {
    Subscriber::open(broker, as_member("orders", group)).await.expect("opens")
}

/// Appends ten records to each of so many partitions of `orders`.
async fn fill(broker: &TestBroker, partitions: u32) {
    for partition in 0..partitions {
        broker.append("orders", partition, set(numbered("r", 10))).await;
    }
}

fn offsets_of(seen: &[Seen], partition: u32) -> Vec<u64> {
    seen.iter().filter(|(of, ..)| *of == partition).map(|(_, offset, _)| *offset).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_group_sees_everything() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 3).await;
    fill(&broker, 3).await;
    for group in ["billing", "shipping"] {
        let mut seen = join(&broker, group).await.take(30).await;
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 30, "{group}");
    }
}

/// "The end" was another place for each member that took a partition over before anything was committed in it: what came
/// in between was lost to the group.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_begins_at_the_end_keeps_its_place_from_then_on() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    fill(&broker, 2).await;
    let at_the_end = Open { start: Some(edge(Edge::Latest)), ..as_member("orders", "billing") };
    let mut first = Subscriber::open(&broker, at_the_end.clone()).await.expect("opens");
    first.follow_until_owning(2).await;
    drop(first);
    fill(&broker, 2).await;
    let mut second = Subscriber::open(&broker, at_the_end).await.expect("opens");
    let seen = second.take(20).await;
    for partition in 0..2 {
        assert_eq!(offsets_of(&seen, partition), (10..20).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_the_partitions_evenly_and_each_has_one_owner() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 6).await;
    let mut first = join(&broker, "billing").await;
    first.follow_until_owning(6).await;
    let mut second = join(&broker, "billing").await;
    tokio::join!(first.follow_until_owning(3), second.follow_until_owning(3));
    let mut third = join(&broker, "billing").await;
    tokio::join!(first.follow_until_owning(2), second.follow_until_owning(2), third.follow_until_owning(2));
    let all: BTreeSet<u32> = [&first, &second, &third].into_iter().flat_map(Subscriber::partitions).collect();
    assert_eq!(all.len(), 6);

    fill(&broker, 6).await;
    for member in [&mut first, &mut second, &mut third] {
        let seen = member.take(20).await;
        let read: BTreeSet<u32> = seen.iter().map(|(partition, ..)| *partition).collect();
        assert_eq!((seen.len(), read), (20, member.partitions().into_iter().collect()));
        assert_eq!(member.listen().await, [], "the others' records go to the others");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_stream_is_lost_others_go_on_at_the_committed_offsets() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    let mut stays = join(&broker, "billing").await;
    stays.follow_until_owning(2).await;
    let mut dies = join(&broker, "billing").await;
    tokio::join!(stays.follow_until_owning(1), dies.follow_until_owning(1));
    let lost = dies.partitions()[0];
    fill(&broker, 2).await;
    assert_eq!(stays.take(10).await.len(), 10);
    assert_eq!(offsets_of(&dies.take(10).await, lost), (0..10).collect::<Vec<_>>());
    assert_eq!(dies.commit(1, vec![at_offset("orders", lost, 6)]).await.errors, []);

    // Without a word, as a process that is killed. Its partitions are free at once.
    drop(dies);
    stays.follow_until_owning(2).await;
    assert_eq!(stays.owned[&("orders".to_owned(), lost)], 6);
    let seen = stays.take(4).await;
    assert_eq!(offsets_of(&seen, lost), [6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_passes_on_when_it_is_released_and_not_before() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    fill(&broker, 2).await;
    let mut first = join(&broker, "billing").await;
    assert_eq!(first.take(20).await.len(), 20);
    let mut second = join(&broker, "billing").await;
    let Response::Revoked(Revoked { generation, partitions }) = first.next_notice().await else {
        panic!("the second member gets something");
    };
    assert_eq!(partitions.len(), 1);
    let moved = partitions[0].partition;
    assert_eq!(second.listen().await, []);
    assert_eq!(second.partitions(), [0; 0], "it waits for the release");

    // What was revoked and not released can still be committed: the next owner begins behind it.
    assert_eq!(first.commit(1, vec![at_offset("orders", moved, 8)]).await.errors, []);
    first.send(Request::Released(Released { generation })).await;
    second.follow_until_owning(1).await;
    assert_eq!(second.owned[&("orders".to_owned(), moved)], 8);
    assert_eq!(offsets_of(&second.take(2).await, moved), [8, 9]);

    let refused = first.commit(2, vec![at_offset("orders", moved, 9)]).await.errors.remove(0);
    assert_eq!((refused.topic.as_str(), refused.partition), ("orders", moved));
    let refused = Refusal::from(refused.error.expect("a commit error has its error"));
    assert_eq!(refused.kind(), (Code::Aborted, "NOT_OWNER"));
    assert_eq!((refused.fact("member"), refused.fact("group")), (first.member_id.as_str(), "billing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_records_of_a_revoked_partition_follow() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    let mut first = join(&broker, "billing").await;
    first.follow_until_owning(2).await;
    let _second = join(&broker, "billing").await;
    let Response::Revoked(Revoked { partitions, .. }) = first.next_notice().await else {
        panic!("the second member gets something");
    };
    first.take_kept();
    fill(&broker, 2).await;
    let mut seen = first.take(10).await;
    seen.extend(first.listen().await);
    assert_eq!((seen.len(), offsets_of(&seen, partitions[0].partition)), (10, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_says_what_it_is_doing() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    let describe = async || {
        let request = DescribeGroupRequest { group: "billing".into() };
        broker.groups().describe_group(request).await.expect("there is one").into_inner()
    };
    let mut first = join(&broker, "billing").await;
    first.follow_until_owning(2).await;
    assert_eq!(describe().await.group.expect("a group").state(), GroupState::Stable);

    let mut second = join(&broker, "billing").await;
    let during = describe().await;
    let group = during.group.expect("a group");
    assert_eq!((group.state(), group.members), (GroupState::Rebalancing, 2));
    tokio::join!(first.follow_until_owning(1), second.follow_until_owning(1));
    let after = describe().await;
    assert_eq!(after.group.as_ref().expect("a group").state(), GroupState::Stable);
    let ids: Vec<_> = after.members.iter().map(|member| member.member_id.as_str()).collect();
    assert_eq!(ids, [first.member_id.as_str(), second.member_id.as_str()]);
    assert!(after.members.iter().all(|member| member.peer.starts_with("127.0.0.1:")), "{after:?}");

    drop((first, second));
    until("the group to be empty", async || {
        let group = describe().await.group.expect("a group");
        (group.state() == GroupState::Empty && group.members == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_subscribe_to_different_topics() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    broker.create_topic("bills", 2).await;
    let mut orders = join(&broker, "office").await;
    let mut bills = Subscriber::open(&broker, as_member("bills", "office")).await.expect("opens");
    tokio::join!(orders.follow_until_owning(2), bills.follow_until_owning(2));
    assert!(orders.owned.keys().all(|(topic, _)| topic == "orders"));
    assert!(bills.owned.keys().all(|(topic, _)| topic == "bills"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_hands_partitions_over_without_losing_a_record() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 4).await;
    fill(&broker, 4).await;
    let options = ConsumerOptions {
        group: Some("billing".to_owned()),
        start: Position::Earliest,
        ..ConsumerOptions::new(vec![TopicName::new("orders").expect("a valid name")])
    };
    let client = broker.client().await;
    let mut first = client.consumer(options.clone()).await.expect("opens");
    let mut done = BTreeSet::new();
    while done.len() < 40 {
        if let Event::Records(records) = within("records", first.next()).await.expect("the stream goes on") {
            let offsets = records.batches.iter().flat_map(ConsumedBatch::records).map(|record| record.offset.0);
            done.extend(offsets.map(|offset| (records.partition.partition, offset)));
            first.mark(&records.partition, records.next_offset());
        }
    }
    // What was marked is committed when the partitions are handed over.
    let mut second = client.consumer(options).await.expect("opens");
    let handed_over = within("partitions to be handed over", async {
        loop {
            tokio::select! {
                event = first.next() => drop(event.expect("the stream goes on")),
                event = second.next() => {
                    if let Event::Assigned { partitions, .. } = event.expect("the stream goes on") {
                        return partitions;
                    }
                }
            }
        }
    });
    let offsets: Vec<u64> = handed_over.await.iter().map(|partition| partition.offset.0).collect();
    assert_eq!(offsets, [10, 10]);
}

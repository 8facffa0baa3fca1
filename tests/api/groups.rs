//! Groups from outside: list, describe, seek, delete. Seeks of groups that read: `group_seek.rs`.

use crate::common::records::{numbered, set, timed};
use crate::common::refusal::{Refusal, refusal};
use crate::common::subscriber::{Subscriber, as_member, at_offset, edge};
use crate::common::{TestBroker, until};
use millstream::proto::position::At;
use millstream::proto::{
    CommitOffsetsRequest, DeleteGroupRequest, DescribeGroupRequest, Edge, FetchOffsetsRequest, GroupPartition,
    ListGroupsRequest, PartitionOffset, Position, SeekGroupRequest,
};
use tonic::{Code, Status};

/// A broker with ten records, of times 0 to 9, in each of two partitions of `orders`.
async fn broker() -> TestBroker {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    for partition in 0..2 {
        broker.append("orders", partition, set((0..10).map(|time| timed(time, "x")).collect())).await;
    }
    broker
}

async fn commit(broker: &TestBroker, group: &str, offsets: Vec<PartitionOffset>) {
    let request = CommitOffsetsRequest { group: group.into(), offsets, ..Default::default() };
    let answer = broker.consumer().commit_offsets(request).await.expect("answers").into_inner();
    assert_eq!(answer.errors, []);
}

async fn describe(broker: &TestBroker, group: &str) -> Vec<GroupPartition> {
    let request = DescribeGroupRequest { group: group.into() };
    broker.groups().describe_group(request).await.expect("there is one").into_inner().partitions
}

fn seek_to(at: At) -> SeekGroupRequest {
    let position = Some(Position { at: Some(at) });
    SeekGroupRequest { group: "billing".into(), topics: vec!["orders".into()], position, ..Default::default() }
}

async fn seek(broker: &TestBroker, request: SeekGroupRequest) -> Result<Vec<(u32, u64)>, Status> {
    let offsets = broker.groups().seek_group(request).await?.into_inner().offsets;
    Ok(offsets.into_iter().map(|offset| (offset.partition, offset.offset)).collect())
}

async fn committed(broker: &TestBroker) -> Vec<(u32, u64)> {
    let request = FetchOffsetsRequest { group: "billing".into(), topics: Vec::new() };
    let mut offsets = broker.consumer().fetch_offsets(request).await.expect("answers").into_inner().offsets;
    offsets.sort_by_key(|offset| offset.partition);
    offsets.into_iter().map(|offset| (offset.partition, offset.offset)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_by_prefix_in_order_of_name() {
    let broker = broker().await;
    for group in ["b-2", "a", "b-1"] {
        commit(&broker, group, vec![at_offset("orders", 0, 1)]).await;
    }
    let list = async |prefix: &str| {
        let request = ListGroupsRequest { prefix: prefix.into() };
        let groups = broker.groups().list_groups(request).await.expect("lists").into_inner().groups;
        groups.into_iter().map(|group| (group.name, group.members)).collect::<Vec<_>>()
    };
    let named = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 0)).collect::<Vec<_>>();
    assert_eq!(list("").await, named(&["a", "b-1", "b-2"]));
    assert_eq!(list("b").await, named(&["b-1", "b-2"]));
    assert_eq!(list("x").await, named(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_described_with_how_far_it_is_behind() {
    let broker = broker().await;
    let offset = PartitionOffset { metadata: "shift 3".into(), ..at_offset("orders", 0, 4) };
    commit(&broker, "billing", vec![offset]).await;
    let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    member.follow_until_owning(2).await;
    broker.delete_records("orders", 1, 3).await;

    let partitions = describe(&broker, "billing").await;
    assert_eq!((partitions[0].partition, partitions[1].partition, partitions.len()), (0, 1, 2));
    let GroupPartition { committed_offset, high_watermark, lag_records, .. } = &partitions[0];
    assert_eq!((*committed_offset, *high_watermark, *lag_records), (Some(4), 10, 6));
    assert_eq!((partitions[0].metadata.as_str(), partitions[0].member_id.as_str()), ("shift 3", &*member.member_id));
    assert!(partitions[0].committed_at_ms > 0);
    let GroupPartition { committed_offset, log_start_offset, lag_records, .. } = &partitions[1];
    assert_eq!((*committed_offset, *log_start_offset, *lag_records), (None, 3, 7), "all retained records");
    assert_eq!(partitions[1].committed_at_ms, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_members_goes_where_it_is_told() {
    let broker = broker().await;
    broker.delete_records("orders", 1, 2).await;
    for (at, expected) in [
        (At::Edge(Edge::Latest as i32), [(0, 10), (1, 10)]),
        (At::Edge(Edge::Earliest as i32), [(0, 0), (1, 2)]),
        (At::Offset(5), [(0, 5), (1, 5)]),
        (At::TimestampMs(7), [(0, 7), (1, 7)]),
        (At::RecordsBeforeEnd(9), [(0, 1), (1, 2)]),
    ] {
        assert_eq!(seek(&broker, seek_to(at)).await.expect("moves"), expected, "{at:?}");
        assert_eq!(committed(&broker).await, expected, "{at:?}");
    }
    let one = SeekGroupRequest { partitions: vec![1], ..seek_to(At::Edge(Edge::Latest as i32)) };
    assert_eq!(seek(&broker, one).await.expect("moves"), [(1, 10)]);
    assert_eq!(committed(&broker).await, [(0, 1), (1, 10)]);

    let mut member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    assert_eq!(member.take(9).await[0], (0, 1, "x".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_a_seek_would_set_and_sets_nothing() {
    let broker = broker().await;
    commit(&broker, "billing", vec![at_offset("orders", 0, 8)]).await;
    let request = SeekGroupRequest { dry_run: true, ..seek_to(At::Offset(3)) };
    assert_eq!(seek(&broker, request).await.expect("answers"), [(0, 3), (1, 3)]);
    assert_eq!(committed(&broker).await, [(0, 8)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_that_is_refused_moves_nothing() {
    let broker = broker().await;
    commit(&broker, "billing", vec![at_offset("orders", 0, 8)]).await;
    broker.delete_records("orders", 1, 5).await;
    let kinds = [
        (seek_to(At::Offset(2)), "OFFSET_OUT_OF_RANGE"),
        (seek_to(At::Offset(11)), "OFFSET_OUT_OF_RANGE"),
        (seek_to(At::Edge(0)), "INVALID_ARGUMENT"),
        (SeekGroupRequest { position: None, ..seek_to(At::Offset(1)) }, "INVALID_ARGUMENT"),
        (SeekGroupRequest { topics: Vec::new(), ..seek_to(At::Offset(1)) }, "INVALID_ARGUMENT"),
        (SeekGroupRequest { topics: vec!["nope".into()], ..seek_to(At::Offset(6)) }, "TOPIC_NOT_FOUND"),
        (SeekGroupRequest { partitions: vec![0, 2], ..seek_to(At::Offset(6)) }, "PARTITION_NOT_FOUND"),
        (SeekGroupRequest { group: "a/b".into(), ..seek_to(At::Offset(6)) }, "INVALID_NAME"),
    ];
    for (request, reason) in kinds {
        assert_eq!(refusal(seek(&broker, request.clone()).await).reason, reason, "{request:?}");
    }
    assert_eq!(committed(&broker).await, [(0, 8)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_deleted_with_its_offsets_once_it_has_no_members() {
    let broker = broker().await;
    commit(&broker, "billing", vec![at_offset("orders", 0, 8)]).await;
    let member = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    let delete = async || {
        let deleted = broker.groups().delete_group(DeleteGroupRequest { group: "billing".into() }).await;
        deleted.map_err(Refusal::from)
    };
    let refused = delete().await.expect_err("it has a member");
    assert_eq!(refused.kind(), (Code::FailedPrecondition, "GROUP_HAS_MEMBERS"));
    drop(member);
    until("the member to be gone", async || delete().await.ok()).await;
    assert_eq!(committed(&broker).await, []);
    let gone = delete().await.expect_err("it is gone");
    assert_eq!((gone.kind(), gone.fact("group")), ((Code::NotFound, "GROUP_NOT_FOUND"), "billing"));
    let described = broker.groups().describe_group(DescribeGroupRequest { group: "billing".into() }).await;
    assert_eq!(refusal(described).reason, "GROUP_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_stays_deleted_after_a_restart() {
    let mut broker = broker().await;
    commit(&broker, "billing", vec![at_offset("orders", 0, 8)]).await;
    commit(&broker, "shipping", vec![at_offset("orders", 0, 3)]).await;
    broker.groups().delete_group(DeleteGroupRequest { group: "billing".into() }).await.expect("deleted");
    broker.restart().await;
    let groups = broker.groups().list_groups(ListGroupsRequest::default()).await.expect("lists").into_inner().groups;
    let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["shipping"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_follow_the_log() {
    let broker = broker().await;
    broker.append("orders", 0, set(numbered("more", 5))).await;
    let request = SeekGroupRequest { position: Some(edge(Edge::Latest)), ..seek_to(At::Offset(0)) };
    assert_eq!(seek(&broker, request).await.expect("moves"), [(0, 15), (1, 10)]);
}

//! A new group begins where another is.

use crate::common::TestBroker;
use crate::common::refusal::refusal;
use crate::common::subscriber::{Subscriber, as_member, at_offset};
use millstream::proto::{CommitOffsetsRequest, FetchOffsetsRequest, ForkGroupRequest, PartitionOffset};
use tonic::{Code, Status};

async fn fork(
    broker: &TestBroker,
    group: &str,
    new_group: &str,
    dry_run: bool,
) -> Result<Vec<PartitionOffset>, Status> {
    let request = ForkGroupRequest { group: group.into(), new_group: new_group.into(), dry_run };
    Ok(broker.groups().fork_group(request).await?.into_inner().offsets)
}

async fn committed(broker: &TestBroker, group: &str) -> Vec<PartitionOffset> {
    let request = FetchOffsetsRequest { group: group.into(), topics: Vec::new() };
    broker.consumer().fetch_offsets(request).await.expect("answers").into_inner().offsets
}

/// A broker with a group `billing` that has committed in two partitions.
async fn broker() -> TestBroker {
    let broker = TestBroker::start().await;
    broker.create_filled_topic("orders", 2).await;
    let noted = PartitionOffset { metadata: "shift 3".into(), ..at_offset("orders", 1, 7) };
    let offsets = vec![at_offset("orders", 0, 4), noted];
    let request = CommitOffsetsRequest { group: "billing".into(), offsets, ..Default::default() };
    assert_eq!(broker.consumer().commit_offsets(request).await.expect("answers").into_inner().errors, []);
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_goes_on_from_where_the_group_is_also_after_a_restart() {
    let mut broker = broker().await;
    // The group that is copied may be at work.
    let mut at_work = Subscriber::open(&broker, as_member("orders", "billing")).await.expect("opens");
    at_work.follow_until_owning(2).await;
    let copied = fork(&broker, "billing", "try", false).await.expect("forks");
    assert_eq!(copied, committed(&broker, "billing").await);
    at_work.listen().await;
    drop(at_work);
    broker.restart().await;
    assert_eq!(committed(&broker, "try").await, copied);
    let mut member = Subscriber::open(&broker, as_member("orders", "try")).await.expect("opens");
    assert_eq!(member.take(9).await.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_a_fork_would_set_and_sets_nothing() {
    let broker = broker().await;
    assert_eq!(fork(&broker, "billing", "try", true).await.expect("answers"), committed(&broker, "billing").await);
    assert_eq!(committed(&broker, "try").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_writes_nothing_over() {
    let broker = broker().await;
    fork(&broker, "billing", "try", false).await.expect("forks");
    let _member = Subscriber::open(&broker, as_member("orders", "busy")).await.expect("opens");
    for (from, to, code, reason) in [
        ("billing", "try", Code::AlreadyExists, "GROUP_ALREADY_EXISTS"),
        ("billing", "billing", Code::AlreadyExists, "GROUP_ALREADY_EXISTS"),
        ("billing", "busy", Code::FailedPrecondition, "GROUP_HAS_MEMBERS"),
        ("nope", "other", Code::NotFound, "GROUP_NOT_FOUND"),
        ("billing", "a/b", Code::InvalidArgument, "INVALID_NAME"),
    ] {
        for dry_run in [true, false] {
            assert_eq!(refusal(fork(&broker, from, to, dry_run).await).kind(), (code, reason), "{from} {to}");
        }
    }
}

//! Members with an instance id keep their partitions while they are away.

use crate::common::refusal::{Refusal, refusal};
use crate::common::subscriber::{Subscriber, as_member, at_offset};
use crate::common::{TestBroker, until, within};
use millstream::client::{Client, Consumer, ConsumerOptions, Event};
use millstream::proto::subscribe_request::Open;
use millstream::proto::{DescribeGroupRequest, GroupMember};
use millstream::types::{Position, TopicName};
use tonic::Code;

fn as_instance(id: &str, session_timeout_ms: u32) -> Open {
    Open { instance_id: id.into(), session_timeout_ms, ..as_member("orders", "billing") }
}

async fn members(broker: &TestBroker) -> Vec<GroupMember> {
    let request = DescribeGroupRequest { group: "billing".into() };
    broker.groups().describe_group(request).await.expect("there is one").into_inner().members
}

async fn until_away(broker: &TestBroker, id: &str) {
    let is_away = |member: &GroupMember| member.instance_id == id && member.away;
    until("the member to be away", async || members(broker).await.iter().any(is_away).then_some(())).await;
}

/// Two members with an instance id, `stays` and `goes`, each with one partition of `orders`.
async fn two_members(broker: &TestBroker, session_timeout_ms: u32) -> (Subscriber, Subscriber) {
    broker.create_filled_topic("orders", 2).await;
    let mut stays = Subscriber::open(broker, as_instance("stays", 0)).await.expect("opens");
    let mut goes = Subscriber::open(broker, as_instance("goes", session_timeout_ms)).await.expect("opens");
    tokio::join!(stays.follow_until_owning(1), goes.follow_until_owning(1));
    (stays, goes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_comes_back_goes_on_and_others_do_not_notice() {
    let broker = TestBroker::start().await;
    let (mut stays, mut goes) = two_members(&broker, 0).await;
    let partition = goes.partitions()[0];
    assert_eq!(goes.commit(1, vec![at_offset("orders", partition, 4)]).await.errors, []);
    drop(goes);
    until_away(&broker, "goes").await;
    let mut again = Subscriber::open(&broker, as_instance("goes", 0)).await.expect("opens");
    again.follow_until_owning(1).await;
    assert_eq!(again.owned[&("orders".to_owned(), partition)], 4);
    assert_eq!(again.take(6).await[0].1, 4);
    // Fails at any notice of an assignment.
    stays.listen().await;
    assert_eq!(stays.partitions().len(), 1);
    assert!(members(&broker).await.iter().all(|member| !member.away));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_come_back_in_time_has_left() {
    let broker = TestBroker::start().await;
    let (mut stays, goes) = two_members(&broker, 1_000).await;
    drop(goes);
    stays.follow_until_owning(2).await;
    assert_eq!(members(&broker).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_with_an_id_fences_the_first() {
    let broker = TestBroker::start().await;
    let (_stays, mut goes) = two_members(&broker, 0).await;
    let partition = goes.partitions()[0];
    let mut second = Subscriber::open(&broker, as_instance("goes", 0)).await.expect("opens");
    second.follow_until_owning(1).await;
    assert_eq!(second.partitions(), [partition]);
    let fenced = within("the end of the first stream", async {
        loop {
            if let Err(status) = goes.next().await {
                return Refusal::from(status);
            }
        }
    });
    let fenced = fenced.await;
    assert_eq!((fenced.kind(), fenced.fact("instance_id")), ((Code::Aborted, "MEMBER_FENCED"), "goes"));
    assert_eq!(second.commit(1, vec![at_offset("orders", partition, 1)]).await.errors, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_make_no_sense_are_refused() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let cases = [
        (Open { group: String::new(), ..as_instance("a", 0) }, "instance_id"),
        (as_instance(&"x".repeat(250), 0), "instance_id"),
        (as_instance("", 5_000), "session_timeout_ms"),
        (as_instance("a", 999), "session_timeout_ms"),
        (as_instance("a", 3_600_001), "session_timeout_ms"),
    ];
    for (open, field) in cases {
        let refused = refusal(Subscriber::open(&broker, open.clone()).await.map(|_| ()));
        assert_eq!((refused.reason.as_str(), refused.fact("field")), ("INVALID_ARGUMENT", field), "{open:?}");
    }
}

async fn consumer(client: &Client) -> Consumer {
    let options = ConsumerOptions {
        group: Some("billing".to_owned()),
        instance_id: Some("one".to_owned()),
        start: Position::Earliest,
        ..ConsumerOptions::new(vec![TopicName::new("orders").expect("a valid name")])
    };
    client.consumer(options).await.expect("opens")
}

/// Two processes with one id would take the partitions from each other for ever, if the one that lost them came back.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_does_not_come_back_when_it_was_fenced() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let client = broker.client().await;
    let mut first = consumer(&client).await;
    let mut second = consumer(&client).await;
    let lost = within("the end of the first", async {
        loop {
            if let Err(lost) = first.next().await {
                return lost;
            }
        }
    });
    assert_eq!(lost.await.refusal().expect("the broker says why").reason, "MEMBER_FENCED");
    assert!(matches!(within("an event", second.next()).await, Ok(Event::Assigned { .. })));
}

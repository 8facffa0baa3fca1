//! Filters on streams: only what matches is sent, and a reader knows how far it is whatever matches.

use crate::common::records::{headed, set, values_of};
use crate::common::refusal::{Refusal, refusal};
use crate::common::subscriber::{Subscriber, as_member, at_offset, from_start};
use crate::common::{TestBroker, until, within};
use millstream::client::{ConsumedBatch, ConsumerOptions, Event};
use millstream::proto::subscribe_request::Open;
use millstream::proto::subscribe_response::Records;
use millstream::proto::{
    Credit, DescribeGroupRequest, FetchOffsetsRequest, FetchPosition, FetchRequest, FetchedPartition, Record,
};
use millstream::types::{Position, TopicName};
use std::time::Duration;
use tonic::Code;

const EVEN: &str = r#"attributes.kind = "even""#;

/// Records `0` to `count - 1`, with a header that says whether they are even or odd.
pub(crate) fn kinds(count: usize) -> Vec<Record> {
    (0..count).map(|i| headed(i.to_string(), &[("kind", if i % 2 == 0 { "even" } else { "odd" })])).collect()
}

/// So many records that are odd.
pub(crate) fn odd(count: usize) -> Vec<Record> {
    (0..count).map(|i| headed(i.to_string(), &[("kind", "odd")])).collect()
}

fn filtered(open: Open, filter: &str) -> Open {
    Open { filter: filter.to_owned(), ..open }
}

/// The first message that tells a place at or beyond this offset in a partition; records that come before are let go.
async fn told(subscriber: &mut Subscriber, partition: u32, offset: u64) -> Records {
    loop {
        let records = subscriber.next_records().await;
        if records.partition == partition && records.next_offset >= offset {
            return records;
        }
    }
}

async fn committed(broker: &TestBroker, group: &str) -> Vec<(u32, u64)> {
    let request = FetchOffsetsRequest { group: group.into(), topics: Vec::new() };
    let found = broker.consumer().fetch_offsets(request).await.expect("answers").into_inner().offsets;
    found.into_iter().map(|found| (found.partition, found.offset)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_records_that_match_are_sent_at_their_own_offsets() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(kinds(5))).await;
    broker.append("orders", 0, set(odd(3))).await;
    let even_only: Vec<_> = (0..3).map(|_| headed("e", &[("kind", "even")])).collect();
    broker.append("orders", 0, set(even_only)).await;
    let seen = |texts: &[(u64, &str)]| texts.iter().map(|(at, text)| (0, *at, (*text).to_owned())).collect::<Vec<_>>();

    let mut even = Subscriber::open(&broker, filtered(from_start("orders"), EVEN)).await.expect("opens");
    let expected = seen(&[(0, "0"), (2, "2"), (4, "4"), (8, "e"), (9, "e"), (10, "e")]);
    assert_eq!(even.take(6).await, expected);

    let not_even = format!("NOT {EVEN}");
    let mut odd = Subscriber::open(&broker, filtered(from_start("orders"), &not_even)).await.expect("opens");
    let first = odd.next_records().await;
    assert_eq!(values_of(&first.batches).iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 3, 5, 6, 7]);
    let runs: Vec<_> = first.batches.iter().map(|batch| (batch.base_offset, batch.record_count)).collect();
    assert_eq!(runs, [(1, 1), (3, 1), (5, 3)], "inside a batch offsets follow without a gap");
    assert_eq!((first.next_offset, first.high_watermark), (11, 11), "what does not match behind them is passed too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_told_where_it_is_although_nothing_matches_and_for_no_credit() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    for _ in 0..20 {
        broker.append("orders", 1, set(odd(50))).await;
    }
    let credit = Some(Credit { records: 2, bytes: 10 });
    let open = Open { credit, max_message_bytes: 1_000, ..filtered(from_start("orders"), EVEN) };
    let mut subscriber = Subscriber::open(&broker, open).await.expect("opens");
    let place = told(&mut subscriber, 1, 1_000).await;
    assert_eq!((place.batches.len(), place.next_offset, place.high_watermark), (0, 1_000, 1_000));

    broker.append("orders", 1, set(kinds(5))).await;
    let records = subscriber.next_records().await;
    assert_eq!((values_of(&records.batches), records.next_offset), (vec![(1_000, "0".to_owned())], 1_002));
    // The bytes are overdrawn: what matches next is not passed over, it waits.
    subscriber.grant(10, 1_000).await;
    let records = subscriber.next_records().await;
    assert_eq!(values_of(&records.batches), [(1_002, "2".to_owned()), (1_004, "4".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_commits_past_what_does_not_match_and_its_lag_is_none() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(odd(10))).await;
    let open = filtered(as_member("orders", "billing"), EVEN);
    let mut member = Subscriber::open(&broker, open.clone()).await.expect("opens");
    let place = told(&mut member, 0, 10).await;
    let answer = member.commit(1, vec![at_offset("orders", 0, place.next_offset)]).await;
    assert_eq!(answer.errors, []);
    let request = DescribeGroupRequest { group: "billing".into() };
    let described = broker.groups().describe_group(request).await.expect("there is one").into_inner();
    assert_eq!((described.partitions[0].committed_offset, described.partitions[0].lag_records), (Some(10), 0));
    assert_eq!(described.members[0].filter, EVEN);
    drop(member);
    broker.restart().await;

    assert_eq!(committed(&broker, "billing").await, [(0, 10)]);
    broker.append("orders", 0, set(kinds(1))).await;
    let mut member = Subscriber::open(&broker, open).await.expect("opens");
    assert_eq!(member.take(1).await, [(0, 10, "0".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_of_a_group_have_one_filter() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 2).await;
    for partition in 0..2 {
        broker.append("orders", partition, set(kinds(10))).await;
    }
    let open = |filter: &str| filtered(as_member("orders", "billing"), filter);
    let mut first = Subscriber::open(&broker, open(EVEN)).await.expect("opens");
    for another in ["", "attributes:kind"] {
        let refused = refusal(Subscriber::open(&broker, open(another)).await);
        assert_eq!(refused.kind(), (Code::FailedPrecondition, "FILTER_DIFFERS"));
        assert_eq!((refused.fact("group"), refused.fact("filter")), ("billing", EVEN));
    }
    let mut second =
        Subscriber::open(&broker, open(r#"( headers."kind"="even" )"#)).await.expect("it says the same in other words");
    let (a, b) = tokio::join!(first.follow_until_owning(1), second.follow_until_owning(1));
    assert_eq!((a, b), ((), ()));
    for partition in 0..2 {
        broker.append("orders", partition, set(kinds(4))).await;
    }
    for member in [&mut first, &mut second] {
        let own = member.partitions()[0];
        let mut seen = member.take_kept();
        while !seen.contains(&(own, 12, "2".to_owned())) {
            seen.extend(member.take(1).await);
        }
        seen.retain(|(partition, ..)| *partition == own);
        assert!(seen.iter().all(|(_, offset, _)| offset % 2 == 0), "{seen:?}");
    }
    drop((first, second));
    // Once they have left, it is the next one's to say.
    until("the members to have left", async || Subscriber::open(&broker, open("exists(key)")).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_none_is_refused_with_its_place() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let wrong = "attributes.kind = even";
    let opened = refusal(Subscriber::open(&broker, filtered(from_start("orders"), wrong)).await);
    let positions = vec![FetchPosition { topic: "orders".into(), ..FetchPosition::default() }];
    let request = FetchRequest { positions, filter: wrong.into(), ..FetchRequest::default() };
    let fetched = refusal(broker.consumer().fetch(request).await);
    for Refusal { code, reason, facts, message } in [opened, fetched] {
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
        assert_eq!((facts["field"].as_str(), facts["position"].as_str()), ("filter", "19"));
        assert!(message.contains("expected a text in double quotes, found even"), "{message}");
    }
    let long = "x".repeat(5_000);
    let refused = refusal(Subscriber::open(&broker, filtered(from_start("orders"), &long)).await);
    assert!(refused.message.contains("at most 4096"), "{}", refused.message);
}

async fn fetch(broker: &TestBroker, offset: u64, change: impl FnOnce(&mut FetchRequest)) -> FetchedPartition {
    let positions = vec![FetchPosition { topic: "orders".into(), partition: 0, offset }];
    let mut request = FetchRequest { positions, filter: EVEN.into(), ..FetchRequest::default() };
    change(&mut request);
    broker.consumer().fetch(request).await.expect("answers").into_inner().partitions.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_moves_past_what_does_not_match_and_waits_for_what_does() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(kinds(4))).await;
    let found = fetch(&broker, 1, |_| ()).await;
    assert_eq!((values_of(&found.batches), found.next_offset), (vec![(2, "2".to_owned())], 4));
    let found = fetch(&broker, 3, |_| ()).await;
    assert_eq!((found.batches.len(), found.next_offset), (0, 4), "it goes on behind what was passed over");

    let waiting = fetch(&broker, 3, |request| request.max_wait_ms = 60_000);
    tokio::pin!(waiting);
    tokio::select! {
        biased;
        found = &mut waiting => panic!("nothing matches yet: {found:?}"),
        _ = broker.append("orders", 0, set(odd(100))) => {}
    }
    broker.append("orders", 0, set(kinds(2))).await;
    let found = within("what matches", waiting).await;
    assert_eq!((values_of(&found.batches), found.next_offset), (vec![(104, "0".to_owned())], 106));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_commits_past_what_does_not_match() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    broker.append("orders", 0, set(kinds(2))).await;
    broker.append("orders", 0, set(odd(30))).await;
    let options = ConsumerOptions {
        group: Some("billing".to_owned()),
        start: Position::Earliest,
        auto_commit: Some(Duration::from_millis(1)),
        filter: Some(EVEN.to_owned()),
        ..ConsumerOptions::new(vec![TopicName::new("orders").expect("a valid name")])
    };
    let mut consumer = broker.client().await.consumer(options).await.expect("opens");
    let reading = async {
        let mut values = Vec::new();
        loop {
            match consumer.next().await.expect("the stream goes on") {
                Event::Records(records) => values.extend(records.batches.iter().flat_map(ConsumedBatch::records)),
                Event::Passed { next_offset, .. } => assert!(next_offset.0 >= 32),
                _ => {}
            }
            if values.len() == 2 {
                return values.iter().map(|record| record.offset.0).collect::<Vec<_>>();
            }
        }
    };
    let added = async {
        until("the commit", async || (committed(&broker, "billing").await == [(0, 32)]).then_some(())).await;
        broker.append("orders", 0, set(kinds(1))).await;
    };
    let (offsets, ()) = within("both records", async { tokio::join!(reading, added) }).await;
    assert_eq!(offsets, [0, 32]);
}

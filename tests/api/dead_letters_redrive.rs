//! Redriving: letters come back as they were, are sent before they are resolved, and none is lost by any end of it.

use crate::common::records::{keyed, numbered, record, records_of, set};
use crate::common::refusal::{Refusal, refusal};
use crate::common::stalling_disk::StallingDisk;
use crate::common::{TestBroker, until, within};
use crate::dead_letters::{all_of, broker_with_queue, giving_up, kill, open_offsets, purge};
use crate::queues::{create, receive, seen, settle};
use millstream::proto::{
    FencePartitionRequest, GetTopicRequest, Header, LetterSelection, Record, RedriveDeadLettersRequest,
    RedriveDeadLettersResponse, RedrivenLetter, TopicOptions,
};
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

fn redrive_of(selection: LetterSelection) -> RedriveDeadLettersRequest {
    RedriveDeadLettersRequest { selection: Some(selection), ..RedriveDeadLettersRequest::default() }
}

/// Everything that a redrive has done, to its end.
async fn redrive(
    broker: &TestBroker,
    request: RedriveDeadLettersRequest,
) -> Result<RedriveDeadLettersResponse, Status> {
    let mut responses = broker.dead_letters().redrive_dead_letters(request).await?.into_inner();
    let mut done = RedriveDeadLettersResponse::default();
    while let Some(response) = within("a redrive", responses.message()).await? {
        done.letters.extend(response.letters);
        done.refused.extend(response.refused);
        done.unreadable += response.unreadable;
    }
    Ok(done)
}

fn offsets(letters: &[RedrivenLetter]) -> Vec<u64> {
    letters.iter().map(|letter| letter.offset).collect()
}

fn header(record: &Record, name: &str) -> Vec<String> {
    let found = record.headers.iter().filter(|header| header.key == name);
    found.map(|header| String::from_utf8_lossy(&header.value).into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_message_is_as_it_was_and_says_how_often_it_came_back() {
    let broker = broker_with_queue().await;
    let mut original = keyed("k", "poison");
    original.headers.push(Header { key: "trace".into(), value: "abc".into() });
    original.timestamp_ms = Some(77);
    original.message_id = Some("order-1".into());
    kill(&broker, vec![record("first"), original.clone()]).await;

    let some = LetterSelection { key: Some("k".into()), ..all_of("work.dlq") };
    let done = redrive(&broker, redrive_of(some)).await.expect("it redrives");
    let sent =
        RedrivenLetter { partition: 0, offset: 1, to_topic: "orders".into(), to_partition: 0, to_offset: Some(2) };
    assert_eq!((done.letters, done.refused.len()), (vec![sent], 0));
    assert_eq!(open_offsets(&broker, all_of("work.dlq")).await, [0], "what was not meant stays open");

    let messages = receive(&broker, 10).await;
    assert_eq!(seen(&messages), [("poison".to_owned(), 1)], "it has its attempts anew");
    let came_back = Record::decode(messages[0].record.clone()).expect("it carries a record");
    assert_eq!(header(&came_back, "redriven-count"), ["1"]);
    assert_eq!(header(&came_back, "redriven-from"), ["work.dlq/0/1"]);
    let mut headers = came_back.headers.clone();
    headers.truncate(1);
    assert_eq!(Record { headers, ..came_back.clone() }, original);
    assert_eq!(came_back.headers.len(), 3, "{came_back:?}");

    assert_eq!(settle(&broker, vec![crate::common::queue_stream::reject(&messages[0])]).await, []);
    crate::dead_letters::await_letters(&broker, 3).await;
    let request = redrive_of(LetterSelection { key: Some("k".into()), ..all_of("work.dlq") });
    assert_eq!(offsets(&redrive(&broker, request).await.expect("it redrives").letters), [2]);
    let again = Record::decode(receive(&broker, 10).await[0].record.clone()).expect("it carries a record");
    assert_eq!(header(&again, "redriven-count"), ["2"]);
    assert_eq!(header(&again, "redriven-from"), ["work.dlq/0/2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_does_as_much_as_it_is_told_and_goes_on_when_it_is_called_again() {
    let mut broker = broker_with_queue().await;
    kill(&broker, numbered("m", 1_200)).await;
    let dry = RedriveDeadLettersRequest { dry_run: true, ..redrive_of(all_of("work.dlq")) };
    let would = redrive(&broker, dry).await.expect("it says");
    assert_eq!(would.letters.len(), 1_200);
    assert!(would.letters.iter().all(|letter| letter.to_topic == "orders" && letter.to_offset.is_none()));
    assert_eq!(broker.partition_state("orders", 0).await.high_watermark, 1_200, "nothing was sent");

    let some = RedriveDeadLettersRequest { max_letters: 700, ..redrive_of(all_of("work.dlq")) };
    assert_eq!(redrive(&broker, some).await.expect("it redrives").letters.len(), 700);
    broker.restart().await;
    let rest = redrive(&broker, redrive_of(all_of("work.dlq"))).await.expect("it redrives");
    assert_eq!(offsets(&rest.letters), (700..1_200).collect::<Vec<_>>());
    assert_eq!(redrive(&broker, redrive_of(all_of("work.dlq"))).await.expect("it ends").letters, []);
    assert_eq!(broker.partition_state("orders", 0).await.high_watermark, 2_400);
    let sent: BTreeSet<_> = rest.letters.iter().filter_map(|letter| letter.to_offset).collect();
    assert_eq!(sent, (1_900..2_400).collect(), "each is where it was said to be");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_go_where_they_came_from_or_to_the_topic_that_is_named() {
    let broker = broker_with_queue().await;
    broker.create_topic("spread", 4).await;
    let request = millstream::proto::CreateQueueRequest {
        name: "wide".into(),
        topics: vec!["spread".into()],
        policy: Some(millstream::proto::QueuePolicy { dead_letter_topic: Some("work.dlq".into()), ..giving_up() }),
        start: Some(millstream::proto::Position {
            at: Some(millstream::proto::position::At::Edge(millstream::proto::Edge::Earliest as i32)),
        }),
        ..Default::default()
    };
    broker.queues().create_queue(request).await.expect("the queue can be created");
    broker.append("spread", 3, set(vec![keyed("k", "far")])).await;
    let receive = millstream::proto::ReceiveRequest { queue: "wide".into(), max_messages: 1, ..Default::default() };
    let messages = broker.queues().receive(receive).await.expect("it answers").into_inner().messages;
    let settlements = vec![crate::common::queue_stream::reject(&messages[0])];
    let settle = millstream::proto::SettleRequest { queue: "wide".into(), settlements };
    broker.queues().settle(settle).await.expect("it answers");
    crate::dead_letters::await_letters(&broker, 1).await;
    kill(&broker, vec![record("near")]).await;

    let dry = RedriveDeadLettersRequest { dry_run: true, ..redrive_of(all_of("work.dlq")) };
    let would = redrive(&broker, dry).await.expect("it says").letters;
    let targets: Vec<_> = would.iter().map(|letter| (letter.to_topic.as_str(), letter.to_partition)).collect();
    assert_eq!(targets, [("spread", 3), ("orders", 0)]);
    broker.create_topic("repaired", 1).await;
    let named = RedriveDeadLettersRequest { to_topic: "repaired".into(), ..redrive_of(all_of("work.dlq")) };
    assert_eq!(redrive(&broker, named).await.expect("it redrives").letters.len(), 2);
    let values: Vec<_> =
        records_of(&broker.fetch("repaired", 0, 0).await.batches).into_iter().map(|(_, record)| record.value).collect();
    assert_eq!(values, [Some("far".into()), Some("near".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_cannot_go_stay_open_and_the_others_go() {
    let broker = broker_with_queue().await;
    kill(&broker, vec![record("a"), keyed("k", "b"), record("c".repeat(3_000))]).await;
    broker.append("work.dlq", 0, set(vec![record("by hand")])).await;
    let done = redrive(&broker, redrive_of(LetterSelection { first_offset: 3, ..all_of("work.dlq") })).await;
    let refused = done.expect("it ends").refused.remove(0);
    assert_eq!((refused.partition, refused.offset), (0, 3));
    assert_eq!(Refusal::from(refused.error.expect("it says why")).reason, "LETTER_WITHOUT_ORIGIN");

    let options = TopicOptions {
        cleanup: Some(millstream::proto::Cleanup::Compact as i32),
        record_bytes_max: Some(1_024),
        ..TopicOptions::default()
    };
    broker.create_topic_with("strict", 1, options).await;
    let named = RedriveDeadLettersRequest { to_topic: "strict".into(), ..redrive_of(all_of("work.dlq")) };
    let done = redrive(&broker, named).await.expect("it ends");
    assert_eq!(offsets(&done.letters), [1]);
    let refused: Vec<_> = done
        .refused
        .into_iter()
        .map(|refused| (refused.offset, Refusal::from(refused.error.expect("it says why")).reason))
        .collect();
    let expected = [(0, "RECORD_KEY_MISSING"), (2, "RECORD_TOO_LARGE"), (3, "RECORD_KEY_MISSING")];
    assert_eq!(refused, expected.map(|(offset, reason)| (offset, reason.to_owned())));

    let request = millstream::proto::DeleteTopicRequest { name: "orders".into() };
    broker.topics().delete_topic(request).await.expect("it can be deleted");
    let done = redrive(&broker, redrive_of(all_of("work.dlq"))).await.expect("it ends");
    let reasons: Vec<_> = done.refused.into_iter().map(|refused| refused.error.expect("it says why").reason).collect();
    assert_eq!(reasons, ["TOPIC_NOT_FOUND", "TOPIC_NOT_FOUND", "LETTER_WITHOUT_ORIGIN"]);
    assert_eq!(open_offsets(&broker, all_of("work.dlq")).await, [0, 2, 3]);
}

/// The dedup window has the id of the message, which is meant to come again.
#[tokio::test(flavor = "multi_thread")]
async fn a_dedup_window_does_not_hold_a_redriven_message_back() {
    let broker = TestBroker::start().await;
    let options = TopicOptions { dedup_window_ms: Some(3_600_000), ..TopicOptions::default() };
    broker.create_topic_with("orders", 1, options).await;
    create(&broker, "work", giving_up()).await.expect("the queue can be created");
    kill(&broker, vec![Record { message_id: Some("order-1".into()), ..record("once") }]).await;
    let done = redrive(&broker, redrive_of(all_of("work.dlq"))).await.expect("it redrives");
    assert_eq!(done.letters[0].to_offset, Some(1));
    let message = receive(&broker, 1).await.remove(0);
    let came_back = Record::decode(message.record).expect("it carries a record");
    assert_eq!((message.offset, came_back.message_id.as_deref()), (1, Some("order-1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_redrive_cannot_do_at_all_is_refused_before_it_begins() {
    let broker = broker_with_queue().await;
    let with = |change: fn(&mut RedriveDeadLettersRequest)| {
        let mut request = redrive_of(all_of("work.dlq"));
        change(&mut request);
        request
    };
    for (request, code, reason) in [
        (with(|request| request.letters_per_second = Some(0)), Code::InvalidArgument, "INVALID_ARGUMENT"),
        (with(|request| request.letters_per_second = Some(u32::MAX)), Code::InvalidArgument, "INVALID_ARGUMENT"),
        (with(|request| request.to_topic = "nowhere".into()), Code::NotFound, "TOPIC_NOT_FOUND"),
        (with(|request| request.to_topic = "__queues".into()), Code::PermissionDenied, "TOPIC_INTERNAL"),
        (with(|request| request.to_topic = "work.dlq".into()), Code::InvalidArgument, "INVALID_ARGUMENT"),
        (with(|request| request.to_topic = "no name!".into()), Code::InvalidArgument, "INVALID_NAME"),
    ] {
        let refused = refusal(broker.dead_letters().redrive_dead_letters(request.clone()).await);
        assert_eq!(refused.kind(), (code, reason), "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept_and_a_caller_that_leaves_ends_it() {
    let broker = broker_with_queue().await;
    kill(&broker, numbered("m", 60)).await;
    let begun = Instant::now();
    let held = |per_second| RedriveDeadLettersRequest {
        letters_per_second: Some(per_second),
        max_letters: 9,
        ..redrive_of(all_of("work.dlq"))
    };
    assert_eq!(redrive(&broker, held(20)).await.expect("it redrives").letters.len(), 9);
    assert!(begun.elapsed() >= Duration::from_millis(250), "9 in steps of 5 at 20 a second: {:?}", begun.elapsed());

    // One a second: the rest would take longer than this test.
    let slow = RedriveDeadLettersRequest { max_letters: 0, ..held(1) };
    let mut responses = broker.dead_letters().redrive_dead_letters(slow).await.expect("it begins").into_inner();
    let first = within("the first", responses.message()).await.expect("it goes on").expect("there is more");
    assert_eq!(offsets(&first.letters), [9]);
    let refused = refusal(broker.dead_letters().redrive_dead_letters(redrive_of(all_of("work.dlq"))).await);
    assert_eq!((refused.kind(), refused.fact("retryable")), ((Code::Aborted, "LETTERS_BUSY"), "true"));
    let busy = Refusal::from(purge(&broker, all_of("work.dlq"), 0, false).await.expect_err("it is busy"));
    assert_eq!(busy.reason, "LETTERS_BUSY");
    let dry = RedriveDeadLettersRequest { dry_run: true, ..redrive_of(all_of("work.dlq")) };
    assert!(redrive(&broker, dry).await.is_ok(), "a look is in nobody's way");

    drop(responses);
    let rest = async || redrive(&broker, redrive_of(all_of("work.dlq"))).await.ok();
    let rest = until("the redrive to end with its caller", rest).await;
    let first_left = rest.letters[0].offset;
    assert!(first_left >= 10, "what was done stays done: {rest:?}");
    assert_eq!(offsets(&rest.letters), (first_left..60).collect::<Vec<_>>());
    assert_eq!(broker.partition_state("orders", 0).await.high_watermark, 120, "each was sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_ends_a_redrive_between_two_letters() {
    let mut broker = broker_with_queue().await;
    kill(&broker, numbered("m", 20)).await;
    let slow = RedriveDeadLettersRequest { letters_per_second: Some(1), ..redrive_of(all_of("work.dlq")) };
    let mut responses = broker.dead_letters().redrive_dead_letters(slow).await.expect("it begins").into_inner();
    let first = within("the first", responses.message()).await.expect("it goes on").expect("there is more");
    assert_eq!(offsets(&first.letters), [0]);
    broker.begin_drain();
    let end = loop {
        match within("the end", responses.message()).await {
            Ok(more) => assert!(more.is_some(), "it does not end in order: there is more to do"),
            Err(status) => break Refusal::from(status),
        }
    };
    assert_eq!(end.kind(), (Code::Unavailable, "DRAINING"));
    drop(responses);
    broker.restart().await;
    let left = open_offsets(&broker, all_of("work.dlq")).await;
    let sent = broker.partition_state("orders", 0).await.high_watermark - 20;
    assert_eq!(left, (sent..20).collect::<Vec<_>>());
}

async fn fence(broker: &TestBroker, topic: &str, token: Option<u64>) {
    let request = FencePartitionRequest { topic: topic.into(), partition: 0, token, clear: token.is_none() };
    broker.producer().fence_partition(request).await.expect("it is there");
}

/// A fence keeps everybody out who does not show the token, and the broker itself has none to show.
#[tokio::test(flavor = "multi_thread")]
async fn letters_stay_open_while_their_topic_is_fenced() {
    let broker = broker_with_queue().await;
    kill(&broker, numbered("m", 3)).await;
    fence(&broker, "orders", Some(7)).await;
    let refused = redrive(&broker, redrive_of(all_of("work.dlq"))).await.expect_err("it has no token");
    let refused = Refusal::from(refused);
    assert_eq!((refused.kind(), refused.fact("topic")), ((Code::Aborted, "FENCED"), "orders"));
    assert_eq!(open_offsets(&broker, all_of("work.dlq")).await, [0, 1, 2]);
    assert_eq!(broker.partition_state("orders", 0).await.high_watermark, 3, "nothing was sent");
    fence(&broker, "orders", None).await;
    assert_eq!(
        offsets(&redrive(&broker, redrive_of(all_of("work.dlq"))).await.expect("it redrives").letters),
        [0, 1, 2]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_on_one_partition_ends_a_redrive_after_the_others_were_served() {
    let broker = broker_with_queue().await;
    broker.create_topic("spread", 2).await;
    kill(&broker, (0..20).map(|number| keyed(format!("key-{number}"), "x")).collect()).await;
    fence(&broker, "spread", Some(7)).await;
    let to_spread = || RedriveDeadLettersRequest { to_topic: "spread".into(), ..redrive_of(all_of("work.dlq")) };
    let refused = Refusal::from(redrive(&broker, to_spread()).await.expect_err("one partition is fenced"));
    assert_eq!((refused.reason.as_str(), refused.fact("partition")), ("FENCED", "0"));
    let sent = broker.partition_state("spread", 1).await.high_watermark;
    assert!((1..20).contains(&sent), "{sent} keys of 20 belong to the other partition");
    assert_eq!(open_offsets(&broker, all_of("work.dlq")).await.len() as u64, 20 - sent, "what was sent is resolved");
    assert_eq!(broker.partition_state("spread", 0).await.high_watermark, 0);
    fence(&broker, "spread", None).await;
    assert_eq!(redrive(&broker, to_spread()).await.expect("it redrives").letters.len() as u64, 20 - sent);
    assert_eq!(broker.partition_state("spread", 1).await.high_watermark, sent, "none was sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_stay_open_while_there_is_no_room_for_them() {
    let disk = StallingDisk::default();
    let broker = TestBroker::start_with(|setting| setting.fs = Arc::new(disk.clone())).await;
    let topic = broker.create_topic("orders", 1).await;
    create(&broker, "work", giving_up()).await.expect("the queue can be created");
    kill(&broker, numbered("m", 3)).await;
    disk.refuse(Some(topic.topic_id));
    let full = Refusal::from(redrive(&broker, redrive_of(all_of("work.dlq"))).await.expect_err("there is no room"));
    assert_eq!((full.kind(), full.fact("topic")), ((Code::ResourceExhausted, "DISK_FULL"), "orders"));
    assert_eq!((full.fact("retryable"), full.fact("no_side_effects")), ("true", "true"));
    assert_eq!(open_offsets(&broker, all_of("work.dlq")).await, [0, 1, 2]);
    disk.refuse(None);
    let rest = async || redrive(&broker, redrive_of(all_of("work.dlq"))).await.ok();
    assert_eq!(offsets(&until("room for records", rest).await.letters), [0, 1, 2]);
    assert_eq!(broker.partition_state("orders", 0).await.high_watermark, 6, "each was sent once");
}

/// The broker ends between the two writes of a redrive, because there is no room for the second: the letters were sent, and
/// nothing says so. They are sent again; the other order would have lost them.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_ends_between_append_and_note_repeats_and_never_loses() {
    let disk = StallingDisk::default();
    let mut broker = TestBroker::start_with(|setting| setting.fs = Arc::new(disk.clone())).await;
    broker.create_topic("orders", 1).await;
    create(&broker, "work", giving_up()).await.expect("the queue can be created");
    kill(&broker, numbered("m", 3)).await;
    let first = redrive_of(LetterSelection { end_offset: Some(1), ..all_of("work.dlq") });
    assert_eq!(offsets(&redrive(&broker, first).await.expect("it redrives").letters), [0]);

    disk.refuse(Some(journal_of_queues(&broker).await));
    tokio::select! {
        done = redrive(&broker, redrive_of(all_of("work.dlq"))) => panic!("nothing says that it is done: {done:?}"),
        () = are_sent(&broker, 3 + 1 + 2) => {}
    }
    broker.stop().await;
    disk.refuse(None);
    broker.restart_stopped().await;

    assert_eq!(
        open_offsets(&broker, all_of("work.dlq")).await,
        [1, 2],
        "the first stays resolved, nothing says so of these"
    );
    assert_eq!(offsets(&redrive(&broker, redrive_of(all_of("work.dlq"))).await.expect("it redrives").letters), [1, 2]);
    let sent: Vec<_> = records_of(&broker.fetch("orders", 0, 3).await.batches)
        .into_iter()
        .map(|(_, record)| String::from_utf8_lossy(&record.value.unwrap_or_default()).into_owned())
        .collect();
    assert_eq!(sent, ["m0", "m1", "m2", "m1", "m2"]);
}

/// A disk that is full to the last byte has no room for the journal of queues either; that passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_waits_for_room_for_its_note_and_nothing_is_sent_twice() {
    let disk = StallingDisk::default();
    let broker = TestBroker::start_with(|setting| setting.fs = Arc::new(disk.clone())).await;
    broker.create_topic("orders", 1).await;
    create(&broker, "work", giving_up()).await.expect("the queue can be created");
    kill(&broker, numbered("m", 3)).await;
    disk.refuse(Some(journal_of_queues(&broker).await));
    let redriving = redrive(&broker, redrive_of(all_of("work.dlq")));
    let making_room = async {
        are_sent(&broker, 3 + 3).await;
        disk.refuse(None);
    };
    let (redriven, ()) = tokio::join!(redriving, making_room);
    assert_eq!(offsets(&redriven.expect("there is room again").letters), [0, 1, 2]);
    assert_eq!(open_offsets(&broker, all_of("work.dlq")).await, [0_u64; 0]);
    assert_eq!(broker.partition_state("orders", 0).await.high_watermark, 6, "each was sent once");
}

/// The file that the journal of queues is in.
async fn journal_of_queues(broker: &TestBroker) -> String {
    let request = GetTopicRequest { name: "__queues".into() };
    let journal = broker.topics().get_topic(request).await.expect("it is there").into_inner();
    journal.topic.expect("it is told").topic_id + "/0/00000000000000000000.log"
}

/// Waits until the topic of the letters holds so many records.
async fn are_sent(broker: &TestBroker, records: u64) {
    let look = async || (broker.partition_state("orders", 0).await.high_watermark == records).then_some(());
    until("the letters to be sent", look).await;
}

//! Dead letters by calls: which there are, what is known of them, which are meant, and giving them up.

use crate::common::queue_stream::{nack, reject};
use crate::common::records::{keyed, numbered, record, set};
use crate::common::refusal::{Refusal, refusal};
use crate::common::{TestBroker, until, within};
use crate::queues::{broker_with, create, patient, receive, settle};
use millstream::proto::{
    DeadLetter, DeadLetterTopic, DeleteQueueRequest, DeleteTopicRequest, Header, LetterCount, LetterSelection,
    ListDeadLetterTopicsRequest, PurgeDeadLettersRequest, QueuePolicy, ReadDeadLettersRequest, Record,
    RedriveDeadLettersRequest, UpdateQueueRequest,
};
use prost::Message as _;
use tonic::{Code, Status};

/// A broker with a queue `work` on `orders` that gives up after one attempt, with dead letters in `work.dlq`.
pub(crate) async fn broker_with_queue() -> TestBroker {
    broker_with(0, giving_up()).await
}

pub(crate) fn giving_up() -> QueuePolicy {
    QueuePolicy { attempts_max: Some(1), ..patient() }
}

/// Has each of these records die in `work`, in order: rejected.
pub(crate) async fn kill(broker: &TestBroker, records: Vec<Record>) {
    let before = broker.partition_state("work.dlq", 0).await.high_watermark;
    let count = records.len();
    broker.append("orders", 0, set(records)).await;
    let mut messages = Vec::new();
    while messages.len() < count {
        messages.extend(receive(broker, 1_000).await);
    }
    assert_eq!(settle(broker, messages.iter().map(reject).collect()).await, []);
    await_letters(broker, before + count as u64).await;
}

/// Waits until `work.dlq` has so many.
pub(crate) async fn await_letters(broker: &TestBroker, count: u64) {
    let is_there = async || (broker.partition_state("work.dlq", 0).await.high_watermark >= count).then_some(());
    until("the letters", is_there).await;
}

pub(crate) fn all_of(topic: &str) -> LetterSelection {
    LetterSelection { topic: topic.into(), ..LetterSelection::default() }
}

/// The letters that a call gives, to its end.
pub(crate) async fn read(broker: &TestBroker, request: ReadDeadLettersRequest) -> Result<Vec<DeadLetter>, Status> {
    let mut responses = broker.dead_letters().read_dead_letters(request).await?.into_inner();
    let mut letters = Vec::new();
    while let Some(response) = within("letters", responses.message()).await? {
        letters.extend(response.letters);
    }
    Ok(letters)
}

/// The offsets of open letters that are meant.
pub(crate) async fn open_offsets(broker: &TestBroker, selection: LetterSelection) -> Vec<u64> {
    let request = ReadDeadLettersRequest { selection: Some(selection), ..ReadDeadLettersRequest::default() };
    read(broker, request).await.expect("they can be read").iter().map(|letter| letter.offset).collect()
}

pub(crate) async fn purge(
    broker: &TestBroker,
    selection: LetterSelection,
    max_letters: u64,
    dry_run: bool,
) -> Result<u64, Status> {
    let request = PurgeDeadLettersRequest { selection: Some(selection), max_letters, dry_run };
    let mut responses = broker.dead_letters().purge_dead_letters(request).await?.into_inner();
    let mut letters = 0;
    while let Some(response) = within("a purge", responses.message()).await? {
        letters += response.letters;
    }
    Ok(letters)
}

pub(crate) async fn list(broker: &TestBroker) -> Vec<DeadLetterTopic> {
    let request = ListDeadLetterTopicsRequest::default();
    let listed = broker.dead_letters().list_dead_letter_topics(request).await.expect("it answers");
    listed.into_inner().dead_letter_topics
}

fn counts(counts: &[LetterCount]) -> Vec<(&str, u64)> {
    counts.iter().map(|count| (count.name.as_str(), count.letters)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_read_with_what_is_known_of_its_death() {
    let broker = broker_with_queue().await;
    let mut record = keyed("k", "poison");
    record.headers.push(Header { key: "trace".into(), value: "abc".into() });
    broker.append("orders", 0, set(vec![record])).await;
    let message = receive(&broker, 1).await.remove(0);
    assert_eq!(settle(&broker, vec![nack(&message, None)]).await, []);
    await_letters(&broker, 1).await;

    let request = ReadDeadLettersRequest { selection: Some(all_of("work.dlq")), ..ReadDeadLettersRequest::default() };
    for _ in 0..2 {
        let letters = read(&broker, request.clone()).await.expect("they can be read");
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!((letter.topic.as_str(), letter.partition, letter.offset), ("work.dlq", 0, 0));
        assert_eq!((letter.reason.as_str(), letter.detail.as_str()), ("attempts_exhausted", "not today"));
        assert_eq!((letter.attempts, letter.queue.as_str(), letter.redriven_count), (1, "work", 0));
        let origin = (letter.origin_topic.as_str(), letter.origin_partition, letter.origin_offset);
        assert_eq!(origin, ("orders", 0, 0));
        assert_eq!(letter.first_delivered_ms, message.first_delivered_ms);
        assert!(letter.append_time_ms >= letter.last_delivered_ms && !letter.resolved);
        let record = Record::decode(letter.record.clone()).expect("it carries a record");
        assert_eq!((record.key, record.value), (Some("k".into()), Some("poison".into())));
        assert_eq!(record.headers[0].key, "trace");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_chosen_by_every_condition_and_by_all_together() {
    let broker = broker_with_queue().await;
    create(&broker, "other", QueuePolicy { dead_letter_topic: Some("work.dlq".into()), ..giving_up() })
        .await
        .expect("ok");
    let mut traced = keyed("b", "1");
    traced.headers = ["t1", "t2"].map(|value| Header { key: "trace".into(), value: value.into() }).into();
    kill(&broker, vec![keyed("a", "0"), traced.clone(), keyed("a", "2")]).await;
    traced.headers.clear();
    broker.append("work.dlq", 0, set(vec![record("by hand")])).await;
    let time_ms = |letters: &[DeadLetter], offset: usize| letters[offset].append_time_ms;
    let request = ReadDeadLettersRequest { selection: Some(all_of("work.dlq")), ..ReadDeadLettersRequest::default() };
    let letters = read(&broker, request).await.expect("they can be read");
    let (first_ms, last_ms) = (time_ms(&letters, 0), time_ms(&letters, 3));

    let trace = |value: &'static str| Header { key: "trace".into(), value: value.into() };
    let base = all_of("work.dlq");
    for (selection, offsets) in [
        (base.clone(), &[0, 1, 2, 3][..]),
        (LetterSelection { queue: "work".into(), ..base.clone() }, &[0, 1, 2]),
        (LetterSelection { queue: "work".into(), ..LetterSelection::default() }, &[0, 1, 2]),
        (LetterSelection { queue: "other".into(), ..base.clone() }, &[]),
        (LetterSelection { reason: "rejected".into(), ..base.clone() }, &[0, 1, 2]),
        (LetterSelection { reason: "reject".into(), ..base.clone() }, &[]),
        (LetterSelection { key: Some("a".into()), ..base.clone() }, &[0, 2]),
        (LetterSelection { key: Some("".into()), ..base.clone() }, &[]),
        (LetterSelection { headers: vec![trace("t2")], ..base.clone() }, &[1]),
        (LetterSelection { headers: vec![trace("t1"), trace("t2")], ..base.clone() }, &[1]),
        (LetterSelection { headers: vec![trace("t1"), trace("t3")], ..base.clone() }, &[]),
        (LetterSelection { first_offset: 1, end_offset: Some(3), ..base.clone() }, &[1, 2]),
        (LetterSelection { first_offset: 9, ..base.clone() }, &[]),
        (LetterSelection { partition: Some(0), key: Some("a".into()), first_offset: 1, ..base.clone() }, &[2]),
        (LetterSelection { since_ms: Some(first_ms), until_ms: Some(last_ms + 1), ..base.clone() }, &[0, 1, 2, 3]),
        (LetterSelection { until_ms: Some(first_ms), ..base.clone() }, &[]),
        (LetterSelection { since_ms: Some(last_ms + 1), ..base.clone() }, &[]),
    ] {
        assert_eq!(open_offsets(&broker, selection.clone()).await, offsets, "{selection:?}");
        let counted = purge(&broker, selection.clone(), 0, true).await.expect("it counts");
        assert_eq!(counted, offsets.len() as u64, "{selection:?}");
    }
    let most = ReadDeadLettersRequest { selection: Some(base), max_letters: 2, include_resolved: false };
    assert_eq!(read(&broker, most).await.expect("they can be read").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_letter_is_resolved_over_restarts_and_can_still_be_read() {
    let mut broker = broker_with_queue().await;
    kill(&broker, numbered("m", 6)).await;
    let some = LetterSelection { first_offset: 2, end_offset: Some(4), ..all_of("work.dlq") };
    assert_eq!(purge(&broker, some.clone(), 0, true).await.expect("it counts"), 2);
    assert_eq!(open_offsets(&broker, all_of("work.dlq")).await, [0, 1, 2, 3, 4, 5], "a dry run changes nothing");
    assert_eq!(purge(&broker, some.clone(), 0, false).await.expect("it purges"), 2);
    assert_eq!(purge(&broker, some, 0, false).await.expect("it purges"), 0, "they are resolved");
    assert_eq!(purge(&broker, all_of("work.dlq"), 1, false).await.expect("it purges"), 1, "the oldest");
    for _ in 0..2 {
        assert_eq!(open_offsets(&broker, all_of("work.dlq")).await, [1, 4, 5]);
        broker.restart().await;
    }
    let request =
        ReadDeadLettersRequest { selection: Some(all_of("work.dlq")), include_resolved: true, max_letters: 0 };
    let all = read(&broker, request).await.expect("they can be read");
    let resolved: Vec<_> = all.iter().filter(|letter| letter.resolved).map(|letter| letter.offset).collect();
    assert_eq!((all.len(), resolved), (6, vec![0, 2, 3]));
    assert_eq!(broker.fetch("work.dlq", 0, 0).await.high_watermark, 6, "subscribers see what they saw before");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_listed_with_what_is_open_since_when_and_of_what() {
    let broker = broker_with_queue().await;
    create(&broker, "mail", giving_up()).await.expect("the queue can be created");
    create(&broker, "idle", patient()).await.expect("the queue can be created");
    kill(&broker, numbered("m", 3)).await;
    broker.append("work.dlq", 0, set(vec![record("by hand")])).await;
    assert_eq!(
        purge(&broker, LetterSelection { end_offset: Some(1), ..all_of("work.dlq") }, 0, false).await.ok(),
        Some(1)
    );

    let listed = list(&broker).await;
    let names: Vec<_> = listed.iter().map(|topic| topic.topic.as_str()).collect();
    assert_eq!(names, ["mail.dlq", "work.dlq"], "a queue without a dead letter topic has none");
    let (mail, work) = (&listed[0], &listed[1]);
    assert_eq!((mail.open, mail.kept, mail.oldest_open_ms), (0, 0, None));
    assert_eq!((work.open, work.kept, work.counted, work.missing), (3, 4, 3, false));
    assert_eq!(work.queues, ["work"]);
    assert_eq!(counts(&work.by_reason), [("", 1), ("rejected", 2)]);
    assert_eq!(counts(&work.by_queue), [("", 1), ("work", 2)]);
    let first = &read(&broker, ReadDeadLettersRequest { selection: Some(all_of("work.dlq")), ..Default::default() })
        .await
        .expect("they can be read")[0];
    assert_eq!(work.oldest_open_ms, Some(first.append_time_ms));
    assert!(broker.has_metric("millstream_dead_letters_open{topic=\"work.dlq\"} 3").await);

    broker.topics().delete_topic(DeleteTopicRequest { name: "work.dlq".into() }).await.expect("it can be deleted");
    let work = list(&broker).await.remove(1);
    assert_eq!((work.missing, work.open, work.kept), (true, 0, 0));
    let refused = Refusal::from(purge(&broker, all_of("work.dlq"), 0, false).await.expect_err("there is no topic"));
    assert_eq!(refused.kind(), (Code::NotFound, "TOPIC_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_outlive_their_queue() {
    let mut broker = broker_with_queue().await;
    create(&broker, "mail", QueuePolicy { dead_letter_topic: Some("mail.dead".into()), ..giving_up() })
        .await
        .expect("ok");
    kill(&broker, numbered("m", 2)).await;
    broker.append("mail.dead", 0, set(numbered("m", 1))).await;
    broker.queues().delete_queue(DeleteQueueRequest { name: "work".into() }).await.expect("it can be deleted");
    let policy = Some(QueuePolicy { dead_letter_topic: Some("elsewhere".into()), ..QueuePolicy::default() });
    broker.queues().update_queue(UpdateQueueRequest { name: "mail".into(), policy }).await.expect("it can be changed");
    for _ in 0..2 {
        let listed: Vec<_> =
            list(&broker).await.into_iter().map(|topic| (topic.topic, topic.queues.len(), topic.open)).collect();
        let expected = [("elsewhere", 1, 0), ("mail.dead", 0, 1), ("work.dlq", 0, 2)];
        assert_eq!(listed, expected.map(|(name, queues, open)| (name.to_owned(), queues, open)));
        broker.restart().await;
    }
    assert_eq!(open_offsets(&broker, all_of("work.dlq")).await, [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_by_name() {
    let broker = broker_with_queue().await;
    create(&broker, "plain", patient()).await.expect("the queue can be created");
    let base = all_of("work.dlq");
    let many = vec![Header::default(); 17];
    for (selection, code, reason) in [
        (LetterSelection::default(), Code::InvalidArgument, "INVALID_ARGUMENT"),
        (all_of("nowhere"), Code::NotFound, "TOPIC_NOT_FOUND"),
        (all_of("no name!"), Code::InvalidArgument, "INVALID_NAME"),
        (all_of("orders"), Code::FailedPrecondition, "NOT_DEAD_LETTER_TOPIC"),
        (all_of("__queues"), Code::FailedPrecondition, "NOT_DEAD_LETTER_TOPIC"),
        (LetterSelection { queue: "nobody".into(), ..Default::default() }, Code::NotFound, "QUEUE_NOT_FOUND"),
        (
            LetterSelection { queue: "plain".into(), ..Default::default() },
            Code::FailedPrecondition,
            "NO_DEAD_LETTER_TOPIC",
        ),
        (LetterSelection { partition: Some(1), ..base.clone() }, Code::NotFound, "PARTITION_NOT_FOUND"),
        (LetterSelection { partition: Some(u32::MAX), ..base.clone() }, Code::NotFound, "PARTITION_NOT_FOUND"),
        (
            LetterSelection { first_offset: 3, end_offset: Some(3), ..base.clone() },
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
        ),
        (
            LetterSelection { since_ms: Some(3), until_ms: Some(2), ..base.clone() },
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
        ),
        (LetterSelection { headers: many, ..base.clone() }, Code::InvalidArgument, "INVALID_ARGUMENT"),
    ] {
        let request = ReadDeadLettersRequest { selection: Some(selection.clone()), ..Default::default() };
        let refused = Refusal::from(read(&broker, request).await.expect_err("it is refused"));
        assert_eq!(refused.kind(), (code, reason), "{selection:?}");
        let refused = Refusal::from(purge(&broker, selection.clone(), 0, false).await.expect_err("it is refused"));
        assert_eq!(refused.kind(), (code, reason), "{selection:?}");
        let request = RedriveDeadLettersRequest { selection: Some(selection.clone()), ..Default::default() };
        let refused = refusal(broker.dead_letters().redrive_dead_letters(request).await);
        assert_eq!(refused.kind(), (code, reason), "{selection:?}");
    }
    let request = ReadDeadLettersRequest::default();
    assert_eq!(read(&broker, request).await.expect_err("nothing is said").code(), Code::InvalidArgument);
}

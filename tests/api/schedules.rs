//! Schedules by calls: add, look at, list, cancel, set another time, and what is refused.

use crate::common::TestBroker;
use crate::common::records::{record, values_of};
use crate::common::refusal::refusal;
use crate::common::schedules::{add, cancel, facts, get, ids, list, reschedule, schedule};
use millstream::clock::ManualClock;
use millstream::proto::{Cleanup, Cron, MissedOccurrences, NewSchedule, Record, ScheduleState, TopicOptions, when::At};
use prost::Message as _;
use std::sync::Arc;
use tonic::Code;

const START_MS: i64 = 1_700_000_000_000;
const HOUR_MS: u64 = 3_600_000;

/// A broker whose clock stands still, with topic `orders`.
async fn broker() -> (TestBroker, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START_MS));
    let hands = Arc::clone(&clock);
    let broker = TestBroker::start_with(|setting| setting.clock = clock).await;
    broker.create_topic("orders", 1).await;
    (broker, hands)
}

fn every_hour() -> At {
    At::Cron(Cron { expression: "0 * * * *".into(), ..Cron::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_added_is_shown_with_its_record_until_it_is_cancelled() {
    let (broker, _) = broker().await;
    let message = Record { key: Some("k".into()), message_id: Some("m-1".into()), ..record("later") };
    let added = add(&broker, vec![schedule("one", &message, At::DelayMs(HOUR_MS))]).await.expect("added");
    assert_eq!((added[0].id.as_str(), added[0].due_ms), ("one", START_MS + 3_600_000));

    let found = get(&broker, "one").await.expect("it is there");
    assert_eq!(Record::decode(found.record).expect("a record"), message);
    let shown = found.schedule.expect("the answer has it");
    assert_eq!((shown.topic.as_str(), shown.due_ms, shown.created_at_ms), ("orders", added[0].due_ms, START_MS));
    assert_eq!((shown.state(), shown.cron, shown.delivered, shown.failures), (ScheduleState::Waiting, None, 0, 0));

    cancel(&broker, "one").await.expect("cancelled");
    for gone in [refusal(get(&broker, "one").await), refusal(cancel(&broker, "one").await)] {
        assert_eq!(gone.kind(), (Code::NotFound, "SCHEDULE_NOT_FOUND"));
    }
    let anew = reschedule(&broker, "one", At::DelayMs(1)).await;
    assert_eq!(refusal(anew).fact("schedule"), "one");
    add(&broker, vec![schedule("one", &message, At::DelayMs(HOUR_MS))]).await.expect("the id is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_goes_by_the_time_they_are_due_in_pages_and_by_topic() {
    let (broker, _) = broker().await;
    broker.create_topic("mail", 1).await;
    let at = |hours: u64| At::DelayMs(hours * HOUR_MS);
    let mail = |id: &str, hours| NewSchedule { topic: "mail".into(), ..schedule(id, &record("x"), at(hours)) };
    let orders = |id: &str, hours| schedule(id, &record("x"), at(hours));
    let all = vec![orders("e", 5), mail("a", 1), orders("c", 3), mail("d", 4), orders("b", 2), orders("c2", 3)];
    add(&broker, all).await.expect("added");
    for page_size in [0, 1, 2, 100] {
        assert_eq!(ids(&list(&broker, "", page_size).await), ["a", "b", "c", "c2", "d", "e"], "{page_size}");
        assert_eq!(ids(&list(&broker, "mail", page_size).await), ["a", "d"], "{page_size}");
    }
    assert!(list(&broker, "none", 0).await.is_empty());
    cancel(&broker, "c").await.expect("cancelled");
    assert_eq!(ids(&list(&broker, "orders", 0).await), ["b", "c2", "e"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_time_keeps_the_record_and_may_be_of_another_kind() {
    let (broker, _) = broker().await;
    add(&broker, vec![schedule("one", &record("later"), At::DelayMs(HOUR_MS))]).await.expect("added");
    let due = reschedule(&broker, "one", At::DeliverAtMs(START_MS + 5)).await.expect("changed");
    assert_eq!((due, facts(&broker, "one").await.due_ms), (START_MS + 5, START_MS + 5));
    // 1_700_000_000 is 22:13:20 UTC.
    let due = reschedule(&broker, "one", every_hour()).await.expect("changed");
    let shown = facts(&broker, "one").await;
    assert_eq!((due, shown.due_ms), (START_MS + 2_800_000, due));
    let cron = shown.cron.expect("it comes again");
    assert_eq!((cron.expression.as_str(), cron.time_zone.as_str()), ("0 * * * *", "UTC"));
    assert_eq!(cron.missed(), MissedOccurrences::Once);
    reschedule(&broker, "one", At::DelayMs(HOUR_MS)).await.expect("changed");
    let found = get(&broker, "one").await.expect("it is there");
    assert_eq!(found.schedule.expect("the answer has it").cron, None);
    assert_eq!(Record::decode(found.record).expect("a record"), record("later"));
    assert_eq!(list(&broker, "", 0).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_refused_keeps_out_all_of_its_call() {
    let (broker, _) = broker().await;
    let later = |id: &str| schedule(id, &record("x"), At::DelayMs(HOUR_MS));
    add(&broker, vec![later("a")]).await.expect("added");
    for call in [vec![later("b"), later("a")], vec![later("b"), later("c"), later("b")]] {
        assert_eq!(refusal(add(&broker, call).await).kind(), (Code::AlreadyExists, "SCHEDULE_ALREADY_EXISTS"));
    }
    let unknown = NewSchedule { topic: "nowhere".into(), ..later("c") };
    assert_eq!(refusal(add(&broker, vec![later("b"), unknown]).await).kind(), (Code::NotFound, "TOPIC_NOT_FOUND"));
    assert_eq!(ids(&list(&broker, "", 0).await), ["a"]);
    let found = add(&broker, vec![later(""), later("")]).await.expect("the broker finds ids");
    assert_ne!(found[0].id, found[1].id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_its_field() {
    let (broker, _) = broker().await;
    let later = schedule("a", &record("x"), At::DelayMs(HOUR_MS));
    let cron = |expression: &str, time_zone: &str| {
        let cron = Cron { expression: expression.into(), time_zone: time_zone.into(), missed: 0 };
        schedule("a", &record("x"), At::Cron(cron))
    };
    let named = Record { message_id: Some("m".into()), ..record("x") };
    let cases = [
        ("when", NewSchedule { when: None, ..later.clone() }),
        ("record", NewSchedule { record: bytes::Bytes::new(), ..later.clone() }),
        ("delay_ms", schedule("a", &record("x"), At::DelayMs(u64::MAX))),
        ("deliver_at_ms", schedule("a", &record("x"), At::DeliverAtMs(-1))),
        ("deliver_at_ms", schedule("a", &record("x"), At::DeliverAtMs(i64::MAX))),
        ("cron", cron("0 9 * *", "")),
        ("cron", cron("0 25 * * *", "")),
        ("cron", cron("0 0 30 2 *", "")),
        ("time_zone", cron("0 9 * * *", "Mars/Olympus")),
        ("record.message_id", schedule("a", &named, every_hour())),
    ];
    for (field, asked) in cases {
        let refused = refusal(add(&broker, vec![asked]).await);
        assert_eq!((refused.kind(), refused.fact("field")), ((Code::InvalidArgument, "INVALID_ARGUMENT"), field));
    }
    let refused = refusal(add(&broker, vec![]).await);
    assert_eq!(refused.fact("field"), "schedules");
    let many = vec![schedule("", &record("x"), At::DelayMs(HOUR_MS)); 1_001];
    assert!(refusal(add(&broker, many).await).message.contains("1 to 1000"));
    for id in ["a b", &"x".repeat(101), "..", "a/b"] {
        let asked = NewSchedule { id: id.into(), ..later.clone() };
        assert_eq!(refusal(add(&broker, vec![asked]).await).kind(), (Code::InvalidArgument, "INVALID_NAME"), "{id}");
    }
    assert_eq!(refusal(reschedule(&broker, "a", At::DelayMs(1)).await).code, Code::NotFound);
    assert!(list(&broker, "", 0).await.is_empty(), "nothing was added");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_must_be_one_that_its_topic_accepts() {
    let (broker, _) = broker().await;
    let cleanup = Cleanup::Compact.into();
    broker.create_topic_with("state", 1, TopicOptions { cleanup: Some(cleanup), ..TopicOptions::default() }).await;
    let small = TopicOptions { record_bytes_max: Some(1_024), ..TopicOptions::default() };
    broker.create_topic_with("small", 1, small).await;
    let later = |topic: &str, record: Record| {
        let asked = schedule("", &record, At::DelayMs(HOUR_MS));
        NewSchedule { topic: topic.into(), ..asked }
    };
    let malformed = NewSchedule { record: "no record".into(), ..later("orders", record("x")) };
    let partition = NewSchedule { partition: Some(7), ..later("orders", record("x")) };
    for (reason, asked) in [
        ("RECORD_KEY_MISSING", later("state", record("x"))),
        ("RECORD_TOO_LARGE", later("small", record(vec![0; 2_000]))),
        ("RECORD_TOO_LARGE", later("orders", record(vec![0; 2 << 20]))),
        ("RECORDS_MALFORMED", malformed),
        ("PARTITION_NOT_FOUND", partition),
        ("TOPIC_INTERNAL", later("__schedules", record("x"))),
        ("INVALID_NAME", later("no topic", record("x"))),
    ] {
        assert_eq!(refusal(add(&broker, vec![asked]).await).reason, reason);
    }
    assert!(values_of(&broker.fetch("orders", 0, 0).await.batches).is_empty());
}

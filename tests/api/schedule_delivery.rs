//! What becomes of schedules when their time comes: delivered, never early, over restarts, and kept when it cannot be.

use crate::common::records::{keyed, record, records_of, values_of};
use crate::common::schedules::{add, cancel, facts, get, ids, list, schedule};
use crate::common::{TestBroker, until};
use millstream::clock::ManualClock;
use millstream::proto::{
    CreateQueueRequest, Cron, DeleteTopicRequest, Edge, GetTopicRequest, MissedOccurrences, NewSchedule, Position,
    ReceiveRequest, Record, ScheduleState, TopicOptions, position, when::At,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const START_MS: i64 = 1_700_000_000_000;
const MINUTE_MS: i64 = 60_000;

/// A broker whose clock stands still, with topic `orders`.
async fn broker() -> (TestBroker, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START_MS));
    let hands = Arc::clone(&clock);
    let broker = TestBroker::start_with(|setting| setting.clock = clock).await;
    broker.create_topic("orders", 1).await;
    (broker, hands)
}

fn every_minute(missed: MissedOccurrences) -> At {
    At::Cron(Cron { expression: "* * * * *".into(), time_zone: String::new(), missed: missed.into() })
}

async fn values(broker: &TestBroker) -> Vec<String> {
    values_of(&broker.fetch("orders", 0, 0).await.batches).into_iter().map(|(_, value)| value).collect()
}

/// Waits until so many records are in the topic.
async fn delivered(broker: &TestBroker, count: usize) -> Vec<String> {
    until("the records", async || Some(values(broker).await).filter(|values| values.len() >= count)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_record_comes_when_its_time_has_come_and_not_before() {
    let broker = TestBroker::start().await;
    broker.create_topic("orders", 1).await;
    let message = Record { headers: vec![header("trace", "t")], ..keyed("k", "late") };
    let added = add(&broker, vec![schedule("one", &message, At::DelayMs(200))]).await.expect("added");
    delivered(&broker, 1).await;
    let batches = broker.fetch("orders", 0, 0).await.batches;
    assert!(batches[0].append_time_ms >= added[0].due_ms, "{} {}", batches[0].append_time_ms, added[0].due_ms);
    let (_, record) = records_of(&batches).remove(0);
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"k"[..]), Some(&b"late"[..])));
    let due = added[0].due_ms.to_string();
    assert_eq!(record.headers, [header("trace", "t"), header("schedule-id", "one"), header("schedule-due-ms", &due)]);
    assert_eq!(record.message_id.as_deref(), Some("one@0"), "its entry is the first of the log of schedules");
    until("the end of the schedule", async || get(&broker, "one").await.err()).await;
}

fn header(key: &str, value: &str) -> millstream::proto::Header {
    millstream::proto::Header { key: key.to_owned(), value: value.to_owned().into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_the_broker_decides_and_what_is_past_comes_at_once() {
    let (broker, hands) = broker().await;
    let at = |id: &str, ms: i64| schedule(id, &record(id.to_owned()), At::DeliverAtMs(START_MS + ms));
    add(&broker, vec![at("c", 2_000), at("b", 1_000), at("past", -5_000), at("d", 2_001)]).await.expect("added");
    assert_eq!(delivered(&broker, 1).await, ["past"]);
    hands.advance(999);
    // Each call makes the broker look at the clock; the record would be there if it were early.
    for _ in 0..20 {
        assert_eq!(ids(&list(&broker, "", 0).await), ["b", "c", "d"]);
    }
    assert_eq!(values(&broker).await, ["past"]);
    hands.advance(1_001);
    assert_eq!(delivered(&broker, 3).await, ["past", "b", "c"], "in the order in which they are due");
    hands.jump(-3_600_000);
    for _ in 0..20 {
        assert_eq!(ids(&list(&broker, "", 0).await), ["d"]);
    }
    hands.jump(3_600_000);
    hands.jump(1);
    delivered(&broker, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_there_after_a_restart_and_the_cancelled_and_delivered_are_not() {
    let (mut broker, hands) = broker().await;
    let at = |id: &str, ms: i64| schedule(id, &record(id.to_owned()), At::DeliverAtMs(START_MS + ms));
    add(&broker, vec![at("now", 0), at("soon", 1_000), at("never", 1_000), at("late", 5_000)]).await.expect("added");
    delivered(&broker, 1).await;
    cancel(&broker, "never").await.expect("cancelled");
    broker.stop().await;
    hands.advance(1_000);
    broker.restart_stopped().await;
    assert_eq!(delivered(&broker, 2).await, ["now", "soon"]);
    until("the end of the schedule", async || get(&broker, "soon").await.err()).await;
    broker.restart().await;
    assert_eq!(ids(&list(&broker, "", 0).await), ["late"]);
    hands.advance(4_000);
    assert_eq!(delivered(&broker, 3).await, ["now", "soon", "late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_comes_again_and_again_and_what_was_missed_as_it_was_told() {
    let (mut broker, hands) = broker().await;
    let once = schedule("once", &record("once"), every_minute(MissedOccurrences::Once));
    let skip = schedule("skip", &record("skip"), every_minute(MissedOccurrences::Skip));
    add(&broker, vec![once, skip]).await.expect("added");
    let times = async |broker: &TestBroker, id: &str, count: u64| {
        until("a delivery", async || Some(facts(broker, id).await).filter(|found| found.delivered >= count)).await
    };
    for count in 1..4 {
        hands.advance(MINUTE_MS);
        for id in ["once", "skip"] {
            let found = times(&broker, id, count).await;
            assert!(found.due_ms > START_MS + MINUTE_MS * i64::try_from(count).expect("small"));
            assert_eq!((found.state(), found.delivered), (ScheduleState::Waiting, count));
        }
    }
    broker.stop().await;
    hands.advance(30 * MINUTE_MS);
    broker.restart_stopped().await;
    let once = times(&broker, "once", 4).await;
    let skip =
        until("the next one", async || Some(facts(&broker, "skip").await).filter(|s| s.due_ms == once.due_ms)).await;
    assert_eq!((once.delivered, skip.delivered), (4, 3));
    assert_eq!(once.due_ms, START_MS - START_MS % MINUTE_MS + 34 * MINUTE_MS);
    let batches = broker.fetch("orders", 0, 0).await.batches;
    let mut message_ids: Vec<_> = records_of(&batches).into_iter().map(|(_, record)| record.message_id).collect();
    message_ids.sort_unstable();
    message_ids.dedup();
    assert_eq!(message_ids.len(), 7, "each occurrence is a message of its own");
}

/// The log of schedules is set back to before its end was noted: what a crash between the two appends leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_whose_note_is_lost_comes_again_under_the_same_message_id() {
    let (mut broker, hands) = broker().await;
    let window = TopicOptions { dedup_window_ms: Some(600_000), ..TopicOptions::default() };
    broker.create_topic_with("once", 1, window).await;
    let to_once = NewSchedule { topic: "once".into(), ..schedule("b", &record("b"), At::DelayMs(1_000)) };
    add(&broker, vec![schedule("a", &record("a"), At::DelayMs(1_000)), to_once]).await.expect("added");
    let request = GetTopicRequest { name: "__schedules".into() };
    let topic = broker.topics().get_topic(request).await.expect("it is there").into_inner().topic;
    let log = find(broker.data_dir(), &topic.expect("the answer has it").topic_id);
    let kept = broker.data_dir().join("kept");
    broker.stop().await;
    copy(&log, &kept);
    broker.restart_stopped().await;
    hands.advance(1_000);
    until("both deliveries", async || list(&broker, "", 0).await.is_empty().then_some(())).await;
    broker.stop().await;
    #[expect(clippy::disallowed_methods, reason = "the test plays a crash, with files of a broker that is stopped")]
    std::fs::remove_dir_all(&log).expect("it can be removed");
    copy(&kept, &log);
    broker.restart_stopped().await;
    until("both deliveries", async || list(&broker, "", 0).await.is_empty().then_some(())).await;

    let found = records_of(&broker.fetch("orders", 0, 0).await.batches);
    let ids: Vec<_> = found.iter().map(|(_, record)| record.message_id.as_deref().unwrap_or_default()).collect();
    assert_eq!(ids, ["a@0", "a@0"]);
    assert_eq!(values_of(&broker.fetch("once", 0, 0).await.batches), [(0, "b".to_owned())]);
}

/// The directory of that name below another.
fn find(below: &Path, name: &str) -> PathBuf {
    let entries = std::fs::read_dir(below).expect("it can be read").map(|entry| entry.expect("it can be read").path());
    let directories: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    let here = directories.iter().find(|path| path.ends_with(name)).cloned();
    here.or_else(|| directories.iter().find_map(|path| path.join(name).is_dir().then(|| path.join(name))))
        .expect("the topic has a directory")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("it can be made");
    for entry in std::fs::read_dir(from).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let target = to.join(path.file_name().expect("it has one"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("it can be copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_stays_and_says_why() {
    let (broker, hands) = broker().await;
    add(&broker, vec![schedule("one", &record("one"), At::DelayMs(1_000))]).await.expect("added");
    broker.topics().delete_topic(DeleteTopicRequest { name: "orders".into() }).await.expect("deleted");
    hands.advance(1_000);
    let found = until("a failure", async || {
        Some(facts(&broker, "one").await).filter(|found| found.state() == ScheduleState::Retrying)
    })
    .await;
    assert!(found.last_error.contains("there is no topic orders"), "{}", found.last_error);
    assert_eq!((found.failures >= 1, found.due_ms), (true, START_MS + 1_000));
    assert_eq!(list(&broker, "orders", 0).await[0].last_error, found.last_error);
    broker.create_topic("orders", 1).await;
    assert!(broker.has_metric("millstream_schedules_retrying 1").await);
    assert_eq!(delivered(&broker, 1).await, ["one"]);
    until("the end of the schedule", async || get(&broker, "one").await.err()).await;
    for line in ["millstream_schedules 0", "millstream_schedules_retrying 0", "millstream_schedule_deliveries_total 1"]
    {
        assert!(broker.has_metric(line).await, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_has_delayed_messages_too_and_a_keyless_one_goes_by_its_id() {
    let (broker, hands) = broker().await;
    let options = TopicOptions { dedup_window_ms: Some(60_000), ..TopicOptions::default() };
    broker.create_topic_with("work", 4, options).await;
    let start = Some(Position { at: Some(position::At::Edge(Edge::Earliest as i32)) });
    let create = CreateQueueRequest { name: "work".into(), topics: vec!["work".into()], start, ..Default::default() };
    broker.queues().create_queue(create).await.expect("created");
    let delayed = |number: u32| {
        let asked = schedule("", &record(format!("m{number}")), At::DelayMs(u64::from(number)));
        NewSchedule { topic: "work".into(), ..asked }
    };
    let fixed = NewSchedule { partition: Some(3), ..delayed(20) };
    add(&broker, (0..20).map(delayed).chain([fixed]).collect()).await.expect("added");
    hands.advance(1_000);
    let mut received = Vec::new();
    while received.len() < 21 {
        let request = ReceiveRequest { queue: "work".into(), max_messages: 100, max_wait_ms: 5_000, max_bytes: 0 };
        received.extend(broker.queues().receive(request).await.expect("it answers").into_inner().messages);
    }
    let partitions: std::collections::BTreeSet<u32> = received.iter().map(|message| message.partition).collect();
    assert!(partitions.len() > 1, "they are spread: {partitions:?}");
}

/// Its log is compacted, so a cron that is delivered for ever needs no more than a bounded part of the disk.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_schedules_is_as_large_as_what_is_scheduled_not_as_what_was() {
    const BODY_BYTES: usize = 500_000;
    const OCCURRENCES: i64 = 150;
    let (mut broker, hands) = broker().await;
    let cron = every_minute(MissedOccurrences::Once);
    add(&broker, vec![schedule("cron", &record(vec![b'x'; BODY_BYTES]), cron)]).await.expect("added");
    for count in 1..=OCCURRENCES {
        hands.advance(MINUTE_MS);
        let is_through = |found: &millstream::proto::Schedule| found.delivered == count.cast_unsigned();
        until("a delivery", async || Some(facts(&broker, "cron").await).filter(is_through)).await;
    }
    // One segment is open, and one may be sealed and not yet compacted: 16 MiB each, of 75 MB that were written.
    let log_bytes = until("compaction", async || {
        Some(broker.partition_state("__schedules", 0).await.log_bytes).filter(|bytes| *bytes < 40 << 20)
    })
    .await;
    println!("{log_bytes} bytes are left of {OCCURRENCES} deliveries of {BODY_BYTES} bytes");
    // A pass may be under way.
    broker.stop().await;
}

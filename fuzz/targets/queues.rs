//! The journal of queues, replayed at the start: arbitrary entries are refused by name or become state, the snapshot of
//! that state is replayed to the same state, and messages can be taken and settled from it, dead letters resolved.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream::clock::ManualClock;
use millstream::partition::journal::{Appending, CutJournal, JournalEntry, JournalError};
use millstream::queue::{
    Found, FoundMessage, LogBounds, Logs, PartitionKey, QueueCoordinator, QueueError, QueueName, ReceiverKind, Settle,
    Verb, Window,
};
use millstream::types::{Durability, Offset, TopicId, TopicName, TopicPattern};
use millstream_fuzz::bounded;
use millstream_fuzz::damaged_log::Number;
use std::pin::Pin;
use std::sync::Arc;

/// More say nothing new, and each may open as many messages as a queue can have.
const ENTRIES_MAX: usize = 24;

/// A message that is open takes less, with all that points to it.
const MESSAGE_BYTES: usize = 1_024;

/// One entry: free bytes, or one of the shapes that there are with numbers near those that matter.
#[derive(Debug, Arbitrary)]
enum Entry<'a> {
    Free { key: &'a [u8], value: Option<&'a [u8]> },
    FreeValue { kind: u8, value: &'a str },
    Run { run: Number, next_queue: Number },
    Queue { queue: u8, id: Number, keeps_order: bool, attempts_max: u8, ttl_ms: u8, exists: bool },
    Progress { queue: u8, partition: u8, frontier: Number, open: Vec<(u8, u8, Option<i64>, bool)>, exists: bool },
    Delivered { queue: u8, partition: u8, ranges: Vec<(Number, u8)>, at_ms: i64 },
    Settled { queue: u8, partition: u8, acked: Vec<(Number, u8)>, released: Vec<(Number, u8)>, failed: Vec<(u8, i64)> },
    Dying { queue: u8, partition: u8, offsets: Vec<Number> },
    Resolved { is_orders: bool, partition: u8, ranges: Vec<(Number, u8)>, exists: bool },
}

fn topic_id() -> uuid::Uuid {
    uuid::Uuid::from_u128(7)
}

fn key(kind: &str, queue: u8, partition: u8) -> String {
    format!("{kind}/q{}/{}/{}", queue % 3, topic_id(), partition % 3)
}

fn ranges(ranges: &[(Number, u8)]) -> String {
    let text = ranges.iter().map(|(start, length)| {
        let start = start.get();
        format!("{{\"start\":{start},\"end\":{}}}", start.saturating_add((*length).into()))
    });
    format!("[{}]", text.collect::<Vec<_>>().join(","))
}

impl Entry<'_> {
    fn encode(&self) -> JournalEntry {
        let of = |key: String, value: Option<String>| JournalEntry { key: key.into(), value: value.map(Bytes::from) };
        match self {
            Self::Free { key, value } => {
                JournalEntry { key: Bytes::copy_from_slice(key), value: value.map(Bytes::copy_from_slice) }
            }
            Self::FreeValue { kind, value } => {
                let keys = ["run".to_owned(), "queue/q1".to_owned(), key("progress", 1, 0)];
                let key = keys
                    .get(usize::from(*kind % 5))
                    .cloned()
                    .unwrap_or_else(|| key(if kind % 5 == 3 { "delivered" } else { "settled" }, 1, 0));
                of(key, Some((*value).to_owned()))
            }
            Self::Run { run, next_queue } => {
                of("run".into(), Some(format!("{{\"run\":{},\"next_queue\":{}}}", run.get(), next_queue.get())))
            }
            Self::Queue { queue, id, keeps_order, attempts_max, ttl_ms, exists } => {
                let (queue, id) = (queue % 3, id.get());
                let ordering = if *keeps_order { "key" } else { "none" };
                let value = format!(
                    "{{\"id\":{id},\"name\":\"q{queue}\",\"topics\":[\"orders\"],\"start\":\"earliest\",\"policy\":{{\
                     \"lease_ms\":1000,\"max_lease_ms\":2000,\"retry\":{{\"min_ms\":0,\"max_ms\":9,\
                     \"multiplier_percent\":200,\"jitter_percent\":0,\"attempts_max\":{attempts_max}}},\
                     \"dead_letter_topic\":\"dead\",\"ordering\":\"{ordering}\",\"max_in_flight\":50,\
                     \"max_in_flight_per_receiver\":0,\"message_ttl_ms\":{ttl_ms}}},\"created_at_ms\":1}}"
                );
                of(format!("queue/q{queue}"), exists.then_some(value))
            }
            Self::Progress { queue, partition, frontier, open, exists } => {
                let open = open.iter().map(|(offset, attempts, until, is_dying)| {
                    let until = until.map_or(String::new(), |until| format!(",\"until\":{{\"wall_ms\":{until}}}"));
                    let dying = if *is_dying { ",\"dying\":{\"rejected\":\"\"}" } else { "" };
                    format!("{{\"offset\":{offset},\"attempts\":{attempts}{until}{dying}}}")
                });
                let open = open.collect::<Vec<_>>().join(",");
                let value = format!("{{\"topic\":\"orders\",\"frontier\":{},\"open\":[{open}]}}", frontier.get());
                of(key("progress", *queue, *partition), exists.then_some(value))
            }
            Self::Delivered { queue, partition, ranges: delivered, at_ms } => {
                let value = format!("{{\"ranges\":{},\"at_ms\":{at_ms}}}", ranges(delivered));
                of(key("delivered", *queue, *partition), Some(value))
            }
            Self::Settled { queue, partition, acked, released, failed } => {
                let failed = failed.iter().map(|(offset, at)| format!("[{offset},{{\"wall_ms\":{at}}}]"));
                let failed = failed.collect::<Vec<_>>().join(",");
                let (acked, released) = (ranges(acked), ranges(released));
                let value = format!("{{\"acked\":{acked},\"released\":{released},\"failed\":[{failed}]}}");
                of(key("settled", *queue, *partition), Some(value))
            }
            Self::Dying { queue, partition, offsets } => {
                let dying = offsets.iter().map(|offset| format!("[{},\"expired\"]", offset.get()));
                let value = format!("{{\"dying\":[{}]}}", dying.collect::<Vec<_>>().join(","));
                of(key("settled", *queue, *partition), Some(value))
            }
            Self::Resolved { is_orders, partition, ranges: resolved, exists } => {
                let topic = if *is_orders { "orders" } else { "gone" };
                let value = format!("{{\"topic\":\"{topic}\",\"ranges\":{}}}", ranges(resolved));
                of(format!("resolved/{}/{}", topic_id(), partition % 3), exists.then_some(value))
            }
        }
    }
}

/// A journal that takes everything.
struct Nowhere;

impl CutJournal for Nowhere {
    fn begin(&self, _: Vec<JournalEntry>, _: Durability) -> Appending {
        Appending { written: Box::pin(async {}), durable: Box::pin(async { Ok(()) }) }
    }

    fn replace(&self, _: Vec<JournalEntry>) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

/// One topic of two partitions with forty records each.
#[derive(Debug)]
struct TwoLogs;

impl Logs for TwoLogs {
    fn topic(&self, name: &TopicName) -> Option<(TopicId, u32)> {
        (name.as_str() == "orders").then_some((TopicId(topic_id()), 2))
    }

    fn matching(&self, _: &TopicPattern) -> Vec<TopicName> {
        Vec::new()
    }

    fn bounds(&self, _: &TopicName, at: PartitionKey) -> Option<LogBounds> {
        (at.partition < 2).then_some(LogBounds { log_start: Offset(3), high_watermark: Offset(40) })
    }
}

fuzz_target!(|entries: Vec<Entry<'_>>| {
    let entries: Vec<JournalEntry> = entries.iter().take(ENTRIES_MAX).map(Entry::encode).collect();
    let bytes: usize =
        entries.iter().map(|entry| 64 + entry.key.len() + entry.value.as_ref().map_or(0, Bytes::len)).sum();
    let open_most = millstream::limits::QUEUE_IN_FLIGHT_MAX as usize * entries.len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime with a clock");
    bounded(64 * bytes + (1 << 20) + open_most * MESSAGE_BYTES, || runtime.block_on(replay(entries)));
});

fn start(entries: Vec<JournalEntry>) -> Result<QueueCoordinator, QueueError> {
    QueueCoordinator::start(Arc::new(Nowhere), entries, Arc::new(ManualClock::new(1_000)), Arc::new(TwoLogs))
}

async fn replay(entries: Vec<JournalEntry>) {
    let queues = match start(entries) {
        Ok(queues) => queues,
        Err(QueueError::Corrupt { .. }) => return,
        Err(error) => panic!("not named as damage: {error}"),
    };
    // The number of the run is another one each time.
    let state = |entries: Vec<JournalEntry>| entries.into_iter().filter(|entry| &entry.key[..] != b"run");
    // A start gives up what is out of attempts. A message that waits is looked at when its time comes, which for some of
    // these is at once, and so not before the start after that.
    let first = queues.snapshot().await.expect("the task runs");
    let settled = start(first).expect("a snapshot is a journal").snapshot().await.expect("the task runs");
    let again = start(settled.clone()).expect("a snapshot is a journal");
    let said = again.snapshot().await.expect("the task runs");
    assert!(state(said).eq(state(settled)), "a snapshot says all there is");
    resolve_all(&queues).await;
    for queue in queues.list(String::new()).await.expect("the task runs") {
        take_all(&queues, queue.config.name).await;
    }
}

/// Resolves letters of every topic that has some; what is refused is refused by name.
async fn resolve_all(queues: &QueueCoordinator) {
    for topic in queues.letter_topics(String::new()).await.expect("the task runs") {
        for partition in 0..3 {
            let at = PartitionKey { topic_id: TopicId(topic_id()), partition };
            match queues.resolve_letters(topic.clone(), at, vec![Offset(5)..Offset(7), Offset(30)..Offset(31)]).await {
                Ok(()) => {
                    let state = queues.letters(topic.clone()).await.expect("it has letters");
                    // No broker writes one partition under two names; a journal may say so.
                    let Some(resolved) = state.resolved.get(&at) else { continue };
                    assert!([0, 2, 5, 6, 30].into_iter().all(|offset| resolved.contains(Offset(offset))));
                }
                Err(QueueError::NotDeadLetters { .. } | QueueError::TooManyRanges { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Takes and settles whatever a queue hands out.
async fn take_all(queues: &QueueCoordinator, name: QueueName) {
    let window = Window { messages: 10, bytes: 1_000 };
    let receiver = queues.open(name.clone(), ReceiverKind::Stream, window).await.expect("there is room");
    // Fewer rounds than there are messages, more than any input can put off.
    for _ in 0..200 {
        let reserving = queues.reserve(&receiver, 10).await.expect("it is open");
        let Some(reservation) = reserving.messages() else { return };
        let offsets = reservation.ranges.iter().flat_map(|range| range.start.0..range.end.0);
        let message = |offset| FoundMessage {
            offset: Offset(offset),
            bytes: 10,
            key: Some(offset % 3),
            append_time_ms: 900,
            ttl_ms: None,
        };
        let found = Found {
            at: reservation.at,
            messages: offsets.map(message).collect(),
            absent: Vec::new(),
            unreadable: Vec::new(),
            filtered: Vec::new(),
            starved: false,
        };
        let leased = queues.deliver(&receiver, found).await.expect("it is open");
        let settles = leased.into_iter().map(|message| Settle { token: message.token, verb: Verb::Ack }).collect();
        let results = queues.settle(name.clone(), settles).await.expect("the task runs");
        assert!(results.iter().all(Result::is_ok), "a lease that was just given is valid: {results:?}");
    }
}

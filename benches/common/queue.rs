//! A queue with endless messages and a journal that takes everything: what its state machine and its task cost.

use millstream::clock::SystemClock;
use millstream::partition::journal::{Appending, CutJournal, JournalEntry, JournalError};
use millstream::queue::{
    CreateQueue, Found, FoundMessage, LogBounds, Logs, PartitionKey, QueueCoordinator, QueueName, QueuePolicy,
    QueueReceiver, QueueStart, ReceiverKind, Settle, Verb, Window,
};
use millstream::types::{Durability, Offset, TopicId, TopicName, TopicPattern};
use std::pin::Pin;
use std::sync::Arc;
use tokio::runtime::Runtime;

const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));

struct Nowhere;

impl CutJournal for Nowhere {
    fn begin(&self, _: Vec<JournalEntry>, _: Durability) -> Appending {
        Appending { written: Box::pin(async {}), durable: Box::pin(async { Ok(()) }) }
    }

    fn replace(&self, _: Vec<JournalEntry>) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

#[derive(Debug)]
struct EndlessLog;

impl Logs for EndlessLog {
    fn topic(&self, _: &TopicName) -> Option<(TopicId, u32)> {
        Some((TOPIC, 1))
    }

    fn matching(&self, _: &TopicPattern) -> Vec<TopicName> {
        Vec::new()
    }

    fn bounds(&self, _: &TopicName, _: PartitionKey) -> Option<LogBounds> {
        Some(LogBounds { log_start: Offset(0), high_watermark: Offset(1 << 40) })
    }
}

/// A queue with one receiver.
pub(crate) struct EndlessQueue {
    runtime: Runtime,
    queues: QueueCoordinator,
    receiver: QueueReceiver,
    name: QueueName,
}

impl EndlessQueue {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (name, topic) = (QueueName::new("work").expect("valid"), TopicName::new("orders").expect("valid"));
        let (queues, receiver) = runtime.block_on(async {
            let (journal, clock, logs) = (Arc::new(Nowhere), Arc::new(SystemClock), Arc::new(EndlessLog));
            let queues = QueueCoordinator::start(journal, Vec::new(), clock, logs).expect("it is empty");
            let at = PartitionKey { topic_id: TOPIC, partition: 0 };
            let request = CreateQueue {
                name: name.clone(),
                topics: vec![topic.clone()],
                patterns: Vec::new(),
                start: QueueStart::Earliest,
                frontiers: vec![(at, topic, Offset(0))],
                filter: None,
                policy: QueuePolicy::default(),
            };
            queues.create(request).await.expect("it is new");
            let window = Window { messages: 1_000, bytes: u64::MAX };
            let receiver = queues.open(name.clone(), ReceiverKind::Stream, window).await.expect("there is room");
            (queues, receiver)
        });
        Self { runtime, queues, receiver, name }
    }

    /// Takes up to `messages` messages and acknowledges each; how many there were.
    pub(crate) fn work(&self, messages: u32) -> usize {
        let Self { runtime, queues, receiver, name } = self;
        runtime.block_on(async {
            let reserving = queues.reserve(receiver, messages).await.expect("it is open");
            let reservation = reserving.messages().expect("there are always more");
            let offsets = reservation.ranges.iter().flat_map(|range| range.start.0..range.end.0);
            let message = |offset| FoundMessage {
                offset: Offset(offset),
                bytes: 100,
                key: None,
                append_time_ms: 0,
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
            let leased = queues.deliver(receiver, found).await.expect("it is open");
            let settles: Vec<_> =
                leased.into_iter().map(|message| Settle { token: message.token, verb: Verb::Ack }).collect();
            let results = queues.settle(name.clone(), settles).await.expect("the task runs");
            assert!(results.iter().all(Result::is_ok), "a lease that was just given is valid");
            results.len()
        })
    }
}

//! Workers of queues: streams and calls that take messages and say anything about them that can be said, or nothing.

use crate::history::Event as Entry;
use crate::history::audit::topic_name;
use crate::history::event::{Delivered, Letter, Said};
use crate::history::payload::{Random, keys_with_prefix};
use crate::world::{PATIENCE, World};
use millstream::client::admin::{DeadLetter, LetterSelection, NewQueue, QueueSettings};
use millstream::client::{
    Client, ClientError, ConsumedRecord, QueueEvent, QueueMessage, QueueWindow, RefusedSettlement, Settlement, Verdict,
};
use millstream::types::Position;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What a queue is like: the topic it is on, its attempts, whether it keeps order by key, and how the keys of its
/// messages begin; empty = it has all records.
#[derive(Debug, Clone, Copy)]
struct Kind {
    topic: usize,
    attempts_max: u32,
    keeps_order: bool,
    key_prefix: &'static str,
}

const QUEUES: [Kind; 3] = [
    Kind { topic: 1, attempts_max: 3, keeps_order: false, key_prefix: "" },
    Kind { topic: 0, attempts_max: 4, keeps_order: true, key_prefix: "" },
    Kind { topic: 1, attempts_max: 2, keeps_order: false, key_prefix: "key-1" },
];

/// A stream on which nothing comes for so long is quiet.
const QUIET: Duration = Duration::from_millis(300);

/// Of each queue.
const STREAMS: u16 = 2;
/// The others take by calls.
const WORKERS: u16 = 3;

/// A queue of a round.
#[derive(Debug, Clone)]
struct Subject {
    number: u16,
    name: String,
    letters: String,
}

/// The queues of a round.
#[derive(Debug)]
pub(crate) struct Queues {
    subjects: Vec<Subject>,
    /// Dropped, they end.
    workers: JoinSet<()>,
}

/// How long messages may be kept, where that matters: once, and with all extensions.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Leases {
    pub(crate) lease_ms: Option<u64>,
    pub(crate) max_lease_ms: Option<u64>,
}

/// What queue `number` of a history is called, and its dead letter topic.
fn names(prefix: &str, number: usize) -> (String, String) {
    (format!("{prefix}queue-{number}"), format!("{prefix}queue-{number}.dlq"))
}

/// The dead letter topics of the queues of a history.
pub(crate) fn letter_topics(prefix: &str) -> Vec<String> {
    (0..QUEUES.len()).map(|number| names(prefix, number).1).collect()
}

/// Creates the queues, and starts their workers. Those with streams are clients of `streaming`.
pub(crate) async fn start(
    world: &Arc<World>,
    streaming: &Client,
    topics: &[String],
    leases: Leases,
    random: &mut Random,
) -> Queues {
    let (mut subjects, mut workers) = (Vec::new(), JoinSet::new());
    for (number, kind) in (0..).zip(QUEUES) {
        let (name, letters) = names(&world.subject.prefix, number.into());
        let queue = kind.queue(&name, &topics[kind.topic], leases);
        world.client.create_queue_of(&queue).await.expect("created");
        world.recorder.record(Entry::TopicDone { topic: letters.clone(), exists: true });
        let Kind { attempts_max, keeps_order, key_prefix, .. } = kind;
        let only_keys = if key_prefix.is_empty() { Vec::new() } else { keys_with_prefix(key_prefix) };
        world.recorder.record(Entry::Queue { queue: number, name: name.clone(), attempts_max, keeps_order, only_keys });
        let subject = Subject { number, name, letters };
        for worker in 0..WORKERS {
            let is_stream = worker < STREAMS;
            let client = if is_stream { streaming.clone() } else { world.client.clone() };
            let (world, subject) = (Arc::clone(world), subject.clone());
            let random = Random::new(random.below(u64::MAX));
            let mut worker = Worker { world, client, subject, number: 0, is_stream, leases, random };
            workers.spawn(async move { worker.work().await });
        }
        subjects.push(subject);
    }
    Queues { subjects, workers }
}

impl Kind {
    fn queue(self, name: &str, topic: &str, leases: Leases) -> NewQueue {
        let settings = QueueSettings {
            lease_ms: leases.lease_ms,
            max_lease_ms: leases.max_lease_ms,
            attempts_max: Some(self.attempts_max),
            retry_min_ms: Some(0),
            retry_max_ms: Some(20),
            ordered_by_key: Some(self.keeps_order),
            ..QueueSettings::default()
        };
        let filter = match self.key_prefix {
            "" => String::new(),
            prefix => format!("hasPrefix(key, \"{prefix}\")"),
        };
        let topics = vec![topic_name(topic)];
        NewQueue { topics, filter, settings, ..NewQueue::new(name, Position::Earliest) }
    }
}

struct Worker {
    world: Arc<World>,
    client: Client,
    subject: Subject,
    /// Anew for each stream.
    number: u32,
    is_stream: bool,
    leases: Leases,
    random: Random,
}

impl Worker {
    async fn work(&mut self) {
        loop {
            self.number = self.world.next_stream();
            // Where leases soon end by time, a stream keeps nothing.
            let is_stream = self.is_stream && self.leases.max_lease_ms.is_none();
            self.world.recorder.record(Entry::WorkerOpened { worker: self.number, is_stream });
            let ended = if self.is_stream { self.stream().await } else { self.call().await };
            self.world.recorder.record(Entry::WorkerClosed { worker: self.number });
            if ended.is_err() {
                self.world.next_life().await;
            }
        }
    }

    /// Takes messages from one stream, until it breaks or is given up.
    async fn stream(&mut self) -> Result<(), ClientError> {
        let messages = u32::try_from(1 + self.random.below(200)).expect("small");
        let mut stream =
            self.client.receive_stream(&self.subject.name, QueueWindow { messages, bytes: 1 << 20 }).await?;
        loop {
            let event = tokio::time::timeout(QUIET, stream.next()).await;
            let is_quiet = event.is_err();
            if let Ok(event) = event
                && let QueueEvent::Messages(messages) = event?
            {
                self.take(messages, 0).await?;
            }
            // At the end nobody keeps what nothing was said about.
            if self.random.below(20) == 0 || is_quiet && self.world.is_closing() {
                // Noted before it is so: what it holds may be with another one as soon as the broker hears of it.
                self.world.recorder.record(Entry::WorkerClosed { worker: self.number });
                drop(stream);
                return Ok(());
            }
        }
    }

    /// Takes messages by one call.
    async fn call(&mut self) -> Result<(), ClientError> {
        let messages = u32::try_from(1 + self.random.below(100)).expect("small");
        let asked_ms = self.world.recorder.elapsed_ms();
        let messages = self.client.receive(&self.subject.name, messages, Duration::from_millis(200)).await?;
        // They were handed out after that was asked for.
        let kept_until_ms = self.leases.lease_ms.map_or(0, |lease_ms| asked_ms + lease_ms);
        self.take(messages, kept_until_ms).await
    }

    /// Notes messages, and says something about each, or about some of them nothing.
    async fn take(&mut self, messages: Vec<QueueMessage>, kept_until_ms: u64) -> Result<(), ClientError> {
        let (worker, queue) = (self.number, self.subject.number);
        let heard_ms = self.world.recorder.elapsed_ms();
        for message in &messages {
            let (log, offset, attempt) = self.place(message);
            let record = self.world.payload.recognize(&message.record);
            let message = Delivered { worker, queue, log, offset, record, attempt, heard_ms, kept_until_ms };
            self.world.recorder.record(Entry::Received(message));
        }
        let mut said = Vec::new();
        for message in &messages {
            let Some(verdict) = self.verdict() else { continue };
            let (log, offset, attempt) = self.place(message);
            self.world.recorder.record(Entry::SettleAsked { worker, queue, log, offset, attempt, said: verdict });
            said.push((message, verdict));
        }
        if said.is_empty() {
            return Ok(());
        }
        let settlements = said.iter().map(|(message, said)| message.settle(words(*said))).collect();
        let (refused, is_repeat) = self.settle(settlements).await?;
        for (index, (message, said)) in said.into_iter().enumerate() {
            let (log, offset, attempt) = self.place(message);
            match (refused.contains(&index), is_repeat) {
                (false, _) => self.world.recorder.record(Entry::SettleDone { queue, log, offset, attempt, said }),
                (true, false) => self.world.recorder.record(Entry::SettleRefused { queue, log, offset, said }),
                // It may have been done the first time.
                (true, true) => {}
            }
        }
        self.world.acked.notify_waiters();
        if is_repeat {
            // Whatever else has come on this stream is of a connection that is gone.
            return Err(ClientError::ConnectionLost { cause: "the one before".to_owned() });
        }
        Ok(())
    }

    /// Settles messages, once more if no answer came. Gives which were refused, and whether it was said twice.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<(Vec<usize>, bool), ClientError> {
        let queue = &self.subject.name;
        let (refused, is_repeat) = match self.client.settle(queue, settlements.clone()).await {
            Err(ClientError::ConnectionLost { .. }) => {
                self.world.next_life().await;
                let count = u32::try_from(settlements.len()).expect("few");
                self.world.recorder.record(Entry::SettleRepeated { count });
                (self.client.settle(queue, settlements).await?, true)
            }
            answer => (answer?, false),
        };
        for RefusedSettlement { refusal, .. } in &refused {
            if !["LEASE_OVER", "LEASE_UNKNOWN"].contains(&refusal.reason.as_str()) {
                self.world.trouble(format!("{queue}: a settlement was refused: {refusal}"));
            }
        }
        Ok((refused.iter().map(|refused| refused.index as usize).collect(), is_repeat))
    }

    /// Mostly that it is done. At the end of a round nothing is left lying, so that all of it can be done.
    fn verdict(&mut self) -> Option<Said> {
        match self.random.below(100) {
            0..8 => Some(Said::Nack),
            8..12 => Some(Said::Reject),
            12..18 => Some(Said::Release),
            18..20 if !self.world.is_closing() => None,
            _ => Some(Said::Ack),
        }
    }

    fn place(&self, message: &QueueMessage) -> (u16, u64, u32) {
        let ConsumedRecord { partition, offset, .. } = &message.record;
        let log = self.world.subject.log(partition).expect("a log of the queue");
        (log, offset.0, message.attempt)
    }
}

fn words(said: Said) -> Verdict {
    let reason = || "for a test".to_owned();
    match said {
        Said::Ack => Verdict::Ack,
        Said::Nack => Verdict::Nack { delay: None, reason: reason() },
        Said::Release => Verdict::Release,
        Said::Reject => Verdict::Reject { reason: reason() },
    }
}

impl Queues {
    /// What they are called.
    #[allow(dead_code, reason = "test binaries share this file, and only that of the full disk needs it")]
    pub(crate) fn names(&self) -> Vec<String> {
        self.subjects.iter().map(|subject| subject.name.clone()).collect()
    }

    /// Says in the history how far each queue is, and then which dead letters there are.
    pub(crate) async fn audit(&self, client: &Client, world: &World) {
        for Subject { number: queue, name, letters } in &self.subjects {
            let queue = *queue;
            world.recorder.record(Entry::QueueAsked { queue });
            let described = client.describe_queue(name).await.expect("a queue can be described");
            for found in described.partitions {
                let log = world.subject.log(&found.partition).expect("a log of the history");
                let (done_below, frontier) = (found.low_watermark.0, found.frontier.0);
                let open = found.leased + found.available + found.blocked + found.waiting + found.dying;
                world.recorder.record(Entry::QueueAudited { queue, log, done_below, frontier, open });
            }
            let letters = read_letters(client, letters, world).await;
            world.recorder.record(Entry::DeadLetters { queue, letters });
        }
    }

    /// Waits until everything is done, audits, and ends the workers.
    pub(crate) async fn drain(self, client: &Client, world: &World) {
        for subject in &self.subjects {
            let begun = Instant::now();
            let ends = loop {
                let partitions = client.describe_queue(&subject.name).await.expect("described").partitions;
                if partitions.iter().all(|found| found.low_watermark == found.high_watermark) {
                    break partitions;
                }
                assert!(begun.elapsed() < PATIENCE / 2, "{} is not done: {partitions:?}", subject.name);
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            self.audit(client, world).await;
            for found in ends {
                let log = world.subject.log(&found.partition).expect("a log of the history");
                let (queue, end) = (subject.number, found.high_watermark.0);
                world.recorder.record(Entry::Drained { queue, log, end });
            }
        }
        drop(self.workers);
        for subject in &self.subjects {
            client.delete_queue(&subject.name).await.expect("a queue can be deleted");
        }
    }
}

/// All dead letters of a queue, with those that were sent back.
async fn read_letters(client: &Client, topic: &str, world: &World) -> Vec<Letter> {
    let all = LetterSelection { topic: topic.to_owned(), ..LetterSelection::default() };
    let mut reading = client.read_dead_letters(&all, 0, true).await.expect("dead letters can be read");
    let mut letters = Vec::new();
    while let Some(found) = reading.next().await.expect("dead letters can be read") {
        letters.push(letter(found, world));
    }
    letters
}

/// What a dead letter says, and which record it is without that.
fn letter(found: DeadLetter, world: &World) -> Letter {
    let DeadLetter { mut record, reason, attempts, origin, resolved: is_resolved, .. } = found;
    let (partition, offset) = origin.expect("it says where it came from");
    let log = world.subject.log(&partition).expect("a log of the history");
    let (at, is_rejected) = (record.offset.0, reason == "rejected");
    record.headers.retain(|(name, _)| !name.starts_with("dead-letter-"));
    Letter { at, log, offset: offset.0, attempts, is_rejected, is_resolved, record: world.payload.recognize(&record) }
}

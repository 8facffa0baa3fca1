//! Workers of queues: streams and calls that take messages and say anything about them that can be said, or nothing.

use crate::history::Event as Entry;
use crate::history::audit::topic_name;
use crate::history::event::{Letter, Said};
use crate::history::payload::Random;
use crate::world::{PATIENCE, World};
use millstream::client::admin::QueueSettings;
use millstream::client::{
    Client, ClientError, ConsumedRecord, PartitionReader, QueueEvent, QueueMessage, QueueWindow, Verdict,
};
use millstream::types::{Offset, Position, TopicPartition};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What each queue is like: the topic it is on, its attempts, and whether it keeps order by key.
const QUEUES: [(usize, u32, bool); 2] = [(1, 3, false), (0, 4, true)];

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

/// Creates the queues, and starts their workers.
pub(crate) async fn start(world: &Arc<World>, client: &Client, topics: &[String], random: &mut Random) -> Queues {
    let (mut subjects, mut workers) = (Vec::new(), JoinSet::new());
    for (number, (topic, attempts_max, keeps_order)) in (0..).zip(QUEUES) {
        let name = format!("{}queue-{number}", world.subject.prefix);
        let letters = format!("{name}.dlq");
        let settings = QueueSettings {
            attempts_max: Some(attempts_max),
            retry_min_ms: Some(0),
            retry_max_ms: Some(20),
            ordered_by_key: Some(keeps_order),
            ..QueueSettings::default()
        };
        let of = [topic_name(&topics[topic])];
        client.create_queue(&name, &of, Position::Earliest, &settings).await.expect("created");
        world.recorder.record(Entry::TopicDone { topic: letters.clone(), exists: true });
        world.recorder.record(Entry::Queue { queue: number, name: name.clone(), attempts_max, keeps_order });
        let subject = Subject { number, name, letters };
        for worker in 0..WORKERS {
            let (world, client, subject) = (Arc::clone(world), client.clone(), subject.clone());
            let random = Random::new(random.below(u64::MAX));
            let mut worker = Worker { world, client, subject, number: 0, is_stream: worker < STREAMS, random };
            workers.spawn(async move { worker.work().await });
        }
        subjects.push(subject);
    }
    Queues { subjects, workers }
}

struct Worker {
    world: Arc<World>,
    client: Client,
    subject: Subject,
    /// Anew for each stream.
    number: u32,
    is_stream: bool,
    random: Random,
}

impl Worker {
    async fn work(&mut self) {
        loop {
            self.number = self.world.next_stream();
            self.world.recorder.record(Entry::WorkerOpened { worker: self.number, is_stream: self.is_stream });
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
            if let QueueEvent::Messages(messages) = stream.next().await? {
                self.take(messages).await?;
            }
            if self.random.below(20) == 0 {
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
        let messages = self.client.receive(&self.subject.name, messages, Duration::from_millis(200)).await?;
        self.take(messages).await
    }

    /// Notes messages, and says something about each, or about some of them nothing.
    async fn take(&mut self, messages: Vec<QueueMessage>) -> Result<(), ClientError> {
        let (worker, queue) = (self.number, self.subject.number);
        for message in &messages {
            let (log, offset, attempt) = self.place(message);
            let record = self.world.payload.recognize(&message.record);
            self.world.recorder.record(Entry::Received { worker, queue, log, offset, record, attempt });
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
        let refused = self.client.settle(&self.subject.name, settlements).await?;
        let refused: Vec<_> = refused.iter().map(|refused| refused.index as usize).collect();
        for (index, (message, said)) in said.into_iter().enumerate() {
            let (log, offset, attempt) = self.place(message);
            self.world.recorder.record(if refused.contains(&index) {
                Entry::SettleRefused { queue, log, offset, said }
            } else {
                Entry::SettleDone { queue, log, offset, attempt, said }
            });
        }
        self.world.acked.notify_waiters();
        Ok(())
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
    /// Says in the history how far each queue is, and then which dead letters there are.
    pub(crate) async fn audit(&self, client: &Client, world: &World) {
        for subject in &self.subjects {
            let described = client.describe_queue(&subject.name).await.expect("a queue can be described");
            for found in described.partitions {
                let log = world.subject.log(&found.partition).expect("a log of the history");
                let (queue, done_below) = (subject.number, found.low_watermark.0);
                world.recorder.record(Entry::QueueAudited { queue, log, done_below });
            }
            let letters = letters(client, subject, world).await;
            world.recorder.record(Entry::DeadLetters { queue: subject.number, letters });
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
                assert!(begun.elapsed() < PATIENCE, "{} is not done in {PATIENCE:?}: {partitions:?}", subject.name);
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

/// All dead letters of a queue.
async fn letters(client: &Client, subject: &Subject, world: &World) -> Vec<Letter> {
    let partition = TopicPartition { topic: topic_name(&subject.letters), partition: 0 };
    let (_, partitions) = client.topic(&partition.topic).await.expect("its topic is there");
    let range = Offset::ZERO..partitions[0].high_watermark;
    let mut reader = PartitionReader::new(client, partition, range);
    let mut letters = Vec::new();
    while let Some(batch) = reader.next().await.expect("dead letters can be read") {
        letters.extend(batch.records().map(|record| letter(record, world)));
    }
    letters
}

/// What a dead letter says, and which record it is without that.
fn letter(mut record: ConsumedRecord, world: &World) -> Letter {
    let facts: HashMap<String, String> = record
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let number = |name: &str| facts.get(name).and_then(|text| text.parse::<u64>().ok()).expect("a number");
    let topic = topic_name(facts.get("dead-letter-topic").expect("the topic it came from"));
    let partition = u32::try_from(number("dead-letter-partition")).expect("small");
    let log = world.subject.log(&TopicPartition { topic, partition }).expect("a log of the history");
    record.headers.retain(|(name, _)| !name.starts_with("dead-letter-"));
    Letter {
        log,
        offset: number("dead-letter-offset"),
        attempts: u32::try_from(number("dead-letter-attempts")).expect("small"),
        is_rejected: facts.get("dead-letter-reason").is_some_and(|reason| reason == "rejected"),
        record: world.payload.recognize(&record),
    }
}

//! Dead letters: what queues have given up is written to their dead letter topics, and only then done.
//!
//! One task looks whenever queues have something for it. It writes with the durability of a power cut, whatever the
//! topic promises; a crash between the write and its note in the queue writes the dead letter again. What cannot be
//! written stays with its queue, and is tried again.

use crate::broker::queues::reading::{partition, read_one};
use crate::broker::topic_table::TopicTable;
use crate::limits;
use crate::planted::{Bug, is_planted};
use crate::queue::{DeathReason, DyingMessage, Place, QueueCoordinator, QueueName};
use crate::storage::log::NewBatch;
use crate::types::partitioner::partition_of_key;
use crate::types::record_set::{self, Record, encode_record};
use crate::types::{Durability, TimestampMs, TopicName};
use bytes::BytesMut;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Messages of each queue that are written at one time.
const BATCH_MESSAGES: usize = 100;

/// Dead letters of one partition are written together up to about this many bytes; one that is larger goes alone.
const SET_BYTES: usize = 1 << 20;

/// No more are read for one round than this many bytes of them; what is left comes in the next.
const ROUND_BYTES: usize = 8 << 20;

/// What could not be written is tried again after this.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The task that writes dead letters. Ends when this is dropped.
#[derive(Debug)]
pub(in crate::broker) struct Undertaker(JoinHandle<()>);

impl Drop for Undertaker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Undertaker {
    /// Begins with what the last run left.
    pub(in crate::broker) fn start(queues: QueueCoordinator, topics: Arc<TopicTable>) -> Self {
        Self(tokio::spawn(run(queues, topics)))
    }
}

async fn run(queues: QueueCoordinator, topics: Arc<TopicTable>) {
    // Queues whose trouble was told of, so that it is told once.
    let mut troubled: HashSet<QueueName> = HashSet::new();
    // An error: the coordinator has stopped, and told of it.
    while let Ok(dying) = queues.dying(BATCH_MESSAGES).await {
        if dying.is_empty() {
            queues.deaths().await;
            continue;
        }
        let mut failed = false;
        let mut by_queue: BTreeMap<QueueName, Vec<DyingMessage>> = BTreeMap::new();
        for message in dying {
            by_queue.entry(message.queue.clone()).or_default().push(message);
        }
        for (queue, dying) in by_queue {
            let Burial { buried, absent, trouble } = write(&topics, &dying).await;
            if (!buried.is_empty() || !absent.is_empty()) && queues.bury(queue.clone(), buried, absent).await.is_err() {
                return;
            }
            match trouble {
                Some(cause) => {
                    failed = true;
                    if troubled.insert(queue.clone()) {
                        tracing::warn!(%queue, %cause, "dead letters cannot be written; their messages stay in the queue");
                    }
                }
                None => drop(troubled.remove(&queue)),
            }
        }
        if failed {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

/// What became of messages of one queue.
#[derive(Default)]
struct Burial {
    buried: Vec<Place>,
    absent: Vec<Place>,
    /// Why not all of them are among these.
    trouble: Option<String>,
}

/// Dead letters that are written together.
struct Part {
    number: u32,
    set: BytesMut,
    places: Vec<Place>,
}

/// Writes the dead letters of one queue.
async fn write(topics: &TopicTable, dying: &[DyingMessage]) -> Burial {
    let mut burial = Burial::default();
    let Some(name) = dying.first().and_then(|message| message.dead_letter_topic.clone()) else {
        burial.trouble = Some("the queue has no dead letter topic".to_owned());
        return burial;
    };
    let Some(target) = topics.get(&name) else {
        burial.trouble = Some(format!("there is no topic {name}"));
        return burial;
    };
    let mut parts: Vec<Part> = Vec::new();
    let mut bytes = 0;
    for message in dying {
        if bytes >= ROUND_BYTES {
            break;
        }
        let Some(source) = partition(topics, &message.topic, message.place.at) else {
            burial.trouble = Some(format!("topic {} is offline", message.topic));
            continue;
        };
        match read_one(&source, message.place.offset).await {
            Ok(Some((append_time_ms, record))) => {
                let key = record.key.as_deref();
                let partitions = target.entry.partitions;
                let number = key.map_or_else(|| target.partition_in_turn(), |key| partition_of_key(key, partitions));
                let letter = encode(message, &record, append_time_ms);
                bytes += letter.len();
                let last = parts.iter_mut().rev().find(|part| part.number == number);
                match last.filter(|part| part.set.len() + letter.len() <= SET_BYTES) {
                    Some(part) => {
                        part.set.unsplit(letter);
                        part.places.push(message.place);
                    }
                    None => parts.push(Part { number, set: letter, places: vec![message.place] }),
                }
            }
            Ok(None) => burial.absent.push(message.place),
            Err(error) => burial.trouble = Some(error.to_string()),
        }
    }
    for Part { number, set, places } in parts {
        let appended = if is_planted(Bug::DeadLetterUnwritten) { Ok(()) } else { append(&target, number, set).await };
        match appended {
            Ok(()) => burial.buried.extend(places),
            Err(cause) => burial.trouble = Some(in_topic(&name, &cause)),
        }
    }
    burial
}

fn in_topic(topic: &TopicName, cause: &str) -> String {
    format!("topic {topic}: {cause}")
}

async fn append(target: &crate::broker::Topic, number: u32, set: BytesMut) -> Result<(), String> {
    let payload = set.freeze();
    let summary = record_set::check(&payload, usize::MAX).map_err(|error| error.to_string())?;
    let partition = target.partition(number).map_err(|error| error.to_string())?;
    let appended = partition.append(NewBatch::new(payload, summary), Some(Durability::Synced), None).await;
    appended.map(drop).map_err(|error| error.to_string())
}

/// The record as it was, with what is to be known of its life behind its own headers; without that if a batch cannot hold
/// both.
fn encode(message: &DyingMessage, record: &Record, append_time_ms: TimestampMs) -> BytesMut {
    let (reason, detail) = match &message.reason {
        DeathReason::AttemptsExhausted(detail) => ("attempts_exhausted", detail.as_str()),
        DeathReason::Rejected(detail) => ("rejected", detail.as_str()),
        DeathReason::Expired => ("expired", ""),
    };
    let facts = [
        ("dead-letter-reason", reason.to_owned()),
        ("dead-letter-detail", detail.to_owned()),
        ("dead-letter-queue", message.queue.to_string()),
        ("dead-letter-attempts", message.attempts.to_string()),
        ("dead-letter-topic", message.topic.to_string()),
        ("dead-letter-partition", message.place.at.partition.to_string()),
        ("dead-letter-offset", message.place.offset.to_string()),
        ("dead-letter-first-delivered-ms", message.first_delivered_ms.to_string()),
        ("dead-letter-last-delivered-ms", message.last_delivered_ms.to_string()),
        ("dead-letter-message-id", record.message_id.clone().unwrap_or_default()),
    ];
    // An id of its own would make a second death of the same message a repeat, which a topic may drop.
    let facts = facts.iter().filter(|(_, value)| !value.is_empty());
    let own = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
    let headers = own.clone().chain(facts.map(|(name, value)| (*name, value.as_bytes())));
    let timestamp = record.timestamp.unwrap_or(append_time_ms);
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    let mut letter = BytesMut::new();
    encode_record(&mut letter, key, value, headers, Some(timestamp));
    if letter.len() > limits::BATCH_BYTES_LIMIT_MAX as usize {
        letter.clear();
        encode_record(&mut letter, key, value, own, record.timestamp);
    }
    letter
}

//! The dispatcher: what is due is appended to its topic, and only then done.
//!
//! One task takes what is due in batches, reads it, appends it with the durability of a power cut whatever the topic
//! promises, and then says what became of it. A crash between the two appends it again, under the same message id, by
//! which a topic that looks for repeats knows it. What cannot be appended stays, and is tried again.

use crate::broker::error::BrokerError;
use crate::broker::schedules::log::PartitionLog;
use crate::broker::topic_table::{Topic, TopicTable};
use crate::broker::upkeep::disk_watch::DiskWatch;
use crate::clock::SharedClock;
use crate::limits;
use crate::partition::PendingAppend;
use crate::schedule::{Due, Entry, Outcome, Place, Schedule, ScheduleCoordinator, ScheduleError};
use crate::storage::log::{AppendTerms, NewBatch};
use crate::types::partitioner::partition_of_key;
use crate::types::record_set::{self, encode_identified_record};
use crate::types::{Durability, TopicName};
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Schedules that are delivered together, and about how many bytes of records.
const BATCH_SCHEDULES: usize = 1_000;
/// See [`BATCH_SCHEDULES`].
const BATCH_BYTES: u64 = 2 << 20;

/// Records of one partition are appended together up to about this many bytes.
const SET_BYTES: usize = 1 << 20;

/// When the log of schedules does not take what became of them, it is told again after this.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A schedule whose next time cannot be told, because its time zone is not known any more, comes again after this.
const UNKNOWN_NEXT_MS: i64 = 24 * 60 * 60 * 1000;

/// What the dispatcher needs.
#[derive(Debug)]
pub(in crate::broker) struct DispatcherParts {
    pub(in crate::broker) schedules: ScheduleCoordinator,
    pub(in crate::broker) log: PartitionLog,
    pub(in crate::broker) topics: Arc<TopicTable>,
    pub(in crate::broker) disk: Arc<DiskWatch>,
    pub(in crate::broker) clock: SharedClock,
}

/// The task that delivers. Ends when this is dropped.
#[derive(Debug)]
pub(in crate::broker) struct Dispatcher {
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Dispatcher {
    /// Begins with what became due while the broker was away.
    pub(in crate::broker) fn start(parts: DispatcherParts) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: Mutex::new(Some(tokio::spawn(run(parts, stopped)))) }
    }

    /// Ends the task when what it has in hand is done: then nothing is delivered twice because of this stop.
    pub(in crate::broker) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

async fn run(parts: DispatcherParts, mut stopped: watch::Receiver<bool>) {
    // Topics whose trouble was told of, so that it is told once.
    let mut troubled: HashSet<TopicName> = HashSet::new();
    loop {
        let due = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            due = parts.schedules.take_due(BATCH_SCHEDULES, BATCH_BYTES) => due,
        };
        // An error: the coordinator has stopped, and told of it.
        let Ok(due) = due else { return };
        let mut round = Round::default();
        round.deliver(&parts, due).await;
        let Round { outcomes, failures, well, ill, .. } = round;
        troubled.retain(|topic| !well.contains(topic));
        for (topic, cause) in ill {
            if troubled.insert(topic.clone()) {
                tracing::warn!(%topic, %cause, "schedules cannot be delivered; they stay, and are tried again");
            }
        }
        if !failures.is_empty() && parts.schedules.put_off(failures).await.is_err() {
            return;
        }
        if !outcomes.is_empty() && !conclude(&parts.schedules, &outcomes, &mut stopped).await {
            return;
        }
    }
}

/// Says what became of them until it is heard; `false` if it never will be.
async fn conclude(schedules: &ScheduleCoordinator, outcomes: &[Outcome], stopped: &mut watch::Receiver<bool>) -> bool {
    loop {
        match schedules.conclude(outcomes.to_vec()).await {
            Ok(()) => return true,
            Err(ScheduleError::Refused { cause }) => {
                tracing::warn!(%cause, "deliveries of schedules cannot be noted; they come again after a crash");
                let stopping = stopped.wait_for(|stopped| *stopped);
                if tokio::time::timeout(RETRY_INTERVAL, stopping).await.is_ok() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
}

/// Records of one partition that are appended together.
struct Part {
    topic: Arc<Topic>,
    partition: u32,
    set: BytesMut,
    entries: Vec<(Place, Entry)>,
}

/// What became of one batch.
#[derive(Default)]
struct Round {
    outcomes: Vec<Outcome>,
    failures: Vec<(Place, Arc<str>)>,
    /// Topics that took records, and topics that did not, with a reason.
    well: HashSet<TopicName>,
    ill: HashMap<TopicName, Arc<str>>,
    parts: Vec<Part>,
    /// The last part of each partition.
    open: HashMap<(TopicName, u32), usize>,
}

impl Round {
    async fn deliver(&mut self, parts: &DispatcherParts, due: Vec<Due>) {
        let mut by_topic: BTreeMap<TopicName, Vec<Place>> = BTreeMap::new();
        for Due { place, topic } in due {
            by_topic.entry(topic).or_default().push(place);
        }
        // What has nowhere to go is not even read.
        let mut reachable: BTreeMap<Place, Arc<Topic>> = BTreeMap::new();
        for (name, places) in by_topic {
            let found = parts.topics.get(&name).ok_or_else(|| BrokerError::TopicNotFound { topic: name.clone() });
            match found.and_then(|topic| parts.disk.admit(|| topic.at(0)).map(|()| topic)) {
                Ok(topic) => reachable.extend(places.into_iter().map(|place| (place, Arc::clone(&topic)))),
                Err(error) => self.fail(&name, places, &error.to_string()),
            }
        }
        let wanted: BTreeSet<_> = reachable.keys().map(|place| place.offset).collect();
        let mut entries = parts.log.read(wanted).await;
        let now_ms = parts.clock.now_ms();
        for (place, topic) in reachable {
            match entries.remove(&place.offset) {
                Some(Ok(entry)) if entry.schedule.is_left_out(now_ms) => {
                    tracing::info!(id = %entry.id, due_ms = place.due_ms, "an occurrence was missed, and is left out");
                    self.conclude_one(place, entry, now_ms, false);
                }
                Some(Ok(entry)) => self.put(place, entry, &topic),
                Some(Err(error)) => self.fail(&topic.name, [place], &error),
                None => self.fail(&topic.name, [place], "its entry is not in the log of schedules"),
            }
        }
        self.append(parts).await;
    }

    /// Puts a record to those of its partition.
    fn put(&mut self, place: Place, entry: Entry, topic: &Arc<Topic>) {
        let mut record = BytesMut::new();
        let partition = match encode(&mut record, place, &entry, topic) {
            Ok(partition) => partition,
            Err(error) => return self.fail(&topic.name, [place], &error),
        };
        let last = self.open.get(&(topic.name.clone(), partition)).copied();
        if let Some(last) = last.filter(|last| self.parts[*last].set.len() + record.len() <= SET_BYTES) {
            self.parts[last].set.unsplit(record);
            self.parts[last].entries.push((place, entry));
            return;
        }
        self.open.insert((topic.name.clone(), partition), self.parts.len());
        self.parts.push(Part { topic: Arc::clone(topic), partition, set: record, entries: vec![(place, entry)] });
    }

    /// Appends all parts side by side, and waits for all of them.
    async fn append(&mut self, parts: &DispatcherParts) {
        let queued: Vec<_> = std::mem::take(&mut self.parts).into_iter().map(queue).collect();
        for Queued { topic, partition, bytes, entries, append } in queued {
            let appended = match append {
                Ok(append) => append.await.map_err(|error| BrokerError::append(topic.at(partition), error)),
                Err(error) => Err(error),
            };
            match appended {
                Ok(ack) => {
                    topic.metrics.produced(ack.appended.record_count.into(), bytes);
                    self.well.insert(topic.name.clone());
                    let now_ms = parts.clock.now_ms();
                    for (place, entry) in entries {
                        self.conclude_one(place, entry, now_ms, true);
                    }
                }
                Err(error) => {
                    if matches!(error, BrokerError::DiskFull { .. }) {
                        parts.disk.look_after_refusal();
                    }
                    self.fail(&topic.name, entries.iter().map(|(place, _)| *place), &error.to_string());
                }
            }
        }
    }

    fn conclude_one(&mut self, place: Place, entry: Entry, now_ms: i64, delivered: bool) {
        let next = match entry.schedule.next(now_ms, delivered) {
            Ok(next) => next.map(|schedule| Entry { schedule, ..entry.clone() }),
            Err(error) => {
                // Its zone was known when it was made; a database without it must not end the schedule, nor repeat it.
                tracing::error!(id = %entry.id, %error, "when a schedule comes next cannot be told; it comes in a day");
                let due_ms = now_ms.max(place.due_ms) + UNKNOWN_NEXT_MS;
                let schedule = Schedule { due_ms, ..entry.schedule.clone() };
                Some(Entry { schedule, ..entry.clone() })
            }
        };
        self.outcomes.push(Outcome { id: entry.id, place, next, delivered });
    }

    fn fail(&mut self, topic: &TopicName, places: impl IntoIterator<Item = Place>, error: &str) {
        let error: Arc<str> = error.into();
        self.ill.entry(topic.clone()).or_insert_with(|| Arc::clone(&error));
        self.failures.extend(places.into_iter().map(|place| (place, Arc::clone(&error))));
    }
}

/// Records on their way.
struct Queued {
    topic: Arc<Topic>,
    partition: u32,
    bytes: u64,
    entries: Vec<(Place, Entry)>,
    append: Result<PendingAppend, BrokerError>,
}

fn queue(part: Part) -> Queued {
    let Part { topic, partition, set, entries } = part;
    let payload = set.freeze();
    let bytes = payload.len() as u64;
    let summary = record_set::check(&payload, usize::MAX).expect("our own encoding is valid");
    let mut batch = NewBatch::new(payload, summary);
    batch.terms = AppendTerms { dedup_window_ms: topic.entry.options.dedup_window_ms, ..AppendTerms::default() };
    let append = topic.partition(partition).map(|handle| handle.append(batch, Some(Durability::Synced), None));
    Queued { topic, partition, bytes, entries, append }
}

/// The record as it is delivered, and the partition it goes to.
fn encode(out: &mut BytesMut, place: Place, entry: &Entry, topic: &Topic) -> Result<u32, String> {
    let record = record_set::record_of_body(&entry.record).ok_or("its record cannot be read")?;
    if record.key.is_none() && topic.entry.options.cleanup.compacts() {
        return Err(format!("topic {} is compacted by now, and the record has no key", topic.name));
    }
    // The place names this delivery for good: told again after a crash, it has the same id.
    let message_id = record.message_id.unwrap_or_else(|| format!("{}@{}", entry.id, place.offset));
    let route = record.key.as_deref().unwrap_or(message_id.as_bytes());
    let partition = entry.schedule.partition.unwrap_or_else(|| partition_of_key(route, topic.entry.partitions));
    let due_ms = place.due_ms.to_string();
    let facts = [("schedule-id", entry.id.as_str()), ("schedule-due-ms", due_ms.as_str())];
    let own = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref()));
    let headers = own.clone().chain(facts.iter().map(|(name, value)| (*name, value.as_bytes())));
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    encode_identified_record(out, key, value, headers, record.timestamp, Some(&message_id));
    debug_assert!(out.len() < limits::BATCH_BYTES_LIMIT_MAX as usize, "a record and its facts fit a batch");
    Ok(partition)
}

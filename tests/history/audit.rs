//! Reads everything a broker has, for the checker to compare with what is known.

use super::payload::{REDRIVEN_FROM, SCHEDULE_DUE, SCHEDULE_ID, added};
use super::{Batch, Event, Payload, RecordId, Recorder};
use millstream::client::{Client, ClientError, ConsumedBatch, ConsumedRecord, PartitionReader};
use millstream::types::{Offset, TopicName, TopicPartition};
use std::ops::Range;

/// What a history is about: logs and groups by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    /// The partition that is log 0, 1, ...
    pub(crate) logs: Vec<TopicPartition>,
    /// The group that is 0, 1, ...
    pub(crate) groups: Vec<String>,
    /// The dead letter topic of queue 0, 1, ...
    pub(crate) letters: Vec<String>,
    /// Names of topics that belong to the history begin like this.
    pub(crate) prefix: String,
}

impl Subject {
    /// The number of a partition.
    pub(crate) fn log(&self, partition: &TopicPartition) -> Option<u16> {
        let at = self.logs.iter().position(|log| log == partition)?;
        Some(u16::try_from(at).expect("few logs"))
    }
}

/// Asks which schedules wait, reads the list of topics, every log of those that are there, and every committed offset.
pub(crate) async fn audit(client: &Client, subject: &Subject, payload: Payload, recorder: &Recorder) {
    let waiting = waiting(client, subject).await;
    recorder.record(Event::SchedulesListed { waiting });
    let topics = client.list_topics(&subject.prefix, false).await.expect("topics can be listed");
    let topics: Vec<TopicName> = topics.into_iter().map(|topic| topic.name).collect();
    for (log, partition) in (0..).zip(&subject.logs).filter(|(_, partition)| topics.contains(&partition.topic)) {
        let events = audit_log(client, log, partition, subject, payload).await;
        for event in events {
            recorder.record(event);
        }
    }
    for (group, name) in (0..).zip(&subject.groups) {
        recorder.record(Event::CommitsAsked { group });
        let committed = client.fetch_offsets(name, &[]).await.expect("committed offsets can be asked for");
        for (log, partition) in (0..).zip(&subject.logs) {
            let found = committed.iter().find(|committed| committed.partition == *partition);
            recorder.record(Event::Committed { group, log, offset: found.map(|found| found.offset.0) });
        }
    }
    recorder.record(Event::TopicsAudited { topics: topics.iter().map(ToString::to_string).collect() });
}

/// What a schedule of the history is called. Its record says which it is.
pub(crate) fn schedule_id(subject: &Subject, record: RecordId) -> String {
    format!("{}{record}", subject.prefix)
}

/// The schedules of the history that are not over.
pub(crate) async fn waiting(client: &Client, subject: &Subject) -> Vec<RecordId> {
    let (mut waiting, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = client.list_schedules(None, after.as_deref(), 1_000).await.expect("schedules can be listed");
        let ours = page.schedules.iter().filter_map(|schedule| schedule.id.strip_prefix(&subject.prefix));
        waiting.extend(ours.map(|number| number.parse::<RecordId>().expect("the number of a record")));
        after = page.next;
        if after.is_none() {
            return waiting;
        }
    }
}

/// All of a log, behind what its records say of how they came there.
async fn audit_log(
    client: &Client,
    log: u16,
    partition: &TopicPartition,
    subject: &Subject,
    payload: Payload,
) -> Vec<Event> {
    loop {
        let described = match client.topic(&partition.topic).await {
            Ok((_, partitions)) => partitions.into_iter().nth(partition.partition as usize),
            Err(error) => return vec![Event::Offline { log, why: error.to_string() }],
        };
        let described = described.expect("the topic has this partition");
        if let Some(refusal) = described.refusal {
            return vec![Event::Offline { log, why: refusal.message }];
        }
        let (start, end) = (described.log_start_offset, described.high_watermark);
        match read(client, partition, start..end).await {
            Ok(read) => {
                let batches = read.iter().flat_map(|batch| recognized(batch, payload)).collect();
                let records = read.iter().flat_map(ConsumedBatch::records);
                let mut events: Vec<_> = records.filter_map(|record| how_it_came(&record, subject, payload)).collect();
                let (start, end, bytes) = (start.0, end.0, described.log_bytes);
                events.push(Event::Audited { log, start, end, bytes, batches });
                return events;
            }
            // Retention was quicker: once more from where the log starts now.
            Err(error) if reason_of(&error) == "OFFSET_OUT_OF_RANGE" => {}
            Err(error) => return vec![Event::Offline { log, why: error.to_string() }],
        }
    }
}

async fn read(
    client: &Client,
    partition: &TopicPartition,
    range: Range<Offset>,
) -> Result<Vec<ConsumedBatch>, ClientError> {
    let mut reader = PartitionReader::new(client, partition.clone(), range);
    let mut batches = Vec::new();
    while let Some(batch) = reader.next().await? {
        batches.push(batch);
    }
    Ok(batches)
}

/// A record that was not just sent says so: it was a dead letter, or was delivered by a schedule.
fn how_it_came(record: &ConsumedRecord, subject: &Subject, payload: Payload) -> Option<Event> {
    let (log, offset) = (subject.log(&record.partition)?, record.offset.0);
    if let Some(from) = added(record, REDRIVEN_FROM) {
        let (place, at) = from.rsplit_once('/').expect("TOPIC/PARTITION/OFFSET");
        let topic = place.strip_suffix("/0").expect("dead letters have one partition");
        let queue = subject.letters.iter().position(|letters| letters == topic).expect("letters of the history");
        let (queue, at) = (u16::try_from(queue).expect("few"), at.parse().expect("an offset"));
        return Some(Event::CameBack { log, offset, record: payload.recognize(record), queue, at });
    }
    added(record, SCHEDULE_ID)?;
    let due_ms = added(record, SCHEDULE_DUE).and_then(|due| due.parse().ok()).expect("a time");
    let (record, appended_ms) = (payload.recognize(record), record.append_time);
    Some(Event::CameDue { log, offset, record, due_ms, appended_ms })
}

/// A batch as the checker sees it: in pieces, if compaction has removed records from it.
pub(crate) fn recognized(batch: &ConsumedBatch, payload: Payload) -> Vec<Batch> {
    let mut pieces: Vec<Batch> = Vec::new();
    for record in batch.records() {
        let (base, id) = (record.offset.0, payload.recognize(&record));
        match pieces.last_mut().filter(|piece| piece.end() == base) {
            Some(piece) => piece.records.push(id),
            None => pieces.push(Batch { base, records: vec![id] }),
        }
    }
    pieces
}

/// The reason of a refusal; empty if it is none.
pub(crate) fn reason_of(error: &ClientError) -> &str {
    error.refusal().map_or("", |refusal| &refusal.reason)
}

/// A name that is one.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName::new(name).expect("a valid name")
}

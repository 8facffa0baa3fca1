//! Reads everything a broker has, for the checker to compare with what is known.

use super::{Batch, Event, Payload, Recorder};
use millstream::client::{Client, ClientError, ConsumedBatch, PartitionReader};
use millstream::types::{Offset, TopicName, TopicPartition};
use std::ops::Range;

/// What a history is about: logs and groups by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    /// The partition that is log 0, 1, ...
    pub(crate) logs: Vec<TopicPartition>,
    /// The group that is 0, 1, ...
    pub(crate) groups: Vec<String>,
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

/// Reads the list of topics, every log of those that are there, and every committed offset.
pub(crate) async fn audit(client: &Client, subject: &Subject, payload: Payload, recorder: &Recorder) {
    let topics = client.list_topics(&subject.prefix, false).await.expect("topics can be listed");
    let topics: Vec<TopicName> = topics.into_iter().map(|topic| topic.name).collect();
    for (log, partition) in (0..).zip(&subject.logs).filter(|(_, partition)| topics.contains(&partition.topic)) {
        let event = audit_log(client, log, partition, payload).await;
        recorder.record(event);
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

async fn audit_log(client: &Client, log: u16, partition: &TopicPartition, payload: Payload) -> Event {
    loop {
        let described = match client.topic(&partition.topic).await {
            Ok((_, partitions)) => partitions.into_iter().nth(partition.partition as usize),
            Err(error) => return Event::Offline { log, why: error.to_string() },
        };
        let described = described.expect("the topic has this partition");
        if let Some(refusal) = described.refusal {
            return Event::Offline { log, why: refusal.message };
        }
        let (start, end) = (described.log_start_offset, described.high_watermark);
        match read(client, partition, start..end, payload).await {
            Ok(batches) => {
                let (start, end, bytes) = (start.0, end.0, described.log_bytes);
                return Event::Audited { log, start, end, bytes, batches };
            }
            // Retention was quicker: once more from where the log starts now.
            Err(error) if reason_of(&error) == "OFFSET_OUT_OF_RANGE" => {}
            Err(error) => return Event::Offline { log, why: error.to_string() },
        }
    }
}

async fn read(
    client: &Client,
    partition: &TopicPartition,
    range: Range<Offset>,
    payload: Payload,
) -> Result<Vec<Batch>, ClientError> {
    let mut reader = PartitionReader::new(client, partition.clone(), range);
    let mut batches = Vec::new();
    while let Some(batch) = reader.next().await? {
        batches.extend(recognized(&batch, payload));
    }
    Ok(batches)
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

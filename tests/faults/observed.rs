//! What a broker serves: every topic, every record of every partition, every committed offset.
//!
//! Records are read through the client, like anybody would; each must be one that can have been sent, unchanged.

use super::lines::Lines;
use millstream::client::{Client, ClientError, PartitionReader};
use millstream::types::{Offset, TopicName, TopicPartition};
use std::collections::BTreeMap;

/// Everything a broker serves.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// By topic, in order of partition.
    pub(crate) topics: BTreeMap<String, Vec<Partition>>,
    /// Of the one group there is, by topic and partition.
    pub(crate) commits: BTreeMap<(String, u32), u64>,
}

/// One partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Partition {
    /// It does not serve, or not all of it, and says why.
    Refused(String),
    /// From `log_start` to `end`, each record.
    Serves { log_start: u64, end: u64, records: Vec<Record> },
}

/// A record as it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: u64,
    pub(crate) line: u32,
    /// Of its value, in bytes.
    pub(crate) len: usize,
}

impl Observed {
    /// Reads everything. An error is a broken promise: what was read cannot have been sent.
    pub(crate) async fn of(client: &Client, group: &str, lines: &Lines) -> Result<Self, String> {
        let mut observed = Self::default();
        let lost = |error: ClientError| format!("a call fails: {error}");
        for topic in client.list_topics("", false).await.map_err(lost)? {
            let (_, descriptions) = client.topic(&topic.name).await.map_err(lost)?;
            let mut partitions = Vec::new();
            for description in descriptions {
                if let Some(refusal) = description.refusal {
                    partitions.push(Partition::Refused(refusal.message));
                    continue;
                }
                let range = description.log_start_offset..description.high_watermark;
                partitions.push(read(client, &topic.name, description.partition, range, lines).await?);
            }
            observed.topics.insert(topic.name.to_string(), partitions);
        }
        match client.fetch_offsets(group, &[]).await {
            Ok(offsets) => {
                let commit = |at: TopicPartition, offset: Offset| ((at.topic.to_string(), at.partition), offset.0);
                observed.commits = offsets.into_iter().map(|found| commit(found.partition, found.offset)).collect();
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(lost(error)),
        }
        Ok(observed)
    }
}

async fn read(
    client: &Client,
    topic: &TopicName,
    partition: u32,
    range: std::ops::Range<Offset>,
    lines: &Lines,
) -> Result<Partition, String> {
    let at = TopicPartition { topic: topic.clone(), partition };
    let mut records = Vec::new();
    let mut reader = PartitionReader::new(client, at, range.clone());
    loop {
        let batch = match reader.next().await {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(ClientError::Refused(refusal)) => return Ok(Partition::Refused(refusal.message)),
            Err(error) => return Err(format!("{topic}/{partition} cannot be read: {error}")),
        };
        for (offset, value) in (batch.base_offset().0..).zip(batch.values()) {
            let value = value.unwrap_or_default();
            let line = lines.line_of(value);
            let line = line.ok_or_else(|| format!("{topic}/{partition}: nobody sent what is at offset {offset}"))?;
            records.push(Record { offset, line, len: value.len() });
        }
    }
    Ok(Partition::Serves { log_start: range.start.0, end: range.end.0, records })
}

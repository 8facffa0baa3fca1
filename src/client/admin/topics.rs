//! Topics: create, look at, change, delete, and delete the records at the beginning of a partition.

use crate::client::connection::service;
use crate::client::convert::{cleanup_from_wire, cleanup_to_wire, durability_from_wire, durability_to_wire, required};
use crate::client::{Client, ClientError, Refusal};
use crate::proto;
use crate::types::{Cleanup, Durability, Offset, TimestampMs, TopicName};
use std::time::Duration;

/// Compaction reads the whole topic before it answers.
const COMPACTION_PATIENCE: Duration = Duration::from_hours(24);

/// Options of a topic, any of them left out. On create an absent one has the broker's default, on update it stays as
/// it is; in what the broker answers, all are there.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Records older than this, by append time, may be deleted. 0 = kept for ever.
    pub retention_ms: Option<u64>,
    /// The oldest records may be deleted while a partition holds more. 0 = no limit.
    pub retention_bytes: Option<u64>,
    /// A segment file is sealed when it would grow past this.
    pub segment_bytes: Option<u64>,
    /// A segment file is sealed when its first record is older.
    pub segment_age_ms: Option<u64>,
    /// What an acknowledgement means when the request does not say.
    pub durability: Option<Durability>,
    /// Largest record accepted, encoded.
    pub record_bytes_max: Option<u32>,
    /// Largest record set accepted, encoded.
    pub batch_bytes_max: Option<u32>,
    /// A record whose message id was appended less than this long ago is not appended again. 0 = off.
    pub dedup_window_ms: Option<u64>,
    /// Which records may go.
    pub cleanup: Option<Cleanup>,
    /// On a compacted topic, tombstones stay this long after what they delete was removed.
    pub tombstone_grace_ms: Option<u64>,
}

/// What compaction did in one partition.
#[derive(Debug, Clone)]
pub struct CompactedPartition {
    /// Its number, from 0.
    pub partition: u32,
    /// Records that were removed.
    pub removed_records: u64,
    /// Bytes of all segment files before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
    /// Segment files before.
    pub segments_before: u32,
    /// And after.
    pub segments_after: u32,
    /// Why it was not compacted, or not to the end.
    pub refusal: Option<Refusal>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: TopicName,
    /// UUID. A topic that is deleted and created again has another one.
    pub topic_id: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// What it promises.
    pub settings: TopicSettings,
    /// When it was created.
    pub created_at: TimestampMs,
    /// Whether it is the broker's own.
    pub internal: bool,
}

/// The state of one partition.
#[derive(Debug, Clone)]
pub struct PartitionDescription {
    /// Its number, from 0.
    pub partition: u32,
    /// First retained record.
    pub log_start_offset: Offset,
    /// Readers see records below this.
    pub high_watermark: Offset,
    /// The next record gets this offset.
    pub log_end_offset: Offset,
    /// Bytes of all segment files.
    pub log_bytes: u64,
    /// How many segment files.
    pub segments: u32,
    /// Why it does not serve, if it does not.
    pub refusal: Option<Refusal>,
    /// The right to write that producers must have, if any.
    pub fencing_token: Option<u64>,
    /// Damage that was found in its sealed segments.
    pub damaged: Vec<DamagedRange>,
}

/// Records whose bytes on disk are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// The first offset that cannot be read.
    pub first_offset: Offset,
    /// The first after it that can.
    pub next_offset: Offset,
    /// The segment file, on the broker's machine.
    pub file: String,
    /// Where in it the damage begins.
    pub position: u64,
    /// What is wrong there.
    pub what: String,
}

impl Client {
    /// Creates a topic. `partitions` 0 = the broker's default.
    pub async fn create_topic(
        &self,
        name: &TopicName,
        partitions: u32,
        settings: &TopicSettings,
    ) -> Result<TopicDescription, ClientError> {
        let mut topics = service!(self, topic_service_client, TopicServiceClient);
        let options = Some(settings_to_wire(settings));
        let request = proto::CreateTopicRequest { name: name.to_string(), partitions, options };
        topic_from_wire(self.answer(topics.create_topic(request)).await?.topic)
    }

    /// A topic and the state of its partitions, in order.
    pub async fn topic(&self, name: &TopicName) -> Result<(TopicDescription, Vec<PartitionDescription>), ClientError> {
        let mut topics = service!(self, topic_service_client, TopicServiceClient);
        let answer = self.answer(topics.get_topic(proto::GetTopicRequest { name: name.to_string() })).await?;
        let partitions = answer.partitions.into_iter().map(partition_from_wire).collect();
        Ok((topic_from_wire(answer.topic)?, partitions))
    }

    /// All topics whose names begin with `prefix`, in order of name.
    pub async fn list_topics(
        &self,
        prefix: &str,
        include_internal: bool,
    ) -> Result<Vec<TopicDescription>, ClientError> {
        let mut topics = service!(self, topic_service_client, TopicServiceClient);
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                proto::ListTopicsRequest { prefix: prefix.to_owned(), page_size: 0, page_token, include_internal };
            let page = self.answer(topics.list_topics(request)).await?;
            for topic in page.topics {
                found.push(topic_from_wire(Some(topic))?);
            }
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            page_token = page.next_page_token;
        }
    }

    /// Changes a live topic. `partitions` 0 = unchanged; `reset` names options to set back to the broker's default.
    pub async fn update_topic(
        &self,
        name: &TopicName,
        partitions: u32,
        settings: &TopicSettings,
        reset: &[String],
    ) -> Result<TopicDescription, ClientError> {
        let mut topics = service!(self, topic_service_client, TopicServiceClient);
        let request = proto::UpdateTopicRequest {
            name: name.to_string(),
            options: Some(settings_to_wire(settings)),
            partitions,
            reset: reset.to_vec(),
        };
        topic_from_wire(self.answer(topics.update_topic(request)).await?.topic)
    }

    /// Deletes a topic and its records, for good.
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), ClientError> {
        let mut topics = service!(self, topic_service_client, TopicServiceClient);
        let request = proto::DeleteTopicRequest { name: name.to_string() };
        self.answer(topics.delete_topic(request)).await.map(drop)
    }

    /// Deletes the records of a partition before an offset; the first retained offset afterwards.
    pub async fn delete_records(
        &self,
        topic: &TopicName,
        partition: u32,
        before: Offset,
    ) -> Result<Offset, ClientError> {
        let mut topics = service!(self, topic_service_client, TopicServiceClient);
        let request = proto::DeleteRecordsRequest { topic: topic.to_string(), partition, before_offset: before.0 };
        Ok(Offset(self.answer(topics.delete_records(request)).await?.log_start_offset))
    }

    /// Compacts every partition of a topic now; what became of each, in order. Takes as long as reading the topic.
    pub async fn compact_topic(&self, topic: &TopicName) -> Result<Vec<CompactedPartition>, ClientError> {
        let mut topics = service!(self, topic_service_client, TopicServiceClient);
        let request = proto::CompactTopicRequest { topic: topic.to_string() };
        let compacted = self.answer_held(COMPACTION_PATIENCE, topics.compact_topic(request)).await?.partitions;
        Ok(compacted.into_iter().map(compacted_from_wire).collect())
    }
}

fn compacted_from_wire(compacted: proto::CompactedPartition) -> CompactedPartition {
    CompactedPartition {
        partition: compacted.partition,
        removed_records: compacted.removed_records,
        bytes_before: compacted.bytes_before,
        bytes_after: compacted.bytes_after,
        segments_before: compacted.segments_before,
        segments_after: compacted.segments_after,
        refusal: compacted.error.map(Refusal::from),
    }
}

impl Client {
    /// Raises the fencing token of a partition, or takes it away (`None`). When it returns, nothing is appended any
    /// more with a lower one.
    pub async fn fence_partition(
        &self,
        topic: &TopicName,
        partition: u32,
        token: Option<u64>,
    ) -> Result<(), ClientError> {
        let mut producers = service!(self, producer_service_client, ProducerServiceClient);
        let clear = token.is_none();
        let request = proto::FencePartitionRequest { topic: topic.to_string(), partition, token, clear };
        self.answer(producers.fence_partition(request)).await.map(drop)
    }
}

fn settings_to_wire(settings: &TopicSettings) -> proto::TopicOptions {
    proto::TopicOptions {
        retention_ms: settings.retention_ms,
        retention_bytes: settings.retention_bytes,
        segment_bytes: settings.segment_bytes,
        segment_age_ms: settings.segment_age_ms,
        durability: settings.durability.map(|durability| durability_to_wire(Some(durability)).into()),
        record_bytes_max: settings.record_bytes_max,
        batch_bytes_max: settings.batch_bytes_max,
        dedup_window_ms: settings.dedup_window_ms,
        cleanup: settings.cleanup.map(|cleanup| cleanup_to_wire(cleanup).into()),
        tombstone_grace_ms: settings.tombstone_grace_ms,
    }
}

fn settings_from_wire(options: &proto::TopicOptions) -> TopicSettings {
    TopicSettings {
        retention_ms: options.retention_ms,
        retention_bytes: options.retention_bytes,
        segment_bytes: options.segment_bytes,
        segment_age_ms: options.segment_age_ms,
        durability: durability_from_wire(options.durability()),
        record_bytes_max: options.record_bytes_max,
        batch_bytes_max: options.batch_bytes_max,
        dedup_window_ms: options.dedup_window_ms,
        cleanup: cleanup_from_wire(options.cleanup()),
        tombstone_grace_ms: options.tombstone_grace_ms,
    }
}

fn topic_from_wire(topic: Option<proto::Topic>) -> Result<TopicDescription, ClientError> {
    let topic = required(topic, "an answer about a topic has no topic in it")?;
    Ok(TopicDescription {
        name: TopicName::new(&topic.name)?,
        topic_id: topic.topic_id,
        partitions: topic.partitions,
        settings: settings_from_wire(&topic.options.unwrap_or_default()),
        created_at: topic.created_at_ms,
        internal: topic.internal,
    })
}

fn partition_from_wire(state: proto::PartitionState) -> PartitionDescription {
    PartitionDescription {
        partition: state.partition,
        log_start_offset: Offset(state.log_start_offset),
        high_watermark: Offset(state.high_watermark),
        log_end_offset: Offset(state.log_end_offset),
        log_bytes: state.log_bytes,
        segments: state.segments,
        refusal: state.error.map(Refusal::from),
        fencing_token: state.fencing_token,
        damaged: state.damaged.into_iter().map(damaged_from_wire).collect(),
    }
}

fn damaged_from_wire(range: proto::DamagedRange) -> DamagedRange {
    DamagedRange {
        first_offset: Offset(range.first_offset),
        next_offset: Offset(range.next_offset),
        file: range.file,
        position: range.position,
        what: range.what,
    }
}

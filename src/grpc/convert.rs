//! Wire types to ours and back.

use super::status::part_error;
use crate::broker::groups::{Commit, RefusedCommits};
use crate::broker::produce::ProduceOutcome;
use crate::broker::{AppendAck, BrokerError, CommittedOffset, DuplicateRecord, StoredBatch, Topic};
use crate::filter::Filter;
use crate::limits;
use crate::proto;
use crate::topic::TopicOptions;
use crate::types::{Cleanup, Durability, Offset, Position, ProducerId, ProducerStamp, TopicPartition, TopicPattern};

/// A durability as a request gives it; `None` = unspecified.
pub(super) fn durability_in(value: i32) -> Result<Option<Durability>, BrokerError> {
    match proto::Durability::try_from(value) {
        Ok(proto::Durability::Unspecified) => Ok(None),
        Ok(proto::Durability::Written) => Ok(Some(Durability::Written)),
        Ok(proto::Durability::Synced) => Ok(Some(Durability::Synced)),
        Err(_) => Err(BrokerError::invalid("durability", format!("{value} is not a durability this broker knows"))),
    }
}

pub(super) fn durability_out(durability: Durability) -> i32 {
    match durability {
        Durability::Written => proto::Durability::Written as i32,
        Durability::Synced => proto::Durability::Synced as i32,
    }
}

/// Who sends a request, and as which of its records; `None` = no idempotent producer.
pub(super) fn producer_in(request: &proto::ProduceRequest) -> Result<Option<ProducerStamp>, BrokerError> {
    let epoch = u16::try_from(request.producer_epoch);
    match (ProducerId::new(request.producer_id), epoch, request.base_sequence) {
        (None, Ok(0), None) => Ok(None),
        (None, ..) => {
            let what =
                "it is 0, but producer_epoch or base_sequence is given; take both from a producer that has an id";
            Err(BrokerError::invalid("producer_id", what))
        }
        (Some(_), Err(_), _) => {
            let what = format!("{} is no epoch; they go up to {}", request.producer_epoch, u16::MAX);
            Err(BrokerError::invalid("producer_epoch", what))
        }
        (Some(_), _, None) => {
            let what = "it must be given with producer_id: the number of the first record among those of the producer \
                        to this partition, from 0";
            Err(BrokerError::invalid("base_sequence", what))
        }
        (Some(id), Ok(epoch), Some(base_sequence)) => Ok(Some(ProducerStamp { id, epoch, base_sequence })),
    }
}

/// A cleanup as a request gives it; `None` = unspecified.
fn cleanup_in(value: i32) -> Result<Option<Cleanup>, BrokerError> {
    match proto::Cleanup::try_from(value) {
        Ok(proto::Cleanup::Unspecified) => Ok(None),
        Ok(proto::Cleanup::Delete) => Ok(Some(Cleanup::Delete)),
        Ok(proto::Cleanup::Compact) => Ok(Some(Cleanup::Compact)),
        Ok(proto::Cleanup::CompactAndDelete) => Ok(Some(Cleanup::CompactAndDelete)),
        Err(_) => Err(BrokerError::invalid("cleanup", format!("{value} is not a cleanup this broker knows"))),
    }
}

fn cleanup_out(cleanup: Cleanup) -> i32 {
    match cleanup {
        Cleanup::Delete => proto::Cleanup::Delete as i32,
        Cleanup::Compact => proto::Cleanup::Compact as i32,
        Cleanup::CompactAndDelete => proto::Cleanup::CompactAndDelete as i32,
    }
}

/// A position that must be given.
pub(super) fn position_in(position: Option<proto::Position>) -> Result<Position, BrokerError> {
    use proto::position::At;
    match position.and_then(|position| position.at) {
        Some(At::Offset(offset)) => Ok(Position::Offset(Offset(offset))),
        Some(At::TimestampMs(time_ms)) => Ok(Position::Time(time_ms)),
        Some(At::RecordsBeforeEnd(records)) => Ok(Position::BeforeEnd(records)),
        Some(At::Edge(edge)) if edge == proto::Edge::Earliest as i32 => Ok(Position::Earliest),
        Some(At::Edge(edge)) if edge == proto::Edge::Latest as i32 => Ok(Position::Latest),
        Some(At::Edge(_)) | None => Err(BrokerError::invalid("position", "say which: an edge, an offset or a time")),
    }
}

/// A filter as a request gives it; empty = none.
pub(super) fn filter_in(text: &str) -> Result<Option<Filter>, BrokerError> {
    if text.is_empty() { Ok(None) } else { Ok(Some(Filter::new(text)?)) }
}

/// Applies the options that a request mentions.
pub(super) fn apply_options(options: &mut TopicOptions, wanted: &proto::TopicOptions) -> Result<(), BrokerError> {
    let set = |field: &mut u64, value: Option<u64>| *field = value.unwrap_or(*field);
    set(&mut options.retention_ms, wanted.retention_ms);
    set(&mut options.retention_bytes, wanted.retention_bytes);
    set(&mut options.segment_bytes, wanted.segment_bytes);
    set(&mut options.segment_age_ms, wanted.segment_age_ms);
    set(&mut options.dedup_window_ms, wanted.dedup_window_ms);
    set(&mut options.tombstone_grace_ms, wanted.tombstone_grace_ms);
    options.record_bytes_max = wanted.record_bytes_max.unwrap_or(options.record_bytes_max);
    options.batch_bytes_max = wanted.batch_bytes_max.unwrap_or(options.batch_bytes_max);
    if let Some(durability) = wanted.durability {
        options.durability = durability_in(durability)?.unwrap_or(options.durability);
    }
    if let Some(cleanup) = wanted.cleanup {
        options.cleanup = cleanup_in(cleanup)?.unwrap_or(options.cleanup);
    }
    Ok(())
}

/// Sets options back to the broker's default, by name.
pub(super) fn reset_options(
    options: &mut TopicOptions,
    names: &[String],
    defaults: &TopicOptions,
) -> Result<(), BrokerError> {
    for name in names {
        match name.as_str() {
            "retention_ms" => options.retention_ms = defaults.retention_ms,
            "retention_bytes" => options.retention_bytes = defaults.retention_bytes,
            "segment_bytes" => options.segment_bytes = defaults.segment_bytes,
            "segment_age_ms" => options.segment_age_ms = defaults.segment_age_ms,
            "durability" => options.durability = defaults.durability,
            "record_bytes_max" => options.record_bytes_max = defaults.record_bytes_max,
            "batch_bytes_max" => options.batch_bytes_max = defaults.batch_bytes_max,
            "dedup_window_ms" => options.dedup_window_ms = defaults.dedup_window_ms,
            "cleanup" => options.cleanup = defaults.cleanup,
            "tombstone_grace_ms" => options.tombstone_grace_ms = defaults.tombstone_grace_ms,
            _ => {
                let what = format!(
                    "{name:?} is not an option; there are retention_ms, retention_bytes, segment_bytes, \
                     segment_age_ms, durability, record_bytes_max, batch_bytes_max, dedup_window_ms, cleanup and \
                     tombstone_grace_ms"
                );
                return Err(BrokerError::invalid("reset", what));
            }
        }
    }
    Ok(())
}

fn options_out(options: &TopicOptions) -> proto::TopicOptions {
    proto::TopicOptions {
        retention_ms: Some(options.retention_ms),
        retention_bytes: Some(options.retention_bytes),
        segment_bytes: Some(options.segment_bytes),
        segment_age_ms: Some(options.segment_age_ms),
        durability: Some(durability_out(options.durability)),
        record_bytes_max: Some(options.record_bytes_max),
        batch_bytes_max: Some(options.batch_bytes_max),
        dedup_window_ms: Some(options.dedup_window_ms),
        cleanup: Some(cleanup_out(options.cleanup)),
        tombstone_grace_ms: Some(options.tombstone_grace_ms),
    }
}

pub(super) fn topic_out(topic: &Topic) -> proto::Topic {
    proto::Topic {
        name: topic.name.to_string(),
        topic_id: topic.entry.id.to_string(),
        partitions: topic.entry.partitions,
        options: Some(options_out(&topic.entry.options)),
        created_at_ms: topic.entry.created_at_ms,
        internal: topic.name.is_internal(),
    }
}

/// Batches as they stand in the log; their payload is not copied.
pub(super) fn batches_out(batches: Vec<StoredBatch>) -> Vec<proto::RecordBatch> {
    let batch_out = |batch: StoredBatch| proto::RecordBatch {
        base_offset: batch.base_offset.0,
        record_count: batch.record_count,
        append_time_ms: batch.append_time_ms,
        leader_epoch: batch.leader_epoch,
        records: batch.payload,
    };
    batches.into_iter().map(batch_out).collect()
}

pub(super) fn outcome_out(outcome: ProduceOutcome) -> proto::ProduceResult {
    let ProduceOutcome { partition, record_indexes, result } = outcome;
    let mut out = proto::ProduceResult { partition, record_indexes, ..proto::ProduceResult::default() };
    match result {
        Ok(AppendAck { appended, durability }) => {
            out.base_offset = appended.base_offset.0;
            out.record_count = appended.record_count;
            out.append_time_ms = appended.append_time_ms;
            out.durability = durability_out(durability);
            out.duplicate = appended.duplicate;
            let found =
                |DuplicateRecord { record_index, offset }| proto::DuplicateRecord { record_index, offset: offset.0 };
            out.duplicates = appended.duplicates.into_iter().map(found).collect();
        }
        Err(error) => out.error = Some(part_error(&error)),
    }
    out
}

pub(super) fn partition_out(at: TopicPartition) -> proto::TopicPartition {
    proto::TopicPartition { topic: at.topic.into(), partition: at.partition }
}

pub(super) fn partition_offset_out((at, offset): (TopicPartition, Offset)) -> proto::PartitionOffset {
    let metadata = String::new();
    proto::PartitionOffset { topic: at.topic.into(), partition: at.partition, offset: offset.0, metadata }
}

/// Offsets to commit, as a client gives them.
pub(super) fn commits_in(offsets: Vec<proto::PartitionOffset>) -> Vec<Commit> {
    let commit_in = |offset: proto::PartitionOffset| Commit {
        topic: offset.topic,
        partition: offset.partition,
        offset: Offset(offset.offset),
        metadata: offset.metadata,
    };
    offsets.into_iter().map(commit_in).collect()
}

pub(super) fn refused_out(refused: RefusedCommits) -> Vec<proto::CommitError> {
    let error_out = |(topic, partition, error)| {
        let error = Some(part_error(&error));
        proto::CommitError { topic, partition, error }
    };
    refused.into_iter().map(error_out).collect()
}

/// Between 1 and `most`.
pub(super) fn check_count(field: &'static str, count: usize, most: usize) -> Result<(), BrokerError> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(BrokerError::invalid(field, format!("{count} were given; 1 to {most} are allowed")))
}

pub(super) fn at_most(field: &'static str, value: u32, most: u32) -> Result<(), BrokerError> {
    if value <= most { Ok(()) } else { Err(BrokerError::invalid(field, format!("{value} is more than {most}"))) }
}

/// A committed offset.
pub(super) fn committed_out(committed: CommittedOffset) -> proto::PartitionOffset {
    proto::PartitionOffset {
        topic: committed.topic.into(),
        partition: committed.partition,
        offset: committed.offset.0,
        metadata: committed.metadata,
    }
}

/// Patterns of topics as a request gives them.
pub(super) fn patterns_in(patterns: &[String]) -> Result<Vec<TopicPattern>, BrokerError> {
    let most = limits::SUBSCRIBE_PATTERNS_MAX;
    if patterns.len() > most {
        let what = format!("{} patterns were given; at most {most} are allowed", patterns.len());
        return Err(BrokerError::invalid("topic_patterns", what));
    }
    let pattern_in = |text: &String| {
        TopicPattern::new(text).map_err(|error| BrokerError::invalid("topic_patterns", error.to_string()))
    };
    patterns.iter().map(pattern_in).collect()
}

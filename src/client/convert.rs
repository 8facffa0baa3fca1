//! The client's words as wire messages, and back.
//!
//! What comes from the broker is checked here once: a name that is not a name or a partition that was not asked for
//! is [`ClientError::BadAnswer`], never a panic.

use super::{ClientError, Refusal};
use crate::proto;
use crate::types::{Cleanup, Durability, Offset, Position, TopicName, TopicPartition};

/// An offset in a partition. As a committed offset it is the offset of the next record to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOffset {
    /// Where.
    pub partition: TopicPartition,
    /// The offset.
    pub offset: Offset,
    /// Free text kept with a committed offset.
    pub metadata: String,
}

impl PartitionOffset {
    /// Without metadata.
    pub fn new(partition: TopicPartition, offset: Offset) -> Self {
        Self { partition, offset, metadata: String::new() }
    }
}

/// What was refused about one partition, in a call about several.
#[derive(Debug, Clone)]
pub struct PartitionOutcome {
    /// Where.
    pub partition: TopicPartition,
    /// Why.
    pub refusal: Refusal,
}

pub(super) fn position_to_wire(position: Position) -> proto::Position {
    use proto::position::At;
    let at = match position {
        Position::Earliest => At::Edge(proto::Edge::Earliest.into()),
        Position::Latest => At::Edge(proto::Edge::Latest.into()),
        Position::Offset(offset) => At::Offset(offset.0),
        Position::Time(timestamp_ms) => At::TimestampMs(timestamp_ms),
        Position::BeforeEnd(records) => At::RecordsBeforeEnd(records),
    };
    proto::Position { at: Some(at) }
}

pub(super) fn durability_to_wire(durability: Option<Durability>) -> proto::Durability {
    match durability {
        None => proto::Durability::Unspecified,
        Some(Durability::Written) => proto::Durability::Written,
        Some(Durability::Synced) => proto::Durability::Synced,
    }
}

pub(super) fn durability_from_wire(durability: proto::Durability) -> Option<Durability> {
    match durability {
        proto::Durability::Unspecified => None,
        proto::Durability::Written => Some(Durability::Written),
        proto::Durability::Synced => Some(Durability::Synced),
    }
}

pub(super) fn cleanup_to_wire(cleanup: Cleanup) -> proto::Cleanup {
    match cleanup {
        Cleanup::Delete => proto::Cleanup::Delete,
        Cleanup::Compact => proto::Cleanup::Compact,
        Cleanup::CompactAndDelete => proto::Cleanup::CompactAndDelete,
    }
}

pub(super) fn cleanup_from_wire(cleanup: proto::Cleanup) -> Option<Cleanup> {
    match cleanup {
        proto::Cleanup::Unspecified => None,
        proto::Cleanup::Delete => Some(Cleanup::Delete),
        proto::Cleanup::Compact => Some(Cleanup::Compact),
        proto::Cleanup::CompactAndDelete => Some(Cleanup::CompactAndDelete),
    }
}

pub(super) fn partition_from_wire(topic: &str, partition: u32) -> Result<TopicPartition, ClientError> {
    let topic = TopicName::new(topic).map_err(|_| ClientError::BadAnswer { what: "a topic has no valid name" })?;
    Ok(TopicPartition { topic, partition })
}

pub(super) fn offset_to_wire(offset: PartitionOffset) -> proto::PartitionOffset {
    proto::PartitionOffset {
        topic: offset.partition.topic.into(),
        partition: offset.partition.partition,
        offset: offset.offset.0,
        metadata: offset.metadata,
    }
}

pub(super) fn offset_from_wire(offset: proto::PartitionOffset) -> Result<PartitionOffset, ClientError> {
    Ok(PartitionOffset {
        partition: partition_from_wire(&offset.topic, offset.partition)?,
        offset: Offset(offset.offset),
        metadata: offset.metadata,
    })
}

pub(super) fn offsets_from_wire(offsets: Vec<proto::PartitionOffset>) -> Result<Vec<PartitionOffset>, ClientError> {
    offsets.into_iter().map(offset_from_wire).collect()
}

pub(super) fn commit_errors_from_wire(errors: Vec<proto::CommitError>) -> Result<Vec<PartitionOutcome>, ClientError> {
    errors
        .into_iter()
        .map(|error| {
            Ok(PartitionOutcome {
                partition: partition_from_wire(&error.topic, error.partition)?,
                refusal: error.error.unwrap_or_default().into(),
            })
        })
        .collect()
}

/// A message field that the contract says is always present.
pub(super) fn required<T>(field: Option<T>, what: &'static str) -> Result<T, ClientError> {
    field.ok_or(ClientError::BadAnswer { what })
}

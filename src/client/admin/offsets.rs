//! Offsets: of positions in partitions, and those that a group has committed.

use crate::client::connection::service;
use crate::client::convert::{
    commit_errors_from_wire, offset_to_wire, offsets_from_wire, partition_from_wire, position_to_wire,
};
use crate::client::{Client, ClientError, PartitionOffset, PartitionOutcome};
use crate::limits;
use crate::proto;
use crate::types::{Offset, Position, TopicName, TopicPartition};

/// A question: which offset is this position in this partition?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetQuery {
    /// Where.
    pub partition: TopicPartition,
    /// Which place.
    pub position: Position,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedOffset {
    /// Where.
    pub partition: TopicPartition,
    /// The offset of the position asked for.
    pub offset: Offset,
    /// First retained record.
    pub log_start_offset: Offset,
    /// Readers see records below this.
    pub high_watermark: Offset,
}

impl Client {
    /// Turns positions into offsets, at this moment; answers in the order asked. Fails if one of them fails.
    pub async fn list_offsets(&self, queries: &[OffsetQuery]) -> Result<Vec<ListedOffset>, ClientError> {
        let mut consumers = service!(self, consumer_service_client, ConsumerServiceClient);
        let mut listed = Vec::with_capacity(queries.len());
        for page in queries.chunks(limits::FETCH_POSITIONS_MAX) {
            let entries = page.iter().map(|query| proto::ListOffsetsEntry {
                topic: query.partition.topic.to_string(),
                partition: query.partition.partition,
                position: Some(position_to_wire(query.position)),
            });
            let request = proto::ListOffsetsRequest { entries: entries.collect() };
            let answer = self.answer(consumers.list_offsets(request)).await?;
            if answer.offsets.len() != page.len() {
                return Err(ClientError::BadAnswer { what: "not as many offsets were listed as were asked for" });
            }
            for offset in answer.offsets {
                listed.push(listed_from_wire(offset)?);
            }
        }
        Ok(listed)
    }

    /// Commits offsets of a group that has no members; what was refused, empty if nothing was. A member of a group
    /// commits through its [`crate::client::Consumer`].
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: Vec<PartitionOffset>,
    ) -> Result<Vec<PartitionOutcome>, ClientError> {
        let mut consumers = service!(self, consumer_service_client, ConsumerServiceClient);
        let request = proto::CommitOffsetsRequest {
            group: group.to_owned(),
            offsets: offsets.into_iter().map(offset_to_wire).collect(),
            member_id: String::new(),
            generation: 0,
        };
        commit_errors_from_wire(self.answer(consumers.commit_offsets(request)).await?.errors)
    }

    /// The committed offsets of a group, in these topics (empty = all).
    pub async fn fetch_offsets(&self, group: &str, topics: &[TopicName]) -> Result<Vec<PartitionOffset>, ClientError> {
        let mut consumers = service!(self, consumer_service_client, ConsumerServiceClient);
        let topics = topics.iter().map(ToString::to_string).collect();
        let request = proto::FetchOffsetsRequest { group: group.to_owned(), topics };
        offsets_from_wire(self.answer(consumers.fetch_offsets(request)).await?.offsets)
    }
}

fn listed_from_wire(listed: proto::ListedOffset) -> Result<ListedOffset, ClientError> {
    if let Some(error) = listed.error {
        return Err(error.into());
    }
    Ok(ListedOffset {
        partition: partition_from_wire(&listed.topic, listed.partition)?,
        offset: Offset(listed.offset),
        log_start_offset: Offset(listed.log_start_offset),
        high_watermark: Offset(listed.high_watermark),
    })
}

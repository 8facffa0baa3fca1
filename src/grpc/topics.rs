//! `TopicService`.

use super::Door;
use super::convert::{apply_options, reset_options, topic_out};
use super::status::{part_error, status};
use crate::broker::DamagedRange;
use crate::broker::upkeep::compaction::Compacted;
use crate::limits::LIST_PAGE_MAX;
use crate::proto::{self, topic_service_server::TopicService};
use crate::types::Offset;
use tonic::{Request, Response, Status, async_trait};

#[async_trait]
impl TopicService for Door {
    async fn create_topic(
        &self,
        request: Request<proto::CreateTopicRequest>,
    ) -> Result<Response<proto::CreateTopicResponse>, Status> {
        let request = request.into_inner();
        let mut options = self.broker.options().topic_defaults.clone();
        apply_options(&mut options, &request.options.unwrap_or_default()).map_err(|error| status(&error))?;
        let topic = self.broker.create_topic(&request.name, request.partitions, options).await;
        let topic = topic.map_err(|error| status(&error))?;
        Ok(Response::new(proto::CreateTopicResponse { topic: Some(topic_out(&topic)) }))
    }

    async fn get_topic(
        &self,
        request: Request<proto::GetTopicRequest>,
    ) -> Result<Response<proto::GetTopicResponse>, Status> {
        let topic = self.broker.topic(&request.into_inner().name).map_err(|error| status(&error))?;
        let states = self.broker.partition_states(&topic);
        let state_out = |(partition, state)| match state {
            Err(error) => proto::PartitionState { partition, error: Some(part_error(&error)), ..Default::default() },
            Ok(crate::broker::topics::PartitionState { offsets, size, fencing_token, damaged }) => {
                proto::PartitionState {
                    partition,
                    log_start_offset: offsets.log_start.0,
                    high_watermark: offsets.high_watermark.0,
                    log_end_offset: offsets.log_end.0,
                    log_bytes: size.bytes,
                    segments: size.segments,
                    error: None,
                    fencing_token,
                    damaged: damaged.iter().map(damaged_out).collect(),
                }
            }
        };
        let partitions = (0..).zip(states).map(state_out).collect();
        Ok(Response::new(proto::GetTopicResponse { topic: Some(topic_out(&topic)), partitions }))
    }

    async fn list_topics(
        &self,
        request: Request<proto::ListTopicsRequest>,
    ) -> Result<Response<proto::ListTopicsResponse>, Status> {
        let proto::ListTopicsRequest { prefix, page_size, page_token, include_internal } = request.into_inner();
        let page_size = if page_size == 0 { LIST_PAGE_MAX } else { page_size.min(LIST_PAGE_MAX) };
        let (topics, more) = self.broker.list_topics(&prefix, &page_token, page_size as usize, include_internal);
        let last = topics.last().filter(|_| more);
        Ok(Response::new(proto::ListTopicsResponse {
            next_page_token: last.map(|topic| topic.name.to_string()).unwrap_or_default(),
            topics: topics.iter().map(|topic| topic_out(topic)).collect(),
        }))
    }

    async fn update_topic(
        &self,
        request: Request<proto::UpdateTopicRequest>,
    ) -> Result<Response<proto::UpdateTopicResponse>, Status> {
        let request = request.into_inner();
        let changes = request.options.unwrap_or_default();
        let updated = self.broker.update_topic(&request.name, request.partitions, |options, defaults| {
            reset_options(options, &request.reset, defaults)?;
            apply_options(options, &changes)
        });
        let topic = updated.await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::UpdateTopicResponse { topic: Some(topic_out(&topic)) }))
    }

    async fn delete_topic(
        &self,
        request: Request<proto::DeleteTopicRequest>,
    ) -> Result<Response<proto::DeleteTopicResponse>, Status> {
        self.broker.delete_topic(&request.into_inner().name).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::DeleteTopicResponse {}))
    }

    async fn delete_records(
        &self,
        request: Request<proto::DeleteRecordsRequest>,
    ) -> Result<Response<proto::DeleteRecordsResponse>, Status> {
        let proto::DeleteRecordsRequest { topic, partition, before_offset } = request.into_inner();
        let deleted = self.broker.delete_records(&topic, partition, Offset(before_offset)).await;
        let log_start = deleted.map_err(|error| status(&error))?;
        Ok(Response::new(proto::DeleteRecordsResponse { log_start_offset: log_start.0 }))
    }

    async fn compact_topic(
        &self,
        request: Request<proto::CompactTopicRequest>,
    ) -> Result<Response<proto::CompactTopicResponse>, Status> {
        let compacted = self.broker.compact_topic(&request.into_inner().topic).await;
        let compacted = compacted.map_err(|error| status(&error))?;
        let partition_out = |(partition, done)| match done {
            Err(error) => {
                proto::CompactedPartition { partition, error: Some(part_error(&error)), ..Default::default() }
            }
            Ok(Compacted { removed_records, before, after }) => proto::CompactedPartition {
                partition,
                removed_records,
                bytes_before: before.bytes,
                bytes_after: after.bytes,
                segments_before: before.segments,
                segments_after: after.segments,
                error: None,
            },
        };
        let partitions = (0..).zip(compacted).map(partition_out).collect();
        Ok(Response::new(proto::CompactTopicResponse { partitions }))
    }
}

fn damaged_out(range: &DamagedRange) -> proto::DamagedRange {
    proto::DamagedRange {
        first_offset: range.first_offset.0,
        next_offset: range.next_offset.0,
        file: range.path.display().to_string(),
        position: range.position,
        what: range.what.clone(),
    }
}

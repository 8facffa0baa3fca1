//! `GroupService`.

use super::Door;
use super::convert::{check_count, committed_out, partition_out, position_in};
use super::status::status;
use crate::broker::groups::{Commit, DescribedGroup};
use crate::broker::lag::{Lag, PartitionLag};
use crate::broker::{Assignor, GroupPhase, GroupSummary, MemberDescription, PartitionDescription};
use crate::limits::SUBSCRIBE_TOPICS_MAX;
use crate::proto::{self, group_service_server::GroupService};
use tonic::{Request, Response, Status, async_trait};

#[async_trait]
impl GroupService for Door {
    async fn list_groups(
        &self,
        request: Request<proto::ListGroupsRequest>,
    ) -> Result<Response<proto::ListGroupsResponse>, Status> {
        let groups = self.broker.list_groups(&request.into_inner().prefix).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::ListGroupsResponse { groups: groups.iter().map(summary_out).collect() }))
    }

    async fn describe_group(
        &self,
        request: Request<proto::DescribeGroupRequest>,
    ) -> Result<Response<proto::DescribeGroupResponse>, Status> {
        let described = self.broker.describe_group(&request.into_inner().group).await;
        let DescribedGroup { description, lags, lag } = described.map_err(|error| status(&error))?;
        let partitions = description.partitions.into_iter().zip(lags).map(group_partition_out).collect();
        Ok(Response::new(proto::DescribeGroupResponse {
            group: Some(summary_out(&description.summary)),
            assignor: description.assignor.map(|assignor| assignor_out(assignor).into()),
            members: description.members.into_iter().map(member_out).collect(),
            partitions,
            lag: Some(lag_out(&lag)),
        }))
    }

    async fn seek_group(
        &self,
        request: Request<proto::SeekGroupRequest>,
    ) -> Result<Response<proto::SeekGroupResponse>, Status> {
        let proto::SeekGroupRequest { group, topics, partitions, position, dry_run } = request.into_inner();
        check_count("topics", topics.len(), SUBSCRIBE_TOPICS_MAX).map_err(|error| status(&error))?;
        let position = position_in(position).map_err(|error| status(&error))?;
        let set = self.broker.seek_group(&group, &topics, &partitions, position, dry_run).await;
        let offset_out = |Commit { topic, partition, offset, metadata }| proto::PartitionOffset {
            topic,
            partition,
            offset: offset.0,
            metadata,
        };
        let offsets = set.map_err(|error| status(&error))?.into_iter().map(offset_out).collect();
        Ok(Response::new(proto::SeekGroupResponse { offsets }))
    }

    async fn fork_group(
        &self,
        request: Request<proto::ForkGroupRequest>,
    ) -> Result<Response<proto::ForkGroupResponse>, Status> {
        let proto::ForkGroupRequest { group, new_group, dry_run } = request.into_inner();
        let copied = self.broker.fork_group(&group, &new_group, dry_run).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::ForkGroupResponse { offsets: copied.into_iter().map(committed_out).collect() }))
    }

    async fn pause_group(
        &self,
        request: Request<proto::PauseGroupRequest>,
    ) -> Result<Response<proto::PauseGroupResponse>, Status> {
        self.broker.pause_group(&request.into_inner().group, true).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::PauseGroupResponse {}))
    }

    async fn resume_group(
        &self,
        request: Request<proto::ResumeGroupRequest>,
    ) -> Result<Response<proto::ResumeGroupResponse>, Status> {
        self.broker.pause_group(&request.into_inner().group, false).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::ResumeGroupResponse {}))
    }

    async fn evict_member(
        &self,
        request: Request<proto::EvictMemberRequest>,
    ) -> Result<Response<proto::EvictMemberResponse>, Status> {
        let proto::EvictMemberRequest { group, member_id } = request.into_inner();
        self.broker.evict_member(&group, &member_id).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::EvictMemberResponse {}))
    }

    async fn delete_group(
        &self,
        request: Request<proto::DeleteGroupRequest>,
    ) -> Result<Response<proto::DeleteGroupResponse>, Status> {
        self.broker.delete_group(&request.into_inner().group).await.map_err(|error| status(&error))?;
        Ok(Response::new(proto::DeleteGroupResponse {}))
    }
}

fn summary_out(summary: &GroupSummary) -> proto::Group {
    let state = match summary.phase {
        GroupPhase::Empty => proto::GroupState::Empty,
        GroupPhase::Rebalancing => proto::GroupState::Rebalancing,
        GroupPhase::Stable => proto::GroupState::Stable,
    };
    proto::Group {
        name: summary.name.to_string(),
        state: state.into(),
        paused: summary.is_paused,
        generation: summary.generation.0,
        members: u32::try_from(summary.members).unwrap_or(u32::MAX),
    }
}

fn member_out(member: MemberDescription) -> proto::GroupMember {
    proto::GroupMember {
        member_id: member.member_id.to_string(),
        client_id: member.client_id,
        peer: member.peer,
        instance_id: member.instance_id.unwrap_or_default(),
        away: member.is_away,
        topics: member.topics.into_iter().map(Into::into).collect(),
        topic_patterns: member.patterns.iter().map(ToString::to_string).collect(),
        assignor: assignor_out(member.assignor).into(),
        filter: member.filter.map(String::from).unwrap_or_default(),
        partitions: member.partitions.into_iter().map(partition_out).collect(),
    }
}

fn assignor_out(assignor: Assignor) -> proto::Assignor {
    match assignor {
        Assignor::Balanced => proto::Assignor::Balanced,
        Assignor::Range => proto::Assignor::Range,
    }
}

fn lag_out(lag: &Lag) -> proto::Lag {
    proto::Lag {
        records: lag.records,
        bytes: lag.bytes,
        span_ms: lag.span_ms,
        oldest_unread_age_ms: lag.oldest_age_ms,
        consumed_per_second: lag.pace.map(|pace| pace.consumed_per_second),
        appended_per_second: lag.pace.map(|pace| pace.appended_per_second),
        drain_ms: lag.drain_ms,
    }
}

fn group_partition_out((partition, lag): (PartitionDescription, Option<PartitionLag>)) -> proto::GroupPartition {
    let committed = partition.committed;
    proto::GroupPartition {
        topic: partition.partition.topic.into(),
        partition: partition.partition.partition,
        committed_offset: committed.as_ref().map(|committed| committed.offset.0),
        log_start_offset: lag.map_or(0, |lag| lag.offsets.log_start.0),
        high_watermark: lag.map_or(0, |lag| lag.offsets.high_watermark.0),
        lag_records: lag.map_or(0, |lag| lag.lag.records),
        lag: lag.map(|lag| lag_out(&lag.lag)),
        member_id: partition.owner.map(|owner| owner.to_string()).unwrap_or_default(),
        committed_at_ms: committed.as_ref().map_or(0, |committed| committed.committed_at_ms),
        metadata: committed.map(|committed| committed.metadata).unwrap_or_default(),
    }
}

//! Consumer groups: look at them, move them, delete them.

use crate::client::connection::service;
use crate::client::convert::{offsets_from_wire, partition_from_wire, position_to_wire, required};
use crate::client::{Assignor, Client, ClientError, PartitionOffset};
use crate::proto;
use crate::types::{Offset, Position, TimestampMs, TopicName, TopicPartition};
use std::time::Duration;

/// What a group is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    /// No members; the committed offsets are kept.
    Empty,
    /// Partitions are moving between members.
    Rebalancing,
    /// Every partition has its owner.
    Stable,
    /// A state this client does not know: the broker is newer.
    Unknown,
}

impl std::fmt::Display for GroupState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Empty => "empty",
            Self::Rebalancing => "rebalancing",
            Self::Stable => "stable",
            Self::Unknown => "unknown",
        })
    }
}

/// A group, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: GroupState,
    /// Its members get no records, because somebody said so.
    pub is_paused: bool,
    /// Grows with every change of the assignment.
    pub generation: u64,
    /// How many members it has.
    pub members: u32,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Given by the broker.
    pub member_id: String,
    /// Given by the client.
    pub client_id: String,
    /// Address and port of the client.
    pub peer: String,
    /// Given by the client; empty = none.
    pub instance_id: String,
    /// It has no connection, and its partitions wait for it.
    pub is_away: bool,
    /// Which records it wants; empty = all.
    pub filter: String,
    /// The topics that it wants by name.
    pub topics: Vec<String>,
    /// And by pattern.
    pub topic_patterns: Vec<String>,
    /// How it wants partitions to be shared; `None` = in a way this client does not know: the broker is newer.
    pub assignor: Option<Assignor>,
    /// What it reads.
    pub partitions: Vec<TopicPartition>,
}

/// How far a group is in one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupPartition {
    /// Where.
    pub partition: TopicPartition,
    /// `None` when nothing was committed yet.
    pub committed_offset: Option<Offset>,
    /// First retained record.
    pub log_start_offset: Offset,
    /// Readers see records below this.
    pub high_watermark: Offset,
    /// Records between the committed offset and the high watermark.
    pub lag_records: u64,
    /// Who reads it now; empty = nobody.
    pub member_id: String,
    /// As committed.
    pub metadata: String,
    /// When it was committed; `None` = never.
    pub committed_at: Option<TimestampMs>,
    /// The lag in other measures; `None` when the partition is offline.
    pub lag: Option<GroupLag>,
}

/// How far a group is behind, in one partition or in all of them. `None` = cannot be told.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct GroupLag {
    /// Records.
    pub records: u64,
    /// Bytes of the batches they stand in.
    pub bytes: Option<u64>,
    /// Between the append times of the first and the last of them; of a group, the longest.
    pub span: Option<Duration>,
    /// Since the first of them was appended; of a group, the longest.
    pub oldest_unread_age: Option<Duration>,
    /// Records a second that the group was done with in the last minute.
    pub consumed_per_second: Option<f64>,
    /// Records a second that were appended.
    pub appended_per_second: Option<f64>,
    /// Until all is read, at this pace; of a group, the longest. `None` also when the lag only grows.
    pub drain: Option<Duration>,
}

/// A group with its members and its progress.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupDescription {
    /// The group.
    pub group: GroupListing,
    /// How partitions are shared, as most members want it; `None` without members, or in a way this client does not know.
    pub assignor: Option<Assignor>,
    /// Who is in it.
    pub members: Vec<GroupMember>,
    /// How far it is, by topic and partition.
    pub partitions: Vec<GroupPartition>,
    /// How far it is behind as a whole.
    pub lag: GroupLag,
}

impl Client {
    /// All groups whose names begin with `prefix`, in order of name.
    pub async fn list_groups(&self, prefix: &str) -> Result<Vec<GroupListing>, ClientError> {
        let mut groups = service!(self, group_service_client, GroupServiceClient);
        let request = proto::ListGroupsRequest { prefix: prefix.to_owned() };
        let answer = self.answer(groups.list_groups(request)).await?;
        Ok(answer.groups.into_iter().map(group_from_wire).collect())
    }

    /// A group with its members and its progress.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        let mut groups = service!(self, group_service_client, GroupServiceClient);
        let request = proto::DescribeGroupRequest { group: group.to_owned() };
        let answer = self.answer(groups.describe_group(request)).await?;
        Ok(GroupDescription {
            group: group_from_wire(required(answer.group, "an answer about a group has no group in it")?),
            assignor: answer.assignor.and_then(assignor_from_wire),
            members: answer.members.into_iter().map(member_from_wire).collect::<Result<_, _>>()?,
            partitions: answer.partitions.into_iter().map(progress_from_wire).collect::<Result<_, _>>()?,
            lag: answer.lag.map(lag_from_wire).unwrap_or_default(),
        })
    }

    /// Sets the committed offsets of a group to a position in these topics, in these partitions of each (empty = all);
    /// its members go on from there. What was set, or would be with `dry_run`.
    pub async fn seek_group(
        &self,
        group: &str,
        topics: &[TopicName],
        partitions: &[u32],
        position: Position,
        dry_run: bool,
    ) -> Result<Vec<PartitionOffset>, ClientError> {
        let mut groups = service!(self, group_service_client, GroupServiceClient);
        let request = proto::SeekGroupRequest {
            group: group.to_owned(),
            topics: topics.iter().map(ToString::to_string).collect(),
            partitions: partitions.to_vec(),
            position: Some(position_to_wire(position)),
            dry_run,
        };
        offsets_from_wire(self.answer(groups.seek_group(request)).await?.offsets)
    }

    /// Copies the committed offsets of a group to a new one, which must have neither offsets nor members. What was set, or
    /// would be with `dry_run`.
    pub async fn fork_group(
        &self,
        group: &str,
        new_group: &str,
        dry_run: bool,
    ) -> Result<Vec<PartitionOffset>, ClientError> {
        let mut groups = service!(self, group_service_client, GroupServiceClient);
        let request = proto::ForkGroupRequest { group: group.to_owned(), new_group: new_group.to_owned(), dry_run };
        offsets_from_wire(self.answer(groups.fork_group(request)).await?.offsets)
    }

    /// Stops the delivery of records to the members of a group, until it is resumed.
    pub async fn pause_group(&self, group: &str) -> Result<(), ClientError> {
        let mut groups = service!(self, group_service_client, GroupServiceClient);
        let request = proto::PauseGroupRequest { group: group.to_owned() };
        self.answer(groups.pause_group(request)).await.map(drop)
    }

    /// Ends a pause.
    pub async fn resume_group(&self, group: &str) -> Result<(), ClientError> {
        let mut groups = service!(self, group_service_client, GroupServiceClient);
        let request = proto::ResumeGroupRequest { group: group.to_owned() };
        self.answer(groups.resume_group(request)).await.map(drop)
    }

    /// Takes a member out of its group: its partitions are with others at once, and what it commits later is refused.
    pub async fn evict_member(&self, group: &str, member_id: &str) -> Result<(), ClientError> {
        let mut groups = service!(self, group_service_client, GroupServiceClient);
        let request = proto::EvictMemberRequest { group: group.to_owned(), member_id: member_id.to_owned() };
        self.answer(groups.evict_member(request)).await.map(drop)
    }

    /// Deletes a group without members, with its committed offsets.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let mut groups = service!(self, group_service_client, GroupServiceClient);
        let request = proto::DeleteGroupRequest { group: group.to_owned() };
        self.answer(groups.delete_group(request)).await.map(drop)
    }
}

fn group_from_wire(group: proto::Group) -> GroupListing {
    let state = match group.state() {
        proto::GroupState::Empty => GroupState::Empty,
        proto::GroupState::Rebalancing => GroupState::Rebalancing,
        proto::GroupState::Stable => GroupState::Stable,
        proto::GroupState::Unspecified => GroupState::Unknown,
    };
    GroupListing {
        name: group.name,
        state,
        is_paused: group.paused,
        generation: group.generation,
        members: group.members,
    }
}

fn member_from_wire(member: proto::GroupMember) -> Result<GroupMember, ClientError> {
    let partitions = member.partitions.iter().map(|owned| partition_from_wire(&owned.topic, owned.partition));
    Ok(GroupMember {
        partitions: partitions.collect::<Result<_, _>>()?,
        member_id: member.member_id,
        client_id: member.client_id,
        peer: member.peer,
        instance_id: member.instance_id,
        is_away: member.away,
        filter: member.filter,
        topics: member.topics,
        topic_patterns: member.topic_patterns,
        assignor: assignor_from_wire(member.assignor),
    })
}

fn assignor_from_wire(assignor: i32) -> Option<Assignor> {
    match proto::Assignor::try_from(assignor).ok()? {
        proto::Assignor::Balanced => Some(Assignor::Balanced),
        proto::Assignor::Range => Some(Assignor::Range),
    }
}

fn lag_from_wire(lag: proto::Lag) -> GroupLag {
    GroupLag {
        records: lag.records,
        bytes: lag.bytes,
        span: lag.span_ms.map(Duration::from_millis),
        oldest_unread_age: lag.oldest_unread_age_ms.map(Duration::from_millis),
        consumed_per_second: lag.consumed_per_second,
        appended_per_second: lag.appended_per_second,
        drain: lag.drain_ms.map(Duration::from_millis),
    }
}

fn progress_from_wire(progress: proto::GroupPartition) -> Result<GroupPartition, ClientError> {
    Ok(GroupPartition {
        partition: partition_from_wire(&progress.topic, progress.partition)?,
        committed_offset: progress.committed_offset.map(Offset),
        log_start_offset: Offset(progress.log_start_offset),
        high_watermark: Offset(progress.high_watermark),
        lag_records: progress.lag_records,
        member_id: progress.member_id,
        metadata: progress.metadata,
        lag: progress.lag.map(lag_from_wire),
        committed_at: (progress.committed_at_ms != 0).then_some(progress.committed_at_ms),
    })
}

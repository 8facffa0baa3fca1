//! Consumer groups, with what they do not know themselves: how far each log goes.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::lag::{Lag, PartitionLag};
use crate::group::{
    CommitRequest, CommittedOffset, Generation, GroupDescription, GroupName, GroupSummary, MemberId, OffsetToCommit,
};
use crate::partition::{PartitionHandle, PartitionOffsets};
use crate::types::{Offset, Position, TopicName, TopicPartition};
use std::sync::Arc;

/// An offset a client wants to commit.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// The next record to read.
    pub offset: Offset,
    /// Free text, kept.
    pub metadata: String,
}

/// Why single offsets of a commit were refused. Those not named here are durable.
pub type RefusedCommits = Vec<(String, u32, BrokerError)>;

/// A group, and how far it is behind.
#[derive(Debug)]
pub struct DescribedGroup {
    /// The group.
    pub description: GroupDescription,
    /// For each of `description.partitions`; `None`: the partition is offline.
    pub lags: Vec<Option<PartitionLag>>,
    /// In all partitions together.
    pub lag: Lag,
}

impl Broker {
    /// Groups whose names begin with `prefix`.
    pub async fn list_groups(&self, prefix: &str) -> Result<Vec<GroupSummary>, BrokerError> {
        Ok(self.groups()?.list(prefix.to_owned()).await?)
    }

    /// Everything about a group.
    pub async fn describe_group(&self, group: &str) -> Result<DescribedGroup, BrokerError> {
        let description = self.groups()?.describe(group_name(group)?).await?;
        let handles: Vec<_> = description.partitions.iter().map(|found| self.handle_of(&found.partition)).collect();
        let now_ms = self.clock.now_ms();
        // On a disk that hangs, callers give up and come again; the threads must not become more and more.
        let measurements = Arc::clone(&self.lag_measurements);
        let permit = measurements.acquire_owned().await.map_err(|_| BrokerError::Draining)?;
        // One thread for the whole group: a group that is far behind has its place in parts of logs that nobody has
        // in memory.
        let measuring = tokio::task::spawn_blocking(move || {
            let _held_until_measured = permit;
            let measure = |(handle, found): (&Option<PartitionHandle>, _)| {
                handle.as_ref().map(|handle| PartitionLag::measure(handle, found, now_ms))
            };
            let lags: Vec<_> = handles.iter().zip(&description.partitions).map(measure).collect();
            let lag = Lag::total(lags.iter().map(Option::as_ref));
            DescribedGroup { description, lags, lag }
        });
        // Only a runtime that shuts down cancels it.
        measuring.await.map_err(|_| BrokerError::Draining)
    }

    fn handle_of(&self, at: &TopicPartition) -> Option<PartitionHandle> {
        self.topics.get(&at.topic)?.partition(at.partition).ok().cloned()
    }

    /// Lets the group `new_group`, which has nothing yet, begin where `group` is; only says where if `dry_run`.
    pub async fn fork_group(
        &self,
        group: &str,
        new_group: &str,
        dry_run: bool,
    ) -> Result<Vec<CommittedOffset>, BrokerError> {
        Ok(self.groups()?.fork(group_name(group)?, group_name(new_group)?, dry_run).await?)
    }

    /// Stops the delivery of records to a group, or lets it go on.
    pub async fn pause_group(&self, group: &str, paused: bool) -> Result<(), BrokerError> {
        Ok(self.groups()?.pause(group_name(group)?, paused).await?)
    }

    /// Takes a member out of a group, whatever it is doing.
    pub async fn evict_member(&self, group: &str, member: &str) -> Result<(), BrokerError> {
        Ok(self.groups()?.evict(group_name(group)?, MemberId::new(member)).await?)
    }

    /// Deletes a group that has no members.
    pub async fn delete_group(&self, group: &str) -> Result<(), BrokerError> {
        self.groups()?.delete(group_name(group)?).await?;
        self.metrics.forget_group(group);
        Ok(())
    }

    /// Commits offsets of a group; gives those that were refused.
    pub async fn commit(
        &self,
        group: &str,
        member: Option<(MemberId, Option<Generation>)>,
        commits: Vec<Commit>,
    ) -> Result<RefusedCommits, BrokerError> {
        let group = group_name(group)?;
        let mut refused = Vec::new();
        let mut offsets = Vec::with_capacity(commits.len());
        for commit in commits {
            match self.offset_to_commit(&commit) {
                Ok(offset) => offsets.push(offset),
                Err(error) => refused.push((commit.topic, commit.partition, error)),
            }
        }
        let places: Vec<_> = offsets.iter().map(|offset| (offset.topic.clone(), offset.partition)).collect();
        let results = self.groups()?.commit(CommitRequest { group, member, offsets }).await?;
        for ((topic, partition), result) in places.into_iter().zip(results) {
            if let Err(error) = result {
                refused.push((topic.into(), partition, error.into()));
            }
        }
        Ok(refused)
    }

    fn offset_to_commit(&self, commit: &Commit) -> Result<OffsetToCommit, BrokerError> {
        let topic = self.topic(&commit.topic)?;
        let PartitionOffsets { log_start, high_watermark, .. } = topic.partition(commit.partition)?.offsets();
        Ok(OffsetToCommit {
            topic: topic.name.clone(),
            partition: commit.partition,
            offset: commit.offset,
            metadata: commit.metadata.clone(),
            high_watermark,
            log_start,
        })
    }

    /// Committed offsets of a group, only of these topics if any are named.
    pub async fn committed(&self, group: &str, topics: &[String]) -> Result<Vec<CommittedOffset>, BrokerError> {
        let topics = topics.iter().map(|topic| TopicName::new(topic)).collect::<Result<_, _>>()?;
        Ok(self.groups()?.committed(group_name(group)?, topics).await?)
    }

    /// Sets the committed offsets of a group to a position in each partition (all of each topic if `partitions` is
    /// empty), all of them or none, and lets its members go on from there; only says what would be set if `dry_run`.
    pub async fn seek_group(
        &self,
        group: &str,
        topics: &[String],
        partitions: &[u32],
        position: Position,
        dry_run: bool,
    ) -> Result<Vec<Commit>, BrokerError> {
        let group = group_name(group)?;
        let mut targets = Vec::new();
        for name in topics {
            let topic = self.topic(name)?;
            let all: Vec<u32> = (0..topic.entry.partitions).collect();
            for number in if partitions.is_empty() { &all } else { partitions } {
                let (offset, _) = self.resolve(name, *number, position).await?;
                let (topic, metadata) = (name.clone(), String::new());
                targets.push(Commit { topic, partition: *number, offset, metadata });
            }
        }
        if !dry_run {
            let offsets = targets.iter().map(|target| self.offset_to_commit(target)).collect::<Result<_, _>>()?;
            for result in self.groups()?.seek(group, offsets).await? {
                result?;
            }
        }
        Ok(targets)
    }
}

/// Checks the name of a group.
pub(super) fn group_name(name: &str) -> Result<GroupName, BrokerError> {
    GroupName::new(name).map_err(|error| BrokerError::Group(error.into()))
}

//! Creating, changing and deleting topics.
//!
//! Order of every change: directories first, then the catalog (durable), then the table of open topics, then the
//! consumer groups and queues; only then is it answered. So what a client was told is there after any crash, and nothing is
//! listed that has no directory.

use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::opener::{create_directories, remove_directory, topic as open_topic};
use crate::broker::topic_table::{Topic, partition_options, refuse_internal};
use crate::broker::upkeep::expired::tell_of_unread;
use crate::limits;
use crate::partition::{PartitionHandle, PartitionOffsets};
use crate::storage::StorageError;
use crate::storage::damage::DamagedRange;
use crate::storage::reader::LogSize;
use crate::topic::{Catalog, TopicEntry, TopicOptions};
use crate::types::{Offset, TopicId, TopicName};
use futures_util::future::join_all;
use std::sync::Arc;
use tokio::sync::MutexGuard;
use uuid::Uuid;

/// How one partition stands.
#[derive(Debug, Clone)]
pub struct PartitionState {
    /// Its offsets.
    pub offsets: PartitionOffsets,
    /// Its size on disk.
    pub size: LogSize,
    /// The right to write that producers must have, if any.
    pub fencing_token: Option<u64>,
    /// Damage that scrubs have found.
    pub damaged: Vec<DamagedRange>,
}

impl Broker {
    /// Creates a topic. `partitions` 0 = the default.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        options: TopicOptions,
    ) -> Result<Arc<Topic>, BrokerError> {
        let name = TopicName::new(name)?;
        refuse_internal(&name)?;
        let partitions = if partitions == 0 { self.options.default_partitions } else { partitions };
        check_partitions(partitions)?;
        options.check()?;
        let mut catalog = self.catalog.lock().await;
        if catalog.topics.contains_key(&name) {
            return Err(BrokerError::TopicExists { topic: name });
        }
        let id = TopicId(Uuid::new_v4());
        let entry = TopicEntry { id, partitions, created_at_ms: self.clock.now_ms(), options };
        self.blocking(|| create_directories(&*self.fs, &self.data_dir, &[(id, 0..partitions)]))?;
        self.change_catalog(&mut catalog, |catalog| {
            catalog.topics.insert(name.clone(), entry.clone());
        })?;
        let opened = tokio::task::block_in_place(|| self.open_partitions(&name, &entry, 0..partitions));
        let topic = self.topics.put(open_topic(&name, &entry, opened, &self.metrics));
        self.tell_of_topics().await?;
        tracing::info!(topic = %name, partitions, %id, "created a topic");
        Ok(topic)
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>, BrokerError> {
        let topic = TopicName::new(name)?;
        self.topics.get(&topic).ok_or(BrokerError::TopicNotFound { topic })
    }

    /// Topics in order of name whose names begin with `prefix` and come after `after`: at most `most`, and whether
    /// there are more.
    pub fn list_topics(&self, prefix: &str, after: &str, most: usize, internal: bool) -> (Vec<Arc<Topic>>, bool) {
        let mut topics: Vec<_> = self
            .topics
            .all()
            .into_iter()
            .filter(|topic| topic.name.as_str().starts_with(prefix) && topic.name.as_str() > after)
            .filter(|topic| internal || !topic.name.is_internal())
            .take(most.saturating_add(1))
            .collect();
        let more = topics.len() > most;
        topics.truncate(most);
        (topics, more)
    }

    /// How each partition of a topic stands; an error for one that is offline.
    pub fn partition_states(&self, topic: &Topic) -> Vec<Result<PartitionState, BrokerError>> {
        let state = |number| {
            let partition = topic.partition(number)?;
            let (offsets, size, fencing_token) = (partition.offsets(), partition.size(), partition.fencing_token());
            Ok(PartitionState { offsets, size, fencing_token, damaged: partition.damaged() })
        };
        (0..topic.entry.partitions).map(state).collect()
    }

    /// Changes options of a topic, and adds partitions if `partitions` is not 0.
    pub async fn update_topic(
        &self,
        name: &str,
        partitions: u32,
        change: impl FnOnce(&mut TopicOptions, &TopicOptions) -> Result<(), BrokerError>,
    ) -> Result<Arc<Topic>, BrokerError> {
        let name = TopicName::new(name)?;
        refuse_internal(&name)?;
        let mut catalog = self.catalog.lock().await;
        let Some(topic) = self.topics.get(&name) else { return Err(BrokerError::TopicNotFound { topic: name }) };
        let before = topic.entry.partitions;
        let partitions = if partitions == 0 { before } else { partitions };
        check_partitions(partitions)?;
        if partitions < before {
            let what = format!("topic {name} has {before} partitions; they can only be added, not removed");
            return Err(BrokerError::invalid("partitions", what));
        }
        let mut entry = TopicEntry { partitions, ..topic.entry.clone() };
        change(&mut entry.options, &self.options.topic_defaults)?;
        entry.options.check()?;
        self.blocking(|| create_directories(&*self.fs, &self.data_dir, &[(entry.id, before..partitions)]))?;
        self.change_catalog(&mut catalog, |catalog| {
            catalog.topics.insert(name.clone(), entry.clone());
        })?;

        let mut changed = Topic { entry, ..Topic::clone(&topic) };
        let options = partition_options(&name, &changed.entry.options, self.options.disk_free_bytes_min);
        changed.partitions.iter().flatten().for_each(|partition| partition.set_options(options));
        changed
            .partitions
            .extend(tokio::task::block_in_place(|| self.open_partitions(&name, &changed.entry, before..partitions)));
        let changed = self.topics.put(changed);
        self.tell_of_topics().await?;
        Ok(changed)
    }

    /// Deletes a topic with everything in it.
    pub async fn delete_topic(&self, name: &str) -> Result<(), BrokerError> {
        let name = TopicName::new(name)?;
        refuse_internal(&name)?;
        let mut catalog = self.catalog.lock().await;
        let Some(entry) = catalog.topics.get(&name).cloned() else {
            return Err(BrokerError::TopicNotFound { topic: name });
        };
        self.change_catalog(&mut catalog, |catalog| {
            catalog.topics.remove(&name);
            catalog.deleting.push(entry.id);
        })?;
        let removed = self.topics.remove(&name);
        self.metrics.forget_topic(&name);
        self.tell_of_topics().await?;
        // Nobody needs these records any more; what matters is that nothing is written after the files are gone. All are
        // asked at once: there may be 10,000.
        let partitions = removed.iter().flat_map(|topic| topic.partitions.iter().flatten());
        join_all(partitions.map(PartitionHandle::discard)).await;
        let gone = self.blocking(|| remove_directory(&*self.fs, &self.data_dir, entry.id));
        match gone {
            Ok(()) => self.change_catalog(&mut catalog, |catalog| catalog.deleting.retain(|id| *id != entry.id))?,
            Err(error) => tracing::warn!(%error, "the files of a deleted topic are removed at the next start"),
        }
        self.disk.look();
        tracing::info!(topic = %name, id = %entry.id, "deleted a topic");
        Ok(())
    }

    /// Deletes the records of a partition before `offset`. Gives the first retained offset.
    pub async fn delete_records(&self, name: &str, partition: u32, offset: Offset) -> Result<Offset, BrokerError> {
        let topic = self.topic(name)?;
        refuse_internal(&topic.name)?;
        let permit = self.deletions.acquire().await.map_err(|_| BrokerError::Draining)?;
        let deleted = topic.partition(partition)?.delete_before(offset).await;
        drop(permit);
        // A task of its own: whoever asked may be gone before the groups are told of.
        let expired = topic.take_expired(partition).into_iter().collect();
        let telling = tell_of_unread(self.groups().ok().cloned(), Arc::clone(&self.metrics), expired);
        let _ = tokio::spawn(telling).await;
        self.disk.look();
        deleted.map_err(|error| BrokerError::storage(topic.at(partition), error))
    }

    /// Changes the catalog: durable when it returns, and unchanged if it fails.
    fn change_catalog(
        &self,
        catalog: &mut MutexGuard<'_, Catalog>,
        change: impl FnOnce(&mut Catalog),
    ) -> Result<(), BrokerError> {
        let mut changed = Catalog::clone(catalog);
        change(&mut changed);
        self.blocking(|| changed.store(&*self.fs, &self.data_dir.catalog_path()))?;
        **catalog = changed;
        Ok(())
    }

    /// Disk work that is rare and short enough to do in place, off the tokio worker's duties.
    #[expect(clippy::unused_self, reason = "reads as what the broker does")]
    pub(super) fn blocking<T>(&self, work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, BrokerError> {
        tokio::task::block_in_place(work).map_err(BrokerError::Files)
    }
}

fn check_partitions(partitions: u32) -> Result<(), BrokerError> {
    if (1..=limits::PARTITIONS_MAX).contains(&partitions) {
        return Ok(());
    }
    let what = format!("{partitions} partitions were asked for; 1 to {} are allowed", limits::PARTITIONS_MAX);
    Err(BrokerError::invalid("partitions", what))
}

//! The table of open topics: from a name to partition handles.
//!
//! A [`Topic`] is a snapshot; a change of options or partitions puts a new one in its place, and whoever holds the old
//! one goes on with it. The table is only changed by `topics` and `startup`, after the catalog.

use crate::broker::coordinators::QUEUES_TOPIC;
use crate::broker::error::BrokerError;
use crate::broker::upkeep::expired::Expired;
use crate::group::{TopicPartitions, TopicsSnapshot};
use crate::limits;
use crate::metrics::TopicMetrics;
use crate::partition::{PartitionHandle, PartitionOffsets, PartitionOptions};
use crate::queue::{LogBounds, Logs, PartitionKey};
use crate::storage::StorageError;
use crate::storage::compaction::CompactionPolicy;
use crate::storage::log::LogOptions;
use crate::storage::retention::RetentionPolicy;
use crate::topic::{TopicEntry, TopicOptions};
use crate::types::{Durability, TopicId, TopicName, TopicPartition, TopicPattern};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// An open topic, as it is now.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// As the catalog has it.
    pub entry: TopicEntry,
    /// By number; a partition whose log did not open is its error.
    pub(super) partitions: Vec<Result<PartitionHandle, StorageError>>,
    pub(super) metrics: TopicMetrics,
    /// Whose turn it is to take records without a key.
    pub(super) next_partition: Arc<AtomicU32>,
}

impl Topic {
    /// The handle of one partition.
    pub(super) fn partition(&self, number: u32) -> Result<&PartitionHandle, BrokerError> {
        let at = || TopicPartition { topic: self.name.clone(), partition: number };
        match self.partitions.get(number as usize) {
            None => Err(BrokerError::PartitionNotFound { at: at(), partitions: self.entry.partitions }),
            Some(Err(cause)) => Err(BrokerError::PartitionOffline { at: at(), cause: cause.clone() }),
            Some(Ok(handle)) => Ok(handle),
        }
    }

    /// The partition for a set of records without keys: another one each time.
    pub(super) fn partition_in_turn(&self) -> u32 {
        self.next_partition.fetch_add(1, Ordering::Relaxed) % self.entry.partitions
    }

    /// What was deleted of a partition since the last call.
    pub(super) fn take_expired(&self, number: u32) -> Option<Expired> {
        let offsets = self.partition(number).ok()?.take_expired()?;
        Some(Expired { at: self.at(number), topic_id: self.entry.id, offsets })
    }

    /// Name and number of one of its partitions.
    pub(super) fn at(&self, partition: u32) -> TopicPartition {
        TopicPartition { topic: self.name.clone(), partition }
    }
}

/// What a partition needs of its topic's options.
pub(super) fn partition_options(name: &TopicName, options: &TopicOptions, reserve_bytes: u64) -> PartitionOptions {
    PartitionOptions {
        log: LogOptions {
            segment_bytes: options.segment_bytes,
            seal_age_ms: options.seal_age_ms(),
            reserve_bytes: if name.is_internal() { 0 } else { reserve_bytes },
        },
        // Their coordinator says of each append whether it must be synced.
        durability: if name.as_str() == QUEUES_TOPIC { Durability::Written } else { options.durability },
        retention: if options.cleanup.deletes() {
            RetentionPolicy { retention_ms: options.retention_ms, retention_bytes: options.retention_bytes }
        } else {
            RetentionPolicy { retention_ms: 0, retention_bytes: 0 }
        },
        compaction: options.cleanup.compacts().then_some(CompactionPolicy {
            tombstone_grace_ms: options.tombstone_grace_ms,
            age_ms_min: options.dedup_window_ms,
            segment_bytes: options.segment_bytes,
            keys_max: limits::COMPACTION_KEYS_MAX,
        }),
    }
}

/// Clients may read the broker's own topics, nothing else.
pub(super) fn refuse_internal(name: &TopicName) -> Result<(), BrokerError> {
    if name.is_internal() { Err(BrokerError::InternalTopic { topic: name.clone() }) } else { Ok(()) }
}

/// Every open topic by name.
#[derive(Debug, Default)]
pub(super) struct TopicTable {
    topics: RwLock<BTreeMap<TopicName, Arc<Topic>>>,
    /// Counts changes, for subscriptions that follow new partitions.
    changes: watch::Sender<u64>,
}

impl TopicTable {
    pub(super) fn get(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Every topic, in order of name.
    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Puts a topic in, in the place of an older state of it.
    pub(super) fn put(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(topic.name.clone(), Arc::clone(&topic));
        drop(topics);
        self.changes.send_modify(|changes| *changes += 1);
        topic
    }

    pub(super) fn remove(&self, name: &TopicName) -> Option<Arc<Topic>> {
        let removed = self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.changes.send_modify(|changes| *changes += 1);
        removed
    }

    pub(super) fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What consumer groups must know.
    pub(super) fn snapshot(&self) -> Arc<TopicsSnapshot> {
        let topics = self.all();
        let sizes = topics.iter().map(|topic| {
            (topic.name.clone(), TopicPartitions { id: topic.entry.id, partitions: topic.entry.partitions })
        });
        Arc::new(sizes.collect())
    }
}

/// What queues ask about topics.
impl Logs for TopicTable {
    fn topic(&self, name: &TopicName) -> Option<(TopicId, u32)> {
        self.get(name).map(|topic| (topic.entry.id, topic.entry.partitions))
    }

    fn matching(&self, pattern: &TopicPattern) -> Vec<TopicName> {
        self.all().into_iter().map(|topic| topic.name.clone()).filter(|name| pattern.matches(name)).collect()
    }

    fn bounds(&self, topic: &TopicName, at: PartitionKey) -> Option<LogBounds> {
        let topic = self.get(topic).filter(|topic| topic.entry.id == at.topic_id)?;
        let PartitionOffsets { log_start, high_watermark, .. } = topic.partition(at.partition).ok()?.offsets();
        Some(LogBounds { log_start, high_watermark })
    }
}

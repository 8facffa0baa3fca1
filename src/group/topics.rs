//! Which topics there are, as far as groups must know: identity and number of partitions.
//!
//! The broker passes a whole snapshot at start and after every change of the catalog. It must be complete: offsets
//! of a topic that is not in it are dropped, because nobody will ever ask for them again.

use crate::types::{TopicId, TopicName, TopicPartition};
use std::collections::BTreeMap;

/// Identity and size of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicPartitions {
    /// Another one after the topic was deleted and created again.
    pub id: TopicId,
    /// How many partitions it has, numbered from 0.
    pub partitions: u32,
}

/// Every topic of the broker at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicsSnapshot {
    topics: BTreeMap<TopicName, TopicPartitions>,
}

impl TopicsSnapshot {
    /// The topic of that name, if there is one.
    pub fn get(&self, name: &TopicName) -> Option<TopicPartitions> {
        self.topics.get(name).copied()
    }

    /// The names of all topics, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &TopicName> {
        self.topics.keys()
    }

    /// Whether `name` is (still) the topic `id`.
    pub(super) fn is_live(&self, name: &TopicName, id: TopicId) -> bool {
        self.get(name).is_some_and(|topic| topic.id == id)
    }

    /// Whether the partition exists and belongs to topic `id`.
    pub(super) fn has(&self, partition: &TopicPartition, id: TopicId) -> bool {
        self.get(&partition.topic).is_some_and(|topic| topic.id == id && partition.partition < topic.partitions)
    }
}

impl FromIterator<(TopicName, TopicPartitions)> for TopicsSnapshot {
    fn from_iter<T: IntoIterator<Item = (TopicName, TopicPartitions)>>(topics: T) -> Self {
        Self { topics: topics.into_iter().collect() }
    }
}

//! Records that were deleted before a group had read them, counted by group and partition.
//!
//! A counter of its own kind, because a whole topic, or a whole group, must be forgotten at once.

use crate::types::{TopicName, TopicPartition};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Counts = BTreeMap<(String, TopicPartition), u64>;

/// The counts. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct ExpiredUnread(Arc<Mutex<Counts>>);

impl ExpiredUnread {
    pub(super) fn add(&self, group: &str, at: &TopicPartition, records: u64) {
        *self.counts().entry((group.to_owned(), at.clone())).or_default() += records;
    }

    pub(super) fn forget_topic(&self, topic: &TopicName) {
        self.counts().retain(|(_, at), _| at.topic != *topic);
    }

    pub(super) fn forget_group(&self, group: &str) {
        self.counts().retain(|(counted, _), _| counted != group);
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for ExpiredUnread {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let counts = self.counts();
        if counts.is_empty() {
            return Ok(());
        }
        let (name, help) = ("group_records_expired_unread", "Records deleted before the group had read them");
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for ((group, at), records) in counts.iter() {
            let labels =
                [("group", group.clone()), ("topic", at.topic.to_string()), ("partition", at.partition.to_string())];
            ConstCounter::new(*records).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

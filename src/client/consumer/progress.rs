//! Where a reader is in each partition, and what it has marked as done.

use crate::client::PartitionOffset;
use crate::types::{Offset, TopicPartition};
use std::collections::BTreeMap;

/// Pure bookkeeping of one consumer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The next offset to read of every partition that is read.
    next: BTreeMap<TopicPartition, Offset>,
    /// What is done and not committed yet.
    marked: BTreeMap<TopicPartition, Offset>,
    /// Partitions that are handed over, or go on elsewhere, with the next call.
    left: Vec<TopicPartition>,
}

impl Progress {
    pub(super) fn assign(&mut self, partitions: &[PartitionOffset]) {
        self.next.extend(partitions.iter().map(|begin| (begin.partition.clone(), begin.offset)));
    }

    pub(super) fn advance(&mut self, partition: &TopicPartition, next_offset: Offset) {
        match self.next.get_mut(partition) {
            Some(next) => *next = next_offset,
            None => drop(self.next.insert(partition.clone(), next_offset)),
        }
    }

    pub(super) fn mark(&mut self, partition: &TopicPartition, next_offset: Offset) {
        match self.marked.get_mut(partition) {
            Some(marked) => *marked = next_offset,
            None => drop(self.marked.insert(partition.clone(), next_offset)),
        }
    }

    pub(super) fn revoke(&mut self, partitions: &[TopicPartition]) {
        self.next.retain(|partition, _| !partitions.contains(partition));
        self.left = partitions.to_vec();
    }

    /// The group was moved: what is marked of these partitions means the place before.
    pub(super) fn seek(&mut self, partitions: &[PartitionOffset]) {
        self.left = partitions.iter().map(|to| to.partition.clone()).collect();
        self.marked.retain(|partition, _| !self.left.contains(partition));
        self.assign(partitions);
    }

    /// The reader has left the partitions, or the places in them, for good: a mark of there must not be committed any
    /// more.
    pub(super) fn forget_left(&mut self) {
        for partition in std::mem::take(&mut self.left) {
            self.marked.remove(&partition);
        }
    }

    pub(super) fn take_marked(&mut self) -> Vec<PartitionOffset> {
        let marked = std::mem::take(&mut self.marked).into_iter();
        marked.map(|(partition, offset)| PartitionOffset::new(partition, offset)).collect()
    }

    pub(super) fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        self.next.iter().map(|(partition, offset)| (partition.clone(), *offset)).collect()
    }
}

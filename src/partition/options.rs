//! What a partition needs to know of its topic's options, in the words of its parts.

use crate::storage::compaction::CompactionPolicy;
use crate::storage::log::LogOptions;
use crate::storage::retention::RetentionPolicy;
use crate::types::Durability;

/// What a partition needs to know of its topic's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOptions {
    /// For the log.
    pub log: LogOptions,
    /// What an acknowledgement means by default, and what readers may see.
    pub durability: Durability,
    /// What is kept.
    pub retention: RetentionPolicy,
    /// How it is compacted; `None` = it is not.
    pub compaction: Option<CompactionPolicy>,
}

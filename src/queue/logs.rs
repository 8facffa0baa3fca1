//! What a decision may ask about topics and their logs. The broker answers from its table, tests from a list.

use super::ids::PartitionKey;
use crate::types::{Offset, TopicId, TopicName, TopicPattern};
use std::fmt::Debug;

/// The topics of the broker, as they are at this moment. Answers come at once: nothing here waits.
pub trait Logs: Debug + Send + Sync + 'static {
    /// Identity and number of partitions of the topic with that name; `None` = there is none.
    fn topic(&self, name: &TopicName) -> Option<(TopicId, u32)>;

    /// Topics that the pattern stands for now.
    fn matching(&self, pattern: &TopicPattern) -> Vec<TopicName>;

    /// How far the log of one partition goes; `None` while it is offline, or its topic is another one by now.
    fn bounds(&self, topic: &TopicName, at: PartitionKey) -> Option<LogBounds>;
}

/// How far a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// First retained offset.
    pub log_start: Offset,
    /// Readers see offsets below this.
    pub high_watermark: Offset,
}

//! What queues, their receivers, deliveries and messages are called.
//!
//! All are values: cheap to clone, compare and carry in errors. A queue's name may be used again after it was deleted;
//! its [`QueueId`] never is, so that a lease token of the deleted queue is never taken for one of the new.

use crate::types::topic::{NameError, check_name};
use crate::types::{Offset, TopicId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A valid name of a queue; the rule is that of topic names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// Checks `name` and takes it.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check_name(name).map(|()| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for QueueName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<QueueName> for String {
    fn from(name: QueueName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one life of a queue, from its creation to its deletion.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueueId(pub u64);

/// Counts the starts of the coordinator: leases of an earlier one are over.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Run(pub u32);

/// Names one receiver within a run: an open stream, or a call that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverId(pub u64);

/// Names one delivery within a run: the messages that a receiver was given in one answer. It is the generation of
/// their leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct DeliveryId(pub u64);

/// A partition of exactly this topic, not of a later one with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The topic.
    pub topic_id: TopicId,
    /// Its partition, 0-based.
    pub partition: u32,
}

/// One message: a record, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The partition.
    pub at: PartitionKey,
    /// The record.
    pub offset: Offset,
}

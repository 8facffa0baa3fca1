//! Why the broker refuses an operation. Each case carries what its message, and its row in `docs/errors.md`, needs.

use crate::filter::FilterError;
use crate::group::{CommitError, GroupError};
use crate::partition::AppendError;
use crate::producer::ProducerError;
use crate::queue::{QueueError, SettleError};
use crate::request::RequestError;
use crate::schedule::ScheduleError;
use crate::storage::StorageError;
use crate::storage::log::BatchRefusal;
use crate::topic::options::OptionError;
use crate::types::record_set::RecordSetError;
use crate::types::topic::NameError;
use crate::types::{Offset, TopicName, TopicPartition};

/// A refused operation. The door turns it into a status in one table.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// A request field has a value that is not allowed.
    #[error("{field}: {what}")]
    InvalidArgument {
        /// The field, as the request names it.
        field: &'static str,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// A filter that is none.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A topic name that no topic can have.
    #[error("the topic name is not valid: {0}")]
    InvalidTopicName(#[from] NameError),
    /// A topic option outside its bounds.
    #[error(transparent)]
    InvalidOption(#[from] OptionError),
    /// There is no such topic.
    #[error("there is no topic {topic}; create it with: millstream topic create {topic}")]
    TopicNotFound {
        /// The name asked for.
        topic: TopicName,
    },
    /// Only a broker that was started for tests lets its clock be moved.
    #[error("the clock of this broker cannot be moved; start one for tests with --ephemeral --manual-clock")]
    ClockNotManual,
    /// There is one already.
    #[error("topic {topic} exists already; alter it, or choose another name")]
    TopicExists {
        /// The name.
        topic: TopicName,
    },
    /// A topic of the broker's own cannot be written, changed or deleted by clients.
    #[error("topic {topic} is the broker's own; names that begin with __ can only be read")]
    InternalTopic {
        /// The name.
        topic: TopicName,
    },
    /// The topic is not compacted.
    #[error("topic {topic} is not compacted; first: millstream topic alter {topic} --cleanup compact")]
    NotCompacted {
        /// The name.
        topic: TopicName,
    },
    /// The topic has no such partition.
    #[error("topic {} has {partitions} partitions, numbered from 0; there is no partition {}", at.topic, at.partition)]
    PartitionNotFound {
        /// What was asked for.
        at: TopicPartition,
        /// How many there are.
        partitions: u32,
    },
    /// The partition did not open: its files are damaged or cannot be read. Others serve.
    #[error("partition {at} is offline: {cause}")]
    PartitionOffline {
        /// Which one.
        at: TopicPartition,
        /// Why.
        cause: StorageError,
    },
    /// The state behind a family of calls cannot be read. Calls that do not need it are served.
    #[error("{what} are offline: {cause}; stop the broker, run millstream log repair {at}, and start it again")]
    CoordinatorOffline {
        /// Whose state.
        what: &'static str,
        /// The partition with their journal.
        at: TopicPartition,
        /// Why.
        cause: Box<BrokerError>,
    },
    /// The records are not what they should be.
    #[error("topic {topic}: {error}")]
    InvalidRecords {
        /// The topic.
        topic: TopicName,
        /// What is wrong with them.
        error: RecordSetError,
    },
    /// The record set is larger than the topic accepts.
    #[error(
        "topic {topic}: the record set has {bytes} bytes; at most {limit_bytes} are accepted (batch_bytes_max); send \
         fewer records at a time"
    )]
    BatchTooLarge {
        /// The topic.
        topic: TopicName,
        /// Its size.
        bytes: usize,
        /// The topic's limit.
        limit_bytes: u32,
    },
    /// The offset is not, or no longer, in the log.
    #[error("{at}: offset {offset} is out of range; the earliest is {earliest}, the latest {latest}")]
    OffsetOutOfRange {
        /// The partition.
        at: TopicPartition,
        /// What was asked for.
        offset: Offset,
        /// First retained offset.
        earliest: Offset,
        /// The high watermark.
        latest: Offset,
    },
    /// The disk has no room.
    #[error("{at}: {error}")]
    DiskFull {
        /// The partition.
        at: TopicPartition,
        /// What was tried.
        error: StorageError,
    },
    /// Less of the disk is free than appends leave.
    #[error(
        "{at}: the disk is nearly full: {free_bytes} bytes are free, appends leave {free_bytes_min} \
         (broker.disk_free_bytes_min); free space or lower retention, then retry"
    )]
    DiskLow {
        /// The partition, or one of those that were meant.
        at: TopicPartition,
        /// What is free.
        free_bytes: u64,
        /// What must be.
        free_bytes_min: u64,
    },
    /// Bytes of this partition are damaged.
    #[error("{at}: {error}")]
    DataLoss {
        /// The partition.
        at: TopicPartition,
        /// Where.
        error: StorageError,
    },
    /// The disk failed.
    #[error("{at}: {error}")]
    Storage {
        /// The partition.
        at: TopicPartition,
        /// How.
        error: StorageError,
    },
    /// Something of the broker's own could not be written: catalog, directory.
    #[error(transparent)]
    Files(StorageError),
    /// The records were written but not made durable; they may or may not be there after a restart.
    #[error("{at}: whether the records were appended is unknown: {cause}")]
    OutcomeUnknown {
        /// The partition.
        at: TopicPartition,
        /// What failed.
        cause: StorageError,
    },
    /// Too much is under way; nothing was done.
    #[error("the broker is busy: {limit_bytes} bytes of records wait to be written; send again in a moment")]
    Overloaded {
        /// The budget, in bytes.
        limit_bytes: u64,
    },
    /// A batch was refused by itself: its producer, its sequence, or a condition it carries.
    #[error("{at}: {refusal}")]
    Batch {
        /// The partition.
        at: TopicPartition,
        /// Why.
        refusal: BatchRefusal,
    },
    /// A producer gets no identity, or may not send with the one it has.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// The broker is stopping.
    #[error("the broker is stopping; connect again in a moment")]
    Draining,
    /// Consumer groups refused the call.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Consumer groups refused one offset.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Queues refused the call.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A queue refused to settle one message.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// A letter that does not say where it came from can only be sent to a topic that is named.
    #[error("letter {at} offset {offset} does not say where it came from; name a topic to send it to, with --to TOPIC")]
    LetterWithoutOrigin {
        /// The partition of the dead letter topic.
        at: TopicPartition,
        /// The letter.
        offset: Offset,
    },
    /// Letters of the topic are redriven or purged already, or those of as many topics as may be.
    #[error("letters of {topic} cannot be redriven or purged now: another redrive or purge is at work; try again")]
    LettersBusy {
        /// The dead letter topic.
        topic: TopicName,
    },
    /// Schedules refused the call.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A request has no reply, or a reply was not taken.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The stream's place in its group was taken away.
    #[error("the member was removed from its group: {cause}; subscribe again")]
    MemberRemoved {
        /// Why.
        cause: String,
    },
    /// Somebody has taken the member out of its group.
    #[error(
        "this member was taken out of its group by EvictMember; its partitions are with others, and its commits are \
         refused"
    )]
    MemberEvicted,
    /// Another member has taken the place of this one.
    #[error(
        "another member has joined with instance id {instance_id} and taken over; give each process of a group an id of \
         its own"
    )]
    MemberFenced {
        /// The id of both.
        instance_id: String,
    },
}

impl BrokerError {
    /// An error of the log of `at`, by what the caller can do about it.
    pub(super) fn storage(at: TopicPartition, error: StorageError) -> Self {
        match error {
            StorageError::OutOfRange { offset, earliest, latest } => {
                Self::OffsetOutOfRange { at, offset, earliest, latest }
            }
            StorageError::Full { .. } => Self::DiskFull { at, error },
            StorageError::Corrupt { .. } | StorageError::Damaged { .. } => Self::DataLoss { at, error },
            _ => Self::Storage { at, error },
        }
    }

    /// An append that failed.
    pub(super) fn append(at: TopicPartition, error: AppendError) -> Self {
        match error {
            AppendError::Refused(error) | AppendError::Denied(BatchRefusal::Storage(error)) => Self::storage(at, error),
            AppendError::Denied(refusal) => Self::Batch { at, refusal },
            AppendError::OutcomeUnknown(cause) => Self::OutcomeUnknown { at, cause },
            AppendError::Closed => Self::Draining,
        }
    }

    /// A field with a value that is not allowed.
    pub fn invalid(field: &'static str, what: impl Into<String>) -> Self {
        Self::InvalidArgument { field, what: what.into() }
    }
}

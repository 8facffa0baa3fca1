//! What can be refused, and why.
//!
//! [`QueueError`] refuses a whole call, [`SettleError`] one token of a call whose other tokens stand.

use super::ids::QueueName;
use crate::types::topic::NameError;
use crate::types::{Offset, TopicName};

/// A call on a queue was refused and had no effect; after [`QueueError::Stopped`] its effect is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue cannot be called that.
    #[error("the queue name is not valid: {0}")]
    Name(#[from] NameError),
    /// There is no such queue.
    #[error("there is no queue {queue}; create it with: millstream queue create {queue} --topic TOPIC")]
    NotFound {
        /// The queue asked for.
        queue: QueueName,
    },
    /// There is one already.
    #[error("queue {queue} exists already; update it, or choose another name")]
    Exists {
        /// The name.
        queue: QueueName,
    },
    /// A part of the policy has a value that is not allowed.
    #[error("{field}: {what}")]
    Policy {
        /// Which part.
        field: &'static str,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// The broker holds as many queues as it may.
    #[error("queue {queue} cannot be created: the broker has its {limit} queues; delete one that is not used")]
    TooManyQueues {
        /// The queue that would be created.
        queue: QueueName,
        /// Most queues of one broker.
        limit: usize,
    },
    /// The queue has as many receivers as it may.
    #[error("queue {queue} has its {limit} receivers; close one")]
    TooManyReceivers {
        /// The queue.
        queue: QueueName,
        /// Most receivers of one queue.
        limit: usize,
    },
    /// The receiver is over: its queue was deleted, and created again since.
    #[error("the receiver of queue {queue} is over: the queue was deleted and created again; open another stream")]
    ReceiverOver {
        /// The queue.
        queue: QueueName,
    },
    /// No queue writes, or has written, dead letters there.
    #[error("topic {topic} is no dead letter topic of any queue; see which there are with: millstream dlq list")]
    NotDeadLetters {
        /// The topic asked for.
        topic: TopicName,
    },
    /// What is resolved of a partition would be in too many pieces.
    #[error(
        "{topic}/{partition}: open and resolved letters would alternate more than {limit} times; first redrive or purge \
         what is open below offset {half}: millstream dlq purge {topic} --partition {partition} --to-offset {half}"
    )]
    TooManyRanges {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: u32,
        /// Most ranges of one partition.
        limit: usize,
        /// Half of them are below.
        half: Offset,
    },
    /// An entry of the journal cannot be understood. Nothing was started and nothing changed.
    #[error("the journal of queues has an entry that cannot be read, key {key}: {cause}")]
    Corrupt {
        /// The entry's key, as text.
        key: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The coordinator no longer runs. Whether the call had an effect is known after the broker's next start.
    #[error("the queue coordinator has stopped: {cause}")]
    Stopped {
        /// Why it stopped.
        cause: String,
    },
}

/// One token was refused; nothing was done for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The token is none, or one of another queue, or of an earlier life of this one.
    #[error("the token is not one of queue {queue}")]
    Foreign {
        /// The queue that was asked to settle.
        queue: QueueName,
    },
    /// The lease is over: settled, expired, given back, or from before the broker's last start.
    #[error(
        "the lease of attempt {attempt} of {topic}/{partition} offset {offset} is over; the message may be redelivered"
    )]
    Stale {
        /// The queue.
        queue: QueueName,
        /// The message's topic; its id if it is not one of the queue any more.
        topic: String,
        /// The message's partition.
        partition: u32,
        /// The message.
        offset: Offset,
        /// The attempt that the token is of.
        attempt: u32,
    },
    /// A rejected message must have somewhere to go.
    #[error(
        "queue {queue} has no dead letter topic to reject to; name one with: millstream queue update {queue} --dead-letter-topic TOPIC"
    )]
    NoDeadLetterTopic {
        /// The queue.
        queue: QueueName,
    },
}

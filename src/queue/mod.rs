//! Queues: each record of their topics is a message that one of many receivers works on.
//!
//! ```text
//! QueueCoordinator (handle) -> inbox -> task (the one owner) -> queues -> state: decide, then apply
//!                                         |                               hand_out, settle, expiry, transitions
//!                                         +-> CutJournal: one append per drain; answers when it is written or
//!                                             synced (under_way)
//! ```
//!
//! Promises: a message has at most one valid lease at any moment; a delivery that left is written with its attempt, and
//! a settlement that was answered is as durable as its queue promises; a message is done by an ack, a dead letter, or
//! because the log has it no more or the filter of the queue passes it over, and by nothing else; with order by key, of
//! one key at most one message is out, in order of offsets. Memory is bounded by `max_in_flight`. Deliberately unknown
//! here: the wire, and records. The receiver reads the log.

mod breaker;
mod coordinator;
mod describe;
mod drain;
mod drain_entries;
mod error;
mod event;
mod expiry;
mod hand_out;
mod ids;
mod journal_entries;
mod keys;
mod letters;
mod logs;
mod policy;
mod progress;
mod queues;
mod range_set;
mod receiver;
mod settle;
mod state;
mod task;
mod token;
mod transitions;
mod under_way;

#[cfg(test)]
mod coordinator_tests;
#[cfg(test)]
mod desk;
#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod give_up_tests;
#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod letters_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod test_support;

pub use breaker::BreakerState;
pub use coordinator::{PendingSettle, QueueCoordinator};
pub use describe::{BlockingMessage, DyingMessage, MessageStage, PeekedPartition, QueueDescription, QueuePartition};
pub use error::{QueueError, SettleError};
pub use event::{DeathReason, Departure, ReceiverKind, Window};
pub use hand_out::{Found, FoundMessage, LeasedMessage, Reservation, Reserving};
pub use ids::{PartitionKey, Place, QueueId, QueueName, ReceiverId};
pub use letters::{LetterTopic, check_resolved};
pub use logs::{LogBounds, Logs};
pub use policy::{BreakerPolicy, Ordering, Priority, QueueConfig, QueuePolicy, QueueStart, RetryPolicy};
pub use queues::CreateQueue;
pub use range_set::RangeSet;
pub use receiver::QueueReceiver;
pub use settle::{Settle, SettleResults, Verb};
pub use state::Counts;

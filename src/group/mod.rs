//! Consumer groups: who reads which partition, and how far each group has come.
//!
//! ```text
//! GroupCoordinator (handle) -> inbox -> task (the one owner) -> groups -> state: decide, then apply
//!                                         |                               rebalance, instance, evict, commit, seek, fork,
//!                                         |                               pause, assignor, range_assignor
//!                                         +-> Journal: one append per drain, then answers and member events
//! ```
//!
//! Promises: a partition has at most one owner in its group at any moment; a partition that moves is given out only
//! after its old owner released it, ended, or had [`RELEASE_MS`] to do so; partitions that do not move are never
//! interrupted; a commit that was answered is durable; nobody sees state that is not durable; a generation is never
//! used twice. Deliberately unknown here: the wire, logs, the catalog. High watermarks and topics come in as values.

mod assignor;
mod commit;
mod coordinator;
mod describe;
mod error;
mod event;
mod evict;
mod fork;
mod groups;
mod ids;
mod instance;
mod interest;
mod journal_entries;
mod membership;
mod pace;
mod pause;
mod range_assignor;
mod rebalance;
mod retention;
mod seek;
mod state;
mod task;
mod topics;

#[cfg(test)]
mod coordinator_tests;
#[cfg(test)]
mod instance_tests;
#[cfg(test)]
mod model_checks;
#[cfg(test)]
mod model_hearing;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod model_world;
#[cfg(test)]
mod random_lives_tests;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod test_support;

pub use commit::{CommitRequest, CommitResults, OffsetToCommit};
pub use coordinator::GroupCoordinator;
pub use describe::{
    CommittedOffset, GroupDescription, GroupPhase, GroupSummary, MemberDescription, PartitionDescription,
};
pub use error::{CommitError, GroupError};
pub use groups::LogPlace;
pub use ids::{Generation, GroupName, MemberId};
pub use instance::Instance;
pub use membership::{Assignor, JoinRequest, MemberEvent, Membership, RemovalReason};
pub use pace::{Pace, PaceStart};
pub use rebalance::RELEASE_MS;
pub use topics::{TopicPartitions, TopicsSnapshot};

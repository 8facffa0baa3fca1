//! One call, one answer: topics, consumer groups, queues, dead letters, schedules, offsets, and the broker itself.
//!
//! Every function is a method of [`crate::client::Client`], in the file of its noun. Nothing here retries: what a
//! caller wants after a lost connection differs from call to call.

mod dead_letters;
mod groups;
mod offsets;
mod queues;
mod schedules;
mod server;
mod topics;

pub use dead_letters::{
    DeadLetter, DeadLetterTopic, DeadLetters, LetterSelection, Purge, PurgeProgress, Redrive, RedriveOptions,
    RedriveProgress, RedrivenLetter, RefusedLetter,
};
pub use groups::{GroupDescription, GroupLag, GroupListing, GroupMember, GroupPartition, GroupState};
pub use offsets::{ListedOffset, OffsetQuery};
pub use queues::{BlockedKey, BreakerState, NewQueue, QueueDescription, QueueListing, QueuePartition, QueueSettings};
pub use schedules::{AddedSchedule, Cron, NewSchedule, ScheduleListing, SchedulePage, ScheduleState, When};
pub use server::{ClockStatus, DiskStatus, ScrubStatus, ServerInfo};
pub use topics::{CompactedPartition, DamagedRange, PartitionDescription, TopicDescription, TopicSettings};

//! What can be refused, and why.
//!
//! [`GroupError`] refuses a whole call, [`CommitError`] one offset of a commit whose other offsets may have succeeded.
//! Every case carries the facts a person needs to act: which group, member, partition, offset or limit.

use super::ids::{Generation, GroupName, MemberId};
use crate::types::topic::NameError;
use crate::types::{Offset, TopicName, TopicPartition};

/// A call on a group was refused and had no effect; after [`GroupError::Stopped`] its effect is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The group cannot be called that.
    #[error("the group name is not valid: {0}")]
    Name(#[from] NameError),
    /// There is no such group.
    #[error("there is no group {group}")]
    NotFound {
        /// The group asked for.
        group: GroupName,
    },
    /// The member is not, or no longer, in the group. Whoever used its id must join again.
    #[error("{member} is not a member of group {group}; subscribe again to become one")]
    UnknownMember {
        /// The group.
        group: GroupName,
        /// The id given.
        member: MemberId,
    },
    /// There is no such member to be taken out.
    #[error("group {group} has no member {member}; millstream group describe {group} says which it has")]
    NoSuchMember {
        /// The group.
        group: GroupName,
        /// The id given.
        member: MemberId,
    },
    /// Only possible while the group has no members.
    #[error(
        "group {group} has {members} members; this needs a group without members, or the id of the member that asks"
    )]
    HasMembers {
        /// The group.
        group: GroupName,
        /// How many it has now.
        members: usize,
    },
    /// Only possible while the group has committed nothing.
    #[error("group {group} has committed offsets already, {offsets} in all; delete it first, or choose another name")]
    HasOffsets {
        /// The group.
        group: GroupName,
        /// How many it has.
        offsets: usize,
    },
    /// A subscription with another filter than the members have.
    #[error(
        "the members of group {group} read with {}; a group has one filter: give the same, stop its members first, or join \
         another group", if filter.is_empty() { "no filter".to_owned() } else { format!("the filter {filter}") }
    )]
    FilterDiffers {
        /// The group.
        group: GroupName,
        /// What the members have; empty = none.
        filter: String,
    },
    /// A subscription to a topic that does not exist.
    #[error("group {group} cannot subscribe to topic {topic}: there is no such topic")]
    UnknownTopic {
        /// The group.
        group: GroupName,
        /// The topic asked for.
        topic: TopicName,
    },
    /// A subscription to no topic or to too many.
    #[error(
        "a subscription of group {group} names {topics} topics; 1 to {limit} are allowed, or none beside a topic pattern"
    )]
    TopicCount {
        /// The group.
        group: GroupName,
        /// How many topics were named.
        topics: usize,
        /// Most that are allowed.
        limit: usize,
    },
    /// A subscription with too many patterns.
    #[error("a subscription of group {group} has {patterns} topic patterns; at most {limit} are allowed")]
    PatternCount {
        /// The group.
        group: GroupName,
        /// How many were given.
        patterns: usize,
        /// Most that are allowed.
        limit: usize,
    },
    /// The client's name for itself is too long.
    #[error("the client id of a member of group {group} has {bytes} bytes; at most {limit_bytes} are allowed")]
    ClientIdTooLong {
        /// The group.
        group: GroupName,
        /// Its length.
        bytes: usize,
        /// Longest that is allowed.
        limit_bytes: usize,
    },
    /// An instance id that is empty or too long.
    #[error("the instance id of a member of group {group} has {bytes} bytes; 1 to {limit_bytes} are allowed")]
    InstanceIdLength {
        /// The group.
        group: GroupName,
        /// Its length.
        bytes: usize,
        /// Longest that is allowed.
        limit_bytes: usize,
    },
    /// A session timeout outside of its bounds.
    #[error("a session timeout of {timeout_ms} ms in group {group}; {least_ms} to {most_ms} are allowed")]
    SessionTimeout {
        /// The group.
        group: GroupName,
        /// As given, in milliseconds.
        timeout_ms: u64,
        /// Shortest that is allowed.
        least_ms: u64,
        /// Longest that is allowed.
        most_ms: u64,
    },
    /// The broker holds as many groups as it may.
    #[error("group {group} cannot be created: the broker has its {limit} groups; delete one that is not used")]
    TooManyGroups {
        /// The group that would be created.
        group: GroupName,
        /// Most groups of one broker.
        limit: usize,
    },
    /// The group holds as many members as it may.
    #[error("group {group} has its {limit} members; no more can join")]
    TooManyMembers {
        /// The group.
        group: GroupName,
        /// Most members of one group.
        limit: usize,
    },
    /// Too many offsets in one call.
    #[error("{offsets} offsets for group {group} in one call; at most {limit} are allowed")]
    TooManyOffsets {
        /// The group.
        group: GroupName,
        /// How many were given.
        offsets: usize,
        /// Most that are allowed.
        limit: usize,
    },
    /// An entry of the journal cannot be understood. Nothing was started and nothing changed.
    #[error("the journal of groups has an entry that cannot be read, key {key}: {cause}")]
    Corrupt {
        /// The entry's key, as text.
        key: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The coordinator no longer runs. Whether the call had an effect is known after the broker's next start.
    #[error("the group coordinator has stopped: {cause}")]
    Stopped {
        /// Why it stopped.
        cause: String,
    },
}

/// One offset was refused; what was committed before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// There is no such topic.
    #[error("group {group} cannot commit to topic {topic}: there is no such topic")]
    UnknownTopic {
        /// The group.
        group: GroupName,
        /// The topic named.
        topic: TopicName,
    },
    /// The topic has fewer partitions.
    #[error("group {group} cannot commit to {partition}: the topic has {partitions} partitions")]
    UnknownPartition {
        /// The group.
        group: GroupName,
        /// The partition named.
        partition: TopicPartition,
        /// How many the topic has.
        partitions: u32,
    },
    /// More text than is kept.
    #[error("the metadata for {partition} has {bytes} bytes; at most {limit_bytes} are kept")]
    MetadataTooLong {
        /// The group.
        group: GroupName,
        /// The partition named.
        partition: TopicPartition,
        /// Length of the metadata.
        bytes: usize,
        /// Longest that is kept.
        limit_bytes: usize,
    },
    /// Fenced: the member does not own the partition, or no longer.
    #[error("{member} of group {group} does not own {partition}; its records may be with another member")]
    NotOwner {
        /// The group.
        group: GroupName,
        /// Who wanted to commit.
        member: MemberId,
        /// The partition named.
        partition: TopicPartition,
    },
    /// Fenced: the commit comes from before the member got the partition (again), or from a generation that never was.
    #[error(
        "the commit of {member} of group {group} to {partition} is of generation {generation}; \
         the member has the partition since generation {assigned_in}, and the group is in generation {current}"
    )]
    StaleGeneration {
        /// The group.
        group: GroupName,
        /// Who wanted to commit.
        member: MemberId,
        /// The partition named.
        partition: TopicPartition,
        /// The generation given.
        generation: Generation,
        /// The one in which the member got the partition.
        assigned_in: Generation,
        /// The group's present one.
        current: Generation,
    },
    /// Fenced: the group was moved, and the member has not said that it goes on from there.
    #[error(
        "the commit of {member} of group {group} to {partition} is from before the seek of generation {sought_in}; go on \
         where the seek says, then release that generation"
    )]
    BeforeSeek {
        /// The group.
        group: GroupName,
        /// Who wanted to commit.
        member: MemberId,
        /// The partition named.
        partition: TopicPartition,
        /// The generation of the seek.
        sought_in: Generation,
    },
    /// A commit never goes back; a seek may.
    #[error("offset {offset} for {partition} is below {committed}, which group {group} has committed; seek to go back")]
    BelowCommitted {
        /// The group.
        group: GroupName,
        /// The partition named.
        partition: TopicPartition,
        /// The offset given.
        offset: Offset,
        /// What is committed.
        committed: Offset,
    },
    /// The partition has no such place: above its high watermark, or, in a seek, before its first retained record.
    #[error("offset {offset} for {partition} of group {group} is outside of {log_start} to {high_watermark}")]
    OutOfRange {
        /// The group.
        group: GroupName,
        /// The partition named.
        partition: TopicPartition,
        /// The offset given.
        offset: Offset,
        /// First retained offset.
        log_start: Offset,
        /// End of what readers see.
        high_watermark: Offset,
    },
}

//! Everything that can happen to the state of groups.
//!
//! State changes by events alone: a decision yields them, [`super::groups::Groups::apply`] carries them out. Some are
//! durable and go to the journal (`super::journal_entries`); membership and ownership are not: after a restart no
//! stream is left, so there are no members until clients join again.

use super::ids::{Generation, GroupName, MemberId};
use super::membership::MemberEvent;
use super::pace::PaceSample;
use super::state::{Committed, Member, Ownership};
use crate::types::{TimestampMs, TopicId, TopicPartition};

/// One change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Durable. Generations up to this one are used up, in every group: those of deleted groups are among them.
    GenerationFloorRaised { generation: Generation },
    /// Durable. The group exists, and it is in this generation; without members, since when.
    GenerationAdvanced { group: GroupName, generation: Generation, empty_since_ms: Option<TimestampMs> },
    /// Durable. The group is paused, or no longer.
    PauseChanged { group: GroupName, paused: bool },
    /// Durable. The group has come this far.
    OffsetCommitted { group: GroupName, key: OffsetKey, committed: Committed },
    /// Durable. The committed offset is gone, with its topic or its group.
    OffsetDropped { group: GroupName, key: OffsetKey },
    /// Durable. The group is gone.
    GroupDeleted { group: GroupName },
    /// The group was here when it committed; with `is_first`, what was measured before does not count any more.
    PaceSampled { group: GroupName, key: OffsetKey, sample: PaceSample, is_first: bool },
    /// The group has a new member.
    MemberJoined { group: GroupName, member: Member },
    /// A member with an instance id is away, until it comes back or this moment comes.
    MemberAway { group: GroupName, member: MemberId, until_ms: u64 },
    /// The group has lost a member.
    MemberLeft { group: GroupName, member: MemberId },
    /// The partition has this owner now; `None` = nobody.
    OwnershipChanged { group: GroupName, partition: TopicPartition, ownership: Option<Ownership> },
}

/// What a committed offset belongs to: a partition of exactly this topic, not of a later one with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct OffsetKey {
    pub topic_id: TopicId,
    pub partition: u32,
}

/// The moment of a decision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// For deadlines: never goes backwards, and means nothing to anybody else.
    pub monotonic_ms: u64,
    /// For people.
    pub wall_ms: TimestampMs,
}

/// What a request leads to: the answer, the changes, and what members are to be told once those are durable.
#[derive(Debug, Default)]
pub(super) struct Decision<R> {
    pub reply: R,
    pub events: Vec<Event>,
    pub effects: Vec<Effect>,
}

/// A member is to be told something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effect {
    pub group: GroupName,
    pub member: MemberId,
    pub event: MemberEvent,
}

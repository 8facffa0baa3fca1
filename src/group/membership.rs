//! A member's side of its membership: what it asks for, what it is told, and how it leaves.
//!
//! Dropping a [`Membership`] is leaving, or going away with an instance id (`super::instance`). A drop cannot wait for
//! room in the coordinator's inbox and must not be lost, so it goes by a list beside the inbox, which holds at most one
//! entry per member.

use super::ids::{Generation, GroupName, MemberId};
use super::instance::Instance;
use crate::filter::Filter;
use crate::types::{Offset, TopicName, TopicPartition, TopicPattern};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc};

/// How the partitions of a group are shared. A group goes by what most of its members ask for; of two with equally many,
/// it is `Balanced`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Evenly over all topics together, moving as few as possible.
    #[default]
    Balanced,
    /// Topic by topic in ranges: partitions of the same number go to the same member.
    Range,
}

/// Somebody wants to become a member.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The group; created if there is none.
    pub group: GroupName,
    /// What it wants to read: at most [`crate::limits::SUBSCRIBE_TOPICS_MAX`] topics that exist; one at least, unless there
    /// are patterns.
    pub topics: Vec<TopicName>,
    /// And every topic that one of these matches, now or later; at most [`crate::limits::SUBSCRIBE_PATTERNS_MAX`].
    pub patterns: Vec<TopicPattern>,
    /// For people: which client this is. At most [`crate::types::topic::NAME_BYTES_MAX`] bytes.
    pub client_id: String,
    /// Address and port of the client.
    pub peer: String,
    /// Keeps the member's place while it is away; `None` = whoever goes has left.
    pub instance: Option<Instance>,
    /// How it wants partitions to be shared.
    pub assignor: Assignor,
    /// Which records it wants; all members want the same.
    pub filter: Option<Filter>,
}

/// What a member is told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberEvent {
    /// These are the member's from now on, in addition to what it has.
    Assigned {
        /// The group's generation; a commit by call must name this one or a later one.
        generation: Generation,
        /// With what the group has committed in each, if anything.
        partitions: Vec<(TopicPartition, Option<Offset>)>,
    },
    /// These are to be stopped, committed and released within [`super::RELEASE_MS`].
    Revoked {
        /// To be named in the release.
        generation: Generation,
        /// What the member loses.
        partitions: Vec<TopicPartition>,
    },
    /// The group goes on elsewhere in these: read from there, drop what came before, and release this generation.
    Sought {
        /// To be named in the release; a commit by call must name this one or a later one.
        generation: Generation,
        /// With the offset each goes on at.
        partitions: Vec<(TopicPartition, Offset)>,
    },
    /// From now on the group is paused, or no longer. A member that is told nothing begins unpaused.
    PauseChanged {
        /// Whether it is.
        paused: bool,
    },
    /// The membership is over; nothing follows.
    Removed {
        /// Why.
        reason: RemovalReason,
    },
}

/// Why a member was removed without having asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovalReason {
    /// It left this many events unread.
    TooSlow {
        /// Events waiting for it.
        unread_events: usize,
    },
    /// Another member has joined with its instance id.
    Fenced {
        /// The id of both.
        instance_id: String,
    },
    /// Somebody has taken it out of the group.
    Evicted,
    /// The coordinator has stopped.
    Stopped {
        /// Why it stopped.
        cause: String,
    },
}

/// A place in a group, from join to drop.
#[derive(Debug)]
pub struct Membership {
    /// The group.
    pub group: GroupName,
    /// Who this member is in it.
    pub member_id: MemberId,
    /// What it is told. Ends after `Removed`, after `leave`, and when the coordinator ends.
    pub events: mpsc::Receiver<MemberEvent>,
    /// Held for its drop.
    #[expect(dead_code, reason = "its drop is its work: it makes the member leave")]
    pub(super) departure: Departure,
}

/// Tells the coordinator, when dropped, that a member is gone.
#[derive(Debug)]
pub(super) struct Departure {
    group: GroupName,
    member: MemberId,
    departures: Arc<Departures>,
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.departures.note(self.group.clone(), self.member.clone());
    }
}

/// Members whose membership was dropped and who have not been taken out of their group yet.
#[derive(Debug, Default)]
pub(super) struct Departures {
    waiting: Mutex<Vec<(GroupName, MemberId)>>,
    noted: Notify,
}

impl Departures {
    /// A guard that notes the member's departure when it is dropped.
    pub(super) fn guard(self: &Arc<Self>, group: GroupName, member: MemberId) -> Departure {
        Departure { group, member, departures: Arc::clone(self) }
    }

    /// Notes that a member is gone. Never waits.
    pub(super) fn note(&self, group: GroupName, member: MemberId) {
        // A vector of names is whole after any panic, so a poisoned lock is as good as a healthy one.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((group, member));
        self.noted.notify_one();
    }

    /// Ends when a departure was noted since it last ended.
    pub(super) async fn wait(&self) {
        self.noted.notified().await;
    }

    /// Takes all that are waiting.
    pub(super) fn take(&self) -> Vec<(GroupName, MemberId)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

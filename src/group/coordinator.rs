//! The handle by which everyone else uses consumer groups.
//!
//! Each call is a message to the one task that owns all groups (`super::task`) and the wait for its answer, which
//! comes when everything the answer says is durable. A full inbox makes callers wait. Once the journal has failed,
//! every call, waiting or later, gets [`GroupError::Stopped`]. Dropping every handle ends the task.

use super::commit::{CommitRequest, CommitResults, OffsetToCommit};
use super::describe::{CommittedOffset, GroupDescription, GroupSummary};
use super::error::GroupError;
use super::groups::{Groups, LogPlace};
use super::ids::{Generation, GroupName, MemberId};
use super::membership::{JoinRequest, Membership};
use super::task::{Command, INBOX_COMMANDS_MAX, Task};
use super::topics::TopicsSnapshot;
use crate::clock::SharedClock;
use crate::partition::journal::{Journal, JournalEntry};
use crate::types::{Offset, TimestampMs, TopicName};
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};

/// Consumer groups, for whoever wants to join, commit or look. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GroupCoordinator {
    inbox: mpsc::Sender<Command>,
    /// Why the task stopped, once it has.
    stop_cause: Arc<OnceLock<String>>,
}

impl GroupCoordinator {
    /// Takes up the state that `replayed` (every entry of the journal, oldest first) describes, and starts the task
    /// that owns it. Nobody is a member of any group yet.
    ///
    /// `topics` must be complete: offsets of topics that are not in it are dropped for good.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        journal: Arc<dyn Journal>,
        replayed: Vec<JournalEntry>,
        clock: SharedClock,
        topics: Arc<TopicsSnapshot>,
    ) -> Result<Self, GroupError> {
        let groups = Groups::replay(replayed, topics)?;
        let (inbox, commands) = mpsc::channel(INBOX_COMMANDS_MAX);
        let stop_cause = Arc::new(OnceLock::new());
        tokio::spawn(Task::new(groups, journal, clock, commands, Arc::clone(&stop_cause)).run());
        Ok(Self { inbox, stop_cause })
    }

    /// Joins a group, which is created if there is none. What the member is assigned comes as its first event.
    pub async fn join(&self, request: JoinRequest) -> Result<Membership, GroupError> {
        self.call(|reply| Command::Join { request, reply }).await
    }

    /// The member has stopped reading what was revoked from it in `generation`, or goes on where the seek of `generation`
    /// said. Of anything else there is nothing to release, and that is no error: the release came too late, or twice.
    pub async fn release(&self, group: GroupName, member: MemberId, generation: Generation) -> Result<(), GroupError> {
        self.call(|reply| Command::Release { group, member, generation, reply }).await
    }

    /// The member leaves; its partitions are free at once. Dropping its [`Membership`] does the same, unanswered.
    pub async fn leave(&self, group: GroupName, member: MemberId) -> Result<(), GroupError> {
        self.call(|reply| Command::Leave { group, member, reply }).await
    }

    /// Takes a member out of its group: its partitions are free at once, it is told, and it may commit no more.
    pub async fn evict(&self, group: GroupName, member: MemberId) -> Result<(), GroupError> {
        self.call(|reply| Command::Evict { group, member, reply }).await
    }

    /// Commits offsets; one result for each, in order. Those that were accepted are durable.
    pub async fn commit(&self, request: CommitRequest) -> Result<CommitResults, GroupError> {
        self.call(|reply| Command::Commit { request, reply }).await
    }

    /// Sets committed offsets, also backwards: all of them, or none if one is refused. Members that read there are told to
    /// go on from there. The group is created if there is none.
    pub async fn seek(&self, group: GroupName, offsets: Vec<OffsetToCommit>) -> Result<CommitResults, GroupError> {
        self.call(|reply| Command::Seek { group, offsets, reply }).await
    }

    /// Copies the committed offsets of `source` to `target`, which must have neither members nor offsets and is created if
    /// there is none. What was set, or would be with `dry_run`, by topic and partition.
    pub async fn fork(
        &self,
        source: GroupName,
        target: GroupName,
        dry_run: bool,
    ) -> Result<Vec<CommittedOffset>, GroupError> {
        self.call(|reply| Command::Fork { source, target, dry_run, reply }).await
    }

    /// Begins or ends a pause of a group.
    pub async fn pause(&self, group: GroupName, paused: bool) -> Result<(), GroupError> {
        self.call(|reply| Command::Pause { group, paused, reply }).await
    }

    /// Committed offsets by topic and partition, only of these topics if any are named. None if there is no group.
    pub async fn committed(
        &self,
        group: GroupName,
        topics: Vec<TopicName>,
    ) -> Result<Vec<CommittedOffset>, GroupError> {
        self.call(|reply| Command::Committed { group, topics, reply }).await
    }

    /// Everything about a group.
    pub async fn describe(&self, group: GroupName) -> Result<GroupDescription, GroupError> {
        self.call(|reply| Command::Describe { group, reply }).await
    }

    /// Groups whose names begin with `prefix`, in order of name.
    pub async fn list(&self, prefix: String) -> Result<Vec<GroupSummary>, GroupError> {
        self.call(|reply| Command::List { prefix, reply }).await
    }

    /// For each place, in order: the groups that have committed an offset below it, and that offset.
    pub async fn behind(&self, places: Vec<LogPlace>) -> Result<Vec<Vec<(GroupName, Offset)>>, GroupError> {
        self.call(|reply| Command::Behind { places, reply }).await
    }

    /// Deletes a group that has no members, with its committed offsets.
    pub async fn delete(&self, group: GroupName) -> Result<(), GroupError> {
        self.call(|reply| Command::Delete { group, reply }).await
    }

    /// Deletes groups without members, with their committed offsets, in which nothing has happened for `retention_ms` at
    /// `now_ms`: no commit, no member, no pause. Names them; at most a hundred at a time.
    pub async fn forget_dead(&self, now_ms: TimestampMs, retention_ms: u64) -> Result<Vec<GroupName>, GroupError> {
        let dead_by_ms = now_ms.saturating_sub(i64::try_from(retention_ms).unwrap_or(i64::MAX));
        self.call(|reply| Command::ForgetDead { dead_by_ms, reply }).await
    }

    /// The catalog has changed: new partitions are given out, and what belongs to a deleted topic is revoked and
    /// forgotten. To be awaited before the change is answered, so that whoever made it can subscribe next.
    pub async fn topics_changed(&self, topics: Arc<TopicsSnapshot>) -> Result<(), GroupError> {
        self.call(|reply| Command::TopicsChanged { topics, reply }).await
    }

    /// The whole durable state as entries that replace everything the journal holds so far.
    ///
    /// They are as old as the answer: written behind entries that were appended since, they would undo those. So a
    /// journal is cut while nobody else calls.
    pub async fn snapshot(&self) -> Result<Vec<JournalEntry>, GroupError> {
        self.call(|reply| Command::Snapshot { reply }).await
    }

    async fn call<R>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<R, GroupError>>) -> Command,
    ) -> Result<R, GroupError> {
        let (reply, answer) = oneshot::channel();
        if self.inbox.send(command(reply)).await.is_err() {
            return Err(self.stopped());
        }
        answer.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    fn stopped(&self) -> GroupError {
        let cause = self.stop_cause.get().map_or("the broker is stopping", String::as_str);
        GroupError::Stopped { cause: cause.to_owned() }
    }
}

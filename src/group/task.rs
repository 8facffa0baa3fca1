//! The one task that owns all groups.
//!
//! It takes what is waiting (a drain), decides and applies each request in order, appends all their events as one
//! batch, and only then answers and tells members. While the append runs nothing else is decided, so nobody sees
//! state that is not durable. If the append fails, the state in memory is ahead of the disk and worth nothing: the
//! task ends, every answer of the drain is dropped unsent, and callers read that as `Stopped`.

use super::commit::{CommitRequest, CommitResults, OffsetToCommit};
use super::describe::{CommittedOffset, GroupDescription, GroupSummary};
use super::error::GroupError;
use super::event::{Decision, Effect, Now};
use super::groups::{Groups, LogPlace};
use super::ids::{Generation, GroupName, MemberId};
use super::journal_entries::encode;
use super::membership::{Departures, JoinRequest, MemberEvent, Membership, RemovalReason};
use super::topics::TopicsSnapshot;
use crate::clock::SharedClock;
use crate::partition::journal::{Journal, JournalEntry};
use crate::planted::{Bug, is_planted};
use crate::types::{Offset, TimestampMs, TopicName};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// Requests that may wait for the task; further callers wait for room.
pub(super) const INBOX_COMMANDS_MAX: usize = 1_024;

/// Most requests in one drain, so that the first of them does not wait for ever.
const DRAIN_COMMANDS_MAX: usize = 256;

/// A drain takes no further request once its entries have this many bytes. The last one may exceed it.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// Events a member may leave unread before it is removed. An event is one change of assignment that concerns it, so a
/// member this far behind does not read at all.
pub(super) const MEMBER_EVENTS_MAX: usize = 1_024;

type Reply<R> = oneshot::Sender<Result<R, GroupError>>;

/// What the handle asks of the task; each is described at the method that sends it.
#[derive(Debug)]
pub(super) enum Command {
    Join { request: JoinRequest, reply: Reply<Membership> },
    Release { group: GroupName, member: MemberId, generation: Generation, reply: Reply<()> },
    Leave { group: GroupName, member: MemberId, reply: Reply<()> },
    Evict { group: GroupName, member: MemberId, reply: Reply<()> },
    Commit { request: CommitRequest, reply: Reply<CommitResults> },
    Seek { group: GroupName, offsets: Vec<OffsetToCommit>, reply: Reply<CommitResults> },
    Fork { source: GroupName, target: GroupName, dry_run: bool, reply: Reply<Vec<CommittedOffset>> },
    Pause { group: GroupName, paused: bool, reply: Reply<()> },
    Committed { group: GroupName, topics: Vec<TopicName>, reply: Reply<Vec<CommittedOffset>> },
    Describe { group: GroupName, reply: Reply<GroupDescription> },
    List { prefix: String, reply: Reply<Vec<GroupSummary>> },
    Delete { group: GroupName, reply: Reply<()> },
    ForgetDead { dead_by_ms: TimestampMs, reply: Reply<Vec<GroupName>> },
    TopicsChanged { topics: Arc<TopicsSnapshot>, reply: Reply<()> },
    Behind { places: Vec<LogPlace>, reply: Reply<Vec<Vec<(GroupName, Offset)>>> },
    Snapshot { reply: Reply<Vec<JournalEntry>> },
}

/// The owner of all groups.
pub(super) struct Task {
    groups: Groups,
    journal: Arc<dyn Journal>,
    clock: SharedClock,
    /// Deadlines count from here.
    started: Instant,
    /// The same moment, for people and for retention.
    started_at_ms: TimestampMs,
    inbox: mpsc::Receiver<Command>,
    departures: Arc<Departures>,
    /// Where each member is told. One slot more than `MEMBER_EVENTS_MAX`: the last word always fits.
    members: HashMap<(GroupName, MemberId), mpsc::Sender<MemberEvent>>,
    stop_cause: Arc<OnceLock<String>>,
}

/// What one round has decided, held back until it is durable.
struct Drain {
    now: Now,
    entries: Vec<JournalEntry>,
    entries_bytes: usize,
    effects: Vec<Effect>,
    answers: Vec<Box<dyn FnOnce() + Send>>,
}

impl Task {
    pub(super) fn new(
        groups: Groups,
        journal: Arc<dyn Journal>,
        clock: SharedClock,
        inbox: mpsc::Receiver<Command>,
        stop_cause: Arc<OnceLock<String>>,
    ) -> Self {
        let (departures, members) = (Arc::default(), HashMap::new());
        let (started, started_at_ms) = (Instant::now(), clock.now_ms());
        Self { groups, journal, clock, started, started_at_ms, inbox, departures, members, stop_cause }
    }

    pub(super) async fn run(mut self) {
        // A topic may have been deleted just before the broker stopped, before its offsets were.
        let mut drain = Drain::new(self.now());
        let topics = Arc::clone(self.groups.topics());
        self.enact(self.groups.decide_topics_changed(&topics, drain.now), &mut drain);
        while self.conclude(drain).await {
            let Some(next) = self.next_drain().await else { return };
            drain = next;
        }
    }

    /// Waits for something to do, and does all that is waiting; `None` when no handle is left.
    async fn next_drain(&mut self) -> Option<Drain> {
        let deadline = self.groups.next_deadline_ms().map(|ms| self.started + Duration::from_millis(ms));
        let first = tokio::select! {
            biased;
            () = self.departures.wait() => None,
            command = self.inbox.recv() => Some(command?),
            () = sleep_until(deadline.unwrap_or(self.started)), if deadline.is_some() => None,
        };
        let mut drain = Drain::new(self.now());
        // What has ended comes before what is asked: a late commit must not find its ownership still there.
        for (group, member) in self.departures.take() {
            self.take_leave(&group, &member, &mut drain);
        }
        for group in self.groups.take_due(drain.now) {
            self.enact(self.groups.decide_expiry(&group, drain.now), &mut drain);
            self.enact(self.groups.decide_absences(&group, drain.now), &mut drain);
        }
        let mut next = first;
        while let Some(command) = next {
            self.carry_out(command, &mut drain);
            next = if drain.is_full() { None } else { self.inbox.try_recv().ok() };
        }
        Some(drain)
    }

    fn carry_out(&mut self, command: Command, drain: &mut Drain) {
        let now = drain.now;
        match command {
            Command::Join { request, reply } => self.join(&request, reply, drain),
            Command::Release { group, member, generation, reply } => {
                let decided = self.groups.decide_release(&group, &member, generation);
                self.settle(decided, reply, drain);
            }
            Command::Leave { group, member, reply } => {
                let decided = self.groups.decide_leave(&group, &member, now);
                self.members.remove(&(group, member));
                self.settle(decided, reply, drain);
            }
            Command::Evict { group, member, reply } => {
                let decided = self.groups.decide_evict(&group, &member, now);
                self.settle(decided, reply, drain);
            }
            Command::Commit { request, reply } => {
                let decided = self.groups.decide_commit(&request, now);
                self.settle(decided, reply, drain);
            }
            Command::Seek { group, offsets, reply } => {
                let decided = self.groups.decide_seek(&group, &offsets, now);
                self.settle(decided, reply, drain);
            }
            Command::Fork { source, target, dry_run, reply } => {
                let decided = self.groups.decide_fork(&source, &target, now);
                if dry_run {
                    drain.answer(reply, decided.map(|decision| decision.reply));
                } else {
                    self.settle(decided, reply, drain);
                }
            }
            Command::Pause { group, paused, reply } => {
                let decided = self.groups.decide_pause(&group, paused);
                self.settle(decided, reply, drain);
            }
            Command::Delete { group, reply } => {
                let decided = self.groups.decide_delete(&group);
                self.settle(decided, reply, drain);
            }
            Command::ForgetDead { dead_by_ms, reply } => {
                let decided = self.groups.decide_retention(dead_by_ms, self.started_at_ms);
                self.settle(Ok(decided), reply, drain);
            }
            Command::TopicsChanged { topics, reply } => {
                let decided = self.groups.decide_topics_changed(&topics, now);
                self.settle(Ok(decided), reply, drain);
                self.groups.set_topics(topics);
            }
            Command::Committed { group, topics, reply } => {
                drain.answer(reply, Ok(self.groups.committed(&group, &topics)));
            }
            Command::Describe { group, reply } => drain.answer(reply, self.groups.describe(&group, now)),
            Command::List { prefix, reply } => drain.answer(reply, Ok(self.groups.list(&prefix))),
            Command::Behind { places, reply } => drain.answer(reply, Ok(self.groups.behind(&places))),
            Command::Snapshot { reply } => drain.answer(reply, Ok(self.groups.snapshot())),
        }
    }

    fn join(&mut self, request: &JoinRequest, reply: Reply<Membership>, drain: &mut Drain) {
        let joined = self.groups.decide_join(request, drain.now).map(|decision| {
            let (group, member_id) = (request.group.clone(), self.enact(decision, drain));
            let (sender, events) = mpsc::channel(MEMBER_EVENTS_MAX + 1);
            self.members.insert((group.clone(), member_id.clone()), sender);
            let departure = self.departures.guard(group.clone(), member_id.clone());
            Membership { group, member_id, events, departure }
        });
        // Should the caller be gone, its membership is dropped with the answer, and that is a leave.
        drain.answer(reply, joined);
    }

    /// Takes note that a member is gone, or does not read. It may have left by itself before.
    fn take_leave(&mut self, group: &GroupName, member: &MemberId, drain: &mut Drain) {
        self.members.remove(&(group.clone(), member.clone()));
        if let Ok(decision) = self.groups.decide_departure(group, member, drain.now) {
            self.enact(decision, drain);
        }
    }

    fn settle<R: Send + 'static>(
        &mut self,
        decided: Result<Decision<R>, GroupError>,
        reply: Reply<R>,
        drain: &mut Drain,
    ) {
        let answer = decided.map(|decision| self.enact(decision, drain));
        drain.answer(reply, answer);
    }

    /// Applies what was decided, and puts what follows from it on the drain.
    fn enact<R>(&mut self, decision: Decision<R>, drain: &mut Drain) -> R {
        for event in &decision.events {
            if let Some(entry) = encode(event) {
                drain.entries_bytes += entry.key.len() + entry.value.as_ref().map_or(0, bytes::Bytes::len);
                drain.entries.push(entry);
            }
            self.groups.apply(event);
        }
        drain.effects.extend(decision.effects);
        decision.reply
    }

    /// Makes the drain durable, then lets everyone know. `false` when that failed and the task must end.
    async fn conclude(&mut self, mut drain: Drain) -> bool {
        if is_planted(Bug::CommitAckedBeforeDurable) {
            drain.answers.drain(..).for_each(|answer| answer());
        }
        if !drain.entries.is_empty()
            && let Err(failed) = self.journal.append(drain.entries).await
        {
            tracing::error!(error = %failed, "the group coordinator stops");
            self.stop(&failed.to_string());
            return false;
        }
        for effect in drain.effects {
            self.tell(effect);
        }
        for answer in drain.answers {
            answer();
        }
        true
    }

    /// Hands a member its event. A member that has left too many unread is removed: it cannot be told what it lost,
    /// and buffering without bound would make its trouble everyone's.
    fn tell(&mut self, Effect { group, member, event }: Effect) {
        let key = (group, member);
        // Without an entry the member is on its way out already.
        let Some(events) = self.members.get(&key) else { return };
        if matches!(event, MemberEvent::Removed { .. }) {
            let _ = events.try_send(event);
            self.members.remove(&key);
            return;
        }
        if events.capacity() > 1 {
            // Fails only when the receiver is dropped, and then the departure is noted.
            let _ = events.try_send(event);
            return;
        }
        let reason = RemovalReason::TooSlow { unread_events: MEMBER_EVENTS_MAX };
        let _ = events.try_send(MemberEvent::Removed { reason });
        self.members.remove(&key);
        self.departures.note(key.0, key.1);
    }

    /// Ends all memberships and refuses all calls from now on.
    fn stop(&mut self, cause: &str) {
        // The cause is there before the first caller can look for it.
        let _ = self.stop_cause.set(cause.to_owned());
        self.inbox.close();
        for events in self.members.values() {
            let reason = RemovalReason::Stopped { cause: cause.to_owned() };
            let _ = events.try_send(MemberEvent::Removed { reason });
        }
    }

    fn now(&self) -> Now {
        let since_start_ms = self.started.elapsed().as_millis();
        let monotonic_ms = u64::try_from(since_start_ms).expect("2^64 milliseconds do not pass");
        Now { monotonic_ms, wall_ms: self.clock.now_ms() }
    }
}

impl Drain {
    fn new(now: Now) -> Self {
        Self { now, entries: Vec::new(), entries_bytes: 0, effects: Vec::new(), answers: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.answers.len() >= DRAIN_COMMANDS_MAX || self.entries_bytes >= DRAIN_BYTES_MAX
    }

    /// Will answer when everything of this drain is durable. A caller that no longer waits is nobody's error.
    fn answer<R: Send + 'static>(&mut self, reply: Reply<R>, result: Result<R, GroupError>) {
        self.answers.push(Box::new(move || drop(reply.send(result))));
    }
}

//! The one task that owns all schedules.
//!
//! It takes what is waiting (a drain), decides, appends everything that was decided as one batch, and only when that is
//! synced applies and answers: nobody sees what a crash could take back. Of one schedule a drain changes one thing, because
//! it decides on the state before the drain. What the log refuses changes nothing; when nobody knows what the log took, the
//! task ends.
//!
//! It waits for the next due time on a timer, and looks at the clock at least each [`LOOK_INTERVAL`], because that may be
//! set. Nothing is due before the clock says so.

use super::entry::{Entry, tombstone};
use super::error::ScheduleError;
use super::ids::{Place, ScheduleId};
use super::log::{LogFailure, ScheduleLog};
use super::state::{Change, Counts, Due, Listed, Now, Outcome, Page, Schedules};
use crate::clock::SharedClock;
use crate::partition::journal::JournalEntry;
use crate::planted::{Bug, is_planted};
use crate::types::{Offset, TopicName};
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

/// Requests that may wait for the task; further callers wait for room.
pub(super) const INBOX_COMMANDS_MAX: usize = 1_024;

/// The clock is looked at so often while something waits for it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A drain takes no further request once it has so many, or its entries so many bytes. The last one may exceed it, and
/// all of it must fit one batch of the log.
const DRAIN_COMMANDS_MAX: usize = 1_024;
/// See [`DRAIN_COMMANDS_MAX`].
const DRAIN_BYTES_MAX: usize = 1 << 20;

type Reply<R> = oneshot::Sender<Result<R, ScheduleError>>;

/// What the handle asks of the task; each is described at the method that sends it.
#[derive(Debug)]
pub(super) enum Command {
    Add { entries: Vec<Entry>, reply: Reply<()> },
    Cancel { id: ScheduleId, reply: Reply<()> },
    Replace { place: Place, entry: Entry, reply: Reply<bool> },
    Find { id: ScheduleId, reply: Reply<Listed> },
    List { topic: Option<TopicName>, after: Option<Place>, most: usize, reply: Reply<Page> },
    Counts { reply: Reply<Counts> },
    TakeDue { most: usize, bytes_max: u64, reply: Reply<Vec<Due>> },
    Conclude { outcomes: Vec<Outcome>, reply: Reply<()> },
    PutOff { failures: Vec<(Place, Arc<str>)>, reply: Reply<()> },
}

impl Command {
    /// The schedules it would change.
    fn changes(&self) -> Vec<&ScheduleId> {
        match self {
            Self::Add { entries, .. } => entries.iter().map(|entry| &entry.id).collect(),
            Self::Cancel { id, .. } => vec![id],
            Self::Replace { entry, .. } => vec![&entry.id],
            Self::Conclude { outcomes, .. } => outcomes.iter().map(|outcome| &outcome.id).collect(),
            _ => Vec::new(),
        }
    }
}

/// The owner of all schedules.
pub(super) struct Task {
    schedules: Schedules,
    log: Arc<dyn ScheduleLog>,
    clock: SharedClock,
    inbox: mpsc::Receiver<Command>,
    stop_cause: Arc<OnceLock<String>>,
    /// Waits between tries count from here.
    started: Instant,
    /// Came too early for the last drain.
    held: Option<Command>,
    taker: Option<Taker>,
}

/// Whoever waits for something to be due.
struct Taker {
    most: usize,
    bytes_max: u64,
    reply: Reply<Vec<Due>>,
}

/// Says what became of a request, when that is known.
type Answer = Box<dyn FnOnce(Result<(), ScheduleError>) + Send>;

/// What one round has decided.
#[derive(Default)]
struct Drain {
    changes: Vec<Change>,
    entries: Vec<JournalEntry>,
    bytes: usize,
    added: usize,
    touched: HashSet<ScheduleId>,
    answers: Vec<Answer>,
    delivered: u64,
    left_out: u64,
}

impl Drain {
    /// Whether it can take this, too.
    fn takes(&mut self, command: &Command) -> bool {
        let changes = command.changes();
        if changes.iter().any(|id| self.touched.contains(*id)) {
            return false;
        }
        self.touched.extend(changes.into_iter().cloned());
        true
    }

    fn is_full(&self) -> bool {
        self.answers.len() >= DRAIN_COMMANDS_MAX || self.bytes >= DRAIN_BYTES_MAX
    }

    fn push(&mut self, changes: Vec<Change>) {
        for change in changes {
            let entry = match &change {
                Change::Set(entry) => entry.encode(),
                Change::Remove(id) => tombstone(id),
            };
            self.bytes += entry.key.len() + entry.value.as_ref().map_or(0, bytes::Bytes::len);
            self.entries.push(entry);
            self.changes.push(change);
        }
    }

    /// Answers when all is durable. A caller that no longer waits is nobody's error.
    fn answer<R: Send + 'static>(&mut self, reply: Reply<R>, answer: R) {
        self.answers.push(Box::new(move |appended| drop(reply.send(appended.map(|()| answer)))));
    }

    fn decided(&mut self, decided: Result<Vec<Change>, ScheduleError>, reply: Reply<()>) {
        match decided {
            Ok(changes) => {
                self.push(changes);
                self.answer(reply, ());
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

impl Task {
    pub(super) fn new(
        schedules: Schedules,
        log: Arc<dyn ScheduleLog>,
        clock: SharedClock,
        inbox: mpsc::Receiver<Command>,
        stop_cause: Arc<OnceLock<String>>,
    ) -> Self {
        Self { schedules, log, clock, inbox, stop_cause, started: Instant::now(), held: None, taker: None }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.serve_taker();
            let Some(first) = self.next().await else { return };
            let mut drain = Drain::default();
            let mut next = first;
            while let Some(command) = next {
                if !drain.takes(&command) {
                    self.held = Some(command);
                    break;
                }
                self.carry_out(command, &mut drain);
                next = if drain.is_full() { None } else { self.inbox.try_recv().ok() };
            }
            if let Err(cause) = self.conclude(drain).await {
                tracing::error!(%cause, "the schedule coordinator stops");
                // The cause is there before the first caller can look for it.
                let _ = self.stop_cause.set(cause);
                return;
            }
        }
    }

    /// Waits for a request, or for the time to look at the clock; `None` when no handle is left.
    async fn next(&mut self) -> Option<Option<Command>> {
        if let Some(held) = self.held.take() {
            return Some(Some(held));
        }
        let wait = self.taker.as_ref().and_then(|_| self.schedules.next_due_in(self.now()));
        let wait = wait.map(|wait| wait.min(LOOK_INTERVAL));
        tokio::select! {
            biased;
            command = self.inbox.recv() => command.map(Some),
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => Some(None),
        }
    }

    /// Hands out what is due to whoever waits for it.
    fn serve_taker(&mut self) {
        let now = self.now();
        let Some(taker) = self.taker.take_if(|taker| {
            let is_due = self.schedules.next_due_in(now).is_some_and(|wait| wait.is_zero());
            is_due || taker.reply.is_closed()
        }) else {
            return;
        };
        if taker.reply.is_closed() {
            return;
        }
        let due = self.schedules.take_due(now, taker.most, taker.bytes_max);
        if due.is_empty() {
            // What was to be tried again is not due any more: the clock was set back.
            self.taker = Some(taker);
        } else if let Err(Ok(due)) = taker.reply.send(Ok(due)) {
            // It has gone between the two looks; whoever takes its place finds these ripe in a moment.
            let gone: Arc<str> = "whoever delivers has gone".into();
            self.schedules.put_off(due.into_iter().map(|due| (due.place, Arc::clone(&gone))).collect(), now);
        }
    }

    fn carry_out(&mut self, command: Command, drain: &mut Drain) {
        match command {
            Command::Add { entries, reply } => {
                let decided = self.schedules.decide_add(entries, drain.added);
                drain.added += decided.as_ref().map_or(0, Vec::len);
                drain.decided(decided, reply);
            }
            Command::Cancel { id, reply } => drain.decided(self.schedules.decide_cancel(&id), reply),
            Command::Replace { place, entry, reply } => match self.schedules.decide_replace(place, entry) {
                Ok(Some(changes)) => {
                    drain.push(changes);
                    drain.answer(reply, true);
                }
                Ok(None) => drop(reply.send(Ok(false))),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Conclude { outcomes, reply } => {
                let delivered = outcomes.iter().filter(|outcome| outcome.delivered).count();
                drain.delivered += delivered as u64;
                drain.left_out += (outcomes.len() - delivered) as u64;
                drain.decided(Ok(self.schedules.decide_outcomes(&outcomes)), reply);
            }
            // What is seen here is durable, so these need not wait.
            Command::Find { id, reply } => drop(reply.send(self.schedules.find(&id))),
            Command::List { topic, after, most, reply } => {
                drop(reply.send(Ok(self.schedules.list(topic.as_ref(), after, most))));
            }
            Command::Counts { reply } => drop(reply.send(Ok(self.schedules.counts()))),
            Command::TakeDue { most, bytes_max, reply } => self.taker = Some(Taker { most, bytes_max, reply }),
            Command::PutOff { failures, reply } => {
                self.schedules.put_off(failures, self.now());
                drop(reply.send(Ok(())));
            }
        }
    }

    /// Appends what was decided, applies it and answers; an error says why nobody knows what the log took.
    async fn conclude(&mut self, drain: Drain) -> Result<(), String> {
        let Drain { changes, entries, answers, delivered, left_out, .. } = drain;
        let appended = if entries.is_empty() { Ok(Offset::ZERO) } else { self.log.append(entries).await };
        let result = match appended {
            Ok(base) => {
                for (number, change) in (0..).zip(&changes) {
                    self.schedules.apply(change, base.advance(number));
                }
                self.schedules.count_outcomes(delivered, left_out);
                Ok(())
            }
            Err(LogFailure::Refused(cause)) => {
                if is_planted(Bug::ScheduleEndsUnnoted) {
                    for change in &changes {
                        self.schedules.apply(change, Offset::ZERO);
                    }
                }
                Err(ScheduleError::Refused { cause })
            }
            // Answers are dropped unsent, and callers read that as the end.
            Err(LogFailure::Lost(cause)) => return Err(cause),
        };
        for answer in answers {
            answer(result.clone());
        }
        Ok(())
    }

    fn now(&self) -> Now {
        let since_start_ms = self.started.elapsed().as_millis();
        let monotonic_ms = u64::try_from(since_start_ms).expect("2^64 milliseconds do not pass");
        Now { monotonic_ms, wall_ms: self.clock.now_ms() }
    }
}

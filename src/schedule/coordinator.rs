//! The handle by which everyone else uses schedules.
//!
//! Each call is a message to the one task that owns them (`super::task`) and the wait for its answer. A full inbox makes
//! callers wait. Once the log has failed, every call, waiting or later, gets [`ScheduleError::Stopped`]. Dropping every
//! handle ends the task.

use super::entry::Entry;
use super::error::ScheduleError;
use super::ids::{Place, ScheduleId};
use super::log::ScheduleLog;
use super::state::{Counts, Due, Listed, Outcome, Page, Replayed};
use super::task::{Command, INBOX_COMMANDS_MAX, Task};
use crate::clock::SharedClock;
use crate::types::TopicName;
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};

/// Schedules, for whoever wants to add, change, look at or deliver them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ScheduleCoordinator {
    inbox: mpsc::Sender<Command>,
    /// Why the task stopped, once it has.
    stop_cause: Arc<OnceLock<String>>,
}

impl ScheduleCoordinator {
    /// Takes up what was replayed, and starts the task that owns it. Nothing is under way.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(log: Arc<dyn ScheduleLog>, replayed: Replayed, clock: SharedClock) -> Self {
        let (inbox, commands) = mpsc::channel(INBOX_COMMANDS_MAX);
        let stop_cause = Arc::new(OnceLock::new());
        tokio::spawn(Task::new(replayed.0, log, clock, commands, Arc::clone(&stop_cause)).run());
        Self { inbox, stop_cause }
    }

    /// Adds all of these or, if one is refused, none.
    pub async fn add(&self, entries: Vec<Entry>) -> Result<(), ScheduleError> {
        self.call(|reply| Command::Add { entries, reply }).await
    }

    /// Ends a schedule before its time.
    pub async fn cancel(&self, id: ScheduleId) -> Result<(), ScheduleError> {
        self.call(|reply| Command::Cancel { id, reply }).await
    }

    /// Puts another entry in the place of the one at `place`. Whether it was done: not if the schedule was changed since.
    pub async fn replace(&self, place: Place, entry: Entry) -> Result<bool, ScheduleError> {
        self.call(|reply| Command::Replace { place, entry, reply }).await
    }

    /// Where a schedule stands.
    pub async fn find(&self, id: ScheduleId) -> Result<Listed, ScheduleError> {
        self.call(|reply| Command::Find { id, reply }).await
    }

    /// Up to `most` schedules, of one topic or all, behind `after`, in order of the time they are due. A page may be
    /// short although the list goes on.
    pub async fn list(
        &self,
        topic: Option<TopicName>,
        after: Option<Place>,
        most: usize,
    ) -> Result<Page, ScheduleError> {
        self.call(|reply| Command::List { topic, after, most, reply }).await
    }

    /// How many there are.
    pub async fn counts(&self) -> Result<Counts, ScheduleError> {
        self.call(|reply| Command::Counts { reply }).await
    }

    /// Waits until something is due, and takes it: at most `most`, and about `bytes_max` bytes of records. Each stays under
    /// way until [`Self::conclude`] or [`Self::put_off`] says what became of it. There is one caller.
    pub async fn take_due(&self, most: usize, bytes_max: u64) -> Result<Vec<Due>, ScheduleError> {
        self.call(|reply| Command::TakeDue { most, bytes_max, reply }).await
    }

    /// These were delivered or left out. Durable when it returns; after [`ScheduleError::Refused`] to be said again.
    pub async fn conclude(&self, outcomes: Vec<Outcome>) -> Result<(), ScheduleError> {
        self.call(|reply| Command::Conclude { outcomes, reply }).await
    }

    /// These could not be delivered, each with the reason; they are handed out again later.
    pub async fn put_off(&self, failures: Vec<(Place, Arc<str>)>) -> Result<(), ScheduleError> {
        self.call(|reply| Command::PutOff { failures, reply }).await
    }

    async fn call<R>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<R, ScheduleError>>) -> Command,
    ) -> Result<R, ScheduleError> {
        let (reply, answer) = oneshot::channel();
        if self.inbox.send(command(reply)).await.is_err() {
            return Err(self.stopped());
        }
        answer.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    fn stopped(&self) -> ScheduleError {
        let cause = self.stop_cause.get().cloned().unwrap_or_else(|| "the broker is stopping".to_owned());
        ScheduleError::Stopped { cause }
    }
}

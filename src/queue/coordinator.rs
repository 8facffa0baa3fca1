//! The handle by which everyone else uses queues.
//!
//! Each call is a message to the one task that owns all queues (`super::task`) and the wait for its answer, which
//! comes when everything the answer says is durable. A full inbox makes callers wait. Once the journal has failed,
//! every call, waiting or later, gets [`QueueError::Stopped`]. Dropping every handle ends the task.

use super::describe::{BlockingMessage, DyingMessage, PeekedPartition, QueueDescription};
use super::error::QueueError;
use super::event::{Departure, ReceiverKind, Window};
use super::hand_out::{Found, LeasedMessage, Reserving};
use super::ids::{PartitionKey, Place, QueueName};
use super::letters::LetterTopic;
use super::logs::Logs;
use super::policy::{QueueConfig, QueuePolicy};
use super::queues::{CreateQueue, Queues};
use super::receiver::QueueReceiver;
use super::settle::{Settle, SettleResults};
use super::task::{Command, INBOX_COMMANDS_MAX, LetterCommand, Task, TaskMemory};
use crate::clock::SharedClock;
use crate::partition::journal::{CutJournal, JournalEntry};
use crate::types::{Offset, TopicName};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::sync::{Notify, mpsc, oneshot};

/// The journal is cut when at least this much, and several times the last snapshot, was appended to it.
const CUT_BYTES_MIN: usize = 16 << 20;

/// Queues, for whoever wants to receive, settle or look. Cheap to clone.
#[derive(Debug, Clone)]
pub struct QueueCoordinator {
    inbox: mpsc::Sender<Command>,
    /// Why the task stopped, once it has.
    stop_cause: Arc<OnceLock<String>>,
    deaths: Arc<Notify>,
}

/// Verbs that are on their way.
#[derive(Debug)]
pub struct PendingSettle {
    answer: oneshot::Receiver<Result<SettleResults, QueueError>>,
    coordinator: QueueCoordinator,
}

/// Ends when they are carried out and durable; one result for each, in order. Dropping it takes nothing back.
impl Future for PendingSettle {
    type Output = Result<SettleResults, QueueError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(self.coordinator.stopped())))
    }
}

impl QueueCoordinator {
    /// Takes up the state that `replayed` (every entry of the journal, oldest first) describes, and starts the task
    /// that owns it. Nothing is leased.
    ///
    /// `logs` must know every topic: progress in topics that it does not know is forgotten for good.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        journal: Arc<dyn CutJournal>,
        replayed: Vec<JournalEntry>,
        clock: SharedClock,
        logs: Arc<dyn Logs>,
    ) -> Result<Self, QueueError> {
        Self::start_cutting(journal, replayed, clock, logs, CUT_BYTES_MIN)
    }

    /// The same with a journal that is cut earlier or later.
    pub(super) fn start_cutting(
        journal: Arc<dyn CutJournal>,
        replayed: Vec<JournalEntry>,
        clock: SharedClock,
        logs: Arc<dyn Logs>,
        cut_bytes_min: usize,
    ) -> Result<Self, QueueError> {
        let queues = Queues::replay(replayed)?;
        let (inbox, commands) = mpsc::channel(INBOX_COMMANDS_MAX);
        let (stop_cause, deaths) = (Arc::new(OnceLock::new()), Arc::new(Notify::new()));
        let task = Task {
            queues,
            journal,
            logs,
            memory: TaskMemory::new(&*clock),
            clock,
            inbox: commands,
            stop_cause: Arc::clone(&stop_cause),
            deaths: Arc::clone(&deaths),
            cut_bytes_min,
        };
        tokio::spawn(task.run());
        Ok(Self { inbox, stop_cause, deaths })
    }

    /// Creates a queue.
    pub async fn create(&self, request: CreateQueue) -> Result<QueueConfig, QueueError> {
        self.call(|reply| Command::Create { request, reply }).await
    }

    /// Changes the policy of a queue, or pauses or resumes it.
    pub async fn update(
        &self,
        queue: QueueName,
        policy: Option<QueuePolicy>,
        paused: Option<bool>,
    ) -> Result<QueueConfig, QueueError> {
        self.call(|reply| Command::Update { queue, policy, paused, reply }).await
    }

    /// Deletes a queue with its progress. Its receivers end; records stay in their topics.
    pub async fn delete(&self, queue: QueueName) -> Result<(), QueueError> {
        self.call(|reply| Command::Delete { queue, reply }).await
    }

    /// Everything about a queue.
    pub async fn describe(&self, queue: QueueName) -> Result<QueueDescription, QueueError> {
        self.call(|reply| Command::Describe { queue, reply }).await
    }

    /// Up to `most` messages of each partition of a queue that are not done.
    pub async fn peek(&self, queue: QueueName, most: usize) -> Result<Vec<PeekedPartition>, QueueError> {
        self.call(|reply| Command::Peek { queue, most, reply }).await
    }

    /// Up to `most` messages that others of their key wait for; those that hold up most first.
    pub async fn blocking(&self, queue: QueueName, most: usize) -> Result<Vec<BlockingMessage>, QueueError> {
        self.call(|reply| Command::Blocking { queue, most, reply }).await
    }

    /// Queues whose names begin with `prefix`, in order of name.
    pub async fn list(&self, prefix: String) -> Result<Vec<QueueDescription>, QueueError> {
        self.call(|reply| Command::List { prefix, reply }).await
    }

    /// Takes a place at a queue.
    pub async fn open(
        &self,
        queue: QueueName,
        kind: ReceiverKind,
        window: Window,
    ) -> Result<QueueReceiver, QueueError> {
        self.call(|reply| Command::Open { queue, kind, window, reply }).await
    }

    /// Lets a receiver have more at a time.
    pub async fn widen(&self, receiver: &QueueReceiver, more: Window) -> Result<(), QueueError> {
        let (queue, receiver) = (receiver.queue.clone(), receiver.id);
        self.call(|reply| Command::Widen { queue, receiver, more, reply }).await
    }

    /// Sets up to `most` messages aside for a receiver to read. What it has found, and be it nothing, must be told by
    /// [`Self::deliver`] before it can reserve again.
    pub async fn reserve(&self, receiver: &QueueReceiver, most: u32) -> Result<Reserving, QueueError> {
        let (queue, receiver) = (receiver.queue.clone(), receiver.id);
        self.call(|reply| Command::Reserve { queue, receiver, most, reply }).await
    }

    /// Leases what a receiver has read. May be fewer than it found: one message of a key at a time.
    pub async fn deliver(&self, receiver: &QueueReceiver, found: Found) -> Result<Vec<LeasedMessage>, QueueError> {
        let (queue, receiver) = (receiver.queue.clone(), receiver.id);
        self.call(|reply| Command::Deliver { queue, receiver, found, reply }).await
    }

    /// Settles messages; one result for each, in order.
    pub async fn settle(&self, queue: QueueName, settles: Vec<Settle>) -> Result<SettleResults, QueueError> {
        self.begin_settle(queue, settles).await?.await
    }

    /// The same in two steps: when this returns, the place of the verbs among all others is fixed.
    pub async fn begin_settle(&self, queue: QueueName, settles: Vec<Settle>) -> Result<PendingSettle, QueueError> {
        let (reply, answer) = oneshot::channel();
        if self.inbox.send(Command::Settle { queue, settles, reply }).await.is_err() {
            return Err(self.stopped());
        }
        Ok(PendingSettle { answer, coordinator: self.clone() })
    }

    /// Gives up a place at a queue, and what the receiver had.
    pub async fn close(&self, receiver: &QueueReceiver, departure: Departure) -> Result<(), QueueError> {
        let (queue, receiver) = (receiver.queue.clone(), receiver.id);
        self.call(|reply| Command::Close { queue, receiver, departure, reply }).await
    }

    /// Ends when there may be messages to bury, since it last ended.
    pub async fn deaths(&self) {
        self.deaths.notified().await;
    }

    /// Up to `most` messages of each queue that are to be written to its dead letter topic.
    pub async fn dying(&self, most: usize) -> Result<Vec<DyingMessage>, QueueError> {
        self.call(|reply| Command::Dying { most, reply }).await
    }

    /// The dead letters of these messages are durable, so they are done; `absent` ones were not in the log any more.
    pub async fn bury(&self, queue: QueueName, buried: Vec<Place>, absent: Vec<Place>) -> Result<(), QueueError> {
        self.call(|reply| Command::Bury { queue, buried, absent, reply }).await
    }

    /// A topic of dead letters, with what of it is resolved.
    pub async fn letters(&self, topic: TopicName) -> Result<LetterTopic, QueueError> {
        self.call(|reply| Command::Letters(LetterCommand::Get { topic, reply })).await
    }

    /// Topics of dead letters whose names begin with `prefix`, in order.
    pub async fn letter_topics(&self, prefix: String) -> Result<Vec<TopicName>, QueueError> {
        self.call(|reply| Command::Letters(LetterCommand::List { prefix, reply })).await
    }

    /// These dead letters are resolved. To be called when what resolved them is durable.
    pub async fn resolve_letters(
        &self,
        topic: TopicName,
        at: PartitionKey,
        ranges: Vec<Range<Offset>>,
    ) -> Result<(), QueueError> {
        self.call(|reply| Command::Letters(LetterCommand::Resolve { topic, at, ranges, reply })).await
    }

    /// The topics have changed. To be awaited before the change is answered.
    pub async fn topics_changed(&self) -> Result<(), QueueError> {
        self.call(|reply| Command::TopicsChanged { reply }).await
    }

    /// The whole durable state as entries that replace everything the journal holds so far. To be written only while
    /// nobody else calls.
    pub async fn snapshot(&self) -> Result<Vec<JournalEntry>, QueueError> {
        self.call(|reply| Command::Snapshot { reply }).await
    }

    async fn call<R>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<R, QueueError>>) -> Command,
    ) -> Result<R, QueueError> {
        let (reply, answer) = oneshot::channel();
        if self.inbox.send(command(reply)).await.is_err() {
            return Err(self.stopped());
        }
        answer.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    fn stopped(&self) -> QueueError {
        let cause = self.stop_cause.get().map_or("the broker is stopping", String::as_str);
        QueueError::Stopped { cause: cause.to_owned() }
    }
}

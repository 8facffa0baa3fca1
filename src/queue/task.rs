//! The one task that owns all queues.
//!
//! It takes what is waiting (a drain), decides and applies each request in order, and sends all their events to the
//! journal as one batch. Deliveries are answered when that is written, so nobody works on a message whose attempt `kill -9`
//! could undo; what was settled is answered when it is as durable as the queue promises (`super::under_way`). If the
//! append fails, the state in memory is worth nothing: the task ends, every answer under way is dropped unsent, and
//! callers read that as `Stopped`.
//!
//! The journal is cut here, too, while it grows: this task alone appends to it, so its snapshot is the whole state.

use super::describe::{BlockingMessage, DyingMessage, PeekedPartition, QueueDescription};
use super::drain::Drain;
use super::error::QueueError;
use super::event::{Decision, Departure, Event, Now, ReceiverKind, Window};
use super::hand_out::{Found, LeasedMessage, Reserving};
use super::ids::{DeliveryId, PartitionKey, Place, QueueName, ReceiverId};
use super::letters::LetterTopic;
use super::logs::Logs;
use super::policy::{QueueConfig, QueuePolicy};
use super::queues::{CreateQueue, Queues};
use super::receiver::{Departures, QueueReceiver};
use super::settle::{Settle, SettleResults};
use super::under_way::UnderWay;
use crate::clock::{Clock, SharedClock, advanced};
use crate::limits;
use crate::partition::journal::{CutJournal, JournalEntry};
use crate::types::{Durability, Offset, TopicName};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// Requests that may wait for the task; further callers wait for room.
pub(super) const INBOX_COMMANDS_MAX: usize = 1_024;

/// The journal is cut when so many times the last snapshot was appended to it.
const CUT_SNAPSHOTS: usize = 4;

/// While nobody waits for a sync, one is asked for this often. What comes meanwhile waits for it, and with ten a second that
/// was the slowest message of a hundred: 3 to 5 ms instead of 0.5.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

pub(super) type Reply<R> = oneshot::Sender<Result<R, QueueError>>;

/// What the handle asks of the task; each is described at the method that sends it.
#[derive(Debug)]
pub(super) enum Command {
    Create { request: CreateQueue, reply: Reply<QueueConfig> },
    Update { queue: QueueName, policy: Option<QueuePolicy>, paused: Option<bool>, reply: Reply<QueueConfig> },
    Delete { queue: QueueName, reply: Reply<()> },
    Describe { queue: QueueName, reply: Reply<QueueDescription> },
    Peek { queue: QueueName, most: usize, reply: Reply<Vec<PeekedPartition>> },
    Blocking { queue: QueueName, most: usize, reply: Reply<Vec<BlockingMessage>> },
    List { prefix: String, reply: Reply<Vec<QueueDescription>> },
    Open { queue: QueueName, kind: ReceiverKind, window: Window, reply: Reply<QueueReceiver> },
    Widen { queue: QueueName, receiver: ReceiverId, more: Window, reply: Reply<()> },
    Reserve { queue: QueueName, receiver: ReceiverId, most: u32, reply: Reply<Reserving> },
    Deliver { queue: QueueName, receiver: ReceiverId, found: Found, reply: Reply<Vec<LeasedMessage>> },
    Settle { queue: QueueName, settles: Vec<Settle>, reply: Reply<SettleResults> },
    Close { queue: QueueName, receiver: ReceiverId, departure: Departure, reply: Reply<()> },
    Dying { most: usize, reply: Reply<Vec<DyingMessage>> },
    Bury { queue: QueueName, buried: Vec<Place>, absent: Vec<Place>, reply: Reply<()> },
    Letters(LetterCommand),
    TopicsChanged { reply: Reply<()> },
    Snapshot { reply: Reply<Vec<JournalEntry>> },
}

/// What it asks about dead letters.
#[derive(Debug)]
pub(super) enum LetterCommand {
    Get { topic: TopicName, reply: Reply<LetterTopic> },
    List { prefix: String, reply: Reply<Vec<TopicName>> },
    Resolve { topic: TopicName, at: PartitionKey, ranges: Vec<Range<Offset>>, reply: Reply<()> },
}

/// The owner of all queues.
pub(super) struct Task {
    pub(super) queues: Queues,
    pub(super) journal: Arc<dyn CutJournal>,
    pub(super) logs: Arc<dyn Logs>,
    pub(super) clock: SharedClock,
    pub(super) inbox: mpsc::Receiver<Command>,
    pub(super) stop_cause: Arc<OnceLock<String>>,
    /// Rung when there is something to write to a dead letter topic.
    pub(super) deaths: Arc<Notify>,
    /// The journal is cut when at least so much was appended to it.
    pub(super) cut_bytes_min: usize,
    pub(super) memory: TaskMemory,
}

/// What the task knows besides.
pub(super) struct TaskMemory {
    /// Deadlines count from here.
    started: Instant,
    /// And what was let pass by hand since then, if the clock is one that can be moved.
    advances: Option<watch::Receiver<u64>>,
    departures: Arc<Departures>,
    under_way: UnderWay,
    wakers: HashMap<ReceiverId, Arc<Notify>>,
    next_receiver: u64,
    next_delivery: u64,
    bytes_since_cut: usize,
    snapshot_bytes: usize,
    /// When a drain was last sent to be synced.
    synced_at: Option<Instant>,
}

impl TaskMemory {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self {
            started: Instant::now(),
            advances: clock.advances(),
            departures: Arc::default(),
            under_way: UnderWay::default(),
            wakers: HashMap::new(),
            next_receiver: 0,
            next_delivery: 0,
            bytes_since_cut: 0,
            snapshot_bytes: 0,
            synced_at: None,
        }
    }

    /// What the next drain is sent for: to be synced if somebody waits for that; and otherwise now and then, so that an
    /// attempt counts also when a message takes the whole machine with it each time. Not for a queue that promises no more
    /// than WRITTEN: its messages would wait for a disk that it does not ask for.
    fn durability(&mut self, is_awaited: bool, is_worth_a_sync: bool) -> Durability {
        let is_due = is_worth_a_sync && self.synced_at.is_none_or(|at| at.elapsed() >= SYNC_INTERVAL);
        if !is_awaited && !is_due {
            return Durability::Written;
        }
        self.synced_at = Some(Instant::now());
        Durability::Synced
    }

    fn advanced_ms(&self) -> u64 {
        self.advances.as_ref().map_or(0, |advances| *advances.borrow())
    }
}

impl Task {
    pub(super) async fn run(mut self) {
        let mut drain = Drain::new(self.now());
        let started = self.queues.decide_start(&*self.logs, drain.now);
        self.enact(Decision { reply: (), events: started }, &mut drain);
        loop {
            self.conclude(drain).await;
            let Some(next) = self.next_drain().await else { return };
            drain = next;
        }
    }

    /// Waits for something to do, and does all that is waiting, answering meanwhile what has become durable; `None` when no
    /// handle is left, or the journal has failed.
    async fn next_drain(&mut self) -> Option<Drain> {
        let advanced_ms = self.memory.advanced_ms();
        let due_in = |ms: u64| self.memory.started + Duration::from_millis(ms.saturating_sub(advanced_ms));
        let deadline = self.queues.next_due_ms().map(due_in);
        let first = loop {
            let TaskMemory { departures, under_way, started, advances, .. } = &mut self.memory;
            let has_room = under_way.has_room();
            tokio::select! {
                biased;
                answers = under_way.next_answers() => match answers {
                    Ok(answers) => answers.into_iter().for_each(|answer| answer()),
                    Err(failed) => {
                        tracing::error!(error = %failed, "the queue coordinator stops");
                        self.stop(&failed.to_string());
                        return None;
                    }
                },
                () = departures.wait(), if has_room => break None,
                command = self.inbox.recv(), if has_room => break Some(command?),
                () = sleep_until(deadline.unwrap_or(*started)), if has_room && deadline.is_some() => break None,
                () = advanced(advances), if has_room => break None,
            }
        };
        let mut drain = Drain::new(self.now());
        // What has ended comes before what is asked: a late answer must not find its lease still there.
        for (queue, receiver) in self.memory.departures.take() {
            self.close(&queue, receiver, Departure::Lost, &mut drain);
        }
        let due = self.queues.decide_due(drain.now);
        self.enact(Decision { reply: (), events: due }, &mut drain);
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
            Command::Create { request, reply } => self.create(&request, reply, drain),
            Command::Update { queue, policy, paused, reply } => {
                let decided = self.queues.decide_update_keeping(&queue, policy.as_ref(), paused, &*self.logs);
                self.settle(decided, reply, drain);
            }
            Command::Delete { queue, reply } => {
                let decided = self.queues.decide_delete_keeping(&queue, &*self.logs);
                let receivers =
                    self.queues.get(&queue).map(|state| state.receivers.keys().copied().collect::<Vec<_>>());
                self.settle(decided, reply, drain);
                // They find out that their queue is gone when they ask next.
                for receiver in receivers.unwrap_or_default() {
                    self.memory.wakers.remove(&receiver).inspect(|wake| wake.notify_one());
                }
            }
            Command::Open { queue, kind, window, reply } => self.open(queue, kind, window, reply, drain),
            Command::Widen { queue, receiver, more, reply } => {
                let event = Event::ReceiverWidened { queue: queue.clone(), receiver, more };
                let state = self.queues.get(&queue).and_then(|state| state.receiver(receiver).map(drop));
                self.settle(state.map(|()| Decision { reply: (), events: vec![event] }), reply, drain);
            }
            Command::Reserve { queue, receiver, most, reply } => {
                let logs = &*self.logs;
                let decided = self.queues.get(&queue).and_then(|state| state.decide_reserve(receiver, most, logs));
                let answer = decided.map(|decision| self.enact(decision, drain));
                // At once: nothing leaves the broker because of a reservation, and the delivery that does comes in a
                // later drain. So the log is read while this one is synced.
                drop(reply.send(answer));
            }
            Command::Deliver { queue, receiver, found, reply } => {
                self.memory.next_delivery += 1;
                let (delivery, run) = (DeliveryId(self.memory.next_delivery), self.queues.run());
                let state = self.queues.get(&queue);
                drain.is_worth_a_sync |=
                    state.as_ref().is_ok_and(|state| state.config.policy.durability == Durability::Synced);
                let answer = state.and_then(|state| state.decide_deliver(receiver, &found, delivery, run, now));
                let answer = answer.map(|decision| self.enact(decision, drain));
                drain.answer_when(Durability::Written, reply, answer);
            }
            Command::Settle { queue, settles, reply } => self.settle_messages(&queue, &settles, reply, drain),
            Command::Close { queue, receiver, departure, reply } => {
                self.close(&queue, receiver, departure, drain);
                drain.answer(reply, Ok(()));
            }
            Command::Bury { queue, buried, absent, reply } => {
                let decided = self.queues.decide_bury(&queue, &buried, &absent);
                self.settle(Ok(decided), reply, drain);
            }
            Command::Letters(command) => self.carry_out_letters(command, drain),
            Command::TopicsChanged { reply } => {
                let events = self.queues.decide_topics_changed(&*self.logs);
                self.settle(Ok(Decision { reply: (), events }), reply, drain);
            }
            Command::Describe { queue, reply } => drain.answer(reply, self.queues.describe(&queue)),
            Command::Peek { queue, most, reply } => {
                drain.answer(reply, self.queues.get(&queue).map(|state| state.peek(most)));
            }
            Command::Blocking { queue, most, reply } => {
                drain.answer(reply, self.queues.get(&queue).map(|state| state.blocking(most)));
            }
            Command::List { prefix, reply } => drain.answer(reply, Ok(self.queues.list(&prefix))),
            Command::Dying { most, reply } => drain.answer(reply, Ok(self.queues.dying(most))),
            Command::Snapshot { reply } => drain.answer(reply, Ok(self.queues.snapshot())),
        }
    }

    fn carry_out_letters(&mut self, command: LetterCommand, drain: &mut Drain) {
        match command {
            LetterCommand::Get { topic, reply } => drain.answer(reply, self.queues.letter_topic(&topic)),
            LetterCommand::List { prefix, reply } => drain.answer(reply, Ok(self.queues.letter_topics(&prefix))),
            LetterCommand::Resolve { topic, at, ranges, reply } => {
                let decided = self.queues.decide_resolve(&topic, at, &ranges, &*self.logs);
                self.settle(decided, reply, drain);
            }
        }
    }

    fn create(&mut self, request: &CreateQueue, reply: Reply<QueueConfig>, drain: &mut Drain) {
        let decided = self.queues.decide_create(request, drain.now);
        let answer = decided.map(|decision| self.enact(decision, drain));
        // Topics may have come since somebody looked where the queue begins.
        let events = self.queues.decide_topics_changed(&*self.logs);
        self.enact(Decision { reply: (), events }, drain);
        drain.answer(reply, answer);
    }

    fn settle_messages(
        &mut self,
        queue: &QueueName,
        settles: &[Settle],
        reply: Reply<SettleResults>,
        drain: &mut Drain,
    ) {
        let decided = self.queues.get(queue).map(|state| {
            let decision = state.decide_settle(settles, self.queues.run(), drain.now);
            (state.config.policy.durability, decision)
        });
        let durability = decided.as_ref().map_or(Durability::Synced, |(durability, _)| *durability);
        let answer = decided.map(|(_, decision)| self.enact(decision, drain));
        drain.answer_when(durability, reply, answer);
    }

    fn open(
        &mut self,
        queue: QueueName,
        kind: ReceiverKind,
        window: Window,
        reply: Reply<QueueReceiver>,
        drain: &mut Drain,
    ) {
        let opened = self.queues.get(&queue).and_then(|state| {
            if state.receivers.len() < limits::QUEUE_RECEIVERS_MAX {
                return Ok(state.config.clone());
            }
            Err(QueueError::TooManyReceivers { queue: queue.clone(), limit: limits::QUEUE_RECEIVERS_MAX })
        });
        let receiver = opened.map(|config| {
            self.memory.next_receiver += 1;
            let id = ReceiverId(self.memory.next_receiver);
            let events = vec![Event::ReceiverOpened { queue: queue.clone(), receiver: id, kind, window }];
            self.enact(Decision { reply: (), events }, drain);
            let wake = Arc::new(Notify::new());
            self.memory.wakers.insert(id, Arc::clone(&wake));
            QueueReceiver { queue, id, config, wake, departures: Arc::clone(&self.memory.departures) }
        });
        // Should the caller be gone, its receiver is dropped with the answer, and that is a departure.
        drain.answer_when(Durability::Written, reply, receiver);
    }

    /// Takes out a receiver that is gone. It may have been closed, or its queue deleted, before.
    fn close(&mut self, queue: &QueueName, receiver: ReceiverId, departure: Departure, drain: &mut Drain) {
        self.memory.wakers.remove(&receiver);
        if let Ok(state) = self.queues.get(queue) {
            let decision = state.decide_close(receiver, departure);
            self.enact(decision, drain);
        }
    }

    fn settle<R: Send + 'static>(
        &mut self,
        decided: Result<Decision<R>, QueueError>,
        reply: Reply<R>,
        drain: &mut Drain,
    ) {
        let answer = decided.map(|decision| self.enact(decision, drain));
        drain.answer(reply, answer);
    }

    /// Applies what was decided, and puts what follows from it on the drain.
    fn enact<R>(&mut self, decision: Decision<R>, drain: &mut Drain) -> R {
        for event in &decision.events {
            drain.entries.push(event);
            self.queues.apply(event);
        }
        decision.reply
    }

    /// Sends the drain on its way to the disk, and wakes whoever may go on because of it.
    async fn conclude(&mut self, drain: Drain) {
        let Drain { entries, at_written, at_synced, is_worth_a_sync, .. } = drain;
        let (entries, entries_bytes) = entries.finish();
        self.memory.bytes_since_cut += entries_bytes;
        let is_awaited = !at_synced.is_empty();
        let appending = (!entries.is_empty()).then(|| {
            let durability = self.memory.durability(is_awaited, is_worth_a_sync);
            self.journal.begin(entries, durability)
        });
        self.memory.under_way.push(appending, at_written, at_synced);
        let mut woken: Vec<ReceiverId> = self.queues.take_wakes().into_iter().collect();
        // Another one is first each time: whoever is woken first gets what there is.
        let turn = usize::try_from(self.memory.next_delivery).unwrap_or(0);
        let first = turn.checked_rem(woken.len()).unwrap_or(0);
        woken.rotate_left(first);
        for receiver in woken {
            if let Some(wake) = self.memory.wakers.get(&receiver) {
                wake.notify_one();
            }
        }
        if self.queues.has_dying() {
            self.deaths.notify_one();
        }
        self.cut_if_long().await;
    }

    /// Replaces a journal that has grown long by the present state.
    async fn cut_if_long(&mut self) {
        if self.memory.bytes_since_cut < self.cut_bytes_min.max(CUT_SNAPSHOTS * self.memory.snapshot_bytes) {
            return;
        }
        let snapshot = self.queues.snapshot();
        self.memory.snapshot_bytes = snapshot.iter().map(entry_bytes).sum();
        self.memory.bytes_since_cut = 0;
        if let Err(error) = self.journal.replace(snapshot).await {
            // Nothing is lost: if it was the append that failed, the next one fails too, and that is heard.
            tracing::warn!(%error, "the journal of queues was not cut; it is when it has grown further");
        }
    }

    /// Refuses all calls from now on.
    fn stop(&mut self, cause: &str) {
        // The cause is there before the first caller can look for it.
        let _ = self.stop_cause.set(cause.to_owned());
        self.inbox.close();
        self.memory.wakers.values().for_each(|wake| wake.notify_one());
    }

    fn now(&self) -> Now {
        let since_start_ms = self.memory.started.elapsed().as_millis();
        let monotonic_ms = u64::try_from(since_start_ms).expect("2^64 milliseconds do not pass");
        let monotonic_ms = monotonic_ms.saturating_add(self.memory.advanced_ms());
        Now { monotonic_ms, wall_ms: self.clock.now_ms() }
    }
}

fn entry_bytes(entry: &JournalEntry) -> usize {
    entry.key.len() + entry.value.as_ref().map_or(0, bytes::Bytes::len)
}

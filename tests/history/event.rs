//! Everything a history is made of, and the recorder that many tasks share.

use super::{Anomaly, Checker};
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The number of a record among those of its history, in the order in which they were to be sent.
pub(crate) type RecordId = u32;

/// Records that were read together, one for each offset from `base` on; `None` is a record that nobody sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) base: u64,
    pub(crate) records: Vec<Option<RecordId>>,
}

impl Batch {
    /// The offset after its last record.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.records.len() as u64
    }
}

/// What a worker says about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    Ack,
    Nack,
    Release,
    Reject,
}

/// A message that came to a worker, by the clock of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivered {
    pub(crate) worker: u32,
    pub(crate) queue: u16,
    pub(crate) log: u16,
    pub(crate) offset: u64,
    pub(crate) record: Option<RecordId>,
    pub(crate) attempt: u32,
    pub(crate) heard_ms: u64,
    /// Its lease does not end by time before this; 0 = it may end at any time.
    pub(crate) kept_until_ms: u64,
}

/// A dead letter: where it stands in its topic, which message it is of, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) at: u64,
    pub(crate) log: u16,
    pub(crate) offset: u64,
    pub(crate) attempts: u32,
    pub(crate) is_rejected: bool,
    /// It was sent back, or so its broker says.
    pub(crate) is_resolved: bool,
    pub(crate) record: Option<RecordId>,
}

/// What may go from a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rule {
    /// Nothing.
    Keep,
    /// What retention takes from the beginning; so many bytes it leaves.
    Retain { bytes_min: u64 },
    /// Records whose key has a later one.
    Compact,
}

/// One thing that happened. Logs, producers, groups and streams go by numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Log `log` is this partition. What may go besides what is asked to be deleted, `rule` says.
    Log { log: u16, topic: String, partition: u32, rule: Rule },
    /// A producer, and the only topic it sends to.
    Producer { producer: u16, topic: String, idempotent: bool },
    /// A producer whose records are schedules: they come when they are due, and again after a kill at the wrong moment.
    Scheduler { producer: u16, topic: String },
    /// A producer is about to send so many records.
    Sent { producer: u16, first: RecordId, count: u32 },
    /// Records were acknowledged, the first at `offset`, the others behind it.
    Acked { first: RecordId, count: u32, log: u16, offset: u64 },
    /// Records were not acknowledged, and are not sent again. `certain`: the broker said that nothing was appended.
    Refused { first: RecordId, count: u32, certain: bool },
    /// A schedule was confirmed.
    Scheduled { record: RecordId, due_ms: i64 },
    /// The schedules that wait, asked for before the logs are read that they are delivered to.
    SchedulesListed { waiting: Vec<RecordId> },
    /// A record that an audit is about to tell of was delivered by its schedule: what it says, and when it was appended.
    CameDue { log: u16, offset: u64, record: Option<RecordId>, due_ms: i64, appended_ms: i64 },
    /// The clock is about to be set, and shows this.
    ClockSet { shown_ms: i64 },
    /// The deletion of what is before an offset is asked for.
    DeleteAsked { log: u16, before: u64 },
    /// It was confirmed; the log starts here.
    DeleteDone { log: u16, start: u64 },
    /// A stream is about to join its group.
    Opened { stream: u32, group: u16 },
    /// A stream was given a log to read.
    Assigned { stream: u32, log: u16, generation: u64, offset: u64 },
    /// A stream was told to give a log up.
    Revoked { stream: u32, log: u16 },
    /// Records came to a stream.
    Polled { stream: u32, log: u16, batches: Vec<Batch> },
    /// A commit is asked for, or may be made by the client on its own from now on.
    CommitAsked { group: u16, log: u16, offset: u64 },
    /// A commit was confirmed.
    CommitDone { group: u16, log: u16, offset: u64 },
    /// The topic shall exist, or exist no more.
    TopicAsked { topic: String, exists: bool },
    /// That was confirmed.
    TopicDone { topic: String, exists: bool },
    /// Every connection is cut, after requests had reached the broker and before they were answered. The broker goes on.
    Cut,
    /// Nothing passes between the broker and some of its clients, and they do not know. Their leases may end.
    Frozen,
    /// The broker is gone, and the next one was not started.
    Down,
    /// All there is in a log, read from its start to its end.
    Audited { log: u16, start: u64, end: u64, bytes: u64, batches: Vec<Batch> },
    /// A log that should serve does not.
    Offline { log: u16, why: String },
    /// The committed offsets of a group are about to be asked for.
    CommitsAsked { group: u16 },
    /// What they are.
    Committed { group: u16, log: u16, offset: Option<u64> },
    /// A queue, from the first record of its logs on: of all of them, or of those with one of these keys.
    Queue { queue: u16, name: String, attempts_max: u32, keeps_order: bool, only_keys: Vec<u32> },
    /// Somebody begins to take messages: by a stream, whose leases end with it, or by calls, whose leases end by time.
    WorkerOpened { worker: u32, is_stream: bool },
    /// It is about to end, or has ended.
    WorkerClosed { worker: u32 },
    /// A message came to a worker.
    Received(Delivered),
    /// A worker is about to say something about a message.
    SettleAsked { worker: u32, queue: u16, log: u16, offset: u64, attempt: u32, said: Said },
    /// That was confirmed.
    SettleDone { queue: u16, log: u16, offset: u64, attempt: u32, said: Said },
    /// Settlements are said once more: nothing was answered, or not heard. Refused now, they may have been done before.
    SettleRepeated { count: u32 },
    /// It was refused: it did not happen.
    SettleRefused { queue: u16, log: u16, offset: u64, said: Said },
    /// A queue is about to be asked how far it is.
    QueueAsked { queue: u16 },
    /// Everything below one offset is done. Below another one everything was handed out or passed over, and so many
    /// messages of that are not done: they are out, wait, or are on their way to the dead letters.
    QueueAudited { queue: u16, log: u16, done_below: u64, frontier: u64, open: u64 },
    /// All dead letters of a queue, read after it was audited.
    DeadLetters { queue: u16, letters: Vec<Letter> },
    /// Dead letters of a queue are about to be sent back.
    RedriveAsked { queue: u16 },
    /// The letter at an offset of the dead letter topic was sent there.
    RedriveTold { queue: u16, at: u64, log: u16, offset: u64 },
    /// The call has ended, and nothing of it is in doubt.
    RedriveDone { queue: u16 },
    /// A record that an audit is about to tell of says that it was this letter of this queue.
    CameBack { log: u16, offset: u64, record: Option<RecordId>, queue: u16, at: u64 },
    /// Nothing is sent any more, and nobody has anything left to do: all of a log must be done.
    Drained { queue: u16, log: u16, end: u64 },
    /// The topics there are.
    TopicsAudited { topics: Vec<String> },
    /// Every record sent was acknowledged or refused, and every log audited after that.
    Finished,
}

/// A history in the making, and its checker, which is always as far as the last look.
#[derive(Debug)]
pub(crate) struct Recorder {
    begun: Instant,
    history: Mutex<History>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { begun: Instant::now(), history: Mutex::default() }
    }
}

#[derive(Debug, Default)]
struct History {
    events: Vec<Event>,
    records: RecordId,
    checker: Checker,
    checked: usize,
}

impl Recorder {
    /// The clock of the history.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).expect("a test ends")
    }

    /// Adds one event.
    pub(crate) fn record(&self, event: Event) {
        self.lock().events.push(event);
    }

    /// Adds that a producer sends the next `count` records. Gives the number of the first.
    pub(crate) fn sent(&self, producer: u16, count: u32) -> RecordId {
        let mut history = self.lock();
        let first = history.records;
        history.records += count;
        history.events.push(Event::Sent { producer, first, count });
        first
    }

    /// Judges what was added since the last look. Gives all that is wrong so far.
    pub(crate) fn look(&self) -> Vec<Anomaly> {
        let History { events, checker, checked, .. } = &mut *self.lock();
        for event in &events[*checked..] {
            checker.take(event);
        }
        *checked = events.len();
        checker.anomalies().to_vec()
    }

    /// Writes all of it to a file, one event a line.
    pub(crate) fn dump(&self, path: &Path) -> std::io::Result<PathBuf> {
        dump(&self.lock().events, path)
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> super::checker::Counts {
        self.lock().checker.counts()
    }

    /// The same of queues.
    pub(crate) fn queue_counts(&self) -> super::checker::QueueCounts {
        self.lock().checker.queue_counts()
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a history, one event a line.
pub(crate) fn dump(events: &[Event], path: &Path) -> std::io::Result<PathBuf> {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let mut file = BufWriter::new(file);
    for event in events {
        serde_json::to_writer(&mut file, event)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(path.to_owned())
}

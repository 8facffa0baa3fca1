//! What a history cannot show if the broker keeps its promises.

use super::RecordId;

/// A broken promise. Logs are named by topic and partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Anomaly {
    #[error("lost: record {record:?} was acknowledged at {log} offset {offset}, and is not there")]
    Lost { log: String, offset: u64, record: Option<RecordId> },
    #[error("dirty read: a reader saw record {record:?} at {log} offset {offset}, which is gone later, or another one")]
    DirtyRead { log: String, offset: u64, record: Option<RecordId> },
    #[error("two answers: {log} offset {offset} is record {one}, and it is record {other}")]
    Inconsistent { log: String, offset: u64, one: RecordId, other: RecordId },
    #[error("invented: what is read at {log} offset {offset} was never sent there, or not with these bytes")]
    Invented { log: String, offset: u64 },
    #[error("refused and there: record {record} at {log} offset {offset} was refused as not appended")]
    RefusedAndThere { log: String, offset: u64, record: RecordId },
    #[error("duplicated: record {record} is there again at {log} offset {offset}: {copies} copies, {most} explained")]
    Duplicated { log: String, offset: u64, record: RecordId, copies: u32, most: u32 },
    #[error("reordered: record {record} at {log} offset {offset} stands behind {behind}, which was sent later")]
    Reordered { log: String, offset: u64, record: RecordId, behind: RecordId },
    #[error("gap: in {log} offset {expected} should come next, offset {found} does")]
    Gap { log: String, expected: u64, found: u64 },
    #[error("start moved: {log} starts at {start}; {why}")]
    StartMoved { log: String, start: u64, why: String },
    #[error("offline: {log} does not serve: {why}")]
    Offline { log: String, why: String },
    #[error("skipped: stream {stream} was to read {log} from {expected} on and got {found}; no deletion explains it")]
    Skipped { stream: u32, log: String, expected: u64, found: u64 },
    #[error("read twice: stream {stream} was past {expected} in {log} and got offset {found} again")]
    ReadTwice { stream: u32, log: String, expected: u64, found: u64 },
    #[error("not assigned: stream {stream} got records of {log}, which is not its own")]
    NotAssigned { stream: u32, log: String },
    #[error("two owners: in generation {generation} group {group} reads {log} with stream {one} and stream {other}")]
    TwoOwners { group: u16, log: String, generation: u64, one: u32, other: u32 },
    #[error("generation went back: group {group} was in {before} and gives out {log} in {generation}")]
    GenerationWentBack { group: u16, log: String, before: u64, generation: u64 },
    #[error("commit went back: group {group} had committed {committed} in {log}, and is at {found:?}")]
    CommitWentBack { group: u16, log: String, committed: u64, found: Option<u64> },
    #[error("commit invented: group {group} is at {found} in {log}; it never asked for more than {asked}")]
    CommitInvented { group: u16, log: String, asked: u64, found: u64 },
    #[error("topic lost: {topic} was created and is not there")]
    TopicLost { topic: String },
    #[error("topic came back: {topic} was deleted, or never asked for, and is there")]
    TopicCameBack { topic: String },
    #[error(
        "message lost: queue {queue} is done with {log} offset {offset}; nobody acked it, and it has no dead letter"
    )]
    MessageLost { queue: String, log: String, offset: u64 },
    #[error("two leases: worker {one} of queue {queue} has {log} offset {offset}, and worker {other} gets it too")]
    TwoLeases { queue: String, log: String, offset: u64, one: u32, other: u32 },
    #[error("delivered when done: queue {queue} hands out {log} offset {offset} (attempt {attempt}), which is done")]
    DeliveredWhenDone { queue: String, log: String, offset: u64, attempt: u32 },
    #[error(
        "ack of an old lease: queue {queue} confirmed attempt {attempt} of {log} offset {offset}; there was a later one"
    )]
    AckOfOldLease { queue: String, log: String, offset: u64, attempt: u32 },
    #[error("acked and dead: {log} offset {offset} has a dead letter, and queue {queue} confirmed its ack")]
    AckedAndDead { queue: String, log: String, offset: u64 },
    #[error("attempt repeated: queue {queue} hands out {log} offset {offset} a second time as attempt {attempt}")]
    AttemptRepeated { queue: String, log: String, offset: u64, attempt: u32 },
    #[error(
        "attempts lost: {log} offset {offset} had {before} attempts before a kill; queue {queue} says {attempt} after it"
    )]
    AttemptsLost { queue: String, log: String, offset: u64, before: u32, attempt: u32 },
    #[error("too many attempts: queue {queue} hands out {log} offset {offset} for the {attempt}th time")]
    TooManyAttempts { queue: String, log: String, offset: u64, attempt: u32 },
    #[error("overtaken: queue {queue} handed out {log} offset {by} before offset {offset} of the same key was done")]
    Overtaken { queue: String, log: String, offset: u64, by: u64 },
    #[error("letter invented: queue {queue} wrote a dead letter of {log} offset {offset}; {why}")]
    LetterInvented { queue: String, log: String, offset: u64, why: String },
    #[error("filter ignored: queue {queue} hands out {log} offset {offset}, which does not match")]
    FilterIgnored { queue: String, log: String, offset: u64 },
    #[error(
        "unaccounted: queue {queue} says that {done} messages of {log} are done; at least {least} are, {most} at most"
    )]
    Unaccounted { queue: String, log: String, done: u64, least: u64, most: u64 },
    #[error("letter lost: the dead letter of queue {queue} at {at} is resolved or was told of; {why}")]
    LetterLost { queue: u16, at: u64, why: String },
    #[error("letter open again: the dead letter of queue {queue} at {at} was told of as sent back, and is open")]
    LetterOpenAgain { queue: u16, at: u64 },
    #[error("redriven again: the dead letter of queue {queue} at {at} is at {log} offset {offset} too; {why}")]
    RedrivenAgain { queue: u16, at: u64, log: String, offset: u64, why: String },
    #[error("redrive invented: {log} offset {offset} says that it was the dead letter of queue {queue} at {at}; {why}")]
    RedriveInvented { queue: u16, at: u64, log: String, offset: u64, why: String },
    #[error("schedule lost: record {record} was to come at a time; it does not wait and is nowhere")]
    ScheduleLost { record: RecordId },
    #[error("early: record {record} is at {log} offset {offset} since {appended_ms}; it is due at {due_ms}")]
    Early { record: RecordId, log: String, offset: u64, due_ms: i64, appended_ms: i64 },
    #[error("scheduled again: record {record} is at {log} offset {offset} too: {copies} copies after {kills} kills")]
    ScheduledAgain { record: RecordId, log: String, offset: u64, copies: usize, kills: u32 },
    #[error("done went back: queue {queue} was done below {before} in {log}, and is below {done_below}")]
    DoneWentBack { queue: String, log: String, before: u64, done_below: u64 },
    #[error("not done: queue {queue} is done below {done} in {log}, which ends at {end}, and nothing is left to do")]
    NotDone { queue: String, log: String, done: u64, end: u64 },
    #[error("no answer: record {record} was neither acknowledged nor refused")]
    NoAnswer { record: RecordId },
}

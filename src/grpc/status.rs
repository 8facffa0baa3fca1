//! The one table from broker errors to gRPC codes and reasons. `docs/errors.md` is its description, and a test holds
//! the two together.
//!
//! An error that ends a call becomes a [`Status`] with `google.rpc.ErrorInfo` (and `RetryInfo` where waiting helps); an
//! error about one part of a call becomes a [`proto::Error`] with the same facts.

use crate::broker::{
    BatchRefusal, BrokerError, CommitError, GroupError, ProducerError, QueueError, RequestError, ScheduleError,
    SettleError, StorageError,
};
use crate::filter::FilterError;
use crate::proto;
use crate::topic::options::OptionError;
use crate::types::record_set::RecordSetError;
use crate::types::{Offset, TopicPartition};
use std::collections::HashMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every reason.
pub(super) const DOMAIN: &str = "millstream";

/// What the caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Change the request, or something it depends on; nothing was done.
    Fix,
    /// Send it again after this time; nothing was done.
    Retry(Duration),
    /// Find out whether it was done; it may have been.
    Unknown,
}

/// One row of the table.
struct Row {
    code: Code,
    reason: &'static str,
    next: Next,
    facts: Vec<(&'static str, String)>,
}

/// The constant that names an error.
pub(super) fn reason(error: &BrokerError) -> &'static str {
    row(error).reason
}

/// The status that ends a call.
pub(super) fn status(error: &BrokerError) -> Status {
    let row = row(error);
    let mut details = ErrorDetails::new();
    details.set_error_info(row.reason, DOMAIN, row.metadata());
    if let Next::Retry(after) = row.next {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(row.code, error.to_string(), details)
}

/// The error about one part of a call.
pub(super) fn part_error(error: &BrokerError) -> proto::Error {
    let row = row(error);
    let retry_after_ms = match row.next {
        Next::Retry(after) => u32::try_from(after.as_millis()).unwrap_or(u32::MAX),
        Next::Fix | Next::Unknown => 0,
    };
    proto::Error {
        code: row.code as i32,
        reason: row.reason.into(),
        message: error.to_string(),
        retryable: matches!(row.next, Next::Retry(_)),
        retry_after_ms,
        metadata: row.metadata(),
    }
}

impl Row {
    fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason, next: Next::Fix, facts: Vec::new() }
    }

    fn next(mut self, next: Next) -> Self {
        self.next = next;
        self
    }

    fn fact(mut self, name: &'static str, value: impl std::fmt::Display) -> Self {
        self.facts.push((name, value.to_string()));
        self
    }

    fn at(self, at: &TopicPartition) -> Self {
        self.fact("topic", &at.topic).fact("partition", at.partition)
    }

    fn range(self, offset: Offset, earliest: Offset, latest: Offset) -> Self {
        self.fact("offset", offset).fact("earliest_offset", earliest).fact("latest_offset", latest)
    }

    fn metadata(&self) -> HashMap<String, String> {
        let bits = [
            ("retryable", matches!(self.next, Next::Retry(_))),
            ("no_side_effects", !matches!(self.next, Next::Unknown)),
        ];
        let bits = bits.map(|(name, value)| (name.to_owned(), value.to_string()));
        self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).chain(bits).collect()
    }
}

const SOON: Next = Next::Retry(Duration::from_millis(200));
const LATER: Next = Next::Retry(Duration::from_secs(2));

fn row(error: &BrokerError) -> Row {
    use BrokerError as E;
    match error {
        E::InvalidArgument { field, .. } => Row::new(Code::InvalidArgument, "INVALID_ARGUMENT").fact("field", field),
        E::Filter(error) => filter_row(error),
        E::InvalidTopicName(_) => Row::new(Code::InvalidArgument, "INVALID_NAME"),
        E::InvalidOption(error) => option_row(error),
        E::TopicNotFound { topic } => Row::new(Code::NotFound, "TOPIC_NOT_FOUND").fact("topic", topic),
        E::TopicExists { topic } => Row::new(Code::AlreadyExists, "TOPIC_ALREADY_EXISTS").fact("topic", topic),
        E::InternalTopic { topic } => Row::new(Code::PermissionDenied, "TOPIC_INTERNAL").fact("topic", topic),
        E::NotCompacted { topic } => Row::new(Code::FailedPrecondition, "TOPIC_NOT_COMPACTED").fact("topic", topic),
        E::PartitionNotFound { at, partitions } => {
            Row::new(Code::NotFound, "PARTITION_NOT_FOUND").at(at).fact("partitions", partitions)
        }
        E::PartitionOffline { at, cause: StorageError::Corrupt { .. } } => {
            Row::new(Code::DataLoss, "PARTITION_OFFLINE").at(at)
        }
        E::PartitionOffline { at, .. } => Row::new(Code::Unavailable, "PARTITION_OFFLINE").at(at),
        E::CoordinatorOffline { at, .. } => Row::new(Code::Unavailable, "COORDINATOR_OFFLINE").at(at),
        E::InvalidRecords { topic, error } => records_row(error).fact("topic", topic),
        E::BatchTooLarge { topic, bytes, limit_bytes } => Row::new(Code::InvalidArgument, "BATCH_TOO_LARGE")
            .fact("topic", topic)
            .fact("bytes", bytes)
            .fact("limit_bytes", limit_bytes),
        E::OffsetOutOfRange { at, offset, earliest, latest } => {
            Row::new(Code::OutOfRange, "OFFSET_OUT_OF_RANGE").at(at).range(*offset, *earliest, *latest)
        }
        E::DiskFull { at, .. } => Row::new(Code::ResourceExhausted, "DISK_FULL").at(at).next(LATER),
        E::DataLoss { at, error: StorageError::Damaged { first_offset, next_offset, .. } } => {
            Row::new(Code::DataLoss, "DATA_CORRUPT")
                .at(at)
                .fact("first_offset", first_offset)
                .fact("next_offset", next_offset)
        }
        E::DiskLow { at, free_bytes, free_bytes_min } => Row::new(Code::ResourceExhausted, "DISK_FULL")
            .at(at)
            .fact("free_bytes", free_bytes)
            .fact("limit_bytes", free_bytes_min)
            .next(LATER),
        E::DataLoss { at, .. } => Row::new(Code::DataLoss, "DATA_CORRUPT").at(at),
        E::Storage { at, error: StorageError::Exhausted { limit, .. } } => {
            Row::new(Code::ResourceExhausted, "FILES_EXHAUSTED").at(at).fact("limit", limit).next(LATER)
        }
        E::Storage { at, .. } => Row::new(Code::Internal, "STORAGE_FAILED").at(at),
        E::Files(StorageError::Full { .. }) => Row::new(Code::ResourceExhausted, "DISK_FULL").next(LATER),
        E::Files(StorageError::Exhausted { limit, .. }) => {
            Row::new(Code::ResourceExhausted, "FILES_EXHAUSTED").fact("limit", limit).next(LATER)
        }
        E::Files(_) => Row::new(Code::Internal, "STORAGE_FAILED"),
        E::OutcomeUnknown { at, .. } => Row::new(Code::Unknown, "OUTCOME_UNKNOWN").at(at).next(Next::Unknown),
        E::Overloaded { limit_bytes } => {
            Row::new(Code::ResourceExhausted, "OVERLOADED").fact("limit_bytes", limit_bytes).next(SOON)
        }
        E::Batch { at, refusal } => batch_row(refusal).at(at),
        E::Producer(error) => producer_row(error),
        E::ClockNotManual => Row::new(Code::FailedPrecondition, "CLOCK_NOT_MANUAL"),
        E::Draining => Row::new(Code::Unavailable, "DRAINING").next(LATER),
        E::LetterWithoutOrigin { at, offset } => letter_row(at, *offset),
        E::LettersBusy { topic } => Row::new(Code::Aborted, "LETTERS_BUSY").fact("topic", topic).next(LATER),
        E::MemberRemoved { .. } => Row::new(Code::Aborted, "MEMBER_REMOVED"),
        E::MemberFenced { instance_id } => Row::new(Code::Aborted, "MEMBER_FENCED").fact("instance_id", instance_id),
        E::MemberEvicted => Row::new(Code::Aborted, "MEMBER_EVICTED"),
        E::Group(error) => group_row(error),
        E::Commit(error) => commit_row(error),
        E::Queue(error) => queue_row(error),
        E::Settle(error) => settle_row(error),
        E::Schedule(error) => schedule_row(error),
        E::Request(error) => request_row(error),
    }
}

fn letter_row(at: &TopicPartition, offset: Offset) -> Row {
    Row::new(Code::FailedPrecondition, "LETTER_WITHOUT_ORIGIN").at(at).fact("offset", offset)
}

fn records_row(error: &RecordSetError) -> Row {
    match error {
        RecordSetError::Malformed { record, position, .. } => {
            Row::new(Code::InvalidArgument, "RECORDS_MALFORMED").fact("record", record).fact("position", position)
        }
        RecordSetError::RecordTooLarge { record, bytes, limit_bytes } => {
            Row::new(Code::InvalidArgument, "RECORD_TOO_LARGE")
                .fact("record", record)
                .fact("bytes", bytes)
                .fact("limit_bytes", limit_bytes)
        }
        RecordSetError::KeyMissing { record } => {
            Row::new(Code::InvalidArgument, "RECORD_KEY_MISSING").fact("record", record)
        }
        RecordSetError::Empty => Row::new(Code::InvalidArgument, "RECORDS_EMPTY"),
    }
}

fn option_row(error: &OptionError) -> Row {
    let row = Row::new(Code::InvalidArgument, "INVALID_OPTION").fact("option", error.option);
    row.fact("value", error.value).fact("allowed", &error.allowed)
}

fn filter_row(error: &FilterError) -> Row {
    let row = Row::new(Code::InvalidArgument, "INVALID_ARGUMENT").fact("field", "filter");
    error.position().into_iter().fold(row, |row, position| row.fact("position", position))
}

fn batch_row(refusal: &BatchRefusal) -> Row {
    use BatchRefusal as R;
    match refusal {
        R::OutOfSequence { producer, expected, got } => Row::new(Code::FailedPrecondition, "OUT_OF_SEQUENCE")
            .fact("producer_id", producer)
            .fact("expected_sequence", expected)
            .fact("base_sequence", got),
        R::ProducerFenced { producer, epoch, current } => Row::new(Code::Aborted, "PRODUCER_FENCED")
            .fact("producer_id", producer)
            .fact("producer_epoch", epoch)
            .fact("current_epoch", current),
        R::ProducerUnknown { producer, got } => Row::new(Code::FailedPrecondition, "PRODUCER_UNKNOWN")
            .fact("producer_id", producer)
            .fact("base_sequence", got),
        R::OffsetMismatch { expected, log_end } => Row::new(Code::FailedPrecondition, "OFFSET_MISMATCH")
            .fact("expected_offset", expected)
            .fact("log_end_offset", log_end),
        R::Fenced { current, .. } => Row::new(Code::Aborted, "FENCED").fact("current_token", current),
        R::DedupFull { limit, window_ms } => Row::new(Code::ResourceExhausted, "DEDUP_FULL")
            .fact("limit", limit)
            .fact("dedup_window_ms", window_ms)
            .next(LATER),
        R::Storage(_) => Row::new(Code::Internal, "STORAGE_FAILED"),
    }
}

fn producer_row(error: &ProducerError) -> Row {
    use ProducerError as E;
    match error {
        E::Name(_) => Row::new(Code::InvalidArgument, "INVALID_NAME"),
        E::TooManyNames { limit, .. } => Row::new(Code::ResourceExhausted, "LIMIT_REACHED").fact("limit", limit),
        E::Fenced { producer, epoch, current } => {
            let row =
                Row::new(Code::Aborted, "PRODUCER_FENCED").fact("producer_id", producer).fact("producer_epoch", epoch);
            current.iter().fold(row, |row, current| row.fact("current_epoch", current))
        }
        E::NeverGiven { producer, epoch } => Row::new(Code::FailedPrecondition, "PRODUCER_UNKNOWN")
            .fact("producer_id", producer)
            .fact("producer_epoch", epoch),
        E::Corrupt { key, .. } => Row::new(Code::DataLoss, "DATA_CORRUPT").fact("key", key),
        E::Unavailable { .. } => Row::new(Code::Unavailable, "PRODUCERS_UNAVAILABLE").next(LATER),
    }
}

fn group_row(error: &GroupError) -> Row {
    use GroupError as E;
    match error {
        E::Name(_) => Row::new(Code::InvalidArgument, "INVALID_NAME"),
        E::NotFound { group } => Row::new(Code::NotFound, "GROUP_NOT_FOUND").fact("group", group),
        E::UnknownMember { group, member } => {
            Row::new(Code::Aborted, "MEMBER_UNKNOWN").fact("group", group).fact("member", member)
        }
        E::NoSuchMember { group, member } => {
            Row::new(Code::NotFound, "MEMBER_NOT_FOUND").fact("group", group).fact("member", member)
        }
        E::HasMembers { group, members } => {
            Row::new(Code::FailedPrecondition, "GROUP_HAS_MEMBERS").fact("group", group).fact("members", members)
        }
        E::FilterDiffers { group, filter } => {
            Row::new(Code::FailedPrecondition, "FILTER_DIFFERS").fact("group", group).fact("filter", filter)
        }
        E::HasOffsets { group, offsets } => {
            Row::new(Code::AlreadyExists, "GROUP_ALREADY_EXISTS").fact("group", group).fact("offsets", offsets)
        }
        E::UnknownTopic { group, topic } => {
            Row::new(Code::NotFound, "TOPIC_NOT_FOUND").fact("group", group).fact("topic", topic)
        }
        E::TopicCount { group, limit, .. }
        | E::PatternCount { group, limit, .. }
        | E::TooManyOffsets { group, limit, .. } => {
            Row::new(Code::InvalidArgument, "INVALID_ARGUMENT").fact("group", group).fact("limit", limit)
        }
        E::ClientIdTooLong { group, limit_bytes, .. } => {
            Row::new(Code::InvalidArgument, "INVALID_ARGUMENT").fact("group", group).fact("limit_bytes", limit_bytes)
        }
        E::InstanceIdLength { group, limit_bytes, .. } => Row::new(Code::InvalidArgument, "INVALID_ARGUMENT")
            .fact("field", "instance_id")
            .fact("group", group)
            .fact("limit_bytes", limit_bytes),
        E::SessionTimeout { group, .. } => {
            Row::new(Code::InvalidArgument, "INVALID_ARGUMENT").fact("field", "session_timeout_ms").fact("group", group)
        }
        E::TooManyGroups { group, limit } | E::TooManyMembers { group, limit } => {
            Row::new(Code::ResourceExhausted, "LIMIT_REACHED").fact("group", group).fact("limit", limit)
        }
        E::Corrupt { key, .. } => Row::new(Code::DataLoss, "DATA_CORRUPT").fact("key", key),
        E::Stopped { .. } => Row::new(Code::Unavailable, "GROUPS_STOPPED").next(Next::Unknown),
    }
}

fn commit_row(error: &CommitError) -> Row {
    use CommitError as E;
    match error {
        E::UnknownTopic { group, topic } => {
            Row::new(Code::NotFound, "TOPIC_NOT_FOUND").fact("group", group).fact("topic", topic)
        }
        E::UnknownPartition { group, partition, partitions } => Row::new(Code::NotFound, "PARTITION_NOT_FOUND")
            .fact("group", group)
            .at(partition)
            .fact("partitions", partitions),
        E::MetadataTooLong { group, partition, bytes, limit_bytes } => {
            Row::new(Code::InvalidArgument, "METADATA_TOO_LONG")
                .fact("group", group)
                .at(partition)
                .fact("bytes", bytes)
                .fact("limit_bytes", limit_bytes)
        }
        E::NotOwner { group, member, partition } => {
            Row::new(Code::Aborted, "NOT_OWNER").fact("group", group).fact("member", member).at(partition)
        }
        E::StaleGeneration { group, member, partition, generation, current, .. } => {
            Row::new(Code::Aborted, "STALE_GENERATION")
                .fact("group", group)
                .fact("member", member)
                .at(partition)
                .fact("generation", generation)
                .fact("current_generation", current)
        }
        E::BeforeSeek { group, member, partition, sought_in } => Row::new(Code::Aborted, "STALE_GENERATION")
            .fact("group", group)
            .fact("member", member)
            .at(partition)
            .fact("current_generation", sought_in),
        E::BelowCommitted { group, partition, offset, committed } => {
            Row::new(Code::FailedPrecondition, "COMMIT_BACKWARDS")
                .fact("group", group)
                .at(partition)
                .fact("offset", offset)
                .fact("committed_offset", committed)
        }
        E::OutOfRange { group, partition, offset, log_start, high_watermark } => {
            Row::new(Code::OutOfRange, "OFFSET_OUT_OF_RANGE").fact("group", group).at(partition).range(
                *offset,
                *log_start,
                *high_watermark,
            )
        }
    }
}

fn queue_row(error: &QueueError) -> Row {
    use QueueError as E;
    match error {
        E::Name(_) => Row::new(Code::InvalidArgument, "INVALID_NAME"),
        E::NotFound { queue } => Row::new(Code::NotFound, "QUEUE_NOT_FOUND").fact("queue", queue),
        E::Exists { queue } => Row::new(Code::AlreadyExists, "QUEUE_ALREADY_EXISTS").fact("queue", queue),
        E::Policy { field, .. } => Row::new(Code::InvalidArgument, "INVALID_ARGUMENT").fact("field", field),
        E::TooManyQueues { queue, limit } | E::TooManyReceivers { queue, limit } => {
            Row::new(Code::ResourceExhausted, "LIMIT_REACHED").fact("queue", queue).fact("limit", limit)
        }
        E::ReceiverOver { queue } => Row::new(Code::Aborted, "RECEIVER_OVER").fact("queue", queue),
        E::NotDeadLetters { topic } => Row::new(Code::FailedPrecondition, "NOT_DEAD_LETTER_TOPIC").fact("topic", topic),
        E::TooManyRanges { topic, partition, limit, half } => Row::new(Code::ResourceExhausted, "LETTERS_SCATTERED")
            .fact("topic", topic)
            .fact("partition", partition)
            .fact("limit", limit)
            .fact("offset", half),
        E::Corrupt { key, .. } => Row::new(Code::DataLoss, "DATA_CORRUPT").fact("key", key),
        E::Stopped { .. } => Row::new(Code::Unavailable, "QUEUES_STOPPED").next(Next::Unknown),
    }
}

fn settle_row(error: &SettleError) -> Row {
    use SettleError as E;
    match error {
        E::Foreign { queue } => Row::new(Code::InvalidArgument, "LEASE_UNKNOWN").fact("queue", queue),
        E::Stale { queue, topic, partition, offset, attempt } => Row::new(Code::FailedPrecondition, "LEASE_OVER")
            .fact("queue", queue)
            .fact("topic", topic)
            .fact("partition", partition)
            .fact("offset", offset)
            .fact("attempt", attempt),
        E::NoDeadLetterTopic { queue } => {
            Row::new(Code::FailedPrecondition, "NO_DEAD_LETTER_TOPIC").fact("queue", queue)
        }
    }
}

fn schedule_row(error: &ScheduleError) -> Row {
    use ScheduleError as E;
    match error {
        E::Id(_) => Row::new(Code::InvalidArgument, "INVALID_NAME"),
        E::NotFound { id } => Row::new(Code::NotFound, "SCHEDULE_NOT_FOUND").fact("schedule", id),
        E::Exists { id } => Row::new(Code::AlreadyExists, "SCHEDULE_ALREADY_EXISTS").fact("schedule", id),
        E::UnderWay { id } => Row::new(Code::Aborted, "SCHEDULE_UNDER_WAY").fact("schedule", id).next(SOON),
        E::Invalid { field, .. } => Row::new(Code::InvalidArgument, "INVALID_ARGUMENT").fact("field", field),
        E::TooMany { limit } => Row::new(Code::ResourceExhausted, "LIMIT_REACHED").fact("limit", limit),
        E::Refused { .. } => Row::new(Code::ResourceExhausted, "DISK_FULL").next(LATER),
        E::Corrupt { key, .. } => Row::new(Code::DataLoss, "DATA_CORRUPT").fact("key", key),
        E::Stopped { .. } => Row::new(Code::Unavailable, "SCHEDULES_STOPPED").next(Next::Unknown),
    }
}

/// What ends a wait says that something was done: the request is in its log.
fn request_row(error: &RequestError) -> Row {
    use RequestError as E;
    match error {
        E::TooManyWaiting { limit } => {
            Row::new(Code::ResourceExhausted, "LIMIT_REACHED").fact("limit", limit).next(LATER)
        }
        E::TimedOut { at, offset, timeout_ms } => Row::new(Code::DeadlineExceeded, "REQUEST_TIMED_OUT")
            .at(at)
            .fact("offset", offset)
            .fact("timeout_ms", timeout_ms)
            .next(Next::Unknown),
        E::Draining { at, offset } => {
            Row::new(Code::Unavailable, "DRAINING").at(at).fact("offset", offset).next(Next::Unknown)
        }
        E::Repeated { at, offset } => Row::new(Code::AlreadyExists, "REQUEST_REPEATED").at(at).fact("offset", offset),
        E::TokenUnknown => Row::new(Code::InvalidArgument, "REPLY_TOKEN_UNKNOWN"),
        E::NotAwaited { cause } => Row::new(Code::NotFound, "REPLY_NOT_AWAITED").fact("cause", cause.fact()),
        E::AlreadyGiven => Row::new(Code::AlreadyExists, "REPLY_ALREADY_GIVEN"),
        E::TooLarge { bytes, limit_bytes } => {
            Row::new(Code::InvalidArgument, "REPLY_TOO_LARGE").fact("bytes", bytes).fact("limit_bytes", limit_bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reason of the table is described, and nothing else is.
    #[test]
    fn every_reason_is_documented() {
        let table = include_str!("status.rs");
        let source = &table[..table.find("#[cfg(test)]").expect("this line")];
        let is_reason = |word: &&str| word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        let mut used: Vec<_> = source.split('"').filter(is_reason).collect();
        used.sort_unstable();
        used.dedup();
        let documented = include_str!("../../docs/errors.md");
        let mut described: Vec<_> = documented
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .filter(is_reason)
            .collect();
        described.sort_unstable();
        described.dedup();
        assert_eq!(used, described);
    }

    #[test]
    fn a_status_carries_its_facts() {
        let at = TopicPartition { topic: crate::types::TopicName::new("orders").expect("valid"), partition: 2 };
        let (offset, earliest, latest) = (Offset(5), Offset(10), Offset(20));
        let status = status(&BrokerError::OffsetOutOfRange { at, offset, earliest, latest });
        assert_eq!(status.code(), Code::OutOfRange);
        let info = status.get_details_error_info().expect("every status has one");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("OFFSET_OUT_OF_RANGE", "millstream"));
        for (name, value) in [
            ("topic", "orders"),
            ("partition", "2"),
            ("earliest_offset", "10"),
            ("latest_offset", "20"),
            ("retryable", "false"),
        ] {
            assert_eq!(info.metadata[name], value, "{name}");
        }
    }
}

//! Every bound of the broker in one place, with its unit, and the relations that must hold between them.
//!
//! Bounds an operator may change are defaults in [`crate::config`] and options of a topic; those here hold always.

/// Most partitions of one topic.
pub const PARTITIONS_MAX: u32 = 10_000;

/// Smallest and largest `record_bytes_max` and `batch_bytes_max` a topic may have.
pub const BATCH_BYTES_LIMIT_MIN: u32 = 1024;
/// See [`BATCH_BYTES_LIMIT_MIN`].
pub const BATCH_BYTES_LIMIT_MAX: u32 = 8 << 20;

/// Largest request message that is decoded at all: the largest batch, its topic name and framing.
pub const REQUEST_BYTES_MAX: u32 = BATCH_BYTES_LIMIT_MAX + (64 << 10);

/// Smallest and largest `segment_bytes` of a topic. Positions in a segment are 32-bit.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// See [`SEGMENT_BYTES_MIN`].
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Shortest retention time and segment age, in milliseconds.
pub const AGE_MS_MIN: u64 = 1_000;

/// Appends of clients leave at least this much of the disk free: committed offsets, checkpoints and the catalog are
/// written there when the disk is full for everyone else, and without them no space could be freed.
pub const DISK_RESERVE_BYTES: u64 = 8 << 20;

/// Most keys that one pass of compaction holds in memory, which takes at most about 80 MB; there is one pass at a time. A
/// log with more keys takes several passes.
pub const COMPACTION_KEYS_MAX: usize = 1_800_000;

/// Compaction in the background works through no more than this in a second, so that a disk has time for others.
pub const COMPACTION_BYTES_PER_SECOND: u64 = 64 << 20;
/// Most memory that indexes of sealed segments take while they are open.
pub const OPEN_INDEX_BYTES_MAX: usize = 256 << 20;
/// The checkpoint of a log follows the synced end of its active segment in steps of at least this: a start after a crash
/// verifies not much more, and storing it (two small syncs) costs nothing beside writing so much.
pub const CHECKPOINT_BYTES: u64 = 16 << 20;

/// How fast a scrub reads when it is asked for and the configuration has it off.
pub const SCRUB_BYTES_PER_SECOND_DEFAULT: u64 = 8 << 20;

/// Measurements of the lag of a group that may wait for the disk at the same time. Each takes a thread while it does.
pub const LAG_MEASUREMENTS_MAX: usize = 8;

/// Deletions of records that may wait for the disk at the same time. Each takes a thread while it does.
pub const DELETIONS_MAX: usize = 16;

/// Bytes of a fetch reply when the client does not say, and the most it may ask for.
pub const FETCH_BYTES_DEFAULT: u32 = 1 << 20;
/// See [`FETCH_BYTES_DEFAULT`].
pub const FETCH_BYTES_MAX: u32 = 64 << 20;

/// Longest time a fetch may wait, in milliseconds.
pub const FETCH_WAIT_MS_MAX: u32 = 60_000;

/// Most partitions in one fetch or list-offsets request.
pub const FETCH_POSITIONS_MAX: usize = 1_000;

/// Bytes of one subscribe message when the client does not say, and the most it may ask for.
pub const SUBSCRIBE_MESSAGE_BYTES_DEFAULT: u32 = 256 << 10;
/// See [`SUBSCRIBE_MESSAGE_BYTES_DEFAULT`].
pub const SUBSCRIBE_MESSAGE_BYTES_MAX: u32 = 8 << 20;

/// Most topics in one subscription or group seek.
pub const SUBSCRIBE_TOPICS_MAX: usize = 100;

/// Most topic patterns in one subscription.
pub const SUBSCRIBE_PATTERNS_MAX: usize = 10;

/// Longest filter, in bytes; most comparisons in one, each a bit of a word while a record is looked at; and deepest
/// nesting of parentheses and NOT.
pub const FILTER_BYTES_MAX: usize = 4 << 10;
/// See [`FILTER_BYTES_MAX`].
pub const FILTER_TERMS_MAX: usize = 64;
/// See [`FILTER_BYTES_MAX`].
pub const FILTER_DEPTH_MAX: usize = 32;

/// Most offsets in one commit.
pub const COMMIT_OFFSETS_MAX: usize = 10_000;

/// Longest metadata kept with a committed offset, in bytes.
pub const COMMIT_METADATA_BYTES_MAX: usize = 4_096;

/// Most topics in one page of a list.
pub const LIST_PAGE_MAX: u32 = 1_000;

/// Most members of one consumer group, and most groups of one broker.
pub const GROUP_MEMBERS_MAX: usize = 10_000;
/// See [`GROUP_MEMBERS_MAX`].
pub const GROUPS_MAX: usize = 10_000;

/// How long a member with an instance id may be away when it does not say, and the least and most it may ask for, in
/// milliseconds.
pub const SESSION_TIMEOUT_MS_DEFAULT: u64 = 45_000;
/// See [`SESSION_TIMEOUT_MS_DEFAULT`].
pub const SESSION_TIMEOUT_MS_MIN: u64 = 1_000;
/// See [`SESSION_TIMEOUT_MS_DEFAULT`].
pub const SESSION_TIMEOUT_MS_MAX: u64 = 60 * 60 * 1_000;

/// Most idempotent producers that one partition remembers, about 180 bytes each; beyond it the one that has appended
/// nothing for the longest time is forgotten.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 2_000;

/// A producer that has appended nothing to a partition for this long is forgotten there, in milliseconds.
pub const PRODUCER_IDLE_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

/// Most names of producers in one broker.
pub const PRODUCER_NAMES_MAX: usize = 10_000;

/// Longest `dedup_window_ms` of a topic.
pub const DEDUP_WINDOW_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Most message ids that one partition holds within its window, about 80 bytes each.
pub const DEDUP_IDS_MAX: usize = 1_000_000;

/// Most queues of one broker, topics of one queue, and receivers of one queue.
pub const QUEUES_MAX: usize = 1_000;
/// See [`QUEUES_MAX`].
pub const QUEUE_TOPICS_MAX: usize = 100;
/// See [`QUEUES_MAX`].
pub const QUEUE_RECEIVERS_MAX: usize = 10_000;

/// Messages of a queue that are handed out and not done when its creator does not say, and the most there may be. Each
/// takes about 300 bytes of memory.
pub const QUEUE_IN_FLIGHT_DEFAULT: u32 = 10_000;
/// See [`QUEUE_IN_FLIGHT_DEFAULT`].
pub const QUEUE_IN_FLIGHT_MAX: u32 = 100_000;

/// Shortest and longest lease, and longest lease with all its extensions, in milliseconds.
pub const LEASE_MS_MIN: u64 = 10;
/// See [`LEASE_MS_MIN`].
pub const LEASE_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

/// Longest time that a message waits after it failed, in milliseconds.
pub const RETRY_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

/// Longest life that a queue can give its messages: ten years of 365 days.
pub const MESSAGE_TTL_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// Furthest that a clock for tests is moved in one go: a hundred years of 365 days.
pub const CLOCK_ADVANCE_MS_MAX: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// Most deliveries that the breaker of a queue looks back at.
pub const BREAKER_DELIVERIES_MAX: u32 = 1_000;

/// Most messages in one delivery, and most verbs in one settle.
pub const DELIVERY_MESSAGES_MAX: u32 = 1_000;
/// See [`DELIVERY_MESSAGES_MAX`].
pub const SETTLES_MAX: usize = 10_000;

/// How much of the reason for a nack or reject is kept, in bytes.
pub const SETTLE_REASON_BYTES_MAX: usize = 1_024;

/// Most ranges in which the resolved letters of one partition are kept, 16 bytes each in memory and about 30 in the
/// journal: so often may open and resolved letters alternate.
pub const LETTER_RANGES_MAX: usize = 10_000;

/// Most dead letter topics of which letters are redriven or purged at the same time. Each holds a few MiB while it is.
pub const LETTER_WORKS_MAX: usize = 16;

/// Most header conditions in one selection of dead letters, and most letters a second that a redrive may be held to.
pub const LETTER_HEADERS_MAX: usize = 16;
/// See [`LETTER_HEADERS_MAX`].
pub const REDRIVE_RATE_MAX: u32 = 1_000_000;
/// Most schedules of one broker, about 150 bytes of memory each.
pub const SCHEDULES_MAX: usize = 10_000_000;

/// Longest id of a schedule, in bytes: a message id is made of it.
pub const SCHEDULE_ID_BYTES_MAX: usize = 100;

/// Most schedules in one call, and most bytes of their records together. What is added together is one batch of the log.
pub const SCHEDULES_PER_CALL_MAX: usize = 1_000;
/// See [`SCHEDULES_PER_CALL_MAX`].
pub const SCHEDULE_CALL_BYTES_MAX: usize = 3 << 20;

/// Largest record of a schedule, encoded, in bytes, whatever its topic accepts.
pub const SCHEDULE_RECORD_BYTES_MAX: usize = 1 << 20;

/// As far as calendars go, nearly the end of the year 9999, in milliseconds since 1970: nothing is due later.
pub const SCHEDULE_DUE_MS_MAX: i64 = 253_402_207_199_999;

/// Longest cron expression, and longest name of a time zone, in bytes.
pub const CRON_BYTES_MAX: usize = 256;
/// See [`CRON_BYTES_MAX`].
pub const TIME_ZONE_BYTES_MAX: usize = 64;
/// Most calls that wait for the reply to a request, about 300 bytes each.
pub const WAITING_REQUESTS_MAX: usize = 10_000;

/// Requests that are remembered to have a reply, about 40 bytes each; of an older one it is only known that nobody waits.
pub const REPLIED_REQUESTS_REMEMBERED: usize = 100_000;

/// How long a request waits for its reply when it does not say, and the most it may ask for, in milliseconds.
pub const REQUEST_TIMEOUT_MS_DEFAULT: u32 = 30_000;
/// See [`REQUEST_TIMEOUT_MS_DEFAULT`].
pub const REQUEST_TIMEOUT_MS_MAX: u32 = 600_000;

/// Largest reply, in bytes of its encoded record: most clients refuse a message of more than four times that.
pub const REPLY_BYTES_MAX: usize = 1 << 20;

/// Longest text that says why a request has failed, in bytes.
pub const REPLY_FAILURE_BYTES_MAX: usize = 1_024;

const _: () = assert!(BATCH_BYTES_LIMIT_MIN <= BATCH_BYTES_LIMIT_MAX);
// A batch and its frame header always fit an empty segment's 32-bit positions.
const _: () = assert!(SEGMENT_BYTES_MAX + (BATCH_BYTES_LIMIT_MAX as u64) < u32::MAX as u64);

//! How a queue delivers: leases, retries, dead letters, order, bounds. Values with their checks and nothing else.

use super::error::QueueError;
use super::ids::{QueueId, QueueName};
use crate::filter::Filter;
use crate::limits;
use crate::types::{Durability, TimestampMs, TopicName, TopicPattern};
use serde::{Deserialize, Serialize};

/// A queue as it was created and last changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueConfig {
    /// This life of the queue.
    pub id: QueueId,
    /// What it is called.
    pub name: QueueName,
    /// Whose records are its messages; at most [`limits::QUEUE_TOPICS_MAX`], and at least one if there are no patterns.
    pub topics: Vec<TopicName>,
    /// And those of every topic that one of these matches, also of later ones; not its dead letter topic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<TopicPattern>,
    /// Where it began in the partitions there were when it was created.
    pub start: QueueStart,
    /// Which records are its messages; the others are done without being handed out. `None` = all are. Never changes: what
    /// was passed over is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// How it delivers.
    pub policy: QueuePolicy,
    /// While it is, nothing is handed out.
    #[serde(default)]
    pub paused: bool,
    /// For people.
    pub created_at_ms: TimestampMs,
}

impl QueueConfig {
    /// Whether the records of that topic are its messages.
    pub fn covers(&self, topic: &TopicName) -> bool {
        let matches = || self.patterns.iter().any(|pattern| pattern.matches(topic));
        self.topics.contains(topic) || (self.policy.dead_letter_topic.as_ref() != Some(topic) && matches())
    }
}

/// The first message of a new queue. In partitions that come later it is the first record.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueStart {
    /// The first retained record.
    Earliest,
    /// The first record appended after the queue was created.
    #[default]
    Latest,
    /// The first record whose time is at or after this.
    TimeMs(TimestampMs),
}

/// How a queue delivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePolicy {
    /// How long a receiver may keep a message before it must have settled or extended it.
    pub lease_ms: u64,
    /// How long all extensions of one delivery may add up to.
    pub max_lease_ms: u64,
    /// When a message that failed comes again.
    pub retry: RetryPolicy,
    /// Where messages go whose attempts are used up, and those that are rejected.
    pub dead_letter_topic: Option<TopicName>,
    /// Which messages may be under way at the same time.
    pub ordering: Ordering,
    /// Most messages that were handed out and are not done, waiting ones among them. At this bound nothing new is
    /// handed out. Also bounds the memory of the queue.
    pub max_in_flight: u32,
    /// Most messages one receiver may have; 0 = as many as the queue.
    pub max_in_flight_per_receiver: u32,
    /// When a settlement is confirmed: when it is synced, or, which a power cut may undo, when it is written.
    #[serde(default = "synced")]
    pub durability: Durability,
    /// A message that is older when its turn comes goes to the dead letter topic instead; 0 = messages have no age.
    #[serde(default)]
    pub message_ttl_ms: u64,
    /// Whose turn it is first.
    #[serde(default)]
    pub priority: Priority,
    /// Stops handing out while most deliveries fail; `None` = it goes on.
    #[serde(default)]
    pub breaker: Option<BreakerPolicy>,
}

/// Of queues from before there was a choice.
fn synced() -> Durability {
    Durability::Synced
}

/// When a message that failed comes again: `min_ms * multiplier^(attempt - 1)`, at most `max_ms`, less jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// After the first attempt.
    pub min_ms: u64,
    /// Never longer.
    pub max_ms: u64,
    /// What each further attempt multiplies it by, in hundredths.
    pub multiplier_percent: u32,
    /// How much of it may be taken off at random, so that messages that failed together do not come together.
    pub jitter_percent: u32,
    /// After so many deliveries the message goes to the dead letter topic; 0 = never.
    pub attempts_max: u32,
}

/// Which partitions are served first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// All in turn.
    #[default]
    None,
    /// The number of a partition is the priority of its messages: while a higher one has any to hand out, a lower one
    /// has to wait. Partitions of one number are served in turn.
    Partition,
}

/// When a queue stops handing out because most deliveries fail: something that all messages need is down, and their
/// attempts would be used up for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerPolicy {
    /// It opens when so many of a hundred have failed...
    pub failures_percent: u32,
    /// ...of the last so many deliveries that were settled or lost.
    pub deliveries: u32,
    /// So long nothing is handed out; then one message at a time, until one is acked or fails. Each failure in a row
    /// doubles it, up to sixteen times.
    pub pause_ms: u64,
}

/// Which messages may be under way at the same time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// Any.
    #[default]
    None,
    /// Those of different keys, and those without a key. Of one key the next is handed out when the last is done.
    Key,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            lease_ms: 30_000,
            max_lease_ms: 12 * 60 * 60 * 1000,
            retry: RetryPolicy::default(),
            dead_letter_topic: None,
            ordering: Ordering::None,
            max_in_flight: limits::QUEUE_IN_FLIGHT_DEFAULT,
            max_in_flight_per_receiver: 0,
            durability: Durability::Synced,
            message_ttl_ms: 0,
            priority: Priority::None,
            breaker: None,
        }
    }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures_percent: 50, deliveries: 20, pause_ms: 30_000 }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { min_ms: 1_000, max_ms: 600_000, multiplier_percent: 200, jitter_percent: 20, attempts_max: 0 }
    }
}

impl QueuePolicy {
    /// Every value is within its bounds.
    pub fn check(&self) -> Result<(), QueueError> {
        let within = |field: &'static str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(QueueError::Policy { field, what: format!("{value} is not from {least} to {most}") })
        };
        let RetryPolicy { min_ms, max_ms, multiplier_percent, jitter_percent, .. } = self.retry;
        within("lease_ms", self.lease_ms, limits::LEASE_MS_MIN, limits::LEASE_MS_MAX)?;
        within("max_lease_ms", self.max_lease_ms, self.lease_ms, limits::LEASE_MS_MAX)?;
        within("retry.max_ms", max_ms, 0, limits::RETRY_MS_MAX)?;
        within("retry.min_ms", min_ms, 0, max_ms)?;
        within("retry.multiplier_percent", multiplier_percent.into(), 100, 10_000)?;
        within("retry.jitter_percent", jitter_percent.into(), 0, 100)?;
        within("max_in_flight", self.max_in_flight.into(), 1, limits::QUEUE_IN_FLIGHT_MAX.into())?;
        within("message_ttl_ms", self.message_ttl_ms, 0, limits::MESSAGE_TTL_MS_MAX)?;
        if let Some(BreakerPolicy { failures_percent, deliveries, pause_ms }) = self.breaker {
            within("breaker.failures_percent", failures_percent.into(), 1, 100)?;
            within("breaker.deliveries", deliveries.into(), 1, limits::BREAKER_DELIVERIES_MAX.into())?;
            within("breaker.pause_ms", pause_ms, 1, limits::RETRY_MS_MAX)?;
        }
        if self.dead_letter_topic.is_none() && self.gives_up() {
            let what = "attempts or ages are limited, so a dead letter topic must be named".to_owned();
            return Err(QueueError::Policy { field: "dead_letter_topic", what });
        }
        Ok(())
    }

    /// Whether there are messages that the queue gives up by itself. It needs a dead letter topic then.
    pub fn gives_up(&self) -> bool {
        self.retry.attempts_max > 0 || self.message_ttl_ms > 0
    }

    /// Whether a message that was appended then is too old to be handed out now. `ttl_ms`: what the message says
    /// itself; the shorter counts.
    pub(super) fn is_expired(&self, append_time_ms: TimestampMs, ttl_ms: Option<u64>, now_ms: TimestampMs) -> bool {
        let age_ms = u64::try_from(now_ms.saturating_sub(append_time_ms)).unwrap_or(0);
        self.message_ttl_ms > 0 && age_ms >= ttl_ms.unwrap_or(u64::MAX).min(self.message_ttl_ms)
    }
}

impl RetryPolicy {
    /// How long a message waits after its attempt number `attempt` (from 1). `seed` chooses the jitter: the same
    /// message and attempt always wait the same time.
    pub(super) fn delay_ms(&self, attempt: u32, seed: u64) -> u64 {
        let mut delay_ms = self.min_ms.min(self.max_ms);
        for _ in 1..attempt {
            if delay_ms >= self.max_ms || self.multiplier_percent == 100 || delay_ms == 0 {
                break;
            }
            let next = u128::from(delay_ms) * u128::from(self.multiplier_percent) / 100;
            // Rounding must not keep a short delay from growing.
            delay_ms = u64::try_from(next).unwrap_or(u64::MAX).max(delay_ms + 1).min(self.max_ms);
        }
        let off = u128::from(delay_ms) * u128::from(self.jitter_percent) * u128::from(scramble(seed) >> 32);
        delay_ms - u64::try_from((off / 100) >> 32).unwrap_or(delay_ms).min(delay_ms)
    }

    /// Whether a message that was delivered this often is given up.
    pub(super) fn is_exhausted(&self, attempts: u32) -> bool {
        self.attempts_max != 0 && attempts >= self.attempts_max
    }
}

/// Spreads neighbouring numbers over all numbers (the finalizer of splitmix64).
pub(super) fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: RetryPolicy =
        RetryPolicy { min_ms: 100, max_ms: 1_000, multiplier_percent: 200, jitter_percent: 0, attempts_max: 3 };

    #[test]
    fn delays_grow_to_their_maximum_and_stay_there() {
        let delays: Vec<_> = [1, 2, 3, 4, 5, u32::MAX].map(|attempt| PLAIN.delay_ms(attempt, 0)).into();
        assert_eq!(delays, [100, 200, 400, 800, 1_000, 1_000]);
        let constant = RetryPolicy { multiplier_percent: 100, ..PLAIN };
        assert_eq!(constant.delay_ms(u32::MAX, 0), 100);
        let at_once = RetryPolicy { min_ms: 0, ..PLAIN };
        assert_eq!(at_once.delay_ms(9, 5), 0);
    }

    #[test]
    fn jitter_takes_off_no_more_than_its_share() {
        let policy = RetryPolicy { jitter_percent: 50, min_ms: 1_000, ..PLAIN };
        let delays: Vec<_> = (0..1_000).map(|seed| policy.delay_ms(1, seed)).collect();
        assert!(delays.iter().all(|delay| (500..=1_000).contains(delay)));
        assert!(delays.iter().min() < Some(&550) && delays.iter().max() > Some(&950), "it is spread");
    }

    #[test]
    fn attempts_are_used_up_at_their_maximum_if_there_is_one() {
        assert!(!PLAIN.is_exhausted(2) && PLAIN.is_exhausted(3));
        assert!(!RetryPolicy { attempts_max: 0, ..PLAIN }.is_exhausted(u32::MAX));
    }

    #[test]
    fn values_out_of_bounds_are_refused_by_name() {
        type Change = fn(&mut QueuePolicy);
        let cases: [(Change, &str); 9] = [
            (|policy| policy.lease_ms = 0, "lease_ms"),
            (|policy| policy.max_lease_ms = policy.lease_ms - 1, "max_lease_ms"),
            (|policy| policy.retry.min_ms = policy.retry.max_ms + 1, "retry.min_ms"),
            (|policy| policy.retry.multiplier_percent = 99, "retry.multiplier_percent"),
            (|policy| policy.max_in_flight = 0, "max_in_flight"),
            (|policy| policy.retry.attempts_max = 1, "dead_letter_topic"),
            (|policy| policy.message_ttl_ms = 1, "dead_letter_topic"),
            (|policy| policy.message_ttl_ms = u64::MAX, "message_ttl_ms"),
            (
                |policy| policy.breaker = Some(BreakerPolicy { failures_percent: 101, ..BreakerPolicy::default() }),
                "breaker.failures_percent",
            ),
        ];
        assert_eq!(QueuePolicy::default().check(), Ok(()));
        for (change, named) in cases {
            let mut policy = QueuePolicy::default();
            change(&mut policy);
            let refused = policy.check();
            assert!(matches!(&refused, Err(QueueError::Policy { field, .. }) if *field == named), "{refused:?}");
        }
    }
}

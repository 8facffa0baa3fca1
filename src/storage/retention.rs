//! Which segments may go: a pure choice. [`crate::storage::log`] carries it out.

use crate::types::{Offset, TimestampMs};

/// How long, and how much, a log keeps. 0 = no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Records older than this, by append time, may go.
    pub retention_ms: u64,
    /// The oldest records may go while the log holds more.
    pub retention_bytes: u64,
}

impl RetentionPolicy {
    /// Nothing is ever deleted: no segment need be looked at.
    pub const KEEP_ALL: Self = Self { retention_ms: 0, retention_bytes: 0 };
}

/// What the choice needs to know of one sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedFacts {
    /// Offset after its last record.
    pub next_offset: Offset,
    /// Its bytes on disk.
    pub bytes: u64,
    /// When its last record was appended.
    pub last_append_time_ms: TimestampMs,
}

/// The new log start: the end of the leading run of segments that may go; `None` if none may.
///
/// `sealed` are the sealed segments, oldest first, and is only read as far as needed; `total_bytes` counts the active
/// segment too, which never goes.
pub fn choose<E>(
    policy: RetentionPolicy,
    total_bytes: u64,
    sealed: impl Iterator<Item = Result<SealedFacts, E>>,
    now_ms: TimestampMs,
) -> Result<Option<Offset>, E> {
    let mut remaining_bytes = total_bytes;
    let mut log_start = None;
    for facts in sealed {
        let facts = facts?;
        let age_ms = u64::try_from(now_ms.saturating_sub(facts.last_append_time_ms)).unwrap_or(0);
        let too_old = policy.retention_ms != 0 && age_ms > policy.retention_ms;
        let too_much = policy.retention_bytes != 0 && remaining_bytes > policy.retention_bytes;
        if !too_old && !too_much {
            break;
        }
        remaining_bytes = remaining_bytes.saturating_sub(facts.bytes);
        log_start = Some(facts.next_offset);
    }
    Ok(log_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose_of(policy: RetentionPolicy, now_ms: TimestampMs) -> Option<Offset> {
        // Three sealed segments of 100 bytes and 10 records, written at 1000, 2000, 3000; 50 bytes in the active one.
        let sealed = (1..=3_u32).map(|i| {
            let next_offset = Offset(u64::from(i) * 10);
            Ok::<_, ()>(SealedFacts { next_offset, bytes: 100, last_append_time_ms: i64::from(i) * 1000 })
        });
        choose(policy, 350, sealed, now_ms).expect("no errors here")
    }

    const KEEP: RetentionPolicy = RetentionPolicy::KEEP_ALL;

    #[test]
    fn without_limits_everything_is_kept() {
        assert_eq!(choose_of(KEEP, i64::MAX), None);
    }

    #[test]
    fn a_segment_goes_when_its_last_record_is_too_old() {
        let policy = RetentionPolicy { retention_ms: 1000, ..KEEP };
        assert_eq!(choose_of(policy, 2000), None, "exactly as old as allowed");
        assert_eq!(choose_of(policy, 2001), Some(Offset(10)));
        assert_eq!(choose_of(policy, 99_999), Some(Offset(30)), "the active segment never goes");
        assert_eq!(choose_of(policy, -5), None, "a clock that went back deletes nothing");
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let policy = RetentionPolicy { retention_bytes: 250, ..KEEP };
        assert_eq!(choose_of(policy, 0), Some(Offset(10)));
        let policy = RetentionPolicy { retention_bytes: 1, ..KEEP };
        assert_eq!(choose_of(policy, 0), Some(Offset(30)));
    }
}

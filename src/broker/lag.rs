//! How far a group is behind: in records, in bytes, in time, and how long it will take to catch up.
//!
//! The group says what it committed and how fast it goes on, the logs say what stands behind that. What cannot be told
//! (damaged records, no commits yet) is `None`, never a zero that would look like no lag.

use crate::group::{Pace, PartitionDescription};
use crate::partition::{PartitionHandle, PartitionOffsets};
use crate::types::{Offset, TimestampMs};

/// How far a group is behind, in one partition or in all of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// Retained records that it has not committed.
    pub records: u64,
    /// Bytes on disk of the batches they stand in.
    pub bytes: Option<u64>,
    /// From the append time of the first of them to that of the last, in milliseconds; of a group, the longest.
    pub span_ms: Option<u64>,
    /// How long ago the first of them was appended, in milliseconds; of a group, the longest.
    pub oldest_age_ms: Option<u64>,
    /// How fast it goes on.
    pub pace: Option<Pace>,
    /// How long until it has caught up, at that pace; of a group, until its slowest partition has.
    pub drain_ms: Option<u64>,
}

/// One partition of a group, and its log.
#[derive(Debug, Clone, Copy)]
pub struct PartitionLag {
    /// How far the log goes.
    pub offsets: PartitionOffsets,
    /// How far the group is behind.
    pub lag: Lag,
}

impl PartitionLag {
    /// Measures. Blocks: it may wait for the disk.
    pub(super) fn measure(partition: &PartitionHandle, group: &PartitionDescription, now_ms: TimestampMs) -> Self {
        let offsets = partition.offsets();
        let committed = group.committed.as_ref().map(|committed| committed.offset);
        // What retention has deleted is not waiting for anybody.
        let next = committed.map_or(offsets.log_start, |committed| committed.max(offsets.log_start));
        let records = offsets.high_watermark.records_since(next);
        let pace = group.pace.zip(committed).map(|(start, committed)| start.until(committed, offsets.high_watermark));
        let mut lag = Lag { records, pace, ..Lag::NONE };
        lag.drain_ms = if records == 0 { Some(0) } else { pace.and_then(|pace| pace.drain_ms(records)) };
        if records > 0 {
            lag.measure_unread(partition, next, now_ms);
        }
        Self { offsets, lag }
    }
}

impl Lag {
    /// Nothing is unread.
    const NONE: Self =
        Self { records: 0, bytes: Some(0), span_ms: Some(0), oldest_age_ms: Some(0), pace: None, drain_ms: Some(0) };

    fn measure_unread(&mut self, partition: &PartitionHandle, next: Offset, now_ms: TimestampMs) {
        // Of damage, and of what was deleted just now, nothing is known.
        let unread = partition.unread(next).ok().flatten();
        self.bytes = unread.map(|unread| unread.bytes);
        self.span_ms = unread.map(|unread| ms_between(unread.first_append_time_ms, unread.last_append_time_ms));
        self.oldest_age_ms = unread.map(|unread| ms_between(unread.first_append_time_ms, now_ms));
    }

    /// That of a whole group. Partitions that are offline say nothing, and so does the whole of what they would add to.
    pub(super) fn total<'a>(partitions: impl Iterator<Item = Option<&'a PartitionLag>>) -> Self {
        let mut total = Self::NONE;
        for partition in partitions {
            let unknown =
                Self { records: 0, bytes: None, span_ms: None, oldest_age_ms: None, pace: None, drain_ms: None };
            let lag = partition.map_or(unknown, |partition| partition.lag);
            total = Self {
                records: total.records + lag.records,
                bytes: both(total.bytes, lag.bytes, |a, b| a + b),
                span_ms: both(total.span_ms, lag.span_ms, u64::max),
                oldest_age_ms: both(total.oldest_age_ms, lag.oldest_age_ms, u64::max),
                pace: match (total.pace, lag.pace) {
                    (Some(a), Some(b)) => Some(Pace {
                        consumed_per_second: a.consumed_per_second + b.consumed_per_second,
                        appended_per_second: a.appended_per_second + b.appended_per_second,
                    }),
                    (a, b) => a.or(b),
                },
                drain_ms: both(total.drain_ms, lag.drain_ms, u64::max),
            };
        }
        total
    }
}

/// `None` if either is.
fn both(a: Option<u64>, b: Option<u64>, join: impl Fn(u64, u64) -> u64) -> Option<u64> {
    a.zip(b).map(|(a, b)| join(a, b))
}

/// A clock may have been set back since.
fn ms_between(earlier: TimestampMs, later: TimestampMs) -> u64 {
    u64::try_from(later.saturating_sub(earlier)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(records: u64, bytes: Option<u64>, age_ms: u64, drain_ms: Option<u64>) -> PartitionLag {
        let offsets =
            PartitionOffsets { log_start: Offset(0), high_watermark: Offset(records), log_end: Offset(records) };
        let lag = Lag { records, bytes, span_ms: Some(age_ms), oldest_age_ms: Some(age_ms), pace: None, drain_ms };
        PartitionLag { offsets, lag }
    }

    #[test]
    fn a_group_is_as_late_as_its_latest_partition() {
        let parts = [partition(5, Some(50), 7, Some(3)), partition(1, Some(10), 9, Some(1))];
        let total = Lag::total(parts.iter().map(Some));
        assert_eq!((total.records, total.bytes, total.oldest_age_ms, total.drain_ms), (6, Some(60), Some(9), Some(3)));
    }

    #[test]
    fn what_one_partition_does_not_know_the_group_does_not_know() {
        let parts = [partition(5, None, 7, None), partition(1, Some(10), 9, Some(1))];
        let total = Lag::total(parts.iter().map(Some));
        assert_eq!((total.records, total.bytes, total.drain_ms), (6, None, None));
        assert_eq!(Lag::total([Some(&parts[1]), None].into_iter()).oldest_age_ms, None, "one is offline");
    }
}

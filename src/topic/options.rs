//! What a topic promises: its options, their defaults and their bounds.

use crate::limits;
use crate::types::{Cleanup, Durability};
use serde::{Deserialize, Serialize};

/// The options of one topic. Units are in the names; 0 means "no limit" for the two retention options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicOptions {
    /// Records older than this, by append time, may be deleted. 0 = kept for ever.
    pub retention_ms: u64,
    /// The oldest records may be deleted while a partition holds more. 0 = no limit.
    pub retention_bytes: u64,
    /// A segment is sealed when it would grow past this.
    pub segment_bytes: u64,
    /// A segment is sealed when its first record is older.
    pub segment_age_ms: u64,
    /// What an acknowledgement means when the request does not say, and what readers may see.
    pub durability: Durability,
    /// Largest record accepted, encoded.
    pub record_bytes_max: u32,
    /// Largest record set accepted, encoded.
    pub batch_bytes_max: u32,
    /// A record whose message id was appended less than this long ago is not appended again. 0 = ids are not looked at.
    pub dedup_window_ms: u64,
    /// Which records may go.
    pub cleanup: Cleanup,
    /// On a compacted topic, tombstones stay this long after what they delete was removed.
    pub tombstone_grace_ms: u64,
}

impl Default for TopicOptions {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Self {
            retention_ms: 7 * DAY_MS,
            retention_bytes: 0,
            segment_bytes: 128 << 20,
            segment_age_ms: DAY_MS,
            durability: Durability::Synced,
            record_bytes_max: 1 << 20,
            batch_bytes_max: 4 << 20,
            dedup_window_ms: 0,
            cleanup: Cleanup::Delete,
            tombstone_grace_ms: DAY_MS,
        }
    }
}

/// An option outside its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topic option {option} is {value}; it must be {allowed}")]
pub struct OptionError {
    /// Name of the option.
    pub option: &'static str,
    /// The value given.
    pub value: u64,
    /// What is allowed, in words.
    pub allowed: String,
}

impl TopicOptions {
    /// Checks every option against its bounds; the first that does not fit is the error.
    pub fn check(&self) -> Result<(), OptionError> {
        let between = |option, value: u64, least: u64, most: u64| {
            let allowed = format!("{least} to {most}");
            if (least..=most).contains(&value) { Ok(()) } else { Err(OptionError { option, value, allowed }) }
        };
        let (least, most) = (u64::from(limits::BATCH_BYTES_LIMIT_MIN), u64::from(limits::BATCH_BYTES_LIMIT_MAX));
        if self.retention_ms != 0 {
            between("retention_ms", self.retention_ms, limits::AGE_MS_MIN, i64::MAX.cast_unsigned())?;
        }
        between("segment_bytes", self.segment_bytes, limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX)?;
        between("segment_age_ms", self.segment_age_ms, limits::AGE_MS_MIN, i64::MAX.cast_unsigned())?;
        between("tombstone_grace_ms", self.tombstone_grace_ms, 0, i64::MAX.cast_unsigned())?;
        between("record_bytes_max", self.record_bytes_max.into(), least, most)?;
        between("batch_bytes_max", self.batch_bytes_max.into(), self.record_bytes_max.into(), most)?;
        between("dedup_window_ms", self.dedup_window_ms, 0, self.dedup_window_ms_max())
    }

    /// A restart looks for message ids in the log, so records must stay in it as long as their ids are to be known.
    fn dedup_window_ms_max(&self) -> u64 {
        match self.retention_ms {
            _ if self.cleanup.compacts() => 0,
            0 => limits::DEDUP_WINDOW_MS_MAX,
            retention_ms => limits::DEDUP_WINDOW_MS_MAX.min(retention_ms),
        }
    }

    /// The age at which a segment is sealed: retention deletes whole sealed segments, so a segment must not stay
    /// open longer than its records are to be kept.
    pub fn seal_age_ms(&self) -> u64 {
        let is_kept = self.retention_ms == 0 || !self.cleanup.deletes();
        if is_kept { self.segment_age_ms } else { self.segment_age_ms.min(self.retention_ms) }
    }
}

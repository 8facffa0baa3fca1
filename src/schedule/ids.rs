//! What a schedule is called, and where it stands.

use crate::limits::SCHEDULE_ID_BYTES_MAX;
use crate::types::topic::{NameError, check_name};
use crate::types::{Offset, TimestampMs};
use std::fmt;

/// A valid id of a schedule: that of a topic name, and not longer than [`SCHEDULE_ID_BYTES_MAX`], so that a message id
/// can be made of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId(Box<str>);

/// Why text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Characters or emptiness.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Too long.
    #[error("the id has {0} bytes; at most {SCHEDULE_ID_BYTES_MAX} are allowed")]
    TooLong(usize),
}

impl ScheduleId {
    /// Checks `text` and takes it.
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.len() > SCHEDULE_ID_BYTES_MAX {
            return Err(IdError::TooLong(text.len()));
        }
        check_name(text)?;
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When a schedule is due, and where its entry stands in the log. An entry is never changed: another time, or the next
/// occurrence, is another entry with another offset. So a place names one delivery for good, over restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// When it is due, by the broker's clock.
    pub due_ms: TimestampMs,
    /// Its entry.
    pub offset: Offset,
}

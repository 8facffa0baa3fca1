//! A place in a log, as a person or a client names it before it is an offset.

use crate::types::{Offset, TimestampMs};

/// A place in a partition's log. Turned into an [`Offset`] against one partition, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The first retained record.
    Earliest,
    /// The record that will be appended next.
    Latest,
    /// Exactly this offset.
    Offset(Offset),
    /// The first record whose timestamp is at or after this; the end of the log if there is none.
    Time(TimestampMs),
    /// This many records before the end, or the first retained record if there are fewer.
    BeforeEnd(u64),
}

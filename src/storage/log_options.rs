//! What a log is told by the options of its topic.

/// What a log needs to know of its topic's options. May change while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment is sealed when it would grow past this.
    pub segment_bytes: u64,
    /// A segment is sealed when its first record is older than this.
    pub seal_age_ms: u64,
    /// Appends leave this much of the disk free.
    pub reserve_bytes: u64,
}

//! What the coordinator asks of the log it keeps its state in.

use crate::partition::journal::JournalEntry;
use crate::types::Offset;
use std::future::Future;
use std::pin::Pin;

/// Entries were not appended, or are not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFailure {
    /// None of them was; another try may succeed.
    #[error("{0}")]
    Refused(String),
    /// Nobody knows, or the log takes no more: the state built on it is worth nothing.
    #[error("{0}")]
    Lost(String),
}

/// A log that compaction keeps the last entry of each key of. Nobody else appends to it.
pub trait ScheduleLog: Send + Sync + 'static {
    /// Appends entries, in order, all or none; synced when the future ends. Gives the offset of the first.
    fn append(
        &self,
        entries: Vec<JournalEntry>,
    ) -> Pin<Box<dyn Future<Output = Result<Offset, LogFailure>> + Send + '_>>;
}

//! A sync of a log that runs beside its writer: what was written before it began becomes durable while more is written.

use crate::planted::{Bug, is_planted};
use crate::storage::error::{IoContext, StorageError};
use crate::storage::log_state::{DurablePoint, LogState};
use crate::storage::segment::Segment;
use crate::types::Offset;
use std::sync::Arc;

/// What a sync is about, from [`Log::begin_sync`](crate::storage::Log::begin_sync).
#[derive(Debug)]
#[must_use = "what it is about counts as synced until `Log::end_sync` is told otherwise"]
pub struct LogSync {
    pub(super) shared: Arc<LogState>,
    /// Segments that were sealed, oldest first.
    pub(super) sealed: Vec<Arc<Segment>>,
    /// The active segment, if it was written to.
    pub(super) written: Option<Arc<Segment>>,
    /// Whether files were created.
    pub(super) directory: bool,
    pub(super) end: Offset,
    pub(super) point: Option<DurablePoint>,
}

impl LogSync {
    /// Every record before this is durable once it has run.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Waits for the disk. May run beside the writer; in either case [`Log::end_sync`](crate::storage::Log::end_sync) must hear of
    /// it.
    pub fn run(&self) -> Result<(), StorageError> {
        for segment in &self.sealed {
            segment.sync()?;
        }
        if let Some(active) = self.written.as_ref().filter(|_| !is_planted(Bug::AckBeforeSync)) {
            let again = |error| if is_planted(Bug::RetryFailedSync) { active.sync() } else { Err(error) };
            active.sync().or_else(again)?;
        }
        if self.directory && !is_planted(Bug::NoDirectorySync) {
            self.shared.fs.sync_dir(&self.shared.directory).context("sync", &self.shared.directory)?;
        }
        Ok(())
    }
}

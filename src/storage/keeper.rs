//! Upkeep of a log, beside its writer: sealed segments are synced, old ones deleted, the checkpoint moves forward.
//!
//! Runs on any thread, one caller at a time (the checkpoint's lock sees to it), and never writes to the active segment:
//! of that one it believes what the writer says is synced.

use crate::planted::{Bug, is_planted};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::OpenMode;
use crate::storage::log_state::LogState;
use crate::storage::retention::{self, RetentionPolicy, SealedFacts};
use crate::storage::segment::Segment;
use crate::types::{Offset, TimestampMs};
use std::path::Path;
use std::sync::{Arc, PoisonError};

/// A handle for upkeep of one log.
#[derive(Debug, Clone)]
pub struct LogKeeper {
    pub(super) shared: Arc<LogState>,
}

impl LogKeeper {
    pub(super) fn new(shared: Arc<LogState>) -> Self {
        Self { shared }
    }

    /// Whether the active segment is so old that the writer must seal it.
    pub fn must_seal(&self, age_ms: u64, now_ms: TimestampMs) -> Result<bool, StorageError> {
        match self.shared.segments().last() {
            Some(last) if !last.is_sealed() => last.is_older_than(age_ms, now_ms),
            _ => Ok(false),
        }
    }

    /// Whether the writer should sync although nobody waits for that, so that its files may be closed for others.
    pub fn should_sync(&self) -> bool {
        self.shared.has_unsynced() && self.shared.context.open_files.is_filling_up()
    }

    /// Syncs what was sealed since the last call, so that a start after a crash need not verify it.
    pub fn sync_sealed(&self) -> Result<(), StorageError> {
        let mut checkpoint = self.shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = self.shared.segments();
        let mut moved = *checkpoint;
        let first = segments.partition_point(|segment| segment.base_offset() < checkpoint.segment);
        for (i, segment) in segments.iter().enumerate().skip(first).take_while(|(_, segment)| segment.is_sealed()) {
            if !is_planted(Bug::CheckpointBeforeSync) {
                segment.sync()?;
            }
            moved.segment = segment.base_offset();
            moved.position = segment.end_position();
            moved.next_offset = next_offset_of(segment, segments.get(i + 1))?;
            moved.last_append_time_ms = segment.facts()?.last_append_time_ms;
            if moved != *checkpoint {
                segment.close_file();
            }
        }
        if moved == *checkpoint {
            return Ok(());
        }
        // The entries of the directory first: the checkpoint vouches for files by name.
        self.shared.fs.sync_dir(&self.shared.directory).context("sync", &self.shared.directory)?;
        self.store(&mut checkpoint, moved)?;
        self.shared.set_durable_end(moved.next_offset);
        self.shared.store_saved_producers(moved.next_offset);
        Ok(())
    }

    /// Moves the checkpoint up in the active segment, to where the writer has synced it, if that is at least
    /// `bytes_min` further: so the cost of a start after a crash grows with neither the log nor its last segment. What
    /// was sealed must have been synced before ([`Self::sync_sealed`]); otherwise it waits for the next time.
    pub fn checkpoint_active(&self, bytes_min: u64) -> Result<(), StorageError> {
        let mut checkpoint = self.shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = self.shared.segments();
        let Some((active, sealed)) = segments.split_last() else { return Ok(()) };
        let mut durable = self.shared.durable_point();
        if is_planted(Bug::CheckpointAheadOfSync) {
            (durable.segment, durable.position) = (active.base_offset(), active.end_position());
        }
        let is_next = sealed.last().is_none_or(|last| last.base_offset() <= checkpoint.segment);
        if active.is_sealed() || durable.segment != active.base_offset() || !is_next {
            return Ok(());
        }
        let known = if checkpoint.segment == durable.segment { checkpoint.position } else { 0 };
        if u64::from(durable.position.saturating_sub(known)) < bytes_min.max(1) {
            return Ok(());
        }
        if let Err(error) = active.save_index_up_to(durable.position) {
            tracing::warn!(%error, "the index of the active segment was not saved; a start after a crash reads more");
        }
        let moved = Checkpoint {
            segment: durable.segment,
            position: durable.position,
            next_offset: durable.next_offset.max(checkpoint.log_start_offset),
            last_append_time_ms: durable.last_append_time_ms,
            ..*checkpoint
        };
        self.store(&mut checkpoint, moved)
    }

    /// Deletes the sealed segments that `policy` lets go. Gives the new log start if it moved.
    pub fn enforce(&self, policy: RetentionPolicy, now_ms: TimestampMs) -> Result<Option<Offset>, StorageError> {
        if policy == RetentionPolicy::KEEP_ALL {
            return Ok(None);
        }
        let segments = self.shared.segments();
        let total_bytes = segments.iter().map(|segment| u64::from(segment.end_position())).sum();
        let sealed = segments.iter().enumerate().take_while(|(_, segment)| segment.is_sealed()).map(|(i, segment)| {
            Ok(SealedFacts {
                next_offset: next_offset_of(segment, segments.get(i + 1))?,
                bytes: segment.end_position().into(),
                last_append_time_ms: segment.facts()?.last_append_time_ms,
            })
        });
        match retention::choose(policy, total_bytes, sealed, now_ms)? {
            Some(log_start) => self.delete_before(log_start).map(Some),
            None => Ok(None),
        }
    }

    /// Moves the log start up to `offset`, which must not be above the log end, and deletes the segments that lie
    /// wholly before it. Gives the log start, which never moves down.
    pub fn delete_before(&self, offset: Offset) -> Result<Offset, StorageError> {
        let mut checkpoint = self.shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        // Not what readers were told: if it could not be stored the last time, it is not durable yet.
        if offset <= checkpoint.log_start_offset {
            return Ok(self.shared.log_start());
        }
        // Order on disk: the new start is durable before any file goes, and readers refuse older offsets before that.
        let offset = offset.max(self.shared.log_start());
        self.shared.set_log_start(offset);
        // Only the start moves: what the checkpoint says of the end must stay what is known to be durable.
        let moved = Checkpoint { log_start_offset: offset, ..*checkpoint };
        if !is_planted(Bug::RetentionUnlinksFirst) {
            self.store(&mut checkpoint, moved)?;
        }
        let segments = self.shared.segments();
        let gone = segments
            .iter()
            .enumerate()
            .take_while(|(i, segment)| {
                segment.is_sealed()
                    && next_offset_of(segment, segments.get(i + 1)).is_ok_and(|next_offset| next_offset <= offset)
            })
            .count();
        // A full disk must not keep a deletion from making room; then a producer that comes back may have to begin again.
        if let Some(last) = gone.checked_sub(1)
            && let Err(error) =
                next_offset_of(&segments[last], segments.get(gone)).and_then(|end| self.shared.cover_producers(end))
        {
            tracing::warn!(%error, "what the deleted segments said of producers is not saved");
        }
        self.shared.change_segments(|segments| drop(segments.drain(..gone)));
        // Readers that hold a segment keep it: unlinking takes the name away, not the bytes.
        segments[..gone].iter().try_for_each(|segment| self.remove(segment.path()))?;
        if is_planted(Bug::RetentionUnlinksFirst) {
            self.store(&mut checkpoint, moved)?;
        }
        Ok(offset)
    }

    fn remove(&self, path: &Path) -> Result<(), StorageError> {
        if is_planted(Bug::DeletionCutsTheFile) {
            let file = self.shared.fs.open(path, OpenMode::Write).context("open", path)?;
            file.set_len(0).context("cut", path)?;
        }
        let deleted = path.with_extension("deleted");
        self.shared.fs.rename(path, &deleted).context("rename", path)?;
        self.shared.fs.remove_file(&deleted).context("delete", &deleted)?;
        // There may be no index file; a left-over one is removed at the next start.
        let _ = self.shared.fs.remove_file(&path.with_extension("index"));
        Ok(())
    }

    fn store(&self, current: &mut Checkpoint, moved: Checkpoint) -> Result<(), StorageError> {
        moved.store(&*self.shared.fs, &self.shared.directory)?;
        *current = moved;
        Ok(())
    }
}

/// Offset after the last record of a sealed segment: where the next one begins, or as its index says.
pub(super) fn next_offset_of(segment: &Segment, following: Option<&Arc<Segment>>) -> Result<Offset, StorageError> {
    match following {
        Some(following) => Ok(following.base_offset()),
        None => segment.facts().map(|facts| facts.next_offset),
    }
}

//! The log of one partition: ordered segments, appended to by one writer and read by anyone.
//!
//! [`Log`] is the writer's side; there is one, and it is moved, not shared. [`LogReader`] and [`LogKeeper`] are handles
//! for the other two roles, on other threads: reading, and upkeep (syncing sealed segments, retention). They share the
//! list of segments, which is replaced as a whole, so a reader keeps the list, and the segments, it began with.
//!
//! A failed sync, or a write that failed for another reason than a full disk, closes the log to appends for good: what
//! is in the page cache then is not what is on disk, and no retry can find out.

use crate::planted::{Bug, is_planted};
use crate::storage::active::{Active, Frame, appended, frame_header, write_parts};
use crate::storage::admission::{Admission, Verdict, check_token};
use crate::storage::allocation::{Allocation, NextFile};
use crate::storage::context::StorageContext;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::frame::HEADER_BYTES;
use crate::storage::keeper::LogKeeper;
use crate::storage::log_state::{DurablePoint, LogState};
use crate::storage::log_sync::LogSync;
use crate::storage::producers_file;
use crate::storage::reader::LogReader;
use crate::storage::recovery::{self, RecoveryReport};
use crate::storage::scrub::LogScrubber;
use crate::storage::segment::Segment;
use crate::storage::segment::header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::types::{Offset, TimestampMs};
use std::path::Path;
use std::sync::Arc;

pub use crate::storage::admission::{AppendOutcome, AppendTerms, Appended, BatchRefusal, NewBatch};
pub use crate::storage::log_options::LogOptions;
pub use crate::storage::message_ids::DuplicateRecord;

/// Memory for headers and small payloads that a log keeps between appends: there may be 10,000 logs.
const SCRATCH_BYTES_KEPT: usize = 4 << 10;

/// The writer's side of a log.
#[derive(Debug)]
pub struct Log {
    shared: Arc<LogState>,
    options: LogOptions,
    active: Option<Active>,
    /// The file of the segment after the active one, once that is nearly full.
    next_file: Option<NextFile>,
    next_offset: Offset,
    last_append_time_ms: TimestampMs,
    /// Sealed segments that were not synced since.
    unsynced_sealed: Vec<Arc<Segment>>,
    /// Files were created since the directory was last synced.
    directory_dirty: bool,
    poisoned: Option<String>,
    admission: Admission,
    /// Whether batches were appended since the log was opened: otherwise what was saved of its producers is still so.
    grown: bool,
    /// Reused for the headers and small payloads of each write.
    scratch: Vec<u8>,
}

impl Log {
    /// Opens the log in `directory` (which exists), recovering it if it was not closed cleanly.
    pub fn open(
        context: impl Into<StorageContext>,
        directory: &Path,
        id: LogId,
        options: LogOptions,
    ) -> Result<(Self, RecoveryReport), StorageError> {
        let context = context.into();
        let recovered = recovery::recover(&context, directory, id)?;
        let next_offset = recovered.found.next_offset;
        let shared = LogState::new(context, directory, id, &recovered);
        recovered.report.damage.iter().for_each(|range| shared.damage.note(range.clone()));
        let mut log = Self {
            options,
            active: None,
            next_file: None,
            next_offset,
            last_append_time_ms: recovered.found.last_append_time_ms,
            unsynced_sealed: Vec::new(),
            directory_dirty: false,
            poisoned: None,
            admission: Admission::default(),
            grown: false,
            scratch: Vec::new(),
            shared,
        };
        if let (Some(index), Some(last)) = (recovered.last_index, log.shared.segments().last()) {
            let allocation = Allocation::of_written(index.end_position.into());
            last.reactivate(index);
            log.active = Some(Active::new(Arc::clone(last), allocation, false));
        }
        Ok((log, recovered.report))
    }

    /// A handle for reading.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// A handle for upkeep.
    pub fn keeper(&self) -> LogKeeper {
        LogKeeper::new(Arc::clone(&self.shared))
    }

    /// A handle for finding damage.
    pub fn scrubber(&self) -> LogScrubber {
        LogScrubber::new(Arc::clone(&self.shared))
    }

    /// The offset that the next record gets.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Changes the options; they hold from the next append on.
    pub fn set_options(&mut self, options: LogOptions) {
        self.options = options;
    }

    /// Writes batches, in order: with one positioned write for each segment they end up in. They survive the process
    /// from here on; [`Log::sync`] makes them survive the machine. A batch that is refused by itself, or that is in the
    /// log already, does not keep the others from being written.
    pub fn append(&mut self, batches: &[NewBatch], now_ms: TimestampMs) -> AppendOutcome {
        let latest_ms = if is_planted(Bug::AppendTimeGoesBack) { now_ms } else { self.last_append_time_ms };
        let append_time_ms = now_ms.max(latest_ms);
        let mut outcome = AppendOutcome { results: Vec::with_capacity(batches.len()), error: None };
        while outcome.results.len() < batches.len() {
            let decided = outcome.results.len();
            match self.append_run(&batches[decided..], append_time_ms, &mut outcome.results) {
                Ok(()) => self.admission.keep(),
                Err(error) => {
                    // What was decided rests on batches that are not there: also the repeats and refusals among them.
                    self.admission.undo();
                    outcome.results.truncate(decided);
                    outcome.error = Some(error);
                    break;
                }
            }
        }
        // There may be 10,000 logs, and each keeps what it has here.
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH_BYTES_KEPT);
        outcome
    }

    /// Whether an append of these batches is one write into space that is there, and nothing else: no file is made,
    /// opened, grown or sealed, and nothing is read.
    pub fn is_one_write<'a>(&self, batches: impl Iterator<Item = &'a NewBatch>) -> bool {
        // A segment with something to sync has its file open.
        let Some(active) = self.active.as_ref().filter(|active| active.dirty) else { return false };
        let (mut bytes, mut is_quick) = (0, self.poisoned.is_none());
        for batch in batches {
            bytes += (HEADER_BYTES + batch.payload.len()) as u64;
            is_quick &= self.admission.is_quick(batch);
        }
        let end = u64::from(active.segment.end_position()) + bytes;
        let has_room = !self.options.is_full(&active.segment, self.next_offset, bytes);
        is_quick && has_room && active.allocation.is_ample(end, self.options)
    }

    /// Decides about as many of `batches` as belong into one segment, at least one, and writes what is to be written.
    fn append_run(
        &mut self,
        batches: &[NewBatch],
        append_time_ms: TimestampMs,
        results: &mut Vec<Result<Appended, BatchRefusal>>,
    ) -> Result<(), StorageError> {
        self.check_not_poisoned()?;
        let mut frames: Vec<Frame> = Vec::with_capacity(batches.len());
        let (mut next_offset, mut end) = (self.next_offset, 0);
        for batch in batches {
            let frame_bytes = (HEADER_BYTES + batch.payload.len()) as u64;
            let token = batch.terms.fencing_token;
            let is_higher = token > self.shared.fencing_token();
            if !frames.is_empty() && (is_higher || end + frame_bytes > self.options.segment_bytes) {
                break;
            }
            let fenced = if is_higher { self.shared.store_fencing_token(token) } else { Ok(()) };
            let decided = fenced
                .map_err(BatchRefusal::Storage)
                .and_then(|()| self.admission.decide(&self.shared, batch, next_offset, append_time_ms));
            let admitted = match decided {
                Ok(Verdict::Write(admitted)) => admitted,
                Ok(Verdict::Settled(appended)) => {
                    results.push(Ok(appended));
                    continue;
                }
                Err(refusal) => {
                    results.push(Err(refusal));
                    continue;
                }
            };
            if frames.is_empty() {
                end = self.make_room_for(admitted.payload.len(), append_time_ms)?.into();
            }
            let header = frame_header(&admitted, next_offset, append_time_ms, self.shared.durable_end());
            next_offset = header.next_offset();
            end += (HEADER_BYTES + admitted.payload.len()) as u64;
            results.push(Ok(appended(&header, admitted.duplicates)));
            frames.push(Frame { header, payload: admitted.payload });
        }
        if frames.is_empty() { Ok(()) } else { self.write(&frames, end) }
    }

    /// Writes frames behind the end of the active segment, which becomes `end`.
    fn write(&mut self, frames: &[Frame], end: u64) -> Result<(), StorageError> {
        let active = self.active.as_mut().expect("room was made in the active segment");
        let segment = Arc::clone(&active.segment);
        // It counts as changed from here on: a write that fails half-way may have changed it as well.
        let opened = segment.open_to_change()?;
        active.dirty = true;
        self.shared.set_has_unsynced(true);
        self.scratch.clear();
        self.scratch.reserve(frames.iter().map(Frame::copied_bytes).sum());
        for frame in frames {
            self.scratch.extend_from_slice(&frame.header.encode(opened.seed, &frame.payload));
            if frame.copied_bytes() > HEADER_BYTES {
                self.scratch.extend_from_slice(&frame.payload);
            }
        }
        let mut parts = write_parts(&self.scratch, frames);
        let free_bytes = || self.shared.fs.free_bytes(&self.shared.directory);
        let start = u64::from(segment.end_position());
        let room = active.allocation.make_room(&*opened.file, end, self.options, free_bytes);
        let written = room
            .and_then(|()| opened.file.write_all_at(start, &mut parts))
            .or_else(|error| if is_planted(Bug::ShortWriteIgnored) { Ok(()) } else { Err(error) });
        if let Err(error) = written.context("append to", segment.path()) {
            return Err(self.undo_failed_write(error));
        }
        active.drain_bytes += end - start;
        segment.publish(|index| frames.iter().for_each(|frame| index.push(&frame.header, frame.bytes())));
        let last = frames.last().expect("there is a frame to write").header;
        self.next_offset = last.next_offset();
        self.shared.set_log_end(self.next_offset);
        self.last_append_time_ms = last.append_time_ms;
        self.grown = true;
        Ok(())
    }

    /// Makes sure that there is an active segment into which a payload of this length may go. Gives its end.
    fn make_room_for(&mut self, payload_bytes: usize, now_ms: TimestampMs) -> Result<u32, StorageError> {
        let frame_bytes = (HEADER_BYTES + payload_bytes) as u64;
        if let Some(active) = &self.active {
            let end = u64::from(active.segment.end_position());
            let is_empty = end == SEGMENT_HEADER_BYTES as u64;
            if !is_empty && self.options.is_full(&active.segment, self.next_offset, frame_bytes) {
                self.seal()?;
            }
        }
        if self.active.is_none() {
            let header = SegmentHeader { log: self.shared.id, base_offset: self.next_offset, created_at_ms: now_ms };
            let shared = &self.shared;
            let (segment, allocation) = if let Some(next) = self.next_file.take() {
                next.begin(&shared.context, &shared.directory, &header)?
            } else {
                (Segment::create(&shared.context, &shared.directory, &header)?, Allocation::default())
            };
            let segment = Arc::new(segment);
            shared.set_has_unsynced(true);
            shared.change_segments(|segments| segments.push(Arc::clone(&segment)));
            self.directory_dirty = true;
            self.active = Some(Active::new(segment, allocation, true));
        }
        Ok(self.active.as_ref().map_or(0, |active| active.segment.end_position()))
    }

    /// After a write that failed, nothing of it may be left behind the end: a later, shorter write would be followed
    /// by remains that look like damage.
    fn undo_failed_write(&mut self, error: StorageError) -> StorageError {
        let active = self.active.as_mut().expect("a write was tried on it");
        let end = u64::from(active.segment.end_position());
        let cut = if is_planted(Bug::FailedWriteLeftBehind) {
            Ok(())
        } else {
            active.segment.open().and_then(|opened| opened.file.set_len(end).context("cut", active.segment.path()))
        };
        active.allocation.cut(end);
        match (&error, cut) {
            (StorageError::Full { .. }, Ok(())) => error,
            (_, cut) => self.poison(&cut.err().unwrap_or(error)),
        }
    }

    /// Makes everything written so far durable. On an error nobody knows what is on disk: the log is closed to
    /// appends and the records since the last sync are neither acknowledged nor refused.
    pub fn sync(&mut self) -> Result<(), StorageError> {
        let sync = self.begin_sync()?;
        let synced = sync.run();
        self.end_sync(&sync, synced)
    }

    /// What is to be synced for everything written so far to be durable. One at a time: [`Log::end_sync`] must be told how
    /// it went before the next one begins. What is appended meanwhile is not part of it.
    pub fn begin_sync(&mut self) -> Result<LogSync, StorageError> {
        self.check_not_poisoned()?;
        let was_dirty = self.active.as_mut().is_some_and(|active| std::mem::take(&mut active.dirty));
        let dirty = self.active.as_ref().filter(|_| was_dirty);
        Ok(LogSync {
            sealed: std::mem::take(&mut self.unsynced_sealed),
            written: dirty.map(|active| Arc::clone(&active.segment)),
            directory: std::mem::take(&mut self.directory_dirty),
            end: self.next_offset,
            point: self.active.as_ref().map(|active| DurablePoint {
                segment: active.segment.base_offset(),
                position: active.segment.end_position(),
                next_offset: self.next_offset,
                last_append_time_ms: self.last_append_time_ms,
            }),
            shared: Arc::clone(&self.shared),
        })
    }

    /// Says how a sync went. As [`Log::sync`].
    pub fn end_sync(&mut self, sync: &LogSync, synced: Result<(), StorageError>) -> Result<(), StorageError> {
        synced.map_err(|error| self.poison(&error))?;
        self.shared.set_durable_end(sync.end());
        let is_dirty = match &mut self.active {
            Some(active) => {
                active.was_synced = true;
                if !active.dirty {
                    active.segment.release_file();
                }
                // If it was sealed meanwhile, its keeper knows better.
                if let Some(point) = sync.point.filter(|point| point.segment == active.segment.base_offset()) {
                    self.shared.set_durable_point(point);
                }
                active.dirty
            }
            None => false,
        };
        self.shared.set_has_unsynced(is_dirty || self.directory_dirty || !self.unsynced_sealed.is_empty());
        Ok(())
    }

    /// Whether it should be synced although nobody waits for that: too many files of the broker cannot be closed
    /// before they are.
    pub fn should_sync(&self) -> bool {
        self.shared.has_unsynced() && self.poisoned.is_none() && self.shared.context.open_files.is_crowded()
    }

    /// Prepares space for the next appends. To be called when nobody waits; changes nothing that anyone can see.
    pub fn prepare_ahead(&mut self) {
        let Some(active) = &mut self.active else { return };
        let (drain_bytes, was_synced) = active.take_drained();
        if drain_bytes == 0 || self.poisoned.is_some() {
            return;
        }
        let Ok(opened) = active.segment.open() else { return };
        let end = u64::from(active.segment.end_position());
        let shared = &self.shared;
        let free_bytes = || shared.fs.free_bytes(&shared.directory);
        let is_nearly_full = active.allocation.reserve_ahead(&*opened.file, end, self.options, free_bytes);
        // Zeros are of use to syncs only: not where nobody asks for them.
        if was_synced {
            active.allocation.zero_ahead(&*opened.file, end, drain_bytes);
        }
        if is_nearly_full && self.next_file.is_none() {
            self.next_file = NextFile::prepare(&*shared.fs, &shared.directory, self.options);
        }
    }

    /// Seals the active segment if its first record is older than the options allow.
    pub fn seal_if_old(&mut self, now_ms: TimestampMs) -> Result<(), StorageError> {
        let Some(active) = &self.active else { return Ok(()) };
        if active.segment.is_older_than(self.options.seal_age_ms, now_ms)? { self.seal() } else { Ok(()) }
    }

    /// Seals the active segment if there is anything in it, so that compaction can have it.
    pub fn seal_now(&mut self) -> Result<(), StorageError> {
        let is_begun = self.active.as_ref().is_some_and(|active| self.next_offset > active.segment.base_offset());
        if is_begun { self.seal() } else { Ok(()) }
    }

    fn seal(&mut self) -> Result<(), StorageError> {
        // After a failed sync nothing may pass for synced any more, and a sealed segment could: the keeper would try.
        self.check_not_poisoned()?;
        // If it cannot be sealed it stays the active one, so that what is in it is not forgotten by the next sync.
        let is_synced = |active: &Active| is_planted(Bug::SealCountsAsSynced) && !active.dirty;
        self.active.as_ref().map_or(Ok(()), |active| active.segment.seal(is_synced(active)))?;
        let Some(active) = self.active.take() else { return Ok(()) };
        // The keeper may sync it first; then there is nothing left to do here.
        self.unsynced_sealed.retain(|segment| !segment.is_synced());
        // Even if every frame is durable, the cut is not: a checkpoint behind it would vouch for zeros at its end.
        self.shared.set_has_unsynced(true);
        self.unsynced_sealed.push(active.segment);
        self.save_producers();
        Ok(())
    }

    /// Hands what is known of producers to whoever makes the log durable up to here next; it is stored then.
    fn save_producers(&mut self) {
        match self.admission.producers(&self.shared) {
            Ok(table) => self.shared.save_producers(self.next_offset, producers_file::encode(table, self.next_offset)),
            Err(error) => tracing::warn!(%error, "the producers of a log are not saved"),
        }
    }

    /// Raises the fencing token, or takes it away; durable when it returns. Refused if it is below the present one.
    pub fn fence(&mut self, token: Option<u64>) -> Result<(), BatchRefusal> {
        if token.is_some() {
            check_token(self.shared.fencing_token(), token)?;
        }
        Ok(self.shared.store_fencing_token(token)?)
    }

    /// Makes everything durable and leaves a checkpoint, so that the next open has nothing to read. A log that was not
    /// appended to since it was last closed is left as it is.
    pub fn close(mut self) -> Result<(), StorageError> {
        self.shared.close_to_compaction();
        if let Some(next) = self.next_file.take() {
            next.remove(&*self.shared.fs);
        }
        self.sync()?;
        if self.grown {
            self.save_producers();
        }
        self.shared.store_last_checkpoint(self.next_offset, self.last_append_time_ms)?;
        self.shared.store_saved_producers(self.next_offset);
        Ok(())
    }

    /// Closes it without making anything durable: its files are going to be removed. Nothing writes to them any more.
    pub fn discard(self) {
        self.shared.close_to_compaction();
    }

    fn check_not_poisoned(&self) -> Result<(), StorageError> {
        match &self.poisoned {
            Some(cause) => Err(StorageError::Poisoned { path: self.shared.directory.clone(), cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, error: &StorageError) -> StorageError {
        let cause = self.poisoned.get_or_insert_with(|| error.to_string()).clone();
        StorageError::Poisoned { path: self.shared.directory.clone(), cause }
    }
}

#[cfg(test)]
#[path = "producer_log_tests.rs"]
mod producer_tests;
#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;

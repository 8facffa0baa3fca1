//! One segment: a file of frames, its sparse index, and the map it is read through.
//!
//! A segment is *active* (the last of its log, appended to by the one writer) or *sealed* (never changes again). Both
//! are read the same way and concurrently: the writer publishes the end of what it has written, readers never look
//! beyond it. Either is opened when it is needed, and may be closed again by [`crate::storage::open_files`] at any time
//! at which all its bytes are on disk; what is always in memory is its end, and the index of an active one.
//!
//! Knows nothing of durability otherwise: [`crate::storage::log`] decides when to sync.

pub mod header;
pub mod index;
mod index_file;
pub mod scan;

use crate::limits::{BATCH_BYTES_LIMIT_MAX, SEGMENT_BYTES_MAX};
use crate::planted::{Bug, is_planted};
use crate::storage::context::StorageContext;
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, FileSystem, OpenMode};
use crate::storage::frame::HEADER_BYTES;
use crate::storage::open_files::{OpenFiles, Opened, Purpose, Slot};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::types::{Offset, TimestampMs};
use bytes::Bytes;
use header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use index::SparseIndex;
pub use index_file::load_index;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError};

/// How far the map of an active segment reaches: as far as the segment may ever grow. A first batch may be larger than
/// the segment should be. It costs address space only, of which there are 128 TiB.
#[expect(clippy::cast_possible_truncation, reason = "maps need 64 bits anyway")]
const ACTIVE_VIEW_BYTES: usize = SEGMENT_BYTES_MAX as usize + BATCH_BYTES_LIMIT_MAX as usize + 2 * HEADER_BYTES;

/// One segment of a log. Shared between the writer and readers.
#[derive(Debug)]
pub struct Segment {
    fs: Arc<dyn FileSystem>,
    open_files: Arc<OpenFiles>,
    log: LogId,
    path: PathBuf,
    base_offset: Offset,
    /// Position after the last frame that readers may look at. Stored with Release after the bytes are written.
    end_position: AtomicU32,
    /// Whether it will never change again.
    sealed: AtomicBool,
    /// Whether everything up to the end is on disk. Only ever set once the segment is sealed.
    synced: AtomicBool,
    /// Why its sync failed, once one did: a second one would succeed and mean nothing.
    sync_failure: Mutex<Option<Box<StorageError>>>,
    slot: Arc<Slot>,
    /// Of an active segment; that of a sealed one is kept with its open file.
    index: Mutex<Option<Box<SparseIndex>>>,
    /// Of a sealed segment, once its index was in memory: upkeep asks for them again and again.
    facts: OnceLock<SegmentFacts>,
}

/// What a segment holds, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Offset after its last record.
    pub next_offset: Offset,
    /// When its first frame was appended; `None` while there is none.
    pub first_append_time_ms: Option<TimestampMs>,
    /// When its last frame was appended.
    pub last_append_time_ms: TimestampMs,
    /// Latest time of any record.
    pub max_record_time_ms: TimestampMs,
}

impl From<&SparseIndex> for SegmentFacts {
    fn from(index: &SparseIndex) -> Self {
        Self {
            next_offset: index.next_offset,
            first_append_time_ms: index.first_append_time_ms,
            last_append_time_ms: index.last_append_time_ms,
            max_record_time_ms: index.max_record_time_ms,
        }
    }
}

/// `00000000000000000042` for offset 42: names sort as offsets do.
pub fn file_stem(base_offset: Offset) -> String {
    format!("{:020}", base_offset.0)
}

/// The base offset in the name of a segment file (`<20 digits>.log`); `None` for any other name.
pub fn base_offset_of(name: &str) -> Option<Offset> {
    let stem = name.strip_suffix(".log")?;
    (stem.len() == 20 && stem.bytes().all(|b| b.is_ascii_digit())).then(|| stem.parse().ok().map(Offset))?
}

impl Segment {
    /// Creates the file of a new active segment.
    pub fn create(context: &StorageContext, directory: &Path, header: &SegmentHeader) -> Result<Self, StorageError> {
        let path = directory.join(file_stem(header.base_offset)).with_extension("log");
        let file = context.open_files.take("create", &path, || context.fs.open(&path, OpenMode::CreateNew))?;
        let begun = Self::begin(context, directory, file, header);
        if begun.is_err() {
            // Without its header it would be in the way of the next attempt.
            let _ = context.fs.remove_file(&path);
        }
        begun
    }

    /// Begins a new active segment in a file without bytes, which gets its name from the caller.
    pub(super) fn begin(
        context: &StorageContext,
        directory: &Path,
        file: Arc<dyn File>,
        header: &SegmentHeader,
    ) -> Result<Self, StorageError> {
        let segment = Self::sealed(context, directory, header.log, header.base_offset, 0, false);
        let Self { open_files, path, .. } = &segment;
        let bytes = header.encode();
        file.write_all_at(0, &mut [IoSlice::new(&bytes)]).context("write", path)?;
        let seed = SegmentHeader::decode_seed(&bytes, header.log, header.base_offset)
            .map_err(|what| StorageError::corrupt(path, 0, what))?;
        open_files.insert(&segment.slot, open_files.opened(file, seed, ACTIVE_VIEW_BYTES));
        segment.reactivate(SparseIndex::new(header.base_offset));
        Ok(segment)
    }

    /// A sealed segment of `end_position` bytes that is not opened yet. `synced` says that it is known to be on disk.
    pub fn sealed(
        context: &StorageContext,
        directory: &Path,
        log: LogId,
        base_offset: Offset,
        end_position: u32,
        synced: bool,
    ) -> Self {
        Self {
            fs: Arc::clone(&context.fs),
            open_files: Arc::clone(&context.open_files),
            log,
            path: directory.join(file_stem(base_offset)).with_extension("log"),
            base_offset,
            end_position: AtomicU32::new(end_position),
            sealed: AtomicBool::new(true),
            synced: AtomicBool::new(synced),
            sync_failure: Mutex::default(),
            slot: Arc::default(),
            index: Mutex::new(None),
            facts: OnceLock::new(),
        }
    }

    /// Turns a segment that nobody has looked at yet into one that is appended to, behind the end of `index`.
    pub fn reactivate(&self, index: SparseIndex) {
        debug_assert!(self.facts.get().is_none(), "facts of a sealed segment, which never change");
        self.end_position.store(index.end_position, Ordering::Release);
        self.sealed.store(false, Ordering::Release);
        self.synced.store(false, Ordering::Release);
        *lock(&self.index) = Some(Box::new(index));
    }

    /// Offset of the first record in it.
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Position after the last frame.
    pub fn end_position(&self) -> u32 {
        self.end_position.load(Ordering::Acquire)
    }

    /// Whether it will never change again.
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Says that it will never change again: gives unused space back to the disk and saves the index. `synced` says
    /// that every byte is on disk already.
    ///
    /// Only bytes behind the end are cut, which no reader was ever given: see `storage::mmap`.
    pub fn seal(&self, synced: bool) -> Result<(), StorageError> {
        let opened = self.open_to_change()?;
        opened.file.set_len(self.end_position().into()).context("cut", &self.path)?;
        if let Err(error) = self.save_index() {
            tracing::warn!(%error, "the index of a sealed segment was not saved; it will be rebuilt when needed");
        }
        if let Some(index) = lock(&self.index).take() {
            let _ = self.facts.set(SegmentFacts::from(&*index));
            self.open_files.keep_index(&opened, *index);
        }
        self.synced.store(synced, Ordering::Release);
        self.sealed.store(true, Ordering::Release);
        if synced {
            self.slot.unpin();
        }
        Ok(())
    }

    /// Whether it is sealed and known to be on disk.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Lets go of the file, the map and the index of a sealed segment; whoever reads it next opens it again.
    pub fn close_file(&self) {
        self.slot.close();
    }

    /// Opens the file, for as long as anybody holds this segment: readers go on with it when its name is another's.
    pub fn pin(&self) -> Result<(), StorageError> {
        self.open_files.open(&self.slot, Purpose::Keep, || self.open_file()).map(drop)
    }

    /// Gives a segment that was just written its index.
    pub fn give_index(&self, index: SparseIndex) {
        let _ = self.facts.set(SegmentFacts::from(&index));
        // Whoever needs it can load it as well.
        if let Ok(opened) = self.open() {
            self.open_files.keep_index(&opened, index);
        }
    }

    /// Makes durable what was written before the call; a sealed segment once and for all. A failure is final: whoever asks
    /// again gets the same one.
    ///
    /// One caller at a time, to the end: of two that sync the same file side by side only one hears of a failure; and
    /// as soon as a sealed one is synced the keeper may close and delete it, while the writer is about to open it.
    pub fn sync(&self) -> Result<(), StorageError> {
        let mut failure = lock(&self.sync_failure);
        let is_retried = is_planted(Bug::RetriesFailedSync) || is_planted(Bug::RetryFailedSync);
        if let Some(error) = failure.as_ref().filter(|_| !is_retried) {
            return Err(StorageError::clone(error));
        }
        if self.is_synced() {
            return Ok(());
        }
        // One that is sealed meanwhile was cut meanwhile, and is to be synced again.
        let is_sealed = self.is_sealed();
        let synced = self.open().and_then(|opened| opened.file.sync_data().context("sync", &self.path));
        synced.map_err(|error| StorageError::clone(failure.insert(Box::new(error))))?;
        if is_sealed {
            self.synced.store(true, Ordering::Release);
            self.slot.unpin();
        }
        Ok(())
    }

    /// Said by the writer of an active segment when it is synced to its end: the file may be closed for others.
    pub fn release_file(&self) {
        self.slot.unpin();
    }

    /// Whether it is open, most likely because somebody reads it.
    pub fn is_open(&self) -> bool {
        self.slot.is_open()
    }

    /// The open file, opened now if it was not.
    pub fn open(&self) -> Result<Arc<Opened>, StorageError> {
        self.open_files.open(&self.slot, Purpose::Read, || self.open_file())
    }

    /// The open file, to be changed: it stays open until a sync of this segment has succeeded.
    pub fn open_to_change(&self) -> Result<Arc<Opened>, StorageError> {
        self.open_files.open(&self.slot, Purpose::Change, || self.open_file())
    }

    fn open_file(&self) -> Result<Opened, StorageError> {
        let open = || self.fs.open(&self.path, OpenMode::Write);
        let file = self.open_files.take("open", &self.path, open)?;
        let len = file.len().context("read", &self.path)?;
        let mut header = [0; SEGMENT_HEADER_BYTES];
        if len < self.end_position().into() || len < header.len() as u64 {
            let what = format!("it has {len} bytes, {} were written", self.end_position());
            return Err(StorageError::corrupt(&self.path, len, what));
        }
        file.read_exact_at(0, &mut header).context("read", &self.path)?;
        let seed = SegmentHeader::decode_seed(&header, self.log, self.base_offset)
            .map_err(|what| StorageError::corrupt(&self.path, 0, what))?;
        let sealed_bytes = usize::try_from(len).expect("64-bit");
        let view_bytes = if self.is_sealed() { sealed_bytes } else { ACTIVE_VIEW_BYTES };
        Ok(self.open_files.opened(file, seed, view_bytes))
    }

    /// Written bytes from `position` on: at most `len`, fewer at the end.
    pub fn window(&self, position: u32, len: usize) -> Result<Bytes, StorageError> {
        let end = self.end_position();
        let len = len.min(end.saturating_sub(position) as usize);
        let opened = self.open()?;
        if self.is_sealed() {
            // Those of the active segment are in memory; these may have to come from a disk that does not give them.
            return self.open_files.slice_from_disk(&self.path, &opened, position as usize, len);
        }
        self.open_files.slice(&self.path, &opened, position as usize, len)
    }

    /// Publishes frames that were written behind the end: to the index, then to readers.
    pub fn publish(&self, extend_index: impl FnOnce(&mut SparseIndex)) {
        let mut index = lock(&self.index);
        let index = index.as_mut().expect("the active segment always has its index");
        extend_index(index);
        self.end_position.store(index.end_position, Ordering::Release);
    }

    /// What it holds. Of a sealed segment this is read from disk once.
    pub fn facts(&self) -> Result<SegmentFacts, StorageError> {
        match self.facts.get() {
            Some(facts) => Ok(*facts),
            None => self.with_index(|index| SegmentFacts::from(index)),
        }
    }

    /// Whether its first frame was appended more than `age_ms` ago.
    pub fn is_older_than(&self, age_ms: u64, now_ms: TimestampMs) -> Result<bool, StorageError> {
        let first = self.facts()?.first_append_time_ms;
        Ok(first.is_some_and(|first| u64::try_from(now_ms.saturating_sub(first)).unwrap_or(0) > age_ms))
    }

    /// Looks something up in the index, which is loaded, or rebuilt from the frames, if need be.
    pub fn with_index<T>(&self, look: impl FnOnce(&SparseIndex) -> T) -> Result<T, StorageError> {
        if let Some(index) = &*lock(&self.index) {
            return Ok(look(index));
        }
        let opened = self.open()?;
        let index = match opened.index() {
            Some(index) => index,
            None => self.open_files.keep_index(&opened, self.load_or_rebuild_index(&opened)?),
        };
        let _ = self.facts.set(SegmentFacts::from(index));
        Ok(look(index))
    }

    /// Writes the index file beside the segment. It is derived, so it is not synced and a failure only costs time.
    pub fn save_index(&self) -> Result<(), StorageError> {
        let seed = self.open()?.seed;
        let bytes = self.with_index(|index| index.encode(seed))?;
        index_file::save(&*self.fs, &self.path, &bytes)
    }

    /// The same for the frames before `position`, which is the end of one: for a segment that is being appended to.
    pub fn save_index_up_to(&self, position: u32) -> Result<(), StorageError> {
        let opened = self.open()?;
        // Copied, so that appends do not wait for the rest.
        let mut index = self.with_index(SparseIndex::clone)?.cut_before(position);
        let known = self.open_files.slice(&self.path, &opened, 0, position as usize)?;
        drop(scan::scan(&known, opened.seed, false, &mut index));
        if index.end_position != position {
            let what = format!("no frame ends at byte {position}");
            return Err(StorageError::corrupt(&self.path, index.end_position.into(), what));
        }
        index_file::save(&*self.fs, &self.path, &index.encode(opened.seed))
    }

    fn load_or_rebuild_index(&self, opened: &Opened) -> Result<SparseIndex, StorageError> {
        let end = self.end_position();
        let fits = |index: &SparseIndex| index.end_position == end || is_planted(Bug::StaleIndexTrusted);
        if let Some(index) = self.load_index(opened.seed).filter(fits) {
            return Ok(index);
        }
        tracing::info!(path = %self.path.display(), "rebuilding the index of a segment");
        let file = self.open_files.slice_from_disk(&self.path, opened, 0, end as usize)?;
        let mut index = SparseIndex::new(self.base_offset);
        // Damage is stepped over here and met by whoever reads it.
        drop(scan::scan(&file, opened.seed, false, &mut index));
        Ok(index)
    }

    /// The first frame, from `position` on, that verifies and reaches beyond `offset`; its position and first offset.
    pub fn find_frame_beyond(&self, position: u32, offset: Offset) -> Result<Option<(u32, Offset)>, StorageError> {
        let seed = self.open()?.seed;
        let bytes = self.window(position, usize::MAX)?;
        let found = scan::find_frame_beyond(&bytes, seed, self.base_offset, 0, offset);
        Ok(found.map(|(at, header)| {
            (position + u32::try_from(at).expect("positions in a segment are 32-bit"), header.base_offset)
        }))
    }

    /// The index file, if there is a whole one of this segment, of frames that are still there.
    pub fn load_index(&self, seed: u32) -> Option<SparseIndex> {
        load_index(&*self.fs, &self.path, self.base_offset, seed, self.end_position())
    }
}

/// Locks; a panic elsewhere while holding one of these leaves plain data that is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

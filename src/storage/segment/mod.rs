//! One segment: a file of frames, its sparse index, and the map it is read through.
//!
//! A segment is *active* (the last of its log, appended to by the one writer) or *sealed* (never changes again). Both
//! are read the same way and concurrently: the writer publishes the end of what it has written, readers never look
//! beyond it. A sealed segment is opened when it is first read.
//!
//! Knows nothing of durability: [`crate::storage::log`] decides when to sync.

pub mod header;
pub mod index;
pub mod scan;

use crate::planted::{Bug, is_planted};
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, FileSystem, OpenMode, View};
use crate::storage::frame::{FrameHeader, HEADER_BYTES};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::types::Offset;
use bytes::Bytes;
use header::{LogId, SEGMENT_HEADER_BYTES, SegmentHeader};
use index::SparseIndex;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// One segment of a log. Shared between the writer and readers.
#[derive(Debug)]
pub struct Segment {
    fs: Arc<dyn FileSystem>,
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
    sync_failure: Mutex<Option<StorageError>>,
    opened: Mutex<Option<Arc<Opened>>>,
    /// Whether its file stays open: another one has, or will have, its name.
    pinned: AtomicBool,
    /// `None` until it is needed (sealed segments).
    index: Mutex<Option<SparseIndex>>,
}

/// The open file of a segment.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: Arc<dyn File>,
    /// Seed of its checksums.
    pub seed: u32,
    view: Arc<dyn View>,
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
    /// Creates the file of a new active segment. `view_bytes` is the most it will ever hold.
    pub fn create(
        fs: &Arc<dyn FileSystem>,
        directory: &Path,
        header: &SegmentHeader,
        view_bytes: usize,
    ) -> Result<Self, StorageError> {
        let path = directory.join(file_stem(header.base_offset)).with_extension("log");
        let file = fs.open(&path, OpenMode::CreateNew).context("create", &path)?;
        let bytes = header.encode();
        if let Err(error) = file.write_all_at(0, &mut [IoSlice::new(&bytes)]) {
            // Without its header it would be in the way of the next attempt.
            let _ = fs.remove_file(&path);
            return Err(StorageError::io("write", &path, error));
        }
        let seed = SegmentHeader::decode_seed(&bytes, header.log, header.base_offset)
            .map_err(|what| StorageError::corrupt(&path, 0, what))?;
        let view = file.view(view_bytes).context("map", &path)?;
        let index = SparseIndex::new(header.base_offset);
        Ok(Self {
            fs: Arc::clone(fs),
            log: header.log,
            path,
            base_offset: header.base_offset,
            end_position: AtomicU32::new(index.end_position),
            sealed: AtomicBool::new(false),
            synced: AtomicBool::new(false),
            sync_failure: Mutex::default(),
            opened: Mutex::new(Some(Arc::new(Opened { file, seed, view }))),
            pinned: AtomicBool::new(false),
            index: Mutex::new(Some(index)),
        })
    }

    /// A sealed segment of `end_position` bytes that is not opened yet. `synced` says that it is known to be on disk.
    pub fn sealed(
        fs: &Arc<dyn FileSystem>,
        directory: &Path,
        log: LogId,
        base_offset: Offset,
        end_position: u32,
        synced: bool,
    ) -> Self {
        Self {
            fs: Arc::clone(fs),
            log,
            path: directory.join(file_stem(base_offset)).with_extension("log"),
            base_offset,
            end_position: AtomicU32::new(end_position),
            sealed: AtomicBool::new(true),
            synced: AtomicBool::new(synced),
            sync_failure: Mutex::default(),
            opened: Mutex::new(None),
            pinned: AtomicBool::new(false),
            index: Mutex::new(None),
        }
    }

    /// Turns a segment that was just recovered into one that is appended to: it is opened for writing, with a map
    /// that has room for `view_bytes`, and ends where `index` ends.
    pub fn reactivate(&self, index: SparseIndex, view_bytes: usize) -> Result<(), StorageError> {
        let opened = self.open_file(Some(view_bytes))?;
        self.end_position.store(index.end_position, Ordering::Release);
        self.sealed.store(false, Ordering::Release);
        self.synced.store(false, Ordering::Release);
        *lock(&self.opened) = Some(Arc::new(opened));
        *lock(&self.index) = Some(index);
        Ok(())
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
        self.open()?.file.set_len(self.end_position().into()).context("cut", &self.path)?;
        if let Err(error) = self.save_index() {
            tracing::warn!(%error, "the index of a sealed segment was not saved; it will be rebuilt when needed");
        }
        self.synced.store(synced, Ordering::Release);
        self.sealed.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether it is sealed and known to be on disk.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Lets go of the file, the map and the index of a sealed segment; whoever reads it next opens it again.
    pub fn close_file(&self) {
        *lock(&self.index) = None;
        let mut opened = lock(&self.opened);
        if !self.pinned.load(Ordering::Acquire) {
            *opened = None;
        }
    }

    /// Opens the file, for as long as anybody holds this segment: readers go on with it when its name is another's.
    pub fn pin(&self) -> Result<(), StorageError> {
        self.pinned.store(true, Ordering::Release);
        self.open().map(drop)
    }

    /// Gives a segment that was just written its index.
    pub fn give_index(&self, index: SparseIndex) {
        *lock(&self.index) = Some(index);
    }

    /// Makes a sealed segment durable, once. A failure is final: whoever asks again gets the same one.
    ///
    /// One caller at a time, to the end: of two that sync the same file side by side only one hears of a failure; and
    /// as soon as it is synced the keeper may close and delete it, while the writer is about to open it.
    pub fn sync_sealed(&self) -> Result<(), StorageError> {
        let mut failure = lock(&self.sync_failure);
        if let Some(error) = failure.as_ref().filter(|_| !is_planted(Bug::RetriesFailedSync)) {
            return Err(error.clone());
        }
        if self.is_synced() {
            return Ok(());
        }
        let synced = self.open().and_then(|opened| opened.file.sync_data().context("sync", &self.path));
        match synced {
            Ok(()) => self.synced.store(true, Ordering::Release),
            Err(error) => return Err(failure.insert(error).clone()),
        }
        Ok(())
    }

    /// The open file, opened now if it was not.
    pub fn open(&self) -> Result<Arc<Opened>, StorageError> {
        let mut opened = lock(&self.opened);
        if let Some(opened) = &*opened {
            return Ok(Arc::clone(opened));
        }
        let fresh = Arc::new(self.open_file(None)?);
        *opened = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    fn open_file(&self, view_bytes: Option<usize>) -> Result<Opened, StorageError> {
        let file = self.fs.open(&self.path, OpenMode::Write).context("open", &self.path)?;
        let len = file.len().context("read", &self.path)?;
        let mut header = [0; SEGMENT_HEADER_BYTES];
        if len < self.end_position().into() || len < header.len() as u64 {
            let what = format!("it has {len} bytes, {} were written", self.end_position());
            return Err(StorageError::corrupt(&self.path, len, what));
        }
        file.read_exact_at(0, &mut header).context("read", &self.path)?;
        let seed = SegmentHeader::decode_seed(&header, self.log, self.base_offset)
            .map_err(|what| StorageError::corrupt(&self.path, 0, what))?;
        let view_bytes = view_bytes.unwrap_or(usize::try_from(len).expect("64-bit"));
        let view = file.view(view_bytes).context("map", &self.path)?;
        Ok(Opened { file, seed, view })
    }

    /// Written bytes from `position` on: at most `len`, fewer at the end.
    pub fn window(&self, position: u32, len: usize) -> Result<Bytes, StorageError> {
        let end = self.end_position();
        let len = len.min(end.saturating_sub(position) as usize);
        let opened = self.open()?;
        if self.is_sealed() {
            // Those of the active segment are in memory; these may have to come from a disk that does not give them.
            opened.view.load(position as usize, len).context("read", &self.path)?;
        }
        Ok(opened.view.slice(position as usize, len))
    }

    /// Publishes frames that were written behind the end: to the index, then to readers.
    pub fn publish(&self, extend_index: impl FnOnce(&mut SparseIndex)) {
        let mut index = lock(&self.index);
        let index = index.as_mut().expect("the active segment always has its index");
        extend_index(index);
        self.end_position.store(index.end_position, Ordering::Release);
    }

    /// Looks something up in the index, which is loaded, or rebuilt from the frames, if need be.
    pub fn with_index<T>(&self, look: impl FnOnce(&SparseIndex) -> T) -> Result<T, StorageError> {
        let mut index = lock(&self.index);
        if index.is_none() {
            *index = Some(self.load_or_rebuild_index()?);
        }
        Ok(look(index.as_ref().expect("it was just put there")))
    }

    /// Writes the index file beside the segment. It is derived, so it is not synced and a failure only costs time.
    pub fn save_index(&self) -> Result<(), StorageError> {
        let path = self.path.with_extension("index");
        let seed = self.open()?.seed;
        let bytes = self.with_index(|index| index.encode(seed))?;
        let file = self.fs.open(&path, OpenMode::Replace).context("create", &path)?;
        file.write_all_at(0, &mut [IoSlice::new(&bytes)]).context("write", &path)
    }

    fn load_or_rebuild_index(&self) -> Result<SparseIndex, StorageError> {
        let opened = self.open()?;
        let end = self.end_position();
        let fits = |index: &SparseIndex| index.end_position == end || is_planted(Bug::StaleIndexTrusted);
        if let Some(index) = self.load_index(opened.seed).filter(fits) {
            return Ok(index);
        }
        tracing::info!(path = %self.path.display(), "rebuilding the index of a segment");
        opened.view.load(0, end as usize).context("read", &self.path)?;
        let file = opened.view.slice(0, end as usize);
        let mut index = SparseIndex::new(self.base_offset);
        // Damage is stepped over here and met by whoever reads it.
        drop(scan::scan(&file, opened.seed, false, &mut index));
        Ok(index)
    }

    /// The first frame, from `position` on, that verifies and reaches beyond `offset`; its position and first offset.
    pub fn find_frame_beyond(&self, position: u32, offset: Offset) -> Result<Option<(u32, Offset)>, StorageError> {
        let seed = self.open()?.seed;
        let bytes = self.window(position, usize::MAX)?;
        let found = scan::find_frame_beyond(&bytes, seed, 0, offset);
        Ok(found.map(|(at, header)| {
            (position + u32::try_from(at).expect("positions in a segment are 32-bit"), header.base_offset)
        }))
    }

    /// The index file, if there is a whole one of this segment, of frames that are still there.
    pub fn load_index(&self, seed: u32) -> Option<SparseIndex> {
        let file = self.fs.open(&self.path.with_extension("index"), OpenMode::Read).ok()?;
        let len = file.len().ok()?;
        // One entry per interval is the most there can be; anything larger is not our file.
        let most = u64::from(self.end_position() / index::INTERVAL_BYTES + 2) * 16 + 128;
        let mut bytes = vec![0; usize::try_from(len.min(most)).expect("64-bit")];
        file.read_exact_at(0, &mut bytes).ok()?;
        let index = SparseIndex::decode(&bytes, seed, self.base_offset)?;
        if index.last_frame_position == 0 {
            return (index == SparseIndex::new(self.base_offset)).then_some(index);
        }
        let mut header = [0; HEADER_BYTES];
        let segment = self.fs.open(&self.path, OpenMode::Read).ok()?;
        segment.read_exact_at(index.last_frame_position.into(), &mut header).ok()?;
        let (last, frame_bytes) = FrameHeader::decode(&header).ok()?;
        let fits = index.ends_with(&last, u32::try_from(frame_bytes).ok()?) || is_planted(Bug::StaleIndexTrusted);
        fits.then_some(index)
    }
}

/// Locks; a panic elsewhere while holding one of these leaves plain data that is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

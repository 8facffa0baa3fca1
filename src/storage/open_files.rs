//! The open segment files of a broker: how many there may be, and which one is closed for the next.
//!
//! Descriptors and maps are scarce: 1,024 and 65,530 are common, and a broker may hold 40,000 segments. So a segment is
//! open while it is used or was of late, and has its file in a [`Slot`] that this module may empty. Which one goes is
//! a second-chance choice (a ring, and a mark that each use sets): as good as the least recently used one here, and a
//! use takes no lock that segments share.
//!
//! A file with bytes that are not on disk is *pinned*, because the kernel tells of a failed write-back only through
//! descriptors that were open at the time: it stays open until it was synced. [`OpenFiles::is_crowded`] says when
//! writers must see to that. What was given out (an [`Opened`], bytes of its map) stays good after its slot was emptied.

use crate::limits::OPEN_INDEX_BYTES_MAX;
use crate::planted::{Bug, is_planted};
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, View};
use crate::storage::segment::index::SparseIndex;
// Not its atomics: these only count, also where a `OnceLock` is being set, and nobody may be suspended there.
use crate::sync::{Mutex, MutexGuard};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, TryLockError, Weak};

/// When the system has none left, so many files are closed before the second attempt: some may be in use elsewhere and
/// stay open a little longer.
const CLOSED_FOR_ONE: usize = 16;

/// The open segment files of a broker, shared by all its logs.
#[derive(Debug)]
pub struct OpenFiles {
    capacity: usize,
    /// Every slot with a file, once; the first is looked at first.
    ring: Mutex<VecDeque<Weak<Slot>>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    pinned: AtomicUsize,
    index_bytes: AtomicUsize,
    evictions: AtomicU64,
}

/// Where a segment has its file while it is open.
#[derive(Debug, Default)]
pub struct Slot {
    held: Mutex<Held>,
    /// Set by each use, cleared by the eviction that spares the file for it.
    is_used: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    opened: Option<Arc<Opened>>,
    pin: Option<Counted>,
    is_kept: bool,
    is_in_ring: bool,
}

/// An open segment file.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: Arc<dyn File>,
    /// Seed of its checksums.
    pub seed: u32,
    /// How far the map reaches.
    view_bytes: usize,
    /// Made when it is first read: a segment that is only written needs no map.
    view: OnceLock<Arc<dyn View>>,
    /// Of a sealed segment, once it was looked something up in.
    index: OnceLock<(SparseIndex, Counted)>,
    _counted: Counted,
}

/// Why a segment is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To look at it.
    Read,
    /// To change it: it stays open until [`Slot::unpin`] says that it was synced.
    Change,
    /// To have it for as long as the slot lives: its name is going to be another's.
    Keep,
}

/// What is open now, for metrics.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct OpenFilesReading {
    /// Segment files that are open.
    pub open: u64,
    /// Of these, files with bytes that are not on disk.
    pub pinned: u64,
    /// How many there may be.
    pub capacity: u64,
    /// Files that were closed to make room, ever.
    pub evictions: u64,
}

impl OpenFiles {
    /// At most about `capacity` open files; a few more for moments in which all of them are in use.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity: capacity.max(1), ring: Mutex::default(), counts: Arc::default() })
    }

    /// The file of `slot`; `open` opens it if it is not open.
    pub fn open(
        &self,
        slot: &Arc<Slot>,
        purpose: Purpose,
        open: impl FnOnce() -> Result<Opened, StorageError>,
    ) -> Result<Arc<Opened>, StorageError> {
        {
            let mut held = lock(&slot.held);
            if let Some(opened) = held.opened.clone() {
                self.use_it(slot, &mut held, purpose);
                return Ok(opened);
            }
        }
        // Before the slot is locked again: whoever makes room looks at other slots.
        self.make_room();
        let mut held = lock(&slot.held);
        let opened = match held.opened.clone() {
            Some(opened) => opened,
            None => Arc::new(open()?),
        };
        self.hold(slot, &mut held, &opened, purpose);
        Ok(opened)
    }

    /// Takes a file into `slot` that was just created, and changed.
    pub fn insert(&self, slot: &Arc<Slot>, opened: Opened) {
        self.make_room();
        let mut held = lock(&slot.held);
        self.hold(slot, &mut held, &Arc::new(opened), Purpose::Change);
    }

    fn hold(&self, slot: &Arc<Slot>, held: &mut Held, opened: &Arc<Opened>, purpose: Purpose) {
        held.opened = Some(Arc::clone(opened));
        self.use_it(slot, held, purpose);
        if !std::mem::replace(&mut held.is_in_ring, true) {
            let mut ring = lock(&self.ring);
            ring.push_back(Arc::downgrade(slot));
            // Slots that were emptied otherwise than by an eviction are met by the next one, which may never come.
            if ring.len() > 2 * self.capacity {
                ring.retain(|slot| slot.upgrade().is_some_and(|slot| !slot.leave_ring_if_empty()));
            }
        }
    }

    fn use_it(&self, slot: &Slot, held: &mut Held, purpose: Purpose) {
        slot.is_used.store(true, Ordering::Relaxed);
        held.is_kept |= purpose == Purpose::Keep;
        if purpose == Purpose::Change && held.pin.is_none() {
            held.pin = Some(Counted::new(&self.counts, |counts| &counts.pinned, 1));
        }
    }

    /// An open file, to be put into a slot.
    pub fn opened(&self, file: Arc<dyn File>, seed: u32, view_bytes: usize) -> Opened {
        let counted = Counted::new(&self.counts, |counts| &counts.open, 1);
        Opened { file, seed, view_bytes, view: OnceLock::new(), index: OnceLock::new(), _counted: counted }
    }

    /// Does something that takes a descriptor or a map. If the system has none left, files are closed and it is tried
    /// once more; the second refusal says which limit was met.
    pub fn take<T>(
        &self,
        operation: &'static str,
        path: &Path,
        take: impl Fn() -> io::Result<T>,
    ) -> Result<T, StorageError> {
        let first = take().map_err(|error| StorageError::io(operation, path, error));
        match first {
            Err(StorageError::Exhausted { .. }) => {
                let closed = (0..CLOSED_FOR_ONE).take_while(|_| self.evict_one()).count();
                tracing::warn!(path = %path.display(), closed, "the system has no more files or maps; closed some");
                take().map_err(|error| StorageError::io(operation, path, error))
            }
            result => result,
        }
    }

    /// Bytes of an open file's map.
    pub fn slice(&self, path: &Path, opened: &Opened, position: usize, len: usize) -> Result<Bytes, StorageError> {
        Ok(self.view(path, opened)?.slice(position, len))
    }

    /// The same, of bytes that may have to come from a disk, which may not give them.
    pub fn slice_from_disk(
        &self,
        path: &Path,
        opened: &Opened,
        position: usize,
        len: usize,
    ) -> Result<Bytes, StorageError> {
        let view = self.view(path, opened)?;
        view.load(position, len).context("read", path)?;
        Ok(view.slice(position, len))
    }

    fn view<'o>(&self, path: &Path, opened: &'o Opened) -> Result<&'o Arc<dyn View>, StorageError> {
        if let Some(view) = opened.view.get() {
            return Ok(view);
        }
        let view = self.take("map", path, || opened.file.view(opened.view_bytes))?;
        Ok(opened.view.get_or_init(|| view))
    }

    /// Keeps the index of a sealed segment for as long as it is open.
    pub fn keep_index<'o>(&self, opened: &'o Opened, index: SparseIndex) -> &'o SparseIndex {
        let (index, _) = opened.index.get_or_init(|| {
            let counted = Counted::new(&self.counts, |counts| &counts.index_bytes, index.heap_bytes());
            (index, counted)
        });
        while self.counts.index_bytes.load(Ordering::Relaxed) > OPEN_INDEX_BYTES_MAX && self.evict_one() {}
        index
    }

    /// Whether so many files are pinned that a writer should sync its log now, even if nobody waits for it: beyond
    /// this there would soon be none that may be closed.
    pub fn is_crowded(&self) -> bool {
        self.counts.pinned.load(Ordering::Relaxed) > self.capacity - self.capacity / 4
    }

    /// Whether idle logs should be synced, so that writers need not.
    pub fn is_filling_up(&self) -> bool {
        self.counts.pinned.load(Ordering::Relaxed) > self.capacity / 2
    }

    /// What is open now.
    pub fn reading(&self) -> OpenFilesReading {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed) as u64;
        OpenFilesReading {
            open: read(&self.counts.open),
            pinned: read(&self.counts.pinned),
            capacity: self.capacity as u64,
            evictions: self.counts.evictions.load(Ordering::Relaxed),
        }
    }

    #[cfg(test)]
    pub(super) fn ring_len(&self) -> usize {
        lock(&self.ring).len()
    }

    fn make_room(&self) {
        while self.counts.open.load(Ordering::Relaxed) >= self.capacity && self.evict_one() {}
    }

    /// Closes one file that may be closed; `false` if there is none.
    fn evict_one(&self) -> bool {
        let mut ring = lock(&self.ring);
        // Twice around: the first time may do no more than clear the marks.
        for _ in 0..2 * ring.len() {
            let Some(weak) = ring.pop_front() else { return false };
            let Some(slot) = weak.upgrade() else { continue };
            // Never waited for: whoever has it may be waiting for the ring.
            let mut held = match slot.held.try_lock() {
                Ok(held) => held,
                Err(TryLockError::Poisoned(error)) => error.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    ring.push_back(weak);
                    continue;
                }
            };
            if held.opened.is_none() {
                held.is_in_ring = false;
                continue;
            }
            if !held.may_be_closed() || slot.is_used.swap(false, Ordering::Relaxed) {
                ring.push_back(weak);
                continue;
            }
            let evicted = held.opened.take();
            held.is_in_ring = false;
            drop(held);
            drop(ring);
            self.counts.evictions.fetch_add(1, Ordering::Relaxed);
            // Closed and unmapped here, with no lock held.
            drop(evicted);
            return true;
        }
        false
    }
}

impl Slot {
    /// Says that the file was synced: it may be closed.
    pub fn unpin(&self) {
        lock(&self.held).pin = None;
    }

    /// Whether its file is open now.
    pub fn is_open(&self) -> bool {
        lock(&self.held).opened.is_some()
    }

    /// Whether it has no file; then it is not in the ring from here on. Does not wait for whoever is using the slot.
    fn leave_ring_if_empty(&self) -> bool {
        let Ok(mut held) = self.held.try_lock() else { return false };
        held.is_in_ring = held.opened.is_some();
        !held.is_in_ring
    }

    /// Closes the file, unless it has bytes that are not on disk, or is to be kept.
    pub fn close(&self) {
        let mut held = lock(&self.held);
        let closed = if held.may_be_closed() { held.opened.take() } else { None };
        drop(held);
        drop(closed);
    }
}

impl Held {
    fn may_be_closed(&self) -> bool {
        !self.is_kept && (self.pin.is_none() || is_planted(Bug::DirtySegmentEvicted))
    }
}

impl Opened {
    /// The index that [`OpenFiles::keep_index`] was given.
    pub fn index(&self) -> Option<&SparseIndex> {
        self.index.get().map(|(index, _)| index)
    }
}

/// Something that is counted until it is dropped.
#[derive(Debug)]
struct Counted {
    counts: Arc<Counts>,
    count: fn(&Counts) -> &AtomicUsize,
    amount: usize,
}

impl Counted {
    fn new(counts: &Arc<Counts>, count: fn(&Counts) -> &AtomicUsize, amount: usize) -> Self {
        count(counts).fetch_add(amount, Ordering::Relaxed);
        Self { counts: Arc::clone(counts), count, amount }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.count)(&self.counts).fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// Locks; a panic elsewhere while holding one of these leaves plain data that is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

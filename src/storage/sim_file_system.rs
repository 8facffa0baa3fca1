//! A disk in memory that keeps apart what was written and what is durable, and can lose the difference.
//!
//! - A write, a new length, a creation, rename or removal is seen at once and durable after `sync_data` of that file or
//!   `sync_dir` of that directory; the one never implies the other. Renames are atomic.
//! - [`SimFileSystem::crash`] gives the disk after a power cut. [`Loss::Ordered`]: changes reached it in the order they
//!   were made, the last one torn between sectors; directory entries may lag behind. [`Loss::AnyOrder`]: any subset of
//!   512-byte sectors and of directory changes did, and any earlier length of a file.
//! - A process that dies loses nothing: open the same file system again.
//! - [`Fault`]s come once, at the first operation it can happen to from a given one on; reads never fail. After the
//!   operation given to [`SimFileSystem::stop_at`], which may or may not take place, nothing changes any more.
//!
//! All choices come from the seed. Looking at a map behind the end of its file panics, as it would end a process.

use crate::storage::file_system::{File, FileSystem, OpenMode, View};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR_BYTES: usize = 512;

/// A small generator of numbers: xorshift, so that a seed gives the same run everywhere.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What can go wrong with one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// EIO, and nothing done; not for syncs.
    Io,
    /// ENOSPC, and nothing done.
    Full,
    /// A part is written, then ENOSPC.
    ShortWrite,
    /// EIO from a sync of a file. Some of it reached the disk; the rest counts as clean and is never written.
    Sync,
}

/// What a power cut does to changes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The disk has a prefix of them.
    Ordered,
    /// The disk has any of them.
    AnyOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Grow,
    Write,
    SyncFile,
    Other,
}

impl Fault {
    fn can_happen_to(self, operation: Operation) -> bool {
        match self {
            Self::Io => operation != Operation::SyncFile,
            Self::Full => matches!(operation, Operation::Grow | Operation::Write),
            Self::ShortWrite => operation == Operation::Write,
            Self::Sync => operation == Operation::SyncFile,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Inode {
    /// As the process sees it: the page cache.
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

/// A change that is not durable yet.
#[derive(Debug, Clone)]
enum Change {
    /// Whole sectors as they were after a write, from `position` on, and the length of the file then.
    Write {
        inode: usize,
        position: usize,
        sectors: Vec<u8>,
        len: usize,
    },
    Len {
        inode: usize,
        len: usize,
    },
    Link {
        path: PathBuf,
        inode: usize,
    },
    Unlink {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
}

impl Change {
    fn inode(&self) -> Option<usize> {
        match self {
            Self::Write { inode, .. } | Self::Len { inode, .. } => Some(*inode),
            _ => None,
        }
    }

    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Link { path, .. } | Self::Unlink { path } | Self::Rename { to: path, .. } => path.parent(),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
struct Disk {
    random: Random,
    inodes: Vec<Inode>,
    directories: BTreeSet<PathBuf>,
    entries: BTreeMap<PathBuf, usize>,
    durable_entries: BTreeMap<PathBuf, usize>,
    /// In the order in which they were made.
    pending: Vec<Change>,
    operations: u64,
    stop_at: Option<u64>,
    fault: Option<(u64, Fault)>,
    happened: Option<Fault>,
}

/// A simulated disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub(super) struct SimFileSystem(Arc<Mutex<Disk>>);

impl SimFileSystem {
    /// An empty disk.
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            random: Random::new(seed),
            inodes: Vec::new(),
            directories: BTreeSet::new(),
            entries: BTreeMap::new(),
            durable_entries: BTreeMap::new(),
            pending: Vec::new(),
            operations: 0,
            stop_at: None,
            fault: None,
            happened: None,
        })))
    }

    /// The disk after a power cut now, another one each time; this one goes on as if nothing had been.
    pub(super) fn crash(&self, loss: Loss) -> Self {
        let mut disk = {
            let mut original = self.disk();
            // The next power cut at the same moment loses something else.
            original.random.next();
            original.clone()
        };
        match loss {
            Loss::Ordered => disk.lose_the_latest(),
            Loss::AnyOrder => disk.lose_any(),
        }
        disk.restart();
        Self(Arc::new(Mutex::new(disk)))
    }

    /// How many operations that change something there were.
    pub(super) fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Lets operation `operation` be the last one; `None` lifts that.
    pub(super) fn stop_at(&self, operation: Option<u64>) {
        self.disk().stop_at = operation;
    }

    /// Whether the last operation is over.
    pub(super) fn is_stopped(&self) -> bool {
        let disk = self.disk();
        disk.stop_at.is_some_and(|last| disk.operations >= last)
    }

    /// Plans a fault for operation `from`, or the first one after it that it can happen to.
    pub(super) fn plan(&self, from: u64, fault: Fault) {
        self.disk().fault = Some((from, fault));
    }

    /// The last fault that happened.
    pub(super) fn happened(&self) -> Option<Fault> {
        self.disk().happened
    }

    /// Turns one bit of a file over, on disk and in memory.
    pub(super) fn flip_bit(&self, path: &Path, bit: usize) {
        let mut disk = self.disk();
        let inode = disk.entries[path];
        let Inode { bytes, durable } = &mut disk.inodes[inode];
        for image in [bytes, durable] {
            if let Some(byte) = image.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Every file that a process sees, with its bytes.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = self.disk();
        disk.entries.iter().map(|(path, inode)| (path.clone(), disk.inodes[*inode].bytes.clone())).collect()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, inode: usize) -> Arc<dyn File> {
        Arc::new(SimFile { file_system: self.clone(), inode })
    }
}

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Disk {
    /// Counts an operation. `Ok(true)`: it is the last one, and fails after it was done.
    fn begin(&mut self, operation: Operation) -> io::Result<bool> {
        if self.stop_at.is_some_and(|last| self.operations >= last) {
            return Err(io_error());
        }
        self.operations += 1;
        if self.stop_at == Some(self.operations) {
            return if self.random.percent(50) { Ok(true) } else { Err(io_error()) };
        }
        match self.fault {
            Some((from, fault)) if self.operations >= from && fault.can_happen_to(operation) => {
                self.fault = None;
                self.happened = Some(fault);
                match fault {
                    Fault::Io => Err(io_error()),
                    Fault::Full => Err(ErrorKind::StorageFull.into()),
                    // What they leave behind is the business of the operation.
                    Fault::ShortWrite | Fault::Sync => Ok(true),
                }
            }
            _ => Ok(false),
        }
    }

    fn end(is_last: bool) -> io::Result<()> {
        if is_last { Err(io_error()) } else { Ok(()) }
    }

    fn change_entries(&mut self, change: Change) -> io::Result<()> {
        let is_last = self.begin(Operation::Other)?;
        apply_to_entries(&mut self.entries, &change);
        self.pending.push(change);
        Self::end(is_last)
    }

    fn set_len(&mut self, inode: usize, len: usize) {
        self.inodes[inode].bytes.resize(len, 0);
        self.pending.push(Change::Len { inode, len });
    }

    fn write(&mut self, inode: usize, position: usize, bytes: &[u8]) {
        let image = &mut self.inodes[inode].bytes;
        let end = position + bytes.len();
        image.resize(image.len().max(end), 0);
        image[position..end].copy_from_slice(bytes);
        // The disk takes whole sectors: with the bytes that were in memory beside those just written.
        let first = position / SECTOR_BYTES * SECTOR_BYTES;
        let last = end.next_multiple_of(SECTOR_BYTES).min(image.len());
        let sectors = image[first..last].to_vec();
        self.pending.push(Change::Write { inode, position: first, sectors, len: image.len() });
    }

    /// Takes the changes for which `chosen` says so out of the pending ones.
    fn take_pending(&mut self, chosen: impl Fn(&Change) -> bool) -> Vec<Change> {
        let (taken, kept) = std::mem::take(&mut self.pending).into_iter().partition(chosen);
        self.pending = kept;
        taken
    }

    /// Makes a change durable, but for the sectors of a write that `survives` does not let through.
    fn harden(&mut self, change: &Change, new_len: bool, mut survives: impl FnMut(&mut Random) -> bool) {
        match change {
            Change::Write { inode, position, sectors, len } => {
                let durable = &mut self.inodes[*inode].durable;
                if new_len {
                    durable.resize(durable.len().max(*len), 0);
                }
                for (i, sector) in sectors.chunks(SECTOR_BYTES).enumerate() {
                    let at = position + i * SECTOR_BYTES;
                    let end = durable.len().min(at + sector.len());
                    if at < end && survives(&mut self.random) {
                        durable[at..end].copy_from_slice(&sector[..end - at]);
                    }
                }
            }
            Change::Len { inode, len } if new_len => self.inodes[*inode].durable.resize(*len, 0),
            Change::Len { .. } => {}
            entries => apply_to_entries(&mut self.durable_entries, entries),
        }
    }

    fn lose_the_latest(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let count = pending.len() as u64;
        // Often all or nothing; both are likely on a real disk, and between them anything.
        let cut = if self.random.percent(20) { count } else { self.random.below(count + 1) };
        let entries_cut = if self.random.percent(50) { cut } else { self.random.below(cut + 1) };
        for (at, change) in (0_u64..).zip(&pending).take_while(|(at, _)| *at <= cut) {
            let is_entry = change.inode().is_none();
            if at < cut && !(is_entry && at >= entries_cut) {
                self.harden(change, true, |_| true);
            } else if at == cut && !is_entry {
                let mut torn = false;
                self.harden(change, true, |random| {
                    torn |= random.percent(30);
                    !torn
                });
            }
        }
    }

    fn lose_any(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let percent = [0, 30, 50, 70, 95, 100][usize::try_from(self.random.below(6)).expect("small")];
        // Lengths are kept by a journal: for each file, a prefix of them.
        let cuts: Vec<u64> = (0..self.inodes.len()).map(|_| self.random.below(pending.len() as u64 * 2 + 1)).collect();
        for (at, change) in (0_u64..).zip(&pending) {
            match change.inode() {
                Some(inode) => self.harden(change, at < cuts[inode], |random| random.percent(percent)),
                None if self.random.percent(percent) => self.harden(change, true, |_| true),
                None => {}
            }
        }
    }

    /// What is in memory is what is on disk.
    fn restart(&mut self) {
        self.entries.clone_from(&self.durable_entries);
        self.inodes.iter_mut().for_each(|inode| inode.bytes.clone_from(&inode.durable));
        (self.stop_at, self.fault, self.happened) = (None, None, None);
    }
}

fn apply_to_entries(entries: &mut BTreeMap<PathBuf, usize>, change: &Change) {
    match change {
        Change::Link { path, inode } => drop(entries.insert(path.clone(), *inode)),
        Change::Unlink { path } => drop(entries.remove(path)),
        Change::Rename { from, to } => {
            if let Some(inode) = entries.remove(from) {
                entries.insert(to.clone(), inode);
            }
        }
        Change::Write { .. } | Change::Len { .. } => {}
    }
}

impl FileSystem for SimFileSystem {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk().directories.insert(path.into());
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let inside = disk.entries.keys().filter(|entry| entry.parent() == Some(path));
        Ok(inside.filter_map(|entry| Some(entry.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        let found = disk.entries.get(path).copied();
        let inode = match (mode, found) {
            (OpenMode::CreateNew, Some(_)) => return Err(ErrorKind::AlreadyExists.into()),
            (OpenMode::Read | OpenMode::Write, None) => return Err(ErrorKind::NotFound.into()),
            (OpenMode::Read | OpenMode::Write, Some(inode)) => inode,
            (OpenMode::Replace, Some(inode)) => {
                let is_last = disk.begin(Operation::Other)?;
                disk.set_len(inode, 0);
                Disk::end(is_last)?;
                inode
            }
            (OpenMode::CreateNew | OpenMode::Replace, None) => {
                let is_last = disk.begin(Operation::Grow)?;
                let inode = disk.inodes.len();
                disk.inodes.push(Inode::default());
                let link = Change::Link { path: path.into(), inode };
                apply_to_entries(&mut disk.entries, &link);
                disk.pending.push(link);
                Disk::end(is_last)?;
                inode
            }
        };
        drop(disk);
        Ok(self.file(inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "a rename between directories is not simulated");
        let mut disk = self.disk();
        if !disk.entries.contains_key(from) {
            return Err(ErrorKind::NotFound.into());
        }
        disk.change_entries(Change::Rename { from: from.into(), to: to.into() })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.entries.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        disk.change_entries(Change::Unlink { path: path.into() })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        panic!("a log never removes a directory: {}", path.display())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let is_last = disk.begin(Operation::Other)?;
        for change in disk.take_pending(|change| change.directory() == Some(path)) {
            disk.harden(&change, true, |_| true);
        }
        Disk::end(is_last)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[derive(Debug, Clone)]
struct SimFile {
    file_system: SimFileSystem,
    inode: usize,
}

fn size(len: u64) -> usize {
    usize::try_from(len).expect("a simulated file fits memory")
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file_system.disk().inodes[self.inode].bytes.len() as u64)
    }

    fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        let disk = self.file_system.disk();
        let found = disk.inodes[self.inode].bytes.get(size(position)..size(position) + buffer.len());
        buffer.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, position: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let mut disk = self.file_system.disk();
        let is_cut_short = disk.begin(Operation::Write)?;
        if is_cut_short {
            let kept = disk.random.below(bytes.len() as u64 + 1);
            bytes.truncate(size(kept));
        }
        if !bytes.is_empty() {
            disk.write(self.inode, size(position), &bytes);
        }
        if is_cut_short { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.file_system.disk();
        let is_last = disk.begin(Operation::Grow)?;
        if disk.inodes[self.inode].bytes.len() < size(len) {
            disk.set_len(self.inode, size(len));
        }
        Disk::end(is_last)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.file_system.disk();
        let is_last = disk.begin(Operation::Grow)?;
        disk.set_len(self.inode, size(len));
        Disk::end(is_last)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.file_system.disk();
        let fails = disk.begin(Operation::SyncFile)?;
        // A planned fault loses some of it; the last operation of a process that dies is done or not done.
        let all = !fails || disk.happened != Some(Fault::Sync) || disk.random.percent(20);
        for change in disk.take_pending(|change| change.inode() == Some(self.inode)) {
            disk.harden(&change, true, |random| all || random.percent(50));
        }
        Disk::end(fails)
    }

    fn view(&self, len: usize) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(SimView { file: self.clone(), len }))
    }
}

#[derive(Debug)]
struct SimView {
    file: SimFile,
    len: usize,
}

impl View for SimView {
    fn slice(&self, position: usize, len: usize) -> Bytes {
        assert!(position + len <= self.len, "outside the map");
        let disk = self.file.file_system.disk();
        let bytes = &disk.inodes[self.file.inode].bytes;
        let found = bytes.get(position..position + len).expect("SIGBUS: the file is shorter than what was looked at");
        Bytes::copy_from_slice(found)
    }
}

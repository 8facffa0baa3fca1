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
use crate::storage::sim_disk::{Change, Disk, Fault, Inode, Loss, Operation, apply_to_entries};
use crate::sync::{Mutex, MutexGuard};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// A simulated disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct SimFileSystem(Arc<Mutex<Disk>>);

impl SimFileSystem {
    /// An empty disk.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk::new(seed))))
    }

    /// The disk after a power cut now, another one each time; this one goes on as if nothing had been.
    pub(crate) fn crash(&self, loss: Loss) -> Self {
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
    pub(crate) fn operations(&self) -> u64 {
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
    pub(crate) fn plan(&self, from: u64, fault: Fault) {
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

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let is_last = disk.begin(Operation::Other)?;
        for change in disk.take_pending(|_| true) {
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

    fn drop_cache(&self) -> io::Result<()> {
        self.file_system.disk().drop_cache(self.inode);
        Ok(())
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
    fn load(&self, position: usize, len: usize) -> io::Result<()> {
        let disk = self.file.file_system.disk();
        let is_there = disk.inodes[self.file.inode].bytes.len() >= position + len;
        if is_there { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn slice(&self, position: usize, len: usize) -> Bytes {
        assert!(position + len <= self.len, "outside the map");
        let disk = self.file.file_system.disk();
        let bytes = &disk.inodes[self.file.inode].bytes;
        let found = bytes.get(position..position + len).expect("SIGBUS: the file is shorter than what was looked at");
        Bytes::copy_from_slice(found)
    }
}

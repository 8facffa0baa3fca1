//! A disk whose syncs or writes hang until they are let go, or that has no room for one topic. Everything else is the real disk.

use millstream::storage::file_system::{File, FileSystem, OpenMode, View};
use millstream::storage::real_file_system::RealFileSystem;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The disk. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct StallingDisk(Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stalled: bool,
    stalled_elsewhere: bool,
    /// Writes to files whose path has this in it find no room.
    refused: Option<String>,
    waiting: usize,
    /// Threads that are in a write and are not the broker's storage threads.
    held_elsewhere: usize,
}

impl StallingDisk {
    /// From now on syncs hang, until the answer is dropped: also when a test fails, or its broker would never end.
    pub(crate) fn stall(&self) -> Stall {
        self.change(|state| state.stalled = true);
        Stall(self.clone())
    }

    /// As [`StallingDisk::stall`], of writes by threads that are not the broker's storage threads.
    pub(crate) fn stall_writes_elsewhere(&self) -> Stall {
        self.change(|state| state.stalled_elsewhere = true);
        Stall(self.clone())
    }

    /// How many threads that are not storage threads hang in a write now.
    pub(crate) fn held_elsewhere(&self) -> usize {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).held_elsewhere
    }

    /// From now on there is no room for what is written where this is part of the path, the id of a topic for one; without it
    /// there is everywhere.
    pub(crate) fn refuse(&self, part: Option<String>) {
        self.change(|state| state.refused = part);
    }

    /// How many syncs hang now.
    pub(crate) fn waiting(&self) -> usize {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).waiting
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.changed.notify_all();
    }

    fn check_write(&self, path: &Path) -> io::Result<()> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.refused {
            Some(refused) if path.to_string_lossy().contains(refused) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn pass_write(&self) {
        if std::thread::current().name().is_some_and(|name| name.starts_with("storage-")) {
            return;
        }
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held_elsewhere += 1;
        let wait = self.0.changed.wait_while(state, |state| state.stalled_elsewhere);
        wait.unwrap_or_else(PoisonError::into_inner).held_elsewhere -= 1;
    }

    fn pass(&self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting += 1;
        let mut state = self.0.changed.wait_while(state, |state| state.stalled).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
    }
}

/// Syncs, or writes, hang as long as this lives. Then those that hang succeed, and so do those that come.
pub(crate) struct Stall(StallingDisk);

impl Drop for Stall {
    fn drop(&mut self) {
        self.0.change(|state| (state.stalled, state.stalled_elsewhere) = (false, false));
    }
}

impl FileSystem for StallingDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFileSystem.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealFileSystem.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = RealFileSystem.open(path, mode)?;
        Ok(Arc::new(StallingFile { disk: self.clone(), path: path.to_owned(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFileSystem.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealFileSystem.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFileSystem.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.pass();
        RealFileSystem.sync_dir(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.pass();
        RealFileSystem.sync_all(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealFileSystem.free_bytes(path)
    }
}

#[derive(Debug)]
struct StallingFile {
    disk: StallingDisk,
    path: PathBuf,
    file: Arc<dyn File>,
}

impl File for StallingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(position, buffer)
    }

    fn write_all_at(&self, position: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.disk.check_write(&self.path)?;
        self.disk.pass_write();
        self.file.write_all_at(position, parts)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.pass();
        self.file.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }

    fn view(&self, len: usize) -> io::Result<Arc<dyn View>> {
        self.file.view(len)
    }
}

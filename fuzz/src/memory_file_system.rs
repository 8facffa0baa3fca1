//! Files in memory, as small as the log needs them: nothing is ever lost, and everything is quick.
//!
//! Looking at a map behind the end of its file panics, as it would end a process.

use bytes::Bytes;
use millstream::storage::file_system::{File, FileSystem, OpenMode, View};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Content = Arc<Mutex<Vec<u8>>>;

/// Files by path. Clones are the same files.
#[derive(Debug, Clone, Default)]
pub struct MemoryFileSystem(Arc<Mutex<Tree>>);

#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<PathBuf, Content>,
    /// Those without files; the others are known by what is in them.
    directories: BTreeSet<PathBuf>,
}

impl MemoryFileSystem {
    /// Puts an empty directory there.
    pub fn add_directory(&self, path: &Path) {
        lock(&self.0).directories.insert(path.into());
    }

    /// Puts a file there.
    pub fn put(&self, path: impl Into<PathBuf>, bytes: Vec<u8>) {
        lock(&self.0).files.insert(path.into(), Arc::new(Mutex::new(bytes)));
    }

    /// Takes a file away.
    pub fn remove(&self, path: &Path) {
        lock(&self.0).files.remove(path);
    }

    /// Every file with its bytes.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        lock(&self.0).files.iter().map(|(path, content)| (path.clone(), lock(content).clone())).collect()
    }

    /// A handle as the log takes it.
    pub fn shared(&self) -> Arc<dyn FileSystem> {
        Arc::new(self.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileSystem for MemoryFileSystem {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.add_directory(path);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let tree = lock(&self.0);
        let mut names: Vec<String> = (tree.files.keys().chain(&tree.directories))
            .filter_map(|file| file.strip_prefix(path).ok()?.components().next())
            .map(|name| name.as_os_str().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() && !tree.directories.contains(path) { Err(ErrorKind::NotFound.into()) } else { Ok(names) }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let files = &mut lock(&self.0).files;
        let content = match (mode, files.get(path)) {
            (OpenMode::CreateNew, Some(_)) => return Err(ErrorKind::AlreadyExists.into()),
            (OpenMode::Read | OpenMode::Write, None) => return Err(ErrorKind::NotFound.into()),
            (OpenMode::Read | OpenMode::Write, Some(content)) => Arc::clone(content),
            (OpenMode::CreateNew | OpenMode::Replace, _) => {
                let content = Content::default();
                files.insert(path.into(), Arc::clone(&content));
                content
            }
        };
        Ok(Arc::new(MemoryFile(content)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let files = &mut lock(&self.0).files;
        let content = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.into(), content);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        lock(&self.0).files.remove(path).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        lock(&self.0).files.retain(|file, _| !file.starts_with(path));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[derive(Debug)]
struct MemoryFile(Content);

fn index(position: u64) -> usize {
    usize::try_from(position).expect("64-bit")
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = lock(&self.0);
        let found = index(position).checked_add(buffer.len()).and_then(|end| bytes.get(index(position)..end));
        buffer.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, position: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut bytes = lock(&self.0);
        let mut at = index(position);
        for part in parts {
            let end = at + part.len();
            let len = bytes.len().max(end);
            bytes.resize(len, 0);
            bytes[at..end].copy_from_slice(part);
            at = end;
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut bytes = lock(&self.0);
        let len = bytes.len().max(index(len));
        bytes.resize(len, 0);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.0).resize(index(len), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn view(&self, len: usize) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(MemoryView { content: Arc::clone(&self.0), len }))
    }
}

#[derive(Debug)]
struct MemoryView {
    content: Content,
    len: usize,
}

impl View for MemoryView {
    fn load(&self, position: usize, len: usize) -> io::Result<()> {
        let is_there = position.checked_add(len).is_some_and(|end| end <= lock(&self.content).len());
        if is_there { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn slice(&self, position: usize, len: usize) -> Bytes {
        assert!(position + len <= self.len, "outside the map");
        let bytes = lock(&self.content);
        let found = bytes.get(position..position + len);
        Bytes::copy_from_slice(found.expect("SIGBUS: the file is shorter than what was looked at"))
    }
}

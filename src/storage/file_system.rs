//! The seam to the operating system: every byte the log reads or writes passes through these two traits.
//!
//! [`crate::storage::real_file_system`] is a thin shell over system calls. Tests may put a simulated one in its place,
//! which is why the traits speak of durability explicitly: nothing is durable before `sync_data` (a file's bytes) or
//! `sync_dir` (a directory's entries) returned.

use bytes::Bytes;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// How [`FileSystem::open`] opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Read an existing file.
    Read,
    /// Read and write an existing file.
    Write,
    /// Create a file that must not exist; read and write it.
    CreateNew,
    /// Create a file, or empty an existing one; read and write it.
    Replace,
}

/// Directories and names.
pub trait FileSystem: Debug + Send + Sync + 'static {
    /// Creates a directory and its parents, readable by the owner only. Existing ones are fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Length of the file at `path`, in bytes.
    fn len_of(&self, path: &Path) -> io::Result<u64> {
        self.open(path, OpenMode::Read)?.len()
    }
    /// Renames a file or directory, replacing a file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything that was written to the file system of `path` durable, in one go.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
    /// Free bytes available to the broker on the file system of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// One open file. Positioned operations only, so that it can be shared.
pub trait File: Debug + Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Reads exactly `buffer.len()` bytes from `position`.
    fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all parts one after the other, from `position` on.
    fn write_all_at(&self, position: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Makes sure that the file has at least `len` bytes, and space on disk for them; new bytes are zero.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts or extends the file to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the bytes durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Forgets cached bytes that are not waiting to be written, so that the next read asks the disk. After a failed
    /// sync the cache may hold bytes that count as written and are not. Views made before may keep theirs.
    fn drop_cache(&self) -> io::Result<()>;
    /// A read-only view of the first `len` bytes, which may reach beyond the present end of the file.
    fn view(&self, len: usize) -> io::Result<Arc<dyn View>>;
}

/// A read-only view of a file's bytes, as they are now and as they become.
pub trait View: Debug + Send + Sync + 'static {
    /// Brings bytes into memory. An error says that the disk does not give them: then they must not be looked at,
    /// because touching them would end the process.
    fn load(&self, position: usize, len: usize) -> io::Result<()>;
    /// The bytes from `position` on. The caller promises that they have been written, will not change, and are never
    /// cut from the file while the result lives.
    ///
    /// # Panics
    /// If the range is outside the view.
    fn slice(&self, position: usize, len: usize) -> Bytes;
}

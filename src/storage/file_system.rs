//! The seam to the operating system: every byte the log reads or writes passes through these two traits.
//!
//! [`RealFileSystem`] is a thin shell over system calls. Tests put a simulated one in its place, which is why the
//! traits speak of durability explicitly: nothing is durable before `sync_data` (a file's bytes) or `sync_dir` (a
//! directory's entries) returned.

use crate::storage::mmap;
use bytes::Bytes;
use std::fmt::Debug;
use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
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
    /// Renames a file or directory, replacing a file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
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
    /// A read-only view of the first `len` bytes, which may reach beyond the present end of the file.
    fn view(&self, len: usize) -> io::Result<Arc<dyn View>>;
}

/// A read-only view of a file's bytes, as they are now and as they become.
pub trait View: Debug + Send + Sync + 'static {
    /// The bytes from `position` on. The caller promises that they have been written, will not change, and are never
    /// cut from the file while the result lives.
    ///
    /// # Panics
    /// If the range is outside the view.
    fn slice(&self, position: usize, len: usize) -> Bytes;
}

/// The operating system's files.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealFileSystem;

#[expect(clippy::disallowed_methods, reason = "the one place that touches files")]
impl FileSystem for RealFileSystem {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is none of ours; its lossy form matches no pattern of ours either.
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::Replace => options.write(true).create(true).truncate(true),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, position)
    }

    fn write_all_at(&self, mut position: u64, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        // The kernel takes at most 1,024 parts a call.
        const PARTS_MAX: usize = 1024;
        while !parts.is_empty() {
            let count = parts.len().min(PARTS_MAX);
            let written = match rustix::io::pwritev(self.0.as_fd(), &parts[..count], position) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            if written == 0 && parts.iter().any(|part| !part.is_empty()) {
                return Err(io::ErrorKind::WriteZero.into());
            }
            position += written as u64;
            IoSlice::advance_slices(&mut parts, written);
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self.0.as_fd(), rustix::fs::FallocateFlags::empty(), 0, len) {
            // Not every file system can reserve space; there a sparse file still gives the same bytes, and a full
            // disk shows at the write instead of here.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                if self.len()? < len {
                    self.0.set_len(len)
                } else {
                    Ok(())
                }
            }
            result => Ok(result?),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn view(&self, len: usize) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(mmap::Map::new(&self.0, len)?))
    }
}

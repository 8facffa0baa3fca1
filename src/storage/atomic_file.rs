//! Small files that are replaced as a whole: after a crash there is the old one or the new one, never a mixture.
//!
//! The bytes carry their own checksum in a last line, so that a damaged file is noticed, and stay readable text.

use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{File, FileSystem, OpenMode};
use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A larger file is not one of ours: a catalog of 10,000 topics has about 4 MB.
const BYTES_MAX: u64 = 64 << 20;

/// Replaces the file at `path` by `text` and a checksum line. Durable when it returns.
pub fn replace(fs: &dyn FileSystem, path: &Path, text: &str) -> Result<(), StorageError> {
    let directory = path.parent().expect("a file of ours is in a directory");
    let (file, temporary) = write_beside(fs, path, text)?;
    // The bytes must be on disk before the name points at them, and the name before anyone relies on it.
    file.sync_data().context("sync", &temporary)?;
    fs.rename(&temporary, path).context("rename", &temporary)?;
    fs.sync_dir(directory).context("sync", directory)
}

/// The same for a file that is only a cache: nothing is synced. After a crash it may be the old one, the new one, or
/// damaged, which its checksum tells.
pub fn replace_unsynced(fs: &dyn FileSystem, path: &Path, text: &str) -> Result<(), StorageError> {
    let (_, temporary) = write_beside(fs, path, text)?;
    fs.rename(&temporary, path).context("rename", &temporary)
}

fn write_beside(fs: &dyn FileSystem, path: &Path, text: &str) -> Result<(Arc<dyn File>, PathBuf), StorageError> {
    let temporary = path.with_extension("tmp");
    let checksum = checksum_line(text);
    let file = fs.open(&temporary, OpenMode::Replace).context("create", &temporary)?;
    file.write_all_at(0, &mut [IoSlice::new(text.as_bytes()), IoSlice::new(checksum.as_bytes())])
        .context("write", &temporary)?;
    Ok((file, temporary))
}

/// The text at `path`, without its checksum line; `None` if there is no such file.
pub fn read(fs: &dyn FileSystem, path: &Path) -> Result<Option<String>, StorageError> {
    let file = match fs.open(path, OpenMode::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.context("open", path)?,
    };
    let len = file.len().context("read", path)?;
    if len > BYTES_MAX {
        return Err(StorageError::corrupt(path, 0, format!("it has {len} bytes, at most {BYTES_MAX} are expected")));
    }
    let mut bytes = vec![0; usize::try_from(len).expect("64 MiB fit memory")];
    file.read_exact_at(0, &mut bytes).context("read", path)?;
    let mut text = String::from_utf8(bytes)
        .map_err(|error| StorageError::corrupt(path, error.utf8_error().valid_up_to() as u64, "it is not text"))?;
    let body = text.trim_end_matches('\n').rfind('\n').map_or(0, |newline| newline + 1);
    if text[body..] != checksum_line(&text[..body]) {
        return Err(StorageError::corrupt(path, body as u64, "the checksum in its last line does not match"));
    }
    text.truncate(body);
    Ok(Some(text))
}

/// The last line of a file with this text; the text must end its own last line.
fn checksum_line(text: &str) -> String {
    format!("crc32 {:08x}\n", crc32fast::hash(text.as_bytes()))
}

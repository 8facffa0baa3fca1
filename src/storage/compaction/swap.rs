//! A cleaned file takes the place of the segments it was made from, so that a crash at any moment leaves either them or it.
//!
//! ```text
//! <base>.cleaned            synced; a start removes it
//! <base>-<end>.swap         renamed, directory synced: from here on it counts; a start goes on with what follows
//!                           the other segments between base and end, and all their indexes, removed; directory synced
//! <base>.log                renamed over the first segment; directory synced
//! ```
//!
//! The name of a swap file says which segments it replaces: those that begin at `base` or later, and before `end`.

use crate::planted::{Bug, is_planted};
use crate::storage::error::{IoContext, StorageError};
use crate::storage::file_system::{FileSystem, OpenMode};
use crate::storage::segment::header::{LogId, SegmentHeader};
use crate::storage::segment::index::SparseIndex;
use crate::storage::segment::scan::scan;
use crate::storage::segment::{base_offset_of, file_stem};
use crate::types::Offset;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The offsets in the name of a swap file, `<20 digits>-<20 digits>.swap`; `None` for any other name.
pub fn swapped_range_of(name: &str) -> Option<Range<Offset>> {
    let (base, end) = name.strip_suffix(".swap")?.split_once('-')?;
    let offset = |digits: &str| base_offset_of(&format!("{digits}.log"));
    Some(offset(base)?..offset(end)?)
}

fn swap_path(directory: &Path, range: &Range<Offset>) -> PathBuf {
    directory.join(format!("{}-{}.swap", file_stem(range.start), file_stem(range.end)))
}

/// Puts the cleaned file at `cleaned` in the place of the segments in `range`. After an error the segments are still
/// there for whoever has them open, and nobody knows which names they have: the next start finds out.
pub(super) fn replace(
    fs: &dyn FileSystem,
    directory: &Path,
    cleaned: &Path,
    range: &Range<Offset>,
) -> Result<(), StorageError> {
    fs.rename(cleaned, &swap_path(directory, range)).context("rename", cleaned)?;
    sync_directory(fs, directory)?;
    finish(fs, directory, range)
}

/// From the swap file on. Every step may have been done before.
fn finish(fs: &dyn FileSystem, directory: &Path, range: &Range<Offset>) -> Result<(), StorageError> {
    for name in fs.list(directory).context("list", directory)? {
        let path = directory.join(&name);
        let index_of = name.strip_suffix(".index").and_then(|stem| base_offset_of(&format!("{stem}.log")));
        let is_replaced = base_offset_of(&name).is_some_and(|base| base > range.start && range.contains(&base));
        if is_replaced || index_of.is_some_and(|base| range.contains(&base)) {
            fs.remove_file(&path).context("delete", &path)?;
        }
    }
    // The others are gone for good before the name goes that says that they are to go: of a segment that reappeared
    // nobody could tell whether its records are there twice.
    sync_directory(fs, directory)?;
    let swap = swap_path(directory, range);
    let path = directory.join(file_stem(range.start)).with_extension("log");
    fs.rename(&swap, &path).context("rename", &swap)?;
    sync_directory(fs, directory)
}

fn sync_directory(fs: &dyn FileSystem, directory: &Path) -> Result<(), StorageError> {
    if is_planted(Bug::SwapNotSynced) {
        return Ok(());
    }
    fs.sync_dir(directory).context("sync", directory)
}

/// Goes on with the swap that a crash interrupted. A swap file was synced before it had its name, so one that is not
/// whole is damage: then nothing is changed.
pub(in crate::storage) fn finish_interrupted(
    fs: &dyn FileSystem,
    directory: &Path,
    log: LogId,
    range: &Range<Offset>,
) -> Result<(), StorageError> {
    let path = swap_path(directory, range);
    check_whole(fs, &path, log, range)?;
    tracing::info!(path = %path.display(), "finishing an interrupted compaction");
    finish(fs, directory, range)
}

fn check_whole(fs: &dyn FileSystem, path: &Path, log: LogId, range: &Range<Offset>) -> Result<(), StorageError> {
    let file = match fs.open(path, OpenMode::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.context("open", path)?,
    };
    let damage = |what: String| Err(StorageError::corrupt(path, 0, what));
    let len = usize::try_from(file.len().context("read", path)?).expect("64-bit");
    if u32::try_from(len).is_err() {
        return damage(format!("{len} bytes are too many for a segment"));
    }
    let bytes = file.view(len.max(1)).context("map", path)?.slice(0, len);
    let seed = match SegmentHeader::decode_seed(&bytes, log, range.start) {
        Ok(seed) => seed,
        Err(what) => return damage(what),
    };
    let mut index = SparseIndex::new(range.start);
    let breaks = scan(&bytes, seed, true, &mut index).breaks;
    if !breaks.is_empty() || index.next_offset != range.end || index.end_position as usize != len {
        let (next, end) = (index.next_offset, index.end_position);
        return damage(format!(
            "it ends at offset {next}, byte {end} of {len}, with {} breaks, not whole at offset {}",
            breaks.len(),
            range.end
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_is_replaced() {
        let range = Offset(7)..Offset(1234);
        let path = swap_path(Path::new("/log"), &range);
        let name = path.file_name().expect("it has one").to_str().expect("digits");
        assert_eq!(swapped_range_of(name), Some(range));
        for name in ["7-9.swap", "00000000000000000007.swap", "00000000000000000007-00000000000000000009.log"] {
            assert_eq!(swapped_range_of(name), None, "{name}");
        }
    }
}

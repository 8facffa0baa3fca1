//! Read-only memory maps of segment files. The only file with unsafe code.
//!
//! A map is made once per opened segment and may reach beyond the file's present end, so that it stays good while the
//! segment grows. Bytes leave it only as [`Bytes`] of ranges that are already written and never change; each keeps the
//! map alive. Nothing ever shortens a file below a range that was handed out (touching such a page would end the
//! process with SIGBUS): sealing cuts only the unwritten tail, and retention unlinks files without shortening them.
#![allow(unsafe_code, reason = "memory maps need it; every block says why it is sound")]

use crate::storage::file_system::View;
use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// A read-only map of the beginning of a file.
#[derive(Debug)]
pub(super) struct Map(Arc<MmapRaw>);

impl Map {
    /// Maps the first `len` bytes, whether or not the file already has them.
    pub(super) fn new(file: &File, len: usize) -> io::Result<Self> {
        MmapOptions::new().len(len).map_raw_read_only(file).map(|map| Self(Arc::new(map)))
    }
}

impl View for Map {
    fn load(&self, position: usize, len: usize) -> io::Result<()> {
        match self.0.advise_range(Advice::PopulateRead, position, len) {
            // A kernel before 5.14 does not know it; there a bad sector still ends the process.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            loaded => loaded,
        }
    }

    fn slice(&self, position: usize, len: usize) -> Bytes {
        let end = position.checked_add(len).expect("a range inside a map does not overflow");
        assert!(end <= self.0.len(), "range {position}..{end} is outside a map of {} bytes", self.0.len());
        Bytes::from_owner(MapRange { map: Arc::clone(&self.0), position, len })
    }
}

/// A range of a map that holds written, immutable bytes.
struct MapRange {
    map: Arc<MmapRaw>,
    position: usize,
    len: usize,
}

impl AsRef<[u8]> for MapRange {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `slice` checked that the range is inside the map, which `self.map` keeps alive and which is never
        // written through (it is mapped read-only). Callers of `View::slice` promise that the bytes of the range are
        // in the file, stay there and do not change any more, so no reference to memory that changes is made: the
        // reference covers this range only, not the rest of the map.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.position), self.len) }
    }
}

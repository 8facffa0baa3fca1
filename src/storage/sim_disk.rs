//! The state of a simulated disk: what is in memory, what is durable, which changes lie in between, and what goes wrong.
//!
//! Its rules are told in [`crate::storage::sim_file_system`], which is the way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

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
pub(crate) enum Fault {
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
pub(crate) enum Loss {
    /// The disk has a prefix of them.
    Ordered,
    /// The disk has any of them.
    AnyOrder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
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
pub(super) struct Inode {
    /// As the process sees it: the page cache.
    pub(super) bytes: Vec<u8>,
    pub(super) durable: Vec<u8>,
}

/// A change that is not durable yet.
#[derive(Debug, Clone)]
pub(super) enum Change {
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
    pub(super) fn inode(&self) -> Option<usize> {
        match self {
            Self::Write { inode, .. } | Self::Len { inode, .. } => Some(*inode),
            _ => None,
        }
    }

    pub(super) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Link { path, .. } | Self::Unlink { path } | Self::Rename { to: path, .. } => path.parent(),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) random: Random,
    pub(super) inodes: Vec<Inode>,
    pub(super) directories: BTreeSet<PathBuf>,
    pub(super) entries: BTreeMap<PathBuf, usize>,
    pub(super) durable_entries: BTreeMap<PathBuf, usize>,
    /// In the order in which they were made.
    pub(super) pending: Vec<Change>,
    pub(super) operations: u64,
    pub(super) stop_at: Option<u64>,
    pub(super) fault: Option<(u64, Fault)>,
    pub(super) happened: Option<Fault>,
}

pub(super) fn io_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
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
        }
    }

    /// Counts an operation. `Ok(true)`: it is the last one, and fails after it was done.
    pub(super) fn begin(&mut self, operation: Operation) -> io::Result<bool> {
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

    pub(super) fn end(is_last: bool) -> io::Result<()> {
        if is_last { Err(io_error()) } else { Ok(()) }
    }

    pub(super) fn change_entries(&mut self, change: Change) -> io::Result<()> {
        let is_last = self.begin(Operation::Other)?;
        apply_to_entries(&mut self.entries, &change);
        self.pending.push(change);
        Self::end(is_last)
    }

    pub(super) fn set_len(&mut self, inode: usize, len: usize) {
        self.inodes[inode].bytes.resize(len, 0);
        self.pending.push(Change::Len { inode, len });
    }

    pub(super) fn write(&mut self, inode: usize, position: usize, bytes: &[u8]) {
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

    /// What is in memory is what is on disk and what waits to go there; the rest is forgotten.
    pub(super) fn drop_cache(&mut self, inode: usize) {
        let mut image = self.inodes[inode].durable.clone();
        for change in self.pending.iter().filter(|change| change.inode() == Some(inode)) {
            match change {
                Change::Write { position, sectors, len, .. } => {
                    image.resize(image.len().max(*len), 0);
                    let end = image.len().min(position + sectors.len());
                    image[*position..end].copy_from_slice(&sectors[..end - position]);
                }
                Change::Len { len, .. } => image.resize(*len, 0),
                _ => {}
            }
        }
        self.inodes[inode].bytes = image;
    }

    /// Takes the changes for which `chosen` says so out of the pending ones.
    pub(super) fn take_pending(&mut self, chosen: impl Fn(&Change) -> bool) -> Vec<Change> {
        let (taken, kept) = std::mem::take(&mut self.pending).into_iter().partition(chosen);
        self.pending = kept;
        taken
    }

    /// Makes a change durable, but for the sectors of a write that `survives` does not let through.
    pub(super) fn harden(&mut self, change: &Change, new_len: bool, mut survives: impl FnMut(&mut Random) -> bool) {
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

    pub(super) fn lose_the_latest(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let count = pending.len() as u64;
        // Often all or nothing; both are likely on a real disk, and between them anything.
        let cut = if self.random.percent(20) { count } else { self.random.below(count + 1) };
        let entries_cut = if self.random.percent(50) { cut } else { self.random.below(cut + 1) };
        for (at, change) in (0_u64..).zip(&pending).take_while(|(at, _)| *at <= cut) {
            let is_entry = change.inode().is_none();
            let is_write = matches!(change, Change::Write { .. });
            if at < cut && !(is_entry && at >= entries_cut) {
                self.harden(change, true, |_| true);
            } else if at == cut && is_write {
                let mut torn = false;
                self.harden(change, true, |random| {
                    torn |= random.percent(30);
                    !torn
                });
            }
        }
    }

    pub(super) fn lose_any(&mut self) {
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
    pub(super) fn restart(&mut self) {
        self.entries.clone_from(&self.durable_entries);
        self.inodes.iter_mut().for_each(|inode| inode.bytes.clone_from(&inode.durable));
        (self.stop_at, self.fault, self.happened) = (None, None, None);
    }
}

pub(super) fn apply_to_entries(entries: &mut BTreeMap<PathBuf, usize>, change: &Change) {
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

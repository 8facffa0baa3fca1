//! What was read last near the end of a log, for those who read the same a moment later.
//!
//! Consumer groups that follow the end are woken by the same append and ask for the same offset. The first of them reads
//! and verifies, the others are given what it found: slices of the map, so keeping them takes no memory of their size.

use crate::storage::reader::StoredBatches;
use crate::types::Offset;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Reads that are kept. Those who are a little behind find the one before the last.
const KEPT_MAX: usize = 4;

/// For so long what was verified once is good for others; bytes that stand somewhere for longer are verified again.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// The last reads, oldest first.
#[derive(Debug, Default)]
pub(super) struct TailReads(VecDeque<TailRead>);

#[derive(Debug)]
struct TailRead {
    from: Offset,
    at: Instant,
    found: StoredBatches,
}

impl TailReads {
    /// What was found from `from` on, if that is not more than so many bytes.
    pub(super) fn find(&self, from: Offset, bytes_max: usize) -> Option<StoredBatches> {
        let read = self.0.iter().rev().find(|read| read.from == from && read.at.elapsed() < KEPT_FOR)?;
        let bytes: usize = read.found.iter().map(|batch| batch.payload.len()).sum();
        (bytes <= bytes_max).then(|| read.found.clone())
    }

    /// Keeps what was found from `from` on, instead of the oldest.
    pub(super) fn keep(&mut self, from: Offset, found: &StoredBatches) {
        if self.0.len() == KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(TailRead { from, at: Instant::now(), found: found.clone() });
    }

    /// Lets go of old ones: while they are kept, so are the segments they are in.
    pub(super) fn forget_old(&mut self) {
        self.0.retain(|read| read.at.elapsed() < KEPT_FOR);
    }
}

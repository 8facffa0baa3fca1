//! Ranges of a log that are known to be damaged: quarantined, named, and not served; everything else is.
//!
//! Nothing of this is stored. A range becomes known when something meets it (recovery, a read, the scrubber) and is
//! forgotten when the log is closed; what is damaged then is met again.

use crate::storage::StorageError;
use crate::sync::{Mutex, MutexGuard};
use crate::types::Offset;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// More ranges than this are not listed. Reads into those are refused all the same.
const RANGES_MAX: usize = 1_000;

/// Offsets whose records cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// The first offset that is lost.
    pub first_offset: Offset,
    /// The offset at which good records go on.
    pub next_offset: Offset,
    /// The file it is in, or would be in.
    pub path: PathBuf,
    /// Where in it the damage begins, in bytes.
    pub position: u64,
    /// What is wrong there.
    pub what: String,
}

impl DamagedRange {
    /// The answer to whoever reads into it.
    pub fn error(&self) -> StorageError {
        let Self { first_offset, next_offset, path, position, what } = self.clone();
        StorageError::Damaged { first_offset, next_offset, path, position, what }
    }
}

/// The known damage of one log, by first offset.
#[derive(Debug, Default)]
pub(super) struct Damage(Mutex<BTreeMap<Offset, DamagedRange>>);

impl Damage {
    /// Takes note of a range; says so in the broker's log the first time.
    pub(super) fn note(&self, range: DamagedRange) {
        let mut ranges = self.ranges();
        if ranges.len() >= RANGES_MAX || ranges.contains_key(&range.first_offset) {
            return;
        }
        tracing::error!(
            path = %range.path.display(), position = range.position, first_offset = %range.first_offset,
            next_offset = %range.next_offset, what = range.what,
            "records are damaged and not served; the others are"
        );
        ranges.insert(range.first_offset, range);
    }

    /// What a look at the whole of one segment found takes the place of what was known of it, which is given back.
    pub(super) fn replace_of(&self, path: &Path, found: Vec<DamagedRange>) -> Vec<DamagedRange> {
        let mut ranges = self.ranges();
        let known: Vec<_> = ranges.values().filter(|range| range.path == path).cloned().collect();
        ranges.retain(|_, range| range.path != path);
        let room = RANGES_MAX.saturating_sub(ranges.len());
        ranges.extend(found.into_iter().take(room).map(|range| (range.first_offset, range)));
        known
    }

    /// The known ranges that reach beyond `log_start`, in order.
    pub(super) fn list(&self, log_start: Offset) -> Vec<DamagedRange> {
        self.ranges().values().filter(|range| range.next_offset > log_start).cloned().collect()
    }

    /// The known range that holds `offset`.
    pub(super) fn covering(&self, offset: Offset) -> Option<DamagedRange> {
        let ranges = self.ranges();
        ranges.range(..=offset).next_back().map(|(_, range)| range).filter(|range| offset < range.next_offset).cloned()
    }

    fn ranges(&self) -> MutexGuard<'_, BTreeMap<Offset, DamagedRange>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Compaction: of the records of each key, the last one stays. A pass over the sealed segments of one log.
//!
//! ```text
//! key_map   the last offset of each key, in bounded memory         plan    which records stay, what is rewritten, and when
//! frames    the frames of a sealed segment, verified               split   a batch with holes becomes frames of what stays
//! rewrite   segments into one cleaned file                         swap    the cleaned file takes their place, crash by crash
//! progress  how far the log is clean, in compaction.json           pass    the shell: one pass from the plan to the swap
//! ```
//!
//! Offsets never change, coverage stays dense: a frame says which offsets it covers, so a missing frame is still noticed.
//! Only segments that are sealed and synced, and end below the recovery point, are read or replaced: a value that a power
//! cut could take never drives out an older one. A reader that holds a replaced segment keeps it.

mod frames;
mod key_map;
mod pass;
mod plan;
mod progress;
mod rewrite;
mod split;
pub(super) mod swap;

pub use pass::{CompactionOutcome, CompactionPolicy, Pace, When};
pub use swap::swapped_range_of;

use crate::storage::StorageError;
use crate::types::TimestampMs;
use progress::Progress;

/// What compaction knows of a log between two passes. Its lock is held during a pass: there is one at a time.
#[derive(Debug, Default)]
pub(super) struct CompactionState {
    /// `None` until it is asked for.
    progress: Option<Progress>,
    /// A pass in the background does not begin before this, after one that failed.
    not_before_ms: Option<TimestampMs>,
    /// Why there are no more passes until the log is opened again: it is not known which files have which names.
    failure: Option<StorageError>,
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod test_log;

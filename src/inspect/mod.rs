//! A data directory looked at from outside, without a broker: what is in it, and whether it is whole.
//!
//! ```text
//! data_directory  which logs there are, by name or by path; whether a broker runs on it
//! log_files       the files of one log by what they are
//! frame_walk      the frames of one segment, damage included
//! segments        what each segment holds, from its headers
//! dump            frame by frame, record by record
//! verify          everything is read and checked; verify_log and verify_segment do one log and one file; problem
//! ```
//!
//! Never writes. Reads with plain reads, not through maps: a broker may be running, and cut unused space from a file
//! that is being looked at; and a sector that cannot be read has to become an answer, not a signal.

pub mod data_directory;
pub mod dump;
mod frame_walk;
pub mod log_files;
pub mod problem;
pub mod segments;
pub mod verify;
mod verify_log;
mod verify_segment;

pub use data_directory::{DataDirectory, LogPlace, Selection};
pub use problem::{Problem, ProblemKind};

use crate::storage::StorageError;
use std::path::PathBuf;

/// Why there is nothing to look at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InspectError {
    /// The catalog has no such topic.
    #[error("there is no topic {topic} in {}", directory.display())]
    NoSuchTopic {
        /// As it was asked for.
        topic: String,
        /// The data directory.
        directory: PathBuf,
    },
    /// The topic has fewer partitions.
    #[error("topic {topic} has {partitions} partitions, numbered from 0; there is no partition {partition}")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// As it was asked for.
        partition: u32,
        /// How many it has.
        partitions: u32,
    },
    /// The path does not end as a log directory does, so nothing says whose log it is.
    #[error("{} is not the directory of a log; it must end in TOPIC-UUID/PARTITION", path.display())]
    NotALog {
        /// As it was given.
        path: PathBuf,
    },
    /// The catalog is damaged, so that topics cannot be found by name.
    #[error("{0}; a log is still found by its directory: --path topics/TOPIC-UUID/PARTITION")]
    Catalog(StorageError),
    /// A file or directory could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;

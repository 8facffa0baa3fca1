//! The log on disk: synchronous code that knows no tokio, no gRPC, no topics by name and no consumer groups.
//!
//! ```text
//! log            one partition: append and seal in log.rs, reader.rs, keeper.rs; what they share in log_state.rs
//!  |- admission  conditions and repeats: what is appended at all           admission.rs
//!  |              of producers in producers.rs (rebuilt by producers_file.rs), of message ids in message_ids.rs
//!  |- sync       what becomes durable while more is written               log_sync.rs
//!  |- allocation space for what is appended next, prepared                 allocation.rs; the active segment in active.rs
//!  |- recovery   what is valid after a crash                               recovery/
//!  |- damage     what is known to be lost                                  damage.rs
//!  |- retention  which segments may go, and in which order                 retention.rs
//!  |- compaction which records of a key may go, and how                    compaction/
//!  |- scrub      sealed segments are read again, to find damage            scrub.rs
//!  |- checkpoint up to where everything is known to be valid and durable   checkpoint.rs
//!  `- segment    one file of frames, with its sparse index                 segment/
//!      `- frame  header, checksum, payload                                 frame.rs
//! open_files  which segments are open, and which is closed for the next     open_files.rs
//! context     what all logs of a broker share                               context.rs
//! data_dir       lock, format version, names of directories                data_dir.rs
//! file_system    the seam to the operating system, which real_file_system.rs and mmap.rs fill
//! ```
//!
//! Crash contract. A batch is *written* when `pwrite` returned: it survives the process. It is *synced* when
//! `fdatasync` returned: it survives the machine. Opening a log after a crash keeps every batch that is whole, saves a
//! torn tail aside before cutting it, and refuses to open (never cuts) when an invalid frame has valid ones behind it.
//! The bytes of every file are described in `docs/storage-format.md`.

mod active;
mod admission;
mod allocation;
#[cfg(test)]
mod allocation_tests;
pub mod atomic_file;
pub mod checkpoint;
pub mod compaction;
pub mod context;
#[cfg(test)]
mod crash_stories_tests;
pub mod damage;
pub mod data_dir;
pub mod error;
pub mod file_system;
pub mod frame;
mod frame_walk;
mod frames;
pub mod keeper;
#[cfg(test)]
mod keeper_tests;
pub mod log;
mod log_options;
mod log_state;
mod log_sync;
mod message_ids;
mod mmap;
pub mod open_files;
#[cfg(test)]
mod open_files_tests;
pub mod producers;
mod producers_file;
pub mod reader;
pub mod real_file_system;
pub mod recovery;
#[cfg(test)]
mod repeats_tests;
pub mod retention;
#[cfg(all(test, feature = "shuttle"))]
mod schedules_tests;
pub mod scrub;
pub mod segment;
#[cfg(test)]
pub(crate) mod sim_disk;
#[cfg(test)]
pub(crate) mod sim_file_system;
#[cfg(test)]
mod simulation_tests;
pub mod stored_batch;

pub use context::StorageContext;
pub use error::StorageError;
pub use log::{Log, LogOptions};
pub use log_sync::LogSync;
pub use reader::LogReader;

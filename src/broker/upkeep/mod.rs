//! What goes on in the background, and what must be known before anything is deleted.
//!
//! ```text
//! rounds        seal, sync, delete by retention                compaction    keep the last record of each key
//! scrubber      read sealed segments again                     dead_groups   forget groups that nobody uses
//! clock_watch   can the time be believed?                      disk_watch    is there room?
//! expired       who lost what it had not read                  memory        what a round remembers over restarts
//! ```

pub(in crate::broker) mod clock_watch;
pub mod compaction;
mod dead_groups;
pub(in crate::broker) mod disk_watch;
pub(in crate::broker) mod expired;
mod memory;
mod rounds;
pub(in crate::broker) mod scrubber;

pub use rounds::ClockStatus;
pub(in crate::broker) use rounds::Upkeep;

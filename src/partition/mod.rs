//! The async shell around one log: what everyone above holds, and the threads that do its disk work.
//!
//! ```text
//! PartitionHandle::append -> inbox -> StoragePool thread: drain, one write, one sync, high watermark, answers
//!                                     or, if it is little and needs no sync, the same by whoever waits for it
//! PartitionHandle::read   -> waits on nothing; reads a snapshot of the log below the high watermark
//! ```
//!
//! A partition is changed by one thread at a time (whoever has taken it), in the order of its inbox.
//! Knows its log, not the name of its topic; knows nothing of groups or the wire.

mod drains;
mod handle;
mod in_place;
mod inbox;
pub mod journal;
mod options;
mod partition_journal;
mod pool;
mod writer;

pub use drains::PendingAppend;
pub use handle::{PartitionHandle, PartitionOffsets};
pub use inbox::{AppendAck, AppendError, Permit};
pub use options::PartitionOptions;
pub use partition_journal::PartitionJournal;
pub use pool::StoragePool;

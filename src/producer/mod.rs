//! Identities of idempotent producers: who gets which id and epoch, and who may still send.
//!
//! ```text
//! ProducerRegistry (handle) -- init: decide -> Journal -> apply -> wait for the earlier life's batches -> answer
//!            |                        `--- state (pure) ---'
//!            `- admit: may a batch of this id and epoch be queued
//! ```
//!
//! Promises: an id is never given twice, also not after a crash; of a name there is one epoch at a time, and when the
//! answer with the next one is there, no batch of an earlier one is appended any more, anywhere in the broker.
//! Deliberately unknown here: partitions and sequences, which each log keeps for itself (`storage::producers`), and the
//! wire.

mod error;
mod journal_entries;
mod registry;
mod state;

pub use error::ProducerError;
pub use registry::ProducerRegistry;
pub use state::{Identity, ProducerName};

#[cfg(test)]
mod registry_tests;

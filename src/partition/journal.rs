//! A typed event log over an internal partition: where coordinators keep their state.
//!
//! A coordinator decides, appends the events, and acts on them only when they are durable. At start it replays every
//! entry, oldest first. Keys name the piece of state an entry replaces, so that compaction may drop older entries;
//! an entry without a value says that the piece is gone.

use crate::types::Durability;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::pin::Pin;

/// One event as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// The piece of state this entry replaces.
    pub key: Bytes,
    /// What it is now; `None` = gone.
    pub value: Option<Bytes>,
}

impl JournalEntry {
    /// A piece of state as JSON, which a person with an ordinary consumer can read.
    pub fn json(key: String, value: &impl Serialize) -> Self {
        let value = serde_json::to_vec(value).expect("these values are plain structs, which always serialize");
        Self { key: key.into(), value: Some(Bytes::from(value)) }
    }

    /// The piece of state is gone.
    pub fn tombstone(key: String) -> Self {
        Self { key: key.into(), value: None }
    }
}

/// What [`JournalEntry::json`] wrote; an error says what is wrong with it.
pub fn parse_json<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

/// The events could not be made durable. The journal is closed: whoever holds state built on them must stop.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the journal {journal} cannot be written: {cause}; the broker must be restarted")]
pub struct JournalError {
    /// Name of the internal topic.
    pub journal: String,
    /// What happened.
    pub cause: String,
}

/// Where a coordinator appends its events.
pub trait Journal: Send + Sync + 'static {
    /// Appends entries, in order, as one batch; durable (synced) when the future ends.
    fn append(&self, entries: Vec<JournalEntry>)
    -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>>;
}

/// Entries on their way to the disk. Both futures go on by themselves and may be dropped.
pub struct Appending {
    /// Ends when they are written: from then on `kill -9` of the broker does not take them. Never ends if they are not.
    pub written: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Ends when they are as durable as was asked.
    pub durable: Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send>>,
}

/// A journal with one owner, who need not wait for one append before the next, and can replace all of it while it runs.
pub trait CutJournal: Send + Sync + 'static {
    /// Sends entries on their way, behind all before; their place is fixed when this returns. Once one has failed, so
    /// does every later one: the journal has no holes.
    fn begin(&self, entries: Vec<JournalEntry>, durability: Durability) -> Appending;

    /// Replaces everything written so far by `snapshot`, which must say the same. A crash in between loses nothing.
    fn replace(
        &self,
        snapshot: Vec<JournalEntry>,
    ) -> Pin<Box<dyn Future<Output = Result<(), JournalError>> + Send + '_>>;
}

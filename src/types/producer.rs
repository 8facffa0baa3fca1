//! Idempotent producers: who sent a batch, and as which of its records.

use serde::{Deserialize, Serialize};

/// The identity of an idempotent producer, given by the broker and never given again. Not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProducerId(pub u64);

impl ProducerId {
    /// The identity with this number; `None` for 0, which on disk and on the wire means "no producer".
    pub fn new(number: u64) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }
}

impl std::fmt::Display for ProducerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What an idempotent producer says of a batch. Sequences count its records to one partition from 0, in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Who.
    pub id: ProducerId,
    /// Which life of it: a producer that starts anew under the same name gets the next one, and fences those before.
    pub epoch: u16,
    /// The sequence of the first record.
    pub base_sequence: u32,
}

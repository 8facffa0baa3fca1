//! Why a producer gets no identity, or may not send with the one it has.

use crate::types::ProducerId;
use crate::types::topic::NameError;

/// A refusal by the registry of producers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProducerError {
    /// A name that no producer can have.
    #[error("the producer name is not valid: {0}")]
    Name(#[from] NameError),
    /// There are as many names as there may be, and all were used of late.
    #[error(
        "there are {limit} names of producers, and no more are kept; use fewer names: one that nobody sends with for \
         {idle_days} days makes room"
    )]
    TooManyNames {
        /// The most there may be.
        limit: usize,
        /// After how long without use a name makes room.
        idle_days: u64,
    },
    /// A later life of the producer has begun, or its name was given up.
    #[error("producer {producer} of epoch {epoch} is fenced: {}; stop this producer", fenced_by(*.current))]
    Fenced {
        /// The producer.
        producer: ProducerId,
        /// The epoch it sends with.
        epoch: u16,
        /// The present one; `None` if the id belongs to no name any more.
        current: Option<u16>,
    },
    /// The broker never gave this identity to anyone.
    #[error("producer {producer} of epoch {epoch} was never given out by this broker; call InitProducer")]
    NeverGiven {
        /// The id.
        producer: ProducerId,
        /// The epoch.
        epoch: u16,
    },
    /// The journal holds an entry that cannot be understood.
    #[error("the journal of producers holds an entry this broker does not understand, with key {key:?}: {what}")]
    Corrupt {
        /// Its key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// The journal cannot be written; nothing was given out.
    #[error("no producer can be given an identity: {cause}")]
    Unavailable {
        /// Why.
        cause: String,
    },
}

fn fenced_by(current: Option<u16>) -> String {
    match current {
        Some(current) => format!("epoch {current} has begun"),
        None => "its name was not used for long and was given up".to_owned(),
    }
}

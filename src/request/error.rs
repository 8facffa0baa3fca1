//! What can go wrong with a request and its reply.

use crate::types::{Offset, TopicPartition};

/// A request without a reply, or a reply that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// As many calls wait as may.
    #[error("{limit} requests wait for their replies, and no more may; nothing was appended; send again later")]
    TooManyWaiting {
        /// Most of them.
        limit: usize,
    },
    /// Nobody has replied in time.
    #[error(
        "no reply came within {timeout_ms} ms; the request is at {at} offset {offset}, and whoever works on it later \
         finds that nobody waits"
    )]
    TimedOut {
        /// Where the request is.
        at: TopicPartition,
        /// Its offset.
        offset: Offset,
        /// How long was waited.
        timeout_ms: u64,
    },
    /// The broker stops before a reply has come.
    #[error("the broker is stopping, and no reply has come; the request is at {at} offset {offset}")]
    Draining {
        /// Where the request is.
        at: TopicPartition,
        /// Its offset.
        offset: Offset,
    },
    /// The request was appended before, and its reply was another call's.
    #[error(
        "a request with this message id is at {at} offset {offset} already; its reply went, or goes, to another call"
    )]
    Repeated {
        /// Where it is.
        at: TopicPartition,
        /// Its offset.
        offset: Offset,
    },
    /// Bytes that are no token.
    #[error("this is no reply token; it is the value of the header reply-token of a request")]
    TokenUnknown,
    /// Nobody waits for the reply.
    #[error("nobody waits for this reply any more: {cause}; it was given to nobody")]
    NotAwaited {
        /// Why not.
        cause: Unawaited,
    },
    /// The request has its reply.
    #[error("the request has a reply already, and the first one counts; this one was given to nobody")]
    AlreadyGiven,
    /// More than a caller can be sent.
    #[error(
        "the reply has {bytes} bytes; at most {limit_bytes} are passed on; put it elsewhere and reply with its place"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most.
        limit_bytes: usize,
    },
}

/// Why nobody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unawaited {
    /// Its time was up, or its connection was lost.
    CallerGone,
    /// Calls of another run of the broker are over.
    BrokerRestarted,
}

impl Unawaited {
    /// As a fact of the error.
    pub fn fact(self) -> &'static str {
        match self {
            Self::CallerGone => "caller_gone",
            Self::BrokerRestarted => "broker_restarted",
        }
    }
}

impl std::fmt::Display for Unawaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::CallerGone => "the caller's time was up, or it has gone",
            Self::BrokerRestarted => "the broker was restarted since the request",
        })
    }
}

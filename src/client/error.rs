//! What can go wrong between a program and the broker, sorted by what the program should do next.
//!
//! The broker's own errors ([`Refusal`]) keep every fact it sent: code, reason, metadata, whether to try again and
//! when. They arrive as a gRPC status that ends a call or as a message inside a stream, and look the same here.
//! Whatever carries no such facts came from the transport, and is a lost connection.

use crate::proto;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The `domain` of every `google.rpc.ErrorInfo` the broker sends.
const ERROR_DOMAIN: &str = "millstream";

/// An error of the client library.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be connected to as written: correct it.
    #[error("{address:?} is not the address of a broker: {what}")]
    BadAddress {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        what: String,
    },
    /// Nobody answers: start the broker, or correct the address.
    #[error("no broker answers at {address}: {cause}")]
    Unreachable {
        /// Where a broker was expected.
        address: String,
        /// What the system said.
        cause: String,
    },
    /// The connection broke, or the broker stopped. What was not acknowledged may or may not have happened.
    #[error("the connection to the broker was lost: {cause}")]
    ConnectionLost {
        /// What the transport said.
        cause: String,
    },
    /// The broker did not answer in time. The call may or may not have happened.
    #[error("the broker did not answer within {after:?}")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The broker refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The record cannot be sent: it is larger than its topic accepts.
    #[error("the record has {bytes} bytes; this topic accepts at most {limit_bytes} (record_bytes_max)")]
    RecordTooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The topic's limit.
        limit_bytes: usize,
    },
    /// The record cannot be sent: no message id can be like this.
    #[error("the message id has {bytes} bytes; it must have 1 to 128")]
    BadMessageId {
        /// How long it is.
        bytes: usize,
    },
    /// The options of a producer do not go together: correct them.
    #[error("the producer cannot be made: {what}")]
    BadProducerOptions {
        /// What is wrong with them.
        what: &'static str,
    },
    /// A named producer has lost its place: it cannot tell whether what it sent last is in the log. Find out, then make
    /// a new producer of that name.
    #[error(
        "producer {name} has lost its place and stops; find out what was appended, then make a new producer: {cause}"
    )]
    ProducerLost {
        /// Its name.
        name: String,
        /// What the broker said.
        cause: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic} has no partition {partition}; its partitions are numbered 0 to {}", partitions.saturating_sub(1))]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// A name that no topic can have.
    #[error(transparent)]
    Name(#[from] crate::types::topic::NameError),
    /// The broker broke the protocol: it is of another version, or something else answers at its address.
    #[error("the broker's answer makes no sense: {what}")]
    BadAnswer {
        /// What was expected.
        what: &'static str,
    },
    /// The producer was closed before the record was acknowledged.
    #[error("the producer was closed before the broker acknowledged the record")]
    Closed,
}

/// A refusal by the broker, with all facts that came with it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// A constant such as `OFFSET_OUT_OF_RANGE`; empty when the broker gave none.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The facts of the message, by name.
    pub metadata: BTreeMap<String, String>,
    /// Whether the same request may succeed when it is sent again unchanged.
    pub retryable: bool,
    /// Wait at least this long before that.
    pub retry_after: Option<Duration>,
}

impl ClientError {
    /// Whether trying again, unchanged, may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::ConnectionLost { .. } | Self::TimedOut { .. } => true,
            Self::Refused(refusal) => refusal.retryable,
            _ => false,
        }
    }

    /// How long the broker asked to wait before that.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal().and_then(|refusal| refusal.retry_after)
    }

    /// The refusal, if the broker refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the broker says that what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.code == Code::NotFound)
    }
}

/// A status that the transport made up has a source or no facts; one that the broker sent has an `ErrorInfo`.
impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        if info.is_none() && (status.source().is_some() || is_transport_code(status.code())) {
            return Self::ConnectionLost { cause: cause_of(&status) };
        }
        let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        let metadata: BTreeMap<_, _> = info.iter().flat_map(|info| info.metadata.clone()).collect();
        let says_retryable = metadata.get("retryable").map(|value| value == "true");
        Self::Refused(Box::new(Refusal {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            retryable: says_retryable.unwrap_or(retry_after.is_some()),
            retry_after,
            metadata,
        }))
    }
}

/// The error that travels inside a stream.
impl From<proto::Error> for Refusal {
    fn from(error: proto::Error) -> Self {
        let delay = Duration::from_millis(error.retry_after_ms.into());
        Self {
            code: Code::from(error.code),
            reason: error.reason,
            message: error.message,
            metadata: error.metadata.into_iter().collect(),
            retryable: error.retryable,
            retry_after: (!delay.is_zero()).then_some(delay),
        }
    }
}

impl From<proto::Error> for ClientError {
    fn from(error: proto::Error) -> Self {
        Self::Refused(Box::new(error.into()))
    }
}

/// The codes a proxy, or a stream that was cut off, ends with when nobody says why.
fn is_transport_code(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Unknown | Code::Cancelled)
}

/// The innermost cause: "Connection refused" says more than the "transport error" around it.
pub(super) fn cause_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    // A status prints its code and metadata too; people need its message.
    match innermost.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => innermost.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn details(reason: &str, name: &str, value: &str) -> ErrorDetails {
        ErrorDetails::with_error_info(reason, ERROR_DOMAIN, [(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_refusal_keeps_every_fact() {
        let mut details = details("TOPIC_NOT_FOUND", "topic", "orders");
        details.set_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(Code::NotFound, "there is no topic orders", details);

        let error = ClientError::from(status);
        assert!(error.is_not_found());
        assert!(error.is_retryable());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
        assert_eq!(error.to_string(), "there is no topic orders");
        let refusal = error.refusal().expect("the broker refused");
        assert_eq!(refusal.reason, "TOPIC_NOT_FOUND");
        assert_eq!(refusal.metadata["topic"], "orders");
    }

    #[test]
    fn the_brokers_word_on_retrying_is_final() {
        for (word, expected) in [("true", true), ("false", false)] {
            let status = Status::with_error_details(Code::Unavailable, "", details("STOPPING", "retryable", word));
            assert_eq!(ClientError::from(status).is_retryable(), expected);
        }
    }

    #[test]
    fn what_carries_no_facts_is_a_lost_connection() {
        let error = ClientError::from(Status::unavailable("upstream went away"));
        assert!(matches!(&error, ClientError::ConnectionLost { cause } if cause == "upstream went away"));
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = ClientError::from(Status::from_error(Box::new(io)));
        assert!(matches!(error, ClientError::ConnectionLost { .. }));
        assert!(error.is_retryable());
    }

    #[test]
    fn an_error_inside_a_stream_looks_like_one_that_ends_a_call() {
        let error = proto::Error { code: 8, retryable: true, retry_after_ms: 250, ..proto::Error::default() };
        let error = ClientError::from(error);
        assert_eq!(error.refusal().map(|refusal| refusal.code), Some(Code::ResourceExhausted));
        assert_eq!(error.retry_after(), Some(Duration::from_millis(250)));
    }
}

//! The headers by which a request and its reply are told from other records; part of the wire contract (`request.proto`).

/// On a request: what its reply is given with.
pub const REPLY_TOKEN: &str = "reply-token";

/// On a request: until when its caller waits, in milliseconds since 1970-01-01 UTC, in digits.
pub const REPLY_BY_MS: &str = "reply-by-ms";

/// On a request that names a reply topic, and on its reply there: what they have in common.
pub const CORRELATION_ID: &str = "correlation-id";

/// On a reply in a reply topic: the work has failed for good, and why.
pub const REPLY_FAILURE: &str = "reply-failure";

//! Topics: what they promise ([`options`]) and which there are ([`catalog`]).
//!
//! Knows nothing of logs, groups or the wire.

pub mod options;

pub use options::TopicOptions;

//! The words of Millstream as Rust types: what a topic is called, where a record stands, what a record set holds.
//!
//! Everything here is pure and total: no I/O, no time, no panics on any input. Nothing here knows the generated
//! protobuf types; [`record_set`] reads and writes the one message the broker handles as bytes.

pub mod cleanup;
pub mod durability;
pub mod offset;
pub mod partitioner;
pub mod position;
pub mod producer;
pub mod record_set;
pub mod reply_headers;
pub mod topic;
pub mod topic_pattern;
mod wire;

pub use cleanup::Cleanup;
pub use durability::Durability;
pub use offset::Offset;
pub use position::Position;
pub use producer::{ProducerId, ProducerStamp};
pub use topic::{TopicId, TopicName, TopicPartition};
pub use topic_pattern::TopicPattern;

/// Milliseconds since 1970-01-01 00:00 UTC. Negative before it.
pub type TimestampMs = i64;

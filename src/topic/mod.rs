//! Topics: what they promise ([`options`]) and which there are ([`catalog`]).
//!
//! Knows nothing of logs, groups or the wire.

pub mod catalog;
pub mod options;

pub use catalog::{Catalog, TopicEntry};
pub use options::TopicOptions;

//! Millstream: a persistent, log-structured message broker.
//!
//! The house, from the door down; an arrow may be used and is never reversed (`tests/tidy.rs` checks):
//!
//! ```text
//! cli -> client -> proto                                   the command line is an ordinary client
//! cli::serve -> server -> { grpc, admin } -> broker        one process: doors, then the facade
//! broker -> { topic, group } -> partition -> storage -> types, limits
//! clock, config, metrics: leaves
//! ```

pub mod cli;
pub mod client;
pub mod clock;
pub mod limits;
pub mod partition;
pub mod proto;
pub mod topic;
pub mod types;

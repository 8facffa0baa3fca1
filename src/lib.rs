//! Millstream: a persistent, log-structured message broker.
//!
//! The house, from the door down; an arrow may be used and is never reversed (`tests/tidy.rs` checks):
//!
//! ```text
//! cli -> client -> proto                                   the command line is an ordinary client
//! cli::bench -> bench -> client                            workloads, measured; a broker as a child process
//! cli::serve -> server -> { grpc, admin } -> broker        one process: doors, then the facade
//! cli::log -> { inspect, repair } -> { topic, storage }      a data directory without a broker: looked at, mended
//! broker -> { topic, group, producer, queue, schedule, request } -> partition -> storage -> types, limits
//! announce, clock, config, filter, metrics, planted, process_limits, shutdown, sync, units: leaves
//! ```

pub mod admin;
pub mod announce;
pub mod bench;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod filter;
pub mod group;
pub mod grpc;
pub mod inspect;
pub mod limits;
pub mod metrics;
pub mod partition;
pub mod planted;
pub mod process_limits;
pub mod producer;
pub mod proto;
pub mod queue;
pub mod repair;
pub mod request;
pub mod schedule;
pub mod server;
pub mod shutdown;
pub mod storage;
mod sync;
pub mod topic;
pub mod types;
pub mod units;

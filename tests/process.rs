//! The broker as a process: the built binary, real files, real sockets, real signals.
//!
//! What is promised to an operator is held to here: a stop loses nothing and leaves nothing to verify, damage is named
//! and never served, a refused start changes nothing and says why. Real input goes through a few kills:
//!
//! ```sh
//! MILLSTREAM_FLIGHTS=flights.csv cargo test --release --test process flights -- --nocapture
//! ```
//!
//! Many kills under load are `tests/kill.rs`, kills at each system call `tests/syscalls.rs`; a full disk needs a small
//! disk, `tests/full_disk.rs`.

#[path = "process/bench.rs"]
mod bench;
#[path = "process/broker.rs"]
mod broker;
#[path = "process/broker_verbs.rs"]
mod broker_verbs;
#[path = "process/command_line.rs"]
mod command_line;
#[path = "process/compaction.rs"]
mod compaction;
#[path = "process/corruption.rs"]
mod corruption;
#[path = "process/dlq.rs"]
mod dlq;
#[path = "process/filters.rs"]
mod filters;
#[path = "process/flights.rs"]
mod flights;
#[path = "process/group.rs"]
mod group;
#[path = "process/group_verbs.rs"]
mod group_verbs;
#[path = "process/idempotence.rs"]
mod idempotence;
#[path = "process/inspection.rs"]
mod inspection;
#[path = "process/ledger.rs"]
mod ledger;
#[path = "process/pending_schedules.rs"]
mod pending_schedules;
#[path = "process/produce_later.rs"]
mod produce_later;
#[path = "process/queue.rs"]
mod queue;
#[path = "process/queue_verbs.rs"]
mod queue_verbs;
#[path = "process/refusals.rs"]
mod refusals;
#[path = "process/requests.rs"]
mod requests;
#[path = "process/schedule.rs"]
mod schedule;
#[path = "process/schedule_kills.rs"]
mod schedule_kills;
#[path = "process/stopping.rs"]
mod stopping;

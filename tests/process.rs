//! The broker as a process: the built binary, real files, real sockets, real signals.
//!
//! What is promised to an operator is held to here: acknowledged records survive `kill -9`, a stop loses nothing and
//! leaves nothing to verify, damage is named and never served, a refused start changes nothing and says why.
//!
//! Longer runs of the same tests print one line of figures:
//!
//! ```sh
//! MILLSTREAM_FLIGHTS=flights.csv cargo test --release --test process flights -- --nocapture
//! MILLSTREAM_KILLS=200 cargo test --release --test process kill_9 -- --nocapture
//! MILLSTREAM_SEED=1234 cargo test --test process kill_9          # a run that failed, again
//! ```
//!
//! A full disk needs a small disk: that is a test binary of its own, `tests/full_disk.rs`.

#[path = "process/broker.rs"]
mod broker;
#[path = "process/compaction.rs"]
mod compaction;
#[path = "process/corruption.rs"]
mod corruption;
#[path = "process/flights.rs"]
mod flights;
#[path = "process/group.rs"]
mod group;
#[path = "process/idempotence.rs"]
mod idempotence;
#[path = "process/inspection.rs"]
mod inspection;
#[path = "process/kills.rs"]
mod kills;
#[path = "process/ledger.rs"]
mod ledger;
#[path = "process/refusals.rs"]
mod refusals;
#[path = "process/stopping.rs"]
mod stopping;

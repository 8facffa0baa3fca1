//! Measuring a broker: the workloads of `millstream bench`, and the page made of their results.
//!
//! ```text
//! workload/   produce  consume  e2e  fanout  mixed  backlog  rate  queue    what is done, one file each
//!     |-- sending, reading, working, crew    the loops of senders, readers and workers, and who waits for whom
//!     |-- stage                     warm-up, measured, over; processor time at these moments
//!     '-- target                    the system under test, behind a small trait; `millstream` implements it
//! payload, tally    records that carry a number and a time, and the check that all came, once, in order
//! pacer, latency, usage, machine, result    the instruments
//! report/           results -> one HTML page
//! ```
//!
//! A run that lost, repeated or reordered a record is an error, not a speed. Senders and readers keep their own counts
//! and share nothing but the stage; nothing here allocates or locks for each record. What a system's own client
//! library costs is part of the measurement.

mod crew;
mod error;
pub mod latency;
mod machine;
mod millstream;
mod own_broker;
pub mod pacer;
pub mod payload;
mod reading;
pub mod report;
pub mod result;
mod sending;
mod stage;
mod tally;
pub mod target;
mod usage;
mod working;
pub mod workload;

pub use error::{BenchError, OwnBrokerError};
pub use machine::Machine;
pub use millstream::Millstream;
pub use own_broker::OwnBroker;
pub use stage::{RunClock, Stop, StopHandle};
pub use tally::Tally;
pub use working::WorkTally;

//! Schedules: a record that is to be appended to a topic later, once or again and again.
//!
//! ```text
//! ScheduleCoordinator (handle) -> inbox -> task (the one owner) -> state: decide, then apply
//!            ^                              |                      recurrence: when comes a cron next
//!            |                              `-> ScheduleLog: one append per drain; answers when it is synced
//!            `- take_due, settle: whoever delivers is told what is due, and says what became of it
//! ```
//!
//! Promises: what was answered is durable; nothing is handed out before its time by the broker's clock; a schedule ends
//! only by a delivery, a cancellation or a policy that its maker stated, never by an error. In memory is when each is due
//! and where it stands in the log, about 120 bytes; what is to be delivered stays in the log (`entry`). Deliberately
//! unknown here: topics, partitions and the wire.

mod coordinator;
mod entry;
mod error;
mod ids;
mod log;
mod recurrence;
mod state;
mod task;

#[cfg(test)]
mod coordinator_tests;
#[cfg(test)]
mod model_tests;

pub use coordinator::ScheduleCoordinator;
pub use entry::{Entry, Schedule};
pub use error::ScheduleError;
pub use ids::{Place, ScheduleId};
pub use log::{LogFailure, ScheduleLog};
pub use recurrence::{Missed, Recurrence};
pub use state::{Counts, Due, Listed, Outcome, Page, Replayed, Stage};

//! What clients did and saw, and whether a log that can be trusted explains it.
//!
//! ```text
//! producers, consumers, audits -> Recorder (event.rs) -> Checker (checker.rs and its parts) -> anomalies
//! ```
//!
//! Events are recorded before something is asked for and after it is answered, so the order of the history is an order
//! in which things happened. The checker is a pure function of it; a history that breaks a promise is written to a
//! file, one event a line, and can be read back and judged again. Nothing here knows how the broker is killed.

pub(crate) mod anomaly;
pub(crate) mod audit;
pub(crate) mod checker;
pub(crate) mod event;
mod groups;
mod logs;
pub(crate) mod payload;
mod queues;
mod redrives;
mod schedules;

pub(crate) use anomaly::Anomaly;
pub(crate) use checker::Checker;
pub(crate) use event::{Batch, Event, RecordId, Recorder, Rule};
pub(crate) use payload::Payload;

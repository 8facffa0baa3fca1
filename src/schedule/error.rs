//! What can be refused, and why.

use super::ids::{IdError, ScheduleId};

/// A call on schedules was refused and had no effect; after [`ScheduleError::Stopped`] its effect is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The schedule cannot be called that.
    #[error("the schedule id is not valid: {0}")]
    Id(#[from] IdError),
    /// There is no such schedule: it never was, is delivered, or was cancelled.
    #[error("there is no schedule {id}: it was delivered or cancelled, or never made")]
    NotFound {
        /// The id asked for.
        id: ScheduleId,
    },
    /// There is one already.
    #[error("schedule {id} exists already; reschedule or cancel it, or choose another id")]
    Exists {
        /// The id.
        id: ScheduleId,
    },
    /// It is being delivered at this moment, too late to change anything.
    #[error("schedule {id} is being delivered right now")]
    UnderWay {
        /// The id.
        id: ScheduleId,
    },
    /// A part of the schedule has a value that is not allowed.
    #[error("{field}: {what}")]
    Invalid {
        /// Which part.
        field: &'static str,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// The broker holds as many schedules as it may.
    #[error("the broker has its {limit} schedules; cancel some, or add more when some are delivered")]
    TooMany {
        /// Most schedules of one broker.
        limit: usize,
    },
    /// The log could not take it; nothing was changed.
    #[error("the schedule cannot be stored: {cause}")]
    Refused {
        /// Why.
        cause: String,
    },
    /// An entry of the log cannot be understood.
    #[error("the log of schedules has an entry that cannot be read, key {key}: {cause}")]
    Corrupt {
        /// The entry's key, as text.
        key: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The coordinator no longer runs. Whether the call had an effect is known after the broker's next start.
    #[error("the schedule coordinator has stopped: {cause}")]
    Stopped {
        /// Why it stopped.
        cause: String,
    },
}

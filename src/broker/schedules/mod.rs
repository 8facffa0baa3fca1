//! Schedules, as far as topics and logs are concerned; what is due when is the business of [`crate::schedule`].
//!
//! ```text
//! calls         add, look at, cancel, set another time         log           where schedules are kept
//! dispatcher    what is due is appended, then noted
//! ```

mod calls;
pub(in crate::broker) mod dispatcher;
pub(in crate::broker) mod log;

pub use calls::{DescribedSchedule, NewSchedule, When};

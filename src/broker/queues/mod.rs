//! Queues, as far as topics and logs are concerned; what is open, leased and due is the business of [`crate::queue`].
//!
//! ```text
//! calls         create, change, describe, peek, settle        receiving     reserve, read, deliver, wait
//! reading       from offsets set aside to records              dead_letters  what was given up is written, then done
//! arrivals      which receiver is woken by a new record
//! ```

pub(in crate::broker) mod arrivals;
mod calls;
pub(in crate::broker) mod dead_letters;
pub(in crate::broker) mod reading;
pub mod receiving;

pub(in crate::broker) use calls::queue_name;
pub use calls::{DescribedQueue, Peeked};

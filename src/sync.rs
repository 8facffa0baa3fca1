//! Locks, atomics and threads of the code whose schedules are explored: the standard ones, or in tests shuttle's.
//!
//! With the feature `shuttle` the unit tests run on locks that hand control to a scheduler at each use, which tries
//! thousands of orders of the threads and can repeat one that failed. Only tests named `..._schedules_tests` can run
//! then; a build of the library or the broker is the same with or without the feature.
//!
//! Tokio's `watch` and `oneshot` stay as they are. Sending on them never blocks, and between taking and giving back
//! their own locks they run none of our code that could hand over control, so under the scheduler each use is one
//! step; a wake-up only marks the waiting thread as ready. `docs/reliability.md` says what is explored.

#[cfg(all(test, feature = "shuttle"))]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, atomic},
    thread,
};
#[cfg(not(all(test, feature = "shuttle")))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, atomic},
    thread,
};

/// Whether a scheduler decides who runs: then a panic is its to report, and there is no runtime to block threads of.
pub(crate) const IS_SCHEDULED: bool = cfg!(all(test, feature = "shuttle"));

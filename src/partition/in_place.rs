//! The right to write a little on a thread that is not one of the pool's: who has it, when nobody gets it, and a watchdog for
//! writes that hang all the same.
//!
//! A thread of the runtime that waits for sockets gives that up to handle what came, and takes it up again when it has nothing to
//! do. If it hangs in between, the other threads sleep on, and nobody hears the sockets or the timers: the whole broker hangs with
//! it. So somebody outside must wake another thread, which then finds that nobody waits for sockets, and does.

use crate::partition::pool::{AbortOnPanic, RunQueue};
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// A write in place that takes longer than this shows that the disk is slow, or the machine overloaded; which it may also be
/// in tests, where it must not matter.
const SLOW: Duration = if cfg!(test) { Duration::from_mins(1) } else { Duration::from_millis(10) };

/// So long nobody writes in place after that.
const SLOW_DISK_PAUSE: Duration = Duration::from_secs(10);

/// How often the watchdog looks, and how old a write is that it takes for one that hangs.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// After so long without a write in place the watchdog sleeps: longer than the pauses of a client that sends now and then, so that
/// few writes have to wake it.
const WATCH_LINGER: Duration = Duration::from_secs(1);

/// Who writes in place, and until when nobody may.
#[derive(Debug, Default)]
pub(super) struct State {
    is_under_way: bool,
    last_begun: Option<Instant>,
    /// The disk was slow.
    not_before: Option<Instant>,
    watchdog_sleeps: bool,
}

/// The right to write in place. Nobody else has it meanwhile.
#[derive(Debug)]
pub(super) struct InPlace<'a> {
    run_queue: &'a RunQueue,
    begun: Instant,
}

impl Drop for InPlace<'_> {
    fn drop(&mut self) {
        let _guard = AbortOnPanic;
        self.run_queue.end_in_place(self.begun.elapsed());
    }
}

impl State {
    fn is_allowed(&self, now: Instant) -> bool {
        !self.is_under_way && self.not_before.is_none_or(|until| now >= until)
    }

    /// Since when a write hangs, if one does.
    fn hangs_since(&self) -> Option<Instant> {
        self.last_begun.filter(|begun| self.is_under_way && begun.elapsed() >= WATCH_INTERVAL)
    }

    fn is_quiet(&self) -> bool {
        !self.is_under_way && self.last_begun.is_none_or(|begun| begun.elapsed() >= WATCH_LINGER)
    }
}

impl RunQueue {
    /// The right to write in place, if no storage thread has anything to do, nobody else has it, and the disk was not slow
    /// lately. So one thread at most waits for a disk that is suddenly slow, and only once in a while.
    pub(super) fn in_place(&self) -> Option<InPlace<'_>> {
        let begun = Instant::now();
        let must_wake = {
            let mut ready = self.lock();
            if !ready.is_idle() || !ready.in_place.is_allowed(begun) {
                return None;
            }
            (ready.in_place.is_under_way, ready.in_place.last_begun) = (true, Some(begun));
            std::mem::take(&mut ready.in_place.watchdog_sleeps)
        };
        if must_wake {
            self.wake_watchdog.notify_one();
        }
        Some(InPlace { run_queue: self, begun })
    }

    fn end_in_place(&self, took: Duration) {
        let pause_until = (took > SLOW).then(|| Instant::now() + SLOW_DISK_PAUSE);
        {
            let state = &mut self.lock().in_place;
            state.is_under_way = false;
            state.not_before = pause_until.or(state.not_before);
        }
        if pause_until.is_some() {
            tracing::info!(?took, pause = ?SLOW_DISK_PAUSE, "a small write took long; storage threads do them for a while");
        }
    }

    /// What the watchdog does until the pool stops: while a write in place hangs it gives the runtime something to do from
    /// outside, for which another of its threads wakes up, if there is one.
    pub(super) fn watch(&self, runtime: &Handle) {
        let mut told = None;
        while self.wait_to_look() {
            let hangs_since = self.lock().in_place.hangs_since();
            if hangs_since.is_some() {
                runtime.spawn(async {});
                if told != hangs_since {
                    tracing::warn!("a small write hangs; the thread that does it serves no connection meanwhile");
                }
            }
            told = hangs_since;
        }
    }

    /// Waits until it is time to look again. `false` when the pool stops.
    fn wait_to_look(&self) -> bool {
        let mut ready = self.lock();
        ready.in_place.watchdog_sleeps = ready.in_place.is_quiet();
        while ready.in_place.watchdog_sleeps && !ready.is_stopping {
            ready = self.wake_watchdog.wait(ready).unwrap_or_else(PoisonError::into_inner);
        }
        if !ready.is_stopping {
            (ready, _) = self.wake_watchdog.wait_timeout(ready, WATCH_INTERVAL).unwrap_or_else(PoisonError::into_inner);
        }
        !ready.is_stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::StoragePool;
    use crate::partition::pool::Work;
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::sync::{Arc, Mutex};

    /// Work that lasts until it is told to end.
    #[derive(Debug)]
    struct Lasting(Mutex<Receiver<()>>);

    impl Work for Lasting {
        fn run(self: Arc<Self>) -> bool {
            let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
            false
        }
    }

    fn eventually(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "waited in vain");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    #[test]
    fn nobody_writes_in_place_while_a_storage_thread_is_at_work() {
        let pool = StoragePool::start(2).expect("threads");
        let run_queue = pool.run_queue();
        eventually(|| run_queue.in_place().is_some());
        let (end, told_to_end) = sync_channel(1);
        run_queue.push(Arc::new(Lasting(Mutex::new(told_to_end))));
        assert!(run_queue.in_place().is_none());
        drop(end);
        eventually(|| run_queue.in_place().is_some());
    }

    #[test]
    fn one_at_a_time_writes_in_place() {
        let pool = StoragePool::start(0).expect("none");
        let run_queue = pool.run_queue();
        let first = run_queue.in_place();
        assert!(first.is_some() && run_queue.in_place().is_none());
        drop(first);
        assert!(run_queue.in_place().is_some());
    }

    #[test]
    fn after_a_slow_write_storage_threads_do_it_for_a_while() {
        let pool = StoragePool::start(0).expect("none");
        let run_queue = pool.run_queue();
        run_queue.end_in_place(SLOW);
        assert!(run_queue.in_place().is_some(), "that was not slow");
        run_queue.end_in_place(2 * SLOW);
        assert!(run_queue.in_place().is_none());
        let until = run_queue.lock().in_place.not_before.expect("there is a pause");
        assert!(until > Instant::now() && until <= Instant::now() + SLOW_DISK_PAUSE);
        run_queue.lock().in_place.not_before = Some(Instant::now());
        assert!(run_queue.in_place().is_some());
    }

    /// `tests/api/slow_disk.rs` has what it is for.
    #[tokio::test]
    async fn the_watchdog_sleeps_while_nobody_writes_in_place() {
        let pool = StoragePool::start(0).expect("none");
        let run_queue = pool.run_queue();
        let sleeps = || run_queue.lock().in_place.watchdog_sleeps;
        eventually(sleeps);
        let write = run_queue.in_place().expect("nobody else does");
        assert!(!sleeps());
        eventually(|| run_queue.lock().in_place.hangs_since() == Some(write.begun));
        drop(write);
        assert_eq!(run_queue.lock().in_place.hangs_since(), None);
        eventually(sleeps);
    }
}

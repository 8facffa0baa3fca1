//! The storage threads: a few, shared by all partitions, so that tokio workers do not wait for the disk. What they may write
//! themselves, because it takes no longer than to wake a storage thread, is decided here and in `drains`.
//!
//! A partition with something in its inbox stands in the run queue once; a free thread takes it, does one drain, and
//! puts it back if more has come. So each partition has one writer at a time, a busy one cannot starve the others, and
//! as many syncs run side by side as there are threads. While a thread waits for the sync of a partition another one may
//! write to it.

use crate::sync::thread::{Builder, JoinHandle};
use crate::sync::{Condvar, IS_SCHEDULED, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A write in place that takes longer than this shows that the disk is slow, or the machine overloaded; which it may also be
/// in tests, where it must not matter.
const SLOW: Duration = if cfg!(test) { Duration::from_mins(1) } else { Duration::from_millis(10) };

/// So long nobody writes in place after that.
const SLOW_DISK_PAUSE: Duration = Duration::from_secs(10);

/// The storage threads. They end, after finishing what is queued, when the pool is dropped.
#[derive(Debug)]
pub struct StoragePool {
    run_queue: Arc<RunQueue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Something with work waiting: a partition. One thread at a time runs it.
pub(super) trait Work: std::fmt::Debug + Send + Sync {
    /// Does one drain. Whether there is more.
    fn run(self: Arc<Self>) -> bool;
}

/// Partitions that wait for a thread.
#[derive(Debug)]
pub(super) struct RunQueue {
    ready: Mutex<Ready>,
    wake: Condvar,
    failure: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct Ready {
    partitions: VecDeque<Arc<dyn Work>>,
    /// Threads that do not wait for one.
    at_work: usize,
    /// Somebody else writes, and has [`InPlace`].
    in_place: bool,
    /// Until then nobody gets it: the disk was slow.
    not_in_place_before: Option<Instant>,
    stopping: bool,
}

/// The right to write a little on a thread that is not one of the pool's. Nobody else has it meanwhile.
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

impl StoragePool {
    /// Starts `threads` storage threads.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let run_queue =
            Arc::new(RunQueue { ready: Mutex::default(), wake: Condvar::new(), failure: watch::Sender::new(None) });
        let pool = Self { run_queue, threads: Mutex::default() };
        pool.add_threads(threads)?;
        Ok(pool)
    }

    /// Starts more threads, for a time in which all partitions have work that waits for the disk.
    pub fn add_threads(&self, count: usize) -> std::io::Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..count {
            let queue = Arc::clone(&self.run_queue);
            let name = format!("storage-{}", threads.len());
            threads.push(Builder::new().name(name).spawn(move || {
                // A broker whose writer died half-way must not go on as if nothing happened.
                let _guard = AbortOnPanic;
                queue.lock().at_work += 1;
                let mut more = None;
                while let Some(partition) = queue.next(more.take()) {
                    more = Arc::clone(&partition).run().then_some(partition);
                }
            })?);
        }
        Ok(())
    }

    /// Ends with the cause when a log fails in a way that only a restart mends. Then the process must stop.
    pub fn failure(&self) -> impl Future<Output = String> + Send + 'static {
        let mut failure = self.run_queue.failure.subscribe();
        async move {
            let cause = failure.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
            match cause {
                Some(cause) => cause,
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn run_queue(&self) -> Arc<RunQueue> {
        Arc::clone(&self.run_queue)
    }
}

impl Drop for StoragePool {
    fn drop(&mut self) {
        self.run_queue.lock().stopping = true;
        self.run_queue.wake.notify_all();
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = thread.join();
        }
    }
}

impl RunQueue {
    /// Hands a partition to the threads. It must not be in the queue already; its inbox keeps track of that.
    pub(super) fn push(&self, partition: Arc<dyn Work>) {
        self.lock().partitions.push_back(partition);
        self.wake.notify_one();
    }

    /// The right to write in place, if no storage thread has anything to do, nobody else has it, and the disk was not slow
    /// lately. So one thread at most waits for a disk that is suddenly slow, and only once in a while.
    pub(super) fn in_place(&self) -> Option<InPlace<'_>> {
        let begun = Instant::now();
        let mut ready = self.lock();
        let is_idle = ready.partitions.is_empty() && ready.at_work == 0 && !ready.in_place;
        let is_allowed = is_idle && ready.not_in_place_before.is_none_or(|until| begun >= until);
        ready.in_place |= is_allowed;
        is_allowed.then(|| InPlace { run_queue: self, begun })
    }

    fn end_in_place(&self, took: Duration) {
        let pause_until = (took > SLOW).then(|| Instant::now() + SLOW_DISK_PAUSE);
        {
            let mut ready = self.lock();
            ready.in_place = false;
            ready.not_in_place_before = pause_until.or(ready.not_in_place_before);
        }
        if pause_until.is_some() {
            tracing::info!(?took, pause = ?SLOW_DISK_PAUSE, "a small write took long; storage threads do them for a while");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports a failure that only a restart mends.
    pub(super) fn fail(&self, cause: &str) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| cause.to_owned());
            first
        });
    }

    /// The partition whose turn it is. `again`, which the thread has just run, stands behind the others. Nobody is woken
    /// for it: this thread takes one, and for each of the others somebody was.
    fn next(&self, again: Option<Arc<dyn Work>>) -> Option<Arc<dyn Work>> {
        let mut ready = self.lock();
        ready.partitions.extend(again);
        loop {
            if let Some(partition) = ready.partitions.pop_front() {
                return Some(partition);
            }
            if ready.stopping {
                return None;
            }
            ready.at_work -= 1;
            ready = self.wake.wait(ready).unwrap_or_else(PoisonError::into_inner);
            ready.at_work += 1;
        }
    }
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() && !IS_SCHEDULED {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};

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
        let until = run_queue.lock().not_in_place_before.expect("there is a pause");
        assert!(until > Instant::now() && until <= Instant::now() + SLOW_DISK_PAUSE);
        run_queue.lock().not_in_place_before = Some(Instant::now());
        assert!(run_queue.in_place().is_some());
    }
}

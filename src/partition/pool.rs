//! The storage threads: a few, shared by all partitions, so that tokio workers do not wait for the disk. What they may write
//! themselves, because it takes no longer than to wake a storage thread, is decided in `in_place` and `drains`.
//!
//! A partition with something in its inbox stands in the run queue once; a free thread takes it, does one drain, and
//! puts it back if more has come. So each partition has one writer at a time, a busy one cannot starve the others, and
//! as many syncs run side by side as there are threads. While a thread waits for the sync of a partition another one may
//! write to it.

use crate::partition::in_place;
use crate::sync::thread::{Builder, JoinHandle};
use crate::sync::{Condvar, IS_SCHEDULED, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// The storage threads. They end, after finishing what is queued, when the pool is dropped.
#[derive(Debug)]
pub struct StoragePool {
    run_queue: Arc<RunQueue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    watchdog: Option<JoinHandle<()>>,
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
    pub(super) wake_watchdog: Condvar,
    failure: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
pub(super) struct Ready {
    partitions: VecDeque<Arc<dyn Work>>,
    /// Threads that do not wait for one.
    at_work: usize,
    pub(super) in_place: in_place::State,
    pub(super) is_stopping: bool,
}

impl Ready {
    /// Whether no storage thread has anything to do.
    pub(super) fn is_idle(&self) -> bool {
        self.partitions.is_empty() && self.at_work == 0
    }
}

impl StoragePool {
    /// Starts `threads` storage threads; in a tokio runtime, whose threads may write in place, a watchdog too.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let (ready, wake, wake_watchdog) = (Mutex::default(), Condvar::new(), Condvar::new());
        let run_queue = Arc::new(RunQueue { ready, wake, wake_watchdog, failure: watch::Sender::new(None) });
        let mut pool = Self { run_queue, threads: Mutex::default(), watchdog: None };
        pool.add_threads(threads)?;
        if let Ok(runtime) = Handle::try_current() {
            let queue = Arc::clone(&pool.run_queue);
            pool.watchdog = Some(Builder::new().name("watchdog".to_owned()).spawn(move || queue.watch(&runtime))?);
        }
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
        self.run_queue.lock().is_stopping = true;
        self.run_queue.wake.notify_all();
        self.run_queue.wake_watchdog.notify_all();
        for thread in
            self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..).chain(self.watchdog.take())
        {
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

    pub(super) fn lock(&self) -> MutexGuard<'_, Ready> {
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
            if ready.is_stopping {
                return None;
            }
            ready.at_work -= 1;
            ready = self.wake.wait(ready).unwrap_or_else(PoisonError::into_inner);
            ready.at_work += 1;
        }
    }
}

/// What ends the process if it is dropped by a panic.
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() && !IS_SCHEDULED {
            std::process::abort();
        }
    }
}

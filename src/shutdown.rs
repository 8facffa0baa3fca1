//! How the broker is asked to stop, and how long stopping may take.
//!
//! The first SIGTERM or SIGINT begins the drain: no new connections, calls under way may finish, streams are told to
//! go. Two things end a drain early: the deadline ([`Shutdown::overdue`], `broker.drain_timeout_ms`), after which the
//! server drops what is left and still stops in order; and a second signal, at which the process exits at once with
//! code 1. Neither can lose an acknowledged record: an acknowledgement is never ahead of its durability.
//!
//! Knows nothing of what is drained; whoever serves waits on [`Shutdown::draining`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Exit code of a process that was told twice.
const EXIT_CODE_IMPATIENT: i32 = 1;

/// Attempts to remove a directory that others still make files in.
const REMOVALS_MAX: usize = 100;

/// The one wish to stop, shared by everything that serves. Clones are the same wish.
#[derive(Debug, Clone)]
pub struct Shutdown {
    draining: Arc<watch::Sender<bool>>,
    drain_timeout: Duration,
    /// A directory that must not outlive the process, however it is told to end.
    temporary: Arc<OnceLock<PathBuf>>,
}

impl Shutdown {
    /// Nothing is asked yet; a drain may take `drain_timeout`.
    pub fn new(drain_timeout: Duration) -> Self {
        Self { draining: Arc::new(watch::Sender::new(false)), drain_timeout, temporary: Arc::default() }
    }

    /// Begins the drain. Once is enough; more does nothing.
    pub fn begin(&self) {
        self.draining.send_replace(true);
    }

    /// Names the directory of an ephemeral broker: removed when the guard is dropped, or the process is told twice to end.
    pub fn remove_at_exit(&self, directory: PathBuf) -> RemovedAtExit {
        let _ = self.temporary.set(directory.clone());
        RemovedAtExit { directory }
    }

    /// Whether the drain has begun.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Ends when the drain begins; at once if it has begun.
    pub async fn draining(&self) {
        let mut draining = self.draining.subscribe();
        // The sender cannot be gone: `self` holds it.
        let _ = draining.wait_for(|begun| *begun).await;
    }

    /// Ends when a drain has taken longer than it may. Counts from the beginning of the drain as seen by this call,
    /// so the server waits on it from the start.
    pub async fn overdue(&self) {
        self.draining().await;
        tokio::time::sleep(self.drain_timeout).await;
    }
}

/// A directory that is removed when this is dropped.
#[derive(Debug)]
pub struct RemovedAtExit {
    directory: PathBuf,
}

impl RemovedAtExit {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for RemovedAtExit {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// Begins the drain at the first SIGTERM or SIGINT and exits the process at the second. Runs until then; give it a
/// task of its own.
pub async fn watch_signals(shutdown: Shutdown) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for told in 1.. {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if told > 1 {
            tracing::warn!(signal = name, "told twice to stop: exiting without waiting for calls under way");
            break;
        }
        let drain_timeout = shutdown.drain_timeout;
        tracing::info!(signal = name, ?drain_timeout, "stopping: waiting for calls under way; again to stop at once");
        shutdown.begin();
    }
    if let Some(directory) = shutdown.temporary.get() {
        remove(directory);
    }
    std::process::exit(EXIT_CODE_IMPATIENT)
}

#[expect(clippy::disallowed_methods, reason = "the process ends here; there is no broker to ask")]
fn remove(directory: &Path) {
    // Other threads may be at work on their files; a file that comes while the rest goes keeps its directory.
    for _ in 0..REMOVALS_MAX {
        let removed = std::fs::remove_dir_all(directory);
        if removed.is_ok() || !directory.exists() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_learns_of_the_drain_once_and_for_good() {
        let shutdown = Shutdown::new(Duration::ZERO);
        let (early, late) = (shutdown.clone(), shutdown.clone());
        let waiting = tokio::spawn(async move { early.draining().await });
        assert!(!late.is_draining());

        shutdown.begin();
        shutdown.begin();
        waiting.await.expect("the task does not panic");
        late.draining().await;
        assert!(late.is_draining());
    }

    #[tokio::test]
    async fn nothing_is_overdue_before_the_drain_begins() {
        let shutdown = Shutdown::new(Duration::ZERO);
        let overdue = shutdown.overdue();
        tokio::pin!(overdue);
        tokio::select! {
            biased;
            () = &mut overdue => panic!("nothing was asked yet"),
            () = std::future::ready(()) => {}
        }
        shutdown.begin();
        overdue.await;
    }
}

//! What the tasks of one round share.

use crate::history::audit::Subject;
use crate::history::{Payload, Recorder};
use millstream::client::Client;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, RwLock, watch};

/// Whoever waits so long for something that must happen has found a bug. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The shared part of a round.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) subject: Subject,
    pub(crate) payload: Payload,
    /// Held for reading by whoever sends or changes something, for writing by an audit: the present stays the present
    /// while it is read.
    pub(crate) gate: RwLock<()>,
    /// Something was acknowledged.
    pub(crate) acked: Notify,
    /// Counts the starts of the broker.
    pub(crate) lives: watch::Sender<u64>,
    streams: AtomicU32,
    closing: AtomicBool,
    troubles: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new(client: Client, subject: Subject, payload: Payload) -> Self {
        Self {
            client,
            recorder: Recorder::default(),
            subject,
            payload,
            gate: RwLock::new(()),
            acked: Notify::new(),
            lives: watch::Sender::new(0),
            streams: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            troubles: Mutex::default(),
        }
    }

    /// The number of a new stream.
    pub(crate) fn next_stream(&self) -> u32 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells all tasks to come to an end.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Waits for the next life of the broker; not for long, in case that it has begun already.
    pub(crate) async fn next_life(&self) {
        let mut lives = self.lives.subscribe();
        let _ = tokio::time::timeout(Duration::from_millis(50), lives.changed()).await;
    }

    /// Notes what should not have happened, besides what the checker looks for.
    pub(crate) fn trouble(&self, what: String) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Fails if anything is amiss: with the first anomalies, and the file that holds the whole history.
    #[track_caller]
    pub(crate) fn check(&self, context: &str) {
        let anomalies = self.recorder.look();
        if !anomalies.is_empty() {
            let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("kill-history.jsonl");
            let written = self.recorder.dump(&file);
            let few: Vec<_> = anomalies.iter().take(10).map(ToString::to_string).collect();
            panic!("{} anomalies; {context}\n  {}\nhistory: {written:?}", anomalies.len(), few.join("\n  "));
        }
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(troubles.is_empty(), "{context}: {}", troubles.join("\n"));
    }
}

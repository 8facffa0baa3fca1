//! Drains that were sent to the journal, and the answers that wait until they are written or synced.
//!
//! The task does not wait for the disk before it decides further: what it decides next is appended behind, so a crash
//! leaves the decisions up to some moment, and never one without those before it. What is promised of a decision is said
//! only when it is true.

use crate::partition::journal::{Appending, JournalError};
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use std::pin::Pin;

/// Drains that may be under way. While one is synced the next ones gather behind it; what comes further waits, and then
/// makes one large drain.
const DRAINS_MAX: usize = 8;

/// What is said when it is true.
pub(super) type Answers = Vec<Box<dyn FnOnce() + Send>>;

type Written = Pin<Box<dyn Future<Output = Answers> + Send>>;
type Synced = Pin<Box<dyn Future<Output = (Result<(), JournalError>, Answers)> + Send>>;

/// Drains in the order they were sent in.
#[derive(Default)]
pub(super) struct UnderWay {
    written: FuturesOrdered<Written>,
    synced: FuturesOrdered<Synced>,
}

impl UnderWay {
    /// Takes up a drain that was sent, or one that had nothing to send: its answers come behind those of all before.
    pub(super) fn push(&mut self, appending: Option<Appending>, at_written: Answers, at_synced: Answers) {
        let (written, synced) = match appending {
            Some(Appending { written, durable }) => (Some(written), Some(durable)),
            None => (None, None),
        };
        self.written.push_back(Box::pin(async move {
            if let Some(written) = written {
                written.await;
            }
            at_written
        }));
        self.synced.push_back(Box::pin(async move {
            let result = match synced {
                Some(synced) => synced.await,
                None => Ok(()),
            };
            (result, at_synced)
        }));
    }

    /// Whether another drain may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.synced.len() < DRAINS_MAX
    }

    /// Waits until something more is written or synced, and gives the answers that are true by now; without a drain under
    /// way it waits for ever. May be interrupted. An error: nothing that was not answered yet may ever be.
    pub(super) async fn next_answers(&mut self) -> Result<Answers, JournalError> {
        tokio::select! {
            biased;
            Some(answers) = self.written.next() => Ok(answers),
            Some((result, answers)) = self.synced.next() => result.map(|()| answers),
            else => std::future::pending().await,
        }
    }
}

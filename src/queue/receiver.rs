//! A receiver's side of its place at a queue: what it waits on, and how it leaves.
//!
//! Dropping a [`QueueReceiver`] is being lost. A drop cannot wait for room in the coordinator's inbox and must not be
//! lost itself, so it goes by a list beside the inbox, which holds at most one entry per receiver.

use super::ids::{QueueName, ReceiverId};
use super::policy::QueueConfig;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// A place at a queue, from open to drop.
#[derive(Debug)]
pub struct QueueReceiver {
    /// The queue.
    pub queue: QueueName,
    /// Who this receiver is at it.
    pub id: ReceiverId,
    /// The queue as it was when the receiver came.
    pub config: QueueConfig,
    pub(super) wake: Arc<Notify>,
    pub(super) departures: Arc<Departures>,
}

impl QueueReceiver {
    /// Ends when there may be something to hand out that was not there before, since it last ended. What the queue
    /// cannot know is that records were appended: that is for the caller to watch.
    pub async fn stirred(&self) {
        self.wake.notified().await;
    }
}

impl Drop for QueueReceiver {
    fn drop(&mut self) {
        self.departures.note(self.queue.clone(), self.id);
    }
}

/// Receivers that were dropped and have not been taken out of their queue yet.
#[derive(Debug, Default)]
pub(super) struct Departures {
    waiting: Mutex<Vec<(QueueName, ReceiverId)>>,
    noted: Notify,
}

impl Departures {
    fn note(&self, queue: QueueName, receiver: ReceiverId) {
        // A vector of names is whole after any panic, so a poisoned lock is as good as a healthy one.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((queue, receiver));
        self.noted.notify_one();
    }

    /// Ends when a departure was noted since it last ended.
    pub(super) async fn wait(&self) {
        self.noted.notified().await;
    }

    /// Takes all that are waiting.
    pub(super) fn take(&self) -> Vec<(QueueName, ReceiverId)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

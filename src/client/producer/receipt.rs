//! What became of a record, for whoever wants to know.
//!
//! All records of a batch share one [`Outcome`]; a [`Receipt`] is that and the record's place in the batch. Dropping
//! receipts costs nothing but a counter.

use crate::client::ClientError;
use crate::types::{Durability, Offset, TimestampMs};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// Where a record was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordAck {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: Offset,
    /// When the broker appended it.
    pub append_time: TimestampMs,
    /// How safe it is, at least; `None` if the broker did not say.
    pub durability: Option<Durability>,
    /// It was not appended now: one with its message id was, before, and stands at `offset`.
    pub duplicate: bool,
}

/// What became of a batch whose records are all in the log.
#[derive(Debug, Clone)]
pub(super) struct BatchAck {
    /// Of the first record that was appended.
    pub(super) first: RecordAck,
    /// Places of the records that were there before, ascending, and their offsets.
    pub(super) duplicates: Vec<(u32, Offset)>,
}

impl BatchAck {
    fn of_record(&self, place: u32) -> RecordAck {
        let before = self.duplicates.partition_point(|(duplicate, _)| *duplicate < place);
        match self.duplicates.get(before) {
            Some((duplicate, offset)) if *duplicate == place => {
                RecordAck { offset: *offset, duplicate: true, ..self.first }
            }
            _ => {
                let appended_before = u64::from(place).saturating_sub(before as u64);
                RecordAck { offset: self.first.offset.advance(appended_before), ..self.first }
            }
        }
    }
}

/// The promise of an acknowledgement.
#[derive(Debug)]
#[must_use = "a receipt says nothing until it is awaited; drop it on purpose if you call flush"]
pub struct Receipt {
    outcome: Arc<Outcome>,
    place: u32,
}

impl Receipt {
    pub(super) fn new(outcome: Arc<Outcome>, place: u32) -> Self {
        Self { outcome, place }
    }

    /// Waits until the record is as durable as was asked, or has failed.
    pub async fn wait(&self) -> Result<RecordAck, ClientError> {
        Ok(self.outcome.wait().await?.of_record(self.place))
    }
}

/// What became of a batch. Set once.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    result: OnceLock<Result<BatchAck, ClientError>>,
    settled: Notify,
}

impl Outcome {
    /// The first word is final.
    pub(super) fn settle(&self, result: Result<BatchAck, ClientError>) {
        // An error here means it was settled before, which keeps its meaning.
        drop(self.result.set(result));
        self.settled.notify_waiters();
    }

    pub(super) fn is_settled(&self) -> bool {
        self.result.get().is_some()
    }

    pub(super) async fn wait(&self) -> Result<BatchAck, ClientError> {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Listen before looking, or a settlement between the two is missed.
            settled.as_mut().enable();
            if let Some(result) = self.result.get() {
                return result.clone();
            }
            settled.await;
        }
    }
}

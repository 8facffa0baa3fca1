//! Whether a batch is appended: the conditions it carries, and what the log knows of earlier ones.
//!
//! Decided batch by batch, in order, also against batches of the same write that are not on disk yet; when that write
//! fails, what was noted of them is undone. Order of the conditions: the fencing token, the sequence of the producer (a
//! repeat is answered as the first time, whatever has changed since), the expected offset, the message ids.
//!
//! The two tables are built from the log when a batch first needs them, so that a log costs nothing to open.

use crate::storage::error::StorageError;
use crate::storage::log_state::LogState;
use crate::storage::message_ids::{DuplicateRecord, MessageIds, WindowFull, without};
use crate::storage::producers::{Place, ProducerTable, RememberedBatch, SequenceError};
use crate::storage::producers_file;
use crate::types::record_set::{self, RecordSetSummary};
use crate::types::{Offset, ProducerId, ProducerStamp, TimestampMs};
use bytes::Bytes;

/// What must hold for a batch to be appended. By default nothing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct AppendTerms {
    /// Its first record must get this offset.
    pub expected_offset: Option<Offset>,
    /// The right to write: not below the log's own token.
    pub fencing_token: Option<u64>,
    /// Records whose message id was appended within this time are left out; 0 = ids are not looked at.
    pub dedup_window_ms: u64,
}

/// A record set to append. It was checked before.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// The encoded record set.
    pub payload: Bytes,
    /// What the check learned.
    pub summary: RecordSetSummary,
    /// What an idempotent producer says of it.
    pub producer: Option<ProducerStamp>,
    /// What must hold.
    pub terms: AppendTerms,
}

impl NewBatch {
    /// A batch that is appended whatever was before.
    pub fn new(payload: Bytes, summary: RecordSetSummary) -> Self {
        Self { payload, summary, producer: None, terms: AppendTerms::default() }
    }
}

/// A batch whose records are in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record that was appended.
    pub base_offset: Offset,
    /// How many were.
    pub record_count: u32,
    /// When.
    pub append_time_ms: TimestampMs,
    /// Whether it is a repeat: nothing was appended now.
    pub duplicate: bool,
    /// Records that were not appended, because their message ids were known.
    pub duplicates: Vec<DuplicateRecord>,
}

/// What became of an append: each of the leading batches was appended or refused by itself, and `error` says why the
/// others were not written.
#[derive(Debug)]
pub struct AppendOutcome {
    /// One for each batch that was decided about, in order.
    pub results: Vec<Result<Appended, BatchRefusal>>,
    /// Why the remaining batches were not written; `None` if there are none.
    pub error: Option<StorageError>,
}

/// Why a batch was not appended, while others go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BatchRefusal {
    /// It is neither the next batch of its producer nor one of the last.
    #[error(
        "producer {producer} sent sequence {got}, but {expected} is next; send what was refused before it first, in order"
    )]
    OutOfSequence {
        /// The producer.
        producer: ProducerId,
        /// The sequence of the next record.
        expected: u32,
        /// What came.
        got: u32,
    },
    /// A later life of the producer has begun.
    #[error("producer {producer} of epoch {epoch} is fenced: epoch {current} has begun; stop this producer")]
    ProducerFenced {
        /// The producer.
        producer: ProducerId,
        /// The epoch of the batch.
        epoch: u16,
        /// The present one.
        current: u16,
    },
    /// Nothing is known here of the producer's earlier batches.
    #[error(
        "producer {producer} is not, or no longer, known here, and sequence {got} is not its first; find out whether \
         the records are there, then begin again with sequence 0"
    )]
    ProducerUnknown {
        /// The producer.
        producer: ProducerId,
        /// The sequence it sent.
        got: u32,
    },
    /// The log does not end where the sender thinks.
    #[error("the next offset is {log_end}, not {expected} as the request expects; nothing was appended")]
    OffsetMismatch {
        /// What was expected.
        expected: Offset,
        /// The offset that the next record gets.
        log_end: Offset,
    },
    /// Another writer has the right to write.
    #[error(
        "the partition is fenced with token {current}; {}, so another writer has taken over",
        token.map_or("the request has none".to_owned(), |token| format!("the request has {token}"))
    )]
    Fenced {
        /// The token of the request.
        token: Option<u64>,
        /// The partition's.
        current: u64,
    },
    /// More message ids than may be are within the window.
    #[error(
        "{limit} message ids were appended within the last {window_ms} ms (dedup_window_ms), and no more are held; \
         send again later, shorten the window, or use more partitions"
    )]
    DedupFull {
        /// The most ids there may be.
        limit: usize,
        /// The window.
        window_ms: u64,
    },
    /// What is known of earlier batches could not be read from disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What is to be done with a batch.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Write these records.
    Write(Admitted),
    /// Nothing is left to write.
    Settled(Appended),
}

/// What is written of a batch.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) payload: Bytes,
    pub(super) summary: RecordSetSummary,
    pub(super) producer: Option<ProducerStamp>,
    pub(super) duplicates: Vec<DuplicateRecord>,
}

/// What a log's writer knows of earlier batches. `None` until it is needed.
#[derive(Debug, Default)]
pub(super) struct Admission {
    producers: Option<ProducerTable>,
    ids: Option<MessageIds>,
}

impl Admission {
    /// Decides about the next batch, whose first record would get `next_offset`.
    pub(super) fn decide(
        &mut self,
        log: &LogState,
        batch: &NewBatch,
        next_offset: Offset,
        now_ms: TimestampMs,
    ) -> Result<Verdict, BatchRefusal> {
        check_token(log.fencing_token(), batch.terms.fencing_token)?;
        let window_ms = batch.terms.dedup_window_ms;
        if window_ms == 0 {
            // Nobody looks any more; and what is appended meanwhile would be missing, should somebody look again.
            self.ids = None;
        }
        let has_ids = window_ms > 0 && batch.summary.some_identified;
        if let Some(stamp) = batch.producer {
            let place = self.producers(log)?.check(stamp, batch.summary.record_count, now_ms);
            if let Place::Repeat(first) = place.map_err(|error| refusal(stamp, error))? {
                let duplicates = if has_ids {
                    self.ids(log, window_ms, now_ms)?.explain(&batch.payload, first.base_offset)
                } else {
                    Vec::new()
                };
                return Ok(Verdict::Settled(first_answer(batch, first, duplicates)));
            }
        }
        match batch.terms.expected_offset {
            Some(expected) if expected != next_offset => {
                return Err(BatchRefusal::OffsetMismatch { expected, log_end: next_offset });
            }
            _ => {}
        }
        let duplicates = if has_ids {
            let full = |WindowFull| window_full(window_ms);
            self.ids(log, window_ms, now_ms)?.take(&batch.payload, next_offset, now_ms).map_err(full)?
        } else {
            Vec::new()
        };
        Ok(self.admit(batch, duplicates, next_offset, now_ms))
    }

    /// Whether [`Self::decide`] needs neither the disk nor more time than a comparison.
    pub(super) fn is_quick(&self, batch: &NewBatch) -> bool {
        let has_ids = batch.terms.dedup_window_ms > 0 && batch.summary.some_identified;
        let knows_producer = batch.producer.is_none() || self.producers.is_some();
        knows_producer && !has_ids && batch.terms.fencing_token.is_none()
    }

    /// Takes note of a batch that is to be written, without the records that are repeats.
    fn admit(
        &mut self,
        batch: &NewBatch,
        duplicates: Vec<DuplicateRecord>,
        base_offset: Offset,
        append_time_ms: TimestampMs,
    ) -> Verdict {
        let left_out = u32::try_from(duplicates.len()).expect("not more than the records there are");
        let record_count = batch.summary.record_count - left_out;
        // Its sequences still end where they ended for the producer.
        let producer = batch
            .producer
            .map(|stamp| ProducerStamp { base_sequence: stamp.base_sequence.wrapping_add(left_out), ..stamp });
        if let (Some(stamp), Some(table)) = (producer, &mut self.producers) {
            let base_sequence = stamp.base_sequence;
            table.apply(
                stamp.id,
                stamp.epoch,
                RememberedBatch { base_sequence, record_count, base_offset, append_time_ms },
            );
        }
        if record_count == 0 {
            return Verdict::Settled(Appended {
                base_offset,
                record_count,
                append_time_ms,
                duplicate: false,
                duplicates,
            });
        }
        let (payload, summary) = if left_out == 0 {
            (batch.payload.clone(), batch.summary)
        } else {
            let payload = without(&batch.payload, &duplicates);
            let summary = record_set::check(&payload, usize::MAX).expect("records of a checked set are one too");
            (payload, summary)
        };
        Verdict::Write(Admitted { payload, summary, producer, duplicates })
    }

    /// What was decided since the last call is in the log.
    pub(super) fn keep(&mut self) {
        self.producers.iter_mut().for_each(ProducerTable::keep);
        self.ids.iter_mut().for_each(MessageIds::keep);
    }

    /// What was decided since the last [`Admission::keep`] could not be written.
    pub(super) fn undo(&mut self) {
        self.producers.iter_mut().for_each(ProducerTable::undo);
        self.ids.iter_mut().for_each(MessageIds::undo);
    }

    /// The producers, read from the log if they were not needed before.
    pub(super) fn producers(&mut self, log: &LogState) -> Result<&mut ProducerTable, StorageError> {
        if self.producers.is_none() {
            self.producers = Some(producers_file::rebuild(log)?);
        }
        Ok(self.producers.as_mut().expect("it was just put there"))
    }

    /// The message ids, read from the log if they were not needed before, or the window has become longer.
    fn ids(&mut self, log: &LogState, window_ms: u64, now_ms: TimestampMs) -> Result<&mut MessageIds, BatchRefusal> {
        match &mut self.ids {
            Some(ids) if ids.window_ms() >= window_ms => ids.shorten(window_ms),
            ids => {
                let rebuilt = MessageIds::rebuild(log, window_ms, now_ms)?;
                *ids = Some(rebuilt.map_err(|WindowFull| window_full(window_ms))?);
            }
        }
        Ok(self.ids.as_mut().expect("it was just put there"))
    }
}

/// The answer to a repeat: as the first time.
fn first_answer(batch: &NewBatch, first: RememberedBatch, duplicates: Vec<DuplicateRecord>) -> Appended {
    let left_out = batch.summary.record_count.saturating_sub(first.record_count) as usize;
    Appended {
        base_offset: first.base_offset,
        record_count: first.record_count,
        append_time_ms: first.append_time_ms,
        duplicate: true,
        // If some ids have left the window since, it cannot be said which records they were.
        duplicates: if duplicates.len() == left_out { duplicates } else { Vec::new() },
    }
}

/// Whether a request with this token may write where `current` is the token.
pub(super) fn check_token(current: Option<u64>, token: Option<u64>) -> Result<(), BatchRefusal> {
    match current {
        Some(current) if token.is_none_or(|token| token < current) => Err(BatchRefusal::Fenced { token, current }),
        _ => Ok(()),
    }
}

fn refusal(stamp: ProducerStamp, error: SequenceError) -> BatchRefusal {
    let (producer, got) = (stamp.id, stamp.base_sequence);
    match error {
        SequenceError::OutOfSequence { expected } => BatchRefusal::OutOfSequence { producer, expected, got },
        SequenceError::Fenced { current } => BatchRefusal::ProducerFenced { producer, epoch: stamp.epoch, current },
        SequenceError::Unknown => BatchRefusal::ProducerUnknown { producer, got },
    }
}

fn window_full(window_ms: u64) -> BatchRefusal {
    BatchRefusal::DedupFull { limit: crate::limits::DEDUP_IDS_MAX, window_ms }
}

#[cfg(test)]
impl AppendOutcome {
    /// Of each batch that is in the log, in order.
    pub(crate) fn base_offsets(&self) -> Vec<Offset> {
        self.results.iter().flatten().map(|appended| appended.base_offset).collect()
    }

    /// Of the first of them.
    pub(crate) fn append_time_ms(&self) -> TimestampMs {
        self.results.iter().flatten().map(|appended| appended.append_time_ms).next().expect("something is in the log")
    }
}

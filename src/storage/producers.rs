//! What one log knows of its idempotent producers: the epoch and the last batches of each.
//!
//! [`ProducerTable::check`] decides whether a batch is the next one of its producer, a repeat, or neither;
//! [`ProducerTable::apply`] takes note of one that is in the log. Pure state: `producers_file` rebuilds it from the
//! frames of the log, so whatever it says must follow from frame headers alone.
//!
//! Sequences count records modulo 2^32 and are only ever compared for equality. A remembered batch is recognised by
//! where it *ends*: records that were left out because their message id was known make a batch shorter at its start.

use crate::limits::{PRODUCER_IDLE_MS_MAX, PRODUCERS_PER_PARTITION_MAX};
use crate::planted::{Bug, is_planted};
use crate::types::{Offset, ProducerId, ProducerStamp, TimestampMs};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Batches that are remembered of each producer, so also the most it may have unanswered.
pub const BATCHES_REMEMBERED: usize = 5;

/// A batch of a producer, as it stands in the log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedBatch {
    /// Sequence of the first record that was appended.
    pub base_sequence: u32,
    /// How many were; 0 if the message id of each was known.
    pub record_count: u32,
    /// Offset of the first.
    pub base_offset: Offset,
    /// When they were.
    pub append_time_ms: TimestampMs,
}

impl RememberedBatch {
    /// The sequence after the last record.
    fn end(self) -> u32 {
        self.base_sequence.wrapping_add(self.record_count)
    }
}

/// What a batch is to its producer's others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The next one.
    Next,
    /// One that is in the log already.
    Repeat(RememberedBatch),
}

/// Why a batch has no place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceError {
    /// It is not the next one, and none of those remembered.
    OutOfSequence {
        /// What the next one begins with.
        expected: u32,
    },
    /// A later life of the producer has begun.
    Fenced {
        /// Its epoch.
        current: u16,
    },
    /// The producer is not known, or not any more, and this is not its first batch.
    Unknown,
}

/// One producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) epoch: u16,
    /// Oldest first; only the first `len` count, and there is one at least.
    recent: [RememberedBatch; BATCHES_REMEMBERED],
    len: usize,
}

impl Producer {
    pub(super) fn new(epoch: u16, batch: RememberedBatch) -> Self {
        let mut recent = [RememberedBatch::default(); BATCHES_REMEMBERED];
        recent[0] = batch;
        Self { epoch, recent, len: 1 }
    }

    pub(super) fn push(&mut self, batch: RememberedBatch) {
        if self.len == BATCHES_REMEMBERED {
            self.recent.rotate_left(1);
            self.len -= 1;
        }
        self.recent[self.len] = batch;
        self.len += 1;
    }

    pub(super) fn recent(&self) -> &[RememberedBatch] {
        &self.recent[..self.len]
    }

    fn last(&self) -> RememberedBatch {
        self.recent[self.len - 1]
    }

    fn is_forgotten_at(&self, now_ms: TimestampMs) -> bool {
        let idle_ms = now_ms.saturating_sub(self.last().append_time_ms);
        u64::try_from(idle_ms).is_ok_and(|idle_ms| idle_ms > PRODUCER_IDLE_MS_MAX)
    }
}

/// The producers of one log.
#[derive(Debug, Default)]
pub struct ProducerTable {
    producers: HashMap<ProducerId, Producer>,
    /// What was there before each change that is not in the log yet.
    before: Vec<(ProducerId, Option<Producer>)>,
}

impl ProducerTable {
    /// What a batch of `record_count` records with this stamp is, if it were appended now.
    pub fn check(&self, stamp: ProducerStamp, record_count: u32, now_ms: TimestampMs) -> Result<Place, SequenceError> {
        let known = self.producers.get(&stamp.id).filter(|producer| !producer.is_forgotten_at(now_ms));
        let is_first = stamp.base_sequence == 0;
        let Some(producer) = known else {
            return if is_first { Ok(Place::Next) } else { Err(SequenceError::Unknown) };
        };
        if stamp.epoch < producer.epoch && !is_planted(Bug::OldEpochAccepted) {
            return Err(SequenceError::Fenced { current: producer.epoch });
        }
        if stamp.epoch != producer.epoch {
            return if is_first { Ok(Place::Next) } else { Err(SequenceError::OutOfSequence { expected: 0 }) };
        }
        let expected = producer.last().end();
        if stamp.base_sequence == expected {
            return Ok(Place::Next);
        }
        let end = stamp.base_sequence.wrapping_add(record_count);
        let is_it = |batch: &&RememberedBatch| {
            batch.end() == end && batch.base_sequence.wrapping_sub(stamp.base_sequence) <= record_count
        };
        match producer.recent().iter().find(is_it) {
            Some(batch) => Ok(Place::Repeat(*batch)),
            None if is_planted(Bug::SequenceGapAccepted) => Ok(Place::Next),
            None => Err(SequenceError::OutOfSequence { expected }),
        }
    }

    /// Takes note of a batch that is, or is about to be, in the log: [`ProducerTable::keep`] or
    /// [`ProducerTable::undo`] says which.
    pub fn apply(&mut self, id: ProducerId, epoch: u16, batch: RememberedBatch) {
        let known = self.producers.get(&id).copied();
        let changed = match known {
            // It has begun anew: what came before must not be taken for a repeat of what comes.
            Some(producer)
                if producer.epoch < epoch
                    || producer.is_forgotten_at(batch.append_time_ms)
                    || (batch.base_sequence == 0 && producer.last().end() != 0) =>
            {
                Producer::new(epoch, batch)
            }
            Some(producer) if producer.epoch > epoch => return,
            Some(mut producer) => {
                producer.push(batch);
                producer
            }
            None => Producer::new(epoch, batch),
        };
        if known.is_none() && self.producers.len() >= PRODUCERS_PER_PARTITION_MAX {
            self.forget_longest_idle();
        }
        self.before.push((id, known));
        self.producers.insert(id, changed);
    }

    /// Whatever was applied is in the log.
    pub fn keep(&mut self) {
        self.before.clear();
    }

    /// What was applied since the last [`ProducerTable::keep`] did not get into the log.
    pub fn undo(&mut self) {
        while let Some((id, producer)) = self.before.pop() {
            match producer {
                Some(producer) => self.producers.insert(id, producer),
                None => self.producers.remove(&id),
            };
        }
    }

    /// Every producer as the log has it: without what was applied since the last [`ProducerTable::keep`].
    pub(super) fn in_log(&self) -> HashMap<ProducerId, Producer> {
        let mut producers = self.producers.clone();
        for (id, before) in self.before.iter().rev() {
            match before {
                Some(producer) => producers.insert(*id, *producer),
                None => producers.remove(id),
            };
        }
        producers
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Puts back a producer as it was saved.
    pub(super) fn restore(&mut self, id: ProducerId, producer: Producer) {
        self.producers.insert(id, producer);
    }

    fn forget_longest_idle(&mut self) {
        // By id among equals, so that a table rebuilt from the log forgets the same one.
        let idle = self.producers.iter().min_by_key(|(id, producer)| (producer.last().append_time_ms, **id));
        let Some((id, producer)) = idle.map(|(id, producer)| (*id, *producer)) else { return };
        self.producers.remove(&id);
        self.before.push((id, Some(producer)));
    }
}

#[cfg(test)]
#[path = "producers_tests.rs"]
mod tests;

//! Which letters are meant.

use super::facts::Letter;
use crate::broker::error::BrokerError;
use crate::limits;
use crate::types::{Offset, TimestampMs};
use bytes::Bytes;

/// Letters of one topic that fulfil every condition that is given.
#[derive(Debug, Default, Clone)]
pub struct LetterSelection {
    /// The dead letter topic; empty = that of `queue`.
    pub topic: String,
    /// The queue that gave them up; empty = any.
    pub queue: String,
    /// What they died of; empty = anything.
    pub reason: String,
    /// Their key.
    pub key: Option<Bytes>,
    /// Headers that they have, with exactly these values.
    pub headers: Vec<(String, Bytes)>,
    /// Their partition of the dead letter topic.
    pub partition: Option<u32>,
    /// Not before this offset.
    pub first_offset: Offset,
    /// Before this one.
    pub end_offset: Option<Offset>,
    /// Died at or after this.
    pub since_ms: Option<TimestampMs>,
    /// Died before this.
    pub until_ms: Option<TimestampMs>,
}

impl LetterSelection {
    /// Whether there can be such letters at all.
    pub(super) fn check(&self) -> Result<(), BrokerError> {
        if self.headers.len() > limits::LETTER_HEADERS_MAX {
            let (count, most) = (self.headers.len(), limits::LETTER_HEADERS_MAX);
            return Err(BrokerError::invalid("headers", format!("{count} were given; at most {most} are allowed")));
        }
        if let Some(end) = self.end_offset.filter(|end| *end <= self.first_offset) {
            let what = format!("it is {end}, and first_offset is {}: nothing is between", self.first_offset);
            return Err(BrokerError::invalid("end_offset", what));
        }
        match (self.since_ms, self.until_ms) {
            (Some(since), Some(until)) if until <= since => {
                let what = format!("it is {until}, and since_ms is {since}: nothing is between");
                Err(BrokerError::invalid("until_ms", what))
            }
            _ => Ok(()),
        }
    }

    /// Whether offsets alone say which letters are meant, so that none has to be read.
    pub(super) fn is_of_offsets(&self) -> bool {
        let Self { topic: _, queue, reason, key, headers, partition: _, first_offset: _, end_offset: _, .. } = self;
        let is_untimed = self.since_ms.is_none() && self.until_ms.is_none();
        queue.is_empty() && reason.is_empty() && key.is_none() && headers.is_empty() && is_untimed
    }

    /// Whether a letter of the right place and time is meant.
    pub(super) fn matches(&self, letter: &Letter) -> bool {
        let is_any_or = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let has = |(name, value): &(String, Bytes)| {
            letter.record.headers.iter().any(|(found, of)| found == name && of == value)
        };
        is_any_or(&self.queue, &letter.facts.queue)
            && is_any_or(&self.reason, &letter.facts.reason)
            && (self.key.is_none() || self.key == letter.record.key)
            && self.headers.iter().all(has)
    }
}

//! Reading letters: partition by partition, in order of offsets, up to the end as it was at the beginning.
//!
//! What was resolved is known as ranges and passed over without being read. A step reads the log once, whether it finds
//! letters or not, so that whoever drives it can stop a search in a large topic.

use super::facts::{Letter, LetterFacts};
use super::selection::LetterSelection;
use crate::broker::error::BrokerError;
use crate::broker::topic_table::Topic;
use crate::partition::PartitionHandle;
use crate::queue::{LetterTopic, PartitionKey, RangeSet};
use crate::storage::StorageError;
use crate::storage::reader::StoredBatches;
use crate::types::{Offset, TopicName, record_set};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// One step reads about this much, and gives no more letters than that; a batch or letter that is larger comes whole.
const STEP_BYTES: usize = 256 << 10;

/// A way through the letters of a topic.
#[derive(Debug)]
pub struct LetterScan {
    topic: Arc<Topic>,
    selection: LetterSelection,
    include_resolved: bool,
    /// Partitions that are not read to their end, the present one first.
    lanes: VecDeque<Lane>,
}

/// How far one partition is read.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) number: u32,
    handle: PartitionHandle,
    pub(super) resolved: RangeSet,
    pub(super) next: Offset,
    pub(super) end: Offset,
}

/// What a step has brought, of one partition.
#[derive(Debug, Default)]
pub struct FoundLetters {
    /// Letters that are meant, by offset. There may be none although there are more in the topic.
    pub letters: Vec<Letter>,
    /// Offsets that could not be read, because their bytes are damaged.
    pub unreadable: u64,
    /// Offsets that the log has no more.
    pub(super) absent: Vec<Range<Offset>>,
}

impl Lane {
    pub(super) fn log_start(&self) -> Offset {
        self.handle.offsets().log_start
    }
}

impl LetterScan {
    pub(super) fn new(
        topic: Arc<Topic>,
        state: &LetterTopic,
        selection: LetterSelection,
        include_resolved: bool,
    ) -> Result<Self, BrokerError> {
        let first = selection.partition.unwrap_or(0);
        let last = selection.partition.unwrap_or_else(|| topic.entry.partitions.saturating_sub(1));
        let lanes = (first..=last).map(|number| {
            let handle = topic.partition(number)?.clone();
            let offsets = handle.offsets();
            let at = PartitionKey { topic_id: topic.entry.id, partition: number };
            let resolved = state.resolved.get(&at).cloned().unwrap_or_default();
            let next = selection.first_offset.max(offsets.log_start);
            let end = selection.end_offset.map_or(offsets.high_watermark, |end| end.min(offsets.high_watermark));
            Ok(Lane { number, handle, resolved, next, end })
        });
        let lanes = lanes.collect::<Result<_, BrokerError>>()?;
        Ok(Self { topic, selection, include_resolved, lanes })
    }

    /// The topic that is read.
    pub fn topic(&self) -> &TopicName {
        &self.topic.name
    }

    pub(super) fn table_entry(&self) -> &Arc<Topic> {
        &self.topic
    }

    pub(super) fn selection(&self) -> &LetterSelection {
        &self.selection
    }

    /// The partition that the last step was about.
    pub(super) fn lane_mut(&mut self) -> Option<&mut Lane> {
        self.lanes.front_mut()
    }

    /// Goes on to the next partition.
    pub(super) fn end_lane(&mut self) {
        self.lanes.pop_front();
    }

    /// One step: up to `most` letters. `None`: everything is read.
    pub async fn next(&mut self, most: usize) -> Result<Option<FoundLetters>, BrokerError> {
        let (handle, from) = loop {
            let Some(lane) = self.lanes.front_mut() else { return Ok(None) };
            if !self.include_resolved {
                lane.next = lane.resolved.next_outside(lane.next);
            }
            if lane.next < lane.end {
                break (lane.handle.clone(), lane.next);
            }
            self.lanes.pop_front();
        };
        let read = handle.read(from, STEP_BYTES).await;
        let Some(lane) = self.lanes.front_mut() else { return Ok(None) };
        let mut found = FoundLetters::default();
        match read {
            Ok(batches) if batches.is_empty() && batches.next_offset <= from => lane.next = lane.end,
            Ok(batches) => {
                let is_resolved = |offset| lane.resolved.contains(offset);
                let taking = Taking {
                    topic: &self.topic,
                    partition: lane.number,
                    selection: &self.selection,
                    include_resolved: self.include_resolved,
                    most: most.max(1),
                    end: lane.end,
                    is_resolved: &is_resolved,
                };
                lane.next = taking.take(&batches, from, &mut found);
            }
            // Retention was here meanwhile.
            Err(StorageError::OutOfRange { earliest, .. }) if earliest > from => lane.next = earliest,
            Err(StorageError::Damaged { next_offset, .. }) if next_offset > from => {
                lane.next = next_offset.min(lane.end);
                found.unreadable = lane.next.records_since(from);
            }
            Err(error) => return Err(BrokerError::storage(self.topic.at(lane.number), error)),
        }
        Ok(Some(found))
    }
}

/// Choosing from what was read.
struct Taking<'a> {
    topic: &'a Topic,
    partition: u32,
    selection: &'a LetterSelection,
    include_resolved: bool,
    most: usize,
    end: Offset,
    is_resolved: &'a dyn Fn(Offset) -> bool,
}

impl Taking<'_> {
    /// Takes the letters that are meant from `next` on; gives the offset to go on at.
    fn take(&self, batches: &StoredBatches, mut next: Offset, found: &mut FoundLetters) -> Offset {
        let LetterSelection { since_ms, until_ms, .. } = self.selection;
        let mut bytes = 0;
        for batch in batches.iter() {
            // Append times never go backwards.
            if until_ms.is_some_and(|until| batch.append_time_ms >= until) {
                return self.end;
            }
            let is_early = since_ms.is_some_and(|since| batch.append_time_ms < since);
            for (number, (_, body)) in (0..).zip(record_set::keyed_bodies(&batch.payload)) {
                let offset = batch.base_offset.advance(number);
                if offset < next {
                    continue;
                }
                if offset >= self.end {
                    return self.end;
                }
                let resolved = (self.is_resolved)(offset);
                if !is_early
                    && (self.include_resolved || !resolved)
                    && let Some(record) = record_set::record_of_body(&body)
                {
                    let facts = LetterFacts::of(&record);
                    let (at, append_time_ms) = (self.topic.at(self.partition), batch.append_time_ms);
                    let letter = Letter { at, offset, append_time_ms, resolved, facts, record, body };
                    if self.selection.matches(&letter) {
                        let is_full = found.letters.len() >= self.most || bytes + letter.body.len() > STEP_BYTES;
                        if is_full && !found.letters.is_empty() {
                            return next;
                        }
                        bytes += letter.body.len();
                        found.letters.push(letter);
                    }
                }
                // What no batch has was compacted away: nobody will ever see a letter there.
                if offset > next {
                    found.absent.push(next..offset);
                }
                next = offset.advance(1);
            }
        }
        let end = batches.next_offset.min(self.end);
        if end > next {
            found.absent.push(next..end);
        }
        end.max(next)
    }
}

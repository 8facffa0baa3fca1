//! Sending letters back to where they came from.
//!
//! A step appends letters to their targets, synced whatever those promise, and only then notes that they are resolved. So
//! a crash can repeat what was under way, and lose nothing. A step is carried out as a whole, or ends with what became of
//! it; between two of them whoever drives it may stop.

use super::facts::Letter;
use super::scan::{FoundLetters, LetterScan};
use super::selection::LetterSelection;
use super::{LetterWork, STEP_LETTERS_MAX};
use crate::broker::Broker;
use crate::broker::error::BrokerError;
use crate::broker::topic_table::{Topic, TopicTable, refuse_internal};
use crate::broker::upkeep::disk_watch::DiskWatch;
use crate::limits;
use crate::partition::PendingAppend;
use crate::planted::{Bug, is_planted};
use crate::queue::{PartitionKey, QueueCoordinator, check_resolved};
use crate::storage::log::NewBatch;
use crate::types::partitioner::partition_of_key;
use crate::types::record_set::{self, RecordSetError};
use crate::types::{Durability, Offset, TopicPartition};
use bytes::BytesMut;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Letters for one partition are appended together up to this many bytes.
const SET_BYTES: usize = 1 << 20;

/// A redrive that is held to a rate takes so many steps in a second, if it has letters for them.
const STEPS_PER_SECOND: u32 = 4;

/// How letters are sent back.
#[derive(Debug, Clone)]
pub struct RedriveOptions {
    /// To this topic; empty = to where each came from.
    pub to: String,
    /// No more than so many in a second.
    pub letters_per_second: Option<u32>,
    /// No more than so many in all.
    pub letters_max: u64,
    /// Nothing is changed.
    pub dry_run: bool,
}

/// Letters on their way back.
#[derive(Debug)]
pub struct Redrive {
    scan: LetterScan,
    options: RedriveOptions,
    to: Option<Arc<Topic>>,
    queues: QueueCoordinator,
    topics: Arc<TopicTable>,
    disk: Arc<DiskWatch>,
    sent: u64,
    /// Not before this.
    next_turn: Instant,
    /// Why no further step will be taken.
    failed: Option<BrokerError>,
    /// None for a dry run, which is in nobody's way.
    _work: Option<LetterWork>,
}

/// What a step has done.
#[derive(Debug, Default)]
pub struct Redriven {
    /// Sent and resolved.
    pub letters: Vec<RedrivenLetter>,
    /// They cannot be sent; they stay open.
    pub refused: Vec<(TopicPartition, Offset, BrokerError)>,
    /// Offsets that could not be read; they stay open.
    pub unreadable: u64,
}

/// A letter that was sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedrivenLetter {
    /// Its partition of the dead letter topic.
    pub partition: u32,
    /// Its place there.
    pub offset: Offset,
    /// Where it went.
    pub to: TopicPartition,
    /// Its place there; `None` in a dry run.
    pub to_offset: Option<Offset>,
}

/// Letters that are appended together.
struct Part {
    target: Arc<Topic>,
    number: u32,
    set: BytesMut,
    letters: Vec<Offset>,
}

impl Broker {
    /// Begins to send letters back.
    pub async fn redrive_letters(
        &self,
        selection: LetterSelection,
        options: RedriveOptions,
    ) -> Result<Redrive, BrokerError> {
        if let Some(rate) = options.letters_per_second.filter(|rate| !(1..=limits::REDRIVE_RATE_MAX).contains(rate)) {
            let what = format!("{rate} letters a second were asked for; 1 to {} are allowed", limits::REDRIVE_RATE_MAX);
            return Err(BrokerError::invalid("letters_per_second", what));
        }
        let scan = self.scan_letters(selection.clone(), false).await?;
        let to = match options.to.as_str() {
            "" => None,
            name => {
                let target = self.topic(name)?;
                refuse_internal(&target.name)?;
                if target.name == *scan.topic() {
                    let what = "it is the dead letter topic itself; name another, or none to send letters back";
                    return Err(BrokerError::invalid("to_topic", what));
                }
                Some(target)
            }
        };
        // What is resolved is read when nobody else can change it any more.
        let entry = scan.table_entry();
        let work = (!options.dry_run).then(|| self.letters_at_work.begin(&entry.name, entry.entry.id)).transpose()?;
        let scan = if work.is_some() { self.scan_letters(selection, false).await? } else { scan };
        Ok(Redrive {
            scan,
            options,
            to,
            queues: self.queue_coordinator()?.clone(),
            topics: Arc::clone(&self.topics),
            disk: Arc::clone(&self.disk),
            sent: 0,
            next_turn: Instant::now(),
            failed: None,
            _work: work,
        })
    }
}

impl Redrive {
    /// Ends when the next step may be taken. May be interrupted.
    pub async fn turn(&self) {
        tokio::time::sleep_until(self.next_turn).await;
    }

    /// Takes one step; not to be interrupted. `None`: there is no more to do.
    pub async fn step(&mut self) -> Result<Option<Redriven>, BrokerError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let left = usize::try_from(self.options.letters_max.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        let in_turn = match self.options.letters_per_second {
            Some(rate) => usize::try_from(rate.div_ceil(STEPS_PER_SECOND)).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let most = STEP_LETTERS_MAX.min(left).min(in_turn);
        let Some(FoundLetters { letters, unreadable, absent }) = self.scan.next(most).await? else { return Ok(None) };
        let mut done = Redriven { unreadable, ..Redriven::default() };
        let mut parts = Vec::new();
        for letter in letters {
            if let Err(error) = self.address(&letter, &mut parts) {
                done.refused.push((letter.at, letter.offset, error));
            }
        }
        if self.options.dry_run {
            let partition = self.scan.lane_mut().map_or(0, |lane| lane.number);
            for Part { target, number, letters, .. } in parts {
                let would = |offset| RedrivenLetter { partition, offset, to: target.at(number), to_offset: None };
                done.letters.extend(letters.into_iter().map(would));
            }
        } else if !parts.is_empty() {
            self.send(parts, absent, &mut done).await?;
        }
        done.letters.sort_by_key(|letter| letter.offset);
        self.sent += done.letters.len() as u64;
        if let Some(rate) = self.options.letters_per_second.filter(|_| !self.options.dry_run) {
            // Time that was not used is gone: no second has more than its letters.
            let pause_us = done.letters.len() as u64 * 1_000_000 / u64::from(rate);
            self.next_turn = self.next_turn.max(Instant::now()) + Duration::from_micros(pause_us);
        }
        Ok(Some(done))
    }

    /// Puts a letter to those that go to the same partition; refuses one that cannot go anywhere.
    fn address(&self, letter: &Letter, parts: &mut Vec<Part>) -> Result<(), BrokerError> {
        let origin = letter.facts.origin.as_ref().map(|(at, _)| at);
        let target = match (&self.to, origin) {
            (Some(target), _) => Arc::clone(target),
            (None, Some(at)) => {
                refuse_internal(&at.topic)?;
                let found = self.topics.get(&at.topic);
                found.ok_or_else(|| BrokerError::TopicNotFound { topic: at.topic.clone() })?
            }
            (None, None) => {
                return Err(BrokerError::LetterWithoutOrigin { at: letter.at.clone(), offset: letter.offset });
            }
        };
        let partitions = target.entry.partitions;
        let back = origin.filter(|at| at.topic == target.name && at.partition < partitions).map(|at| at.partition);
        let number = match (back, letter.record.key.as_deref()) {
            (Some(number), _) => number,
            (None, Some(key)) => partition_of_key(key, partitions),
            (None, None) => target.partition_in_turn(),
        };
        target.partition(number)?;
        let set = letter.revived();
        check(&target, &set)?;
        let room = SET_BYTES.min(target.entry.options.batch_bytes_max as usize);
        let same = |part: &&mut Part| part.number == number && part.target.entry.id == target.entry.id;
        // The last one only: an earlier one that has room again would change the order.
        match parts.iter_mut().rev().find(same).filter(|part| part.set.len() + set.len() <= room) {
            Some(part) => {
                part.set.unsplit(set);
                part.letters.push(letter.offset);
            }
            None => parts.push(Part { target, number, set, letters: vec![letter.offset] }),
        }
        Ok(())
    }

    /// Appends, and notes what is durable. The first error ends the redrive, after what was done is told.
    async fn send(
        &mut self,
        parts: Vec<Part>,
        absent: Vec<Range<Offset>>,
        done: &mut Redriven,
    ) -> Result<(), BrokerError> {
        let (name, topic_id) = (self.scan.topic().clone(), self.scan.table_entry().entry.id);
        let Some(lane) = self.scan.lane_mut() else { return Ok(()) };
        let partition = lane.number;
        // Before anything is sent that could then not be noted.
        let mut after = lane.resolved.clone();
        after.insert(Offset::ZERO..lane.log_start());
        let offsets = parts.iter().flat_map(|part| &part.letters);
        let letters: Vec<_> = offsets.map(|offset| *offset..offset.advance(1)).collect();
        after.extend(letters.iter().cloned());
        after.extend(absent.iter().cloned());
        check_resolved(&name, partition, &after)?;
        self.disk.admit(|| {
            parts.first().map_or_else(|| self.scan.table_entry().at(0), |part| part.target.at(part.number))
        })?;

        let at = PartitionKey { topic_id, partition };
        if is_planted(Bug::LettersResolvedFirst) {
            self.queues.resolve_letters(name.clone(), at, letters).await?;
        }
        let mut under_way = Vec::new();
        for Part { target, number, set, letters } in parts {
            under_way.push((append(&target, number, set), target, number, letters));
        }
        let mut sent = absent;
        for (pending, target, number, letters) in under_way {
            let (bytes, pending) = match pending {
                Ok(pending) => pending,
                Err(error) => {
                    self.failed.get_or_insert(error);
                    continue;
                }
            };
            match pending.await {
                Ok(ack) => {
                    target.metrics.produced(letters.len() as u64, bytes);
                    for (count, offset) in (0..).zip(letters) {
                        sent.push(offset..offset.advance(1));
                        let to_offset = Some(ack.appended.base_offset.advance(count));
                        done.letters.push(RedrivenLetter { partition, offset, to: target.at(number), to_offset });
                    }
                }
                Err(error) => {
                    self.failed.get_or_insert(BrokerError::append(target.at(number), error));
                }
            }
        }
        if done.letters.is_empty() {
            return self.failed.take().map_or(Ok(()), Err);
        }
        if let Some(lane) = self.scan.lane_mut() {
            lane.resolved.extend(sent.iter().cloned());
        }
        Ok(self.queues.resolve_letters(name, at, sent).await?)
    }
}

impl Drop for Redrive {
    fn drop(&mut self) {
        if !self.options.dry_run {
            tracing::info!(topic = %self.scan.topic(), letters = self.sent, "a redrive of dead letters has ended");
        }
    }
}

/// Whether the topic accepts the record: its limits are a promise to those who read it.
fn check(target: &Topic, set: &BytesMut) -> Result<(), BrokerError> {
    let options = &target.entry.options;
    let refused = |error| BrokerError::InvalidRecords { topic: target.name.clone(), error };
    let summary = record_set::check(set, options.record_bytes_max as usize).map_err(refused)?;
    if options.cleanup.compacts()
        && let Some(record) = summary.first_keyless
    {
        return Err(refused(RecordSetError::KeyMissing { record }));
    }
    if set.len() > options.batch_bytes_max as usize {
        let (topic, limit_bytes) = (target.name.clone(), options.batch_bytes_max);
        return Err(BrokerError::BatchTooLarge { topic, bytes: set.len(), limit_bytes });
    }
    Ok(())
}

fn append(target: &Topic, number: u32, set: BytesMut) -> Result<(u64, PendingAppend), BrokerError> {
    let (partition, payload) = (target.partition(number)?, set.freeze());
    let summary = record_set::check(&payload, usize::MAX)
        .map_err(|error| BrokerError::InvalidRecords { topic: target.name.clone(), error })?;
    let bytes = payload.len() as u64;
    Ok((bytes, partition.append(NewBatch::new(payload, summary), Some(Durability::Synced), None)))
}

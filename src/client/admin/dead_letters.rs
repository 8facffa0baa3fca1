//! Dead letters: look at them, send them back, give them up.
//!
//! What takes long is a stream that is read step by step. Dropping it ends the work at the broker after the step that is
//! under way: what was done stays done, and calling again goes on.

use crate::client::connection::service;
use crate::client::convert::partition_from_wire;
use crate::client::queue::record_from_wire;
use crate::client::{Client, ClientError, ConsumedRecord, Refusal};
use crate::proto;
use crate::types::{Offset, TimestampMs, TopicPartition};
use bytes::Bytes;
use std::collections::VecDeque;
use tonic::Streaming;

/// Which letters are meant: those that fulfil every condition that is given.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LetterSelection {
    /// The dead letter topic; empty = that of `queue`.
    pub topic: String,
    /// The queue that gave them up; empty = any.
    pub queue: String,
    /// What they died of, such as `rejected`; empty = anything.
    pub reason: String,
    /// Their key.
    pub key: Option<Bytes>,
    /// Headers that they have, with exactly these values.
    pub headers: Vec<(String, Bytes)>,
    /// Their partition of the dead letter topic.
    pub partition: Option<u32>,
    /// Not before this offset of the dead letter topic.
    pub first_offset: Offset,
    /// Before this one.
    pub end_offset: Option<Offset>,
    /// Died at or after this.
    pub since: Option<TimestampMs>,
    /// Died before this.
    pub until: Option<TimestampMs>,
}

/// A topic that queues write dead letters to, or wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterTopic {
    /// Its name.
    pub topic: String,
    /// The queues that write there now.
    pub queues: Vec<String>,
    /// Letters that are neither redriven nor purged.
    pub open: u64,
    /// All letters that the topic has.
    pub kept: u64,
    /// When the oldest open letter died.
    pub oldest_open: Option<TimestampMs>,
    /// How many of the open letters, from the oldest on, the counts below are of.
    pub counted: u64,
    /// What they died of, with how many; empty = not known.
    pub by_reason: Vec<(String, u64)>,
    /// Which queue gave them up, with how many.
    pub by_queue: Vec<(String, u64)>,
    /// Whether there is no such topic now.
    pub missing: bool,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record as it stands in the dead letter topic, with headers `dead-letter-...` behind its own.
    pub record: ConsumedRecord,
    /// What the message died of; empty, as are the others, if the record does not say.
    pub reason: String,
    /// What its worker said last.
    pub detail: String,
    /// Deliveries that counted.
    pub attempts: u32,
    /// The queue that gave it up.
    pub queue: String,
    /// Where the message stood.
    pub origin: Option<(TopicPartition, Offset)>,
    /// When it was delivered for the first time; 0 = not known.
    pub first_delivered: TimestampMs,
    /// And for the last.
    pub last_delivered: TimestampMs,
    /// How many times it had been redriven before it died.
    pub redriven_count: u32,
    /// Whether it was redriven or purged since.
    pub resolved: bool,
}

/// How letters are sent back.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RedriveOptions {
    /// To this topic; empty = to the topic and partition that each came from.
    pub to_topic: String,
    /// No more than so many in a second; `None` = as fast as it goes.
    pub letters_per_second: Option<u32>,
    /// No more than so many in all; 0 = all.
    pub letters_max: u64,
    /// Only say what would be sent.
    pub dry_run: bool,
}

/// What a redrive has done since it last said so.
#[derive(Debug, Clone)]
pub struct RedriveProgress {
    /// Sent and resolved; in a dry run, what would be.
    pub letters: Vec<RedrivenLetter>,
    /// Letters that cannot be sent; they stay open.
    pub refused: Vec<RefusedLetter>,
    /// Offsets that could not be read, because their bytes are damaged.
    pub unreadable: u64,
}

/// A letter that was sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedrivenLetter {
    /// Its partition of the dead letter topic.
    pub partition: u32,
    /// Its place there.
    pub offset: Offset,
    /// Where it was sent to.
    pub to: TopicPartition,
    /// Its place there; `None` in a dry run.
    pub to_offset: Option<Offset>,
}

/// A letter that cannot be sent.
#[derive(Debug, Clone)]
pub struct RefusedLetter {
    /// Its partition of the dead letter topic.
    pub partition: u32,
    /// Its place there.
    pub offset: Offset,
    /// Why.
    pub refusal: Refusal,
}

/// What a purge has done since it last said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeProgress {
    /// Letters that were resolved; in a dry run, what would be.
    pub letters: u64,
    /// Offsets that could not be read, because their bytes are damaged.
    pub unreadable: u64,
}

/// Letters as they are read.
#[derive(Debug)]
pub struct DeadLetters {
    responses: Streaming<proto::ReadDeadLettersResponse>,
    read: VecDeque<proto::DeadLetter>,
    unreadable: u64,
}

/// A redrive that is under way.
#[derive(Debug)]
pub struct Redrive(Streaming<proto::RedriveDeadLettersResponse>);

/// A purge that is under way.
#[derive(Debug)]
pub struct Purge(Streaming<proto::PurgeDeadLettersResponse>);

impl Client {
    /// Topics with dead letters whose names begin with `prefix`, in order of name.
    pub async fn list_dead_letter_topics(&self, prefix: &str) -> Result<Vec<DeadLetterTopic>, ClientError> {
        let mut letters = service!(self, dead_letter_service_client, DeadLetterServiceClient);
        let request = proto::ListDeadLetterTopicsRequest { prefix: prefix.to_owned() };
        let answer = self.answer(letters.list_dead_letter_topics(request)).await?;
        Ok(answer.dead_letter_topics.into_iter().map(topic_from_wire).collect())
    }

    /// Reads letters, `letters_max` at most (0 = all); resolved ones too, if so. Changes nothing.
    pub async fn read_dead_letters(
        &self,
        selection: &LetterSelection,
        letters_max: u64,
        include_resolved: bool,
    ) -> Result<DeadLetters, ClientError> {
        let mut letters = service!(self, dead_letter_service_client, DeadLetterServiceClient);
        let selection = Some(selection_to_wire(selection));
        let request = proto::ReadDeadLettersRequest { selection, max_letters: letters_max, include_resolved };
        let responses = self.answer(letters.read_dead_letters(request)).await?;
        Ok(DeadLetters { responses, read: VecDeque::new(), unreadable: 0 })
    }

    /// Sends open letters back, and resolves them.
    pub async fn redrive_dead_letters(
        &self,
        selection: &LetterSelection,
        options: &RedriveOptions,
    ) -> Result<Redrive, ClientError> {
        let mut letters = service!(self, dead_letter_service_client, DeadLetterServiceClient);
        let request = proto::RedriveDeadLettersRequest {
            selection: Some(selection_to_wire(selection)),
            to_topic: options.to_topic.clone(),
            letters_per_second: options.letters_per_second,
            max_letters: options.letters_max,
            dry_run: options.dry_run,
        };
        Ok(Redrive(self.answer(letters.redrive_dead_letters(request)).await?))
    }

    /// Resolves open letters, `letters_max` at most (0 = all), without sending them anywhere.
    pub async fn purge_dead_letters(
        &self,
        selection: &LetterSelection,
        letters_max: u64,
        dry_run: bool,
    ) -> Result<Purge, ClientError> {
        let mut letters = service!(self, dead_letter_service_client, DeadLetterServiceClient);
        let selection = Some(selection_to_wire(selection));
        let request = proto::PurgeDeadLettersRequest { selection, max_letters: letters_max, dry_run };
        Ok(Purge(self.answer(letters.purge_dead_letters(request)).await?))
    }
}

impl DeadLetters {
    /// The next letter; `None`: these were all.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, ClientError> {
        loop {
            if let Some(letter) = self.read.pop_front() {
                return letter_from_wire(letter).map(Some);
            }
            let Some(response) = self.responses.message().await? else { return Ok(None) };
            self.unreadable += response.unreadable;
            self.read.extend(response.letters);
        }
    }

    /// Offsets so far that could not be read, because their bytes are damaged.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

impl Redrive {
    /// What was done since the last call; `None`: there is no more to do.
    pub async fn next(&mut self) -> Result<Option<RedriveProgress>, ClientError> {
        let Some(response) = self.0.message().await? else { return Ok(None) };
        let letter = |letter: proto::RedrivenLetter| {
            Ok(RedrivenLetter {
                partition: letter.partition,
                offset: Offset(letter.offset),
                to: partition_from_wire(&letter.to_topic, letter.to_partition)?,
                to_offset: letter.to_offset.map(Offset),
            })
        };
        let refused = |letter: proto::RefusedLetter| RefusedLetter {
            partition: letter.partition,
            offset: Offset(letter.offset),
            refusal: letter.error.unwrap_or_default().into(),
        };
        Ok(Some(RedriveProgress {
            letters: response.letters.into_iter().map(letter).collect::<Result<_, ClientError>>()?,
            refused: response.refused.into_iter().map(refused).collect(),
            unreadable: response.unreadable,
        }))
    }
}

impl Purge {
    /// What was done since the last call; `None`: there is no more to do.
    pub async fn next(&mut self) -> Result<Option<PurgeProgress>, ClientError> {
        let response = self.0.message().await?;
        Ok(response.map(|done| PurgeProgress { letters: done.letters, unreadable: done.unreadable }))
    }
}

fn selection_to_wire(selection: &LetterSelection) -> proto::LetterSelection {
    let header = |(key, value): &(String, Bytes)| proto::Header { key: key.clone(), value: value.clone() };
    proto::LetterSelection {
        topic: selection.topic.clone(),
        queue: selection.queue.clone(),
        reason: selection.reason.clone(),
        key: selection.key.clone(),
        headers: selection.headers.iter().map(header).collect(),
        partition: selection.partition,
        first_offset: selection.first_offset.0,
        end_offset: selection.end_offset.map(|offset| offset.0),
        since_ms: selection.since,
        until_ms: selection.until,
    }
}

fn topic_from_wire(topic: proto::DeadLetterTopic) -> DeadLetterTopic {
    let counts = |counts: Vec<proto::LetterCount>| counts.into_iter().map(|of| (of.name, of.letters)).collect();
    DeadLetterTopic {
        topic: topic.topic,
        queues: topic.queues,
        open: topic.open,
        kept: topic.kept,
        oldest_open: topic.oldest_open_ms,
        counted: topic.counted,
        by_reason: counts(topic.by_reason),
        by_queue: counts(topic.by_queue),
        missing: topic.missing,
    }
}

fn letter_from_wire(letter: proto::DeadLetter) -> Result<DeadLetter, ClientError> {
    let partition = partition_from_wire(&letter.topic, letter.partition)?;
    let origin = if letter.origin_topic.is_empty() {
        None
    } else {
        let origin = partition_from_wire(&letter.origin_topic, letter.origin_partition)?;
        Some((origin, Offset(letter.origin_offset)))
    };
    Ok(DeadLetter {
        record: record_from_wire(partition, letter.offset, letter.append_time_ms, &letter.record)?,
        reason: letter.reason,
        detail: letter.detail,
        attempts: letter.attempts,
        queue: letter.queue,
        origin,
        first_delivered: letter.first_delivered_ms,
        last_delivered: letter.last_delivered_ms,
        redriven_count: letter.redriven_count,
        resolved: letter.resolved,
    })
}

//! From offsets that a queue has set aside to the records that stand there.
//!
//! Reads the log as a consumer would, by ranges, and says of every offset what became of it: found, not there any
//! more, not readable now, or no match for the filter of the queue. Changes nothing.

use crate::broker::topic_table::TopicTable;
use crate::filter::Filter;
use crate::partition::PartitionHandle;
use crate::planted::{Bug, is_planted};
use crate::queue::{Found, FoundMessage, PartitionKey, Reservation};
use crate::storage::StorageError;
use crate::types::{Offset, TimestampMs, TopicName, record_set};
use bytes::Bytes;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;

/// One read of the log asks for about this much at most.
const READ_BYTES_MAX: usize = 1 << 20;

/// Behind a reservation in which nothing matches, a reader goes on for about so many bytes of records.
const READ_ON_BYTES_MAX: usize = 16 << 20;

/// With this header a message says how many milliseconds after its append it is worth working on, in queues that
/// limit ages.
const TTL_HEADER: &str = "ttl-ms";

/// A record that was read for a queue.
#[derive(Debug, Clone)]
pub(in crate::broker) struct ReadRecord {
    pub(in crate::broker) offset: Offset,
    pub(in crate::broker) append_time_ms: TimestampMs,
    /// The record as a message of its own.
    pub(in crate::broker) body: Bytes,
}

/// How much a reader takes.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// In all.
    bytes: u64,
    /// For the first record alone.
    first_bytes: u64,
}

/// What a reservation has brought.
#[derive(Debug)]
pub(in crate::broker) struct Reading {
    pub(in crate::broker) found: Found,
    /// One for each of `found.messages`, in order.
    pub(in crate::broker) records: Vec<ReadRecord>,
    /// Nothing matched as far as was read, and there may be more.
    pub(in crate::broker) is_cut_short: bool,
    room: Room,
    taken_bytes: u64,
    wants_ttl: bool,
    filter: Option<Filter>,
    /// It is behind what was reserved: a record that matches is another reservation's.
    reads_on: bool,
}

/// Why a reading goes no further.
struct Full;

/// Reads a reservation, up to `bytes_max` bytes of records, or one record.
pub(in crate::broker) async fn read(topics: &TopicTable, reservation: &Reservation, bytes_max: u64) -> Reading {
    let Reservation { at, topic, ranges, bytes_max: room_bytes, takes_oversize, wants_ttl, filter, reads_on } =
        reservation;
    let first_bytes = if *takes_oversize { u64::MAX } else { *room_bytes };
    let room = Room { bytes: bytes_max.min(*room_bytes), first_bytes };
    let mut reading = Reading::of(*at, room, *wants_ttl, filter.clone());
    let Some(partition) = partition(topics, topic, *at) else {
        reading.found.unreadable.clone_from(ranges);
        return reading;
    };
    for range in ranges {
        if reading.read_range(&partition, range.clone()).await.is_err() {
            reading.found.starved = reading.records.is_empty();
            return reading;
        }
    }
    if let Some(last) = ranges.last().filter(|_| *reads_on && reading.records.is_empty()) {
        reading.read_on(&partition, last.end).await;
    }
    reading
}

/// Reads one record; `None` if it is not there any more.
pub(in crate::broker) async fn read_one(
    partition: &PartitionHandle,
    offset: Offset,
) -> Result<Option<(TimestampMs, record_set::Record)>, StorageError> {
    let batches = match partition.read(offset, 1).await {
        Ok(batches) => batches,
        Err(StorageError::OutOfRange { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let first = batches.first().filter(|batch| batch.base_offset == offset);
    Ok(first.and_then(|batch| Some((batch.append_time_ms, record_set::records(&batch.payload).next()?))))
}

/// The open partition, if it is still one of that topic.
pub(in crate::broker) fn partition(
    topics: &TopicTable,
    topic: &TopicName,
    at: PartitionKey,
) -> Option<PartitionHandle> {
    let topic = topics.get(topic).filter(|topic| topic.entry.id == at.topic_id)?;
    topic.partition(at.partition).ok().cloned()
}

impl Reading {
    fn of(at: PartitionKey, room: Room, wants_ttl: bool, filter: Option<Filter>) -> Self {
        let found = Found {
            at,
            messages: Vec::new(),
            absent: Vec::new(),
            filtered: Vec::new(),
            unreadable: Vec::new(),
            starved: false,
        };
        let (records, taken_bytes, is_cut_short, reads_on) = (Vec::new(), 0, false, false);
        Self { found, records, is_cut_short, room, taken_bytes, wants_ttl, filter, reads_on }
    }

    /// Passes over records from `next` on while none matches. What cannot be read is left to whoever has it reserved.
    async fn read_on(&mut self, partition: &PartitionHandle, mut next: Offset) {
        self.reads_on = true;
        let mut bytes_left = READ_ON_BYTES_MAX;
        while next < partition.high_watermark() {
            if bytes_left == 0 {
                self.is_cut_short = true;
                return;
            }
            let Ok(batches) = partition.read(next, READ_BYTES_MAX).await else { return };
            let end = batches.next_offset;
            for batch in batches.iter() {
                bytes_left = bytes_left.saturating_sub(batch.payload.len());
                let taken = self.take_batch(batch.base_offset, batch.append_time_ms, &batch.payload, &mut next, end);
                if taken.is_err() {
                    return;
                }
            }
            push(&mut self.found.absent, next..end);
            if batches.is_empty() && end <= next {
                return;
            }
            next = end;
            // A long way without a match must not keep others from their turn.
            tokio::task::yield_now().await;
        }
    }

    async fn read_range(&mut self, partition: &PartitionHandle, range: Range<Offset>) -> Result<(), Full> {
        let mut next = range.start;
        while next < range.end {
            let left = self.room.bytes.saturating_sub(self.taken_bytes);
            if left == 0 && !self.records.is_empty() {
                return Err(Full);
            }
            // Of a single record not more than that is wanted.
            let wanted = if range.end.records_since(next) == 1 { 1 } else { left };
            let bytes = usize::try_from(wanted).unwrap_or(READ_BYTES_MAX).clamp(1, READ_BYTES_MAX);
            next = match partition.read(next, bytes).await {
                Ok(batches) => {
                    for batch in batches.iter() {
                        self.take_batch(batch.base_offset, batch.append_time_ms, &batch.payload, &mut next, range.end)?;
                    }
                    // What no batch has was compacted away. Nothing at all cannot be below the high watermark; should it
                    // be, it is not asked for again and again.
                    let end = batches.next_offset.min(range.end);
                    if end == next && batches.is_empty() {
                        push(&mut self.found.unreadable, next..range.end);
                        return Ok(());
                    }
                    push(&mut self.found.absent, next..end);
                    end
                }
                Err(StorageError::OutOfRange { earliest, .. }) if earliest > next => {
                    let end = earliest.min(range.end);
                    push(&mut self.found.absent, next..end);
                    end
                }
                Err(StorageError::Damaged { next_offset, .. }) if next_offset > next => {
                    let end = next_offset.min(range.end);
                    push(&mut self.found.unreadable, next..end);
                    end
                }
                Err(error) => {
                    tracing::warn!(%error, "messages of a queue cannot be read; they are tried again");
                    push(&mut self.found.unreadable, next..range.end);
                    range.end
                }
            };
        }
        Ok(())
    }

    /// Takes the records from `next` on and before `end`; moves `next` behind the last one.
    fn take_batch(
        &mut self,
        base_offset: Offset,
        append_time_ms: TimestampMs,
        payload: &Bytes,
        next: &mut Offset,
        end: Offset,
    ) -> Result<(), Full> {
        for (number, (key, body)) in (0..).zip(record_set::keyed_bodies(payload)) {
            let offset = base_offset.advance(number);
            if offset < *next {
                continue;
            }
            if offset >= end {
                break;
            }
            let is_passed_over = self.reads_on && is_planted(Bug::FilterPassesOverAMatch);
            if is_passed_over || self.filter.as_ref().is_some_and(|filter| !filter.matches(&body)) {
                push(&mut self.found.absent, *next..offset);
                *next = offset.advance(1);
                push(&mut self.found.filtered, offset..*next);
                continue;
            }
            if self.reads_on {
                return Err(Full);
            }
            let bytes = body.len() as u64;
            let fits = if self.records.is_empty() {
                bytes <= self.room.first_bytes
            } else {
                self.taken_bytes + bytes <= self.room.bytes
            };
            if !fits {
                return Err(Full);
            }
            push(&mut self.found.absent, *next..offset);
            *next = offset.advance(1);
            self.taken_bytes += bytes;
            let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
            let ttl_ms = if self.wants_ttl { ttl_of(&body) } else { None };
            let key = key.map(hash_of_key);
            self.found.messages.push(FoundMessage { offset, bytes, key, append_time_ms, ttl_ms });
            self.records.push(ReadRecord { offset, append_time_ms, body });
        }
        Ok(())
    }
}

/// How long a record says it is worth working on. What is no number says nothing.
fn ttl_of(body: &Bytes) -> Option<u64> {
    let record = record_set::record_of_body(body)?;
    let (_, value) = record.headers.iter().find(|(name, _)| name == TTL_HEADER)?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// What stands for a key in a queue. The same in one process; kept nowhere.
fn hash_of_key(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Adds a range to those that are built in order; neighbours become one.
fn push(ranges: &mut Vec<Range<Offset>>, range: Range<Offset>) {
    match ranges.last_mut() {
        _ if range.start >= range.end => {}
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

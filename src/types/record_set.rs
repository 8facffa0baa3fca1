//! The encoded `RecordSet`: read, checked, cut and written without the generated types.
//!
//! A record set is protobuf: `repeated Record records = 1`, so its bytes are `0A <varint length> <record>` again and
//! again, and any run of whole records is itself a record set. That is what lets the broker store what it received,
//! begin a reply at any record, and split a set by partition, all by slicing.
//!
//! [`check`] is the one walk over every byte that came from outside; it is total on any input and accepts exactly the
//! canonical field layout that protobuf encoders produce (unknown fields are allowed and kept).

mod extended;
mod outline;
mod parts;

pub use extended::extended_record;
pub use outline::{RecordOutline, outlines};
pub use parts::{RecordPart, bodies_with_ends, parts};

use crate::types::TimestampMs;
use crate::types::wire::{Cursor, Fault, Prefix, WIRE_BYTES, WIRE_VARINT, field_len, varint_len};
use bytes::{BufMut, Bytes, BytesMut};

/// Longest header key, in bytes.
pub const HEADER_KEY_BYTES_MAX: usize = 1024;

/// Longest message id, in bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 128;

const RECORDS_TAG: u8 = 0x0A;
const KEY: u32 = 1;
const VALUE: u32 = 2;
const HEADERS: u32 = 3;
const TIMESTAMP: u32 = 4;
const MESSAGE_ID: u32 = 5;

/// What is wrong with bytes that should be a record set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordSetError {
    /// The bytes are not the protobuf message they should be.
    #[error("record {record} is not a valid millstream.v1.Record at byte {position} of the record set: {what}")]
    Malformed {
        /// Number of the record in the set, 0-based.
        record: u32,
        /// Byte position in the set.
        position: usize,
        /// What was expected.
        what: &'static str,
    },
    /// One record is larger than its topic accepts.
    #[error("record {record} has {bytes} bytes; this topic accepts at most {limit_bytes} (record_bytes_max)")]
    RecordTooLarge {
        /// Number of the record in the set, 0-based.
        record: u32,
        /// Its encoded size.
        bytes: usize,
        /// The topic's limit.
        limit_bytes: usize,
    },
    /// The topic is compacted, and keeps the last record of each key.
    #[error("record {record} has no key, and the topic is compacted: it keeps the last record of each key; send a key")]
    KeyMissing {
        /// Number of the record in the set, 0-based.
        record: u32,
    },
    /// A set without records cannot be appended.
    #[error("the record set is empty; send at least one record")]
    Empty,
}

/// What [`check`] learned about a valid record set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSetSummary {
    /// How many records it holds; at least 1.
    pub record_count: u32,
    /// The latest timestamp any record carries; `None` if a record carries none (it then has the append time).
    pub max_timestamp: Option<TimestampMs>,
    /// Whether some record carries no timestamp of its own.
    pub some_untimed: bool,
    /// Whether some record carries a message id.
    pub some_identified: bool,
    /// The number of the first record without a key.
    pub first_keyless: Option<u32>,
}

impl RecordSetSummary {
    /// The latest timestamp of the set once it is appended at `append_time`.
    pub fn max_record_time(&self, append_time: TimestampMs) -> TimestampMs {
        match self.max_timestamp {
            Some(max) if self.some_untimed => max.max(append_time),
            Some(max) => max,
            None => append_time,
        }
    }
}

/// One record, borrowed from the set it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Absent and empty are different.
    pub key: Option<Bytes>,
    /// Absent and empty are different.
    pub value: Option<Bytes>,
    /// In the order sent; duplicates are legal.
    pub headers: Vec<(String, Bytes)>,
    /// As the producer gave it; `None` = the append time of the batch.
    pub timestamp: Option<TimestampMs>,
    /// What the message is called for good; never empty.
    pub message_id: Option<String>,
}

/// Checks a whole record set that came from outside: structure, record sizes, header keys. One bounded pass, no
/// allocation; about 20 ns a record of 100 bytes (`cargo bench --bench log check`).
pub fn check(set: &[u8], record_bytes_max: usize) -> Result<RecordSetSummary, RecordSetError> {
    let mut summary = RecordSetSummary {
        record_count: 0,
        max_timestamp: None,
        some_untimed: false,
        some_identified: false,
        first_keyless: None,
    };
    let mut cursor = Cursor { bytes: set, position: 0 };
    while !cursor.is_at_end() {
        let record = summary.record_count;
        let malformed = |(position, what)| RecordSetError::Malformed { record, position, what };
        let body = next_record(&mut cursor).map_err(malformed)?;
        if body.bytes.len() - body.position > record_bytes_max {
            let bytes = body.bytes.len() - body.position;
            return Err(RecordSetError::RecordTooLarge { record, bytes, limit_bytes: record_bytes_max });
        }
        let RecordFacts { timestamp, identified, has_key } = check_record(body).map_err(malformed)?;
        match timestamp {
            Some(timestamp) => summary.max_timestamp = summary.max_timestamp.max(Some(timestamp)),
            None => summary.some_untimed = true,
        }
        summary.some_identified |= identified;
        if !has_key && summary.first_keyless.is_none() {
            summary.first_keyless = Some(record);
        }
        summary.record_count += 1;
    }
    if summary.record_count == 0 { Err(RecordSetError::Empty) } else { Ok(summary) }
}

/// The bytes of each record in a checked set, tag and length included, so that any of them put together are a set.
///
/// Ends early at bytes that are not a record; a set that passed [`check`] has none.
pub fn raw_records(set: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    let mut position = 0;
    std::iter::from_fn(move || {
        let mut cursor = Cursor { bytes: set, position };
        let start = position;
        next_record(&mut cursor).ok()?;
        position = cursor.position;
        Some(set.slice(start..position))
    })
}

/// The records of a checked set. Keys, values and headers share the memory of the set.
pub fn records(set: &Bytes) -> impl Iterator<Item = Record> + '_ {
    let mut position = 0;
    std::iter::from_fn(move || {
        let mut cursor = Cursor { bytes: set, position };
        let body = next_record(&mut cursor).ok()?;
        position = cursor.position;
        decode_record(set, body).ok()
    })
}

/// The value of each record in a checked set, borrowed: the quickest way through it for a reader that needs no more.
pub fn values(set: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut cursor = Cursor { bytes: set, position: 0 };
    std::iter::from_fn(move || next_record(&mut cursor).ok().map(|body| field_of(body, VALUE)))
}

/// The key of each record in a checked set, with the record's own bytes.
pub fn keyed_records(set: &Bytes) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
    bodies(set).map(|(body, record)| (field_of(body, KEY), record))
}

/// The key of each record in a checked set, with the record as a message of its own: without tag and length.
pub fn keyed_bodies(set: &Bytes) -> impl Iterator<Item = (Option<&[u8]>, Bytes)> + '_ {
    bodies(set).map(|(body, _)| (field_of(body, KEY), set.slice(body.position..body.bytes.len())))
}

/// A record that stands alone, as [`keyed_bodies`] gives it; `None` if it is none.
pub fn record_of_body(body: &Bytes) -> Option<Record> {
    let cursor = Cursor { bytes: body, position: 0 };
    check_record(cursor).ok()?;
    decode_record(body, cursor).ok()
}

/// A set of one record that stands alone; whether it is a record is for [`check`] to say.
pub fn set_of_body(body: &[u8]) -> Bytes {
    let mut prefix = Prefix::default();
    prefix.bytes_header(1, body.len());
    let mut set = BytesMut::new();
    prefix.flush(&mut set, body);
    set.freeze()
}

/// What chooses the partition of each record in a checked set, its key or else its message id, with the record's own
/// bytes.
pub fn routed_records(set: &Bytes) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
    bodies(set).map(|(body, record)| (field_of(body, KEY).or_else(|| field_of(body, MESSAGE_ID)), record))
}

/// The message id of each record in a checked set, with the record's own bytes.
pub fn identified_records(set: &Bytes) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
    bodies(set).map(|(body, record)| (field_of(body, MESSAGE_ID), record))
}

/// Each record of a checked set, to be looked into, and its own bytes.
fn bodies(set: &Bytes) -> impl Iterator<Item = (Cursor<'_>, &[u8])> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let mut cursor = Cursor { bytes: set, position };
        let start = position;
        let body = next_record(&mut cursor).ok()?;
        position = cursor.position;
        Some((body, &set[start..position]))
    })
}

/// The byte position at which record number `skip` of a checked set begins (its length if there are fewer).
pub fn position_of_record(set: &[u8], skip: u64) -> usize {
    let mut cursor = Cursor { bytes: set, position: 0 };
    for _ in 0..skip {
        if cursor.is_at_end() || next_record(&mut cursor).is_err() {
            break;
        }
    }
    cursor.position
}

/// Of the records at the start of a checked set: how many, and how many bytes, fit `records_max` and `bytes_max`.
/// At least one record is taken if there is one and `records_max` is not 0.
pub fn fit(set: &[u8], records_max: u64, bytes_max: usize) -> (u64, usize) {
    let mut cursor = Cursor { bytes: set, position: 0 };
    let (mut taken, mut end) = (0, 0);
    while taken < records_max && !cursor.is_at_end() {
        if next_record(&mut cursor).is_err() || (taken > 0 && cursor.position > bytes_max) {
            break;
        }
        taken += 1;
        end = cursor.position;
    }
    (taken, end)
}

/// The number of the first record whose timestamp (or `append_time`, if it has none) is at or after `time`.
pub fn first_at_or_after(set: &Bytes, time: TimestampMs, append_time: TimestampMs) -> Option<u64> {
    (0..).zip(records(set)).find(|(_, record)| record.timestamp.unwrap_or(append_time) >= time).map(|(i, _)| i)
}

/// Appends one record to an encoded set. `headers` keeps order and duplicates.
///
/// This is the client's encoder: it writes straight into the batch, without building a message first.
pub fn encode_record<'h>(
    out: &mut impl BufMut,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'h str, &'h [u8])> + Clone,
    timestamp: Option<TimestampMs>,
) {
    encode_identified_record(out, key, value, headers, timestamp, None);
}

/// The same with a message id.
pub fn encode_identified_record<'h>(
    out: &mut impl BufMut,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'h str, &'h [u8])> + Clone,
    timestamp: Option<TimestampMs>,
    message_id: Option<&str>,
) {
    let optional = |field: Option<&[u8]>| field.map_or(0, |bytes| field_len(bytes.len()));
    let header_len = |key: &str, value: &[u8]| {
        let part = |len: usize| if len == 0 { 0 } else { field_len(len) };
        part(key.len()) + part(value.len())
    };
    let body = optional(key)
        + optional(value)
        + headers.clone().map(|(key, value)| field_len(header_len(key, value))).sum::<usize>()
        + timestamp.map_or(0, |time| 1 + varint_len(time.cast_unsigned()))
        + optional(message_id.map(str::as_bytes));

    let mut prefix = Prefix::default();
    prefix.bytes_header(1, body);
    for (field, bytes) in [(KEY, key), (VALUE, value)] {
        if let Some(bytes) = bytes {
            prefix.bytes_header(field, bytes.len());
            prefix.flush(out, bytes);
        }
    }
    for (key, value) in headers {
        prefix.bytes_header(HEADERS, header_len(key, value));
        for (field, bytes) in [(1, key.as_bytes()), (2, value)] {
            if !bytes.is_empty() {
                prefix.bytes_header(field, bytes.len());
                prefix.flush(out, bytes);
            }
        }
        // A header without key and value has nothing but its own length.
        prefix.flush(out, &[]);
    }
    if let Some(time) = timestamp {
        prefix.varint(u64::from(TIMESTAMP << 3 | WIRE_VARINT));
        prefix.varint(time.cast_unsigned());
        prefix.flush(out, &[]);
    }
    if let Some(id) = message_id {
        prefix.bytes_header(MESSAGE_ID, id.len());
        prefix.flush(out, id.as_bytes());
    }
    if body == 0 {
        // A record without anything has nothing but its own length.
        prefix.flush(out, &[]);
    }
}

#[expect(clippy::inline_always, reason = "the walk over records is twice as long with calls")]
#[inline(always)]
fn next_record<'a>(cursor: &mut Cursor<'a>) -> Result<Cursor<'a>, Fault> {
    if cursor.bytes.get(cursor.position) != Some(&RECORDS_TAG) {
        return Err((cursor.position, "expected field 1 (records) of a RecordSet"));
    }
    cursor.position += 1;
    cursor.field()
}

/// What the walk over one record learns.
struct RecordFacts {
    timestamp: Option<TimestampMs>,
    identified: bool,
    has_key: bool,
}

/// Walks one record.
#[expect(clippy::inline_always, reason = "the walk over records is twice as long with calls")]
#[inline(always)]
fn check_record(mut body: Cursor<'_>) -> Result<RecordFacts, Fault> {
    let mut facts = RecordFacts { timestamp: None, identified: false, has_key: false };
    while !body.is_at_end() {
        match body.tag()? {
            (field @ (KEY | VALUE), WIRE_BYTES) => {
                body.field()?;
                facts.has_key |= field == KEY;
            }
            (HEADERS, WIRE_BYTES) => check_header(body.field()?)?,
            (TIMESTAMP, WIRE_VARINT) => facts.timestamp = Some(body.varint()?.cast_signed()),
            (MESSAGE_ID, WIRE_BYTES) => {
                check_message_id(body.field()?)?;
                facts.identified = true;
            }
            (KEY..=MESSAGE_ID, _) => return Err((body.position, "a field of Record has the wrong wire type")),
            (_, wire) => body.skip_unknown(wire)?,
        }
    }
    Ok(facts)
}

fn check_message_id(id: Cursor<'_>) -> Result<(), Fault> {
    match id.rest() {
        [] => Err((id.position, "a message id is empty; leave it out, or give it 1 to 128 bytes")),
        bytes if bytes.len() > MESSAGE_ID_BYTES_MAX => Err((id.position, "a message id is longer than 128 bytes")),
        bytes if std::str::from_utf8(bytes).is_err() => Err((id.position, "a message id is not UTF-8")),
        _ => Ok(()),
    }
}

fn check_header(mut body: Cursor<'_>) -> Result<(), Fault> {
    while !body.is_at_end() {
        match body.tag()? {
            (1, WIRE_BYTES) => {
                let key = body.field()?;
                if key.rest().len() > HEADER_KEY_BYTES_MAX {
                    return Err((key.position, "a header key is longer than 1,024 bytes"));
                }
                if std::str::from_utf8(key.rest()).is_err() {
                    return Err((key.position, "a header key is not UTF-8"));
                }
            }
            (2, WIRE_BYTES) => drop(body.field()?),
            (1 | 2, _) => return Err((body.position, "a field of Header has the wrong wire type")),
            (_, wire) => body.skip_unknown(wire)?,
        }
    }
    Ok(())
}

/// The key or value of a record; the last one wins if the field is there twice, as in every protobuf decoder.
fn field_of(mut body: Cursor<'_>, wanted: u32) -> Option<&[u8]> {
    let mut found = None;
    while !body.is_at_end() {
        match body.tag().ok()? {
            (field, WIRE_BYTES) if field == wanted => found = Some(body.field().ok()?.rest()),
            (_, wire) => body.skip_unknown(wire).ok()?,
        }
    }
    found
}

fn decode_record(set: &Bytes, mut body: Cursor<'_>) -> Result<Record, Fault> {
    let share = |field: Cursor<'_>| set.slice(field.position..field.bytes.len());
    let mut record = Record::default();
    while !body.is_at_end() {
        match body.tag()? {
            (KEY, WIRE_BYTES) => record.key = Some(share(body.field()?)),
            (VALUE, WIRE_BYTES) => record.value = Some(share(body.field()?)),
            (HEADERS, WIRE_BYTES) => {
                let mut header = body.field()?;
                let (mut key, mut value) = (String::new(), Bytes::new());
                while !header.is_at_end() {
                    match header.tag()? {
                        (1, WIRE_BYTES) => key = String::from_utf8_lossy(header.field()?.rest()).into_owned(),
                        (2, WIRE_BYTES) => value = share(header.field()?),
                        (_, wire) => header.skip_unknown(wire)?,
                    }
                }
                record.headers.push((key, value));
            }
            (TIMESTAMP, WIRE_VARINT) => record.timestamp = Some(body.varint()?.cast_signed()),
            (MESSAGE_ID, WIRE_BYTES) => {
                record.message_id = Some(String::from_utf8_lossy(body.field()?.rest()).into_owned());
            }
            (_, wire) => body.skip_unknown(wire)?,
        }
    }
    Ok(record)
}

#[cfg(test)]
#[path = "record_set_tests.rs"]
mod tests;

//! Records as JSON lines: what `consume --json` prints is what `produce --json` reads.
//!
//! ```text
//! {"topic":"orders","partition":0,"offset":7,"timestamp_ms":1,"append_time_ms":2,"key":"k","value":"v","headers":[["a","b"]]}
//! ```
//!
//! `timestamp_ms` and `message_id` are there only if the record has a time or an id of its own. A key or value that is
//! absent is `null`, an empty one is `""`. Bytes that are not UTF-8 are base64, with `"key_encoding":"base64"` or
//! `"value_encoding":"base64"`; a header with such a value has a third element, `"base64"`. Reading ignores topic, offset
//! and append time, and what `dlq export` says of a death (`dead_letter`).

use super::exit::CliError;
use crate::client::ConsumedRecord;
use crate::types::TimestampMs;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::io::Write;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Utf8,
    Base64,
}

#[derive(Serialize)]
struct RecordOut<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_ms: Option<TimestampMs>,
    append_time_ms: TimestampMs,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<Encoding>,
    value: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<Encoding>,
    headers: Vec<HeaderOut<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum HeaderOut<'a> {
    Text(&'a str, Cow<'a, str>),
    Encoded(&'a str, Cow<'a, str>, Encoding),
}

/// Writes a record as one line.
pub(super) fn write_record(out: &mut impl Write, record: &ConsumedRecord) -> std::io::Result<()> {
    let (key, key_encoding) = text_of_optional(record.key.as_deref());
    let (value, value_encoding) = text_of_optional(record.value.as_deref());
    let headers = record.headers.iter().map(|(name, value)| match text_of(value) {
        (text, None) => HeaderOut::Text(name, text),
        (text, Some(encoding)) => HeaderOut::Encoded(name, text, encoding),
    });
    let line = RecordOut {
        topic: record.partition.topic.as_str(),
        partition: record.partition.partition,
        offset: record.offset.0,
        timestamp_ms: record.timestamp,
        append_time_ms: record.append_time,
        message_id: record.message_id.as_deref(),
        key,
        key_encoding,
        value,
        value_encoding,
        headers: headers.collect(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// A record as an object, in the shape that `consume --json` prints.
pub(super) fn record_json(record: &ConsumedRecord) -> serde_json::Value {
    let mut line = Vec::new();
    write_record(&mut line, record).expect("a vector takes every byte");
    serde_json::from_slice(&line).expect("it was just written as JSON")
}

/// A record as it was read; its bytes are its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JsonRecord {
    pub(super) partition: Option<u32>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) timestamp: Option<TimestampMs>,
    pub(super) message_id: Option<String>,
}

/// Unknown fields are refused: a misspelt `headers` would be lost without a word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordIn {
    #[serde(default, rename = "topic")]
    _topic: serde::de::IgnoredAny,
    partition: Option<u32>,
    #[serde(default, rename = "offset")]
    _offset: serde::de::IgnoredAny,
    timestamp_ms: Option<TimestampMs>,
    message_id: Option<String>,
    #[serde(default, rename = "dead_letter")]
    _dead_letter: serde::de::IgnoredAny,
    #[serde(default, rename = "append_time_ms")]
    _append_time_ms: serde::de::IgnoredAny,
    key: Option<String>,
    key_encoding: Option<Encoding>,
    #[serde(deserialize_with = "present")]
    value: Option<String>,
    value_encoding: Option<Encoding>,
    #[serde(default)]
    headers: Vec<HeaderIn>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HeaderIn {
    Text(String, String),
    Encoded(String, String, Encoding),
}

/// A field that may be null and must not be missing: a forgotten value would become a tombstone.
fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(field)
}

/// Reads a record from one line; the error says what is wrong with it.
pub(super) fn read_record(line: &[u8]) -> Result<JsonRecord, String> {
    let record: RecordIn = serde_json::from_slice(line).map_err(|error| what_is_wrong(&error))?;
    let headers = record.headers.into_iter().map(|header| match header {
        HeaderIn::Text(name, value) => Ok((name, value.into_bytes())),
        HeaderIn::Encoded(name, value, encoding) => Ok((name, bytes_of(value, Some(encoding), "a header")?)),
    });
    let optional = |text: Option<String>, encoding, what| text.map(|text| bytes_of(text, encoding, what)).transpose();
    Ok(JsonRecord {
        partition: record.partition,
        key: optional(record.key, record.key_encoding, "the key")?,
        value: optional(record.value, record.value_encoding, "the value")?,
        headers: headers.collect::<Result<_, String>>()?,
        timestamp: record.timestamp_ms,
        message_id: record.message_id,
    })
}

/// The parser counts lines too, and to it there is only one: its column is of use, its line would mislead.
fn what_is_wrong(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match message.strip_suffix(&place) {
        Some(what) => format!("not a record in JSON at column {}: {what}", error.column()),
        None => format!("not a record in JSON: {message}"),
    }
}

/// Prints objects, one a line.
pub(super) fn print_lines(objects: impl IntoIterator<Item = serde_json::Value>) -> Result<(), CliError> {
    let mut text = String::new();
    for object in objects {
        text += &object.to_string();
        text.push('\n');
    }
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)
}

fn text_of(bytes: &[u8]) -> (Cow<'_, str>, Option<Encoding>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), None),
        Err(_) => (Cow::Owned(BASE64.encode(bytes)), Some(Encoding::Base64)),
    }
}

fn text_of_optional(bytes: Option<&[u8]>) -> (Option<Cow<'_, str>>, Option<Encoding>) {
    match bytes.map(text_of) {
        Some((text, encoding)) => (Some(text), encoding),
        None => (None, None),
    }
}

fn bytes_of(text: String, encoding: Option<Encoding>, what: &str) -> Result<Vec<u8>, String> {
    match encoding {
        None | Some(Encoding::Utf8) => Ok(text.into_bytes()),
        Some(Encoding::Base64) => BASE64.decode(&text).map_err(|error| format!("{what} is not base64: {error}")),
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;

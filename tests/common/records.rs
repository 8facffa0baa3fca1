//! Records as tests write them, encoded by the generated types: another encoder than the broker's own.

use bytes::Bytes;
use millstream::proto;
use prost::Message as _;

/// A record with a value and nothing else.
pub(crate) fn record(value: impl Into<Bytes>) -> proto::Record {
    proto::Record { value: Some(value.into()), ..Default::default() }
}

/// A record with a key and a value.
pub(crate) fn keyed(key: impl Into<Bytes>, value: impl Into<Bytes>) -> proto::Record {
    proto::Record { key: Some(key.into()), ..record(value) }
}

/// A record with a value and a time of its own.
pub(crate) fn timed(timestamp_ms: i64, value: impl Into<Bytes>) -> proto::Record {
    proto::Record { timestamp_ms: Some(timestamp_ms), ..record(value) }
}

/// Records `<prefix>0`, `<prefix>1`, ...
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<proto::Record> {
    (0..count).map(|i| record(format!("{prefix}{i}"))).collect()
}

/// `count` records of `bytes` bytes of value each.
pub(crate) fn sized(count: usize, bytes: usize) -> Bytes {
    set(vec![record(vec![b'x'; bytes]); count])
}

/// A record set, encoded.
pub(crate) fn set(records: Vec<proto::Record>) -> Bytes {
    proto::RecordSet { records }.encode_to_vec().into()
}

/// A record of exactly so many bytes, encoded.
pub(crate) fn record_of(bytes: usize) -> proto::Record {
    let overhead = record(vec![0; bytes]).encoded_len() - bytes;
    let record = record(vec![b'x'; bytes - overhead]);
    assert_eq!(record.encoded_len(), bytes, "choose a size that is not at an edge of the length's own length");
    record
}

/// A record set of exactly so many bytes, in records of 1,000 bytes and a last one that fits.
pub(crate) fn set_of(bytes: usize) -> Bytes {
    const RECORD: usize = 1_000;
    let framed = |record: proto::Record| set(vec![record]).len();
    let whole = framed(record_of(RECORD));
    let count = bytes / whole - 1;
    let rest = bytes - count * whole;
    let overhead = framed(record_of(rest - 10)) - (rest - 10);
    let mut records = vec![record_of(RECORD); count];
    records.push(record_of(rest - overhead));
    let set = set(records);
    assert_eq!(set.len(), bytes, "choose a size that is not at an edge of the length's own length");
    set
}

/// Offset and record of everything in these batches.
pub(crate) fn records_of(batches: &[proto::RecordBatch]) -> Vec<(u64, proto::Record)> {
    let records_of = |batch: &proto::RecordBatch| {
        let set = proto::RecordSet::decode(batch.records.clone()).expect("the broker sends what protobuf reads");
        (batch.base_offset..).zip(set.records).collect::<Vec<_>>()
    };
    batches.iter().flat_map(records_of).collect()
}

/// Offset and value, as text, of everything in these batches.
pub(crate) fn values_of(batches: &[proto::RecordBatch]) -> Vec<(u64, String)> {
    let text = |value: Option<Bytes>| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
    records_of(batches).into_iter().map(|(offset, record)| (offset, text(record.value))).collect()
}

/// A record with a value and headers.
pub(crate) fn headed(value: impl Into<Bytes>, headers: &[(&str, &str)]) -> proto::Record {
    let header = |(key, value): &(&str, &str)| proto::Header {
        key: (*key).to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    proto::Record { headers: headers.iter().map(header).collect(), ..record(value) }
}

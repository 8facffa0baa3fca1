//! Record sets: our walk over the bytes against the generated decoder. What ours accepts, that one accepts, with the
//! same records in it; what that one writes, ours accepts; and all ways through a set agree.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use millstream::proto;
use millstream::types::record_set::{self, Record};
use millstream_fuzz::bounded;
use prost::Message as _;

fuzz_target!(|input: (u16, u16, &[u8])| {
    let (skip, limit, bytes) = input;
    let set = Bytes::copy_from_slice(bytes);
    bounded(0, || walk(&set, skip.into(), limit.into()));
    // A record is a struct of about 150 bytes, two bytes make one, and both decoders' records are held side by side.
    bounded(1024 * set.len() + 4096, || compare(&set, skip.into()));
});

fn walk(set: &Bytes, skip: u64, limit: usize) {
    let checked = record_set::check(set, usize::MAX);
    let position = record_set::position_of_record(set, skip);
    assert!(position <= set.len());
    let (records, end) = record_set::fit(set, skip, limit);
    assert!(records <= skip && end <= set.len());
    if let Ok(summary) = checked {
        let count = u64::from(summary.record_count);
        assert_eq!(record_set::values(set).count() as u64, count);
        assert_eq!(record_set::keyed_records(set).count() as u64, count);
        assert_eq!(record_set::position_of_record(set, count), set.len());
        assert_eq!(record_set::position_of_record(set, records), end, "as many records, as many bytes");
        assert!(skip == 0 || records >= 1 && (records == 1 || end <= limit));
        let least = record_set::check(set, limit);
        assert!(least == checked || matches!(least, Err(record_set::RecordSetError::RecordTooLarge { .. })));
    }
}

fn compare(set: &Bytes, skip: u64) {
    let ours: Vec<Record> = record_set::records(set).collect();
    let raw: Vec<u8> = record_set::raw_records(set).flatten().collect();
    assert!(set.starts_with(&raw));
    let _ = record_set::first_at_or_after(set, 5, 7);
    let theirs = proto::RecordSet::decode(set.clone());
    if let Ok(summary) = record_set::check(set, usize::MAX) {
        let theirs = theirs.as_ref().expect("what the check accepts is protobuf");
        let expected: Vec<Record> = theirs.records.iter().map(record_of).collect();
        assert_eq!(ours, expected);
        assert_eq!(summary.record_count as usize, ours.len());
        assert_eq!(summary.max_timestamp, ours.iter().filter_map(|record| record.timestamp).max());
        assert_eq!(summary.some_untimed, ours.iter().any(|record| record.timestamp.is_none()));
        assert_eq!(raw, set[..]);
        let keys: Vec<_> = record_set::keyed_records(set).map(|(key, _)| key).collect();
        assert_eq!(keys, ours.iter().map(|record| record.key.as_deref()).collect::<Vec<_>>());
        let values: Vec<_> = record_set::values(set).collect();
        assert_eq!(values, ours.iter().map(|record| record.value.as_deref()).collect::<Vec<_>>());
        let rest = set.slice(record_set::position_of_record(set, skip)..);
        let skipped = usize::try_from(skip).expect("64-bit").min(ours.len());
        assert_eq!(record_set::records(&rest).collect::<Vec<_>>(), ours[skipped..]);
    }
    // The generated encoder writes a canonical form of the same records, and so does ours.
    if let Ok(theirs) = theirs {
        let canonical = Bytes::from(theirs.encode_to_vec());
        let has_long_name = theirs.records.iter().flat_map(|r| &r.headers).any(|header| header.key.len() > 1024);
        let ids = theirs.records.iter().filter_map(|record| record.message_id.as_ref());
        let has_bad_id = ids.into_iter().any(|id| !(1..=128).contains(&id.len()));
        let checked = record_set::check(&canonical, usize::MAX);
        assert_eq!(checked.is_ok(), !theirs.records.is_empty() && !has_long_name && !has_bad_id, "{checked:?}");
        let mut written = BytesMut::new();
        for record in theirs.records.iter().map(record_of) {
            let headers = record.headers.iter().map(|(key, value)| (key.as_str(), value.as_ref()));
            record_set::encode_identified_record(
                &mut written,
                record.key.as_deref(),
                record.value.as_deref(),
                headers,
                record.timestamp,
                record.message_id.as_deref(),
            );
        }
        assert_eq!(written, canonical, "both encoders write the same");
    }
}

fn record_of(record: &proto::Record) -> Record {
    Record {
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.iter().map(|header| (header.key.clone(), header.value.clone())).collect(),
        timestamp: record.timestamp_ms,
        message_id: record.message_id.clone(),
    }
}

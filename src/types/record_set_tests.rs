//! Sets that protobuf encoders write, and bytes that nobody should.

use super::*;
use bytes::BytesMut;
use proptest::prelude::*;

fn encode(records: &[Record]) -> Bytes {
    let mut out = BytesMut::new();
    for r in records {
        let headers = r.headers.iter().map(|(k, v)| (k.as_str(), v.as_ref()));
        let id = r.message_id.as_deref();
        encode_identified_record(&mut out, r.key.as_deref(), r.value.as_deref(), headers, r.timestamp, id);
    }
    out.freeze()
}

fn any_record() -> impl Strategy<Value = Record> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let header = ("[a-z\u{e9}]{0,12}", bytes());
    (
        proptest::option::of(bytes()),
        proptest::option::of(bytes()),
        proptest::collection::vec(header, 0..4),
        proptest::option::of(any::<i64>()),
        proptest::option::of("[a-z\u{e9}]{1,40}"),
    )
        .prop_map(|(key, value, headers, timestamp, message_id)| Record {
            key,
            value,
            headers,
            timestamp,
            message_id,
        })
}

proptest! {
    #[test]
    fn what_is_encoded_is_checked_and_read_back(all in proptest::collection::vec(any_record(), 1..20)) {
        let set = encode(&all);
        let summary = check(&set, usize::MAX).expect("our own encoding is valid");
        prop_assert_eq!(summary.record_count as usize, all.len());
        prop_assert_eq!(summary.some_identified, all.iter().any(|r| r.message_id.is_some()));
        prop_assert_eq!(summary.max_timestamp, all.iter().filter_map(|r| r.timestamp).max());
        prop_assert_eq!(records(&set).collect::<Vec<_>>(), all.as_slice());
        let ids: Vec<_> = identified_records(&set).map(|(id, _)| id.map(<[u8]>::to_vec)).collect();
        prop_assert_eq!(ids, all.iter().map(|r| r.message_id.clone().map(String::into_bytes)).collect::<Vec<_>>());
        let borrowed: Vec<_> = values(&set).collect();
        prop_assert_eq!(borrowed, all.iter().map(|r| r.value.as_deref()).collect::<Vec<_>>());
    }

    #[test]
    fn any_run_of_records_is_a_set(all in proptest::collection::vec(any_record(), 1..20), skip in 0_u64..25) {
        let set = encode(&all);
        let rest = set.slice(position_of_record(&set, skip)..);
        let kept: Vec<_> = records(&rest).collect();
        prop_assert_eq!(kept.as_slice(), &all[usize::try_from(skip).expect("small").min(all.len())..]);
        prop_assert_eq!(Bytes::from(raw_records(&set).collect::<Vec<_>>().concat()), set);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let set = Bytes::from(bytes);
        let _ = check(&set, 100);
        let _ = records(&set).count();
        let _ = fit(&set, 10, 50);
        let _ = position_of_record(&set, 5);
        let _ = keyed_records(&set).count();
        let _ = routed_records(&set).count();
    }

    /// The generated decoder is the judge: what our walk accepts, protobuf must accept too.
    #[test]
    fn what_check_accepts_protobuf_accepts(all in proptest::collection::vec(any_record(), 1..4), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&all).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if check(&bytes, usize::MAX).is_ok() {
            use prost::Message as _;
            prop_assert!(crate::proto::RecordSet::decode(bytes.as_slice()).is_ok());
        }
    }
}

#[test]
fn a_missing_value_is_not_an_empty_one() {
    let null = Record { key: Some("k".into()), ..Record::default() };
    let empty = Record { value: Some(Bytes::new()), ..null.clone() };
    let read: Vec<_> = records(&encode(&[null.clone(), empty.clone()])).collect();
    assert_eq!(read, [null, empty]);
}

#[test]
fn a_record_over_the_limit_is_named() {
    let small = Record { value: Some(vec![0; 10].into()), ..Record::default() };
    let large = Record { value: Some(vec![0; 100].into()), ..Record::default() };
    let error = check(&encode(&[small, large]), 50).expect_err("too large");
    assert_eq!(error, RecordSetError::RecordTooLarge { record: 1, bytes: 102, limit_bytes: 50 });
}

#[test]
fn a_message_id_has_bounds_and_chooses_the_partition_of_a_record_without_a_key() {
    let named = |id: &str, key: Option<&'static str>| Record {
        message_id: Some(id.to_owned()),
        key: key.map(Bytes::from),
        ..Record::default()
    };
    for id in ["", &"x".repeat(129)] {
        let refused = check(&encode(&[named(id, None)]), usize::MAX);
        assert!(matches!(refused, Err(RecordSetError::Malformed { record: 0, .. })), "{refused:?}");
    }
    let set = encode(&[named(&"x".repeat(128), None), named("id", Some("key")), Record::default()]);
    assert!(check(&set, usize::MAX).expect("within bounds").some_identified);
    let chosen: Vec<_> = routed_records(&set).map(|(by, _)| by.map(<[u8]>::to_vec)).collect();
    assert_eq!(chosen, [Some(vec![b'x'; 128]), Some(b"key".to_vec()), None]);
    let bytes = [0x0A, 4, 0x2A, 2, 0xFF, 0xFE];
    assert!(check(&bytes, usize::MAX).is_err(), "an id is text");
}

#[test]
fn an_empty_set_is_refused() {
    assert_eq!(check(&[], 50), Err(RecordSetError::Empty));
}

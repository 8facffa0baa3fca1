//! Records as JSON: the names that scripts read, and that what was written is read back.

use super::*;
use crate::types::{Offset, TopicName, TopicPartition};
use bytes::Bytes;
use proptest::prelude::*;

fn line(record: &ConsumedRecord) -> String {
    let mut out = Vec::new();
    write_record(&mut out, record).expect("memory can be written");
    String::from_utf8(out).expect("JSON is text")
}

fn record() -> ConsumedRecord {
    ConsumedRecord {
        partition: TopicPartition { topic: TopicName::new("orders").expect("valid"), partition: 2 },
        offset: Offset(7),
        key: Some("k\"1".into()),
        value: Some("v".into()),
        headers: vec![("a".to_owned(), "b".into())],
        timestamp: Some(5),
        message_id: None,
        append_time: 6,
    }
}

/// Scripts read these names: changing one breaks them.
#[test]
fn the_field_names_are_a_contract() {
    assert_eq!(
        line(&record()),
        "{\"topic\":\"orders\",\"partition\":2,\"offset\":7,\"timestamp_ms\":5,\"append_time_ms\":6,\
         \"key\":\"k\\\"1\",\"value\":\"v\",\"headers\":[[\"a\",\"b\"]]}\n"
    );
    let bytes: Bytes = vec![0xff].into();
    let binary = ConsumedRecord {
        key: Some(bytes.clone()),
        value: Some(bytes.clone()),
        headers: vec![("h".to_owned(), bytes)],
        timestamp: None,
        ..record()
    };
    assert_eq!(
        line(&binary),
        "{\"topic\":\"orders\",\"partition\":2,\"offset\":7,\"append_time_ms\":6,\
         \"key\":\"/w==\",\"key_encoding\":\"base64\",\"value\":\"/w==\",\"value_encoding\":\"base64\",\
         \"headers\":[[\"h\",\"/w==\",\"base64\"]]}\n"
    );
}

#[test]
fn null_is_not_empty_and_a_missing_value_is_a_mistake() {
    let null = read_record(br#"{"key":null,"value":null}"#).expect("valid");
    assert_eq!((null.key, null.value), (None, None));
    let empty = read_record(br#"{"key":"","value":""}"#).expect("valid");
    assert_eq!((empty.key, empty.value), (Some(vec![]), Some(vec![])));
    for wrong in [r#"{"key":"k"}"#, r#"{"value":"v","header":[]}"#, "", "[]", r#"{"value":1}"#] {
        assert!(read_record(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let error = read_record(br#"{"val":1}"#).expect_err("a name that means nothing");
    assert!(error.starts_with("not a record in JSON at column 6: unknown field"), "{error}");
    let error = read_record(br#"{"value":"?","value_encoding":"base64"}"#).expect_err("not base64");
    assert!(error.contains("the value is not base64"), "{error}");
}

proptest! {
    #[test]
    fn what_consume_prints_produce_reads_back(
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        headers in proptest::collection::vec((".{0,5}", proptest::collection::vec(any::<u8>(), 0..5)), 0..3),
        timestamp in proptest::option::of(any::<i64>()),
        message_id in proptest::option::of(".{1,9}"),
    ) {
        let sent = ConsumedRecord {
            key: key.clone().map(Bytes::from),
            value: value.clone().map(Bytes::from),
            headers: headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
            timestamp,
            message_id: message_id.clone(),
            ..record()
        };
        let read = read_record(line(&sent).trim_end().as_bytes()).expect("our own output is valid");
        prop_assert_eq!(read, JsonRecord { partition: Some(2), key, value, headers, timestamp, message_id });
    }
}

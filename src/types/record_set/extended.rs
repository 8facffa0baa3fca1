//! A record as it came, with more behind it: headers, and an id if it has none. What this broker does not know of the
//! record is kept, because its bytes are.

use super::{HEADERS, MESSAGE_ID, Prefix, field_of};
use crate::types::wire::{Cursor, field_len};
use bytes::{Bytes, BytesMut};

/// A record set of one record: `body`, a checked record without its tag and length, with these headers behind its own.
/// `message_id` names it if it has no id yet.
pub fn extended_record(body: &Bytes, headers: &[(&str, &[u8])], message_id: Option<&str>) -> Bytes {
    let is_named = field_of(Cursor { bytes: body, position: 0 }, MESSAGE_ID).is_some();
    let message_id = message_id.filter(|_| !is_named);
    let header_len = |(name, value): &(&str, &[u8])| field_len(name.len()) + field_len(value.len());
    let more: usize = headers.iter().map(|header| field_len(header_len(header))).sum();
    let bytes = body.len() + more + message_id.map_or(0, |id| field_len(id.len()));

    let mut set = BytesMut::with_capacity(field_len(bytes));
    let mut prefix = Prefix::default();
    prefix.bytes_header(1, bytes);
    prefix.flush(&mut set, body);
    for header @ (name, value) in headers {
        prefix.bytes_header(HEADERS, header_len(header));
        prefix.bytes_header(1, name.len());
        prefix.flush(&mut set, name.as_bytes());
        prefix.bytes_header(2, value.len());
        prefix.flush(&mut set, value);
    }
    if let Some(id) = message_id {
        prefix.bytes_header(MESSAGE_ID, id.len());
        prefix.flush(&mut set, id.as_bytes());
    }
    set.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::record_set::{Record, check, encode_identified_record, keyed_bodies, record_of_body, records};

    fn body(key: Option<&[u8]>, headers: &[(&str, &[u8])], id: Option<&str>) -> Bytes {
        let mut set = BytesMut::new();
        encode_identified_record(&mut set, key, Some(b"v"), headers.iter().copied(), Some(7), id);
        keyed_bodies(&set.freeze()).next().expect("there is one").1
    }

    fn only(set: &Bytes) -> Record {
        assert_eq!(check(set, usize::MAX).expect("it is a set").record_count, 1);
        records(set).next().expect("there is one")
    }

    #[test]
    fn what_is_added_stands_behind_what_was_there() {
        let long = vec![b'x'; 300];
        let body = body(Some(b"k"), &[("own", b"1")], None);
        let record = only(&extended_record(&body, &[("a", &long), ("b", b"")], Some("id-1")));
        let names: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.len())).collect();
        assert_eq!(names, [("own", 1), ("a", 300), ("b", 0)]);
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(b"k".as_slice()), Some(b"v".as_slice())));
        assert_eq!((record.timestamp, record.message_id.as_deref()), (Some(7), Some("id-1")));
    }

    proptest::proptest! {
        /// Bytes from outside cannot swallow what is put behind them: what is a record before is one after, and ends with it.
        #[test]
        fn whatever_is_a_record_is_one_with_more_behind_it(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..24)
        ) {
            let body = Bytes::from(bytes);
            if let Some(before) = record_of_body(&body) {
                let mut after = only(&extended_record(&body, &[("a", b"1")], Some("id")));
                assert_eq!(after.headers.pop(), Some(("a".to_owned(), Bytes::from_static(b"1"))));
                assert_eq!(after.message_id, before.message_id.clone().or(Some("id".to_owned())));
                assert_eq!(Record { message_id: before.message_id.clone(), ..after }, before);
            }
        }
    }

    #[test]
    fn an_id_of_its_own_stays_and_nothing_may_be_added() {
        let named = body(None, &[], Some("own"));
        assert_eq!(only(&extended_record(&named, &[], Some("other"))).message_id.as_deref(), Some("own"));
        assert_eq!(only(&extended_record(&Bytes::new(), &[], None)), Record::default());
    }
}

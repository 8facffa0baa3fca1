//! The parts of encoded records that a filter looks at: keys and headers, borrowed, in one walk and without decoding
//! the rest.

use super::{Cursor, HEADERS, KEY, WIRE_BYTES, next_record};

/// A part of an encoded record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordPart<'a> {
    /// Its key. Should there be two, the last one counts, as in every protobuf decoder.
    Key(&'a [u8]),
    /// One of its headers.
    Header {
        /// What it is called, in UTF-8 if the record was checked.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
}

/// The key and the headers of a record that stands alone (without tag and length), in the order of its bytes.
///
/// Ends early at bytes that are no record; one that passed [`super::check`] has none.
pub fn parts(body: &[u8]) -> impl Iterator<Item = RecordPart<'_>> {
    let mut cursor = Cursor { bytes: body, position: 0 };
    std::iter::from_fn(move || {
        while !cursor.is_at_end() {
            match cursor.tag().ok()? {
                (KEY, WIRE_BYTES) => return Some(RecordPart::Key(cursor.field().ok()?.rest())),
                (HEADERS, WIRE_BYTES) => return header(cursor.field().ok()?),
                (_, wire) => cursor.skip_unknown(wire).ok()?,
            }
        }
        None
    })
}

/// Each record of a checked set as a message of its own, and where it ends in the set.
pub fn bodies_with_ends(set: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut cursor = Cursor { bytes: set, position: 0 };
    std::iter::from_fn(move || next_record(&mut cursor).ok().map(|body| (body.rest(), cursor.position)))
}

fn header(mut fields: Cursor<'_>) -> Option<RecordPart<'_>> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    while !fields.is_at_end() {
        match fields.tag().ok()? {
            (1, WIRE_BYTES) => name = fields.field().ok()?.rest(),
            (2, WIRE_BYTES) => value = fields.field().ok()?.rest(),
            (_, wire) => fields.skip_unknown(wire).ok()?,
        }
    }
    Some(RecordPart::Header { name, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::record_set::encode_record;

    #[test]
    fn parts_are_found_and_bytes_that_are_none_end_them() {
        let mut set = bytes::BytesMut::new();
        let headers = [("h", b"1".as_slice()), ("", b""), ("h", b"2")];
        encode_record(&mut set, Some(b"k"), Some(b"value"), headers.into_iter(), Some(-7));
        let first = set.len();
        encode_record(&mut set, None, None, std::iter::empty(), None);
        let found: Vec<_> = bodies_with_ends(&set).collect();
        assert_eq!(found.iter().map(|(_, end)| *end).collect::<Vec<_>>(), [first, set.len()]);
        let header = |name: &'static str, value: &'static str| RecordPart::Header {
            name: name.as_bytes(),
            value: value.as_bytes(),
        };
        let expected = [RecordPart::Key(b"k"), header("h", "1"), header("", ""), header("h", "2")];
        assert_eq!(parts(found[0].0).collect::<Vec<_>>(), expected);
        assert_eq!(parts(found[1].0).count(), 0);
        let body = found[0].0;
        for end in 0..body.len() {
            assert!(parts(&body[..end]).count() <= expected.len(), "a body that is cut has no more parts");
        }
    }
}

//! The records of a checked set as compaction sees them: key, tombstone or not, time, and where each ends.

use super::{Cursor, KEY, TIMESTAMP, VALUE, WIRE_BYTES, WIRE_VARINT, next_record};
use crate::types::TimestampMs;

/// What compaction must know of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordOutline<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Whether it has no value.
    pub is_tombstone: bool,
    /// As the producer gave it.
    pub timestamp: Option<TimestampMs>,
    /// Where it ends in the set.
    pub end: usize,
}

/// The records of a checked set, as far as compaction looks at them.
pub fn outlines(set: &[u8]) -> impl Iterator<Item = RecordOutline<'_>> {
    let mut cursor = Cursor { bytes: set, position: 0 };
    std::iter::from_fn(move || {
        let mut body = next_record(&mut cursor).ok()?;
        let mut outline = RecordOutline { key: None, is_tombstone: true, timestamp: None, end: cursor.position };
        while !body.is_at_end() {
            match body.tag().ok()? {
                (KEY, WIRE_BYTES) => outline.key = Some(body.field().ok()?.rest()),
                (VALUE, WIRE_BYTES) => {
                    body.field().ok()?;
                    outline.is_tombstone = false;
                }
                (TIMESTAMP, WIRE_VARINT) => outline.timestamp = Some(body.varint().ok()?.cast_signed()),
                (_, wire) => body.skip_unknown(wire).ok()?,
            }
        }
        Some(outline)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::record_set::encode_record;

    #[test]
    fn records_are_outlined_and_bytes_that_are_none_end_them() {
        let mut set = bytes::BytesMut::new();
        encode_record(&mut set, Some(b"k"), Some(b""), [("h", b"v".as_slice())].into_iter(), Some(-7));
        let first = set.len();
        encode_record(&mut set, Some(b""), None, std::iter::empty(), None);
        let second = set.len();
        encode_record(&mut set, None, Some(b"v"), std::iter::empty(), None);
        let outline = |key, is_tombstone, timestamp, end| RecordOutline { key, is_tombstone, timestamp, end };
        let expected = [
            outline(Some(b"k".as_slice()), false, Some(-7), first),
            outline(Some(b""), true, None, second),
            outline(None, false, None, set.len()),
        ];
        assert_eq!(outlines(&set).collect::<Vec<_>>(), expected);
        assert_eq!(outlines(&set[..set.len() - 1]).count(), 2);
    }
}

//! What becomes of a line: which part is the key, and whether it has a value.

use crate::client::NewRecord;
use memchr::memmem::Finder;

/// How to make records of lines.
#[derive(Debug)]
pub(super) struct RecordPlan<'a> {
    /// Lines are JSON; all else below is then unused.
    pub(super) json: bool,
    pub(super) keep_partition: bool,
    pub(super) message_id_header: Option<&'a str>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) key_separator: Option<Finder<'a>>,
    pub(super) null_value: Option<&'a [u8]>,
    pub(super) headers: Vec<(&'a str, &'a [u8])>,
}

impl RecordPlan<'_> {
    /// The record of a line, borrowed from it.
    pub(super) fn record<'r>(&'r self, line: &'r [u8]) -> NewRecord<'r> {
        let (key, value) = match &self.key_separator {
            None => (self.key, line),
            Some(separator) => match separator.find(line) {
                Some(at) => (Some(&line[..at]), &line[at + separator.needle().len()..]),
                None => (None, line),
            },
        };
        let value = (self.null_value != Some(value)).then_some(value);
        NewRecord { key, value, headers: &self.headers, ..NewRecord::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> RecordPlan<'static> {
        RecordPlan {
            json: false,
            keep_partition: false,
            message_id_header: None,
            key: None,
            key_separator: None,
            null_value: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_line_is_cut_at_the_first_separator() {
        let plan = RecordPlan { key_separator: Some(Finder::new("::")), ..plan() };
        for (line, key, value) in
            [("k::v", Some("k"), "v"), ("a::b::c", Some("a"), "b::c"), ("::v", Some(""), "v"), ("plain", None, "plain")]
        {
            let record = plan.record(line.as_bytes());
            assert_eq!((record.key, record.value), (key.map(str::as_bytes), Some(value.as_bytes())), "{line}");
        }
    }

    #[test]
    fn the_null_text_is_no_value_and_empty_is_one() {
        let plan = RecordPlan { key: Some(b"k"), null_value: Some(b"NULL"), ..plan() };
        assert_eq!(plan.record(b"NULL").value, None);
        assert_eq!(plan.record(b"").value, Some(b"".as_slice()));
        assert_eq!(plan.record(b"NULLs").value, Some(b"NULLs".as_slice()));
        assert_eq!(plan.record(b"x").key, Some(b"k".as_slice()));
    }
}

//! The `-f` format: text with places for the parts of a record, as in kcat.

use crate::client::ConsumedRecord;
use std::io::{self, Write};

/// A format, ready to be written many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Time,
    ValueBytes,
    KeyBytes,
}

/// A format that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} in the format means nothing; there are %t %p %o %k %s %h %T %S %K %% and \\n \\t \\r \\0 \\\\ \\xHH")]
pub(super) struct FormatError(String);

impl Template {
    /// Reads a format.
    pub(super) fn parse(text: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                '%' => {
                    let Some(piece) = directive(chars.next())? else {
                        literal.push(b'%');
                        continue;
                    };
                    piece
                }
                '\\' => {
                    literal.push(escape(&mut chars)?);
                    continue;
                }
                _ => {
                    literal.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// Writes a record. An absent key or value is nothing, with the length -1.
    pub(super) fn write(&self, out: &mut impl Write, record: &ConsumedRecord) -> io::Result<()> {
        let length = |bytes: Option<usize>| bytes.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.write_all(text)?,
                Piece::Topic => out.write_all(record.partition.topic.as_str().as_bytes())?,
                Piece::Partition => write!(out, "{}", record.partition.partition)?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Key => out.write_all(record.key.as_deref().unwrap_or_default())?,
                Piece::Value => out.write_all(record.value.as_deref().unwrap_or_default())?,
                Piece::Headers => write_headers(out, record)?,
                Piece::Time => write!(out, "{}", record.timestamp.unwrap_or(record.append_time))?,
                Piece::ValueBytes => out.write_all(length(record.value.as_ref().map(bytes::Bytes::len)).as_bytes())?,
                Piece::KeyBytes => out.write_all(length(record.key.as_ref().map(bytes::Bytes::len)).as_bytes())?,
            }
        }
        Ok(())
    }
}

fn write_headers(out: &mut impl Write, record: &ConsumedRecord) -> io::Result<()> {
    for (index, (name, value)) in record.headers.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(name.as_bytes())?;
        out.write_all(b"=")?;
        out.write_all(value)?;
    }
    Ok(())
}

/// What stands after a percent sign; `None` is the sign itself.
fn directive(c: Option<char>) -> Result<Option<Piece>, FormatError> {
    Ok(Some(match c {
        Some('%') => return Ok(None),
        Some('t') => Piece::Topic,
        Some('p') => Piece::Partition,
        Some('o') => Piece::Offset,
        Some('k') => Piece::Key,
        Some('s') => Piece::Value,
        Some('h') => Piece::Headers,
        Some('T') => Piece::Time,
        Some('S') => Piece::ValueBytes,
        Some('K') => Piece::KeyBytes,
        other => return Err(FormatError(format!("%{}", other.map(String::from).unwrap_or_default()))),
    }))
}

/// What stands after a backslash.
fn escape(chars: &mut std::str::Chars<'_>) -> Result<u8, FormatError> {
    match chars.next() {
        Some('n') => Ok(b'\n'),
        Some('t') => Ok(b'\t'),
        Some('r') => Ok(b'\r'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits: String = chars.by_ref().take(2).collect();
            let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2);
            byte.ok_or_else(|| FormatError(format!("\\x{digits}")))
        }
        other => Err(FormatError(format!("\\{}", other.map(String::from).unwrap_or_default()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Offset, TopicName, TopicPartition};

    fn written(format: &str, value: Option<&'static str>) -> String {
        let record = ConsumedRecord {
            partition: TopicPartition { topic: TopicName::new("orders").expect("valid"), partition: 3 },
            offset: Offset(7),
            key: Some("k".into()),
            value: value.map(Into::into),
            headers: vec![("a".to_owned(), "1".into()), ("b".to_owned(), "2".into())],
            timestamp: None,
            message_id: None,
            append_time: 99,
        };
        let mut out = Vec::new();
        Template::parse(format).expect("a valid format").write(&mut out, &record).expect("memory can be written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_part_has_its_letter() {
        assert_eq!(
            written("%t/%p@%o %k=%s (%h) %T %S %K %%\\t\\x41\\\\\u{e9}\\n", Some("value")),
            "orders/3@7 k=value (a=1,b=2) 99 5 1 %\tA\\\u{e9}\n"
        );
        assert_eq!(written("[%s] %S", None), "[] -1");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for format in ["%", "%z", "\\", "\\q", "\\x4", "\\xgg"] {
            assert!(Template::parse(format).is_err(), "{format}");
        }
    }
}

//! Filters: any text is one or is refused with a place in it, and what one says of a record is what the decoded record says.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use millstream::filter::{Expression, Filter, Subject};
use millstream::types::record_set::{self, Record};
use millstream_fuzz::bounded;

fuzz_target!(|input: (&str, &[u8], Option<&[u8]>, Vec<(&str, &[u8])>)| {
    let (text, bytes, key, headers) = input;
    // A token of the text is a struct of about 40 bytes, an expression of a few characters one of about 60.
    let read = bounded(256 * text.len() + 4096, || Filter::new(text));
    let filter = match read {
        Ok(filter) => filter,
        Err(error) => {
            assert!(error.position().is_none_or(|at| (1..=text.chars().count() + 1).contains(&at)), "{error}");
            return;
        }
    };
    let printed = filter.expression().to_string();
    // Names and escapes may be longer in their one written form, and then too long for a filter.
    if printed.len() <= millstream::limits::FILTER_BYTES_MAX {
        assert_eq!(Filter::new(&printed).as_ref(), Ok(&filter), "{printed}");
    }
    bounded(0, || filter.matches(bytes));

    let record = body(key, &headers);
    // A name may be longer than a broker takes.
    let Some(decoded) = record_set::record_of_body(&record) else { return };
    assert_eq!(bounded(0, || filter.matches(&record)), holds(filter.expression(), &decoded), "{text}");
});

fn body(key: Option<&[u8]>, headers: &[(&str, &[u8])]) -> Bytes {
    let mut set = BytesMut::new();
    record_set::encode_record(&mut set, key, None, headers.iter().copied(), None);
    record_set::keyed_bodies(&set.freeze()).next().expect("one was encoded").1
}

/// The meaning of an expression, the slow and plain way.
fn holds(expression: &Expression, record: &Record) -> bool {
    match expression {
        Expression::Term { subject: Subject::Key, condition } => {
            record.key.as_ref().is_some_and(|key| condition.is_met_by(key))
        }
        Expression::Term { subject: Subject::Header(name), condition } => {
            record.headers.iter().any(|(found, value)| found == name && condition.is_met_by(value))
        }
        Expression::Not(negated) => !holds(negated, record),
        Expression::All(parts) => parts.iter().all(|part| holds(part, record)),
        Expression::Any(parts) => parts.iter().any(|part| holds(part, record)),
    }
}

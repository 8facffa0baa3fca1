//! What filters mean, what they refuse and where, and that printing, reading and two ways of evaluating agree.

use super::*;
use crate::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_TERMS_MAX};
use crate::types::record_set::{self, Record};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

/// A record with this key and these headers, as a message of its own.
fn body(key: Option<&str>, headers: &[(&str, &str)]) -> Bytes {
    let mut set = BytesMut::new();
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    record_set::encode_record(&mut set, key.map(str::as_bytes), Some(b"value"), headers, None);
    record_set::keyed_bodies(&set.freeze()).next().expect("one was encoded").1
}

#[track_caller]
fn filter(text: &str) -> Filter {
    Filter::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn comparisons_mean_what_they_say() {
    let record = body(Some("user-7"), &[("lang", "en"), ("lang", "fr"), ("", "nameless"), ("iana.org/x", "\u{e9}t")]);
    for (text, expected) in [
        (r#"attributes.lang = "en""#, true),
        (r#"headers.lang = "fr""#, true),
        (r#"attributes.lang = "e""#, false),
        (r#"attributes.lang != "en""#, false),
        (r#"attributes.lang != "de""#, true),
        (r#"attributes.missing != "x""#, true),
        (r#"attributes.missing = """#, false),
        ("attributes:lang", true),
        ("headers:missing", false),
        ("exists(attributes.lang)", true),
        ("exists(attributes.missing)", false),
        (r#"hasPrefix(attributes.lang, "f")"#, true),
        (r#"hasPrefix(attributes.lang, "")"#, true),
        (r#"hasPrefix(attributes.missing, "")"#, false),
        (r#"attributes."" = "nameless""#, true),
        (r#"attributes:"iana.org/x""#, true),
        (r#"attributes."iana.org/x" = "\u00e9t""#, true),
        (r#"attributes."iana.org/x" = "\xe9t""#, true),
        (r#"attributes."iana.org/x" = "\351t""#, true),
        (r#"key = "user-7""#, true),
        (r#"key != "user-7""#, false),
        ("exists(key)", true),
        (r#"hasPrefix(key, "user-")"#, true),
        (r#"hasPrefix(key, "user-77")"#, false),
    ] {
        assert_eq!(filter(text).matches(&record), expected, "{text}");
    }
    let keyless = body(None, &[]);
    for (text, expected) in [("exists(key)", false), (r#"key = """#, false), (r#"key != """#, true)] {
        assert_eq!(filter(text).matches(&keyless), expected, "{text}");
    }
}

#[test]
fn not_binds_closest_then_and_then_or() {
    for (text, written_out) in [
        ("attributes:a OR attributes:b AND attributes:c", "attributes:a OR (attributes:b AND attributes:c)"),
        ("NOT attributes:a AND attributes:b", "(NOT attributes:a) AND attributes:b"),
        ("-attributes:a OR - attributes:b", "(NOT attributes:a) OR (NOT attributes:b)"),
        (r#"NOT attributes.a != "x""#, r#"NOT NOT attributes.a = "x""#),
        (" ( attributes : a ) ", "attributes:a"),
        (r#"headers.a-b = "x" AND headers:not"#, r#"attributes."a-b" = "x" AND attributes:"not""#),
    ] {
        assert_eq!(filter(text).expression(), filter(written_out).expression(), "{text}");
        assert_eq!(filter(text), filter(written_out), "filters are equal by what they say");
    }
    assert_ne!(filter("attributes:a AND attributes:b"), filter("attributes:b AND attributes:a"));
}

#[test]
fn a_name_may_be_a_word_of_the_language() {
    let record = body(None, &[("NOT", "1"), ("key", "2"), ("attributes", "3"), ("7-", "4")]);
    let text = r#"attributes:NOT AND attributes.key = "2" AND headers.attributes = "3" AND attributes.7- = "4""#;
    assert!(filter(text).matches(&record));
}

#[test]
fn what_is_no_filter_is_refused_with_its_place() {
    for (text, position, word) in [
        ("", 1, "found the end"),
        ("attributes.a = v", 16, "expected a text in double quotes, found v"),
        (r#"attributes.a "v""#, 14, "expected = or !="),
        (r#"attributes.a == "v""#, 15, "found ="),
        (r#"attributes.a = "v" attributes:b"#, 20, "expected AND, OR or the end, found attributes"),
        (r#"attributes.a = "v" and attributes:b"#, 20, "found and"),
        (r#"attributes.a = "v"#, 16, "no closing quote"),
        (r#"attributes.a = "\q""#, 17, "backslash"),
        (r#"attributes.a = "\ud800""#, 17, "backslash"),
        (r#"attributes.a = "\U00110000""#, 17, "backslash"),
        (r#"attributes.a = "\x4"#, 17, "backslash"),
        ("(attributes:a", 14, "expected AND, OR or )"),
        ("attributes:a)", 13, "found )"),
        ("attributes", 11, ". or :"),
        ("attributes.", 12, "a name"),
        ("exists(lang)", 8, "key, attributes.NAME"),
        ("hasPrefix(key)", 14, "a comma"),
        ("attributes:\u{e9}", 12, "found \u{e9}"),
        ("attributes:a ! attributes:b", 14, "!="),
        ("data.x = \"y\"", 1, "a comparison"),
    ] {
        let error = Filter::new(text).expect_err(text);
        assert_eq!(error.position(), Some(position), "{text}: {error}");
        assert!(error.to_string().contains(word), "{text}: {error}");
    }
}

#[test]
fn bounds_hold() {
    let too_long = format!("attributes:\"{}\"", "x".repeat(FILTER_BYTES_MAX));
    assert!(matches!(Filter::new(&too_long), Err(FilterError::TooLong { bytes }) if bytes == too_long.len()));

    let terms = |count: usize| vec!["attributes:a"; count].join(" OR ");
    let record = body(None, &[("b", "1")]);
    let most = filter(&format!("{} OR attributes:b", terms(FILTER_TERMS_MAX - 1)));
    assert!(most.matches(&record), "the last bit counts");
    assert!(matches!(Filter::new(&terms(FILTER_TERMS_MAX + 1)), Err(FilterError::TooManyTerms { .. })));

    let deep = |depth: usize| format!("{}attributes:a{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(filter(&deep(FILTER_DEPTH_MAX)), filter("attributes:a"));
    assert_eq!(Filter::new(&deep(FILTER_DEPTH_MAX + 1)), Err(FilterError::TooDeep { position: FILTER_DEPTH_MAX + 1 }));
    assert!(matches!(Filter::new(&"-".repeat(1_000)), Err(FilterError::TooDeep { .. })));
}

/// Found by fuzzing: `!=` was printed with NOT, one level deeper than it was written.
#[test]
fn the_deepest_filter_is_not_too_deep_when_it_is_printed() {
    let deepest = filter(&format!("{}attributes.a != \"x\"", "-".repeat(FILTER_DEPTH_MAX)));
    assert_eq!(filter(&deepest.expression().to_string()), deepest);
}

#[test]
fn a_filter_is_kept_as_its_text() {
    let kept = serde_json::to_string(&filter("headers:a")).expect("it is a string");
    assert_eq!(kept, "\"headers:a\"");
    assert_eq!(serde_json::from_str::<Filter>(&kept).expect("it is a filter"), filter("attributes:a"));
    assert!(serde_json::from_str::<Filter>("\"headers\"").is_err());
}

fn any_text() -> impl Strategy<Value = String> {
    // Few, so that records and filters meet; and everything that needs quotes or escapes.
    prop_oneof![Just(String::new()), "[ab]{1,2}", "[a\\\\\"'\n\u{1}\u{e9}\u{1f600}. -]{0,4}", any::<String>()]
}

fn any_expression() -> impl Strategy<Value = Expression> {
    let subject = prop_oneof![Just(Subject::Key), any_text().prop_map(Subject::Header)];
    let condition = prop_oneof![
        Just(Condition::Exists),
        any_text().prop_map(Condition::Equals),
        any_text().prop_map(Condition::HasPrefix)
    ];
    let term = (subject, condition).prop_map(|(subject, condition)| Expression::Term { subject, condition });
    term.prop_recursive(5, 24, 3, |inner| {
        let parts = || proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.clone().prop_map(|negated| Expression::Not(Box::new(negated))),
            parts().prop_map(Expression::All),
            parts().prop_map(Expression::Any),
        ]
    })
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

proptest! {
    #[test]
    fn what_is_printed_is_read_back(expression in any_expression()) {
        let text = expression.to_string();
        prop_assume!(text.len() <= FILTER_BYTES_MAX);
        let read = parser::parse(&text);
        prop_assert_eq!(read.as_ref(), Ok(&expression), "{}", text);
    }

    #[test]
    fn the_program_and_the_expression_agree(
        expression in any_expression(),
        key in proptest::option::of(any_text()),
        headers in proptest::collection::vec((any_text(), any_text()), 0..5),
    ) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let record = body(key.as_deref(), &headers);
        let decoded = record_set::record_of_body(&record).expect("it was just encoded");
        prop_assert_eq!(Program::of(&expression).matches(&record), holds(&expression, &decoded));
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_place_in_it(text in "[a-z\"().,:=!\\\\ -]{0,40}|\\PC{0,40}") {
        match Filter::new(&text) {
            Ok(filter) => {
                let read = parser::parse(&filter.expression().to_string());
                prop_assert_eq!(read.as_ref(), Ok(filter.expression()));
            }
            Err(error) => prop_assert!(error.position().is_none_or(|at| (1..=text.chars().count() + 1).contains(&at))),
        }
    }

    #[test]
    fn any_bytes_match_or_do_not(expression in any_expression(), bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Program::of(&expression).matches(&bytes);
    }
}

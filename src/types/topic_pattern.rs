//! Patterns that stand for many topics, those to come among them.
//!
//! `*` is any number of characters, `?` is one; all else is itself. The broker's own topics (`__...`) match no pattern:
//! nobody should read them without having named them. `docs/decisions/0015-topic-patterns-are-wildcards.md` says why no
//! regular expressions.

use super::topic::{NAME_BYTES_MAX, TopicName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use wildmatch::WildMatch;

/// A valid pattern: 1 to [`NAME_BYTES_MAX`] characters of topic names, `*` and `?`. Cheap to clone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicPattern {
    text: Arc<str>,
    matcher: Arc<WildMatch>,
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty, or longer than any name.
    #[error("the topic pattern has {0} bytes; 1 to {NAME_BYTES_MAX} are allowed")]
    Length(usize),
    /// A character that no name has.
    #[error(
        "the topic pattern {pattern:?} contains {found:?}, which no topic name does; * stands for any characters, ? for one"
    )]
    Character {
        /// The pattern as given.
        pattern: String,
        /// Its first character that is not allowed.
        found: char,
    },
}

impl TopicPattern {
    /// Checks a pattern and takes it.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if !(1..=NAME_BYTES_MAX).contains(&text.len()) {
            return Err(PatternError::Length(text.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '?');
        if let Some(found) = text.chars().find(|c| !allowed(*c)) {
            return Err(PatternError::Character { pattern: text.to_owned(), found });
        }
        Ok(Self { text: text.into(), matcher: Arc::new(WildMatch::new(text)) })
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it stands for this topic.
    pub fn matches(&self, topic: &TopicName) -> bool {
        !topic.is_internal() && self.matcher.matches(topic.as_str())
    }
}

impl TryFrom<String> for TopicPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::new(&text)
    }
}

impl From<TopicPattern> for String {
    fn from(pattern: TopicPattern) -> Self {
        pattern.text.as_ref().to_owned()
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicPattern {}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        TopicPattern::new(pattern).expect("valid").matches(&TopicName::new(topic).expect("valid"))
    }

    #[test]
    fn a_pattern_stands_for_the_whole_name() {
        for (pattern, topic, expected) in [
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders.", true),
            ("orders.*", "orders", false),
            ("orders.*", "my.orders.eu", false),
            ("*.eu", "orders.eu", true),
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("orders-?", "orders-1", true),
            ("orders-?", "orders-12", false),
            ("a.b", "aXb", false),
            ("*", "anything", true),
            ("*", "__groups", false),
            ("__groups", "__groups", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    /// A matcher that tries every way takes longer than anybody waits here.
    #[test]
    fn many_stars_take_no_longer() {
        let pattern = "*a".repeat(100) + "b";
        assert!(!matches(&pattern, &"a".repeat(NAME_BYTES_MAX)));
    }

    #[test]
    fn what_no_name_matches_is_refused() {
        assert_eq!(TopicPattern::new(""), Err(PatternError::Length(0)));
        assert_eq!(TopicPattern::new(&"*".repeat(250)), Err(PatternError::Length(250)));
        for text in ["orders/*", "[a-z]", "{a,b}", "a b", "\u{e4}"] {
            assert!(matches!(TopicPattern::new(text), Err(PatternError::Character { .. })), "{text}");
        }
    }
}

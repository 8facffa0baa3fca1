//! Names and identities of topics.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest name of a topic or group, in bytes. As in Kafka, so that names carry over.
pub const NAME_BYTES_MAX: usize = 249;

/// A valid topic name: 1 to 249 characters of `[A-Za-z0-9._-]`, not `.` or `..`.
///
/// Cheap to clone. Names never become paths: directories are named by [`TopicId`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

/// Why a name was refused. Says what is wrong with it and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("the name is empty; it must have 1 to {NAME_BYTES_MAX} characters of A-Z a-z 0-9 . _ -")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("the name has {0} bytes; at most {NAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A character outside the allowed set.
    #[error("the name {name:?} contains {found:?}; only A-Z a-z 0-9 . _ - are allowed")]
    Character {
        /// The name as given.
        name: String,
        /// Its first character that is not allowed.
        found: char,
    },
    /// `.` or `..`.
    #[error("the name {0:?} is reserved; choose one that is not only dots")]
    Dots(String),
}

/// Checks a name by the rule that topics and consumer groups share.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(found) = name.chars().find(|c| !allowed(*c)) {
        return Err(NameError::Character { name: name.to_owned(), found });
    }
    if name == "." || name == ".." {
        return Err(NameError::Dots(name.to_owned()));
    }
    Ok(())
}

impl TopicName {
    /// Checks `name` and takes it.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check_name(name).map(|()| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the topic is the broker's own: its name begins with `__`.
    pub fn is_internal(&self) -> bool {
        self.0.starts_with("__")
    }
}

impl TryFrom<String> for TopicName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a topic: a random UUID, never used again. A topic deleted and created anew has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub uuid::Uuid);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic, by name. Partitions are numbered from 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// Its partition, 0-based.
    pub partition: u32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_are_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", "a\0b", "\u{e4}", "a b", &"x".repeat(250)] {
            assert!(TopicName::new(name).is_err(), "{name:?} was accepted");
        }
        for name in ["a", "A.b_c-9", "...", "__groups", &"x".repeat(249)] {
            assert!(TopicName::new(name).is_ok(), "{name:?} was refused");
        }
    }
}

//! Filters: which records a reader or a queue wants, by their keys and headers.
//!
//! ```text
//! text -> tokens -> parser -> expression (a value, printed back in one form) -> program: one walk over a record's bytes
//! ```
//!
//! The language holds that of Google Pub/Sub, so that its filters work as they are:
//!
//! | written | matches a record |
//! |---|---|
//! | `attributes.name = "v"` | that has a header of that name with exactly this value |
//! | `attributes.name != "v"` | that has none: `NOT attributes.name = "v"` |
//! | `attributes:name`, `exists(attributes.name)` | that has a header of that name |
//! | `hasPrefix(attributes.name, "p")` | that has one whose value begins so |
//! | `key = "v"`, `key != "v"`, `exists(key)`, `hasPrefix(key, "p")` | by its key in the same ways |
//! | `NOT a`, `-a`, `a AND b`, `a OR b`, `(a)` | NOT binds closest, then AND, then OR |
//!
//! `headers` is another word for `attributes`. A header that is there several times matches if any of them does. Values
//! are bytes, compared with the UTF-8 of the text. Everything is total and bounded ([`crate::limits::FILTER_BYTES_MAX`]).
//! Deliberately unknown here: values of records, time, and what is done with records that do not match.

mod error;
mod expression;
mod parser;
mod program;
mod tokens;

pub use error::FilterError;
pub use expression::{Condition, Expression, Subject};

use program::Program;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A filter that was understood. Cheap to clone. Two are equal if they say the same, however they are written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter {
    understood: Arc<Understood>,
}

struct Understood {
    text: String,
    expression: Expression,
    program: Program,
}

impl Filter {
    /// Reads a filter.
    pub fn new(text: &str) -> Result<Self, FilterError> {
        let expression = parser::parse(text)?;
        let program = Program::of(&expression);
        Ok(Self { understood: Arc::new(Understood { text: text.to_owned(), expression, program }) })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.understood.text
    }

    /// What it says.
    pub fn expression(&self) -> &Expression {
        &self.understood.expression
    }

    /// Whether an encoded record (a message of its own, without tag and length) matches. Walks over its fields once and
    /// allocates nothing.
    pub fn matches(&self, record: &[u8]) -> bool {
        self.understood.program.matches(record)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.understood.expression == other.understood.expression
    }
}

impl Eq for Filter {}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.as_str()).finish()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Filter {
    type Error = FilterError;

    fn try_from(text: String) -> Result<Self, FilterError> {
        Self::new(&text)
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.as_str().to_owned()
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;

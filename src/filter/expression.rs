//! A filter as a value, and its one written form: reading what was printed gives the same value.

use std::fmt::{self, Write as _};

/// What a filter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// One comparison.
    Term {
        /// Of what.
        subject: Subject,
        /// With what.
        condition: Condition,
    },
    /// The opposite.
    Not(Box<Expression>),
    /// Every one of two or more.
    All(Vec<Expression>),
    /// At least one of two or more.
    Any(Vec<Expression>),
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The key of a record. A record without one matches nothing.
    Key,
    /// Each header of this name; one that matches is enough.
    Header(String),
}

/// What it is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It is there.
    Exists,
    /// It is these bytes.
    Equals(String),
    /// It begins with these bytes.
    HasPrefix(String),
}

impl Condition {
    /// Whether these bytes, which are there, meet it.
    pub fn is_met_by(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Exists => true,
            Self::Equals(text) => bytes == text.as_bytes(),
            Self::HasPrefix(prefix) => bytes.starts_with(prefix.as_bytes()),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Term { subject, condition: Condition::Exists } => match subject {
                Subject::Key => f.write_str("exists(key)"),
                Subject::Header(name) => write!(f, "attributes:{}", Name(name)),
            },
            Self::Term { subject, condition: Condition::Equals(text) } => write!(f, "{subject} = {}", Quoted(text)),
            Self::Term { subject, condition: Condition::HasPrefix(prefix) } => {
                write!(f, "hasPrefix({subject}, {})", Quoted(prefix))
            }
            Self::Not(negated) => match &**negated {
                // With NOT it would be one level deeper than it may have been written, and too deep to be read.
                Self::Term { subject, condition: Condition::Equals(text) } => {
                    write!(f, "{subject} != {}", Quoted(text))
                }
                inner => {
                    f.write_str("NOT ")?;
                    inner.fmt_inside(f, |inner| matches!(inner, Self::All(_) | Self::Any(_)))
                }
            },
            Self::All(parts) => fmt_joined(f, parts, " AND ", |part| matches!(part, Self::All(_) | Self::Any(_))),
            Self::Any(parts) => fmt_joined(f, parts, " OR ", |part| matches!(part, Self::Any(_))),
        }
    }
}

impl Expression {
    fn fmt_inside(&self, f: &mut fmt::Formatter<'_>, needs_parentheses: impl Fn(&Self) -> bool) -> fmt::Result {
        if needs_parentheses(self) { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}

fn fmt_joined(
    f: &mut fmt::Formatter<'_>,
    parts: &[Expression],
    joint: &str,
    needs_parentheses: impl Fn(&Expression) -> bool,
) -> fmt::Result {
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            f.write_str(joint)?;
        }
        part.fmt_inside(f, &needs_parentheses)?;
    }
    Ok(())
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("key"),
            Self::Header(name) => write!(f, "attributes.{}", Name(name)),
        }
    }
}

/// A name, in quotes if it needs them.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain =
            self.0.starts_with(super::tokens::begins_a_word) && self.0.chars().all(super::tokens::is_in_a_word);
        if is_plain { f.write_str(self.0) } else { write!(f, "{}", Quoted(self.0)) }
    }
}

/// A text in quotes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\U{:08x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

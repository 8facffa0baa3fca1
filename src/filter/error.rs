//! Why a text is no filter: where, what was expected, what stands there.

use crate::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_TERMS_MAX};

/// A text that is no filter. Positions are characters, from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It is longer than any filter may be.
    #[error("the filter has {bytes} bytes; at most {FILTER_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Something else should stand there.
    #[error("the filter is wrong at character {position}: expected {expected}, found {found}")]
    Unexpected {
        /// Where.
        position: usize,
        /// What could stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A text in quotes that is none.
    #[error("the filter is wrong at character {position}: {what}")]
    Text {
        /// Where.
        position: usize,
        /// What is wrong, and what is allowed.
        what: &'static str,
    },
    /// It compares more often than it may.
    #[error("the filter has more than {FILTER_TERMS_MAX} comparisons; the next one is at character {position}")]
    TooManyTerms {
        /// Of the first that is too many.
        position: usize,
    },
    /// Parentheses and NOT stand too deep inside each other.
    #[error(
        "the filter is nested deeper than {FILTER_DEPTH_MAX} levels of parentheses and NOT at character {position}"
    )]
    TooDeep {
        /// Where it goes too deep.
        position: usize,
    },
}

impl FilterError {
    /// Which character is wrong, from 1; `None` if it is the whole.
    pub fn position(&self) -> Option<usize> {
        match self {
            Self::TooLong { .. } => None,
            Self::Unexpected { position, .. }
            | Self::Text { position, .. }
            | Self::TooManyTerms { position }
            | Self::TooDeep { position } => Some(*position),
        }
    }
}

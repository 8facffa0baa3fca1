//! What groups, their members and their assignments are called.
//!
//! All three are values: cheap to clone, compare and carry in errors. A member's name is made from the generation in
//! which it joined; generations are durable and never used twice, so neither is the name of a member, and no
//! randomness is needed.

use crate::types::topic::{NameError, check_name};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A valid name of a consumer group; the rule is that of topic names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// Checks `name` and takes it.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check_name(name).map(|()| Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one member of one group, from its join to its leave. Whoever joins again is another member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(Arc<str>);

impl MemberId {
    /// The id as a client gave it. Any text is accepted: an id that names nobody is refused where it is used.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id of the member that joined in `generation`; every join advances the generation.
    pub(super) fn joined_in(generation: Generation) -> Self {
        Self(format!("member-{generation}").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Counts the changes of a group's assignment: every join, leave and change of partitions is the next one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    #[must_use]
    pub(super) fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 changes of assignment do not happen"))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

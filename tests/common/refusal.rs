//! A refusal as a client sees it, whichever way it came: a status that ended a call, or an error inside a reply.

use millstream::proto;
use std::collections::BTreeMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Everything a client is told about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) facts: BTreeMap<String, String>,
    pub(crate) message: String,
}

impl Refusal {
    /// One fact; empty if it is not there.
    pub(crate) fn fact(&self, name: &str) -> &str {
        self.facts.get(name).map_or("", String::as_str)
    }

    /// Code and reason, for one comparison.
    pub(crate) fn kind(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let (reason, facts) =
            status.get_details_error_info().map(|info| (info.reason, info.metadata)).unwrap_or_default();
        let (code, message) = (status.code(), status.message().to_owned());
        Self { code, reason, facts: facts.into_iter().collect(), message }
    }
}

impl From<proto::Error> for Refusal {
    fn from(error: proto::Error) -> Self {
        let (code, facts) = (Code::from(error.code), error.metadata.into_iter().collect());
        Self { code, reason: error.reason, facts, message: error.message }
    }
}

/// The refusal of a call that must fail.
pub(crate) fn refusal<T>(result: Result<T, Status>) -> Refusal {
    match result {
        Ok(_) => panic!("the call was not refused"),
        Err(status) => status.into(),
    }
}

//! How a command ends: its exit code, and one line that says what happened and what to do.
//!
//! Exit codes are a contract that scripts rely on: 0 done, 1 error, 2 wrong usage, 3 not found, 4 timeout or no data,
//! 5 done in part or problems found, 6 a request failed, 130 interrupted. A reader that goes away (a closed pipe) is not an
//! error: the command ends quietly.

use crate::client::ClientError;
use crate::inspect::InspectError;
use std::fmt;
use std::process::ExitCode;
use tonic::Code;

/// Why a command did not simply succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The arguments make no sense together, or one of them makes none.
    #[error("{0}")]
    Usage(String),
    /// The broker refused, or could not be reached.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// A file, standard input or standard output.
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    /// The input holds something that cannot be sent.
    #[error("line {line}: {what}")]
    Input { line: u64, what: String },
    /// What was asked for did not come in time.
    #[error("{0}")]
    NoData(String),
    /// A data directory could not be looked at.
    #[error("{0}")]
    Inspect(#[from] InspectError),
    /// It was looked at, and something is wrong. What it is has been printed.
    #[error("{0} problems were found")]
    ProblemsFound(u64),
    /// A benchmark gave no figures that could be believed.
    #[error("{0}")]
    Bench(String),
    /// Some of it was done. What was not is said in the words of the error inside.
    #[error("{done}; then: {rest}")]
    Partial { done: String, rest: Box<CliError> },
    /// The reply to a request says that the work has failed for good.
    #[error("the work has failed: {0}")]
    WorkFailed(String),
    /// Ctrl-C, or a signal to terminate.
    #[error("interrupted")]
    Interrupted,
    /// Whoever read our output has gone.
    #[error("the reader of the output has gone")]
    OutputClosed,
}

impl CliError {
    pub(super) fn usage(what: impl fmt::Display) -> Self {
        Self::Usage(what.to_string())
    }

    /// Output could not be written.
    pub(super) fn output(source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::Io { what: "cannot write the output".to_owned(), source }
    }

    /// The same, if part of the work was done before.
    pub(super) fn after(self, done: Option<String>) -> Self {
        match (self, done) {
            (error @ (Self::Interrupted | Self::OutputClosed), _) | (error, None) => error,
            (error, Some(done)) => Self::Partial { done, rest: Box::new(error) },
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Inspect(InspectError::NotALog { .. })
            | Self::Client(ClientError::BadAddress { .. } | ClientError::Name(_)) => 2,
            Self::Client(ClientError::TimedOut { .. }) | Self::NoData(_) => 4,
            Self::Inspect(InspectError::NoSuchTopic { .. } | InspectError::NoSuchPartition { .. })
            | Self::Client(ClientError::NoSuchPartition { .. }) => 3,
            Self::Client(ClientError::Refused(refusal)) => match refusal.code {
                Code::NotFound => 3,
                Code::DeadlineExceeded => 4,
                _ => 1,
            },
            Self::Inspect(_) | Self::Client(_) | Self::Io { .. } | Self::Input { .. } | Self::Bench(_) => 1,
            Self::Partial { .. } | Self::ProblemsFound(_) => 5,
            Self::WorkFailed(_) => 6,
            Self::Interrupted => 130,
            Self::OutputClosed => 0,
        }
    }

    /// What to do about it. A refusal says that itself: the broker knows best.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Client(ClientError::Unreachable { .. }) => {
                Some("start one with: millstream serve, or name another with --broker")
            }
            Self::Client(ClientError::ConnectionLost { .. }) => Some("is the broker still running?"),
            Self::Client(ClientError::TimedOut { .. }) => Some("the broker is busy or hangs; look at its log"),
            Self::Client(ClientError::BadAnswer { .. }) => {
                Some("is this a Millstream broker of this version? see: millstream version --server")
            }
            Self::Partial { rest, .. } => rest.advice(),
            _ => None,
        }
    }

    /// The line for standard error; `None` for an end that needs no words.
    fn line(&self) -> Option<String> {
        match self {
            Self::Interrupted | Self::OutputClosed | Self::ProblemsFound(_) => None,
            _ => Some(match self.advice() {
                Some(advice) => format!("millstream: {self}; {advice}"),
                None => format!("millstream: {self}"),
            }),
        }
    }
}

/// Says what there is to say on standard error, and turns the end of a command into its exit code.
pub(super) fn report(result: Result<(), CliError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(line) = error.line() {
                eprintln!("{line}");
            }
            ExitCode::from(error.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Refusal;
    use std::collections::BTreeMap;

    fn refused(code: Code, reason: &str) -> CliError {
        let refusal = Refusal {
            code,
            reason: reason.to_owned(),
            message: "there is no topic orders; create it".to_owned(),
            metadata: BTreeMap::new(),
            retryable: false,
            retry_after: None,
        };
        ClientError::Refused(Box::new(refusal)).into()
    }

    #[test]
    fn exit_codes_are_those_that_scripts_rely_on() {
        let io = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        for (error, code) in [
            (CliError::usage("no"), 2),
            (refused(Code::NotFound, "TOPIC_NOT_FOUND"), 3),
            (refused(Code::Internal, ""), 1),
            (CliError::NoData("nothing".to_owned()), 4),
            (CliError::usage("x").after(Some("1 record was sent".to_owned())), 5),
            (CliError::Interrupted.after(Some("1 record was sent".to_owned())), 130),
            (CliError::ProblemsFound(2), 5),
            (refused(Code::DeadlineExceeded, "REQUEST_TIMED_OUT"), 4),
            (CliError::WorkFailed("sold out".to_owned()), 6),
            (InspectError::NotALog { path: "x".into() }.into(), 2),
            (InspectError::NoSuchTopic { topic: "x".to_owned(), directory: "d".into() }.into(), 3),
            (CliError::output(io()), 0),
        ] {
            assert_eq!(error.code(), code, "{error:?}");
        }
    }

    #[test]
    fn a_message_is_one_line_that_says_what_to_do() {
        let line = refused(Code::NotFound, "TOPIC_NOT_FOUND").line().expect("there is something to say");
        assert_eq!(line, "millstream: there is no topic orders; create it");
        let unreachable = ClientError::Unreachable { address: "b:1".to_owned(), cause: "refused".to_owned() };
        let line = CliError::from(unreachable).line().expect("there is something to say");
        assert!(line.contains("start one with: millstream serve"), "{line}");
        assert_eq!(CliError::Interrupted.line(), None);
    }
}

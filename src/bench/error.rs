//! Why a run gave no figures.

use std::error::Error;

/// Why a benchmark failed. `E` is the error of the system under test.
#[derive(Debug, thiserror::Error)]
pub enum BenchError<E: Error> {
    /// The system refused, or went away: what was being done, and what it said.
    #[error("{doing}: {source}")]
    System {
        /// Such as "sending".
        doing: &'static str,
        /// What the system or its client said.
        source: E,
    },
    /// The system did not keep its promise. A figure of such a run would be worth nothing.
    #[error("{who}: {lost} records lost, {repeated} repeated or out of order, {foreign} not of this run")]
    Unfaithful {
        /// Which reader saw it.
        who: String,
        /// Sequence numbers that were passed over.
        lost: u64,
        /// Sequence numbers that came again, or late.
        repeated: u64,
        /// Records that nobody in this run sent.
        foreign: u64,
    },
    /// Records were acknowledged and did not come out again.
    #[error("{who}: {found} records, although {acked} were acknowledged")]
    Miscounted {
        /// Which reader, or the topic itself.
        who: String,
        /// How many were acknowledged.
        acked: u64,
        /// How many there are.
        found: u64,
    },
    /// It was told to stop before there was anything to show.
    #[error("stopped {0}")]
    Stopped(&'static str),
    /// There is no figure to show.
    #[error("nothing was measured: {0}")]
    NothingMeasured(&'static str),
    /// A task of the benchmark itself broke.
    #[error("a task of the benchmark broke: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The system's timer cannot be had.
    #[error("cannot make a timer: {0}")]
    Timer(#[source] std::io::Error),
}

impl<E: Error> BenchError<E> {
    /// For `map_err`: an error of the system under test, and what was being done.
    pub fn system(doing: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::System { doing, source }
    }
}

/// Why a broker of our own did not start.
#[derive(Debug, thiserror::Error)]
pub enum OwnBrokerError {
    /// The program could not be run.
    #[error("cannot start a broker: {0}")]
    Start(#[source] std::io::Error),
    /// It ended, or said nothing, instead of serving.
    #[error("the broker did not start: {0}")]
    Refused(String),
    /// No temporary directory.
    #[error("cannot make a directory for the broker below {}: {source}", parent.display())]
    Directory {
        /// Where it was to be.
        parent: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

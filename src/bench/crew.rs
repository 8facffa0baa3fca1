//! The senders and readers of a run, and the waiting for them.
//!
//! An error of any of them ends the run at once: what the others would still measure is of no use.

use super::error::BenchError;
use super::reading::Read;
use super::sending::Sent;
use super::stage::{Phase, Span, Stage};
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use tokio::task::JoinSet;

/// What a task of the crew came back with.
#[derive(Debug)]
enum Done {
    Sent(u32, Sent),
    Read(Role, Read),
}

/// What a reader is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Follows the end of the topic.
    Tail,
    /// Reads what was there before.
    Backlog,
}

/// All tasks of a run. Dropped, they end.
#[derive(Debug)]
pub(super) struct Crew<E: Error> {
    stage: Arc<Stage>,
    tasks: JoinSet<Result<Done, BenchError<E>>>,
    senders: usize,
    sent: Vec<(u32, Sent)>,
    read: Vec<(Role, Read)>,
}

impl<E: Error + Send + Sync + 'static> Crew<E> {
    pub(super) fn new(stage: &Arc<Stage>) -> Self {
        Self { stage: Arc::clone(stage), tasks: JoinSet::new(), senders: 0, sent: Vec::new(), read: Vec::new() }
    }

    pub(super) fn sender(
        &mut self,
        number: u32,
        task: impl Future<Output = Result<Sent, BenchError<E>>> + Send + 'static,
    ) {
        self.senders += 1;
        self.tasks.spawn(async move { Ok(Done::Sent(number, task.await?)) });
    }

    pub(super) fn reader(
        &mut self,
        role: Role,
        task: impl Future<Output = Result<Read, BenchError<E>>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { Ok(Done::Read(role, task.await?)) });
    }

    /// Lets the conductor take the stage through its phases while the crew works.
    pub(super) async fn work(
        &mut self,
        conductor: impl Future<Output = Result<Span, BenchError<E>>>,
    ) -> Result<Span, BenchError<E>> {
        let mut conductor = std::pin::pin!(conductor);
        loop {
            tokio::select! {
                span = &mut conductor => return span,
                Some(done) = self.tasks.join_next() => self.take(done)?,
            }
        }
    }

    /// Waits for the senders. In order of their numbers.
    pub(super) async fn senders_done(&mut self) -> Result<Vec<Sent>, BenchError<E>> {
        while self.sent.len() < self.senders {
            let Some(done) = self.tasks.join_next().await else { break };
            self.take(done)?;
        }
        self.sent.sort_by_key(|(number, _)| *number);
        self.senders = 0;
        Ok(std::mem::take(&mut self.sent).into_iter().map(|(_, sent)| sent).collect())
    }

    /// Waits for the readers.
    pub(super) async fn readers_done(&mut self) -> Result<Vec<(Role, Read)>, BenchError<E>> {
        debug_assert_eq!(self.stage.phase(), Phase::Over, "readers end when the run is over");
        while let Some(done) = self.tasks.join_next().await {
            self.take(done)?;
        }
        Ok(std::mem::take(&mut self.read))
    }

    fn take(&mut self, done: Result<Result<Done, BenchError<E>>, tokio::task::JoinError>) -> Result<(), BenchError<E>> {
        match done?? {
            Done::Sent(number, sent) => self.sent.push((number, sent)),
            Done::Read(role, read) => self.read.push((role, read)),
        }
        Ok(())
    }
}

//! A queue, its workers, and an acknowledgement for each message.
//!
//! Two forms: a backlog is worked off as fast as it goes, or, with a rate, messages are sent and the time until a worker
//! has each of them is measured.

use super::super::error::BenchError;
use super::super::result::Part;
use super::super::stage::{Span, conduct_until};
use super::super::target::{QueuePlan, QueueTarget, WorkerOptions};
use super::super::working::{Progress, WorkTally, Worked, work, worked};
use super::run::{Filler, Finished, Rhythm, Run, check_count, measured};
use super::{Bench, Outcome};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What the workers of a queue do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueWork {
    /// How many there are.
    pub workers: u32,
    /// Most messages of each that are not acknowledged.
    pub prefetch: u32,
    /// Each acknowledgement is a request of its own.
    pub ack_each: bool,
    /// Where messages come from.
    pub messages: Messages,
}

/// Where messages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Messages {
    /// So many are there before the workers are.
    Backlog(u64),
    /// They are sent while the workers work: so many a second.
    Rate(u64),
}

type Workers<E> = JoinSet<Result<WorkTally, BenchError<E>>>;

impl QueueWork {
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let messages = match self.messages {
            Messages::Backlog(messages) => ("messages", messages.to_string()),
            Messages::Rate(rate) => ("rate", rate.to_string()),
        };
        vec![
            ("workers", self.workers.to_string()),
            ("prefetch", self.prefetch.to_string()),
            ("ack-each", self.ack_each.to_string()),
            messages,
        ]
    }
}

pub(super) async fn run<T: QueueTarget>(
    bench: &Bench<T>,
    topic: &str,
    plan: &QueueWork,
) -> Result<Outcome, BenchError<T::Error>> {
    let queue = QueuePlan {
        name: topic.to_owned(),
        topic: topic.to_owned(),
        in_flight: plan.workers.saturating_mul(plan.prefetch),
        durability: bench.load.durability,
    };
    bench.target.create_queue(&queue).await.map_err(BenchError::system("creating a queue"))?;
    let outcome = match plan.messages {
        Messages::Backlog(messages) => work_off(bench, topic, plan, messages).await,
        Messages::Rate(rate) => follow(bench, topic, plan, rate).await,
    };
    let deleted = bench.target.delete_queue(&queue.name).await.map_err(BenchError::system("deleting the queue"));
    let outcome = outcome?;
    deleted?;
    Ok(outcome)
}

/// Messages that are there are worked off: the time is that from when the workers connect until the last acknowledgement
/// was confirmed.
async fn work_off<T: QueueTarget>(
    bench: &Bench<T>,
    topic: &str,
    plan: &QueueWork,
    messages: u64,
) -> Result<Outcome, BenchError<T::Error>> {
    let mut backlog = Filler::new(bench, topic);
    backlog.write(messages.saturating_mul(bench.load.record_bytes as u64)).await?;
    check_count(bench, topic, backlog.records).await?;
    let run = Run::new(bench, topic);
    let progress = Progress::new(backlog.records);
    let (process_id, stop) = (bench.target.process_id(), bench.stop.clone());
    let mut workers = JoinSet::new();
    start_workers(bench, &run, topic, plan, &progress, &mut workers);
    let mut tallies = Vec::new();
    let conducted = conduct_until(Arc::clone(run.stage()), Duration::ZERO, progress.reached(), process_id, stop);
    let span = while_working(conducted, &mut workers, &mut tallies).await?;
    if span.stopped {
        // What was done until then has no meaning that could be compared with anything.
        return Err(BenchError::Stopped("while the backlog was worked off"));
    }
    let worked = all_done(workers, tallies, backlog.records).await?;
    Ok(outcome(bench, &span, None, worked))
}

/// Messages are sent at a rate, and the time until a worker has each is measured.
async fn follow<T: QueueTarget>(
    bench: &Bench<T>,
    topic: &str,
    plan: &QueueWork,
    rate: u64,
) -> Result<Outcome, BenchError<T::Error>> {
    let mut run = Run::new(bench, topic);
    let progress = Progress::new(u64::MAX);
    let mut workers = JoinSet::new();
    start_workers(bench, &run, topic, plan, &progress, &mut workers);
    run.start_senders(&bench.load.shares(), &Rhythm::Rate(rate)).await?;
    let mut tallies = Vec::new();
    let span = while_working(run.measure(), &mut workers, &mut tallies).await?;
    let sent = run.finish().await?;
    progress.set_goal(sent.acked);
    let worked = all_done(workers, tallies, sent.acked).await?;
    check_count(bench, topic, sent.acked).await?;
    Ok(outcome(bench, &span, Some(&sent), worked))
}

/// Each connects by itself, so that the first has not done everything before the time begins.
fn start_workers<T: QueueTarget>(
    bench: &Bench<T>,
    run: &Run<'_, T>,
    queue: &str,
    plan: &QueueWork,
    progress: &Arc<Progress>,
    workers: &mut Workers<T::Error>,
) {
    let options = WorkerOptions { queue: queue.to_owned(), prefetch: plan.prefetch, ack_each: plan.ack_each };
    for _ in 0..plan.workers {
        let (target, options) = (bench.target.clone(), options.clone());
        let tally = WorkTally::new(run.stage(), run.clock(), progress, bench.load.record_bytes);
        workers.spawn(async move {
            let worker = target.open_worker(&options).await.map_err(BenchError::system("opening a worker"))?;
            work(worker, tally).await
        });
    }
}

/// The end of what is conducted, or the first error of a worker.
async fn while_working<E: std::error::Error + Send + Sync + 'static>(
    conducted: impl Future<Output = Result<Span, BenchError<E>>>,
    workers: &mut Workers<E>,
    tallies: &mut Vec<WorkTally>,
) -> Result<Span, BenchError<E>> {
    let mut conducted = std::pin::pin!(conducted);
    loop {
        tokio::select! {
            span = &mut conducted => return span,
            Some(done) = workers.join_next() => tallies.push(done??),
        }
    }
}

async fn all_done<E: std::error::Error + Send + Sync + 'static>(
    mut workers: Workers<E>,
    mut tallies: Vec<WorkTally>,
    messages: u64,
) -> Result<Option<Worked>, BenchError<E>> {
    while let Some(done) = workers.join_next().await {
        tallies.push(done??);
    }
    worked(tallies, messages)
}

fn outcome<T: QueueTarget>(bench: &Bench<T>, span: &Span, sent: Option<&Finished>, worked: Option<Worked>) -> Outcome {
    let record_bytes = bench.load.record_bytes;
    let messages = worked.as_ref().map_or(0, |worked| worked.messages_measured);
    let mut part = Part::new("work", messages, span.seconds, record_bytes);
    part.latency = worked.filter(|_| sent.is_some()).and_then(|worked| worked.latencies.summary());
    let produced = sent.map(|sent| sent.produced(span.seconds, record_bytes));
    let parts = produced.into_iter().chain([part]).collect();
    Outcome { measured: measured(span, parts), steps: Vec::new(), stopped: span.stopped }
}

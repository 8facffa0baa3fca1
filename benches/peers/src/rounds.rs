//! Runs: each round goes through the cases, each case through the systems in turn, each with a fresh server.
//!
//! Machines drift, by a factor of two within minutes; so ratios are taken within a round, and only then is the median
//! taken over rounds. The order of systems turns with each round.

use super::child::Server;
use super::file::FileLoop;
use super::nats::Nats;
use super::redis_streams::Redis;
use clap::{Args, ValueEnum};
use millstream::bench::result::{Part, RunResult};
use millstream::bench::target::Target;
use millstream::bench::workload::{Bench, Length, Load, Workload};
use millstream::bench::{Millstream, OwnBroker, Stop};
use millstream::clock::{Clock as _, SystemClock};
use millstream::types::Durability;
use millstream::units::{parse_bytes, parse_duration};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The systems; the first is what the others are compared with.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "millstream,null,file,nats,redis")]
    systems: Vec<System>,
    /// The cases; all without it.
    #[arg(long, value_enum, value_delimiter = ',')]
    cases: Vec<Case>,
    /// How often.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measure for this long.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    duration: Duration,
    /// Run this long before measuring.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    warm_up: Duration,
    /// Bytes of the value of a record.
    #[arg(long, value_name = "SIZE", default_value = "100", value_parser = parse_bytes)]
    record_bytes: u64,
    /// Records of one batch, where there are batches.
    #[arg(long, default_value_t = 1_000)]
    batch_records: u32,
    /// Where servers keep their data.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
    /// Add results to this file.
    #[arg(long, value_name = "FILE", default_value = "peers.json")]
    json: PathBuf,
    /// The program `millstream`.
    #[arg(long, value_name = "FILE", default_value = "target/release/millstream")]
    millstream: PathBuf,
    /// The program `nats-server`.
    #[arg(long, value_name = "FILE", default_value = "nats-server")]
    nats: PathBuf,
    /// The program `redis-server`.
    #[arg(long, value_name = "FILE", default_value = "redis-server")]
    redis: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum System {
    Millstream,
    /// A gRPC server that stores nothing.
    Null,
    /// One file, without a server.
    File,
    Nats,
    Redis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Case {
    ProduceWritten,
    ProduceSynced,
    /// One record on its way, written.
    OneInFlight,
    /// 64 producers with one record each, synced.
    SmallProducers,
    Consume,
    /// 20,000 records a second, written.
    EndToEnd,
    Fanout,
}

impl Case {
    fn workload(self) -> Workload {
        match self {
            Self::ProduceWritten | Self::ProduceSynced | Self::OneInFlight | Self::SmallProducers => Workload::Produce,
            Self::Consume => Workload::Consume { backlog_bytes: 64 << 20, readers: 1 },
            Self::EndToEnd => Workload::EndToEnd { rate: 20_000 },
            Self::Fanout => Workload::Fanout { groups: 8 },
        }
    }

    fn load(self, args: &RunArgs) -> Load {
        let (producers, in_flight, batch_records) = match self {
            Self::OneInFlight => (1, 1, 1),
            Self::SmallProducers => (64, 1, 1),
            _ => (1, 4, args.batch_records),
        };
        let synced = matches!(self, Self::ProduceSynced | Self::SmallProducers);
        Load {
            record_bytes: usize::try_from(args.record_bytes).expect("a size of memory"),
            batch_records,
            linger: None,
            in_flight,
            producers,
            partitions: 1,
            durability: if synced { Durability::Synced } else { Durability::Written },
            idempotent: true,
            length: Length { warm_up: args.warm_up, duration: args.duration },
        }
    }

    fn is_for(self, system: System) -> bool {
        system != System::File || self.workload() == Workload::Produce
    }
}

/// Results of a case, by system, round by round.
type Rounds = BTreeMap<Case, BTreeMap<System, Vec<Option<RunResult>>>>;

pub async fn run(args: &RunArgs) -> ExitCode {
    let cases = if args.cases.is_empty() { Case::value_variants() } else { &args.cases };
    let (mut rounds, mut failed) = (Rounds::new(), false);
    for round in 0..args.rounds {
        for case in cases {
            for turn in 0..args.systems.len() {
                let system = args.systems[(turn + round) % args.systems.len()];
                if !case.is_for(system) {
                    continue;
                }
                let result = one(args, *case, system).await.inspect_err(|error| {
                    failed = true;
                    eprintln!("{system:?} {case:?}: {error}");
                });
                let result = result.ok();
                if let Some(result) = &result {
                    println!("{}", line(round, *case, result));
                }
                rounds.entry(*case).or_default().entry(system).or_default().push(result);
            }
        }
    }
    print_ratios(&rounds, args.systems[0]);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One case on one system.
async fn one(args: &RunArgs, case: Case, system: System) -> Result<RunResult, Box<dyn Error>> {
    let durability = case.load(args).durability;
    let parent = &args.directory;
    match system {
        System::Millstream => {
            let broker = OwnBroker::start(&args.millstream, None, parent)?;
            measure(args, case, Millstream::connect(broker.address(), Some(broker.process_id())).await?).await
        }
        System::Null => {
            let keep_bytes: u64 = if case.workload() == Workload::Produce { 0 } else { 256 << 20 };
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["null-server", "--keep-bytes"]).arg(keep_bytes.to_string());
            let server = Server::start_printing(parent, command)?;
            let null = Millstream::connect(&server.address(), Some(server.process_id())).await?;
            measure(args, case, null.named("null")).await
        }
        System::File => measure(args, case, FileLoop::new(parent)?).await,
        System::Nats => measure(args, case, Nats::start(&args.nats, parent, durability).await?).await,
        System::Redis => measure(args, case, Redis::start(&args.redis, parent, durability).await?).await,
    }
}

async fn measure<T: Target>(args: &RunArgs, case: Case, target: T) -> Result<RunResult, Box<dyn Error>> {
    let (_handle, stop) = Stop::new();
    let bench = Bench { target, load: case.load(args), stop, notice: |_| () };
    let result = bench.run(&case.workload(), SystemClock.now_ms(), None).await?;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&args.json)?;
    writeln!(file, "{}", result.to_line())?;
    Ok(result)
}

fn last(result: &RunResult) -> &Part {
    result.measured.parts.last().expect("every workload has a part")
}

fn line(round: usize, case: Case, result: &RunResult) -> String {
    let part = last(result);
    let (p50, p99) = part.latency.as_ref().map_or((f64::NAN, f64::NAN), |all| (all.p50_us, all.p99_us));
    let broker = result.measured.broker_us_per_record().unwrap_or(f64::NAN);
    let client = result.measured.client_us_per_record().unwrap_or(f64::NAN);
    format!(
        "{round} {:<16} {:<10} {:>11.0} records/s  p50 {p50:>9.1} us  p99 {p99:>9.1} us  broker {broker:>8.3} us  client {client:>8.3} us",
        format!("{case:?}"),
        result.system,
        part.records_per_s
    )
}

/// Of each figure, that of the first system divided by that of each other, of the same round.
fn print_ratios(rounds: &Rounds, first: System) {
    type Figure = fn(&RunResult) -> Option<f64>;
    let figures: [(&str, Figure); 4] = [
        ("records/s", |result| Some(last(result).records_per_s)),
        ("p50", |result| Some(last(result).latency.as_ref()?.p50_us)),
        ("p99", |result| Some(last(result).latency.as_ref()?.p99_us)),
        ("broker CPU", |result| result.measured.broker_us_per_record()),
    ];
    println!("\n{first:?} divided by each other system: median (least..most) of rounds");
    for (case, systems) in rounds {
        let Some(ours) = systems.get(&first) else { continue };
        for (system, theirs) in systems.iter().filter(|(system, _)| **system != first) {
            let mut text = format!("{:<16} {:<8}", format!("{case:?}"), format!("{system:?}"));
            for (name, figure) in figures {
                let pairs = ours.iter().zip(theirs).filter_map(|(ours, theirs)| {
                    let (ours, theirs) = (figure(ours.as_ref()?)?, figure(theirs.as_ref()?)?);
                    (theirs > 0.0).then_some(ours / theirs)
                });
                let mut ratios: Vec<_> = pairs.collect();
                ratios.sort_by(f64::total_cmp);
                if let (Some(least), Some(most)) = (ratios.first(), ratios.last()) {
                    let median = ratios[(ratios.len() - 1) / 2];
                    text += &format!("  {name} {median:.2} ({least:.2}..{most:.2})");
                }
            }
            println!("{text}");
        }
    }
}
